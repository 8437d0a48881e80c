"""Series for a calibration at the wire of a whole daemon: taken between parts, kept only when they serve."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cell import settings as settings_module
from cell.errors import DataError, InspectdError, StateError
from cell.recipes import Recipe
from cell.store.images import read_stack
from cell.wire.client import Client
from daemon.main import Daemon
from drivers.cameras.simulated import SimulatedCamera
from drivers.sim.plate import recipe_for_plate

pytestmark = pytest.mark.timeout(120, method="thread")

CAST = Recipe.model_validate(
    recipe_for_plate(2).model_dump()
    | {
        "recipe_id": "cast",
        "product": "cast",
        "height": 96,
        "width": 120,
        "carrier_max_dn": None,
        "deadline_ms": 5000.0,
        "channels": [
            {"name": "right", "exposure_us": 1000.0, "lights": {"az000": 1.0}},
            {"name": "left", "exposure_us": 1000.0, "lights": {"az180": 1.0}},
        ],
    }
)


class Cell:
    """A daemon with a rendered product before a simulated camera."""

    def __init__(self, folder: Path, daemon: Daemon, client: Client) -> None:
        self.folder, self.daemon, self.client = folder, daemon, client

    def take(self, kind: str, **more: Any) -> dict[str, Any]:
        return self.client.call("inspectd.calibration.take", {"kind": kind, **more}, timeout_s=60)

    def files(self, kind: str) -> list[Path]:
        return sorted((self.folder / "state" / "calibrations" / "cast" / kind).glob("*.tif"))

    @property
    def camera(self) -> SimulatedCamera:
        camera = self.daemon.rig.camera
        assert isinstance(camera, SimulatedCamera)
        return camera


@contextmanager
def running(folder: Path, more: str = "") -> Iterator[Cell]:
    (folder / "recipes").mkdir()
    (folder / "recipes" / "cast.json").write_text(CAST.model_dump_json())
    file = folder / "inspectd.toml"
    file.write_text(
        f"""
state_dir = "{folder}/state"
recipes_dir = "{folder}/recipes"
minimum_free_mb = 0
[camera]
driver = "simulated"
isolated = false
frame_timeout_s = 0.3

[emulated]
product = "cast-2"
height = 96
width = 120
{more}
[wire]
commands = "ipc://{folder}/c"
events = "ipc://{folder}/e"
"""
    )
    settings = settings_module.load(file)
    daemon = Daemon(settings)
    daemon.start()
    thread = threading.Thread(target=daemon.run, name="test-daemon")
    thread.start()
    try:
        with Client(settings.wire.commands, timeout_s=10) as client:
            client.call("SelectModeAutomatic")
            yield Cell(folder, daemon, client)
    finally:
        daemon.stop()
        thread.join(10)
        daemon.close()


def test_repeats_at_three_exposures_and_darkness_are_taken_while_a_recipe_is_prepared(tmp_path: Path) -> None:
    with running(tmp_path) as cell:
        cell.client.call("PrepareRecipe", {"RecipeId": "cast"})
        taken = cell.take("repeats", count=8, exposures=[1.0, 0.5, 0.25])
        assert taken["findings"] == []
        assert [(level["exposure"], level["repeats"], level["still"]) for level in taken["levels"]] == [
            (1.0, 8, 8),
            (0.5, 8, 8),
            (0.25, 8, 8),
        ]
        means = [level["channels"][0]["mean"] for level in taken["levels"]]
        assert means[0] > 1.7 * means[1] > 3 * means[2] * 0.8
        files = cell.files("repeats")
        assert len(files) == 24
        stacks = [read_stack(file) for file in files]
        assert {stack.exposure_us for stack in stacks} == {(1000.0,) * 2, (500.0,) * 2, (250.0,) * 2}
        assert all(stack.metadata["emulated"] is True and stack.channels == ("right", "left") for stack in stacks)
        assert cell.take("dark", count=4, lights=[1.0])["levels"][0]["channels"][0]["mean"] < 6
        # The recipe's own exposures come again with the next part, and its light is off.
        reply = cell.client.call("StartSingleJob", {"PartId": "good-000003"})
        assert reply["Result"]["ResultContent"]["reasons"][0].startswith("no model")
        shown = cell.client.call("inspectd.camera.take", {"part_id": "good-000003"})
        assert {frame["exposure_us"] for frame in shown["frames"]} == {1000.0}
        assert all(line["level"] == 0 for line in cell.client.call("inspectd.lights")["lines"])


def test_a_new_series_takes_the_place_of_the_old_one_and_one_that_does_not_serve_leaves_it(tmp_path: Path) -> None:
    with running(tmp_path, "album_mb = 50") as cell:
        # An album shows the same picture again, noise and all: a frozen camera.
        with pytest.raises(DataError, match="frozen"):
            cell.take("repeats", count=8)
        assert cell.files("repeats") == []
    other = tmp_path / "other"
    other.mkdir()
    with running(other) as cell:
        cell.take("target", count=8, height_mm=0.5, dot_pitch_mm=1.0)
        first = cell.files("target")
        assert read_stack(first[0]).metadata["height_mm"] == 0.5
        assert read_stack(first[0]).metadata["dot_pitch_mm"] == 1.0
        cell.take("target", count=8, add=True)
        assert len(cell.files("target")) == 16
        with pytest.raises(InspectdError):
            cell.take("target", part_id="hole-000001")
        with pytest.raises(DataError, match="saturated"):
            cell.take("target", count=8, exposures=[64.0])
        assert len(cell.files("target")) == 16
        cell.take("target", count=8)
        assert len(cell.files("target")) == 8


def test_no_series_is_taken_while_a_run_is_on(tmp_path: Path) -> None:
    with running(tmp_path) as cell:
        cell.client.call("PrepareRecipe", {"RecipeId": "cast"})
        cell.client.call("StartContinuous", {"Parameters": {"interval_ms": 200.0}})
        with pytest.raises(StateError, match="a run is on"):
            cell.take("repeats")
        cell.client.call("Stop")
        assert cell.files("repeats") == []


def test_the_status_says_that_a_calibration_is_needed_and_when_the_last_was_made(tmp_path: Path) -> None:
    with running(tmp_path) as cell:
        assert cell.client.call("inspectd.status")["calibration"] is None
        cell.client.call("PrepareRecipe", {"RecipeId": "cast"})
        told = cell.client.call("inspectd.status")["calibration"]
        assert told["CalibrationNeeded"] is True
        assert "has no calibration" in told["Reason"]
        assert (told["LastCalibration"], told["NextCalibration"]) == (None, None)
