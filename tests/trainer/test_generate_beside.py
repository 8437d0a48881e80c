"""Candidates made side by side are those that one process makes, in their order; what ends the work is said."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import psutil
import pytest

from cell.defects import Draft, GeneratorParameters, Provenance
from cell.errors import DataError, JobCancelled, JobError
from trainer.generate.base import BackgroundSample
from trainer.generate.beside import made_beside, packed, unpacked

SIDE = 400  # large enough that pictures lie on the shelf
BACKGROUNDS = [
    BackgroundSample(f"b{i}", f"p{i}", np.full((2, SIDE, SIDE), 900 + i, np.uint16), np.ones((SIDE, SIDE), np.bool_))
    for i in range(3)
]


@dataclass(frozen=True)
class Bench:
    """Makes squares, each from its number alone; some numbers end badly."""

    backgrounds: list[BackgroundSample]
    poor: int = -1
    slow: int = -1

    def open(self) -> Bench:
        return self

    def candidate(self, defect_class: str, number: int) -> Draft:
        if number == self.poor:
            raise DataError("there is no place; ask for less")
        if number == self.slow:
            threading.Event().wait(60)
        rng = np.random.default_rng(number)
        background = self.backgrounds[number % len(self.backgrounds)]
        mask, support = np.zeros((2, SIDE, SIDE), np.bool_)
        top, left = rng.integers(5, SIDE - 30, 2)
        support[top : top + 20, left : left + 12] = True
        mask[top + 2 : top + 18, left + 2 : left + 9] = True
        stack = background.stack.copy()
        stack[:, support] = rng.integers(0, 4095, (2, int(support.sum())))
        parameters = GeneratorParameters(
            arm="procedural",
            defect_class=defect_class,
            severity=1,
            center_x=1,
            center_y=1,
            orientation_deg=0,
            size_px=7,
            random_seed=number,
        )
        provenance = Provenance(
            background_id=background.background_id,
            seed_ids=("s1",),
            base_digest="a",
            adapter_digest="b",
            calibration_digest="c",
            parameters=parameters,
            generator_version="1",
        )
        return Draft(stack, mask, support, defect_class, 5.0, {"visibility": float(number)}, provenance)


def made(bench: Bench, count: int, stop: list[bool] | None = None) -> Iterator[Draft]:
    orders = [("pit", number) for number in range(count)]
    return made_beside(bench, orders, BACKGROUNDS, 2, lambda: bool(stop and stop[-1]))


def same(one: Draft, other: Draft) -> bool:
    pictures = zip((one.stack, one.mask, one.support), (other.stack, other.mask, other.support), strict=True)
    said = (one.provenance, one.scores, one.severity) == (other.provenance, other.scores, other.severity)
    return said and all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pictures)


def workers() -> list[psutil.Process]:
    return [one for one in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(one.cmdline())]


def test_the_same_candidates_in_the_same_order() -> None:
    bench = Bench(BACKGROUNDS)
    found = list(made(bench, 11))
    assert len(found) == 11
    assert all(same(one, bench.candidate("pit", number)) for number, one in enumerate(found))
    assert workers() == []


def test_cancelling_in_mid_batch_ends_all_processes() -> None:
    stop = [False]
    drafts = made(Bench(BACKGROUNDS), 40, stop)
    next(drafts)
    stop.append(True)
    with pytest.raises(JobCancelled, match="resume"):
        next(drafts)
    assert workers() == []


def test_a_process_that_is_killed_is_an_error_that_says_what_to_do() -> None:
    drafts = made(Bench(BACKGROUNDS, slow=3), 40)
    next(drafts)
    os.kill(workers()[0].pid, signal.SIGKILL)
    with pytest.raises(JobError, match=r"memory.*lower trainer\.threads.*what was written stays"):
        list(drafts)
    assert workers() == []


def test_what_a_maker_refuses_reaches_the_caller_behind_what_came_before_it() -> None:
    found: list[Draft] = []
    with pytest.raises(DataError, match="no place"):
        found.extend(made(Bench(BACKGROUNDS, poor=0), 3))
    drafts = made(Bench(BACKGROUNDS, poor=2), 5)
    assert [next(drafts).scores["visibility"] for _ in range(2)] == [0.0, 1.0]
    with pytest.raises(DataError, match="no place"):
        next(drafts)
    assert workers() == []


def test_a_parcel_is_small_and_gives_back_the_very_draft() -> None:
    draft = Bench(BACKGROUNDS).candidate("pit", 4)
    parcel = packed(draft)
    assert parcel.stack.nbytes < draft.stack.nbytes / 100
    assert parcel.rest.stack.nbytes == 0
    assert same(unpacked(parcel, BACKGROUNDS[1]), draft)
