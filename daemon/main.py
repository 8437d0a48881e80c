"""``inspectd``: the one place that builds the daemon's objects, runs the command loop, and takes all apart again.

Threads and their owners: the main thread runs the command loop (sockets, deadlines, watchdog); ``line`` owns camera,
light and the choice of model; ``intake`` prepares each frame while the camera takes the next; ``archive`` writes
pixels; ``recipes``, ``models``, ``harvest`` and ``queries`` carry out the commands that take long, ``housekeeping``
what nobody asked for; the harvester has its own.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import NoReturn

from cell import settings as settings_module
from cell.clock import Monotonic, monotonic
from cell.errors import ConfigurationError, InspectdError, StoreError
from cell.imaging.folders import physical_part
from cell.settings import Settings
from cell.store.files import sweep
from cell.store.layout import StateDir
from cell.store.learning import LearningStore
from cell.store.line import LineStore
from cell.wire.security import needs_curve
from cell.wire.server import Request, Result, Server
from daemon import interrupted, recipes
from daemon.acquire import Acquirer
from daemon.archive import Archive
from daemon.calibration import SeriesTaker
from daemon.commands import HARVEST, HOUSEKEEPING, MODELS, QUERIES, RECIPES, Dispatcher, Rooms
from daemon.deploy import Deployer
from daemon.errands import Errands
from daemon.hardware import Hardware
from daemon.harvest.harvester import Harvester
from daemon.health import Beat, Health
from daemon.inspect import Inspection, Inspector
from daemon.light_sleep import LightSleep
from daemon.line import Line
from daemon.notices import Conditions, EventLog
from daemon.parts import Part
from daemon.physical import PhysicalParts, as_named
from daemon.process.watch import ProcessWatch
from daemon.queries import Records, Status
from daemon.reply import Answers
from daemon.retention import Retention
from daemon.signatures import SignatureBook
from daemon.states import State
from daemon.station import Station
from daemon.swap import ModelLoader, ModelSlot
from daemon.vocabulary import begins_durably, has_effect
from drivers.bench import Bench
from drivers.registry import Rig, load_engine, open_rig

_LOG = logging.getLogger("inspectd")

#: sysexits.h EX_SOFTWARE: a thread died that must not.
_INTERNAL = 70
_STOP_LINE_S = 5.0
#: How long a step of loading a model waits for the parts under way; a line that never rests still gets its model.
_COURTESY_S = 0.25
#: With the unit's RestartSec long enough for its StartLimitBurst never to be reached by a camera that is away.
_LOOK_FOR_CAMERA_S = 60.0
_STOP_ARCHIVE_S = 10.0
_CHECK_DISK_S = 5.0
_KEEP_EVENTS = 1_000_000
_KEEP_REQUESTS = timedelta(days=30)
#: A thread that computes in Python gives the interpreter to a waiting one after this long, seconds.
_SWITCH_INTERVAL_S = 0.0001


def patient_rig(settings: Settings) -> Rig:
    """Open the cell's hardware, and look for a camera that is not there for a minute. Raises as `open_rig` does.

    Then the process ends, and the unit starts it anew for as long as it takes.
    """
    return open_rig(settings, _LOOK_FOR_CAMERA_S)


class Daemon:
    """The running daemon. Everything it opens is closed by :meth:`close`, in reverse order, whatever fails.

    :param rig_of: opens the hardware that the settings name.
    :param clock: what triggers, deadlines and frames are timed by; watchdog and housekeeping have the system's own.
    """

    def __init__(
        self, settings: Settings, rig_of: Callable[[Settings], Rig] = patient_rig, clock: Monotonic = monotonic
    ) -> None:
        """Build everything; nothing judges yet. Raises the tree's errors; nothing stays open then."""
        self.settings = settings
        self._rig_of = rig_of
        self._clock = clock
        self._stopping = False
        self._disk_checked = -1e9
        self._stack = contextlib.ExitStack()
        self._late = False  # a thread did not end in time
        try:
            self._build(settings)
        except BaseException:
            self._stack.close()
            raise

    def _build(self, settings: Settings) -> None:
        for address in (settings.wire.commands, settings.wire.events):
            needs_curve(address, settings.wire.keys)  # refused now, and not after a minute's look for a camera
        self.state = StateDir.create(settings.state_dir)
        self._stack.enter_context(self.state.lock("daemon"))
        if self.state.free_mb() < 1:  # else the stores can't even be opened; the archive makes it anew
            self.state.release_ballast()
        self.store = self._stack.enter_context(LineStore(self.state))
        self.learning = self._stack.enter_context(LearningStore(self.state))
        self.rig = self._rig_of(settings)
        self._stack.callback(self._unless_late, self.rig.close)
        self.server = self._open_server(settings)
        self._stack.callback(self.server.close)
        self.log = EventLog(self.store, self.server.publish)
        on_line = settings.camera.trigger != "software"
        self.station = Station(self.store, self.log, emulated=self.rig.emulated, on_line=on_line, clock=self._clock)
        self.station.wake = self.server.wake
        if settings.light_sleep:
            sleep = LightSleep()
            self._stack.callback(sleep.close)
            self.station.on_prepared = sleep.follow
        self.conditions = Conditions(self.store, self.log, self.station.severe)
        self.station.conditions = self.conditions
        self.slot = ModelSlot()
        self._stack.callback(self._unless_late, self.slot.close)
        parts = self._physical_parts(settings)
        retention = Retention(self.store, self.learning, parts, settings.archive, settings.minimum_free_mb)
        self.archive = Archive(self.store, self.conditions, retention)
        self.harvester = Harvester(self.store, self.learning, self.state, parts)
        self.process = ProcessWatch(self.store, self.learning, self.conditions, share=settings.process.most_cpu)
        self._build_line()
        self.dispatcher = Dispatcher(self._rooms())

    def _physical_parts(self, settings: Settings) -> PhysicalParts:
        # Names of pictures say which part they show; ids of a real cell's parts say nothing beyond themselves.
        of_folders = self.rig.emulated and settings.emulated.product == "folder"
        return PhysicalParts(self.store.reports, physical_part if of_folders else as_named)

    def _open_server(self, settings: Settings) -> Server:
        for address in (settings.wire.commands, settings.wire.events):
            _make_ipc_folder(address)
        return Server(
            settings.wire.commands,
            settings.wire.events,
            self._handle,
            keys=settings.wire.keys,
            ledger=self.store.requests,
            has_effect=has_effect,
            begins_durably=begins_durably,
            clock=self._clock,
        )

    def _build_line(self) -> None:
        self.acquirer = Acquirer(self.rig, self._clock, book=SignatureBook(self.state.root / "signatures"))
        inspector = Inspector(self.acquirer, self.slot, self._clock)
        self._stack.callback(self._unless_late, inspector.close)
        answers = Answers(self.conditions, self.station.given)
        self.command_beat, line_beat = Beat(), Beat()
        self.health = Health({"commands": self.command_beat, "line": line_beat})
        self._stack.callback(self.health.close)
        self.line = Line(
            self.acquirer,
            inspector,
            answers,
            self.conditions,
            line_beat,
            sinks=(self._archive, self._harvest, self._watch),
            on_free=self.station.part_may_leave,
            clock=self._clock,
        )
        self.station.connect(self.line, answers)

    def _rooms(self) -> Rooms:
        loader = ModelLoader(
            partial(load_engine, self.settings.engine),
            self.learning.gate.verify_training_set_digest,
            emulated=self.rig.emulated,
            courtesy=lambda: self.line.let_parts_go_first(_COURTESY_S),
        )
        self.recipes = recipes.Recipes(
            self.station, self.store, self.learning, self.acquirer, self.slot, loader, self.conditions
        )
        self.status = Status(
            self.settings,
            self.learning,
            self.station,
            self.store,
            self.slot,
            self.acquirer,
            self.archive,
            self.harvester,
            self.process,
            self.conditions,
        )
        bench = Bench(self.settings, self.rig)
        self.errands = Errands((RECIPES, MODELS, HARVEST, QUERIES, HOUSEKEEPING))
        return Rooms(
            settings=self.settings,
            store=self.store,
            log=self.log,
            station=self.station,
            recipes=self.recipes,
            deployer=Deployer(self.station, self.store, self.learning, self.slot, loader, self.log),
            records=Records(self.store, self.learning, self.station),
            status=self.status,
            harvester=self.harvester,
            process=self.process,
            hardware=Hardware(bench, self.station, self.acquirer, self.store.recipes, self.state),
            series=SeriesTaker(bench, self.station, self.acquirer, self.store.recipes, self.state),
            errands=self.errands,
        )

    def start(self) -> None:
        """Settle what an earlier process left behind, start the threads, and go back to where it was."""
        now = self.log.now()
        self.conditions.adopt()
        interrupted.answer_all(self.store, self.log, emulated=self.rig.emulated)
        self.store.requests.prune(now - _KEEP_REQUESTS)
        self.store.prune_events(_KEEP_EVENTS)
        sweep(self.state.archive)
        recipes.load_folder(self.settings.recipes_dir, self.store, self.conditions)
        self._stack.callback(self._stop_archive)
        self.archive.start()
        self._stack.callback(self.harvester.stop)
        self._stack.callback(self.process.stop)
        if self.settings.process.watch:
            self.process.start()
        self._stack.callback(self._stop_line)
        self.line.start()
        self._stack.callback(self.errands.stop)
        self.errands.run(RECIPES, self._resume)
        # What is built lives to the end: the collector need not look at it again while parts run.
        gc.collect()
        gc.freeze()

    def run(self) -> int:
        """Serve until :meth:`stop`; return the exit code."""
        self.health.ready(self.status.line())
        while not self._stopping:
            self.turn()
            if not self.line.alive:
                _LOG.critical("the line thread ended by an error; the daemon stops so that it is started anew")
                self.station.give_up("the daemon failed while the part was under way; see its journal")
                return _INTERNAL
        return 0

    def turn(self) -> None:
        """One round of the command loop."""
        due = self.station.next_deadline_in_s()
        self.server.turn(self.health.interval_s if due is None else min(due, self.health.interval_s))
        self.station.expire()
        self.command_beat()
        self.health.turn()
        self._look_around()

    def stop(self) -> None:
        """End :meth:`run`; may be called from a signal handler."""
        self._stopping = True
        self.server.wake()

    def close(self) -> int:
        """Take all apart, in reverse order; one that fails does not keep the others. Return the exit code."""
        self.health.stopping()
        try:
            self._stack.close()
        except InspectdError as error:
            _LOG.error("at the end: %s", error)
            return error.exit_code
        return _INTERNAL if self._late else 0

    def _handle(self, request: Request) -> Result | None:
        return self.dispatcher(request)

    def _resume(self) -> None:
        try:
            self.recipes.resume()
        except InspectdError as error:
            self.conditions.raise_("resume", f"the recipe of before can't be prepared: {error}")

    def _archive(self, part: Part, inspection: Inspection) -> None:
        if inspection.frames is not None:
            self.archive.offer(inspection.frames, inspection.verdict, part.recipe.archive)

    def _harvest(self, _: Part, inspection: Inspection) -> None:
        if inspection.frames is not None and self.station.machine.now.state is not State.ERROR:
            # Occupied: the next part's trigger came already, so nothing may be added to what the line has to do.
            self.harvester.offer(inspection.frames, inspection.verdict, behind=self.line.occupied)

    def _watch(self, _: Part, inspection: Inspection) -> None:
        if inspection.frames is not None:
            self.process.offer(inspection.frames, inspection.verdict)

    def _look_around(self) -> None:
        now = monotonic()
        if now - self._disk_checked < _CHECK_DISK_S:
            return
        self._disk_checked = now
        self.health.status(self.status.line())
        self.errands.run(HOUSEKEEPING, self.store.checkpoint)
        try:
            self.state.require_free(self.settings.minimum_free_mb)
        except StoreError as error:
            self.conditions.raise_("disk-low", str(error))
        else:
            self.conditions.resolve("disk-low")
        if self.health.stuck:
            names = " and ".join(self.health.stuck)
            self.conditions.raise_("stuck", f"the thread {names} does not move; a camera or engine call hangs")
        else:
            self.conditions.resolve("stuck")

    def _stop_line(self) -> None:
        if not self.line.stop(_STOP_LINE_S):
            _LOG.error("the line thread did not end within %g s; a camera or engine call hangs", _STOP_LINE_S)
            self._late = True

    def _stop_archive(self) -> None:
        if not self.archive.stop(_STOP_ARCHIVE_S):
            _LOG.error("%d parts could not be archived within %g s", self.archive.waiting, _STOP_ARCHIVE_S)
            self._late = True

    def _unless_late(self, release: Callable[[], None]) -> None:
        # What a hanging thread still uses can't be released without hanging too; the system does it.
        if not self._late:
            release()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the daemon; ends the process with sysexits.h codes, 0 after SIGTERM."""
    parser = argparse.ArgumentParser(prog="inspectd", description="Judges every part of an inspection cell.")
    parser.add_argument("--config", type=Path, help="settings (TOML); otherwise $INSPECTD_CONFIG or /etc/inspectd")
    serve(parser.parse_args(arguments).config)


def serve(config: Path | None, rig_of: Callable[[Settings], Rig] = patient_rig) -> NoReturn:
    """Run a daemon and end the process; errors are told in one line on standard error."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    code = _serve(config, rig_of)
    logging.shutdown()
    if code == _INTERNAL:
        os._exit(code)  # a hanging thread must not keep the process
    sys.exit(code)


def _serve(config: Path | None, rig_of: Callable[[Settings], Rig]) -> int:
    try:
        daemon = Daemon(settings_module.load(config), rig_of)
    except InspectdError as error:
        print(f"inspectd: {error}", file=sys.stderr)  # noqa: T201 - the one line for the person who started it
        return error.exit_code
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: daemon.stop())
    code = 0
    try:
        daemon.start()
        code = daemon.run()
    except InspectdError as error:
        print(f"inspectd: {error}", file=sys.stderr)  # noqa: T201 - as above
        code = error.exit_code
    finally:
        closed = daemon.close()
    return code or closed


def _make_ipc_folder(address: str) -> None:
    if not address.startswith("ipc://"):
        return
    folder = Path(address.removeprefix("ipc://")).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"can't make the folder of {address}: {error.strerror}; check wire in the settings"
        ) from error


if __name__ == "__main__":
    main()
