"""The lens: point spread, depth of field, stray light and fall-off, and the pixel that gathers what is left.

The point spread is a Gaussian for diffraction and aberrations and, out of focus, a disc. The pixel's square aperture
comes after it, by adding up the fine grid, so the whole system's transfer function is
``MTF(f) = exp(-2 pi^2 sigma^2 f^2) * |2 J1(pi d f) / (pi d f)| * |sinc(f)|``, f in cycles per pixel, d the disc's
diameter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft, ndimage, special

from drivers.sim.render.workpiece import FloatMap

_THINNEST_DISC_PX = 0.15
#: Discs are made for radii so far apart, and mixed between.
_LAYER_PX = 0.5


@dataclass(frozen=True, slots=True)
class Lens:
    """A telecentric lens, focused on the height `focus_um`."""

    sigma_px: float = 0.62  # of the Gaussian, in pixels of the picture
    defocus_px: float = 0.0  # radius of the disc that a point at height `focus_um` becomes
    focus_um: float = 0.0
    blur_px_per_mm: float = 0.5  # radius of the disc for each mm above or below the focus: the depth of field
    stray: float = 0.012  # share of all light that is scattered over the field
    vignetting: float = 0.10  # relative loss in the field's corner

    def mtf(self, frequency: ArrayLike, height_um: float = 0.0) -> NDArray[np.float64]:
        """Return the modulation transfer at `frequency` (cycles per pixel) for a face at that height, stray light left
        out."""
        f = np.asarray(frequency, np.float64)
        radius = self._radius_of(height_um)
        argument = 2 * np.pi * radius * f
        with np.errstate(invalid="ignore", divide="ignore"):
            disc = np.where(argument > 1e-9, 2 * special.j1(argument) / argument, 1.0)
        return np.asarray(np.exp(-2 * (np.pi * self.sigma_px * f) ** 2) * np.abs(disc) * np.abs(np.sinc(f)))

    def psf_sigma_px(self, height_um: float = 0.0) -> float:
        """Return the standard deviation of lens and pixel together along one axis: Gaussian, disc (r^2/4), square
        (1/12)."""
        return float(np.sqrt(self.sigma_px**2 + self._radius_of(height_um) ** 2 / 4 + 1 / 12))

    def falloff(self, height: int, width: int) -> FloatMap:
        """Return the relative brightness (H, W) float32 of an even field: 1 in the middle, falling as cos^4 does."""
        y = np.linspace(-1, 1, height, dtype=np.float32)[:, None] * np.float32(height)
        x = np.linspace(-1, 1, width, dtype=np.float32)[None, :] * np.float32(width)
        corner = np.float32(height * height + width * width)
        # cos^4 of an angle whose cos^4 in the corner is 1 - vignetting.
        tangent2 = np.float32((1 - self.vignetting) ** -0.5 - 1)
        return np.asarray((1 + tangent2 * (x * x + y * y) / corner) ** -2, np.float32)

    def form(self, radiance: FloatMap, oversampling: int, height_um: FloatMap | None = None) -> FloatMap:
        """Return the picture (H, W) float32 of a radiance (H', W'): blurred, gathered by pixels, stray light added.

        `height_um` (H, W) is where each pixel's face lies, for the depth of field; None: only `defocus_px` counts.
        """
        picture = _gathered(radiance, self.sigma_px * oversampling, oversampling)
        radius = np.abs(self._radius(np.zeros(1, np.float32) if height_um is None else height_um))
        low, high = (float(value) for value in np.percentile(radius, (0.5, 99.5)))
        if high - low < 2 * _THINNEST_DISC_PX:
            low = high = self._radius_of(0.0 if height_um is None else float(np.median(height_um)))
        if high > _THINNEST_DISC_PX:
            picture = _defocused(picture, radius, low, high)
        if self.stray > 0:
            picture += np.float32(self.stray) * (_haze(picture) - picture)
        picture *= self.falloff(*picture.shape)
        return picture

    def _radius(self, height_um: FloatMap) -> FloatMap:
        """Return the signed radius in pixels of the disc that a point at a height becomes."""
        return np.asarray(
            np.float32(self.defocus_px)
            + np.float32(self.blur_px_per_mm / 1000) * (height_um - np.float32(self.focus_um)),
            np.float32,
        )

    def _radius_of(self, height_um: float) -> float:
        return abs(self.defocus_px + self.blur_px_per_mm * (height_um - self.focus_um) / 1000)


def _gathered(radiance: FloatMap, sigma: float, size: int) -> FloatMap:
    """Blur by a Gaussian of `sigma` samples and gather `size` x `size` samples to a pixel.

    Blur, sum and choice of every `size`-th sample are one filter along each axis.
    """
    reach = int(np.ceil(3.5 * sigma))
    bell = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-6)) ** 2)
    taps = np.convolve(bell / bell.sum(), np.full(size, 1 / size)).astype(np.float32)
    return _filtered(_filtered(radiance, taps, size, 0), taps, size, 1)


#: Values worked on at once, so that they stay in the processor's cache.
_BLOCK = 1 << 15


def _filtered(values: FloatMap, taps: FloatMap, size: int, axis: int) -> FloatMap:
    """Filter along an axis and keep every `size`-th value; the border's value goes on beyond it."""
    before = (len(taps) - size) // 2
    pad = [(0, 0), (0, 0)]
    pad[axis] = (before, len(taps) - size - before)
    count = values.shape[axis] // size
    other = values.shape[1 - axis]
    out = np.empty((count, other) if axis == 0 else (other, count), np.float32)
    step = max(1, _BLOCK // (other if axis == 0 else count))
    spare = np.empty((step, other) if axis == 0 else (step, count), np.float32)
    padded = np.pad(values, pad, mode="edge") if axis == 0 else values
    for start in range(0, len(out), step):
        block = out[start : start + step]
        scratch = spare[: len(block)]
        row = padded if axis == 0 else np.pad(padded[start : start + step], pad, mode="edge")
        for place, tap in enumerate(taps):
            if axis == 0:
                first = start * size + place
                seen = row[first : first + (len(block) - 1) * size + 1 : size]
            else:
                seen = row[:, place : place + (count - 1) * size + 1 : size]
            if place == 0:
                np.multiply(seen, tap, out=block)
            else:
                np.multiply(seen, tap, out=scratch)
                block += scratch
    return out


def _defocused(picture: FloatMap, radius_px: FloatMap, low: float, high: float) -> FloatMap:
    """Blur a picture by discs from radius `low` to `high`: each pixel mixes the two that lie nearest its own.

    The discs are applied to the pixels' spectrum, which is exact below their Nyquist frequency; little light is above
    it after the Gaussian and the pixel's square.
    """
    layers = 1 if high == low else min(int(np.ceil((high - low) / _LAYER_PX)), 4) + 1
    pad = int(np.ceil(high)) + 4
    padded = np.pad(picture, pad, mode="edge")
    rows, columns = fft.next_fast_len(padded.shape[0], real=True), fft.next_fast_len(padded.shape[1], real=True)
    padded = np.pad(padded, ((0, rows - padded.shape[0]), (0, columns - padded.shape[1])), mode="edge")
    spectrum = fft.rfft2(padded)
    out = np.zeros_like(picture)
    inner = (slice(pad, pad + picture.shape[0]), slice(pad, pad + picture.shape[1]))
    if layers > 1:
        position = np.clip((radius_px - np.float32(low)) * np.float32((layers - 1) / (high - low)), 0, layers - 1)
    for index, radius in enumerate(np.linspace(low, high, layers)):
        if radius <= _THINNEST_DISC_PX:
            layer = picture
        else:
            layer = fft.irfft2(spectrum * _disc_transfer(rows, columns, float(radius)), s=(rows, columns))[inner]
        if layers == 1:
            return np.asarray(layer, np.float32)
        out += np.clip(1 - np.abs(position - np.float32(index)), 0, 1) * layer
    return out


def _disc_transfer(rows: int, columns: int, radius_px: float) -> FloatMap:
    """Return the transfer of a disc (rows, columns // 2 + 1) float32: 2 J1(2 pi r f) / (2 pi r f)."""
    f2 = fft.fftfreq(rows)[:, None] ** 2 + fft.rfftfreq(columns)[None, :] ** 2
    # A function of f^2 alone and smooth: looked up, as Bessel's function is slow.
    table_f2 = np.linspace(0, 0.5, 4096)
    argument = 2 * np.pi * radius_px * np.sqrt(table_f2)
    argument[0] = 1e-9
    table = (2 * special.j1(argument) / argument).astype(np.float32)
    return table[(f2 * (4095 / 0.5) + 0.5).astype(np.intp)]


def _haze(picture: FloatMap) -> FloatMap:
    """Return the picture as light scattered in the lens spreads it: very wide, so worked out on a coarse grid."""
    block = 8
    rows, columns = (-(-size // block) * block for size in picture.shape)
    padded = np.pad(picture, ((0, rows - picture.shape[0]), (0, columns - picture.shape[1])), mode="edge")
    coarse = padded.reshape(rows // block, block, columns // block, block).mean(axis=(1, 3))
    coarse = ndimage.gaussian_filter(coarse, max(coarse.shape) / 10, mode="nearest")
    fine = ndimage.zoom(coarse, block, order=1, mode="nearest", grid_mode=True)
    return np.asarray(fine[: picture.shape[0], : picture.shape[1]], np.float32)
