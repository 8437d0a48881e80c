"""From a height field to what each light shows of it: normals, Lambert and Blinn shading, lens blur."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

FloatMap = NDArray[np.float32]

_Shape = tuple[int, int]


@dataclass(slots=True, eq=False)
class Surface:
    """The physics of one part. All maps are (H, W) float32; heights are in pixel widths."""

    height: FloatMap
    albedo: FloatMap  # diffuse reflectance in [0, 1]
    gloss: FloatMap  # weight of the specular lobe, 0 for matt

    @property
    def size(self) -> _Shape:
        """(H, W)."""
        return int(self.height.shape[0]), int(self.height.shape[1])


@dataclass(frozen=True, slots=True)
class DirectionalLight:
    """A bar light far enough away to be parallel, whose brightness falls off over the field."""

    azimuth_deg: float  # 0 is right, 90 is up in the image
    elevation_deg: float = 35.0
    falloff: float = 0.18  # relative drop from the near to the far edge of the field

    def direction(self) -> NDArray[np.float64]:
        """Unit vector to the light in image axes: x right, y down, z to the camera."""
        azimuth, elevation = np.deg2rad(self.azimuth_deg), np.deg2rad(self.elevation_deg)
        return np.array([np.cos(elevation) * np.cos(azimuth), -np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])

    def profile(self, height: int, width: int) -> FloatMap:
        """Relative illumination (H, W) float32 with mean 1."""
        x = np.linspace(-0.5, 0.5, width, dtype=np.float32)[None, :]
        y = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None]
        direction = self.direction()
        along = (x * direction[0] + y * direction[1]) / np.hypot(direction[0], direction[1])
        profile = 1 + np.float32(self.falloff) * along - np.float32(0.10) * (x * x + y * y - 1 / 6)
        return np.asarray(profile / profile.mean(), np.float32)


def shade(surface: Surface, lights: tuple[DirectionalLight, ...], shininess: float, psf_sigma_px: float) -> FloatMap:
    """Return the radiance (L, H, W) float32 that the camera sees under each light alone.

    Lambert's cosine law plus the lobe of Blinn (1977) with half vector h = (l + v)/|l + v|, the camera straight above;
    both parts of one normal field, so that a defect looks under every light as one body does. Light is additive: what
    several lines show together is the sum.
    """
    slope_y, slope_x = (np.asarray(slope, np.float32) for slope in np.gradient(surface.height))
    normal_z = np.asarray(1 / np.sqrt(1 + slope_x * slope_x + slope_y * slope_y), np.float32)
    out = np.empty((len(lights), *surface.height.shape), np.float32)
    for index, light in enumerate(lights):
        direction = light.direction().astype(np.float32)
        half = direction + np.array([0, 0, 1], np.float32)
        half /= np.linalg.norm(half)
        diffuse = _cosine(direction, slope_x, slope_y, normal_z)
        lobe = _power(_cosine(half, slope_x, slope_y, normal_z), shininess)
        radiance = surface.albedo * diffuse + surface.gloss * lobe
        radiance *= light.profile(*surface.size)
        if psf_sigma_px > 0:
            ndimage.gaussian_filter(radiance, psf_sigma_px, output=radiance, truncate=3.0, mode="nearest")
        out[index] = radiance
    return out


def _cosine(direction: FloatMap, slope_x: FloatMap, slope_y: FloatMap, normal_z: FloatMap) -> FloatMap:
    # The unnormalised normal of z(x, y) is (-dz/dx, -dz/dy, 1).
    cosine = (direction[2] - direction[0] * slope_x - direction[1] * slope_y) * normal_z
    return np.asarray(np.maximum(cosine, 0), np.float32)


def _power(base: FloatMap, exponent: float) -> FloatMap:
    # exp(n log x) is several times faster than x ** n for float32.
    return np.asarray(np.exp(np.float32(exponent) * np.log(np.maximum(base, 1e-6))), np.float32)


def brushed(generator: np.random.Generator, height: int, width: int, along_px: float, across_px: float) -> FloatMap:
    """Return a machined texture (H, W) float32 of unit standard deviation, its lay along x."""
    noise = generator.standard_normal((height, width), np.float32)
    ndimage.uniform_filter1d(noise, int(along_px), axis=1, output=noise, mode="wrap")
    ndimage.gaussian_filter1d(noise, across_px, axis=0, output=noise, mode="wrap", truncate=3.0)
    noise -= noise.mean()
    return np.asarray(noise / noise.std(), np.float32)


def cloudy(generator: np.random.Generator, height: int, width: int, size_px: int) -> FloatMap:
    """Return a smooth random field (H, W) float32 of unit standard deviation and the given grain."""
    rows, columns = height // size_px + 4, width // size_px + 4
    coarse = generator.standard_normal((rows, columns), np.float32)
    grid_y = np.linspace(1, rows - 3, height, dtype=np.float32)
    grid_x = np.linspace(1, columns - 3, width, dtype=np.float32)
    field = _cubic_rows(_cubic_rows(coarse, grid_y).T, grid_x).T
    return np.asarray(field / field.std(), np.float32)


def _cubic_rows(values: FloatMap, position: FloatMap) -> FloatMap:
    # Uniform cubic B-spline along the first axis: smooth, and far cheaper than blurring at full size.
    index = position.astype(np.intp)
    t = (position - index)[:, None]
    weights = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    terms = (weight * values[index + shift] for weight, shift in zip(weights, (-1, 0, 1, 2), strict=True))
    return np.asarray(sum(terms) / 6, np.float32)
