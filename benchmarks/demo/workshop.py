"""The demo's hands: the commands that an engineer and a PLC would send, stage by stage."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.demo import plc
from benchmarks.demo.processes import Processes
from benchmarks.demo.results import StageTime
from benchmarks.demo.scenario import Scenario
from cell.errors import ConfigurationError, JobError, StoreInUse
from cell.jobs import Job, JobState
from cell.settings import Settings
from cell.store.files import disk_errors, write_bytes
from cell.store.layout import StateDir, StateLock
from cell.wire.client import Client

_POLL_S = 0.5
#: A command that the gate or the harvest answers may read every picture first.
_LONG_S = 300.0
#: Harvest runs beside the line and at its mercy; whoever waits sees how far it is.
_HARVEST_S = 3600.0
_WEB_PORT = 8080


@dataclass(slots=True)
class Workshop:
    """A running emulated cell in `folder`, its clients, and how long each stage took."""

    folder: Path
    scenario: Scenario
    console: Console
    processes: Processes
    settings: Settings
    times: list[StageTime] = field(default_factory=list)

    @property
    def recipe_id(self) -> str:
        """The one recipe of the demo."""
        return self.scenario.recipe.recipe_id

    @property
    def state(self) -> StateDir:
        """Where the cell keeps everything."""
        return StateDir.create(self.settings.state_dir)

    def start(self, *, web: bool) -> None:
        """Start the daemon, the trainer and, if asked, the pages."""
        self.processes.start("daemon.main", self.settings.wire.commands, "inspectd.ping")
        self.processes.start("trainer.main", self.settings.wire.trainer_commands, "inspectd.trainer.status")
        if web:
            self.processes.launch("daemon.web.main")

    def line(self, command: str, arguments: dict[str, Any] | None = None, timeout_s: float = _LONG_S) -> dict[str, Any]:
        """Send a command to the daemon."""
        with Client(self.settings.wire.commands, timeout_s=timeout_s) as client:
            return client.call(command, arguments or {})

    def trainer(self, command: str, arguments: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a command to the trainer."""
        with Client(self.settings.wire.trainer_commands, timeout_s=_LONG_S) as client:
            return client.call(command, arguments or {})

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Announce a stage and keep how long it took. Raises `InspectdError` when a program of the cell has ended."""
        self.processes.check()
        self.console.rule(f"[bold]{name}", align="left")
        started = time.monotonic()
        yield
        self.times.append(StageTime(stage=name, seconds=round(time.monotonic() - started, 1)))

    @contextmanager
    def bar(self, label: str, total: int | None = None) -> Iterator[Any]:
        """Show a progress bar; call what it yields with (done, total, label)."""
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
        with Progress(*columns, TimeElapsedColumn(), console=self.console) as progress:
            task = progress.add_task(label, total=total)

            def show(done: int, whole: int, text: str = label) -> None:
                progress.update(task, completed=done, total=whole or None, description=text)

            yield show

    def prepare(self) -> None:
        """Bring the cell into automatic mode with the demo's recipe."""
        self.line("AddRecipe", {"Recipe": self.scenario.recipe.model_dump(mode="json")})
        self.line("SelectModeAutomatic")
        self.line("PrepareRecipe", {"RecipeId": self.recipe_id})

    def show(
        self,
        label: str,
        parts: Sequence[str],
        beside: Mapping[int, Callable[[], object]] | None = None,
        interval_s: float = 0.0,
    ) -> list[plc.Answer]:
        """Run parts past the camera as the PLC does, `interval_s` from one to the next.

        `beside` maps an index to what is begun as that part comes; more parts come meanwhile. Raises what it raises.
        """
        begun: list[Future[object]] = []
        engineer = ThreadPoolExecutor(1, thread_name_prefix="demo-engineer")
        with self.bar(label, len(parts)) as bar, Client(self.settings.wire.commands) as client, engineer:

            def before(index: int) -> None:
                bar(index, len(parts))
                if beside and index in beside:
                    begun.append(engineer.submit(beside[index]))

            deadline_ms = self.scenario.recipe.deadline_ms
            answers = plc.run_parts(
                client, self.recipe_id, parts, deadline_ms=deadline_ms, interval_s=interval_s, between=before
            )
            bar(len(parts), len(parts))
            for each in begun:
                each.result()
        return answers

    def harvest(self, pictures: int) -> dict[str, Any]:
        """Let the cell look through its archive of so many pictures; return what it took."""
        asked = {"recipe_id": self.recipe_id}
        with self.bar("looking at archived parts", pictures) as bar, ThreadPoolExecutor(1) as engineer:
            harvesting = engineer.submit(self.line, "inspectd.harvest.run", asked, _HARVEST_S)
            while not wait([harvesting], _POLL_S).done:
                looked_at = self.line("inspectd.harvest.summary", asked)["harvest"]["looked_at"]
                bar(min(int(looked_at), pictures), pictures)
            found: dict[str, Any] = harvesting.result()["harvest"]
            bar(pictures, pictures)
        return found

    def report(self, parts: Sequence[str], source: str) -> None:
        """Tell the cell what another station found about parts."""
        with Client(self.settings.wire.commands) as client:
            for part_id in parts:
                defect = self.scenario.product.defect_class(part_id)
                arguments = {"part_id": part_id, "outcome": "NG" if defect else "OK", "source": source}
                client.call("inspectd.report_part", arguments | ({"defect_class": defect} if defect else {}))

    def job(self, command: str, arguments: dict[str, Any]) -> Job:
        """Ask the trainer for a job and wait for its end. Raises `JobError` when it does not end well."""
        job_id = str(self.trainer(command, {"recipe_id": self.recipe_id, **arguments})["job_id"])
        with self.bar(command) as bar, Client(self.settings.wire.trainer_commands, timeout_s=_LONG_S) as client:
            while True:
                job = Job.model_validate(client.call("inspectd.job", {"job_id": job_id})["job"])
                if job.progress is not None:
                    bar(job.progress.done, job.progress.total, job.progress.stage)
                if job.state is JobState.DONE:
                    return job
                if job.state not in {JobState.QUEUED, JobState.RUNNING}:
                    log = self.settings.state_dir / "jobs" / job_id / "log.txt"
                    raise JobError(f"{command} ended {job.state}: {job.error or 'no reason given'}; its log is {log}")
                time.sleep(_POLL_S)


@contextmanager
def workshop(folder: Path, scenario: Scenario, console: Console, threads: int) -> Iterator[Workshop]:
    """Make a fresh emulated cell in `folder` (emptied first), and end its processes at the end.

    Raises `StoreInUse`, with nothing emptied, while another cell runs there.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with _owned(folder):
        for stale in ("state", "recipes", "run", "logs"):
            shutil.rmtree(folder / stale, ignore_errors=True)
        with disk_errors(folder):
            for fresh in ("recipes", "run", "logs"):
                (folder / fresh).mkdir()
        recipe, config = scenario.recipe, folder / "inspectd.toml"
        write_bytes(folder / "recipes" / f"{recipe.recipe_id}.json", recipe.model_dump_json(indent=1).encode())
        write_bytes(config, _toml(folder, scenario, threads).encode())
        # pylon shows its emulated camera when this is set; the daemon's process inherits it.
        os.environ["PYLON_CAMEMU"] = "1"
        # Checked here, so that a mistake is told before anything starts.
        settings = _loaded(config)
        with Processes(config, folder / "logs") as processes:
            yield Workshop(folder, scenario, console, processes, settings)


@contextmanager
def _owned(folder: Path) -> Iterator[None]:
    with ExitStack() as locks:
        try:
            locks.enter_context(StateLock(folder / "demo.lock", "demo"))
            # The services of a demo that was killed take some seconds to end, and own their state directory so long.
            for service in ("daemon", "trainer"):
                if (lock := folder / "state" / f"{service}.lock").exists():
                    StateLock(lock, service).release()
        except StoreInUse as error:
            raise StoreInUse(f"{str(error).partition(';')[0]}; stop it or choose another --folder") from error
        yield


def _loaded(config: Path) -> Settings:
    from cell.settings import load

    settings = load(config)
    longest = settings.wire.trainer_events.removeprefix("ipc://")
    if len(longest) > 100:
        raise ConfigurationError(f"the path {longest} is too long for a socket; run the demo from a shorter folder")
    return settings


def _toml(folder: Path, scenario: Scenario, threads: int) -> str:
    emulated = scenario.emulated
    named = f'folder = "{emulated.folder}"\n' if emulated.folder else ""
    lines = sorted({line for channel in scenario.recipe.channels for line in channel.lights})
    sockets = {"commands": "commands", "events": "events", "trainer_commands": "tc", "trainer_events": "te"}
    wire = "".join(f'{key} = "ipc://{folder}/run/{name}"\n' for key, name in sockets.items())
    return (
        f'cell_name = "demo"\nstate_dir = "{folder}/state"\nrecipes_dir = "{folder}/recipes"\n'
        f'[camera]\ndriver = "pylon"\n[light]\ndriver = "simulated"\nlines = {lines!r}\n'
        f'[emulated]\nproduct = "{emulated.product}"\n{named}random_seed = {emulated.random_seed}\n'
        f"[wire]\n{wire}[web]\nport = {_WEB_PORT}\n[trainer]\nthreads = {threads}\nniceness = 5\n"
    )
