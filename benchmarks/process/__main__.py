"""The process monitor: ``python -m benchmarks.process [--json FILE] [--stream-parts N] [--parts N] [--product P]``.

False alarms on simulated feature streams and on rendered parts, then every drift of the emulated cell against the
moment at which false rejections double. 500,000 parts a stream take some minutes in all; 2,000 rendered parts and the
drifts twenty a product.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.process.rendered import Bench, drifts
from benchmarks.process.streams import false_alarms


def main() -> int:
    """Run the benchmark; return 0 when everything reached what it must."""
    parser = argparse.ArgumentParser(description="Does the process monitor find what changes, and nothing else?")
    parser.add_argument(
        "--stream-parts", type=int, default=500_000, help="parts of each simulated stream; 0 leaves out"
    )
    parser.add_argument("--parts", type=int, default=2000, help="rendered parts before anything drifts; 0 leaves out")
    parser.add_argument("--slow", type=int, default=400, help="parts over which the slow drifts go")
    parser.add_argument("--product", action="append", help="emulated product; may be repeated (default disc-4)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report: dict[str, Any] = {}
    if options.stream_parts:
        print("simulated streams")
        report["streams"] = false_alarms(options.stream_parts)
    if options.parts:
        report["rendered"] = {name: rendered(name, options) for name in options.product or ["disc-4"]}
    report["passed"] = passed(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print("passed" if report["passed"] else "NOT passed")
    return 0 if report["passed"] else 1


def rendered(product: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run one rendered product."""
    bench = Bench(product)
    settled = bench.settle(options.parts)
    print(f"{product}: {len(settled['alarms'])} alarms in {settled['parts']} rendered parts ({settled['seconds']} s)")
    rows = []
    for row in drifts(bench, options.slow):
        rows.append(row)
        print(
            f"  {row['drift']:<10}{'slowly' if row['over_parts'] else 'at once':<9}found after {row['found_after']}, "
            f"false rejections doubled after {row['doubled_after']}: {'in time' if row['in_time'] else 'LATE'}; "
            f"called {row['cause']}, then {row['cause_24_parts_later']}; {row['sentence']}",
            flush=True,
        )
    return {"settled": settled, "drifts": rows}


def passed(report: dict[str, Any]) -> bool:
    """Tell whether every figure reached what it must."""
    streams = all(row["passed"] for row in report.get("streams", {}).values())
    products = report.get("rendered", {}).values()
    return streams and all(
        one["settled"]["passed"] and all(row["in_time"] and row["right_cause"] for row in one["drifts"])
        for one in products
    )


if __name__ == "__main__":
    sys.exit(main())
