"""Every file in config/ is loaded, and the emulated cell runs from it with the vendor's own emulator."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from cell import settings
from cell.recipe_files import read_recipe
from cell.settings import WireSettings
from cell.store.images import read_stack
from cell.wire.client import Client
from cell.wire.security import needs_curve
from daemon.main import Daemon
from drivers.sim.cell import open_product
from tests.daemon.cells import Cell, eventually

CONFIG = Path(__file__).parents[2] / "config"


@pytest.mark.parametrize("file", sorted(CONFIG.glob("*.toml")), ids=lambda file: file.name)
def test_every_settings_file_is_valid(file: Path) -> None:
    loaded = settings.load(file)
    for address in (loaded.wire.commands, loaded.wire.events):
        needs_curve(address, loaded.wire.keys)


@pytest.mark.parametrize("file", sorted((CONFIG / "recipes").glob("*.json")), ids=lambda file: file.name)
def test_every_recipe_is_valid_and_its_lights_are_those_of_the_emulated_cell(file: Path) -> None:
    recipe = read_recipe(file)
    assert file.stem == recipe.recipe_id
    cell = settings.load(CONFIG / "emulated.toml")
    product = open_product(cell.emulated)
    lines = {line for channel in recipe.channels for line in channel.lights}
    assert lines <= set(cell.light.lines) == set(product.lines or ())


def test_the_emulated_cell_takes_complete_frame_sets_through_pylon(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    for file in (CONFIG / "recipes").glob("*.json"):
        # Whether parts come in time is another test's question: the machine may be busy.
        patient = read_recipe(file).model_copy(update={"deadline_ms": 20_000.0})
        (tmp_path / "recipes" / file.name).write_text(patient.model_dump_json())
    changed = settings.load(CONFIG / "emulated.toml").model_copy(
        update={
            "state_dir": tmp_path / "state",
            "recipes_dir": tmp_path / "recipes",
            "minimum_free_mb": 0,
            "wire": WireSettings(commands=f"ipc://{tmp_path}/c", events=f"ipc://{tmp_path}/e"),
        }
    )
    daemon = Daemon(changed)
    daemon.start()
    thread = threading.Thread(target=daemon.run, name="test-daemon")
    thread.start()
    try:
        with Client(changed.wire.commands, timeout_s=30) as client:
            cell = Cell(daemon, client, camera=None, light=None)  # type: ignore[arg-type]
            cell.ready()
            verdicts = [cell.trigger(f"{kind}-{n:06d}") for n in range(5) for kind in ("good", "pit")]
            assert {verdict["reasons"][0].split(":")[0] for verdict in verdicts} == {
                "no model is deployed for recipe plate"
            }
            assert all(verdict["emulated"] for verdict in verdicts)
            assert cell.trigger("nonsense")["reasons"][0].startswith("missing")
            assert eventually(lambda: cell.status()["archive"]["written"] == 10)
            found = client.call("GetResultComponentsById", {"ResultId": verdicts[1]["job_id"]})["Components"]
            stack = read_stack(changed.state_dir / found[0]["Path"], found[0]["Hash"])
            assert stack.channels == ("az000", "az090", "az180", "az270")
            assert stack.pixels.shape == (4, 256, 320)
            assert len({plane.tobytes() for plane in stack.pixels}) == 4
    finally:
        daemon.stop()
        thread.join(10)
        daemon.close()
