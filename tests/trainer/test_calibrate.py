"""Calibration against emulated cells' truth; from parts alone it is degraded and claims no more than it can."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.still_cell import StillCell
from cell.calibration import (
    Calibration,
    CalibrationKind,
    LightSource,
    NoiseSource,
    outdated,
    require_current,
    setup_digest,
)
from cell.errors import CalibrationError
from cell.imaging import illumination
from cell.recipes import Channel, DefectClass, Recipe
from drivers.sim.render.lens import Lens
from drivers.sim.sensor import Sensor
from trainer.calibrate import Evidence, Known, calibrate, curves_svg
from trainer.calibrate_light import normals_of
from trainer.calibrate_noise import noises_of
from trainer.calibration_series import Level, reduce

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


def patches(seed: int = 2) -> NDArray[np.float32]:
    field = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((HEIGHT, WIDTH)), 10)
    levels: NDArray[np.float32] = ((field - field.min()) / np.ptp(field) * 5000 + 60).astype(np.float32)
    return levels


def made(*, levels: tuple[Level, ...] = (), parts: NDArray[np.uint16] | None = None, **more: object) -> Calibration:
    backgrounds = list(frames(np.full((HEIGHT, WIDTH), 3000.0, np.float32), 6) if parts is None else parts)
    return calibrate(RECIPE, Evidence(backgrounds, levels, **more), calibration_id="one", now=NOW)  # type: ignore[arg-type]


def repeats(count: int = 16) -> Level:
    return reduce(frames(patches(), count), RECIPE, "repeats")


def dark(count: int = 8) -> Level:
    return reduce(frames(np.zeros((HEIGHT, WIDTH), np.float32), count), RECIPE, "dark")


@cache
def cell() -> tuple[StillCell, list[Level], Calibration]:
    """An emulated cell of 8 bit with four lights, and its calibration from every series."""
    still = StillCell.open("cast-4", 8)
    levels = still.levels()
    return still, levels, calibrate(still.recipe, Evidence((), levels), calibration_id="cast", now=NOW)


def test_every_figure_of_an_emulated_cell_comes_within_its_aim() -> None:
    still, _, found = cell()
    assert found.kind is CalibrationKind.MEASURED
    errors = still.errors(found)
    for name in still.recipe.channel_names:
        row = errors[name]
        assert abs(row["gain"]) < 0.03, name
        assert abs(row["read_noise"]) < 0.05, name
        assert row["flat_field_rms"] < 0.01, name
        assert abs(row["mtf50"]) < 0.05, name
        assert abs(row["psf_sigma"]) < 0.05, name
        assert abs(row["prnu"]) < 0.1, name
        assert abs(row["dsnu"]) < 0.1, name
        assert row["direction_deg"] < 1.0, name
    assert abs(errors["all"]["px_per_mm"]) < 0.002
    assert found.px_per_mm_source == "dots"
    for channel in found.channels:
        assert channel.transfer.linearity_error is not None
        assert channel.transfer.linearity_error < 0.005
        assert channel.illumination.source is LightSource.FLAT
        assert channel.illumination.flicker is not None
        assert channel.illumination.flicker < 0.002
        assert channel.noise.autocorrelation == ()
    assert max(one.illumination.relative_intensity or 0 for one in found.channels) == 1.0


def test_normals_of_a_matt_part_come_from_its_lights() -> None:
    still, levels, found = cell()
    noises = noises_of(still.recipe, [], levels, from_folder=False)
    solved = normals_of(
        still.recipe,
        levels,
        noises,
        [one.illumination for one in found.channels],
        [c.direction for c in found.channels],
    )
    assert solved is not None
    unit, albedo, _ = solved
    true = np.moveaxis(still.product.part_truth("good-000001").normals, 2, 0)
    seen = np.isfinite(true).all(axis=0) & (albedo > 0.1 * np.percentile(albedo, 95))
    seen = ndimage.binary_erosion(seen, iterations=3)
    angle = np.degrees(np.arccos(np.clip((unit * true).sum(axis=0)[seen], -1, 1)))
    # Cast aluminium is no Lambert face: the lobe pulls the normals toward the lights.
    assert float(np.median(angle)) < 10
    assert found.normals_residual is not None


def test_a_target_at_several_heights_tells_the_depth_of_field() -> None:
    levels = []
    for height in (-1.0, -0.5, 0.0, 0.5, 1.0):
        still = StillCell.open("cast-2", 12)
        still.product.lens = Lens(blur_px_per_mm=1.2, defocus_px=1.2 * (height - 0.25))
        levels.append(still.level("target", 8, height_mm=height))
    still = StillCell.open("cast-2", 12)
    found = calibrate(still.recipe, Evidence(still.parts(1), levels), calibration_id="depth", now=NOW)
    assert found.depth is not None
    assert found.depth.focus_mm == pytest.approx(0.25, abs=0.05)
    assert found.depth.blur_px_per_mm == pytest.approx(1.2, rel=0.15)
    assert found.depth.range_mm > 0


def test_measured_from_repeats_without_any_target() -> None:
    found = made(levels=(repeats(), dark()))
    assert found.kind is CalibrationKind.MEASURED
    assert found.frames_used == 30
    for channel in found.channels:
        assert channel.noise.gain_dn_per_e == pytest.approx(0.12, rel=0.03)
        assert channel.noise.read_noise_dn == pytest.approx(1.44, rel=0.05)
        assert channel.transfer.source is NoiseSource.REPEATS
        assert channel.illumination.source is LightSource.PARTS
    assert found.valid_until is not None
    assert found.valid_until > NOW
    assert any("no flat target was shown" in finding for finding in found.findings)


def test_the_flat_field_is_within_one_percent() -> None:
    found = made(parts=frames(np.full((HEIGHT, WIDTH), 5000.0, np.float32), 6))
    for side, channel in enumerate(found.channels):
        field = illumination.field(channel.illumination, HEIGHT, WIDTH)
        # The dark level is no light, but it is in every pixel: 12 DN of about 610.
        assert float(np.sqrt(np.mean((field / field.mean() / light(side) - 1) ** 2))) < 0.01


def test_from_many_parts_the_noise_is_weaker_and_says_so() -> None:
    parts = np.concatenate([frames(patches(seed), 1, seed) for seed in range(24)])
    found = made(parts=parts)
    assert found.kind is CalibrationKind.DEGRADED
    for channel in found.channels:
        assert channel.transfer.source is NoiseSource.PRODUCTION
        assert channel.noise.gain_dn_per_e == pytest.approx(0.12, rel=0.1)
        assert channel.transfer.read_noise_error is None
        assert channel.transfer.repeats == 0
    assert any("not from repeats of a still one" in finding for finding in found.findings)


def test_a_folder_claims_no_gain_at_all() -> None:
    parts = np.concatenate([frames(patches(seed), 1, seed) for seed in range(12)])
    found = made(parts=parts, from_folder=True)
    assert found.kind is CalibrationKind.DEGRADED
    assert all(one.noise.gain_dn_per_e == 0 and not one.noise.curve_mean_dn for one in found.channels)
    assert all(one.transfer.source is NoiseSource.TEXTURE for one in found.channels)
    assert all(one.psf_sigma_px == 0 for one in found.channels)
    assert found.px_per_mm is None
    assert any("no photon transfer was measured" in finding for finding in found.findings)
    assert any("scale in mm and point spread are unknown" in finding for finding in found.findings)


def test_a_known_length_gives_the_scale() -> None:
    still = StillCell.open("disc-2", 8)
    recipe = still.recipe.model_copy(update={"carrier_max_dn": 30})
    parts = still.parts(2)
    found = calibrate(recipe, Evidence(parts, known=Known(part_length_mm=10.0)), calibration_id="x", now=NOW)
    assert found.px_per_mm_source == "part"
    longer = calibrate(recipe, Evidence(parts, known=Known(part_length_mm=20.0)), calibration_id="x", now=NOW)
    assert found.px_per_mm == pytest.approx(2 * (longer.px_per_mm or 0))


def test_a_channel_that_failed_gets_the_noise_of_its_camera() -> None:
    pixels = frames(patches(), 16)
    pixels[:, 1] = pixels[0, 1]
    found = made(levels=(reduce(pixels, RECIPE, "repeats"), dark()))
    assert found.kind is CalibrationKind.MEASURED
    assert found.channels[1].transfer.source is NoiseSource.SENSOR
    assert found.channels[1].noise.gain_dn_per_e == pytest.approx(0.12, rel=0.03)
    assert any("channel right is frozen" in finding for finding in found.findings)


def test_channels_in_another_order_than_in_production_are_refused() -> None:
    still, _, _ = cell()
    swapped = still.frames("good-000001", 8)[:, [1, 0, 2, 3]]
    with pytest.raises(CalibrationError, match="not in the order of production"):
        calibrate(
            still.recipe,
            Evidence(still.parts(3), [reduce(swapped, still.recipe, "repeats")]),
            calibration_id="x",
            now=NOW,
        )


def test_lamps_that_age_over_the_good_parts_are_told() -> None:
    rng = np.random.default_rng(3)
    even = np.full((HEIGHT, WIDTH), 3000.0, np.float32)
    parts, times = [], []
    for day in range(30):
        parts.append(frames(even * np.float32(1 - 0.015 * day + rng.normal(0, 0.003)), 1, day)[0])
        times.append(NOW - timedelta(days=30 - day))
    found = made(parts=np.stack(parts), taken_at=times)
    drift = found.channels[0].illumination.drift_per_day
    assert drift is not None
    assert drift == pytest.approx(-0.019, abs=0.004)
    assert any("a day over the good parts" in finding for finding in found.findings)


@pytest.mark.parametrize(("seconds", "told"), [(0.1, None), (10.0, -0.36)])
def test_a_series_of_a_second_tells_no_change_an_hour(seconds: float, told: float | None) -> None:
    rng = np.random.default_rng(5)
    sets = [[SENSOR.digitise(patches() * (1 - 0.001 * n), 0.0, rng) for _ in (0, 1)] for n in range(16)]
    series = reduce(np.asarray(sets, np.uint16), RECIPE, "repeats", seconds=[seconds * n for n in range(16)])
    for channel in made(levels=(series, dark())).channels:
        drift = channel.illumination.drift_per_hour
        assert drift is None if told is None else drift == pytest.approx(told, rel=0.1)


def test_nothing_to_calibrate_from_is_refused() -> None:
    with pytest.raises(CalibrationError, match="harvest backgrounds first"):
        calibrate(RECIPE, Evidence(), calibration_id="three", now=NOW)


def test_a_calibration_is_outdated_by_age_and_by_what_the_recipe_became() -> None:
    found = made(levels=(repeats(), dark()))
    assert found.setup_digest == setup_digest(RECIPE)
    assert require_current(found, RECIPE, NOW) is found
    assert "outdated since" in outdated(found, RECIPE, NOW + timedelta(days=91))
    longer = tuple(channel.model_copy(update={"exposure_us": 200.0}) for channel in RECIPE.channels)
    changed = RECIPE.model_copy(update={"channels": longer})
    with pytest.raises(CalibrationError, match="exposures, gains or lights were changed"):
        require_current(found, changed, NOW)
    renamed = RECIPE.model_copy(update={"channels": (RECIPE.channels[0],)})
    assert "knows the channels left, right" in outdated(found, renamed, NOW)
    # What a recipe says beside the camera's set-up does not matter to the physics.
    assert not outdated(found, RECIPE.model_copy(update={"deadline_ms": 1.0, "version": 9}), NOW)


def test_the_curves_name_every_channel_and_are_well_formed() -> None:
    _, _, found = cell()
    drawing = curves_svg(found)
    assert drawing.startswith("<svg")
    for channel in found.channels:
        assert f"{channel.channel}: noise variance" in drawing
    dots = sum(len(one.noise.curve_mean_dn) for one in found.channels)
    assert len(re.findall("<circle", drawing)) >= dots
    assert "where the light comes from" in drawing
    assert "nan" not in drawing
    bare = replace(repeats(), kind="repeats")
    assert "unknown: no slanted edge" in curves_svg(made(levels=(bare,)))
