"""What a surface sends to the camera under one lamp: Lambert plus an anisotropic microfacet lobe.

The lobe is Cook and Torrance's with GGX facets (Walter et al., EGSR 2007; anisotropic: Burley 2012),
Smith's height-correlated shadowing and masking (Heitz, JCGT 3, 2014) and Schlick's Fresnel term. One bounce:
interreflection is left out. The patch of a lamp that a source stands for widens the lobe: the half vector moves by half
the light's angle, and GGX of roughness alpha has a Gaussian-like core of slope variance alpha^2/2 per axis, so a spread
of s adds s^2/2 to alpha^2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drivers.sim.render.lamps import Lamp, Source
from drivers.sim.render.shadow import Relief
from drivers.sim.render.workpiece import FloatMap, Workpiece

#: Samples worked on at once: the dozen maps of that size stay in the processor's cache.
_BAND = 1 << 15
_SMALLEST_ALPHA = 0.02
_Light = tuple[FloatMap | float, FloatMap | float, FloatMap | float, FloatMap | float]


@dataclass(frozen=True, slots=True, eq=False)
class Optics:
    """A workpiece made ready for any lamp: part and carrier as one surface. Maps (H', W') float32."""

    step_mm: float
    normal: tuple[FloatMap, FloatMap, FloatMap]
    lay: tuple[FloatMap, FloatMap, FloatMap] | None  # unit tangent along the lay
    diffuse: FloatMap  # albedo of what the lobe leaves over
    specular: FloatMap
    along2: FloatMap  # alpha squared
    across2: FloatMap
    relief: Relief


def prepare(work: Workpiece, relief: Relief) -> Optics:
    """Turn a part's maps into what :func:`radiance` needs."""
    slope_x, slope_y = work.slopes()
    cover, bare = work.cover, 1 - work.cover
    carrier = work.carrier
    slope_x *= cover
    slope_y *= cover
    nz = np.asarray(1 / np.sqrt(1 + slope_x * slope_x + slope_y * slope_y), np.float32)
    albedo = np.clip(work.albedo, 0, 1) * cover + np.float32(carrier.albedo) * bare
    specular = np.clip(work.specular, 0, 1) * cover + np.float32(carrier.specular) * bare
    rough2 = np.float32(carrier.roughness**2) * bare
    along2 = np.square(np.maximum(work.along, _SMALLEST_ALPHA)) * cover + rough2
    across2 = along2
    lay = None
    if work.lay_rad is not None:
        across2 = np.square(np.maximum(work.across, _SMALLEST_ALPHA)) * cover + rough2
        cos, sin = np.cos(work.lay_rad), np.sin(work.lay_rad)
        rise = slope_x * cos + slope_y * sin
        norm = 1 / np.sqrt(1 + rise * rise)
        lay = (cos * norm, sin * norm, rise * norm)
    return Optics(
        step_mm=work.step_mm,
        normal=(-slope_x * nz, -slope_y * nz, nz),
        lay=lay,
        diffuse=albedo * (1 - specular),
        specular=specular,
        along2=along2,
        across2=across2,
        relief=relief,
    )


def radiance(optics: Optics, lamp: Lamp, *, lobe: bool = True) -> FloatMap:
    """Return the radiance (H', W') float32 to the camera for unit irradiance at the centre, square to the light.

    A white Lambertian face under light from straight above has 1/pi. The lamp's cone is not in it. Without `lobe` the
    surface is Lambertian alone.
    """
    shape = optics.diffuse.shape
    out = np.zeros(shape, np.float32)
    sources = lamp.sources()
    lit = [optics.relief.lit(source) for source in sources]
    rows = max(1, _BAND // shape[1])
    for top in range(0, shape[0], rows):
        band = slice(top, min(top + rows, shape[0]))
        view = _View.of(optics, band)
        for source, visible in zip(sources, lit, strict=True):
            share = view.under(source, _light(source, shape, optics.step_mm, band), lobe)
            if visible is not None:
                share *= visible[band]
            out[band] += share
    return out


def _light(source: Source, shape: tuple[int, ...], step_mm: float, band: slice) -> _Light:
    """Return the unit vector to a source from each sample of a band, and the irradiance there."""
    lx, ly, lz = source.toward
    if not np.isfinite(source.distance_mm):
        return lx, ly, lz, source.weight
    distance = source.distance_mm
    x = ((np.arange(shape[1]) + 0.5 - shape[1] / 2) * step_mm).astype(np.float32)[None, :]
    y = ((np.arange(band.start, band.stop) + 0.5 - shape[0] / 2) * step_mm).astype(np.float32)[:, None]
    dx, dy, dz = distance * lx - x, distance * ly - y, distance * lz
    near = np.asarray(1 / np.sqrt(dx * dx + (dy * dy + dz * dz)), np.float32)
    return dx * near, dy * near, dz * near, np.asarray(source.weight * np.square(distance * near), np.float32)


@dataclass(slots=True, eq=False)
class _View:
    """A band of rows, with everything that no source changes."""

    nx: FloatMap
    ny: FloatMap
    nz: FloatMap
    lay: tuple[FloatMap, FloatMap, FloatMap] | None
    diffuse: FloatMap
    specular: FloatMap
    along2: FloatMap
    across2: FloatMap

    @classmethod
    def of(cls, optics: Optics, band: slice) -> _View:
        nx, ny, nz = (component[band] for component in optics.normal)
        lay = None
        if optics.lay is not None:
            tx, ty, tz = (component[band] for component in optics.lay)
            lay = (tx, ty, tz)
        diffuse = optics.diffuse[band] * np.float32(1 / np.pi)
        return cls(nx, ny, nz, lay, diffuse, optics.specular[band], optics.along2[band], optics.across2[band])

    def under(self, source: Source, light: _Light, with_lobe: bool) -> FloatMap:
        """Return the radiance under one source: irradiance times n.l times (Lambert + D V F)."""
        lx, ly, lz, irradiance = light
        toward = lx * self.nx + ly * self.ny + lz * self.nz  # n.l
        if not with_lobe:
            np.maximum(toward, 0, out=toward)
            return np.asarray(toward * self.diffuse * irradiance, np.float32)
        half = np.sqrt((1 + lz) * 0.5)  # v.h = l.h, the cosine of half the angle between light and camera
        up = (toward + self.nz) * (0.5 / half)  # n.h
        np.maximum(toward, 0, out=toward)
        widen = np.float32(source.spread_rad**2 / 2)
        if self.lay is None:
            lobe = self._round(toward, up, self.along2 + widen)
        else:
            lobe = self._brushed((lx, ly, lz), half, toward, up, widen)
        fresnel = (1 - half) ** 5
        lobe *= self.specular * (1 - fresnel) + fresnel
        lobe += self.diffuse
        lobe *= toward
        lobe *= irradiance
        return lobe

    def _round(self, toward: FloatMap, up: FloatMap, alpha2: FloatMap) -> FloatMap:
        core = up * up * (alpha2 - 1) + 1
        distribution = alpha2 / (core * core)
        rest = 1 - alpha2
        seen = toward * np.sqrt(self.nz * self.nz * rest + alpha2)
        seen += self.nz * np.sqrt(toward * toward * rest + alpha2)
        # D V with V = G / (4 n.l n.v) = 1 / (2 (..)); a face turned away is multiplied by n.l = 0 afterwards.
        return np.asarray(distribution * np.float32(0.5 / np.pi) / np.maximum(seen, 1e-4), np.float32)

    def _brushed(
        self,
        light: tuple[FloatMap | float, FloatMap | float, FloatMap | float],
        half: FloatMap | float,
        toward: FloatMap,
        up: FloatMap,
        widen: np.float32,
    ) -> FloatMap:
        assert self.lay is not None  # noqa: S101 (the caller asked)
        tx, ty, tz = self.lay
        along2, across2 = self.along2 + widen, self.across2 + widen
        light_along = light[0] * tx + light[1] * ty + light[2] * tz
        half_along = (light_along + tz) * (0.5 / half)
        half_across2 = np.maximum(1 - up * up - half_along * half_along, 0)
        core = half_along * half_along / along2 + half_across2 / across2 + up * up
        distribution = 1 / (np.sqrt(along2 * across2) * core * core)
        light_across2 = np.maximum(1 - toward * toward - light_along * light_along, 0)
        view_across2 = np.maximum(1 - self.nz * self.nz - tz * tz, 0)
        seen = toward * np.sqrt(along2 * tz * tz + across2 * view_across2 + self.nz * self.nz)
        seen += self.nz * np.sqrt(along2 * light_along * light_along + across2 * light_across2 + toward * toward)
        return np.asarray(distribution * np.float32(0.5 / np.pi) / np.maximum(seen, 1e-4), np.float32)
