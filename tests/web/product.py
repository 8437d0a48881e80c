"""A small simulated product under three lights at 12 bit, and a learning store filled with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell.defects import Candidate, Draft, GeneratorParameters, Mask, Provenance, SeedState, Split
from cell.frames import StoredStack
from cell.recipes import ArchiveRule, Channel, DefectClass, Recipe
from cell.store.learning import LearningStore

HEIGHT, WIDTH = 240, 320
#: Direction from which each channel's light comes, (x, y).
LIGHTS = {"left": (-1.0, 0.0), "top": (0.0, -1.0), "ring": (0.6, 0.6)}
RECIPE = Recipe(
    recipe_id="cover",
    product="cover",
    height=HEIGHT,
    width=WIDTH,
    bit_depth=12,
    channels=tuple(Channel(name=name, exposure_us=1500, lights={name: 1.0}) for name in LIGHTS),
    defect_classes=(DefectClass(name="scratch"), DefectClass(name="pit")),
    archive=ArchiveRule(ok_share=1.0, ring=0),
)


def height_map(seed: int, kind: str, scale: float = 1.0) -> tuple[NDArray[np.float64], Mask]:
    """Return a defect's height change (arbitrary units) and where it is, at a place that `seed` gives."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    cy, cx = rng.uniform(60, HEIGHT - 60), rng.uniform(80, WIDTH - 80)
    if kind == "pit":
        radius = rng.uniform(3.5, 7)
        depth = -np.exp(-(((x - cx) ** 2 + (y - cy) ** 2) / radius**2)) * radius
    else:
        angle, length, bend = rng.uniform(0, np.pi), rng.uniform(18, 45), rng.uniform(-0.01, 0.01)
        along = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
        across = -(x - cx) * np.sin(angle) + (y - cy) * np.cos(angle) - bend * along**2
        depth = -2.2 * np.exp(-((across / 1.5) ** 2)) / (1 + np.exp((np.abs(along) - length) / 2))
    depth *= scale
    mask = ndimage.binary_dilation(np.abs(depth) > 0.35)
    return depth, mask


def part(seed: int, relief: NDArray[np.float64] | None = None, *, emulated: bool = True) -> StoredStack:
    """Return a machined cover: turning marks, a bore, uneven light, noise; with a height change when given."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
    radius = np.hypot(x - 150, y - 125)
    surface = 0.25 * np.sin(radius * 1.9 + 0.4 * np.sin(radius / 7)) + ndimage.gaussian_filter(
        rng.normal(0, 1.2, (HEIGHT, WIDTH)), 2.5
    )
    if relief is not None:
        surface = surface + relief
    slope_y, slope_x = np.gradient(surface)
    channels = []
    for light_x, light_y in LIGHTS.values():
        shade = 0.48 + 0.22 * (slope_x * light_x + slope_y * light_y)
        shade *= 1 - 0.25 * (((x - WIDTH / 2) / WIDTH) ** 2 + ((y - HEIGHT / 2) / HEIGHT) ** 2)
        shade[radius < 26] *= 0.25
        signal = np.clip(shade, 0.02, 1) * 3300
        channels.append(np.clip(signal + rng.normal(0, 1, signal.shape) * np.sqrt(30 + signal * 0.4), 0, 4095))
    return StoredStack(
        pixels=np.stack(channels).round().astype(np.uint16),
        channels=tuple(LIGHTS),
        bit_depth=12,
        exposure_us=(1500.0,) * len(LIGHTS),
        gain_db=(0.0,) * len(LIGHTS),
        metadata={"emulated": emulated},
    )


def draft(store: LearningStore, background_id: str, seed: int, kind: str, *, planted: bool = False) -> Draft:
    """Return a candidate on a background: the same frames but within the support of a new defect."""
    clean = store.read_image(store.background(background_id).image)
    relief, mask = height_map(seed, kind, 0.9)
    support = ndimage.binary_dilation(mask, iterations=3)
    made = part(int(background_id[1:]) - 1, relief).pixels
    pixels = np.where(support, made, clean.pixels).astype(np.uint16)
    if planted:
        pixels[:, support] = 4095
    parameters = GeneratorParameters(
        arm="procedural",
        defect_class=kind,
        severity=float(np.abs(relief).sum() / 12),
        center_x=float(np.argwhere(mask)[:, 1].mean()),
        center_y=float(np.argwhere(mask)[:, 0].mean()),
        orientation_deg=0,
        size_px=float(np.sqrt(mask.sum())),
        random_seed=seed,
    )
    provenance = Provenance(
        background_id=background_id,
        seed_ids=tuple(s.seed_id for s in store.seeds("cover", state=SeedState.CONFIRMED, defect_class=kind)),
        base_digest="",
        adapter_digest="",
        calibration_digest="",
        parameters=parameters,
        generator_version="1",
    )
    scores = {"visibility": 3.1 + seed % 7, "nearest_seed": 0.42, "seam": 0.03}
    return Draft(pixels, mask, support, kind, parameters.severity, scores, provenance, planted)


def fill(store: LearningStore, candidates: int, proposals: int = 3) -> list[Candidate]:
    """Put in 4 backgrounds, 4 confirmed seeds of each class, some proposals, and candidates, every seventh planted."""
    for index in range(4):
        store.add_background("cover", f"good-{index}", part(index), Split.LEARN)
    for kind in RECIPE.class_names:
        for index in range(4):
            relief, mask = height_map(500 + index, kind, 1.2)
            stack = part(40 + index, relief)
            seed = store.propose_seed("cover", f"{kind}-{index}", stack, mask, kind, Split.LEARN)
            store.confirm_seed(seed.seed_id, kind, mask, "Ada Moser")
    for index in range(proposals):
        relief, mask = height_map(700 + index, "scratch", 1.3)
        stack = part(60 + index, relief)
        store.propose_seed("cover", f"proposed-{index}", stack, ndimage.binary_dilation(mask), "pit", Split.LEARN)
    drafts = [
        draft(store, f"b{1 + index % 4:06d}", 900 + index, RECIPE.class_names[index % 2], planted=index % 7 == 6)
        for index in range(candidates)
    ]
    return list(store.candidates.add_many("t00001", "cover", drafts))


def foreign(stack: StoredStack) -> StoredStack:
    """Return the stack with one pixel altered, as a damaged disk or a curious hand leaves it."""
    pixels = stack.pixels.copy()
    pixels[0, 0, 0] ^= 1
    return replace(stack, pixels=pixels)
