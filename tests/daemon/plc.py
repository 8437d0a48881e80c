"""A PLC and a line for tests: a real daemon, a sensor that fires, parts that are announced over the wire.

Most tests run where time stands until they move it on (`tests.daemon.standing`), so that they mean the same on any
machine; what is about processes runs in the world's time, by count alone (:func:`moving_line`).
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import packages
from cell.errors import NotFound, PeerTimeout
from cell.events import ErrorRaised, Event
from cell.frames import StoredStack
from cell.recipes import ArchiveRule, Recipe
from cell.store.images import read_stack
from cell.store.layout import StateDir
from cell.store.learning import LearningStore
from cell.wire.client import Client, parse_events
from drivers.cameras import simulated_mark
from drivers.sim.cell import EmulatedCell
from drivers.sim.plate import PlateProduct, recipe_for_plate
from tests.daemon.cells import eventually, settings_in

CHANNELS = 2
#: Time between two parts, seconds.
SPACING_S = 0.3
#: How long a test waits for what must happen, whatever else the machine does, seconds.
PATIENCE_S = 60.0


def recipe(lights: int = CHANNELS, **changes: Any) -> Recipe:
    """A plate under two lights or more, all of whose parts are archived."""
    values = {"archive": ArchiveRule(ok_share=1.0, ring=0), "deadline_ms": 900.0} | changes
    return recipe_for_plate(lights).model_copy(update=values)


def accepting_model(state: StateDir, wanted: Recipe, scratch: Path) -> str:
    """Put a model into the store that says OK to everything: a part that gets another's frames is seen in these."""
    count = len(wanted.channels)
    cell = EmulatedCell(PlateProduct(count))
    cell.present("good-000001")
    pictures = []
    for channel in wanted.channels:
        cell.illuminate(channel.lights)
        pictures.append(cell.picture(wanted.height, wanted.width, channel.exposure_us, 0.0))
    pixels: Any = np.stack(pictures)
    golden = StoredStack(
        pixels=pixels,
        channels=wanted.channel_names,
        bit_depth=8,
        exposure_us=tuple(channel.exposure_us for channel in wanted.channels),
        gain_db=(0.0,) * count,
        metadata={"part_id": "golden", "emulated": True},
    )
    onnx_bytes = packages.contrast_onnx(count, len(wanted.class_names), 0.0, 5.0)
    with LearningStore(state) as learning:
        return packages.pack(state, learning, wanted, onnx_bytes, [golden], model_id="accept", scratch=scratch).model_id


class Plc(ABC):
    """Announces parts without waiting for the verdicts, and lets the sensor see them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pool = ThreadPoolExecutor(24, "plc")
        self._local = threading.local()
        self._clients: list[Client] = []
        self.count = 0

    @abstractmethod
    def control(self, **message: Any) -> None:
        """Tell the simulated camera something, as its sensor's pipe takes it."""

    @property
    def client(self) -> Client:
        """A client of this thread."""
        if not hasattr(self._local, "client"):
            self._local.client = Client(settings_in(self._folder).wire.commands, timeout_s=PATIENCE_S)
            self._clients.append(self._local.client)
        client: Client = self._local.client
        return client

    def call(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        return self.client.call(command, arguments)

    def edge(self, part_id: str, *, counted: bool = True, seen: bool = True) -> int:
        """Let a part pass the sensor; return the PLC's count. `counted` by the PLC, `seen` by the camera."""
        if seen:
            self.control(fire=part_id)
        self.count += counted
        return self.count

    def announce(self, part_id: str, count: int, **more: Any) -> Future[dict[str, Any]]:
        """Announce a part; the future gives its ResultContent."""
        arguments = {"part_id": part_id, "trigger_count": count} | more

        def work() -> dict[str, Any]:
            content: dict[str, Any] = self.client.call("inspectd.announce_part", arguments)["Result"]["ResultContent"]
            return content

        return self._pool.submit(work)

    def status(self) -> dict[str, Any]:
        """The daemon's status."""
        return self.call("inspectd.status")

    def messages(self, condition: str) -> list[str]:
        """The sentences of all events of a condition so far."""
        events: list[Event] = []
        while True:
            since = events[-1].sequence if events else 0
            page = parse_events(self.client.call("inspectd.events", {"since": since}))
            if not page:
                break
            events += page
        return [event.message for event in events if isinstance(event, ErrorRaised) and event.condition == condition]

    def marks(self, job_id: str) -> list[simulated_mark.Mark | None]:
        """What the corner of each archived frame of a result says."""
        found: list[Any] = []

        def there() -> bool:
            try:
                found[:] = self.call("GetResultComponentsById", ResultId=job_id)["Components"]
            except NotFound:
                return False
            return True

        assert eventually(there, PATIENCE_S), f"the frames of {job_id} are not archived"
        stack = read_stack(self._folder / "state" / found[0]["Path"], found[0]["Hash"])
        return [simulated_mark.read(pixels) for pixels in stack.pixels]

    def shows(self, verdict: dict[str, Any], part_id: str) -> bool:
        """Tell whether a result's frames are those of a part, one under each light, of one trigger."""
        marks = self.marks(verdict["job_id"])
        if None in marks:
            return False
        numbers = [mark.exposure for mark in marks if mark is not None]
        return [(mark.part, mark.channel) for mark in marks if mark is not None] == [
            (simulated_mark.part_number(part_id), channel) for channel in range(len(marks))
        ] and all(later == earlier + 1 for earlier, later in itertools.pairwise(numbers))

    def results(self) -> list[tuple[str, str]]:
        """(part id, outcome) of all results, oldest first."""
        listed = self.call("GetResultListFiltered", MaxResults=1000)["Results"]
        return [(entry["PartId"], entry["ResultContent"]["outcome"]) for entry in reversed(listed)]

    def close(self) -> None:
        """End the threads and clients."""
        self._pool.shutdown()
        for client in self._clients:
            client.close()


class MovingPlc(Plc):
    """A PLC beside a daemon's process, in the world's time; `popen` is the daemon."""

    def __init__(self, folder: Path, popen: subprocess.Popen[str]) -> None:
        super().__init__(folder)
        self.popen = popen
        self._sensor = (folder / "sensor").open("w", buffering=1)

    def control(self, **message: Any) -> None:
        self._sensor.write(json.dumps(message) + "\n")

    def start(self) -> None:
        """Begin a run whose announcements and frames find each other by count alone: no clock of a busy machine."""
        self.call("StartContinuous", Parameters={"window_ms": PATIENCE_S * 1e3})
        self.count = 0

    def close(self) -> None:
        super().close()
        self._sensor.close()


def prepare(plc: Plc) -> None:
    """Take the machine to Ready, with a model that accepts everything."""
    plc.call("SelectModeAutomatic")
    plc.call("PrepareRecipe", RecipeId="plate")
    plc.call("inspectd.deploy", model="accept", promote=True)


def _said(popen: subprocess.Popen[str]) -> str:
    popen.kill()
    assert popen.stderr is not None
    return f": {popen.stderr.read()}"


@contextmanager
def moving_line(folder: Path, *, isolated: bool = False) -> Iterator[MovingPlc]:
    """Run a daemon's process with a simulated camera on its trigger line until the block ends; it is Ready."""
    config = folder / "inspectd.toml"
    if not config.exists():
        settings = settings_in(folder)
        settings.recipes_dir.mkdir(parents=True, exist_ok=True)
        wanted = recipe(deadline_ms=PATIENCE_S * 1e3)
        (settings.recipes_dir / "plate.json").write_text(wanted.model_dump_json())
        scratch = folder / "scratch"
        scratch.mkdir()
        accepting_model(StateDir.create(settings.state_dir), wanted, scratch)
        config.write_text(
            f'state_dir = "{settings.state_dir}"\nrecipes_dir = "{settings.recipes_dir}"\nminimum_free_mb = 0\n'
            f'[wire]\ncommands = "{settings.wire.commands}"\nevents = "{settings.wire.events}"\n'
            f'[camera]\ndriver = "simulated"\ntrigger = "line"\nisolated = {str(isolated).lower()}\n'
            f'[emulated]\nproduct = "plate-{CHANNELS}"\nmark_frames = true\nsensor = "{folder / "sensor"}"\n'
        )
    first = not (folder / "sensor").exists()
    popen = subprocess.Popen(
        [sys.executable, "-m", "daemon.main", "--config", str(config)], stderr=subprocess.PIPE, text=True
    )
    plc: MovingPlc | None = None
    try:
        assert eventually((folder / "sensor").exists, PATIENCE_S), "the daemon does not come up" + _said(popen)
        plc = MovingPlc(folder, popen)

        def answers() -> bool:
            try:
                return bool(plc.client.call("inspectd.ping", timeout_s=0.5))
            except PeerTimeout:
                return False

        assert eventually(answers, PATIENCE_S), "the daemon does not answer"
        if first:
            prepare(plc)
        yield plc
    finally:
        popen.kill()
        popen.wait(10)
        if plc is not None:
            plc.close()
        assert popen.stderr is not None
        popen.stderr.close()
