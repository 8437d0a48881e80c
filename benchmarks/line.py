"""Trigger to verdict on the emulated cell: a real daemon process, a real ZeroMQ client, models swapped meanwhile.

    python -m benchmarks.line --parts 300 --channels 4 --rate 240 --swaps 6 --json line.json

For each camera (pylon's emulator, the simulated one) and each engine (the shipped network's architecture, and a null
network of one multiplication a pixel) it runs a bare loop and the daemon at the same pace, half of the bare loop before
and half after, and compares the latencies. The bare loop presents the part, switches the lights, takes the frames and
runs the engine on an input that is ready, and nothing else: no preprocessing, no regions, no socket, no database, no
archive. Afterwards every verdict is reproduced from the archived frames with the model whose digest it carries.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import packages
from benchmarks.demo.plc import Answer, faults, late, lost, run_parts
from benchmarks.line_cell import ENGINES, BenchCell, Camera, EngineKind
from cell.errors import InspectdError
from cell.imaging.preprocess import Preprocessing
from cell.store.images import read_stack
from cell.wire.client import Client
from daemon.light_sleep import LightSleep

#: Scores of the same network and frames agree this well between two processes of one machine.
_SAME = 1e-4
_CAMERAS: tuple[Camera, ...] = ("pylon", "simulated")
#: Different parts that the emulator keeps rendered: rendering one is not the cell's work.
_DISTINCT = 24
_WARM_UP = 10
_HUNDRED = 100


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for on the command line."""

    parts: int
    channels: int
    interval_s: float
    swaps: int


@dataclass(frozen=True, slots=True)
class Bare:
    """The bare loop's parts, ms: all of each, and its frames alone."""

    total_ms: list[float]
    grab_ms: list[float]

    def __add__(self, other: Bare) -> Bare:
        return Bare(self.total_ms + other.total_ms, self.grab_ms + other.grab_ms)


@dataclass(frozen=True, slots=True)
class Run:
    """One camera with one engine."""

    answers: list[Answer]
    bare: Bare
    mixed: int
    swaps: int
    deadline_ms: float

    def figures(self) -> dict[str, Any]:
        """Return the figures of the run, times in ms."""
        judged = [answer for answer in self.answers if answer.verdict is not None]
        fired = sum(
            any(reason.startswith("deadline") for reason in answer.verdict.reasons)
            for answer in judged
            if answer.verdict is not None and answer.latency_ms <= self.deadline_ms
        )
        daemon, bare = percentiles([answer.latency_ms for answer in judged]), percentiles(self.bare.total_ms)
        return {
            "parts": len(self.answers),
            "swaps": self.swaps,
            "lost": lost(self.answers),
            "late": late(self.answers, self.deadline_ms) + fired,
            "fault": faults(self.answers),
            "mixed_models": self.mixed,
            "daemon_ms": daemon,
            "bare_ms": bare,
            "ratio": {key: round(daemon[key] / bare[key], 3) for key in daemon},
            "where_ms": self._where(judged, self.bare),
            "where_slowest_ms": self._where(*self._slowest(judged)),
        }

    def _slowest(self, judged: Sequence[Answer]) -> tuple[Sequence[Answer], Bare]:
        """Return the slowest of each hundred parts, and of the bare loop's."""
        answers = sorted(judged, key=lambda answer: -answer.latency_ms)[: len(judged) // _HUNDRED + 1]
        bare = sorted(zip(self.bare.total_ms, self.bare.grab_ms, strict=True), reverse=True)[
            : len(self.bare.total_ms) // _HUNDRED + 1
        ]
        return answers, Bare([total for total, _ in bare], [grab for _, grab in bare])

    @staticmethod
    def _where(judged: Sequence[Answer], bare: Bare) -> dict[str, float]:
        """Return where a part's time goes, medians: in the daemon by its own clock, and in the bare loop."""
        told = [(answer.latency_ms, answer.verdict.timings) for answer in judged if answer.verdict is not None]
        parts = {
            "acquisition": [timings.acquisition_ms for _, timings in told],
            "engine_and_regions": [timings.inference_ms for _, timings in told],
            "rest_of_line": [t.total_ms - t.acquisition_ms - t.inference_ms for _, t in told],
            "store_and_wire": [latency - timings.total_ms for latency, timings in told],
            "bare_acquisition": bare.grab_ms,
            "bare_engine": [total - grab for total, grab in zip(bare.total_ms, bare.grab_ms, strict=True)],
        }
        return {name: percentiles(values)["p50"] for name, values in parts.items()}


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return p50, p99, p99.9 and max; without values, when every part was lost, infinity."""
    if not values:
        return dict.fromkeys(("p50", "p99", "p99.9", "max"), float("inf"))
    found = np.percentile(np.asarray(values, np.float64), (50, 99, 99.9, 100))
    return {name: round(float(value), 3) for name, value in zip(("p50", "p99", "p99.9", "max"), found, strict=True)}


def part_ids(count: int) -> list[str]:
    """Return the ids of the parts in the order they come: four good ones, then a bad one."""
    names = [f"pit-{n:06d}" if n % 5 == 4 else f"good-{n:06d}" for n in range(_DISTINCT)]
    return [names[index % _DISTINCT] for index in range(count)]


def paced(count: int, interval_s: float, step: Callable[[int], None]) -> list[float]:
    """Call `step` `count` times at absolute instants and return the duration of each call in ms."""
    start = time.monotonic()
    durations = []
    for index in range(count):
        pause = start + index * interval_s - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        begun = time.monotonic()
        step(index)
        durations.append((time.monotonic() - begun) * 1e3)
    return durations


def bare_loop(cell: BenchCell, parts: Sequence[str], interval_s: float) -> Bare:
    """Grab and run the engine, part by part, in this process, with the processors asleep as lightly as the daemon's."""
    sleep = LightSleep()
    sleep.follow(True)
    engine, tensor = cell.bare_engine()
    rig = cell.open_rig()
    grab_ms: list[float] = []
    try:
        rig.camera.configure(cell.recipe)

        def step(index: int) -> None:
            begun = time.monotonic()
            rig.present(parts[index])
            for channel in cell.recipe.channels:
                rig.light.apply(channel.lights)
                rig.camera.expose(channel)
            rig.light.off()
            grab_ms.append((time.monotonic() - begun) * 1e3)
            engine.infer(tensor)

        for name in dict.fromkeys(parts):
            rig.present(name)  # rendered once, as the daemon's warm-up does
        paced(_WARM_UP, 0.0, step)
        grab_ms.clear()
        return Bare(paced(len(parts), interval_s, step), grab_ms)
    finally:
        rig.close()
        engine.close()
        sleep.close()


def swapping(client: Client, cell: BenchCell, plan: Plan, done: threading.Event, count: list[int]) -> None:
    """Deploy and promote the other model again and again, evenly over the run."""
    pause_s = plan.parts * plan.interval_s / (plan.swaps + 1)
    for number in range(1, plan.swaps + 1):
        if done.wait(pause_s):
            return
        model = cell.manifests[number % 2]
        client.call("inspectd.deploy", {"model": model.onnx_digest, "promote": True, "by": "benchmark"}, timeout_s=60)
        count[0] += 1


def measure(cell: BenchCell, plan: Plan, note: Callable[[str], None]) -> Run:
    """Run the bare loop and the daemon, and verify every verdict."""
    parts = part_ids(plan.parts)
    half = (plan.parts + 1) // 2
    note("bare loop, first half")
    bare = bare_loop(cell, parts[:half], plan.interval_s)
    note("daemon")
    with cell.daemon() as address, Client(address, timeout_s=30) as client, Client(address, timeout_s=60) as second:
        client.call("SelectModeAutomatic")
        client.call("PrepareRecipe", {"RecipeId": cell.recipe.recipe_id}, timeout_s=60)
        client.call("inspectd.deploy", {"model": cell.manifests[0].onnx_digest, "promote": True}, timeout_s=60)
        recipe_id, deadline_ms = cell.recipe.recipe_id, cell.recipe.deadline_ms
        run_parts(client, recipe_id, part_ids(_DISTINCT) + parts[:_WARM_UP], deadline_ms=10 * deadline_ms)
        done, count = threading.Event(), [0]
        swaps = threading.Thread(target=swapping, args=(second, cell, plan, done, count), name="swaps")
        swaps.start()
        answers = run_parts(client, recipe_id, parts, deadline_ms=deadline_ms, interval_s=plan.interval_s)
        done.set()
        swaps.join(60)
        wait_for_archive(client)
        paths = [archived(client, answer) for answer in answers]
    note("bare loop, second half")
    bare += bare_loop(cell, parts[: plan.parts - half], plan.interval_s)
    note("verifying every verdict")
    return Run(answers, bare, mixed_models(cell, answers, paths), count[0], deadline_ms)


def wait_for_archive(client: Client, within_s: float = 60.0) -> None:
    """Wait until the daemon has written what it archives."""
    deadline = time.monotonic() + within_s
    while client.call("inspectd.status")["archive"]["waiting"] and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.2)  # the last one is out of the queue before it is on the disk


def archived(client: Client, answer: Answer) -> str:
    """Return the path of the archived frames of an answer, empty when there are none."""
    if answer.verdict is None or not answer.verdict.frames_digest:
        return ""
    try:
        reply = client.call("GetResultComponentsById", {"ResultId": answer.verdict.job_id})
    except InspectdError:
        return ""
    return str(reply["Components"][0]["Path"])


def mixed_models(cell: BenchCell, answers: Sequence[Answer], paths: Sequence[str]) -> int:
    """Count verdicts that the model they name does not reproduce from the archived frames.

    A verdict whose frames are missing counts too: nobody can show which model made it. Raises `InspectdError` when the
    two models give the same score somewhere, because then nothing was shown.
    """
    mixed = 0
    preprocessing = Preprocessing.for_recipe(cell.recipe)
    for manifest, network in cell.models():
        other = next(bytes_ for each, bytes_ in cell.models() if each is not manifest)
        mine = [
            (answer, path)
            for answer, path in zip(answers, paths, strict=True)
            if answer.verdict is not None and answer.verdict.model_digest == manifest.onnx_digest
        ]
        mixed += sum(not path for _, path in mine)
        kept = [(answer, read_stack(cell.state.root / path)) for answer, path in mine if path]
        pictures = [stack for _, stack in kept]
        scores = packages.score(network, preprocessing, pictures, cell.scratch) if pictures else []
        others = packages.score(other, preprocessing, pictures, cell.scratch) if pictures else []
        for (answer, _), own, foreign in zip(kept, scores, others, strict=True):
            given = answer.verdict.score if answer.verdict is not None else None
            if abs(max(own) - max(foreign)) < 10 * _SAME:
                raise InspectdError("the two models give the same score; the benchmark can't tell them apart")
            mixed += given is None or abs(given - max(own)) > _SAME
    known = {manifest.onnx_digest for manifest in cell.manifests}
    return mixed + sum(
        answer.verdict is not None and bool(answer.verdict.model_digest) and answer.verdict.model_digest not in known
        for answer in answers
    )


def show(console: Console, results: dict[str, dict[str, dict[str, Any]]]) -> None:
    """Print the table."""
    table = Table(title="trigger to verdict as the client sees it, ms; ratio to the bare loop (grab + engine)")
    for column in ("camera", "engine", "parts", "swaps", "lost", "late", "fault", "mixed"):
        table.add_column(column)
    for column in ("p50", "p99", "p99.9", "max", "bare p50", "bare p99", "ratio p50", "ratio p99"):
        table.add_column(column, justify="right")
    for camera, engines in results.items():
        for engine, f in engines.items():
            counts = [str(f[key]) for key in ("parts", "swaps", "lost", "late", "fault", "mixed_models")]
            times = [f"{f['daemon_ms'][key]:.1f}" for key in ("p50", "p99", "p99.9", "max")]
            bare = [f"{f['bare_ms'][key]:.1f}" for key in ("p50", "p99")]
            ratio = [f"{f['ratio'][key]:.2f}" for key in ("p50", "p99")]
            table.add_row(camera, engine, *counts, *times, *bare, *ratio)
    console.print(table)
    for camera, engines in results.items():
        for engine, f in engines.items():
            for key, what in (("where_ms", "all parts"), ("where_slowest_ms", "the slowest 1 %")):
                where = ", ".join(f"{name.replace('_', ' ')} {value:.1f}" for name, value in f[key].items())
                console.print(f"{camera}, {engine}, {what}: {where} (p50, ms)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0 when nothing was lost, late, FAULT or mixed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.line", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--parts", type=int, default=300)
    parser.add_argument("--channels", type=int, default=4)
    parser.add_argument("--rate", type=float, default=240.0, help="parts per minute")
    parser.add_argument("--swaps", type=int, default=6)
    parser.add_argument("--cameras", nargs="+", choices=_CAMERAS, default=list(_CAMERAS))
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--exposure-ms", type=float, default=10.0, help="of each channel")
    parser.add_argument("--deadline-ms", type=float, default=500.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    if options.parts < 1 or options.rate <= 0 or options.swaps < 0 or not 1 <= options.channels <= 32:
        parser.error("--parts and --rate must be above 0, --swaps 0 or more, --channels 1 to 32")
    plan = Plan(options.parts, options.channels, 60.0 / options.rate, options.swaps)
    results: dict[str, dict[str, dict[str, Any]]] = {}
    console = Console(width=160)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("starting", total=len(options.cameras) * len(options.engines))
        for camera in options.cameras:
            for engine in options.engines:
                results.setdefault(camera, {})[engine] = _one(plan, options, camera, engine, progress, task)
                progress.advance(task)
    show(console, results)
    runs = [figures for engines in results.values() for figures in engines.values()]
    totals = {key: sum(run[key] for run in runs) for key in ("lost", "late", "fault", "mixed_models")}
    report = {
        **totals,
        "parts": options.parts,
        "channels": options.channels,
        "rate_per_minute": options.rate,
        "swaps": options.swaps,
        "deadline_ms": options.deadline_ms,
        "exposure_ms": options.exposure_ms,
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "cameras": results,
    }
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return int(any(totals.values()))


def _one(
    plan: Plan, options: argparse.Namespace, camera: Camera, engine: EngineKind, progress: Progress, task: Any
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="inspectd-line-") as folder:
        cell = BenchCell(
            Path(folder),
            camera,
            engine,
            plan.channels,
            deadline_ms=options.deadline_ms,
            exposure_ms=options.exposure_ms,
        )
        run = measure(
            cell, plan, lambda what: progress.update(task, description=f"{camera} camera, {engine} engine: {what}")
        )
        return run.figures()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InspectdError as error:
        print(f"benchmarks.line: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
