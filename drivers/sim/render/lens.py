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
from scipy import ndimage, signal, special

from drivers.sim.render.workpiece import FloatMap

_THINNEST_DISC_PX = 0.15


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
        radius = self._radius(height_um)
        argument = 2 * np.pi * radius * f
        with np.errstate(invalid="ignore", divide="ignore"):
            disc = np.where(argument > 1e-9, 2 * special.j1(argument) / argument, 1.0)
        return np.asarray(np.exp(-2 * (np.pi * self.sigma_px * f) ** 2) * np.abs(disc) * np.abs(np.sinc(f)))

    def psf_sigma_px(self, height_um: float = 0.0) -> float:
        """Return the standard deviation of lens and pixel together along one axis: Gaussian, disc (r^2/4), square
        (1/12)."""
        return float(np.sqrt(self.sigma_px**2 + self._radius(height_um) ** 2 / 4 + 1 / 12))

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
        flat = height_um is None or self._even(height_um)
        if flat:
            level = 0.0 if height_um is None else float(np.median(height_um))
            picture = self._blurred(radiance, oversampling, self._radius(level))
        else:
            assert height_um is not None  # noqa: S101 (flat otherwise)
            picture = self._layered(radiance, oversampling, height_um)
        if self.stray > 0:
            picture += np.float32(self.stray) * (_haze(picture) - picture)
        picture *= self.falloff(*picture.shape)
        return picture

    def _radius(self, height_um: float) -> float:
        return abs(self.defocus_px + self.blur_px_per_mm * (height_um - self.focus_um) / 1000)

    def _even(self, height_um: FloatMap) -> bool:
        low, high = np.percentile(height_um, (1, 99))
        return self.blur_px_per_mm * float(high - low) / 1000 < 2 * _THINNEST_DISC_PX

    def _layered(self, radiance: FloatMap, oversampling: int, height_um: FloatMap) -> FloatMap:
        """Blur for a few heights and mix, by pixel, the two that lie nearest."""
        low, high = (float(value) for value in np.percentile(height_um, (0.5, 99.5)))
        layers = int(np.clip(np.ceil(self.blur_px_per_mm * (high - low) / 1000 / 0.5), 1, 4)) + 1
        levels = np.linspace(low, high, layers)
        position = np.clip((height_um - low) / np.float32(high - low), 0, 1) * np.float32(layers - 1)
        picture = np.zeros(height_um.shape, np.float32)
        for index, level in enumerate(levels):
            share = np.clip(1 - np.abs(position - index), 0, 1)
            picture += share * self._blurred(radiance, oversampling, self._radius(float(level)))
        return picture

    def _blurred(self, radiance: FloatMap, oversampling: int, radius_px: float) -> FloatMap:
        blurred = np.empty_like(radiance)
        sigma = self.sigma_px * oversampling
        ndimage.gaussian_filter(radiance, sigma, output=blurred, truncate=3.5, mode="nearest")
        if radius_px > _THINNEST_DISC_PX:
            kernel = _disc(radius_px * oversampling)
            pad = kernel.shape[0] // 2
            padded = np.pad(blurred, pad, mode="edge")
            blurred = np.asarray(signal.oaconvolve(padded, kernel, mode="valid"), np.float32)
        rows, columns = blurred.shape[0] // oversampling, blurred.shape[1] // oversampling
        gathered = blurred.reshape(rows, oversampling, columns, oversampling).mean(axis=(1, 3))
        return np.asarray(gathered, np.float32)


def _disc(radius: float) -> FloatMap:
    """Return a disc of that radius in samples, its rim by area, sum 1."""
    reach = int(np.ceil(radius + 1))
    fine = 8
    axis = (np.arange((2 * reach + 1) * fine) + 0.5) / fine - reach - 0.5
    inside = (axis[:, None] ** 2 + axis[None, :] ** 2 <= radius * radius).astype(np.float32)
    kernel = inside.reshape(2 * reach + 1, fine, 2 * reach + 1, fine).mean(axis=(1, 3))
    return np.asarray(kernel / kernel.sum(), np.float32)


def _haze(picture: FloatMap) -> FloatMap:
    """Return the picture as light scattered in the lens spreads it: very wide, so worked out on a coarse grid."""
    block = 8
    rows, columns = (-(-size // block) * block for size in picture.shape)
    padded = np.pad(picture, ((0, rows - picture.shape[0]), (0, columns - picture.shape[1])), mode="edge")
    coarse = padded.reshape(rows // block, block, columns // block, block).mean(axis=(1, 3))
    coarse = ndimage.gaussian_filter(coarse, max(coarse.shape) / 10, mode="nearest")
    fine = ndimage.zoom(coarse, block, order=1, mode="nearest", grid_mode=True)
    return np.asarray(fine[: picture.shape[0], : picture.shape[1]], np.float32)
