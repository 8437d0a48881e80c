"""What the seeds of a class look like: their log contrast, and its mean course from the edge to the middle.

People mark defects generously, so the outline is first drawn in to what stands out. The course (contrast against depth
below the outline) is what the procedural arm renders and what the diffusion arm is told; what the course leaves over is
texture, of which the spectrum is kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal

from cell.defects import Mask
from cell.frames import Stack
from cell.imaging import contrast, noise
from cell.imaging.contrast import Maps
from trainer.generate.base import Scene, SeedSample, Shape
from trainer.generate.flank import BINS, Slopes, depth_of, flank_of, lit, slopes_of
from trainer.generate.plan import Outline, outline_of, signed_distance
from trainer.generate.relief import Relief, relief_of
from trainer.generate.streaks import Streaks, streaks_of
from trainer.generate.usual_light import light_under, usual_light

_MARGIN = 12
#: Coarsest texture (Gaussian sigma, pixels) that is drawn with random phases.
COARSEST = 5.0
#: Pixels below the outline that are its rim, and how many of anything are needed to measure it.
_RIM, _FEWEST = 2, 12
#: Point spreads that an edge reaches to either side.
_EDGE_SIGMAS = 2.3
#: Variance of a texture over the sensor's noise below which there is none to speak of.
TEXTURE_ABOVE_NOISE = 0.1
#: Where its variance is that many times the usual one a surface has a mark on it; so many pixels are needed to tell.
_MARKED, _MARKS_FROM = 1.5, 2000
#: Texture finer than this many pixels (Gaussian sigma) is compared with the surroundings'.
_FINE = 2.0


#: Outlines wider than this (radius, pixels) are taken as marked: their margin is small against them.
_GENEROUS_RADIUS = 14.0
#: By so many pixels people mark too much.
_GENEROUS_PX = 6.0
#: A pixel stands out above this share of the defect's strongest contrast and this many spreads of its surroundings.
_STANDS_OUT, _STANDS_OUT_SPREADS = 0.35, 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """One seed, ready to be learned from. Window arrays have the seed's bounding box with a margin.

    `contrast` (K, h, w) log contrast against the estimated background, `corner` its row and column in the picture;
    `distance` (h, w) pixels to the drawn-in outline; `course` (K, BINS) mean contrast at relative depths 0..1, `slopes`
    what the flanks add to it;
    `texton` (C, a, b) what the course leaves over, scaled so that white noise convolved with it has that texture;
    `structure` (C,) the spread of what is coarser; `fine_ratio` is fine texture inside over outside, `background`
    (K, h, w) the texture of the estimated background, `level` (K,) DN its mean inside the outline; `streaks` is what
    becomes of the surface's lay, None where that can't be told; `usual` (h, w) bool is where the inside looks as it
    mostly does: not where somebody wrote on it. Where one surface explains all lights (`relief`), texture is that
    surface's, in the C maps of :mod:`trainer.generate.relief`; otherwise each of the K lights has its own.
    """

    outline: Outline
    contrast: Maps
    corner: tuple[int, int]
    background: Maps
    distance: NDArray[np.float32]
    course: NDArray[np.float32]
    slopes: Slopes
    texton: Maps
    structure: NDArray[np.float32]
    fine_ratio: float
    level: NDArray[np.float32]
    streaks: Streaks | None
    usual: Mask
    relief: Relief | None = None

    @property
    def seed(self) -> SeedSample:
        """The seed that was measured."""
        return self.outline.seed

    def textured(self, smooth: Maps, texture: Maps) -> Maps:
        """Return the log contrast (K, h, w) of a smooth render (K, h, w) with texture (C, h, w) over it."""
        if self.relief is None:
            return smooth + texture
        return self.relief.shown(self.relief.parts(smooth) + texture)


def look_at(seed: SeedSample, scene: Scene) -> Look:
    """Measure one seed."""
    part = part_mask(seed, scene)
    window = _window(seed.mask)
    marked = seed.mask[window]
    known = part[window]
    stack = seed.stack[:, window[0], window[1]]
    background = _background(seed, part, window, scene)
    log = contrast.of(stack, background, scene.recipe.bit_depth) * known
    mask = drawn_in(log, marked, known)
    distance = signed_distance(mask)
    course = course_of(log, distance)
    slopes = slopes_of(log - render(course, distance), distance)
    sensor, level = sensor_noise(stack, scene), background[:, mask].mean(axis=1)
    relief = relief_of(scene, log, mask, level, sensor)
    whole = np.zeros_like(seed.mask)
    whole[window] = mask
    streaks = streaks_of(seed.stack, seed.mask, whole, part, scene.recipe.bit_depth)
    smooth = render(course, distance), lit(flank_of(slopes), distance)
    rest, chance, lay = _left_over(log, smooth, sensor, streaks, relief)
    usual = mask
    if streaks is not None and streaks.kept < 1.0:
        usual = _unmarked(without_structure(rest, mask, COARSEST)[0], mask)
    return Look(
        outline=outline_of(seed, whole, part),
        contrast=log,
        corner=(window[0].start, window[1].start),
        background=np.where(marked, 0, log).astype(np.float32),
        distance=distance,
        course=course,
        slopes=slopes,
        texton=_texton(rest, mask, usual, known & ~marked, chance, lay, _edge_px(seed, scene)),
        structure=structure_of(rest, mask)[:, usual[mask]].std(axis=1),
        fine_ratio=_fine_ratio(log, mask, known & ~marked, sensor),
        level=level,
        streaks=streaks,
        usual=usual,
        relief=relief,
    )


def _background(seed: SeedSample, part: Mask, window: tuple[slice, slice], scene: Scene) -> Maps:
    """Return what a seed's part would look like without its defect, in the window, (K, h, w) DN."""
    stack, marked, known = seed.stack[:, window[0], window[1]], seed.mask[window], part[window]
    wide = ndimage.distance_transform_edt(np.pad(marked, 1)).max() > _GENEROUS_RADIUS
    field = usual_light(scene.backgrounds, scene.recipe.bit_depth) if wide else None
    if field is None:
        return contrast.local_background(stack, marked, known)
    light = light_under(seed.stack, seed.mask, part, field, scene.recipe.bit_depth)[:, window[0], window[1]]
    level = (stack / light).astype(np.float32)
    background: Maps = contrast.local_background(level, marked, known) * light
    return background


def drawn_in(log: Maps, marked: Mask, known: Mask) -> Mask:
    """Return the part of a generously marked outline that stands out of its surroundings, (h, w) bool.

    Wide outlines, and those in which next to nothing stands out, are returned as they are; nothing is taken away that
    lies deeper than people mark too much: the middle of a chip may be as bright as the surface about it.
    """
    depth = ndimage.distance_transform_edt(marked)
    if depth.max() > _GENEROUS_RADIUS:
        return marked
    smooth = ndimage.gaussian_filter(log, (0, 0.7, 0.7), mode="nearest")
    strength = np.sqrt((smooth**2).mean(axis=0))
    around = known & ~ndimage.binary_dilation(marked, iterations=2)
    floor = _STANDS_OUT_SPREADS * float(strength[around].std()) if around.sum() >= 12 else 0.0
    level = max(_STANDS_OUT * float(np.quantile(strength[marked], 0.98)), floor)
    seen = ndimage.binary_closing(np.pad((strength > level) & marked, 2), iterations=2)[2:-2, 2:-2]
    seen = (ndimage.binary_fill_holes(seen) & marked) | (depth > _GENEROUS_PX)
    labels, count = ndimage.label(seen, structure=np.ones((3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=2)
    sizes[0] = 0
    kept: Mask = np.isin(labels, np.flatnonzero(sizes >= max(3, 0.05 * sizes.max())))
    return kept if count and kept.sum() >= max(4, 0.05 * marked.sum()) else marked


def part_mask(seed: SeedSample, scene: Scene) -> Mask:
    """Return where the part is on the seed's picture, (H, W) bool."""
    limit = scene.recipe.carrier_max_dn
    if limit is None:
        return np.ones(seed.mask.shape, np.bool_)
    lit: Mask = ndimage.binary_fill_holes((seed.stack > limit).any(axis=0) | seed.mask)
    return lit


def render(course: NDArray[np.float32], distance: NDArray[np.float32]) -> Maps:
    """Return the log contrast (K, h, w) that a course gives an outline; 0 outside."""
    depth = depth_of(distance)
    knots = (np.arange(BINS) + 0.5) / BINS
    rendered = np.stack([np.interp(depth, knots, row) for row in course])
    inside: Maps = (rendered * np.clip(distance + 0.5, 0, 1)).astype(np.float32)
    return inside


def distance_of(shape: Shape) -> NDArray[np.float32]:
    """Return the signed distance to a planned outline, pixels, (h, w) float32."""
    return signed_distance(np.pad(shape.mask, 1))[1:-1, 1:-1] if shape.mask.any() else -np.ones_like(shape.soft)


def random_phase(texton: Maps, shape: tuple[int, int], rng: np.random.Generator) -> Maps:
    """Return texture (K, h, w) with the texton's spectrum and none of its phases; channels keep their correlation.

    Asymptotic discrete spot noise (Galerne, Gousseau and Morel, IEEE TIP 20, 2011).
    """
    grown = (shape[0] + texton.shape[1] - 1, shape[1] + texton.shape[2] - 1)
    white = rng.standard_normal(grown).astype(np.float32)
    drawn: Maps = np.stack([signal.fftconvolve(white, channel, mode="valid") for channel in texton]).astype(np.float32)
    return drawn


def without_structure(maps: Maps, mask: Mask, widest: float = np.inf) -> tuple[Maps, float]:
    """Return maps (K, h, w) less what is coarser, inside a mask, than half its radius; and that Gaussian's sigma.

    `widest` bounds the sigma from above.
    """
    coarse = min(widest, max(2.0, 0.5 * float(ndimage.distance_transform_edt(mask).max())))
    weight = ndimage.gaussian_filter(mask.astype(np.float32), coarse, mode="constant") + 1e-6
    rest: Maps = maps - ndimage.gaussian_filter(maps * mask, (0, coarse, coarse), mode="constant") / weight
    return rest, coarse


def structure_of(maps: Maps, mask: Mask) -> NDArray[np.float32]:
    """Return what is coarser than texture in maps (K, h, w), at the P pixels of a mask: (K, P) float32."""
    coarse: NDArray[np.float32] = (maps - without_structure(maps, mask, COARSEST)[0])[:, mask].astype(np.float32)
    return coarse


def _window(mask: Mask) -> tuple[slice, slice]:
    rows, columns = np.nonzero(mask)
    margin = max(_MARGIN, int(0.3 * max(np.ptp(rows), np.ptp(columns))))
    return (
        slice(max(0, int(rows.min()) - margin), int(rows.max()) + margin + 1),
        slice(max(0, int(columns.min()) - margin), int(columns.max()) + margin + 1),
    )


def course_of(log: Maps, distance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean contrast (K, BINS) at relative depths 0..1 below an outline."""
    inside = distance > 0
    index = np.minimum((depth_of(distance)[inside] * BINS).astype(np.intp), BINS - 1)
    count = np.bincount(index, minlength=BINS)
    course = np.stack([np.bincount(index, weights=c[inside], minlength=BINS) / np.maximum(count, 1) for c in log])
    filled = np.flatnonzero(count)
    if filled.size:
        # Empty bins of small masks take their neighbour's value, those before the first go to half of it: the outermost
        # pixels of a pore lie half a pixel below its outline, and there an edge has half its height.
        first, places = int(filled[0]), np.arange(BINS)
        course = course[:, filled[np.maximum(np.searchsorted(filled, places, side="right") - 1, 0)]]
        course = course * np.where(places < first, 0.5 + 0.5 * (places + 0.5) / (first + 0.5), 1.0)
    return course.astype(np.float32)


def sensor_noise(stack: Stack, scene: Scene) -> Maps:
    """Return the variance (K, h, w) that the sensor's noise has in log contrast: the larger, the darker it is."""
    black = contrast.black_offset_dn(scene.recipe.bit_depth)
    channels = zip(scene.calibration.channels, stack, strict=True)
    variances = [
        (noise.sigma_dn(one.noise, pixels) / (pixels.astype(np.float64) + black)) ** 2 for one, pixels in channels
    ]
    return np.stack(variances).astype(np.float32)


def _edge_px(seed: SeedSample, scene: Scene) -> int:
    """Return how many pixels below a drawn-in outline its edge reaches behind the lens that took the seed.

    Of a lens that nobody measured no more than the rim: an ordinary lens' edge would cost small pores their texture.
    """
    spreads = seed.psf_px or tuple(channel.psf_sigma_px for channel in scene.calibration.channels)
    return 1 + math.ceil(_EDGE_SIGMAS * max(spreads)) if max(spreads) > 0 else _RIM


def _core(mask: Mask, edge_px: int) -> Mask:
    """Return the inside of a mask below its edge; less far below where too little would be left."""
    for rim in range(max(edge_px, _RIM), _RIM - 1, -1):
        core: Mask = ndimage.binary_erosion(mask, iterations=rim)
        if core.sum() >= _FEWEST:
            return core
    return mask


def _texton(
    rest: Maps, mask: Mask, usual: Mask, around: Mask, sensor: Maps, streaks: Streaks | None, edge_px: int
) -> Maps:
    """Return the defect's own texture, (K, a, b), of unit energy times the spread it adds to the surface's.

    What is coarser than half the outline's radius, or than `COARSEST`, is structure and not texture: with random
    phases it would come back as clouds. Nor is it texture that the sensor's noise is a larger share of less light
    (`sensor`, see :func:`sensor_noise`), what a mean course leaves over of the outline itself (its edge, `edge_px`
    wide, as the lens shows it), or the surface's lay as far as the defect leaves or lifts it.
    """
    inside, coarse = without_structure(rest, mask, COARSEST)
    mask = usual
    surface = (rest - ndimage.gaussian_filter(rest, (0, coarse, coarse)))[:, around]
    base = surface.var(axis=1) if around.sum() >= _FEWEST else np.zeros(len(rest), np.float32)
    if streaks is not None:
        base = streaks.left(base)
    core = _core(mask, edge_px)
    more = np.maximum(sensor[:, core].mean(axis=1) - (sensor[:, around].mean(axis=1) if around.any() else 0.0), 0.0)
    known = base + more
    found = inside[:, core].var(axis=1) - known
    # Of so few pixels a variance is known to a share of sqrt(2 / n): what is not above two of these may be nothing.
    spread = np.sqrt(np.where(found > 2 * np.sqrt(2 / core.sum()) * known, found, 0))
    rows, columns = np.nonzero(mask)
    cut = (inside * mask)[:, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    energy = np.sqrt((cut**2).sum(axis=(1, 2), keepdims=True))
    texton: Maps = (cut / np.maximum(energy, 1e-9) * spread[:, None, None]).astype(np.float32)
    return texton


def _left_over(
    log: Maps, smooth: tuple[Maps, Maps], sensor: Maps, streaks: Streaks | None, relief: Relief | None
) -> tuple[Maps, Maps, Streaks | None]:
    """Return what a course and its flanks leave over, the sensor's noise and the lay's streaks, as texture's maps."""
    course, flanks = smooth
    if relief is None:
        return log - course - flanks, sensor, streaks
    rest, chance = relief.parts(log) - relief.parts(course + flanks), relief.noise(log, sensor)
    if streaks is None:
        return rest, chance, None
    variance = relief.noise(log, np.broadcast_to(streaks.variance[:, None, None], log.shape))
    return rest, chance, replace(streaks, variance=variance.mean(axis=(1, 2)))


def _unmarked(texture: Maps, mask: Mask) -> Mask:
    """Return where a mask's texture (K, h, w) is as strong as it mostly is: a stamped number is none of it, (h, w)."""
    if mask.sum() < _MARKS_FROM:
        return mask
    weight = mask.astype(np.float32)
    near = ndimage.gaussian_filter((texture**2).sum(axis=0) * weight, COARSEST, mode="constant")
    near /= ndimage.gaussian_filter(weight, COARSEST, mode="constant") + 1e-6
    usual: Mask = mask & (near <= _MARKED * np.median(near[mask]))
    return usual


def _fine_ratio(log: Maps, mask: Mask, around: Mask, sensor: Maps) -> float:
    inner = ndimage.binary_erosion(mask, iterations=_RIM)
    outer = around & ~ndimage.binary_dilation(mask, iterations=4)
    if inner.sum() < _FEWEST or outer.sum() < _FEWEST:
        return 1.0
    inside, outside = (fine_variance(log, where) - float(sensor[:, where].mean()) for where in (inner, outer))
    if outside < TEXTURE_ABOVE_NOISE * float(sensor[:, outer].mean()):
        return 1.0
    return float(np.clip(np.sqrt(max(inside, 0.0) / outside), 0.0, 3.0))


def fine_variance(log: Maps, where: Mask) -> float:
    """Return the variance of the fine texture inside a mask, all channels together; its outline does not count."""
    return float(without_structure(log, where, _FINE)[0][:, where].var())
