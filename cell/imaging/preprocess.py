"""The one preprocessing: raw stack in, network input out; used by training, evaluation, parity and every engine.

A part is photographed at exposures that differ by a factor of two or more between cells, lots and set-ups, and light
falls off towards the edges. Both are factors on the light, so they are offsets on the logarithm: each channel is taken
to the logarithm, its own smooth shading is subtracted, and the rest is divided by its own texture contrast. A pit stays
as dark against its surroundings as it was, in units of how much this surface varies anyway.

The shading is a low-pass with a triangular kernel, computed on blocks and as two small matrix products, so that the
whole costs about a millisecond for 256 x 320 pixels.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cell.base import Record
from cell.errors import DataError
from cell.frames import Pixels, Stack
from cell.recipes import Name, Recipe, Rect

FloatMaps = NDArray[np.float32]

#: Edge of the blocks on which shading is computed, pixels.
_BLOCK = 8
#: Contrast that is never divided away: log units, about the quantisation of a well exposed 8-bit image.
_LEAST_CONTRAST = 0.004


class Preprocessing(Record):
    """How raw pixels become network input; saved in the model's manifest and the same wherever the model runs."""

    channels: tuple[Name, ...] = Field(min_length=1, max_length=32)
    bit_depth: int = Field(default=8, ge=8, le=16)
    #: Only this part of the frame is judged; the whole frame when absent.
    roi: Rect | None = None
    #: Zones (frame coordinates) that are blanked: neither their pixels nor their probabilities count.
    exclusions: tuple[Rect, ...] = ()
    #: Pixels at or below are empty carrier: they don't count for shading and contrast and become -limit, so that the
    #: part's outline stays visible. None when the part fills the frame.
    carrier_max_dn: int | None = Field(default=None, ge=0)
    #: "local-contrast": shading and contrast are taken away. "exposure": the median alone, for defects wider than
    #: `shading_px` that are seen by brightness only; contrasts are then divided by `exposure_scale`.
    normalisation: Literal["local-contrast", "exposure"] = "local-contrast"
    #: Added before the logarithm, as a share of full scale, so that read noise in the dark is not blown up.
    black_offset: float = Field(default=0.03, gt=0, le=1)
    #: Half width of the triangular low-pass that is called shading, in pixels.
    shading_px: int = Field(default=64, ge=8)
    #: This many robust standard deviations of the texture become 1.0 at the input.
    contrast_sigmas: float = Field(default=2.0, gt=0)
    #: Natural-log contrast that becomes 1.0 with "exposure".
    exposure_scale: float = Field(default=0.3, gt=0)
    #: Inputs are clipped to +- this.
    limit: float = Field(default=4.0, gt=0)
    #: Height and width are padded (mirrored, at the lower and right edge) to a multiple of this.
    multiple_of: int = Field(default=32, ge=_BLOCK, multiple_of=_BLOCK)

    @classmethod
    def for_recipe(cls, recipe: Recipe, **changes: Any) -> Preprocessing:
        """Return the preprocessing of a recipe: its channels, bit depth, ROI, exclusions and carrier level."""
        values: dict[str, Any] = {
            "channels": recipe.channel_names,
            "bit_depth": recipe.bit_depth,
            "roi": recipe.roi,
            "exclusions": recipe.exclusions,
            "carrier_max_dn": recipe.carrier_max_dn,
        }
        return cls(**(values | changes))

    def apply(self, stack: Stack) -> FloatMaps:
        """Return the network input of a raw stack.

        :param stack: (K, H, W) uint8 or uint16 DN, K as many as `channels`.
        :returns: (K, H', W') float32 in [-limit, limit], C-contiguous; H' and W' are the ROI's (or the frame's) height
            and width rounded up to `multiple_of`.
        :raises DataError: when shape or dtype don't fit.
        """
        self._check(stack)
        out = self.empty_input(stack.shape[1], stack.shape[2])
        for channel, plane in zip(stack, out, strict=True):
            self.apply_channel(channel, plane)
        return out

    def empty_input(self, height: int, width: int) -> FloatMaps:
        """Return the uninitialised network input (K, H', W') for frames of `height` x `width`. Raises `DataError`."""
        rows, columns = _window(self.roi, height, width)
        shape = (self._padded(rows.stop - rows.start), self._padded(columns.stop - columns.start))
        return np.empty((len(self.channels), *shape), np.float32)

    def apply_channel(self, channel: Pixels, plane: FloatMaps) -> None:
        """Fill one plane (H', W') of the network input from one channel's raw pixels (H, W), as :meth:`apply` does.

        Channels don't depend on each other: one can be prepared while the camera takes the next.
        """
        window = _window(self.roi, channel.shape[0], channel.shape[1])
        pixels = channel[window]
        height, width = pixels.shape
        np.take(_log_table(self.bit_depth, self.black_offset), pixels, out=plane[:height, :width], mode="clip")
        _mirror_into_padding(plane, height, width)
        self._normalise(plane, self._part(pixels, plane.shape))
        self._blank(plane[None, :height, :width])

    def crop_labels(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a label map (H, W) as the network sees it: (H', W') uint8, ROI cut, exclusions 0, padding mirrored."""
        window = _window(self.roi, *labels.shape)
        cut = labels[window]
        out = np.zeros((self._padded(cut.shape[0]), self._padded(cut.shape[1])), np.uint8)
        out[: cut.shape[0], : cut.shape[1]] = cut
        _mirror_into_padding(out, *cut.shape)
        self._blank(out[None, : cut.shape[0], : cut.shape[1]])
        return out

    def to_frame(self, maps: FloatMaps, height: int, width: int) -> FloatMaps:
        """Bring the network's maps back to the frame.

        :param maps: (D, H', W') float32 as the engine returned them for a frame of `height` x `width`.
        :returns: (D, height, width) float32; 0 outside the ROI and in the exclusions.
        :raises DataError: when the maps are not those of such a frame.
        """
        window = _window(self.roi, height, width)
        inner_height, inner_width = window[0].stop - window[0].start, window[1].stop - window[1].start
        if maps.shape[1:] != (self._padded(inner_height), self._padded(inner_width)):
            raise DataError(
                f"maps of {maps.shape[2]}x{maps.shape[1]} don't belong to a {width}x{height} frame; "
                "use the preprocessing the model was trained with"
            )
        inner = maps[:, :inner_height, :inner_width]
        if self.roi is None and not self.exclusions:
            return inner
        out = np.zeros((maps.shape[0], height, width), np.float32)
        out[:, window[0], window[1]] = inner
        self._blank(out[:, window[0], window[1]])
        return out

    def _check(self, stack: Stack) -> None:
        if stack.ndim != 3 or stack.shape[0] != len(self.channels):
            raise DataError(
                f"expected a stack of {len(self.channels)} channels (K, H, W), got shape {stack.shape}; "
                "check the recipe's channels"
            )
        if stack.dtype not in (np.uint8, np.uint16):
            raise DataError(f"expected raw pixels as uint8 or uint16, got {stack.dtype}; pass the camera's own data")
        if min(stack.shape[1:]) < 1:
            raise DataError(f"the stack is empty (shape {stack.shape}); check the camera's region of interest")

    def _padded(self, length: int) -> int:
        return -(-length // self.multiple_of) * self.multiple_of

    def _part(self, channel: NDArray[Any], shape: tuple[int, ...]) -> FloatMaps | None:
        """Return where the part is, (H', W') float32 1 or 0; None when it is everywhere (or nowhere)."""
        if self.carrier_max_dn is None:
            return None
        there = channel > self.carrier_max_dn
        if there.all() or not there.any():
            return None
        part = np.empty(shape, np.float32)
        part[: there.shape[0], : there.shape[1]] = there
        _mirror_into_padding(part, *there.shape)
        return part

    def _normalise(self, plane: FloatMaps, part: FloatMaps | None) -> None:
        # A sample of one pixel in sixteen gives median and contrast well enough, and sorting is what costs.
        sample = plane[::4, ::4]
        there = None if part is None else part[::4, ::4] > 0
        chosen = ... if there is None or not there.any() else there
        if self.normalisation == "exposure":
            plane -= np.median(sample[chosen])
            plane /= np.float32(self.exposure_scale)
        else:
            plane -= self._shading(plane, part)
            spread = 1.4826 * float(np.median(np.abs(sample[chosen])))
            plane /= np.float32(self.contrast_sigmas * max(spread, _LEAST_CONTRAST))
        np.clip(plane, -self.limit, self.limit, out=plane)
        if part is not None:
            plane[part == 0] = -self.limit

    def _shading(self, plane: FloatMaps, part: FloatMaps | None) -> FloatMaps:
        rows = _low_pass(plane.shape[0], self.shading_px)
        columns = _low_pass(plane.shape[1], self.shading_px)
        if part is None:
            return np.asarray(rows @ _block_means(plane) @ columns.T, np.float32)
        weight = rows @ _block_means(part) @ columns.T
        masked = rows @ _block_means(plane * part) @ columns.T
        return np.asarray(masked / np.maximum(weight, 1e-3), np.float32)

    def _blank(self, inner: NDArray[Any]) -> None:
        top, left = (self.roi.y, self.roi.x) if self.roi else (0, 0)
        for zone in self.exclusions:
            rows = slice(max(zone.y - top, 0), max(zone.y + zone.height - top, 0))
            columns = slice(max(zone.x - left, 0), max(zone.x + zone.width - left, 0))
            inner[:, rows, columns] = 0


@lru_cache(maxsize=8)
def _log_table(bit_depth: int, black_offset: float) -> FloatMaps:
    levels = np.arange(1 << bit_depth, dtype=np.float64) / ((1 << bit_depth) - 1)
    table = np.log(levels + black_offset).astype(np.float32)
    table.setflags(write=False)
    return table


def _window(roi: Rect | None, height: int, width: int) -> tuple[slice, slice]:
    if roi is None:
        return slice(0, height), slice(0, width)
    if not roi.inside(height, width):
        raise DataError(
            f"the region of interest {roi.width}x{roi.height}+{roi.x}+{roi.y} lies outside the {width}x{height} frame; "
            "correct the recipe or the camera's size"
        )
    return slice(roi.y, roi.y + roi.height), slice(roi.x, roi.x + roi.width)


def _block_means(plane: FloatMaps) -> FloatMaps:
    height, width = plane.shape
    # Along the rows as a tree, as `blocks.mean(axis=3)` adds them, but whole columns at a time: a third of its time.
    column = [plane[:, index::_BLOCK] for index in range(_BLOCK)]
    while len(column) > 1:
        column = [left + right for left, right in zip(column[::2], column[1::2], strict=True)]
    rows = column[0] / np.float32(_BLOCK)
    means: FloatMaps = rows.reshape(height // _BLOCK, _BLOCK, width // _BLOCK).mean(axis=1)
    return means


@lru_cache(maxsize=32)
def _low_pass(length: int, half_width: int) -> FloatMaps:
    """Return the matrix (length, length / _BLOCK) that smooths block means with a triangle and interpolates them."""
    count = length // _BLOCK
    centres = (np.arange(count) + 0.5) * _BLOCK
    pixels = np.arange(length) + 0.5
    weights = np.zeros((length, count))
    # Mirrored copies of the blocks on both sides, so that the edge is not pulled towards anything.
    for image in (centres, -centres, 2 * length - centres):
        weights += np.maximum(0.0, 1.0 - np.abs(pixels[:, None] - image[None]) / half_width)
    matrix: FloatMaps = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    matrix.setflags(write=False)
    return matrix


def _mirror_into_padding(plane: NDArray[Any], height: int, width: int) -> None:
    rows = _mirror_index(height, plane.shape[0])
    columns = _mirror_index(width, plane.shape[1])
    if plane.shape[0] > height:
        plane[height:, :width] = plane[rows[height:], :width]
    if plane.shape[1] > width:
        plane[:, width:] = plane[:, columns[width:]]


def _mirror_index(length: int, padded: int) -> NDArray[np.intp]:
    # Symmetric reflection that also holds when the padding is longer than the image.
    position = np.arange(padded) % (2 * length)
    return np.where(position < length, position, 2 * length - 1 - position)
