"""The learned anomaly score alone on a folder of real pictures: no defect seen, no weights from elsewhere.

The network looks at every picture by itself; a part's score is the mean evidence of its pictures, as harvest takes it.
Inside the learning folders two folds over physical parts: every good part is scored by the network that never saw it,
and every seed by both. ``test/`` is opened to report, once, by a network of all good parts of ``backgrounds/``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.harvest.judge import iou
from benchmarks.harvest.tile import Row, rows_of, table
from cell.defects import Sample
from cell.imaging import oddity
from cell.imaging.folders import read_folder
from cell.imaging.preprocess import Preprocessing
from cell.jobs import Progress
from trainer.fit import FittedModel
from trainer.oddity import CONFIG, learn, maps_of

_FOLDS = 2


def measure(root: Path, *, with_test: bool, updates: int | None = None) -> dict[str, Any]:
    """Return the figures of a folder, by picture and by part. Raises `DataError` when it can't be read."""
    dataset = read_folder(root)
    rows = rows_of(dataset, (*dataset.backgrounds, *dataset.seeds), 1)
    good = [row for row in rows if not row.defect_class]
    if with_test:
        asked = rows_of(dataset, dataset.test, 1)
        _judge(_network(good, updates), asked)
        return {"test": _tables(asked)}
    parts = sorted({row.part for row in good})
    for left_out in range(_FOLDS):
        aside = set(parts[left_out::_FOLDS])
        model = _network([row for row in good if row.part not in aside], updates)
        _judge(model, [row for row in good if row.part in aside])
        _judge(model, [row for row in rows if row.defect_class], share=1 / _FOLDS)
    return {"inner": _tables(rows)}


def _network(good: Sequence[Row], updates: int | None) -> FittedModel:
    depth = 8 if good[0].stack.dtype == np.uint8 else 16
    samples = [
        Sample(stack=row.stack, labels=np.zeros(row.truth.shape, np.uint8), group=row.part, sample_id=str(index))
        for index, row in enumerate(good)
    ]
    config = CONFIG if updates is None else replace(CONFIG, updates=updates)
    spec = Preprocessing(channels=(oddity.CHANNEL,), bit_depth=depth)
    return learn(samples, spec, config, progress=_telling())


def _judge(model: FittedModel, rows: Sequence[Row], share: float = 1.0) -> None:
    for row in rows:
        maps = maps_of(model, row.stack)
        row.score += share * oddity.evidence(maps)
        if row.truth.any():
            mask = maps[0] > 0.5
            row.overlap, row.hit = iou(mask, row.truth), bool((mask & row.truth).any())


def _tables(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the figures of every picture a part of its own, and of a part by all its pictures."""
    of: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        of.setdefault((row.defect_class, row.part), []).append(row)
    parts = [
        replace(
            pictures[0],
            score=float(np.mean([one.score for one in pictures])),
            overlap=float(np.mean([one.overlap for one in pictures])),
            hit=any(one.hit for one in pictures),
            # A part is defective when any of its pictures shows it.
            truth=next((one.truth for one in pictures if one.truth.any()), pictures[0].truth),
        )
        for pictures in of.values()
    ]
    return {"picture": table(list(rows)), "part": table(parts)}


def _telling() -> Callable[[Progress], None]:
    console = Console(stderr=True)

    def tell(progress: Progress) -> None:
        if progress.done % 100 == 0:
            console.print(f"{progress.stage}: {json.dumps([progress.done, progress.total])} {progress.note}")

    return tell
