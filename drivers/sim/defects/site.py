"""Where a defect is made, and the tools that all defects share: windows, courses and what lies beneath the skin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell.defects import Mask
from drivers.sim.render.workpiece import Canvas, FloatMap, Workpiece, cover_of

Generator = np.random.Generator
Window = tuple[slice, slice]
Path = NDArray[np.float64]
Parameters = dict[str, float]


@dataclass(frozen=True, slots=True)
class Material:
    """A material below a part's skin, which comes to light where the skin is gone."""

    albedo: float
    specular: float
    roughness: float


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """A place on a part. `outward_rad` points off the part at a rim, and is any direction on a face."""

    work: Workpiece
    canvas: Canvas
    u: float  # mm
    v: float
    outward_rad: float
    beneath: Material

    def window(self, radius_mm: float) -> Window:
        """Return the grid around the place."""
        return self.canvas.window(self.u, self.v, radius_mm)

    def local(self, window: Window) -> tuple[FloatMap, FloatMap]:
        """Return (x, y) in mm from the place, along the part's axes, on a window."""
        return self.canvas.u[window] - np.float32(self.u), self.canvas.v[window] - np.float32(self.v)

    def at_rim(self, window: Window) -> tuple[FloatMap, FloatMap]:
        """Return (along, outward) in mm: distance from the place along the rim, and off the part."""
        x, y = self.local(window)
        cos, sin = np.float32(np.cos(self.outward_rad)), np.float32(np.sin(self.outward_rad))
        return np.asarray(cos * y - sin * x, np.float32), np.asarray(cos * x + sin * y, np.float32)

    def reveal(self, window: Window, share: FloatMap, material: Material | None = None) -> None:
        """Let a share [0, 1] of each sample show another material, that beneath the skin unless one is given."""
        shown = material or self.beneath
        work = self.work
        for values, target in (
            (work.albedo, shown.albedo),
            (work.specular, shown.specular),
            (work.along, shown.roughness),
            (work.across, shown.roughness),
        ):
            values[window] += share * (np.float32(target) - values[window])
            if work.along is work.across and values is work.along:
                break

    def smear(self, window: Window, share: FloatMap, reach_mm: float) -> None:
        """Let a share [0, 1] of the texture be pressed or ploughed flat over `reach_mm`; the part's shape stays."""
        height = self.work.height_um[window]
        if height.size:
            even = ndimage.gaussian_filter(height, reach_mm / self.canvas.step_mm, mode="nearest", truncate=3.0)
            height += share * (even - height)

    def scale(self, window: Window, *, albedo: FloatMap | None = None, roughness: FloatMap | None = None) -> None:
        """Multiply diffuse reflectance and roughness by maps on a window."""
        work = self.work
        if albedo is not None:
            work.albedo[window] *= albedo
        if roughness is not None:
            work.along[window] *= roughness
            if work.across is not work.along:
                work.across[window] *= roughness


@dataclass(frozen=True, slots=True, eq=False)
class Stroke:
    """A path as it lies on the grid: distance from it in mm, place along it in [0, 1], +1 or -1 by side."""

    window: Window
    distance: FloatMap
    along: FloatMap
    side: FloatMap


def stroke(canvas: Canvas, path: Path, reach_mm: float) -> Stroke:
    """Lay a path (N, 2) of (u, v) in mm on the grid; farther than `reach_mm` from it, the distance is only 'far'."""
    row, column = canvas.to_grid(path[:, 0], path[:, 1])
    reach = int(np.ceil(reach_mm / canvas.step_mm)) + 1
    fine = _resampled(np.stack([row, column], axis=1), 0.5)
    low = np.clip(np.floor(fine.min(axis=0)).astype(int) - reach, 0, np.array(canvas.shape))
    high = np.clip(np.ceil(fine.max(axis=0)).astype(int) + reach + 1, 0, np.array(canvas.shape))
    high = np.maximum(high, low)
    window = (slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1])))
    size = tuple(int(n) for n in high - low)
    distance, along, side = np.full(size, 1e3, np.float32), np.zeros(size, np.float32), np.ones(size, np.float32)
    if min(size) == 0:
        return Stroke(window, distance, along, side)
    y, x = (axis.ravel() for axis in np.mgrid[-reach : reach + 1, -reach : reach + 1])
    nearest = np.rint(fine).astype(int)
    rows, columns = nearest[:, :1] + y - low[0], nearest[:, 1:] + x - low[1]
    inside = (rows >= 0) & (columns >= 0) & (rows < size[0]) & (columns < size[1])
    dy, dx = rows + low[0] - fine[:, :1], columns + low[1] - fine[:, 1:]
    squared = dy * dy + dx * dx
    heading = np.gradient(fine, axis=0)
    turn = np.sign(heading[:, 1:] * dy - heading[:, :1] * dx)
    place = np.broadcast_to(np.linspace(0, 1, len(fine))[:, None], squared.shape)
    order = np.argsort(-squared[inside], kind="stable")  # the nearest is written last
    target = (rows[inside][order], columns[inside][order])
    distance[target] = np.sqrt(squared[inside][order]) * canvas.step_mm
    along[target] = place[inside][order]
    side[target] = turn[inside][order]
    return Stroke(window, distance, along, side)


def _resampled(points: Path, spacing: float) -> Path:
    lengths = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    even = np.linspace(0, lengths[-1], max(int(lengths[-1] / spacing), 2))
    return np.stack([np.interp(even, lengths, points[:, axis]) for axis in range(2)], axis=1)


def bent(generator: Generator, site: Site, length_mm: float, heading_rad: float, bend: float) -> Path:
    """Return a smooth path (N, 2) through the place, its direction changing by about `bend` rad over its length."""
    steps = np.linspace(-0.5, 0.5, 160)
    curve = generator.normal(0, bend) * steps + generator.normal(0, bend) * 4 * (steps**2 - 1 / 12)
    heading = heading_rad + curve
    moved = np.stack([np.cumsum(np.cos(heading)), np.cumsum(np.sin(heading))], axis=1) * (length_mm / 160)
    path: Path = moved - moved[80] + np.array([site.u, site.v])
    return path


def jagged(generator: Generator, start: Path, heading_rad: float, length_mm: float, turn: float) -> Path:
    """Return a path that zigzags about a direction, as cracks do along grain boundaries."""
    pieces = max(int(length_mm / 0.06), 4)
    wander = ndimage.gaussian_filter1d(generator.normal(0, 1, pieces), 0.9) * turn
    drift = ndimage.gaussian_filter1d(generator.normal(0, 1, pieces), 8) * turn
    heading = heading_rad + wander + drift
    moves = np.stack([np.cos(heading), np.sin(heading)], axis=1) * (length_mm / pieces)
    path: Path = start + np.concatenate([np.zeros((1, 2)), np.cumsum(moves, axis=0)])
    return path


class Ragged:
    """A closed outline: a circle, stretched and turned, with harmonics that get smaller as they get finer; few and even
    ones would make it a polygon or a flower."""

    def __init__(self, generator: Generator, radius_mm: float, roughness: float, stretch: float = 1.0) -> None:
        orders = np.arange(2, 22)
        self.radius_mm = radius_mm
        self._stretch = float(np.sqrt(stretch))
        self._turn = float(generator.uniform(0, np.pi))
        self._orders = orders
        self._sizes = 2.2 * roughness * generator.standard_normal(len(orders)) / orders**1.25
        self._phases = generator.uniform(0, 2 * np.pi, len(orders))

    def ratio(self, x: FloatMap, y: FloatMap) -> FloatMap:
        """Return the distance from the middle relative to the outline's there: 1 on it, 0 in the middle."""
        cos, sin = np.float32(np.cos(self._turn)), np.float32(np.sin(self._turn))
        a, b = (cos * x + sin * y) * np.float32(self._stretch), (cos * y - sin * x) / np.float32(self._stretch)
        angle = np.arctan2(b, a)
        edge = np.ones(np.broadcast_shapes(x.shape, y.shape), np.float32)
        for order, size, phase in zip(self._orders, self._sizes, self._phases, strict=True):
            edge += np.float32(size) * np.cos(np.float32(order) * angle + np.float32(phase))
        return np.asarray(np.hypot(a, b) / (np.float32(self.radius_mm) * np.maximum(edge, 0.3)), np.float32)


def smooth_step(values: FloatMap) -> FloatMap:
    """Return 0 below 0, 1 above 1 and a smooth course between."""
    t = np.clip(values, 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def recover_outline(site: Site, window: Window) -> None:
    """Work the cover out again after the distance to the outline was changed."""
    site.work.cover[window] = cover_of(site.work.inside_mm[window], site.canvas.step_mm)


#: Below these a change is not a defect that a camera could see: um, slope, and shares of the value before.
_HEIGHT_UM, _SLOPE, _ALBEDO, _SPECULAR, _ROUGHNESS = 0.6, 0.012, 0.04, 0.05, 0.08


def changed(before: Workpiece, after: Workpiece, oversampling: int) -> Mask:
    """Return where two states of a part differ, (H, W) bool in pixels of the picture.

    A height counts above a tenth of the largest change (and 0.6 um), a slope above 0.012 and a twelfth of the largest,
    diffuse reflectance, specular reflectance and roughness above 4, 5 and 8 %, and the outline where a tenth of a pixel
    was won or lost. A place that the part covers neither before nor after does not count.
    """
    rows, columns = (size // oversampling for size in before.cover.shape)
    mask: Mask = np.zeros((rows, columns), np.bool_)
    window = _touched(before, after, oversampling)
    if window is None:
        return mask
    fine = _differs(before.cut(window), after.cut(window))
    near = fine.reshape(fine.shape[0] // oversampling, oversampling, -1, oversampling).any(axis=(1, 3))
    # Slopes vanish at the bottom of a dent and on the crest of a bulge; the defect goes on there.
    closed = ndimage.binary_fill_holes(ndimage.binary_closing(np.pad(near, 3), iterations=2))[3:-3, 3:-3]
    place = tuple(slice(edge.start // oversampling, edge.stop // oversampling) for edge in window)
    mask[place] = closed if closed.sum() <= 2.5 * max(int(near.sum()), 1) else near
    return mask


def _touched(before: Workpiece, after: Workpiece, oversampling: int) -> Window | None:
    """Return whole pixels around all that is not the same in two states; None when nothing is."""
    rows, columns = np.zeros(before.cover.shape[0], np.bool_), np.zeros(before.cover.shape[1], np.bool_)
    for name in ("height_um", "albedo", "specular", "along", "across", "cover"):
        other = getattr(before, name) != getattr(after, name)
        rows |= other.any(axis=1)
        columns |= other.any(axis=0)
    if not rows.any():
        return None
    edges = []
    for line in (rows, columns):
        found = np.flatnonzero(line)
        margin = 4 * oversampling
        low, high = max(int(found[0]) - margin, 0), min(int(found[-1]) + 1 + margin, len(line))
        edges.append(slice(low - low % oversampling, min(high + -high % oversampling, len(line))))
    return edges[0], edges[1]


def _differs(before: Workpiece, after: Workpiece) -> Mask:
    there = (before.cover > 0.05) | (after.cover > 0.05)
    height = np.abs(after.height_um - before.height_um)
    fine: Mask = height > max(_HEIGHT_UM, 0.1 * float(height[there].max(initial=0)))
    slope = np.hypot(*(new - old for new, old in zip(after.slopes(), before.slopes(), strict=True)))
    fine |= slope > min(max(_SLOPE, 0.08 * float(slope[there].max(initial=0))), 0.05)
    pairs = (("albedo", _ALBEDO), ("specular", _SPECULAR), ("along", _ROUGHNESS), ("across", _ROUGHNESS))
    for name, share in pairs:
        old, new = getattr(before, name), getattr(after, name)
        fine |= np.abs(new - old) > share * np.maximum(old, np.float32(0.02))
    fine &= there
    fine |= np.abs(after.cover - before.cover) > 0.4
    return fine
