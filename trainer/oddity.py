"""Learn from good parts alone what does not belong on them: no defect is seen, and no weights come from elsewhere.

The detector's own network, loss and augmentation, fitted to crops of good parts; most of them get a patch that belongs
elsewhere (:mod:`trainer.foreign`), which is all that it is asked to find. The scheme is that of CutPaste (Li et al.,
CVPR 2021) and DRAEM (Zavrtanik et al., ICCV 2021), on one channel at a time (:mod:`cell.imaging.oddity`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cell.defects import Sample
from cell.errors import DataError
from cell.frames import Stack
from cell.imaging import oddity
from cell.imaging.preprocess import Preprocessing
from trainer.fit import Cancelled, FitConfig, FittedModel, ReportProgress, fit, ignore_progress, never_cancelled
from trainer.samples import GoodOnly

#: Physical parts that are needed: a quarter of them is left out of the learning and says what good parts score.
LEAST_PARTS = 12
_LEFT_OUT = 4
#: The defaults of a run; see docs/notes/harvest.md for what more gave.
CONFIG = FitConfig(updates=900, sampling=GoodOnly())


def learn(
    good: Sequence[Sample],
    preprocessing: Preprocessing,
    config: FitConfig = CONFIG,
    *,
    progress: ReportProgress = ignore_progress,
    cancelled: Cancelled = never_cancelled,
    checkpoint: Path | None = None,
) -> FittedModel:
    """Fit the network to every channel of good parts.

    :param good: stacks (K, H, W) of good parts; labels must be all 0.
    :param preprocessing: of one channel, see :func:`cell.imaging.oddity.preprocessing_of`.
    :raises DataError: when there is no good part, or one shows a defect.
    :raises JobCancelled: when `cancelled` says so; it goes on from `checkpoint`.
    """
    if any(sample.labels.any() for sample in good):
        raise DataError("a part with a marked defect is among the good parts; only good parts teach what is odd")
    planes = [
        replace(sample, stack=sample.stack[index : index + 1], sample_id=f"{sample.sample_id}/{index}")
        for sample in good
        for index in range(sample.stack.shape[0])
    ]
    return fit(
        planes,
        preprocessing,
        (oddity.CLASS,),
        config,
        progress=progress,
        cancelled=cancelled,
        checkpoint=checkpoint,
        stage="learning good parts",
    )


def maps_of(model: FittedModel, stack: Stack) -> NDArray[np.float32]:
    """Return the probability of each channel of a stack (K, H, W), (K, H, W) float32 in [0, 1]."""
    return np.concatenate([model.predict(stack[index : index + 1])[0] for index in range(stack.shape[0])])


def divided(good: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """Return what is learned and what is left out to say what good parts score: every fourth physical part.

    Raises `DataError` when there are fewer than `LEAST_PARTS` physical parts.
    """
    parts = sorted({sample.group for sample in good})
    if len(parts) < LEAST_PARTS:
        raise DataError(f"{len(parts)} good parts are too few to learn what is odd; harvest at least {LEAST_PARTS}")
    aside = set(parts[::_LEFT_OUT])
    return [one for one in good if one.group not in aside], [one for one in good if one.group in aside]


def usual(model: FittedModel, left_out: Sequence[Sample]) -> tuple[float, float]:
    """Return median and robust spread of the evidence on good parts that the model never saw."""
    return oddity.usual(np.asarray([oddity.evidence(maps_of(model, sample.stack)) for sample in left_out]))
