"""What the literature does without a generator: augmented copies of the real defects, and balanced classes.

The arm `real` already learns from crops that are flipped, turned by up to six degrees, zoomed, shaded and blurred anew
each time, with every class and every part drawn equally often (:mod:`trainer.samples`). The arms here go further:

- `augment` adds pictures: copies of the seeds that are varied beyond that, once and for all, as published baselines do
  it before training: quarter turns, any angle up to 20 degrees, elastic bending, gamma, gain, a gradient of light,
  sharpness, noise. They take the place that the generated pictures have in the other arms, and the same share of the
  crops. Nothing in them is made up but the variation.
  Where several lights make one stack, turning a picture gives it lights that the cell has not: known, and part of
  what this baseline is.
- `balanced` adds nothing: good counts as one class among the others, so that of C classes a batch has C / (C + 1) of
  its crops on defects instead of half, and no good part is drawn more often than another because the network sees
  ghosts on it. That is oversampling of the rare classes to the number of the good ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks._layout import Product
from cell.defects import PASTED_FROM, Sample
from cell.frames import Stack
from trainer.samples import Sampling

#: Degrees either way, logarithm of a factor on the size, pixels of bending and how far apart they differ.
_DEGREES, _LOG_ZOOM, _BEND_PX, _BEND_SIGMA_PX = 20.0, 0.25, 3.0, 12.0
#: Standard deviations: logarithms of gain and gamma, share of the light from side to side, noise in noises of the part.
_GAIN, _GAMMA, _GRADIENT, _NOISE = 0.15, 0.15, 0.15, 0.5
#: Gaussian sigma, pixels, and share of the pictures that are blurred; as many are sharpened.
_BLUR_PX, _BLURRED = (0.4, 1.2), 0.25


def augmented(product: Product, per_class: int, seed: int) -> tuple[Sample, ...]:
    """Return `per_class` varied copies of each class's seeds, parts in turn; none that has lost the defect."""
    made: list[Sample] = []
    for value, name in enumerate(product.classes, start=1):
        own = [one for one in product.seeds if (one.labels == value).any()]
        parts = sorted({one.group for one in own})
        rng = np.random.default_rng([seed, value])
        for number in range(per_class if own else 0):
            part = parts[number % len(parts)]
            mine = [one for one in own if one.group == part]
            stack, labels = _copy(mine[int(rng.integers(len(mine)))], value, product.bit_depth, rng)
            made.append(
                Sample(
                    stack=stack,
                    labels=labels,
                    group=part,
                    synthetic=True,
                    sample_id=f"augmented-{name}-{number:05d}",
                    tags={PASTED_FROM: part},
                )
            )
    return tuple(made)


def balanced(sampling: Sampling, classes: Sequence[str]) -> Sampling:
    """Return a sampling in which good is one class among the others."""
    return Sampling(
        **{name: getattr(sampling, name) for name in sampling.__dataclass_fields__}
        | {"defect_share": len(classes) / (len(classes) + 1), "mining": False}
    )


def _copy(sample: Sample, value: int, bit_depth: int, rng: np.random.Generator) -> tuple[Stack, NDArray[np.uint8]]:
    for _ in range(10):
        stack, labels = _bent(sample, rng)
        if (labels == value).sum() >= 0.3 * (sample.labels == value).sum():
            return _relit(stack, bit_depth, sample.stack.dtype, rng), labels
    return sample.stack.copy(), sample.labels.copy()


def _bent(sample: Sample, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Turn, zoom, bend and mirror picture and labels alike; sides change places at a quarter turn."""
    height, width = sample.labels.shape
    angle, zoom = np.radians(rng.uniform(-_DEGREES, _DEGREES)), np.exp(rng.uniform(-_LOG_ZOOM, _LOG_ZOOM))
    turn = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.argwhere(sample.labels > 0).mean(axis=0)  # what is to stay in the picture stays where it is
    grid = np.indices((height, width), np.float64) - middle[:, None, None]
    at = np.tensordot(turn, grid, axes=1) + middle[:, None, None]
    bend = ndimage.gaussian_filter(rng.standard_normal((2, height, width)), (0, _BEND_SIGMA_PX, _BEND_SIGMA_PX))
    at += bend / max(float(np.abs(bend).max()), 1e-9) * rng.uniform(0, _BEND_PX)
    planes = [ndimage.map_coordinates(plane.astype(np.float32), at, order=1, mode="reflect") for plane in sample.stack]
    labels = ndimage.map_coordinates(sample.labels, at, order=0, mode="reflect")
    turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
    stack, labels = np.rot90(np.stack(planes), turns, axes=(1, 2)), np.rot90(labels, turns)
    if mirrored:
        stack, labels = np.flip(stack, 2), np.flip(labels, 1)
    return np.ascontiguousarray(stack, np.float32), np.ascontiguousarray(labels, np.uint8)


def _relit(
    stack: NDArray[np.float32],
    bit_depth: int,
    dtype: np.dtype[np.uint8] | np.dtype[np.uint16],
    rng: np.random.Generator,
) -> Stack:
    """Change gain, gamma, the light's direction, sharpness and noise, all channels alike but for the noise."""
    full = float(2**bit_depth - 1)
    noise = np.median(np.abs(np.diff(stack, axis=2))) / 0.9539  # of a difference of two, as a standard deviation
    level = np.clip(stack / full, 0.0, 1.0) ** np.exp(rng.normal(0, _GAMMA)) * full
    level *= np.median(stack) / max(float(np.median(level)), 1e-6) * np.exp(rng.normal(0, _GAIN))
    height, width = stack.shape[1:]
    down, across = rng.normal(0, _GRADIENT, 2)
    level *= 1.0 + down * np.linspace(-0.5, 0.5, height)[:, None] + across * np.linspace(-0.5, 0.5, width)
    soft = ndimage.gaussian_filter(level, (0, *(rng.uniform(*_BLUR_PX),) * 2))
    kind = rng.random()
    if kind < _BLURRED:
        level = soft
    elif kind < 2 * _BLURRED:
        level = level + 0.5 * (level - soft)
    level = level + rng.normal(0, rng.uniform(0, _NOISE) * noise + 1e-6, level.shape)
    relit: Stack = np.clip(np.rint(level), 0, full).astype(dtype)
    return relit
