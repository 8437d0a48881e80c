"""What harvesting costs the line: a real daemon, the same parts with harvest off and on."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.demo.plc import percentile, run_parts
from benchmarks.line import part_ids, wait_for_archive
from benchmarks.line_cell import BenchCell
from cell.wire.client import Client

_CHANNELS = 4


def measure(parts: int, interval_s: float = 0.25) -> dict[str, Any]:
    """Run `parts` at a pace twice, without and with harvest, and as fast as the line goes with harvest.

    Raises `InspectdError` when the daemon does not start.
    """
    with tempfile.TemporaryDirectory() as folder:
        cell = BenchCell(Path(folder), "simulated", "null", _CHANNELS)
        with cell.daemon() as address, Client(address, timeout_s=60) as client:
            recipe_id, deadline_ms = cell.recipe.recipe_id, cell.recipe.deadline_ms
            client.call("SelectModeAutomatic")
            client.call("PrepareRecipe", {"RecipeId": recipe_id})
            client.call("inspectd.deploy", {"model": cell.manifests[0].onnx_digest, "promote": True})
            run_parts(client, recipe_id, part_ids(24), deadline_ms=10 * deadline_ms)
            figures: dict[str, Any] = {"channels": _CHANNELS, "parts": parts, "interval_ms": 1e3 * interval_s}
            for name, pause_s in (("off", interval_s), ("on", interval_s), ("on_at_full_speed", 0.0)):
                if name == "on":
                    client.call("inspectd.harvest.start")
                answers = run_parts(client, recipe_id, part_ids(parts), deadline_ms=deadline_ms, interval_s=pause_s)
                figures[name] = {
                    "latency_p50_ms": round(percentile(answers, 50), 2),
                    "latency_p99_ms": round(percentile(answers, 99), 2),
                    "lost": sum(answer.verdict is None for answer in answers),
                }
            figures |= client.call("inspectd.status")["harvest"]
            client.call("inspectd.harvest.stop")
            wait_for_archive(client)
    return figures
