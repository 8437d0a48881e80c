"""One surface behind all lights: a turned pit is lit as the real one, and texture shades under every lamp alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from cell.calibration import LightDirection
from cell.frames import Stack
from cell.imaging import contrast, noise
from cell.recipes import Channel
from tests.trainer.generate_support import BIT_DEPTH, CALIBRATION, NOISE, RECIPE
from trainer.generate.base import Scene, SeedSample, Shape
from trainer.generate.copypaste import CopyPaste
from trainer.generate.looks import Look, look_at
from trainer.generate.procedural import Procedural
from trainer.generate.relief import agreed, lamps_of
from trainer.generate.severity import scaled

SIDE, LEVEL = 81, 1500.0
AZIMUTHS_DEG, ELEVATION_DEG = (0.0, 90.0, 180.0, 270.0), 40.0
NAMES = tuple(f"az{round(azimuth):03d}" for azimuth in AZIMUTHS_DEG)
VECTORS = np.array(
    [
        (
            np.cos(np.radians(ELEVATION_DEG)) * np.cos(np.radians(azimuth)),
            np.cos(np.radians(ELEVATION_DEG)) * np.sin(np.radians(azimuth)),
            np.sin(np.radians(ELEVATION_DEG)),
        )
        for azimuth in AZIMUTHS_DEG
    ]
)


def scene(directions: int = 4) -> Scene:
    """Return a matt plate's cell under four bars, so many of which have a known direction."""
    channels = tuple(
        CALIBRATION.channels[0].model_copy(
            update={
                "channel": name,
                "direction": LightDirection(x=x, y=y, z=z, residual=0.0) if index < directions else None,
            }
        )
        for index, (name, (x, y, z)) in enumerate(zip(NAMES, VECTORS.tolist(), strict=True))
    )
    recipe = RECIPE.model_copy(
        update={
            "height": SIDE,
            "width": SIDE,
            "channels": tuple(Channel(name=name, exposure_us=500, lights={name: 1.0}) for name in NAMES),
            "roi": None,
            "exclusions": (),
        }
    )
    return Scene(recipe, CALIBRATION.model_copy(update={"channels": channels}), {}, ())


def expected(turn_deg: float, number: int = 0, *, gloss: float = 0.0) -> NDArray[np.float64]:
    """Return a lopsided dark pit at one turn without noise, (4, H, W) DN; `gloss` shines where it leans."""
    rows, columns = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    turn = np.radians(turn_deg)
    along, across = columns * np.cos(turn) + rows * np.sin(turn), rows * np.cos(turn) - columns * np.sin(turn)
    shift = np.random.default_rng(number).uniform(-2, 2, 2)
    bumps = [((-4.0 + shift[0], 1.0), 4.0, 1.2), ((5.0, -2.0 + shift[1]), 3.0, 0.9), ((0.0, 4.0), 2.5, -0.5)]
    depth = sum(a * s * np.exp(-0.5 * ((along - p) ** 2 + (across - q) ** 2) / s**2) for (p, q), s, a in bumps)
    slope = np.stack(np.gradient(-depth))
    albedo = 1 - 0.4 * np.exp(-0.5 * ((along + 2) ** 2 + across**2) / 25)
    slanted = VECTORS[:, :2] / VECTORS[:, 2:]
    lean = -slanted[:, 1, None, None] * slope[0] - slanted[:, 0, None, None] * slope[1]
    ratio = albedo * (1 + lean + gloss * lean**2)
    return NOISE.offset_dn + np.maximum(ratio, 0.05) * (LEVEL - NOISE.offset_dn)


def look(turn_deg: float, number: int = 0, *, at: Scene | None = None, gloss: float = 0.0) -> Look:
    mean = expected(turn_deg, number, gloss=gloss)
    stack: Stack = np.clip(np.rint(noise.sample(NOISE, mean, np.random.default_rng(number))), 0, 4095).astype(np.uint16)
    rows, columns = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    return look_at(SeedSample(f"s{number}", f"p{number}", "pit", stack, np.hypot(rows, columns) < 15), at or scene())


def shape(turn_deg: float, *, mirrored: bool = False) -> Shape:
    """Return where the seed at no turn comes to lie when turned (and then mirrored left to right)."""
    rows, columns = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    turn = np.radians(turn_deg)
    across = -columns if mirrored else columns
    source = np.stack([rows * np.cos(turn) - across * np.sin(turn), across * np.cos(turn) + rows * np.sin(turn)])
    soft = np.clip(16.0 - np.hypot(rows, columns), 0, 1).astype(np.float32)
    return Shape(0, 0, soft, (source + SIDE // 2).astype(np.float32), turn_deg, ("s0",))


def off(log: NDArray[np.float32], true: NDArray[np.float64], inside: NDArray[np.bool_]) -> float:
    """Return by how many sensor sigmas a contrast is off the truth, root mean square."""
    level = np.full(true.shape, LEVEL, np.float32)
    sigma = noise.sigma_dn(NOISE, true)
    return float(np.sqrt((((contrast.apply(level, log, BIT_DEPTH) - true) / sigma)[:, inside] ** 2).mean()))


def disagreement(log: NDArray[np.float32], inside: NDArray[np.bool_]) -> float:
    """Return what opposite bars' sums differ by, sensor sigmas: a matt surface makes both the same."""
    seen = contrast.apply(np.full(log.shape, LEVEL, np.float32), log, BIT_DEPTH)
    sums = (seen[0] + seen[2] - seen[1] - seen[3])[inside] / (2 * noise.sigma_dn(NOISE, np.array(LEVEL)))
    return float(np.sqrt((sums**2).mean()))


WINDOW: Stack = np.full((4, SIDE, SIDE), round(LEVEL), np.uint16)


@pytest.mark.parametrize(("turn", "mirrored"), [(0.0, False), (70.0, False), (160.0, True)])
def test_a_pasted_pit_is_lit_anew_where_it_is_turned_to(turn: float, mirrored: bool) -> None:
    arm = CopyPaste()
    arm.fit("pit", [look(0.0)], lambda _: None, lambda: False)
    where = shape(turn, mirrored=mirrored)
    made = arm.appearance(WINDOW, where, 1.0, "pit", np.random.default_rng(1))
    true = expected(turn)
    if mirrored:
        # Left and right change places, and so do the lamps that stand there.
        true = true[[2, 1, 0, 3], :, ::-1]
    assert off(made.contrast, true, where.mask) < 2.0
    assert made.noise_share == pytest.approx(4 / 9 * 3 / 4)
    # Without the lamps' directions each light stays as it was, which fits no turn but none at all.
    arm.fit("pit", [look(0.0, at=scene(0))], lambda _: None, lambda: False)
    blind = arm.appearance(WINDOW, where, 1.0, "pit", np.random.default_rng(1))
    assert blind.noise_share == pytest.approx(4 / 9)
    if turn:
        assert off(blind.contrast, true, where.mask) > 10.0


def test_drawn_texture_shades_under_all_lamps_as_one_surface() -> None:
    def made(at: Scene) -> NDArray[np.float32]:
        looks = [look(30.0 * number, number, at=at) for number in range(3)]
        # None of the course: what is left is texture.
        arm = Procedural(at)
        arm.fit("pit", looks, lambda _: None, lambda: False)
        return arm.appearance(WINDOW, shape(0.0), 1.0, "pit", np.random.default_rng(2)).contrast

    inside = shape(0.0).mask
    one, apart = disagreement(made(scene()), inside), disagreement(made(scene(2)), inside)
    assert one < 0.1 < 2.0 < apart


def test_a_stronger_defect_agrees_as_well() -> None:
    arm, where = CopyPaste(), shape(40.0)
    arm.fit("pit", [look(0.0)], lambda _: None, lambda: False)
    made = arm.appearance(WINDOW, where, 1.0, "pit", np.random.default_rng(1))
    lamps = lamps_of(scene().calibration, BIT_DEPTH)
    strong = scaled(made, 1.4)
    mended = agreed(made, strong, 1.4, where.soft, WINDOW, lamps)
    inside = where.mask
    # What is left lies in the shadows that a steeper pit has.
    assert disagreement(mended.contrast * where.soft, inside) < 1.0
    assert disagreement(strong.contrast * where.soft, inside) > 2.0
    # As strong as asked, within a few per cent.
    ratio = np.sqrt((mended.contrast[:, inside] ** 2).mean() / (made.contrast[:, inside] ** 2).mean())
    assert ratio == pytest.approx(1.4, rel=0.08)
    assert agreed(made, strong, 1.4, where.soft, WINDOW, None) is strong


def test_too_few_lamps_or_too_much_gloss_leave_each_light_to_itself() -> None:
    assert look(0.0).relief is not None
    assert look(0.0, gloss=2.0).relief is None
    assert lamps_of(scene(2).calibration, BIT_DEPTH) is None
    # Three lamps in one line tell no slope across it.
    channels = list(scene().calibration.channels)
    direction = channels[0].direction
    assert direction is not None
    for index, x in enumerate((0.7, 0.0, -0.7)):
        flat = LightDirection(x=x, y=0.0, z=float(np.sqrt(1 - x * x)), residual=0.0)
        channels[index] = channels[index].model_copy(update={"direction": flat})
    channels[3] = channels[3].model_copy(update={"direction": None})
    in_line = scene().calibration.model_copy(update={"channels": tuple(channels)})
    assert lamps_of(in_line, BIT_DEPTH) is None


def test_a_light_from_no_one_side_keeps_its_own_contrast() -> None:
    three = look(0.0, at=scene(3))
    relief = three.relief
    assert relief is not None
    parts = relief.parts(three.contrast)
    assert parts.shape[0] == 4
    assert np.array_equal(parts[3], three.contrast[3])
    back = replace(relief, steepest=9.0).shown(parts)
    assert np.abs(back - three.contrast).max() < 1e-3
