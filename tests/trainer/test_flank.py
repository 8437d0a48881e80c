"""Flanks: a groove under four lamps is dark where it looks away from each, and still so when it is turned."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trainer.generate.flank import flank_of, lit, slopes_of
from trainer.generate.plan import signed_distance

SIDE = 61
AZIMUTHS_DEG = (0.0, 90.0, 180.0, 270.0)


def stroke(turn_deg: float) -> NDArray[np.float32]:
    rows, columns = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    turn = np.radians(turn_deg)
    along, across = columns * np.cos(turn) + rows * np.sin(turn), rows * np.cos(turn) - columns * np.sin(turn)
    return signed_distance((abs(along) <= 22) & (abs(across) <= 4))


def groove(turn_deg: float) -> NDArray[np.float32]:
    """The contrast (4, h, w) of a groove with flanks of one slope, by shading alone."""
    distance = stroke(turn_deg)
    slope = -np.asarray(np.gradient(distance)) * (distance > 0)
    azimuths = np.radians(AZIMUTHS_DEG)
    towards = np.stack([np.sin(azimuths), np.cos(azimuths)], axis=1)
    return (0.3 * np.einsum("ka,ahw->khw", towards, slope)).astype(np.float32)


def likeness(made: NDArray[np.float32], true: NDArray[np.float32], turn_deg: float) -> float:
    inside = stroke(turn_deg) > 0
    return float(np.corrcoef(made[:, inside].ravel(), true[:, inside].ravel())[0, 1])


def test_a_turned_stroke_is_lit_as_its_class_is() -> None:
    seeds = [slopes_of(groove(turn), stroke(turn)) for turn in (0.0, 30.0, 80.0)]
    made = lit(flank_of(seeds[0], seeds[1:]), stroke(50.0))
    assert likeness(made, groove(50.0), 50.0) > 0.9
    # Each lamp's picture is the opposite lamp's with the sign changed.
    assert np.allclose(made[0], -made[2], atol=0.02)
    assert np.allclose(made[1], -made[3], atol=0.02)


def test_a_lone_stroke_tells_nothing_of_the_direction_along_it() -> None:
    flank = flank_of(slopes_of(groove(0.0), stroke(0.0)))
    across, along = abs(flank[1, :, 0]).max(), abs(flank[1, :, 1]).max()
    assert across > 0.2
    assert along < 0.1 * across or along < 0.05
    assert likeness(lit(flank, stroke(0.0)), groove(0.0), 0.0) > 0.95


def test_what_has_no_flanks_gets_none() -> None:
    distance = stroke(20.0)
    flat = np.zeros((4, SIDE, SIDE), np.float32)
    assert not lit(flank_of(slopes_of(flat, distance)), distance).any()


def test_a_wide_bowl_keeps_its_slope_and_a_level_middle_gets_none() -> None:
    rows, columns = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    distance = signed_distance(np.hypot(rows, columns) < 25)
    azimuths = np.radians(AZIMUTHS_DEG)
    towards = np.stack([np.sin(azimuths), np.cos(azimuths)], axis=1)
    slope = np.stack([rows, columns]) / 25 * (distance > 0)
    bowl = (0.3 * np.einsum("ka,ahw->khw", towards, slope)).astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 0.02, bowl.shape).astype(np.float32)
    made = lit(flank_of(slopes_of(bowl + noise, distance)), distance)
    deep = distance > 10
    assert np.corrcoef(made[:, deep].ravel(), bowl[:, deep].ravel())[0, 1] > 0.9
    # What differs from light to light there without regard to the outline is no slope of it.
    level = np.random.default_rng(1).normal(0, 0.1, bowl.shape).astype(np.float32)
    assert np.abs(lit(flank_of(slopes_of(level, distance)), distance)[:, deep]).max() < 0.01
