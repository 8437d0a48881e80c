"""The emulated cell as its cameras see it: true bits at any depth, and drift that shows at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image

from cell.recipes import Recipe
from cell.settings import CameraSettings, DriftSettings, EmulatedCellSettings, LightSettings, Settings
from drivers.registry import open_rig
from drivers.sim.cell import EmulatedCell, open_cell
from drivers.sim.folder import FolderProduct
from drivers.sim.sensor import Sensor
from drivers.sim.studio import StudioProduct, recipe_for

CAST = EmulatedCellSettings(product="cast-2")


def _recipe(bit_depth: int) -> Recipe:
    product = open_cell(CAST).product
    assert isinstance(product, StudioProduct)
    return recipe_for(product).model_copy(update={"bit_depth": bit_depth})


@pytest.mark.parametrize("driver", ["simulated", "pylon"])
@pytest.mark.parametrize("bit_depth", [10, 12, 16])
def test_deep_frames_have_levels_of_their_own(driver: Literal["simulated", "pylon"], bit_depth: int) -> None:
    """Eight bits spread over sixteen would have 256 levels and lower bits that follow from the upper ones."""
    recipe = _recipe(bit_depth)
    light = LightSettings(driver="simulated")
    rig = open_rig(Settings(camera=CameraSettings(driver=driver, isolated=False), light=light, emulated=CAST))
    try:
        rig.camera.configure(recipe)
        rig.present("good-000001")
        rig.light.apply(recipe.channels[0].lights)
        frame = rig.camera.expose(recipe.channels[0])
    finally:
        rig.close()
    pixels = frame.pixels.astype(np.int64)
    assert frame.bit_depth == bit_depth
    assert frame.pixels.dtype == np.uint16
    assert pixels.max() < 1 << bit_depth
    assert len(np.unique(pixels)) > (500 if bit_depth == 10 else 1500)
    low = pixels & ((1 << (bit_depth - 8)) - 1)
    spread = pixels >> 8 if bit_depth == 16 else pixels >> (16 - bit_depth) >> (bit_depth - 8)
    assert (low == spread & ((1 << (bit_depth - 8)) - 1)).mean() < 0.5, "the low bits repeat the high ones"
    assert np.bincount(low.ravel()).min() > 0, "some low bits never come"


def test_the_noise_of_a_deep_frame_is_that_of_its_sensor_and_eight_of_twelve_bits_are_the_upper_ones() -> None:
    cell = open_cell(CAST)
    cell.present("flat-000000")
    cell.illuminate({"az000": 0.5})
    for bit_depth in (12, 16):
        pair = [cell.picture(256, 320, 1000.0, 0.0, bit_depth).astype(float) for _ in range(2)]
        truth = Sensor.of_depth(bit_depth).noise_model()
        level = (pair[0] + pair[1]) / 2
        expected = truth.gain_dn_per_e * (level - truth.offset_dn).mean() + truth.read_noise_dn**2 + 1 / 12
        assert (pair[0] - pair[1]).var() / 2 == pytest.approx(expected, rel=0.03)
    deep = open_cell(CAST.model_copy(update={"bit_depth": 12}))
    pictures = []
    for asked in (12, 8, None):
        deep.present("good-000004")
        deep.illuminate({"az000": 1.0})
        pictures.append(deep.picture(256, 320, 1000.0, 0.0, asked))
    assert np.array_equal(pictures[1], pictures[0] >> 4)
    assert pictures[1].dtype == np.uint8
    assert np.array_equal(pictures[0], pictures[2])


DRIFTS: dict[str, dict[str, Any]] = {
    "lamp": {"amount": 0.3, "line": "az000"},
    "gain": {"amount": 0.3},
    "defocus": {"amount": 1.5},
    "material": {"amount": 2},
    "fixture": {"amount": 0.4},
}


@pytest.mark.parametrize("kind", sorted(DRIFTS))
@pytest.mark.parametrize("album_mb", [0.0, 50.0])
def test_a_drift_shows_in_the_first_frame_after_it_also_out_of_an_album(kind: Any, album_mb: float) -> None:
    drift = DriftSettings(kind=kind, start_part=2, **DRIFTS[kind])
    emulated = CAST.model_copy(update={"drift": (drift,), "album_mb": album_mb})
    rig = open_rig(Settings(camera=CameraSettings(driver="simulated", isolated=False), emulated=emulated))
    recipe = _recipe(8)
    shown = []
    try:
        rig.camera.configure(recipe)
        for _ in range(3):
            rig.present("good-000005")
            rig.light.apply(recipe.channels[0].lights)
            shown.append(rig.camera.expose(recipe.channels[0]).pixels.astype(float))
    finally:
        rig.close()
    assert np.array_equal(shown[0], shown[1]), "nothing had drifted yet"
    face = shown[0] > 40
    ratio = (shown[2][face] - 4).mean() / (shown[0][face] - 4).mean()
    if kind == "lamp":
        assert ratio == pytest.approx(0.7, abs=0.02)
    elif kind == "gain":
        assert ratio == pytest.approx(1.3, abs=0.05)  # some highlights clip
    else:
        assert np.abs(shown[2] - shown[0])[face].mean() > 4
    if kind == "defocus":
        assert np.abs(np.diff(shown[2])).mean() < 0.8 * np.abs(np.diff(shown[0])).mean()


def test_gain_and_lamp_drift_change_the_pictures_of_a_folder_too(tmp_path: Path) -> None:
    file = tmp_path / "seeds/dent/a.png"
    file.parent.mkdir(parents=True)
    Image.fromarray(np.full((16, 16), 100, np.uint8)).save(file)
    drifts = (
        DriftSettings(kind="gain", start_part=1, amount=0.5),
        DriftSettings(kind="lamp", start_part=2, amount=0.5),
    )
    cell = EmulatedCell(FolderProduct(tmp_path), drift=drifts)
    seen = []
    for _ in range(3):
        cell.present("seeds/dent/a")
        cell.illuminate({"light": 1.0})
        seen.append(int(cell.picture(16, 16, 1000.0, 0.0)[8, 8]))
    assert seen == [100, 150, 75]


@pytest.mark.parametrize("product", ["plate-2", "cast-2"])
def test_a_lamp_that_the_cell_has_not_lights_nothing(product: str) -> None:
    dark, wrong = (open_cell(EmulatedCellSettings(product=product)) for _ in range(2))
    for cell, lights in ((dark, {}), (wrong, {"no-such-lamp": 1.0})):
        cell.present("good-000001")
        cell.illuminate(lights)
    assert np.array_equal(dark.picture(64, 64, 1000.0, 0.0), wrong.picture(64, 64, 1000.0, 0.0))
