"""The background model alone on a folder of real pictures: no defect seen, no pretrained network.

Inside the learning folders it is measured by folds over physical parts; ``test/`` is opened to report, once, by a model
of all good parts of ``backgrounds/``. Intervals resample physical parts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harvest.judge import iou
from cell.defects import Mask, Sample
from cell.frames import Stack
from cell.imaging.background import BackgroundModel
from cell.imaging.folders import FolderDataset, FolderItem, read_folder
from cell.imaging.registration import LEAST_AGREEMENT, align
from trainer.metrics import auroc

FOLDS = 5
_RESAMPLES = 1000


@dataclass(slots=True)
class Row:
    """One picture or part and what the model said of it."""

    defect_class: str
    part: str
    stack: Stack
    truth: Mask
    score: float = 0.0
    overlap: float = 0.0
    hit: bool = False

    @property
    def whole(self) -> Mask:
        """The part's pixels: the picture shows nothing else."""
        return np.ones(self.truth.shape, np.bool_)


def rows_of(dataset: FolderDataset, items: Iterable[FolderItem], channels: int) -> list[Row]:
    """Return every picture (1 channel), or every part with its first `channels` pictures registered as channels."""
    grouped: dict[tuple[str, str], list[FolderItem]] = {}
    for item in items:
        grouped.setdefault((item.defect_class, item.part), []).append(item)
    rows: list[Row] = []
    for (defect_class, part), members in grouped.items():
        samples = [dataset.load(item) for item in sorted(members, key=lambda item: item.name)]
        if channels == 1:
            rows += [Row(defect_class, part, sample.stack, sample.labels > 0) for sample in samples]
        elif len(samples) >= channels:
            rows.append(_joined(defect_class, part, samples[:channels]))
    return rows


def inner(rows: list[Row]) -> dict[str, Any]:
    """Return the figures by folds: every row is scored by models that never saw its part."""
    parts = sorted({row.part for row in rows if not row.defect_class})
    fold = {part: index % FOLDS for index, part in enumerate(parts)}
    for left_out in range(FOLDS):
        good = [row for row in rows if not row.defect_class and fold[row.part] != left_out]
        model = model_of(good)
        for row in rows:
            if row.defect_class:
                view = model.view(row.stack, row.whole)
                row.score += view.score / FOLDS
                if left_out == 0:
                    outline(row, model.mask_of(view))
            elif fold[row.part] == left_out:
                row.score = model.view(row.stack, row.whole).score
    return table(rows)


def test(good: list[Row], rows: list[Row]) -> dict[str, Any]:
    """Return the figures of `rows`, the test folder, by a model of the good parts."""
    model = model_of(good)
    for row in rows:
        view = model.view(row.stack, row.whole)
        row.score = view.score
        if row.truth.any():
            outline(row, model.mask_of(view))
    return table(rows)


def table(rows: list[Row]) -> dict[str, Any]:
    """Return AUROC with its interval by part, and masks, over all classes and for each."""
    result: dict[str, Any] = {}
    for defect_class in ("", *sorted({row.defect_class for row in rows} - {""})):
        chosen = [row for row in rows if not defect_class or row.defect_class in ("", defect_class)]
        bad = [row for row in chosen if row.truth.any()]
        result[defect_class or "all"] = {
            "auroc": round(_auroc(chosen), 4),
            "auroc_95": [round(bound, 4) for bound in _interval(chosen)],
            "mask_iou_median": round(float(np.median([row.overlap for row in bad])), 3) if bad else None,
            "mask_hit": round(float(np.mean([row.hit for row in bad])), 3) if bad else None,
            "pictures": sum(1 for row in chosen if row.defect_class),
            "good_pictures": sum(1 for row in chosen if not row.defect_class),
            "parts": len({row.part for row in chosen}),
        }
    return result


def measure(root: Path, channels: int, *, with_test: bool) -> dict[str, Any]:
    """Return the figures of a folder at that many channels. Raises `DataError` when it can't be read."""
    dataset = read_folder(root)
    learning = rows_of(dataset, (*dataset.backgrounds, *dataset.seeds), channels)
    result = {"inner": inner(learning)}
    if with_test:
        good = [row for row in learning if not row.defect_class]
        result["test"] = test(good, rows_of(dataset, dataset.test, channels))
    return result


def model_of(good: list[Row]) -> BackgroundModel:
    """Return the background model of good rows."""
    bit_depth = 8 if good[0].stack.dtype == np.uint8 else 16
    model = BackgroundModel(good[0].stack.shape[0], bit_depth)
    # Names sort parts by size and look; a line does not.
    for index in np.random.default_rng(0).permutation(len(good)):
        model.add(good[index].stack, good[index].whole)
    return model


def outline(row: Row, mask: Mask) -> None:
    """Note how a found mask covers the true one."""
    row.overlap, row.hit = iou(mask, row.truth), bool((mask & row.truth).any())


def _joined(defect_class: str, part: str, samples: list[Sample]) -> Row:
    """Register a part's pictures on the first, cut to what all show."""
    height, width = (min(sample.labels.shape[axis] for sample in samples) for axis in (0, 1))
    cut = [_middle(sample.labels.shape, height, width) for sample in samples]
    pictures = [sample.stack[0][window] for sample, window in zip(samples, cut, strict=True)]
    logs = [np.log(picture.astype(np.float32) + 4) for picture in pictures]
    joined, truth = [], np.zeros((height, width), np.bool_)
    for picture, log, sample, window in zip(pictures, logs, samples, cut, strict=True):
        pose = align(logs[0], log)
        marked = (sample.labels[window] > 0).astype(np.float32)
        pixels = picture.astype(np.float32)
        if pose.agreement >= LEAST_AGREEMENT:
            pixels, marked = pose.to_reference(pixels), pose.to_reference(marked)
        joined.append(np.rint(pixels).astype(picture.dtype))
        truth |= marked > 0.5
    stack: Stack = np.stack(joined)
    return Row(defect_class, part, stack, truth)


def _auroc(rows: list[Row]) -> float:
    value = auroc([row.score for row in rows if row.defect_class], [row.score for row in rows if not row.defect_class])
    return float("nan") if value is None else float(value)


def _interval(rows: list[Row]) -> NDArray[np.float64]:
    """Return the 95 % interval by resampling parts, good and defective ones apart."""
    rng = np.random.default_rng(0)
    of: dict[tuple[bool, str], list[Row]] = {}
    for row in rows:
        of.setdefault((bool(row.defect_class), row.part), []).append(row)
    sides = [[key for key in of if key[0] is side] for side in (False, True)]
    drawn = []
    for _ in range(_RESAMPLES):
        keys = [side[index] for side in sides if side for index in rng.integers(0, len(side), len(side))]
        drawn.append(_auroc([row for key in keys for row in of[key]]))
    bounds: NDArray[np.float64] = np.nanquantile(drawn, (0.025, 0.975))
    return bounds


def _middle(shape: tuple[int, ...], height: int, width: int) -> tuple[slice, slice]:
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    return slice(top, top + height), slice(left, left + width)
