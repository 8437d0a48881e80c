"""Sharpness, scale and photometric stereo on pictures whose truth is computed, not rendered by the product."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special

from cell.errors import CalibrationError
from cell.imaging import photometric, scale, slanted_edge

Floats = NDArray[np.float64]


def edge(sigma: float, slant_deg: float, *, upright: bool = True, size: tuple[int, int] = (120, 160)) -> Floats:
    """A Gaussian-blurred edge integrated over the pixels' squares, 40 to 200 DN."""
    fine = 8
    rows = (np.arange(size[0] * fine) + 0.5) / fine - size[0] / 2
    columns = (np.arange(size[1] * fine) + 0.5) / fine - size[1] / 2
    turn = np.deg2rad(slant_deg)
    distance = (
        columns[None, :] * np.cos(turn) + rows[:, None] * np.sin(turn)
        if upright
        else rows[:, None] * np.cos(turn) + columns[None, :] * np.sin(turn)
    )
    picture = 40 + 160 * special.ndtr(distance / sigma)
    return np.asarray(picture.reshape(size[0], fine, size[1], fine).mean(axis=(1, 3)), np.float64)


def mtf50(sigma: float) -> float:
    frequency = np.linspace(0, 0.5, 5001)
    curve = np.exp(-2 * (np.pi * sigma * frequency) ** 2) * np.sinc(frequency)
    return float(frequency[np.flatnonzero(curve < 0.5)[0]])


@pytest.mark.parametrize("slant", [3.0, 5.0, 12.0, 25.0])
@pytest.mark.parametrize("sigma", [0.5, 0.8, 1.5])
def test_mtf50_of_a_known_blur_is_within_three_percent(sigma: float, slant: float) -> None:
    found = slanted_edge.transfer(edge(sigma, slant))
    assert found.mtf50 == pytest.approx(mtf50(sigma), rel=0.03)
    assert found.sigma_px == pytest.approx(np.hypot(sigma, np.sqrt(1 / 12)), rel=0.04)
    assert all(one.upright for one in found.edges)


def test_level_edges_serve_as_well_and_noise_does_not_bend_the_result() -> None:
    picture = edge(0.7, 6.0, upright=False) + np.random.default_rng(1).normal(0, 1.0, (120, 160))
    found = slanted_edge.transfer(picture)
    assert found.mtf50 == pytest.approx(mtf50(0.7), rel=0.04)
    assert not any(one.upright for one in found.edges)


@pytest.mark.parametrize(
    "picture",
    [
        edge(0.7, 0.0),  # along the pixels: every row crosses at one phase
        np.random.default_rng(2).normal(120, 20, (120, 160)),
        np.full((120, 160), 90.0),
    ],
    ids=["straight", "noise", "even"],
)
def test_what_is_no_slanted_edge_is_refused(picture: Floats) -> None:
    with pytest.raises(CalibrationError, match="no straight edge"):
        slanted_edge.transfer(picture)


def dots(pitch: float, turn_deg: float, size: tuple[int, int] = (240, 300), *, missing: float = 0.0) -> Floats:
    rng = np.random.default_rng(3)
    y, x = np.mgrid[0 : size[0], 0 : size[1]].astype(np.float64)
    turn = np.deg2rad(turn_deg)
    u = (x - 151.3) * np.cos(turn) + (y - 119.6) * np.sin(turn)
    v = (y - 119.6) * np.cos(turn) - (x - 151.3) * np.sin(turn)
    away = np.hypot(u - pitch * np.rint(u / pitch), v - pitch * np.rint(v / pitch))
    index = np.rint(u / pitch) * 1000 + np.rint(v / pitch)
    gone = np.isin(index, [value for value in np.unique(index) if rng.random() < missing])
    ink = np.clip(0.3 * pitch - away + 0.5, 0, 1) * ~gone
    return np.asarray(200 - 150 * ink + rng.normal(0, 1, size), np.float64)


@pytest.mark.parametrize(("pitch", "turn"), [(20.0, 0.0), (17.3, 12.0), (31.7, -33.0)])
def test_a_grid_of_dots_gives_the_scale_at_any_turn(pitch: float, turn: float) -> None:
    found = scale.from_dots(dots(pitch, turn), pitch_mm=0.5)
    assert found.px_per_mm == pytest.approx(2 * pitch, rel=0.001)
    assert found.residual_px < 0.2


def test_missing_dots_do_not_matter_and_an_empty_plate_is_refused() -> None:
    found = scale.from_dots(dots(18.0, 4.0, missing=0.2), pitch_mm=1.0)
    assert found.px_per_mm == pytest.approx(18.0, rel=0.001)
    with pytest.raises(CalibrationError, match="dots"):
        scale.from_dots(np.full((100, 100), 150.0), 1.0)


def test_a_parts_length_gives_the_scale_and_a_cut_off_part_none() -> None:
    mask = np.zeros((100, 140), np.bool_)
    mask[30:60, 20:120] = True
    assert scale.from_length(mask, 50.0).px_per_mm == pytest.approx(np.hypot(100, 30) / 50)
    mask[30:60, :] = True
    with pytest.raises(CalibrationError, match="edge of the frame"):
        scale.from_length(mask, 50.0)


def ball(lights: list[Floats], radius: float = 60.0) -> Floats:
    y, x = np.mgrid[0:200, 0:240].astype(np.float64)
    x, y = x - 131.4, y - 96.2
    away = np.hypot(x, y)
    on = away < radius
    rise = np.sqrt(np.maximum(radius**2 - away**2, 0.0))
    normals = np.where(on, np.stack([x, y, rise]) / radius, np.array([0.0, 0.0, 1.0])[:, None, None])
    lit = np.stack([np.maximum(np.tensordot(light, normals, 1), 0) for light in lights])
    return np.asarray(800 * lit + np.random.default_rng(4).normal(0, 2, lit.shape), np.float64)


def unit(x: float, y: float, z: float) -> Floats:
    return np.array([x, y, z]) / np.linalg.norm([x, y, z])


LIGHTS = [unit(0.8, 0, 0.6), unit(-0.4, 0.7, 0.6), unit(-0.4, -0.7, 0.5), unit(0, 0, 1)]


def test_a_ball_tells_where_the_lights_are() -> None:
    lit = ball(LIGHTS)
    found = photometric.find_ball(lit)
    assert (found.row, found.column) == pytest.approx((96.2, 131.4), abs=0.7)
    assert found.rim_px == pytest.approx(60, rel=0.05)
    for light, direction in zip(LIGHTS, photometric.directions(lit, found, 60.0), strict=True):
        assert np.degrees(np.arccos(np.clip(direction.vector @ light, -1, 1))) < 1.0
    # A light from straight above has a direction, but tells nothing of slopes.
    assert [one.directional for one in photometric.directions(lit, found, 60.0)] == [True, True, True, False]
    with pytest.raises(CalibrationError, match="no ball"):
        photometric.find_ball(np.full((3, 100, 100), 300.0) + np.random.default_rng(1).normal(0, 2, (3, 100, 100)))


def test_normals_come_from_three_lights_and_not_from_two_or_from_a_plane() -> None:
    flat = np.stack([np.full((20, 30), light[2]) for light in LIGHTS[:3]])
    tilted = unit(0.2, -0.1, 1.0)
    lit = np.stack([np.full((20, 30), 0.7 * float(light @ tilted)) for light in LIGHTS[:3]]) / flat
    normals, albedo, left = photometric.normals(lit, LIGHTS[:3])
    assert normals[:, 5, 5] == pytest.approx(tilted, abs=1e-6)
    assert float(albedo[5, 5]) == pytest.approx(0.7)
    assert float(left.max()) < 1e-6
    with pytest.raises(CalibrationError, match="three lights"):
        photometric.normals(lit[:2], LIGHTS[:2])
    with pytest.raises(CalibrationError, match="three lights"):
        photometric.normals(lit, [unit(1, 0, 1), unit(-1, 0, 1), unit(0.5, 0, 1)])
