"""``inspectctl calibrate`` on a whole emulated cell: from series before the camera to a calibration in the store."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cell import settings as settings_module
from cell.calibration import Calibration
from cell.errors import CalibrationError
from cell.process import Cause
from cell.recipes import Recipe
from cell.store.calibrations import current, standing
from cell.store.layout import StateDir
from cell.store.learning import LearningStore
from cell.wire.client import Client
from drivers.sim.plate import recipe_for_plate
from drivers.sim.sensor import Sensor
from tests.ctl.bench_cell import Run, configured, daemon_of, runner
from trainer.service import TrainerService

pytestmark = pytest.mark.timeout(300, method="thread")

LINES = ("az000", "az120", "az240")
CAST = Recipe.model_validate(
    recipe_for_plate(3).model_dump()
    | {
        "recipe_id": "cast",
        "product": "cast",
        "height": 192,
        "width": 240,
        "bit_depth": 12,
        "carrier_max_dn": None,
        "channels": [{"name": line, "exposure_us": 1000.0, "lights": {line: 1.0}} for line in LINES],
    }
)


@contextmanager
def trainer_of(file: Path) -> Iterator[None]:
    """Run the real trainer, whose children read the settings file, until the block ends."""
    service = TrainerService(settings_module.load(file), file)
    thread = threading.Thread(target=service.run, name="test-trainer")
    thread.start()
    try:
        yield
    finally:
        service.stop()
        thread.join(20)


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Client]]:
    folder = tmp_path_factory.mktemp("cast")
    more = '[emulated]\nproduct = "cast-3"\nbit_depth = 12\nheight = 192\nwidth = 240'
    file = configured(folder, CAST)
    file.write_text(file.read_text() + more + "\n[trainer]\nthreads = 1\nniceness = 0\n")
    with daemon_of(file) as (_, client), trainer_of(file):
        client.call("SelectModeAutomatic")
        client.call("inspectd.status")
        client.call("PrepareRecipe", {"RecipeId": "cast"})
        yield file, client


@pytest.fixture
def run(cell: tuple[Path, Client], capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(cell[0], capsys)


def answered(run: Run, *words: str) -> dict[str, Any]:
    code, out, err = run(*words, "--json")
    assert code == 0, err
    document: dict[str, Any] = json.loads(out)
    return document


def test_before_anything_was_taken_it_is_said_what_to_do(run: Run) -> None:
    code, _, err = run("calibrate")
    assert code == 65
    assert "inspectctl calibrate take" in err
    told = answered(run, "calibrate", "list")
    assert told["CalibrationNeeded"] is True
    assert told["calibrations"] == []
    code, _, err = run("calibrate", "show")
    assert code == 66
    assert "no calibration yet" in err


def test_series_are_taken_and_become_a_measured_calibration(run: Run, cell: tuple[Path, Client]) -> None:
    folder = cell[0].parent
    code, out, err = run("calibrate", "take", "repeats", "-n", "12", "--exposure", "1", "--exposure", "0.3")
    assert (code, err) == (0, ""), err
    assert "24 frame sets" in out
    assert out.count("yes") == 6
    for words in (
        ("dark", "-n", "8"),
        ("flat", "-n", "8"),
        ("target", "-n", "8", "--dot-pitch-mm", "1"),
        ("ball", "-n", "8", "--ball-radius-mm", "3"),
    ):
        assert answered(run, "calibrate", "take", *words)["findings"] == []
    job = answered(run, "calibrate", "--wait")["job"]
    assert job["state"] == "done", job
    assert job["result"]["kind"] == "measured"
    found = answered(run, "calibrate", "show")
    made = Calibration.model_validate({key: value for key, value in found.items() if key != "digest"})
    assert found["digest"] == made.record_digest() == job["result"]["digest"]
    truth = Sensor.of_depth(12).noise_model()
    for channel in made.channels:
        assert channel.noise.gain_dn_per_e == pytest.approx(truth.gain_dn_per_e, rel=0.03)
        assert channel.noise.read_noise_dn == pytest.approx(truth.read_noise_dn, rel=0.05)
        assert channel.sharpness is not None
        assert channel.direction is not None
    assert made.version == 1
    assert made.emulated is True
    assert made.px_per_mm == pytest.approx(15.0, rel=0.002)
    drawing = folder / "state" / made.pictures[0].path
    assert drawing.read_text().startswith("<svg")
    code, out, _ = run("calibrate", "show", made.record_digest()[:8])
    assert code == 0
    assert "15.0" in out
    assert all(line in out for line in LINES)
    code, out, _ = run("calibrate", "list")
    assert code == 0
    assert "calibration needed: no" in out
    assert "repeats" in out


def test_the_daemon_tells_when_the_last_was_made_and_the_next_is_due(run: Run, cell: tuple[Path, Client]) -> None:
    client = cell[1]
    told = client.call("inspectd.status")["calibration"]
    assert told["CalibrationNeeded"] is False
    assert told["Kind"] == "measured"
    last, following = (datetime.fromisoformat(told[key]) for key in ("LastCalibration", "NextCalibration"))
    assert following - last == timedelta(days=90)
    configuration = client.call("GetConfigurationList")["Configurations"][0]
    assert configuration["InternalConfigurationId"]["Hash"] == told["ConfigurationId"]
    assert configuration["InternalConfigurationId"]["Version"] == "1"
    assert client.call("ActivateConfiguration", {"ConfigurationId": told["ConfigurationId"]})["Error"] == 0


def test_what_came_to_be_since_makes_another_one_needed(run: Run, cell: tuple[Path, Client]) -> None:
    folder = cell[0].parent
    with LearningStore(StateDir.create(folder / "state")) as store:
        assert current(store, CAST).version == 1
        brighter = CAST.model_copy(
            update={"channels": tuple(one.model_copy(update={"exposure_us": 2000.0}) for one in CAST.channels)}
        )
        assert "exposures, gains or lights were changed" in standing(store, brighter).reason
        later = datetime.now(UTC) + timedelta(days=91)
        assert "outdated since" in standing(store, CAST, lambda: later).reason
        store.process.declare("cast", Cause.LAMP, "Ada")
        with pytest.raises(CalibrationError, match=r"the lamp changed on .*declared by Ada"):
            current(store, CAST)
    assert answered(run, "calibrate", "list")["CalibrationNeeded"] is True
    assert "lamp changed" in cell[1].call("inspectd.status")["calibration"]["Reason"]


def test_a_series_that_does_not_serve_leaves_what_was_there(run: Run, cell: tuple[Path, Client]) -> None:
    folder = cell[0].parent / "state" / "calibrations" / "cast" / "flat"
    before = sorted(file.name for file in folder.glob("*.tif"))
    code, _, err = run("calibrate", "take", "flat", "--exposure", "30")
    assert code == 65
    assert "saturated" in err
    assert "was not kept" in err
    assert sorted(file.name for file in folder.glob("*.tif")) == before
