"""Rendered parts of the emulated cell: thousands that are as they were, then each drift, sudden and slow.

A judge is needed to say when false rejections double: a background model of the cell, its threshold at 5 % false
rejection on parts of before. A drift is found in time when the alarm comes before the judge has rejected twice as many
of the last 200 good parts as it used to.
"""

from __future__ import annotations

import copy
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from cell.frames import Stack
from cell.imaging.background import BackgroundModel
from cell.imaging.registration import locate
from cell.process import Cause
from cell.settings import DriftSettings, EmulatedCellSettings
from daemon.process.monitor import Finding, Monitor
from drivers.sim.cell import open_cell
from drivers.sim.drift import CellState, state_at
from drivers.sim.studio import EXPOSURE_US, StudioProduct, recipe_for

#: Parts that the judge learns from, and that its threshold is set on.
_JUDGE, _THRESHOLD = 48, 240
FALSE_REJECTION, WINDOW = 0.05, 200
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

#: What drifts, how far, and what the monitor should call it.
DRIFTS: dict[str, tuple[dict[str, Any], Cause]] = {
    "lamp": ({"kind": "lamp", "amount": 0.3}, Cause.LAMP),
    "gain": ({"kind": "gain", "amount": 0.3}, Cause.CAMERA),
    "defocus": ({"kind": "defocus", "amount": 1.5}, Cause.LENS),
    "material": ({"kind": "material", "amount": 3}, Cause.MATERIAL),
    "fixture": ({"kind": "fixture", "amount": 0.6, "amount_y": 0.3}, Cause.FIXTURE),
}


class Bench:
    """A product, its monitor and its judge."""

    def __init__(self, product: str, size: tuple[int, int] = (128, 160), seed: int = 1) -> None:
        settings = EmulatedCellSettings(product=product, height=size[0], width=size[1], random_seed=seed)
        found = open_cell(settings).product
        assert isinstance(found, StudioProduct)
        self.product = found
        self.recipe = recipe_for(found)
        self.monitor = Monitor(self.recipe)
        self.judge = BackgroundModel(len(self.recipe.channels), self.recipe.bit_depth)
        self.threshold = 0.0
        self.rng = np.random.default_rng(seed)
        self.at = NOON
        self.rejected: deque[bool] = deque(maxlen=WINDOW)

    def stack(self, part_id: str, state: CellState) -> Stack:
        """Return the part as the cell in that state shows it, (K, H, W)."""
        part = self.product.make(part_id, (), state)
        channels = []
        for line in self.product.lines:
            gain_db = 20 * np.log10(state.gain)
            channels.append(part.expose({line: state.brightness(line)}, EXPOSURE_US, float(gain_db), self.rng))
        stacked: Stack = np.stack(channels)  # type: ignore[assignment]
        return stacked

    def take(self, stack: Stack) -> Finding | None:
        """Let judge and monitor look at a good part; return the monitor's finding."""
        self.at += timedelta(seconds=1)
        place = locate(stack, self.recipe.carrier_max_dn)
        assert place is not None
        score = self.judge.score(stack, place.mask) if self.judge.ready else 1.0
        if self.threshold:
            self.rejected.append(score > self.threshold)
        logit = score / (1 + score)  # its logit is the score's logarithm
        return self.monitor.take(stack, self.at, logit if self.threshold else None, "judge")

    def settle(self, parts: int) -> dict[str, Any]:
        """Show good parts of the cell as it was set up; return what the monitor made of them."""
        alarms, scores, begun = [], [], time.perf_counter()
        for index in range(parts):
            stack = self.stack(f"good-{index:06d}", CellState())
            place = locate(stack, self.recipe.carrier_max_dn)
            assert place is not None
            if index < _JUDGE:
                self.judge.add(stack, place.mask)
            elif index < _JUDGE + _THRESHOLD:
                scores.append(self.judge.score(stack, place.mask))
                if len(scores) == _THRESHOLD:
                    self.threshold = float(np.quantile(scores, 1 - FALSE_REJECTION))
            if self.take(stack) is not None:
                alarms.append(index)
        return {
            "parts": parts,
            "alarms": alarms,
            "passed": not alarms,
            "false_rejection": float(np.mean(self.rejected)) if self.rejected else None,
            "seconds": round(time.perf_counter() - begun, 1),
            "nearest": self.monitor.report()["nearest"][:3],
        }

    def drift(self, name: str, over: int, parts: int) -> dict[str, Any]:
        """Let one thing drift from how the cell stands now, which comes back afterwards."""
        values, cause = DRIFTS[name]
        drift = DriftSettings(over_parts=over, **values)
        if drift.kind == "lamp":
            drift = drift.model_copy(update={"line": self.product.lines[1]})
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "monitor.npz"
            self.monitor.save(path)
            kept, rejected = self.monitor, copy.copy(self.rejected)
            # The monitor that goes on is the one from disk: a restart comes in every run.
            self.monitor = Monitor.load(path, self.recipe)
        usual = max(FALSE_REJECTION, float(np.mean(self.rejected)))
        found_at: int | None = None
        doubled_at: int | None = None
        finding: Finding | None = None
        for index in range(parts):
            found = self.take(self.stack(f"good-{100_000 + index:06d}", state_at(index, (drift,))))
            if found is not None:
                found_at, finding = index, found
            if doubled_at is None and sum(self.rejected) >= 2 * usual * WINDOW:
                doubled_at = index
            long_ago = found_at is not None and index >= found_at + 24
            if long_ago and (doubled_at is not None or index >= parts // 2):
                break
        cause_then = finding.diagnosis.cause if finding is not None else None
        cause_now = self.monitor.diagnosis().cause if finding is not None else None
        result = {
            "drift": name,
            "over_parts": over,
            "found_after": found_at,
            "doubled_after": doubled_at,
            "in_time": found_at is not None and (doubled_at is None or found_at < doubled_at),
            "share_then": None if found_at is None else (1.0 if over == 0 else min(1.0, found_at / over)),
            "cause": None if cause_then is None else str(cause_then),
            "cause_24_parts_later": None if cause_now is None else str(cause_now),
            "right_cause": cause in (cause_then, cause_now),
            "sentence": finding.diagnosis.sentence if finding is not None else "",
        }
        self.monitor, self.rejected = kept, rejected
        return result


def drifts(bench: Bench, slow: int) -> Iterator[dict[str, Any]]:
    """Run every drift, at once and over `slow` parts; a material is changed and not blended."""
    for name in DRIFTS:
        yield bench.drift(name, 0, 100)
        if name != "material":
            yield bench.drift(name, slow, slow)
