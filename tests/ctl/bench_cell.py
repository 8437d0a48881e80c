"""A cell with a simulated camera and light, for the tools that look at hardware: with a daemon and without."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cell import settings as settings_module
from cell.recipes import ArchiveRule, Recipe
from cell.settings import Settings
from cell.wire.client import Client
from daemon.ctl.main import main
from daemon.main import Daemon
from drivers.sim.plate import recipe_for_plate

Run = Callable[..., tuple[int, str, str]]


def twelve_bit(recipe_id: str = "plate", lights: int = 2) -> Recipe:
    """The simulated plate at 12 bit under a few lights."""
    values = recipe_for_plate(lights).model_dump() | {
        "recipe_id": recipe_id,
        "bit_depth": 12,
        "deadline_ms": 5000.0,
        "archive": ArchiveRule(ok_share=0.0, ring=0).model_dump(),
    }
    return Recipe.model_validate(values)


def configured(folder: Path, *recipes: Recipe, camera: str = "", more: str = "") -> Path:
    """Write a settings file and recipes below `folder`; return the file."""
    (folder / "recipes").mkdir(parents=True, exist_ok=True)
    for recipe in recipes:
        (folder / "recipes" / f"{recipe.recipe_id}.json").write_text(recipe.model_dump_json())
    file = folder / "inspectd.toml"
    file.write_text(
        f"""
state_dir = "{folder}/state"
recipes_dir = "{folder}/recipes"
minimum_free_mb = 0
{more}
[camera]
driver = "simulated"
isolated = false
frame_timeout_s = 0.3
{camera}
[wire]
commands = "ipc://{folder}/c"
events = "ipc://{folder}/e"
trainer_commands = "ipc://{folder}/t"
trainer_events = "ipc://{folder}/te"
"""
    )
    return file


def runner(file: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return what runs inspectctl on a cell and gives exit code, stdout and stderr."""

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["--config", str(file), *words])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return run


@contextmanager
def daemon_of(file: Path) -> Iterator[tuple[Daemon, Client]]:
    """Run the daemon of a settings file, with its own simulated hardware, until the block ends."""
    settings: Settings = settings_module.load(file)
    daemon = Daemon(settings)
    daemon.start()
    thread = threading.Thread(target=daemon.run, name="test-daemon")
    thread.start()
    try:
        with Client(settings.wire.commands, timeout_s=10) as client:
            yield daemon, client
    finally:
        daemon.stop()
        thread.join(10)
        daemon.close()
