"""Chores side by side: the same results as one after the other, an end when told, a clear word when one is killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from cell.defects import Sample
from cell.errors import DataError, JobCancelled, JobError
from cell.jobs import Progress
from tests.trainer.parts import CLASSES, QUICK, SPEC, learning_parts
from trainer.crew import Chore, side_by_side
from trainer.crossval import Team, ThresholdRule, cross_validate
from trainer.fit import Cancelled, ReportProgress

PATIENCE_S = 120.0


@dataclass(frozen=True)
class Sum:
    """Adds up a sample's pixels, in a process that has one thread."""

    samples: tuple[Sample, ...]

    def __call__(self, progress: ReportProgress, _: Cancelled) -> tuple[int, int, bool, int]:
        progress(Progress(stage="adding", done=1, total=1, note="ä" * 60))
        first = self.samples[0]
        return int(first.stack.sum()), torch.get_num_threads(), all(one is first for one in self.samples), os.getpid()


@dataclass(frozen=True)
class Waiting:
    """Waits until it is told to stop."""

    note: Path

    def __call__(self, progress: ReportProgress, cancelled: Cancelled) -> None:
        self.note.write_text(str(os.getpid()))
        progress(Progress(stage="waiting", done=1, total=2, note="waiting"))
        until(cancelled)
        raise JobCancelled("told to stop")


@dataclass(frozen=True)
class Failing:
    """Fails once another chore has begun."""

    other: Path

    def __call__(self, _: ReportProgress, __: Cancelled) -> None:
        until(self.other.exists)
        raise DataError("the picture is of another size; take another")


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    pause = torch.multiprocessing.get_context("spawn").Event()
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        pause.wait(0.01)


def test_pictures_are_shared_and_every_process_has_one_thread(tmp_path: Path) -> None:
    samples = learning_parts(good=2, bad=1)
    said: list[Progress] = []
    chores = [Sum((sample, sample)) for sample in samples[:3]]
    results = side_by_side(chores, 2, "adding", progress=said.append, folder=tmp_path)
    assert [result[:3] for result in results] == [(int(sample.stack.sum()), 1, True) for sample in samples[:3]]
    assert os.getpid() not in {result[3] for result in results}
    assert list(tmp_path.iterdir()) == []
    assert (said[-1].done, said[-1].total, said[-1].stage) == (3, 3, "adding")


def test_folds_side_by_side_find_what_folds_one_by_one_find(tmp_path: Path) -> None:
    config, rule = replace(QUICK, updates=6, batch=2), ThresholdRule(folds=2)
    alone = cross_validate(learning_parts(), SPEC, CLASSES, config, rule)
    together = cross_validate(learning_parts(), SPEC, CLASSES, config, rule, Team(2, tmp_path))
    assert (together.threshold, together.scored) == (alone.threshold, alone.scored)
    assert together.pixels.counts() == alone.pixels.counts()


def test_told_to_stop_all_stop_and_nothing_is_left(tmp_path: Path) -> None:
    notes = [tmp_path / "a", tmp_path / "b"]
    work = tmp_path / "work"
    (work / "crew-left-by-a-killed-job").mkdir(parents=True)
    with pytest.raises(JobCancelled, match="was stopped"):
        side_by_side(
            [Waiting(note) for note in notes], 2, "waiting", folder=work,
            cancelled=lambda: all(note.exists() and note.read_text() for note in notes),
        )  # fmt: skip
    assert not any(psutil.pid_exists(int(note.read_text())) for note in notes)
    assert list(work.iterdir()) == []


def test_one_that_fails_stops_the_others_and_its_error_is_the_news(tmp_path: Path) -> None:
    note = tmp_path / "begun"
    chores: list[Chore[None]] = [Waiting(note), Failing(note)]
    with pytest.raises(DataError, match="of another size"):
        side_by_side(chores, 2, "work")


def test_a_killed_process_is_named_with_the_likely_cause(tmp_path: Path) -> None:
    note = tmp_path / "pid"

    def kill() -> bool:
        if note.exists() and note.read_text():
            with suppress(ProcessLookupError):
                os.kill(int(note.read_text()), signal.SIGKILL)
        return False

    # Of the others one is at work and one has nothing left to do.
    chores: list[Chore[Any]] = [Sum(tuple(learning_parts(good=1, bad=1))), Waiting(tmp_path / "other"), Waiting(note)]
    with pytest.raises(JobError, match=r"trainer\.threads"):
        side_by_side(chores, 3, "work", cancelled=kill)
