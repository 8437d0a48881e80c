"""A whole daemon in the test's process: real sockets, real databases, hardware on a string."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import packages
from cell.models import ModelManifest
from cell.recipes import Recipe
from cell.settings import Settings, WireSettings
from cell.store.layout import StateDir
from cell.store.learning import LearningStore
from cell.wire.client import Client
from daemon.main import Daemon
from drivers.registry import Rig
from tests.daemon.rigs import StringCamera, StringLight, picture_of, recipe, string_rig


def settings_in(folder: Path, **changes: Any) -> Settings:
    """Return settings with everything under `folder`, and no room demanded on its disk."""
    values: dict[str, Any] = {
        "state_dir": folder / "state",
        "recipes_dir": folder / "recipes",
        "minimum_free_mb": 0,
        "wire": WireSettings(commands=f"ipc://{folder}/c", events=f"ipc://{folder}/e"),
    }
    return Settings(**(values | changes))


@dataclass
class Cell:
    """A running daemon and the strings of its hardware."""

    daemon: Daemon
    client: Client
    camera: StringCamera
    light: StringLight

    def ready(self, recipe_id: str = "plate") -> dict[str, Any]:
        """Take the machine to Ready and return the reply of PrepareRecipe."""
        self.client.call("SelectModeAutomatic")
        return self.client.call("PrepareRecipe", {"RecipeId": recipe_id})

    def trigger(self, part_id: str, **more: Any) -> dict[str, Any]:
        """Inspect a part and return the result's content: the verdict."""
        reply = self.client.call("StartSingleJob", {"PartId": part_id}, **more)
        content: dict[str, Any] = reply["Result"]["ResultContent"]
        return content

    def status(self) -> dict[str, Any]:
        return self.client.call("inspectd.status")


@contextmanager
def running(
    folder: Path, *, emulated: bool = True, settings: Settings | None = None, recipes: tuple[Recipe, ...] | None = None
) -> Iterator[Cell]:
    """Run a daemon in `folder` until the block ends; the recipe ``plate`` is there unless others are given."""
    settings = settings or settings_in(folder)
    settings.recipes_dir.mkdir(parents=True, exist_ok=True)
    for each in (recipe(),) if recipes is None else recipes:
        (settings.recipes_dir / f"{each.recipe_id}.json").write_text(each.model_dump_json())
    rig, camera, light = string_rig(emulated=emulated)

    def rig_of(_: Settings) -> Rig:
        return rig

    daemon = Daemon(settings, rig_of)
    daemon.start()
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(daemon.run()), name="test-daemon")
    thread.start()
    try:
        with Client(settings.wire.commands, settings.wire.keys, timeout_s=10) as client:
            yield Cell(daemon, client, camera, light)
    finally:
        daemon.stop()
        thread.join(10)
        daemon.close()
    assert codes == [0]


def contrast_model(
    folder: Path, gain: float = 1.0, *, model_id: str = "", of: Recipe | None = None, threshold: float = 0.5
) -> ModelManifest:
    """Put a package into the store of the cell in `folder`: bright spots score, another `gain` scores otherwise."""
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    state = StateDir.create(folder / "state")
    wanted = of or recipe()
    onnx_bytes = packages.contrast_onnx(len(wanted.channels), len(wanted.class_names), gain, 1.5)
    with LearningStore(state) as learning:
        return packages.pack(
            state,
            learning,
            wanted,
            onnx_bytes,
            [picture_of("golden"), picture_of("bad-golden"), picture_of("good-golden")],
            model_id=model_id or f"contrast-{gain:g}",
            threshold=threshold,
            scratch=scratch,
        )


def eventually(condition: Callable[[], bool], within_s: float = 30.0) -> bool:
    """Tell whether a condition comes true in time; on a busy machine that takes a while."""
    deadline = time.monotonic() + within_s
    pause = threading.Event()
    while time.monotonic() < deadline:
        if condition():
            return True
        pause.wait(0.01)
    return condition()
