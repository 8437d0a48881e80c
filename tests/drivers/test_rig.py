"""Settings to hardware: every registered camera on its own cell, and what each must do whoever made it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cell.errors import CameraError, ConfigurationError, DataError, LightError, SdkMissing
from cell.recipes import Recipe
from cell.settings import CameraSettings, EmulatedCellSettings, LightSettings, Settings
from drivers.cameras import simulated_mark
from drivers.cameras.base import fault_of
from drivers.cameras.simulated import Fault, SimulatedCamera
from drivers.registry import CAMERAS, Rig, open_rig
from drivers.sim.folder import recipe_for_folder
from drivers.sim.plate import recipe_for_plate
from tests.drivers.conftest import VIKY

pytestmark = pytest.mark.timeout(60, method="thread")  # pylon uses SIGALRM itself

PLATE = recipe_for_plate(2)
SQUARE = PLATE.model_copy(update={"height": 400, "width": 400})


def _settings(driver: str, *, isolated: bool = True, **emulated: object) -> Settings:
    camera: dict[str, object] = {"driver": driver, "isolated": isolated}
    if driver == "genicam":
        camera |= {"device": "0", "producers": (VIKY,)}
    return Settings(
        camera=CameraSettings.model_validate(camera),
        light=LightSettings(lines=("az000", "az180") if not emulated else ("light",)),
        emulated=EmulatedCellSettings.model_validate(emulated or {"product": "plate-2"}),
    )


@pytest.fixture(params=[True, False], ids=["isolated", "in-process"])
def isolated(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(params=sorted(CAMERAS))
def rig(request: pytest.FixtureRequest, isolated: bool) -> Iterator[tuple[Rig, Recipe]]:
    opened = open_rig(_settings(request.param, isolated=isolated))
    yield opened, SQUARE if request.param == "genicam" else PLATE
    opened.close()


def test_every_camera_keeps_the_contract(rig: tuple[Rig, Recipe]) -> None:
    cell, recipe = rig
    assert cell.emulated
    with pytest.raises(CameraError, match="prepare a recipe"):
        cell.camera.expose(recipe.channels[0])
    cell.present("good-000001")
    cell.camera.configure(recipe)
    ids = []
    for _ in range(2):
        for channel in recipe.channels:
            cell.light.apply(channel.lights)
            frame = cell.camera.expose(channel)
            assert frame.shape == (recipe.height, recipe.width)
            assert (frame.channel, frame.bit_depth, frame.camera) == (channel.name, 8, cell.camera.name)
            ids.append(frame.frame_id)
    cell.camera.recover()
    cell.camera.configure(recipe)
    ids.append(cell.camera.expose(recipe.channels[0]).frame_id)
    assert ids == sorted(set(ids)), "frame ids must go on over recovery"
    cell.close()
    cell.close()
    with pytest.raises(CameraError):
        cell.camera.expose(recipe.channels[0])


@pytest.mark.parametrize("driver", ["pylon", "simulated"])
def test_the_light_decides_what_the_camera_sees(driver: str, isolated: bool) -> None:
    cell = open_rig(_settings(driver, isolated=isolated))
    try:
        cell.camera.configure(PLATE)
        cell.present("scratch-000001")
        assert cell.camera.expose(PLATE.channels[0]).pixels.mean() < 10, "the light is on after construction"
        seen = []
        for channel in PLATE.channels:
            cell.light.apply(channel.lights)
            seen.append(cell.camera.expose(channel).pixels.astype(int))
        assert np.abs(seen[0] - seen[1]).mean() > 3
        with pytest.raises(LightError, match="no light line uv"):
            cell.light.apply({"uv": 1.0})
        assert cell.camera.expose(PLATE.channels[0]).pixels.mean() < 10, "the light stayed on after an error"
        with pytest.raises(LightError, match=r"can't shine at 1\.5"):
            cell.light.apply({"az000": 1.5})
        cell.light.apply({"az000": 1.0})
        cell.light.close()
        assert cell.camera.expose(PLATE.channels[0]).pixels.mean() < 10, "the light stayed on after close"
        with pytest.raises(DataError, match="plates are called"):
            cell.present("bolt-1")
    finally:
        cell.close()


@pytest.mark.parametrize("driver", ["pylon", "simulated"])
def test_a_folder_of_pictures_arrives_bit_for_bit(driver: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    pictures = {
        "seeds/dent/t1": generator.integers(20, 250, (40, 50)).astype(np.uint8),
        "backgrounds/good/t2": generator.integers(20, 250, (33, 60)).astype(np.uint8),
    }
    for part_id, pixels in pictures.items():
        file = tmp_path / f"{part_id}.png"
        file.parent.mkdir(parents=True)
        Image.fromarray(pixels).save(file)
    Image.fromarray(np.where(pictures["seeds/dent/t1"] > 200, 255, 0).astype(np.uint8)).save(
        tmp_path / "seeds/dent/t1_mask.png"
    )
    recipe = recipe_for_folder(tmp_path)
    assert (recipe.height, recipe.width, recipe.class_names) == (48, 64, ("dent",))
    cell = open_rig(_settings(driver, product="folder", folder=tmp_path))
    try:
        cell.camera.configure(recipe)
        for part_id, pixels in pictures.items():
            cell.present(part_id)
            cell.light.apply({"light": 1.0})
            frame = cell.camera.expose(recipe.channels[0])
            top, left = (48 - pixels.shape[0]) // 2, (64 - pixels.shape[1]) // 2
            inner = frame.pixels[top : top + pixels.shape[0], left : left + pixels.shape[1]]
            assert np.array_equal(inner, pixels)
            assert frame.pixels[0, 0] <= (recipe.carrier_max_dn or 0)
    finally:
        cell.close()


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        (Fault.DROPPED, "missing"),
        (Fault.REPEATED, "repeated"),
        (Fault.TRUNCATED, "wrong-size"),
    ],
)
def test_the_simulated_camera_shows_each_fault_once(fault: Fault, name: str) -> None:
    cell = open_rig(_settings("simulated", isolated=False))
    assert isinstance(cell.camera, SimulatedCamera)
    cell.camera.configure(PLATE)
    cell.present("good-000001")
    cell.camera.expose(PLATE.channels[0])
    cell.camera.faults.append(fault)
    with pytest.raises(Exception, match=r"\w") as caught:
        cell.camera.expose(PLATE.channels[0])
    assert fault_of(caught.value) == name  # type: ignore[arg-type]
    cell.camera.expose(PLATE.channels[0])
    cell.close()


def test_the_simulated_camera_is_gone_until_it_is_plugged_in() -> None:
    cell = open_rig(_settings("simulated", isolated=False))
    assert isinstance(cell.camera, SimulatedCamera)
    cell.camera.configure(PLATE)
    cell.camera.faults.append(Fault.REMOVED)
    for call in (lambda: cell.camera.expose(PLATE.channels[0]), cell.camera.recover):
        with pytest.raises(CameraError, match="gone"):
            call()
    cell.camera.plug_in()
    cell.camera.recover()
    cell.camera.expose(PLATE.channels[0])
    cell.close()


@pytest.mark.parametrize(
    ("driver", "module", "command"),
    [("pylon", "pypylon", "pip install pypylon"), ("genicam", "harvesters", "pip install harvesters")],
)
def test_a_missing_sdk_is_named_with_its_command(
    driver: str, module: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SdkMissing, match=command):
        open_rig(_settings(driver, isolated=False))


def test_products_that_are_not_there_are_named(tmp_path: Path) -> None:
    for emulated, words in (
        ({"product": "bolt"}, "no emulated product 'bolt'"),
        ({"product": "plate-99"}, "no emulated product"),
        ({"product": "folder"}, "emulated.folder names none"),
        ({"product": "folder", "folder": tmp_path / "none"}, "does not exist"),
        ({"product": "folder", "folder": tmp_path}, "holds no pictures"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            open_rig(_settings("simulated", isolated=False, **emulated))


@pytest.mark.parametrize("isolated", [True, False])
def test_a_marked_frame_of_an_album_shows_the_part_that_lies_there(isolated: bool) -> None:
    recipe = recipe_for_plate(2)
    settings = Settings(
        camera=CameraSettings(driver="simulated", isolated=isolated),
        emulated=EmulatedCellSettings(product="plate-2", mark_frames=True, album_mb=10.0),
    )
    rig = open_rig(settings)
    try:
        rig.camera.configure(recipe)
        shown = []
        for part_id in ("good-000001", "pit-000001", "good-000001"):
            rig.present(part_id)
            for index, channel in enumerate(recipe.channels):
                rig.light.apply(channel.lights)
                pixels = rig.camera.expose(channel).pixels
                mark = simulated_mark.read(pixels)
                assert mark is not None
                assert (mark.part, mark.channel) == (simulated_mark.part_number(part_id), index)
                shown.append(pixels[simulated_mark.ROWS :].copy())
        assert not np.array_equal(shown[0], shown[2])  # another part
        assert not np.array_equal(shown[0], shown[1])  # another light
        assert np.array_equal(shown[0], shown[4])  # out of the album, noise and all
    finally:
        rig.close()
