"""Cameras in processes of their own under a whole daemon: crash, hang, removal, and several for one part."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cell.clock import monotonic, utc_now
from cell.errors import DataError
from cell.frames import Acquired, AcquisitionFault, FailedAcquisition, FrameSet
from cell.recipes import Recipe
from cell.settings import Settings, WireSettings
from cell.wire.client import Client
from daemon.acquire import Acquirer, shares_of
from daemon.main import Daemon
from daemon.parts import Part
from drivers.cameras.isolated import IsolatedCamera
from drivers.sim.plate import recipe_for_plate
from tests.daemon.cells import eventually
from tests.drivers.isolation import isolated, settings_of

pytestmark = pytest.mark.timeout(120, method="thread")

PLATE = recipe_for_plate(2).model_copy(update={"recipe_id": "plate", "deadline_ms": 400.0})
BOTH = PLATE.model_copy(
    update={
        "channels": (
            PLATE.channels[0],
            PLATE.channels[1].model_copy(update={"camera": "side"}),
        )
    }
)


class Running:
    """A daemon with a camera in its own process."""

    def __init__(self, client: Client, camera: IsolatedCamera) -> None:
        self.client = client
        self.camera = camera

    def trigger(self, part_id: str) -> dict[str, Any]:
        reply = self.client.call("StartSingleJob", {"PartId": part_id})
        content: dict[str, Any] = reply["Result"]["ResultContent"]
        return content

    def status(self) -> dict[str, Any]:
        return self.client.call("inspectd.status")

    def judges(self) -> bool:
        return bool(self.trigger("good-000001")["reasons"][0].startswith("no model"))


@contextmanager
def running(folder: Path, recipe: Recipe = PLATE, **camera: Any) -> Iterator[Running]:
    settings: Settings = settings_of(frame_timeout_s=0.3, **camera).model_copy(
        update={
            "state_dir": folder / "state",
            "recipes_dir": folder / "recipes",
            "minimum_free_mb": 0,
            "wire": WireSettings(commands=f"ipc://{folder}/c", events=f"ipc://{folder}/e"),
        }
    )
    settings.recipes_dir.mkdir()
    (settings.recipes_dir / "plate.json").write_text(recipe.model_dump_json())
    daemon = Daemon(settings)
    daemon.start()
    thread = threading.Thread(target=daemon.run, name="test-daemon")
    thread.start()
    try:
        with Client(settings.wire.commands, timeout_s=10) as client:
            client.call("SelectModeAutomatic")
            client.call("PrepareRecipe", {"RecipeId": "plate"})
            assert isinstance(daemon.rig.camera, IsolatedCamera)
            yield Running(client, daemon.rig.camera)
    finally:
        daemon.stop()
        thread.join(10)
        daemon.close()


@pytest.mark.parametrize(("kind", "fault"), [("SIGSEGV", "camera"), ("hang", "missing")], ids=["crash", "hang"])
def test_the_line_goes_on_when_the_vendors_library_does_not(tmp_path: Path, kind: str, fault: str) -> None:
    with running(tmp_path) as cell:
        assert cell.judges()
        first = cell.camera.pid
        cell.camera.emulate("mishap", "expose", kind)
        verdict = cell.trigger("good-000002")
        assert verdict["outcome"] == "FAULT"
        assert verdict["timings"]["total_ms"] < PLATE.deadline_ms + 100, "answered after the deadline"
        assert cell.trigger("good-000003")["outcome"] == "FAULT"
        assert eventually(cell.judges, 15)
        told = cell.status()["cameras"]["camera"]
        assert told["faults"][fault] >= 1
        assert (told["recoveries"], told["process_restarts"], told["lost"]) == (1, 1, False)
        assert cell.camera.pid != first
        assert not any("stuck" in condition["name"] for condition in cell.status()["conditions"])


def test_the_heart_goes_on_beating_while_a_camera_is_away(tmp_path: Path) -> None:
    with running(tmp_path) as cell:
        cell.camera.emulate("remove")
        beats = []
        assert cell.trigger("good-000001")["outcome"] == "FAULT"
        for _ in range(20):
            assert cell.trigger("good-000002")["outcome"] == "FAULT"
            beats.append(cell.status()["state"]["name"])
        assert set(beats) == {"Error"}
        cell.camera.emulate("plug_in")
        assert eventually(cell.judges, 5), "not back within 5 s of the device's return"
        assert cell.status()["cameras"]["camera"]["process_restarts"] == 0


def test_a_killed_process_is_back_with_its_settings(tmp_path: Path) -> None:
    with running(tmp_path) as cell:
        os.kill(cell.camera.pid, signal.SIGKILL)
        assert cell.trigger("good-000001")["outcome"] == "FAULT"
        assert eventually(cell.judges, 10)
        assert cell.camera.features.read("Width") == PLATE.width


def test_a_recipe_that_names_a_camera_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with running(tmp_path) as cell:
        cell.client.call("AddRecipe", {"Recipe": BOTH.model_copy(update={"version": 2}).model_dump(mode="json")})
        with pytest.raises(DataError, match=r"takes channel az180 with the camera side, but this cell has camera;"):
            cell.client.call("PrepareRecipe", {"RecipeId": "plate"})
        assert cell.judges(), "what was prepared before must stay"


def _part(recipe: Recipe, number: int) -> Part:
    return Part(
        job_id=f"j-{number}",
        trigger_id=number,
        part_id="good-000001",
        recipe=recipe,
        received=monotonic(),
        created_at=utc_now(),
    )


def _take(acquirer: Acquirer, number: int) -> Acquired:
    return acquirer.take(_part(BOTH, number))


def test_several_cameras_take_one_part_and_each_is_brought_back_alone() -> None:
    with isolated(others=("side",)) as (rig, first):
        side = rig.cameras["side"]
        assert isinstance(side, IsolatedCamera)
        acquirer = Acquirer(rig)
        acquirer.configure(BOTH)
        taken = _take(acquirer, 1)
        assert isinstance(taken, FrameSet)
        assert [frame.channel for frame in taken.frames] == ["az000", "az180"]
        assert taken.frames[0].frame_id == taken.frames[1].frame_id == 1, "each camera counts its own"
        os.kill(side.pid, signal.SIGKILL)
        failed = _take(acquirer, 2)
        assert isinstance(failed, FailedAcquisition)
        assert (failed.fault, failed.channels) == (AcquisitionFault.CAMERA, ("az180",))
        assert acquirer.cameras["side"].lost
        assert not acquirer.cameras["camera"].lost
        assert isinstance(_take(acquirer, 3), FailedAcquisition)
        assert eventually(acquirer.recover, 10)
        assert isinstance(_take(acquirer, 4), FrameSet)
        assert (side.restarts, first.restarts) == (1, 0)
        assert acquirer.cameras["side"].faults[AcquisitionFault.CAMERA] == 2
        assert not acquirer.cameras["camera"].faults
        with pytest.raises(DataError, match="with the camera top, but this cell has camera, side"):
            acquirer.configure(
                PLATE.model_copy(update={"channels": (PLATE.channels[0].model_copy(update={"camera": "top"}),)})
            )


def test_each_camera_is_set_up_for_its_own_channels() -> None:
    shares = shares_of(BOTH)
    assert {role: share.channel_names for role, share in shares.items()} == {"camera": ("az000",), "side": ("az180",)}
    assert shares_of(PLATE)["camera"] is PLATE
