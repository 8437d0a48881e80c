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
from numpy.typing import NDArray

from drivers.sim.render.lamps import Lamp, Source
from drivers.sim.render.shadow import Relief
from drivers.sim.render.workpiece import FloatMap, Workpiece

#: Samples worked on at once: the dozen maps of that size stay in the processor's cache.
_BAND = 1 << 14
_SMALLEST_ALPHA = 0.02
_SMALLEST_MASK = 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class Optics:
    """A workpiece made ready for any lamp: part and carrier as one surface. Maps (H', W') float32."""

    step_mm: float
    normal: tuple[FloatMap, FloatMap, FloatMap]
    lay: tuple[FloatMap, FloatMap, FloatMap] | None  # unit tangent along the lay
    diffuse: FloatMap  # albedo of what the lobe leaves over, by pi
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
    nz = slope_x * slope_x
    nz += slope_y * slope_y
    nz += 1
    np.sqrt(nz, out=nz)
    np.reciprocal(nz, out=nz)
    albedo = _mixed(np.clip(work.albedo, 0, 1), cover, carrier.albedo, bare)
    specular = _mixed(np.clip(work.specular, 0, 1), cover, carrier.specular, bare)
    along2 = _mixed(np.square(np.maximum(work.along, _SMALLEST_ALPHA)), cover, carrier.roughness**2, bare)
    across2 = along2
    lay = None
    if work.lay_rad is not None:
        across2 = _mixed(np.square(np.maximum(work.across, _SMALLEST_ALPHA)), cover, carrier.roughness**2, bare)
        cos, sin = np.cos(work.lay_rad), np.sin(work.lay_rad)
        rise = slope_x * cos
        rise += slope_y * sin
        norm = np.reciprocal(np.sqrt(1 + rise * rise))
        lay = (np.multiply(cos, norm, out=cos), np.multiply(sin, norm, out=sin), np.multiply(rise, norm, out=rise))
    albedo *= (1 - specular) * np.float32(1 / np.pi)
    slope_x *= -nz
    slope_y *= -nz
    return Optics(
        step_mm=work.step_mm,
        normal=(slope_x, slope_y, nz),
        lay=lay,
        diffuse=albedo,
        specular=specular,
        along2=along2,
        across2=across2,
        relief=relief,
    )


def _mixed(values: FloatMap, cover: FloatMap, beside: float, bare: FloatMap) -> FloatMap:
    """Return a map of the part where it is and the carrier's value where it is not; `values` is written over."""
    values *= cover
    values += np.float32(beside) * bare
    return values


def radiance(optics: Optics, lamp: Lamp, *, lobe: bool = True) -> FloatMap:
    """Return the radiance (H', W') float32 to the camera for unit irradiance at the centre, square to the light.

    A white Lambertian face under light from straight above has 1/pi. The lamp's cone is not in it. Without `lobe` the
    surface is Lambertian alone.
    """
    shape = optics.diffuse.shape
    out = np.zeros(shape, np.float32)
    sources = lamp.sources()
    size = optics.relief.oversampling
    lit = [optics.relief.lit(source) for source in sources]
    rows = max(1, _BAND // shape[1] // size) * size
    for top in range(0, shape[0], rows):
        band = slice(top, min(top + rows, shape[0]))
        view = _View(optics, band)
        coarse = slice(band.start // size, -(-band.stop // size))
        for source, visible in zip(sources, lit, strict=True):
            open_to = None if visible is None else visible[coarse]
            if open_to is not None and not open_to.any():
                continue
            share = view.under(source, _Light.of(source, shape, optics.step_mm, band), lobe)
            if open_to is not None and open_to.min() < 1:
                share *= np.repeat(np.repeat(open_to, size, axis=0), size, axis=1)[: share.shape[0], : share.shape[1]]
            out[band] += share
    return out


@dataclass(frozen=True, slots=True, eq=False)
class _Light:
    """A source as a band sees it: components (1, W'), (H', 1) and scalar of the way to it, which `near` makes a unit
    vector, and what depends on that vector alone. (H', W') for a near source, numbers for parallel light."""

    x: FloatMap | float
    y: FloatMap | float
    z: float
    near: FloatMap | float  # 1 / distance
    by_half: FloatMap | float  # half of 1 / (v.h), v.h = l.h the cosine of half the angle between light and camera
    fresnel: FloatMap | float  # (1 - v.h)^5; so small and even that a band has one row of it
    irradiance: FloatMap | float

    @classmethod
    def of(cls, source: Source, shape: tuple[int, ...], step_mm: float, band: slice) -> _Light:
        lx, ly, lz = source.toward
        if not np.isfinite(source.distance_mm):
            cosine = float(np.sqrt((1 + lz) / 2))
            return cls(lx, ly, lz, 1.0, 0.5 / cosine, (1 - cosine) ** 5, source.weight)
        distance = source.distance_mm
        x = distance * lx - (np.arange(shape[1]) + 0.5 - shape[1] / 2) * step_mm
        y = distance * ly - (np.arange(band.start, band.stop) + 0.5 - shape[0] / 2) * step_mm
        z = distance * lz
        # Exact in the band's first and last row and straight between: a band is thinner than a mm, a lamp 60 mm away.
        near = 1 / np.sqrt(x * x + (y[[0, -1]] ** 2)[:, None] + z * z)
        half = np.sqrt((1 + z * near) / 2)
        share = np.linspace(0, 1, len(y), dtype=np.float32)[:, None]
        return cls(
            x=x.astype(np.float32)[None, :],
            y=y.astype(np.float32)[:, None],
            z=z,
            near=_between(near, share),
            by_half=_between(0.5 / half, share),
            fresnel=((1 - half[:1]) ** 5).astype(np.float32),
            irradiance=_between(source.weight * (distance * near) ** 2, share),
        )

    def along(self, x: FloatMap, y: FloatMap, z: FloatMap) -> FloatMap:
        """Return the product of the unit vector to the source and another vector."""
        total = self.x * x
        total += self.y * y
        total += self.z * z
        total *= self.near
        return total


def _between(ends: NDArray[np.float64], share: FloatMap) -> FloatMap:
    """Return rows (H', W') float32 between two, (2, W')."""
    values: FloatMap = share * (ends[1:] - ends[:1]).astype(np.float32)
    values += ends[:1].astype(np.float32)
    return values


@dataclass(frozen=True, slots=True, eq=False)
class _Lobe:
    """What of the microfacet lobe no direction of light changes. `seen` is the camera's share of Smith's function."""

    seen: FloatMap
    top: FloatMap
    along2: FloatMap
    across2: FloatMap


class _View:
    """A band of rows, with everything that no source changes."""

    def __init__(self, optics: Optics, band: slice) -> None:
        self.normal = tuple(component[band] for component in optics.normal)
        self.lay = None if optics.lay is None else tuple(component[band] for component in optics.lay)
        self.diffuse, self.specular = optics.diffuse[band], optics.specular[band]
        self._along2, self._across2 = optics.along2[band], optics.across2[band]
        self._lobes: dict[float, _Lobe] = {}

    def under(self, source: Source, light: _Light, with_lobe: bool) -> FloatMap:
        """Return the radiance under one source: irradiance times n.l times (Lambert + D V F)."""
        toward = light.along(*self.normal)  # n.l
        if not with_lobe:
            np.maximum(toward, 0, out=toward)
            toward *= self.diffuse
            toward *= light.irradiance
            return toward
        up = toward + self.normal[2]
        up *= light.by_half  # n.h
        np.maximum(toward, 0, out=toward)
        if source.spread_rad not in self._lobes:
            self._lobes[source.spread_rad] = self._lobe(source.spread_rad)
        kept = self._lobes[source.spread_rad]
        shown = self._round(kept, toward, up) if self.lay is None else self._brushed(kept, light, toward, up)
        schlick = light.fresnel * (1 - self.specular)
        schlick += self.specular
        shown *= schlick
        shown += self.diffuse
        shown *= toward
        shown *= light.irradiance
        return shown

    def _lobe(self, spread_rad: float) -> _Lobe:
        widen = np.float32(spread_rad**2 / 2)
        along2, nz = self._along2 + widen, self.normal[2]
        if self.lay is None:
            seen = np.sqrt(nz * nz * (1 - along2) + along2)
            return _Lobe(seen, along2 * np.float32(0.5 / np.pi), along2, along2)
        across2, rise = self._across2 + widen, self.lay[2]
        view_across2 = np.maximum(1 - nz * nz - rise * rise, 0)
        seen = np.sqrt(along2 * rise * rise + across2 * view_across2 + nz * nz)
        top = np.asarray(np.float32(0.5 / np.pi) / np.sqrt(along2 * across2), np.float32)
        return _Lobe(seen, top, along2, across2)

    def _round(self, kept: _Lobe, toward: FloatMap, up: FloatMap) -> FloatMap:
        # D V with V = G / (4 n.l n.v) = 1 / (2 (..)); a face turned away is multiplied by n.l = 0 afterwards.
        core = np.square(up, out=up)
        core *= kept.along2 - 1
        core += 1
        core *= core
        seen = toward * toward
        seen *= 1 - kept.along2
        seen += kept.along2
        return self._over(kept, core, seen, toward)

    def _brushed(self, kept: _Lobe, light: _Light, toward: FloatMap, up: FloatMap) -> FloatMap:
        assert self.lay is not None  # noqa: S101 (the caller asked)
        light_along = light.along(*self.lay)
        half_along2 = light_along + self.lay[2]
        half_along2 *= light.by_half
        np.square(half_along2, out=half_along2)
        core = np.square(up, out=up)
        across = 1 - core
        across -= half_along2
        np.maximum(across, 0, out=across)
        across /= kept.across2
        half_along2 /= kept.along2
        core += across
        core += half_along2
        core *= core
        light_along2 = np.square(light_along, out=light_along)
        seen = toward * toward
        across = 1 - seen
        across -= light_along2
        np.maximum(across, 0, out=across)
        across *= kept.across2
        light_along2 *= kept.along2
        seen += across
        seen += light_along2
        return self._over(kept, core, seen, toward)

    def _over(self, kept: _Lobe, core: FloatMap, seen: FloatMap, toward: FloatMap) -> FloatMap:
        """Return D V; `core` is D's denominator, `seen` the square of the light's share of Smith's function."""
        np.sqrt(seen, out=seen)
        seen *= self.normal[2]
        seen += toward * kept.seen
        np.maximum(seen, _SMALLEST_MASK, out=seen)
        core *= seen
        return np.divide(kept.top, core, out=core)
