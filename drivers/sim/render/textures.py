"""Random surfaces: periodic fields with a given spectrum, drawn in Fourier space.

All return float32 with zero mean and unit standard deviation on a grid of `step_mm`, and depend on the generator, the
grid's shape and its step alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from drivers.sim.render.workpiece import FloatMap

Generator = np.random.Generator
Shape = tuple[int, int]


def rough(
    generator: Generator, shape: Shape, step_mm: float, *, grain_mm: float, hurst: float = 0.8, finest_mm: float = 0.0
) -> FloatMap:
    """Return a self-affine surface (Hurst exponent `hurst`) below the grain size, flat above it, as castings are.

    Detail finer than `finest_mm` is rounded off.
    """

    def amplitude(f2_y: FloatMap, f2_x: FloatMap) -> FloatMap:
        f2 = f2_y + f2_x
        falling = (f2 + np.float32(grain_mm**-2)) ** np.float32(-(1 + hurst) / 2)
        return np.asarray(falling * np.exp(f2 * np.float32(-(finest_mm**2))), np.float32)

    return _shaped(generator, shape, step_mm, amplitude)


def blobs(generator: Generator, shape: Shape, step_mm: float, *, size_mm: float) -> FloatMap:
    """Return a smooth field with one grain size (Gaussian spectrum)."""

    def amplitude(f2_y: FloatMap, f2_x: FloatMap) -> FloatMap:
        return np.asarray(np.exp((f2_y + f2_x) * np.float32(-2 * (0.5 * size_mm) ** 2)), np.float32)

    return _shaped(generator, shape, step_mm, amplitude)


def lines(generator: Generator, shape: Shape, step_mm: float, *, along_mm: float, across_mm: float) -> FloatMap:
    """Return scratches of about that length along x and width along y, as brushing, grinding and rolling leave them."""

    def amplitude(f2_y: FloatMap, f2_x: FloatMap) -> FloatMap:
        # Lorentzian along the lay: lines have ends, a Gaussian would only have swellings.
        long = 1 / (1 + f2_x * np.float32((2 * np.pi * along_mm) ** 2 / 4))
        return np.asarray(long * np.exp(f2_y * np.float32(-2 * (np.pi * across_mm / 2.35) ** 2)), np.float32)

    return _shaped(generator, shape, step_mm, amplitude)


def grooves(
    generator: Generator,
    shape: Shape,
    step_mm: float,
    *,
    along_mm: float,
    coarsest_mm: float,
    hurst: float,
    spread: float = 0.0,
) -> FloatMap:
    """Return a ground or brushed surface: grooves of about that length along x, of every width across it.

    The profile across the lay is self-affine below `coarsest_mm` (Hurst exponent `hurst`), down to the grid's step: an
    abrasive has grains of all sizes, so no width stands out. `spread` is the tangent of the angle by which strokes
    differ from the lay: fine ones are the shorter for it.
    """
    shortest = np.float32((np.pi * along_mm) ** -2)

    def amplitude(f2_y: FloatMap, f2_x: FloatMap) -> FloatMap:
        across = (f2_y + np.float32(coarsest_mm**-2)) ** np.float32(-(0.5 + hurst) / 2)
        return np.asarray(across / (1 + f2_x / (shortest + np.float32(spread**2) * f2_y)), np.float32)

    return _shaped(generator, shape, step_mm, amplitude)


def craters(generator: Generator, shape: Shape, step_mm: float, *, size_mm: float, share: float = 0.75) -> FloatMap:
    """Return a spark-eroded surface: shallow craters side by side, with sharp crests between them.

    Each place lies on a bowl around the nearest of scattered points. `share` is the points' density, in points for each
    crater's area.
    """
    rows, columns = shape
    count = max(int(share * rows * columns * (step_mm / size_mm) ** 2), 1)
    free = np.ones(shape, np.bool_)
    free[generator.integers(0, rows, count), generator.integers(0, columns, count)] = False
    pad = min(int(3 * size_mm / step_mm), rows // 2, columns // 2)
    distance = ndimage.distance_transform_edt(np.pad(free, pad, mode="wrap"))
    bowl = np.asarray(distance[pad : pad + rows, pad : pad + columns], np.float32) ** 2
    ndimage.gaussian_filter(bowl, 0.12 * size_mm / step_mm, output=bowl, mode="wrap")
    return _unit(bowl)


def course(generator: Generator, count: int, grain: float) -> NDArray[np.float32]:
    """Return a smooth random course of `count` values whose neighbours go together over about `grain` of them."""
    noise = generator.standard_normal(count).astype(np.float32)
    if grain > 0:
        noise = ndimage.gaussian_filter1d(noise, grain, mode="wrap")
    return np.asarray(noise / max(float(noise.std()), 1e-6), np.float32)


def _shaped(
    generator: Generator, shape: Shape, step_mm: float, amplitude: Callable[[FloatMap, FloatMap], FloatMap]
) -> FloatMap:
    """Return noise whose amplitude spectrum is a function of the squared frequencies (1/mm^2) down and across."""
    rows, columns = fft.next_fast_len(shape[0], real=True), fft.next_fast_len(shape[1], real=True)
    f2_y = (fft.fftfreq(rows, step_mm) ** 2).astype(np.float32)[:, None]
    f2_x = (fft.rfftfreq(columns, step_mm) ** 2).astype(np.float32)[None, :]
    drawn = generator.standard_normal((rows, f2_x.shape[1], 2), np.float32)
    spectrum = drawn.view(np.complex64)[..., 0]
    spectrum *= amplitude(f2_y, f2_x)
    spectrum[0, 0] = 0
    return _unit(np.asarray(fft.irfft2(spectrum, s=(rows, columns)), np.float32))


def _unit(values: FloatMap) -> FloatMap:
    values -= values.mean()
    values /= values.std()
    return values


class Waves:
    """A smooth random field given everywhere: a sum of plane waves, so that it moves with what it is written for."""

    def __init__(self, generator: Generator, size_mm: float, count: int = 14) -> None:
        heading = generator.uniform(0, 2 * np.pi, count)
        frequency = np.abs(generator.normal(1, 0.35, count)) * 2.2 / size_mm
        self._x = (frequency * np.cos(heading)).astype(np.float32)
        self._y = (frequency * np.sin(heading)).astype(np.float32)
        self._phase = generator.uniform(0, 2 * np.pi, count).astype(np.float32)

    def at(self, x_mm: FloatMap, y_mm: FloatMap) -> FloatMap:
        """Return the field (H, W) float32, zero mean and about unit standard deviation."""
        total = np.zeros(np.broadcast_shapes(x_mm.shape, y_mm.shape), np.float32)
        for kx, ky, phase in zip(self._x, self._y, self._phase, strict=True):
            total += np.cos(kx * x_mm + ky * y_mm + phase)
        return total * np.float32(np.sqrt(2 / len(self._x)))
