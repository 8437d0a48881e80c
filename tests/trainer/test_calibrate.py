"""Calibration against an emulated sensor's truth; from singles it is degraded and claims nothing."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from cell.calibration import CalibrationKind
from cell.errors import CalibrationError
from cell.recipes import Channel, DefectClass, Recipe
from drivers.sim.sensor import Sensor
from trainer.calibrate import calibrate, curves_svg

NOW = datetime(2026, 3, 1, tzinfo=UTC)
HEIGHT, WIDTH = 180, 240
SENSOR = Sensor(gain_dn_per_e=0.12, read_noise_e=12.0, offset_dn=12.0, prnu=0.0, dsnu_e=0.0, bit_depth=10)
RECIPE = Recipe(
    recipe_id="grey",
    product="grey",
    height=HEIGHT,
    width=WIDTH,
    bit_depth=10,
    channels=(
        Channel(name="left", exposure_us=100.0, lights={"a": 1.0}),
        Channel(name="right", exposure_us=100.0, lights={"b": 1.0}),
    ),
    defect_classes=(DefectClass(name="spot"),),
)


def light(side: int) -> NDArray[np.float32]:
    """Falloff from one side, mean 1."""
    across = np.linspace(0.8, 1.2, WIDTH, dtype=np.float32)[:: 1 if side == 0 else -1]
    field: NDArray[np.float32] = np.broadcast_to(across, (HEIGHT, WIDTH)) / across.mean()
    return field


def frames(electrons: NDArray[np.float32], count: int, seed: int = 1) -> NDArray[np.uint16]:
    rng = np.random.default_rng(seed)
    sets = [[SENSOR.digitise(electrons * light(side), 0.0, rng) for side in (0, 1)] for _ in range(count)]
    return np.asarray(sets, np.uint16)


def patches() -> NDArray[np.float32]:
    field = ndimage.gaussian_filter(np.random.default_rng(2).standard_normal((HEIGHT, WIDTH)), 10)
    levels: NDArray[np.float32] = ((field - field.min()) / np.ptp(field) * 5000 + 60).astype(np.float32)
    return levels


def test_measured_from_repeats() -> None:
    even = np.full((HEIGHT, WIDTH), 3000.0, np.float32)
    made = calibrate(
        RECIPE,
        list(frames(even, 6)),
        calibration_id="one",
        now=NOW,
        repeats=frames(patches(), 16),
        dark=frames(np.zeros((HEIGHT, WIDTH), np.float32), 8),
    )
    assert made.kind is CalibrationKind.MEASURED
    assert made.frames_used == 22
    for channel in made.channels:
        assert channel.noise.gain_dn_per_e == pytest.approx(0.12, rel=0.03)
        assert channel.noise.read_noise_dn == pytest.approx(1.44, rel=0.05)
    assert made.valid_until is not None
    assert made.valid_until > NOW


def test_the_flat_field_is_within_one_percent() -> None:
    even = np.full((HEIGHT, WIDTH), 5000.0, np.float32)
    made = calibrate(RECIPE, list(frames(even, 6)), calibration_id="one", now=NOW)
    for side, channel in enumerate(made.channels):
        grid = np.asarray(channel.illumination.grid)
        rows, columns = grid.shape
        truth = light(side).reshape(rows, HEIGHT // rows, columns, WIDTH // columns).mean(axis=(1, 3))
        # The dark level is no light, but it is in every pixel: 12 DN of about 610.
        assert float(np.sqrt(np.mean((grid / grid.mean() - truth / truth.mean()) ** 2))) < 0.01


def test_without_repeats_it_is_degraded_and_claims_nothing() -> None:
    made = calibrate(RECIPE, list(frames(patches(), 6)), calibration_id="two", now=NOW)
    assert made.kind is CalibrationKind.DEGRADED
    assert all(channel.noise.gain_dn_per_e == 0 and not channel.noise.curve_mean_dn for channel in made.channels)
    assert all(channel.psf_sigma_px == 0 for channel in made.channels)
    assert made.px_per_mm is None
    assert any("no photon transfer was measured" in finding for finding in made.findings)
    assert any("scale in mm" in finding for finding in made.findings)


def test_nothing_to_calibrate_from_is_refused() -> None:
    with pytest.raises(CalibrationError, match="harvest backgrounds first"):
        calibrate(RECIPE, [], calibration_id="three", now=NOW)


def test_the_curves_name_every_channel_and_are_well_formed() -> None:
    made = calibrate(RECIPE, list(frames(patches(), 3)), calibration_id="four", now=NOW, repeats=frames(patches(), 16))
    drawing = curves_svg(made)
    assert drawing.startswith("<svg")
    assert "left: noise sigma" in drawing
    assert "right: noise sigma" in drawing
    assert len(re.findall("<circle", drawing)) == sum(len(c.noise.curve_mean_dn) for c in made.channels)
    assert "nan" not in drawing
