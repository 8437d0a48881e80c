"""Lamps: where their light comes from, and how it is spread over the field.

A lamp of finite size is a handful of point sources (quadrature). Each stands for a patch of the lamp; the patch's
angular size is given to the roughness of what it lights (`drivers.sim.render.reflection`), so that a few points show
one highlight and not several.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from cell.errors import ConfigurationError
from drivers.sim.render.workpiece import FloatMap

#: Shadows that are worked out for each point of a bar.
_SHADOWS = 3


class LampKind(StrEnum):
    """The illuminations that machine vision knows."""

    BAR = "az"  # directional, 35 degrees above the part
    LOW = "low"  # a bar at grazing incidence: dark field from one side
    RING = "ring"  # dark field from all sides
    COAX = "coax"  # bright field through a beam splitter
    DOME = "dome"  # diffuse from above, with the hole that the camera looks through


@dataclass(frozen=True, slots=True)
class Source:
    """One point of a lamp. `weight` is its share of the irradiance at the field's centre, taken square to the light."""

    toward: tuple[float, float, float]  # unit vector from the field's centre
    distance_mm: float  # infinite: parallel light
    weight: float
    spread_rad: float  # standard deviation of the directions that it stands for
    #: Directions across its patch, whose shadows together have the patch's soft edge; empty: the source's own alone.
    across: tuple[tuple[float, float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Lamp:
    """One light line of the cell."""

    name: str
    kind: LampKind
    azimuth_deg: float = 0.0  # 0 is right, 90 is up in the picture
    elevation_deg: float = 35.0
    distance_mm: float = 120.0
    length_mm: float = 60.0  # of a bar
    beam_mm: float = 26.0  # half width of its light cone on the part
    aim_mm: tuple[float, float] = (0.0, 0.0)  # where the cone's middle meets the part

    def toward(self) -> NDArray[np.float64]:
        """Unit vector to the lamp's middle in image axes: x right, y down, z to the camera."""
        return _direction(self.azimuth_deg, self.elevation_deg)

    def sources(self) -> tuple[Source, ...]:
        """Return the points that stand for the lamp; their weights add up to 1."""
        if self.kind in {LampKind.BAR, LampKind.LOW}:
            return self._bar()
        if self.kind is LampKind.RING:
            return _circle(self.elevation_deg, 16, self.distance_mm, 1.0, spread_rad=0.14)
        if self.kind is LampKind.COAX:
            inner = _circle(87.6, 5, np.inf, 0.45, spread_rad=0.03)
            return (*inner, *_circle(84.5, 7, np.inf, 0.55, spread_rad=0.03))
        return _dome()

    def profile(self, x_mm: FloatMap, y_mm: FloatMap) -> FloatMap:
        """Return the light cone (H, W) float32 on the field, 1 where it is aimed."""
        away = (x_mm - self.aim_mm[0]) ** 2 + (y_mm - self.aim_mm[1]) ** 2
        return np.asarray(np.exp(-away / np.float32(2 * self.beam_mm**2)), np.float32)

    def _bar(self) -> tuple[Source, ...]:
        middle = self.toward() * self.distance_mm
        azimuth = np.deg2rad(self.azimuth_deg)
        along = np.array([-np.sin(azimuth), -np.cos(azimuth), 0.0])
        points = 3
        width = self.length_mm / points
        offsets = (np.arange(points) - (points - 1) / 2) * width
        spread = float(np.arctan(width / self.distance_mm) / np.sqrt(12))
        patches = (np.arange(_SHADOWS) - (_SHADOWS - 1) / 2) * width / _SHADOWS
        return tuple(
            Source(
                toward=_unit(middle + offset * along),
                distance_mm=float(np.linalg.norm(middle + offset * along)),
                weight=1 / points,
                spread_rad=spread,
                across=tuple(_unit(middle + (offset + aside) * along) for aside in patches),
            )
            for offset in offsets
        )


def _unit(place: NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = place / np.linalg.norm(place)
    return float(x), float(y), float(z)


def _circle(
    elevation_deg: float, count: int, distance_mm: float, weight: float, spread_rad: float, turn_deg: float = 0.0
) -> tuple[Source, ...]:
    found = []
    for index in range(count):
        toward = _unit(_direction(turn_deg + 360 / count * (index + 0.5), elevation_deg))
        found.append(Source(toward, distance_mm, weight / count, spread_rad))
    return tuple(found)


def _dome() -> tuple[Source, ...]:
    """A hemisphere of even radiance from 12 to 80 degrees of elevation: four rings of patches of like size."""
    # The lowest are few for how far they stand apart: what mirrors the dome's rim would show each of them.
    rings = ((20.0, 10, 0.32), (37.0, 9, 0.16), (54.0, 7, 0.16), (71.0, 5, 0.16))
    solid = [np.cos(np.deg2rad(elevation)) for elevation, *_ in rings]
    return tuple(
        source
        for index, (elevation, count, spread) in enumerate(rings)
        for source in _circle(elevation, count, np.inf, float(solid[index] / sum(solid)), spread, turn_deg=11.0 * index)
    )


def _direction(azimuth_deg: float, elevation_deg: float) -> NDArray[np.float64]:
    azimuth, elevation = np.deg2rad(azimuth_deg), np.deg2rad(elevation_deg)
    return np.array([np.cos(elevation) * np.cos(azimuth), -np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])


_ITEM = re.compile(r"(\d{1,2})(low)?|ring|coax|dome")


def rig(description: str) -> tuple[Lamp, ...]:
    """Return the lamps of a description such as ``4``, ``8``, ``4+ring+coax`` or ``6low+dome``.

    A number stands for that many bars evenly around the part (``az000`` and so on), with ``low`` at grazing incidence
    (``low000``); the other words are lamps of that name. Raises `ConfigurationError`.
    """
    lamps: list[Lamp] = []
    for item in description.split("+"):
        match = _ITEM.fullmatch(item)
        if match is None or match[1] == "0":
            raise ConfigurationError(
                f"{description!r} describes no lights; join numbers of bars (4, 4low), ring, coax and dome by +"
            )
        if match[1] is None:
            lamps.append(_single(LampKind(item)))
        else:
            lamps += _bars(int(match[1]), LampKind.LOW if match[2] else LampKind.BAR)
    names = [lamp.name for lamp in lamps]
    if len(set(names)) < len(names) or len(names) > 32:
        raise ConfigurationError(f"the lights {description!r} are more than 32 or name a lamp twice; name each once")
    return tuple(lamps)


def _bars(count: int, kind: LampKind) -> list[Lamp]:
    # Nobody aims a lamp to the millimetre: each cone meets the part a little beside the middle, toward its lamp.
    low = kind is LampKind.LOW
    lamps = []
    for index in range(count):
        azimuth = 360 / count * index
        aside = 2.5 + 1.5 * np.sin(2.4 * index + 1)
        aim = (float(aside * np.cos(np.deg2rad(azimuth + 20))), float(-aside * np.sin(np.deg2rad(azimuth + 20))))
        lamps.append(
            Lamp(
                name=f"{kind.value}{round(azimuth):03d}",
                kind=kind,
                azimuth_deg=azimuth,
                elevation_deg=14.0 if low else 35.0,
                distance_mm=80.0 if low else 120.0,
                length_mm=40.0 if low else 60.0,
                aim_mm=aim,
            )
        )
    return lamps


def _single(kind: LampKind) -> Lamp:
    if kind is LampKind.RING:
        return Lamp("ring", kind, elevation_deg=15.0, distance_mm=60.0, beam_mm=30.0)
    if kind is LampKind.COAX:
        return Lamp("coax", kind, elevation_deg=90.0, distance_mm=np.inf, beam_mm=20.0, aim_mm=(0.6, -0.4))
    return Lamp("dome", kind, elevation_deg=90.0, distance_mm=np.inf, beam_mm=40.0, aim_mm=(-0.5, 0.8))
