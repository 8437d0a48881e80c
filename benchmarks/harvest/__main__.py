"""All that harvest must reach: ``python -m benchmarks.harvest [--data DIR] [--json FILE]``.

Emulated cell and path-traced products with 5 % defective parts and no verdicts; with verdicts at 0.5 %; what it costs
the line; and, with ``--data``, the background model alone on a folder such as the magnetic tile.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.harvest import cost, learned, pools, tile
from benchmarks.harvest.judge import Outcomes, run

PRODUCTS = ("label-4+coax", "moulded-6", "foil-4+ring+coax")
HELDOUT = ("gear", "insulator", "solder")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; 0 when every aim that was measured is reached."""
    options = _options(arguments)
    console = Console(width=170)
    report: dict[str, Any] = {}
    if options.products or options.heldout:
        found = _withheld(options, console)
        report["withheld"] = {name: outcomes.figures() for name, outcomes in found.items()}
        report["withheld_all"] = _all(list(found.values()))
    if options.verdict_parts:
        pool = pools.rendered((options.products or PRODUCTS)[0], options.verdict_parts, 0.005)
        report["verdicts"] = run(pool, verdicts=True).figures()
    if options.cost_parts:
        report["cost"] = cost.measure(options.cost_parts)
    if options.data and options.channels:
        report["folder"] = {
            str(channels): tile.measure(options.data, channels, with_test=options.test) for channels in options.channels
        }
    if options.data and options.learned:
        learning = learned.Learning(options.updates, options.networks)
        report["learned"] = learned.measure(options.data, options.channels, with_test=options.test, learning=learning)
    report["aims"] = aims(report)
    _show(console, report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0 if all(aim["reached"] for aim in report["aims"]) else 1


def aims(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Return each aim that was measured: its target, what was found, and whether it is reached."""
    found: list[tuple[str, str, Any, bool]] = []
    if withheld := report.get("withheld_all"):
        got_in, kept = withheld["bad_per_300"], withheld["diversity_worst"]
        proposed, overlap = withheld["visible_proposed_share"] or 0, withheld["mask_iou_median"] or 0
        found += [
            ("defective parts in 300 backgrounds", "<= 1", got_in, got_in <= 1),
            ("diversity of the good parts kept, worst product", ">= 0.5", kept, kept >= 0.5),
            ("visible defective parts proposed", ">= 0.95", proposed, proposed >= 0.95),
            ("IoU of proposed masks, median", ">= 0.6", overlap, overlap >= 0.6),
        ]
    if verdicts := report.get("verdicts"):
        got_in = len(verdicts["bad_taken"])
        found.append(("defective backgrounds with verdicts at 0.5 %", "0", got_in, not got_in))
    if spent := report.get("cost"):
        most = spent["cost"]["max_ms"]
        found.append(("processor time of the line a part, ms, most", "<= 1", most, most <= 1))
    for channels, figures in report.get("folder", {}).items():
        value = figures.get("test", figures["inner"])["all"]["auroc"]
        side = "test" if "test" in figures else "inner"
        found.append((f"AUROC, background model alone, {channels} channels, {side}", "> 0.90", value, value > 0.9))
    for side, by in report.get("learned", {}).items():
        for channels, rows in by.items():
            value = rows[learned.BOTH]["all"]["auroc"]
            found.append(
                (f"AUROC, with the learned network, {channels} channels, {side}", "> 0.90", value, value > 0.9)
            )
    return [
        {"aim": aim, "target": target, "found": value, "reached": bool(reached)}
        for aim, target, value, reached in found
    ]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.harvest", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--products", nargs="*", default=list(PRODUCTS), help="of the emulated cell, with their lights")
    parser.add_argument("--parts", type=int, default=160, help="of each, 5 %% defective")
    parser.add_argument("--heldout", nargs="*", default=list(HELDOUT), help="path-traced products")
    parser.add_argument("--draws", type=int, default=8, help="pools of each, with other test parts each time")
    parser.add_argument("--verdict-parts", type=int, default=200, help="parts of the run with verdicts; 0 for none")
    parser.add_argument("--cost-parts", type=int, default=200, help="parts of each run of the daemon; 0 for none")
    parser.add_argument("--data", type=Path, help="folder of real pictures, such as the magnetic tile")
    parser.add_argument(
        "--channels", type=int, nargs="*", default=[1, 6], help="pictures of a part that are its channels"
    )
    parser.add_argument("--test", action="store_true", help="open the folder's test/ too: to report, never to tune")
    parser.add_argument("--learned", action="store_true", help="the score learned from good parts too (minutes)")
    parser.add_argument("--updates", type=int, help="steps of that learning; default the trainer's")
    parser.add_argument("--networks", type=Path, help="folder that keeps what was learned, to be used again")
    parser.add_argument("--json", type=Path)
    return parser.parse_args(arguments)


def _withheld(options: argparse.Namespace, console: Console) -> dict[str, Outcomes]:
    found = {}
    for name in options.products:
        found[name] = run(pools.rendered(name, options.parts, 0.05))
        console.print(f"{name} is done")
    for name in options.heldout:
        found[name] = Outcomes()
        for pool in pools.heldout(name, options.draws):
            found[name].add(run(pool))
        console.print(f"{name} is done")
    return found


def _all(found: list[Outcomes]) -> dict[str, Any]:
    """Return all products together, and the diversity of the product that keeps least."""
    total = Outcomes()
    for outcomes in found:
        total.add(outcomes)
    return total.figures() | {"diversity_worst": min(one.figures()["diversity_kept"] for one in found)}


def _show(console: Console, report: dict[str, Any]) -> None:
    keys = ("good", "bad", "backgrounds", "good_believed_share", "diversity_kept", "visible_bad",
            "visible_proposed_share", "visible_hit_share", "good_proposed_share", "mask_iou_median", "group_purity",
            "seconds_per_part")  # fmt: skip
    rows = report.get("withheld", {}) | ({"with verdicts": report["verdicts"]} if "verdicts" in report else {})
    if rows:
        table = Table(title="what harvest took and proposed")
        for column in ("product", "bad taken", *(key.replace("_", " ") for key in keys)):
            table.add_column(column)
        for name, row in rows.items():
            table.add_row(name, str(len(row["bad_taken"])), *(str(row[key]) for key in keys))
        console.print(table)
    if "cost" in report:
        console.print(report["cost"])
    tables = [
        (f"background model alone, {channels} channels, {side}", classes)
        for channels, figures in report.get("folder", {}).items()
        for side, classes in figures.items()
    ]
    for side, by in report.get("learned", {}).items():
        tables += [
            (f"{name}, {channels} channels, {side}", classes)
            for channels, rows in by.items()
            for name, classes in rows.items()
        ]
    for title, classes in tables:
        table = Table(title=title)
        columns = (
            "class",
            "pictures",
            "good_pictures",
            "parts",
            "auroc",
            "auroc_95",
            "mask_iou_median",
            "mask_hit",
        )
        for column in columns:
            table.add_column(column.replace("_", " "))
        for name, row in classes.items():
            table.add_row(name, *(str(row[column]) for column in columns[1:]))
        console.print(table)
    table = Table(title="aims")
    for column in ("aim", "target", "found", "reached"):
        table.add_column(column)
    for aim in report["aims"]:
        table.add_row(aim["aim"], aim["target"], str(aim["found"]), "yes" if aim["reached"] else "NO")
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
