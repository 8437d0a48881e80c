"""The real services that the faces speak to: trainer service, daemon, pages, each in a thread of the test's process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from cell.settings import Settings, WireSettings
from cell.store.layout import StateDir
from cell.store.learning import LearningStore
from daemon.web.app import create_app
from daemon.web.main import listen
from tests.web import product
from trainer.process import child_command
from trainer.service import TrainerService


def settings_in(folder: Path, **changes: Any) -> Settings:
    """Return settings with everything below `folder`, and write them there for programs that read a file."""
    folder.mkdir(parents=True, exist_ok=True)
    recipes = folder / "recipes"
    recipes.mkdir(exist_ok=True)
    (recipes / "cover.json").write_text(product.RECIPE.model_dump_json())
    names = ("commands", "events", "trainer_commands", "trainer_events")
    wire = WireSettings.model_validate({name: f"ipc://{folder}/{name[-12:]}" for name in names})
    values: dict[str, Any] = {"state_dir": folder / "state", "recipes_dir": recipes, "minimum_free_mb": 0, "wire": wire}
    settings = Settings(**(values | changes))
    lines = [f'state_dir = "{settings.state_dir}"', f'recipes_dir = "{recipes}"', "minimum_free_mb = 0", "[wire]"]
    lines += [f'{name} = "{getattr(wire, name)}"' for name in names]
    (folder / "inspectd.toml").write_text("\n".join(lines) + "\n")
    return settings


def filled(settings: Settings, candidates: int, proposals: int = 3) -> None:
    """Fill the cell's learning store."""
    with LearningStore(StateDir.create(settings.state_dir)) as store:
        product.fill(store, candidates, proposals)


@contextmanager
def trainer(settings: Settings, command: Callable[[str], Sequence[str]] = child_command) -> Iterator[TrainerService]:
    """Run the real trainer service until the block ends; `command` puts another child in its jobs' place."""
    service = TrainerService(settings, command=command)
    thread = threading.Thread(target=service.run, name="test-trainer")
    thread.start()
    try:
        yield service
    finally:
        service.stop()
        thread.join(20)


@contextmanager
def pages(settings: Settings, timeout_s: float = 30.0) -> Iterator[str]:
    """Serve the real pages until the block ends; gives their address."""
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(
        uvicorn.Config(create_app(settings, timeout_s), log_level="warning", access_log=False, ws="none")
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="test-pages")
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
