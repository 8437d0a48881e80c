"""Crops for training: native resolution, balanced over classes and parts, varied the way a line varies.

A 10-pixel blowhole on a 300-pixel part vanishes when the picture is shrunk, and a picture holds thousands of good
pixels for each bad one. So training sees crops at native resolution, half of them around defects, every class and every
physical part drawn equally often, whatever the size of its defects or the number of its pictures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell.defects import Sample
from cell.errors import DataError
from cell.imaging.preprocess import Preprocessing
from trainer.foreign import add_foreign

Floats = NDArray[np.float32]
Labels = NDArray[np.uint8]
_Input = NDArray[np.float16] | NDArray[np.float32]
_Pixel = TypeVar("_Pixel", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How much crops vary; contrasts are in units of the network input (``Preprocessing.scale`` log contrast)."""

    flips: bool = True  # mirror both ways; see `quarter_turns`
    quarter_turns: bool = False  # off: machined surfaces have a lay, and a turned lay is another product
    rotation_deg: float = 6.0
    log_zoom: float = 0.15
    warped_share: float = 0.5  # crops that are rotated and zoomed; the others keep their pixels bit for bit
    gain: float = 0.1  # standard deviation of the log of a factor on the contrast
    offset: float = 0.05  # standard deviation of an added constant
    shading: float = 0.1  # standard deviation of the nodes of a smooth 3 x 3 field, added to half of the crops
    noise: float = 0.15  # highest standard deviation of white noise, in half of the crops
    blur_share: float = 0.2


@dataclass(frozen=True, slots=True)
class Sampling:
    """Where crops are taken."""

    size: int = 128  # crop edge in pixels, a multiple of the network's stride
    defect_share: float = 0.5  # of a batch, around a defect
    same_part_share: float = 0.2  # of the rest, anywhere on a defective part; the others on good parts
    outline_share: float = 0.3  # of the defect crops, centred on the defect's outline instead of its area
    synthetic_share: float = 0.25  # of the defect crops of a class that has synthetic images; the rest are real seeds
    foreign_share: float = 0.35  # of the crops on good parts, with a patch in them that belongs elsewhere
    mining: bool = True  # draw good parts more often where the network sees ghosts
    #: Preprocessed inputs are kept as float16 up to this size; beyond it they are made again for every crop.
    cache_bytes: int = 1 << 30
    augmentation: Augmentation = Augmentation()


@dataclass(frozen=True, slots=True)
class GoodOnly(Sampling):
    """Crops of good parts alone, most with a patch that belongs elsewhere: nobody has seen a defect yet."""

    defect_share: float = 0.0
    same_part_share: float = 0.0
    foreign_share: float = 0.6
    foreign_steps: float = 0.2  # of those patches, all that lies on one side of a line, or between two


@dataclass(frozen=True, slots=True)
class Batch:
    """Crops: `inputs` (N, K, S, S) float32, `labels` (N, S, S) uint8 with 255 for a defect of no known class.

    `good_part` (N,) is the index into `parts` of a crop of a good part, -1 elsewhere.
    """

    inputs: Floats
    labels: Labels
    good_part: NDArray[np.intp]


class CropSampler:
    """Draws batches of crops; the same seed gives the same crops.

    :raises DataError: when there is nothing to learn from: no good part, no defect, or a sample of another layout.
    """

    def __init__(self, samples: Sequence[Sample], spec: Preprocessing, sampling: Sampling, seed: int) -> None:
        self._samples, self._spec, self._sampling = list(samples), spec, sampling
        self._steps = sampling.foreign_steps if isinstance(sampling, GoodOnly) else 0.0
        self._rng = np.random.default_rng(seed)
        _check(self._samples)
        pixels = sum(sample.stack.size for sample in self._samples)
        self._cache: dict[int, _Input] | None = {} if 2 * pixels <= sampling.cache_bytes else None
        self._labels = [spec.crop_labels(sample.labels) for sample in self._samples]
        self._places: dict[tuple[int, int, bool], NDArray[np.int32]] = {}
        self._good: dict[str, list[int]] = {}
        self._real: dict[int, dict[str, list[int]]] = {}
        self._synthetic: dict[int, dict[str, list[int]]] = {}
        for index, sample in enumerate(self._samples):
            classes = np.unique(self._labels[index])
            for value in classes[classes > 0]:
                where = self._synthetic if sample.synthetic else self._real
                where.setdefault(int(value), {}).setdefault(sample.group, []).append(index)
            if classes.max(initial=0) == 0 and not sample.synthetic:
                self._good.setdefault(sample.group, []).append(index)
        self._classes = sorted(self._real | self._synthetic)
        if not self._classes and not isinstance(sampling, GoodOnly):
            raise DataError("no sample shows a defect; confirm seeds before training")
        if not self._good:
            raise DataError("no sample is a good part; harvest backgrounds before training")
        self.parts = sorted(self._good)
        self._ghosts = np.ones(len(self.parts))

    def draw(self, size: int) -> Batch:
        """Return `size` crops."""
        inputs, labels, parts = [], [], []
        defects = round(size * self._sampling.defect_share)
        for position in range(size):
            part = -1
            if position < defects:
                index, value = self._draw_defective()
                crop = self._crop(index, self._on_defect(index, value))
            elif self._rng.random() < self._sampling.same_part_share:
                index, _ = self._draw_defective()
                crop = self._crop(index, self._anywhere(index))
            else:
                part = int(self._rng.choice(len(self.parts), p=self._ghosts / self._ghosts.sum()))
                index = self._pick(self._good[self.parts[part]])
                crop = self._crop(index, self._anywhere(index))
                if self._rng.random() < self._sampling.foreign_share:
                    crop = add_foreign(*crop, self._donor(), self._rng, self._steps)
            inputs.append(crop[0])
            labels.append(crop[1])
            parts.append(part)
        return Batch(np.stack(inputs), np.stack(labels), np.asarray(parts, np.intp))

    def feed_back(self, good_part: NDArray[np.intp], ghost_loss: Floats) -> None:
        """Tell how bad the worst pixels of each good crop were: those parts are drawn more often from now on."""
        if not self._sampling.mining:
            return
        for part, loss in zip(good_part.tolist(), ghost_loss.tolist(), strict=True):
            if part >= 0:
                self._ghosts[part] = 0.7 * self._ghosts[part] + 0.3 * min(5.0, max(0.2, 4.0 * loss))

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs, as JSON types."""
        return {"rng": self._rng.bit_generator.state, "ghosts": self._ghosts.tolist()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`; the samples must be the same."""
        self._rng.bit_generator.state = state["rng"]
        self._ghosts = np.asarray(state["ghosts"], np.float64)

    def _donor(self) -> Floats:
        """Return a crop anywhere on any good part."""
        index = self._pick(self._good[self.parts[int(self._rng.integers(len(self.parts)))]])
        return self._crop(index, self._anywhere(index))[0]

    def _pick(self, indices: list[int]) -> int:
        weights = np.asarray([self._samples[index].weight for index in indices])
        if np.all(weights == weights[0]):
            return indices[int(self._rng.integers(len(indices)))]
        return indices[int(self._rng.choice(len(indices), p=weights / weights.sum()))]

    def _draw_defective(self) -> tuple[int, int]:
        value = self._classes[int(self._rng.integers(len(self._classes)))]
        pools = [pool[value] for pool in (self._real, self._synthetic) if value in pool]
        use_synthetic = len(pools) == 2 and self._rng.random() < self._sampling.synthetic_share
        pool = pools[1] if use_synthetic else pools[0]
        groups = sorted(pool)
        return self._pick(pool[groups[int(self._rng.integers(len(groups)))]]), value

    def _on_defect(self, index: int, value: int) -> tuple[float, float]:
        on_outline = bool(self._rng.random() < self._sampling.outline_share)
        places = self._places_of(index, value, on_outline)
        row, column = divmod(int(places[self._rng.integers(places.size)]), self._labels[index].shape[1])
        reach = 0.4 * self._sampling.size
        return row + self._rng.uniform(-reach, reach), column + self._rng.uniform(-reach, reach)

    def _places_of(self, index: int, value: int, on_outline: bool) -> NDArray[np.int32]:
        """Return the flat indices of a defect's pixels, or of its outline's; found once for each sample."""
        key = (index, value, on_outline)
        if key not in self._places:
            mask = self._labels[index] == value
            if on_outline:
                mask &= ~ndimage.binary_erosion(mask)
            self._places[key] = np.flatnonzero(mask).astype(np.int32)
        return self._places[key]

    def _anywhere(self, index: int) -> tuple[float, float]:
        height, width = self._labels[index].shape
        return self._rng.uniform(0, height), self._rng.uniform(0, width)

    def _input(self, index: int) -> _Input:
        if self._cache is None:
            return self._spec.apply(self._samples[index].stack)
        if index not in self._cache:
            self._cache[index] = self._spec.apply(self._samples[index].stack).astype(np.float16)
        return self._cache[index]

    def _crop(self, index: int, centre: tuple[float, float]) -> tuple[Floats, Labels]:
        size, labels, image = self._sampling.size, self._labels[index], self._input(index)
        row, column = (_inside(at, size, length) for at, length in zip(centre, labels.shape, strict=True))
        if self._rng.random() < self._sampling.augmentation.warped_share:
            return self._vary(*self._warp(image, labels, row, column))
        whole = _cut(image, row, column, size).astype(np.float32)
        return self._vary(whole, _cut(labels[None], row, column, size)[0])

    def _warp(self, image: _Input, labels: Labels, row: float, column: float) -> tuple[Floats, Labels]:
        augmentation, size = self._sampling.augmentation, self._sampling.size
        angle = math.radians(self._rng.uniform(-1, 1) * augmentation.rotation_deg)
        zoom = math.exp(self._rng.uniform(-1, 1) * augmentation.log_zoom)
        matrix = zoom * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        # Only the neighbourhood that the crop can reach is warped: a part may have 50 megapixels.
        reach = math.ceil(size * zoom * 0.75) + 2
        top, left = max(0, int(row) - reach), max(0, int(column) - reach)
        near = image[:, top : int(row) + reach, left : int(column) + reach].astype(np.float32)
        labels = labels[top : int(row) + reach, left : int(column) + reach]
        offset = np.array([row - top, column - left]) - matrix @ np.array([size / 2, size / 2])
        warped = [
            ndimage.affine_transform(channel, matrix, offset, (size, size), order=1, mode="reflect") for channel in near
        ]
        return np.stack(warped), ndimage.affine_transform(labels, matrix, offset, (size, size), order=0, mode="reflect")

    def _vary(self, image: Floats, labels: Labels) -> tuple[Floats, Labels]:
        augmentation, rng = self._sampling.augmentation, self._rng
        if augmentation.quarter_turns and rng.random() < 0.5:
            image, labels = image.transpose(0, 2, 1), labels.T
        for axis in (-2, -1):
            if augmentation.flips and rng.random() < 0.5:
                image, labels = np.flip(image, axis), np.flip(labels, axis)
        # Exposure and lamp change all channels alike; the noise is every pixel's own.
        image = image * np.float32(math.exp(rng.normal(0, augmentation.gain)))
        image = image + np.float32(rng.normal(0, augmentation.offset))
        if rng.random() < 0.5:
            nodes = rng.normal(0, augmentation.shading, (3, 3))
            field = ndimage.zoom(nodes, self._sampling.size / 3, order=1, grid_mode=True, mode="nearest")
            image = image + field.astype(np.float32)
        if rng.random() < 0.5:
            sigma = rng.uniform(0, augmentation.noise)
            image = image + rng.normal(0, sigma, image.shape).astype(np.float32)
        if rng.random() < augmentation.blur_share:
            sigma = rng.uniform(0.3, 1.0)
            image = ndimage.gaussian_filter(image, (0, sigma, sigma))
        return np.ascontiguousarray(image, np.float32), np.ascontiguousarray(labels)


def _check(samples: list[Sample]) -> None:
    for sample in samples:
        if sample.stack.shape[1:] != sample.labels.shape:
            raise DataError(
                f"the label map of {sample.sample_id or sample.group} is {sample.labels.shape[::-1]} pixels large, "
                f"its image {sample.stack.shape[:0:-1]}; make the mask again on this image"
            )


def _inside(centre: float, size: int, length: int) -> float:
    """Move a crop's centre so that the crop lies in the image where it can."""
    half = min(size, length) / 2
    return float(np.clip(centre, half, length - half))


def _cut(image: NDArray[_Pixel], row: float, column: float, size: int) -> NDArray[_Pixel]:
    """Cut (C, size, size) around a centre; what lies outside is mirrored."""
    top, left = round(row - size / 2), round(column - size / 2)
    height, width = image.shape[1:]
    inner = image[:, max(0, top) : top + size, max(0, left) : left + size]
    before = (max(0, -top), max(0, -left))
    after = (max(0, top + size - height), max(0, left + size - width))
    if any(before) or any(after):
        pads = ((0, 0), (before[0], after[0]), (before[1], after[1]))
        inner = np.pad(inner, pads, mode="symmetric")
    return inner
