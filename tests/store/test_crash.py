"""Killed writers, full disks, several writers at once: the next start accepts what is there."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cell.defects import Split
from cell.jobs import JobState
from cell.store.images import read_stack
from cell.store.layout import StateDir
from cell.store.learning import LearningStore
from cell.store.line import LineStore
from cell.store.requests import Seen
from cell.wire.messages import Command, Reply
from tests.store.helpers import fill

LINE = """
import sys
from pathlib import Path
from cell.store.images import write_stack
from cell.store.layout import StateDir
from cell.store.line import LineStore
from cell.store.line_records import ArchivedPart
from cell.wire.messages import Command, Reply
from tests.store.helpers import NOON, stack_of, verdict_of
state = StateDir.create(Path(sys.argv[1]))
store = LineStore(state)
while True:
    job = store.next_job_id()
    request = f"r-{job}"
    store.requests.begin(Command(request_id=request, command="StartSingleJob"))
    verdict = verdict_of(job)
    ready = store.commit_part(verdict, request_id=request, reply=Reply(request_id=request))
    print(f"part {job} {ready.sequence}", flush=True)
    path = state.archive_path("plate", job, NOON)
    digest = write_stack(path, stack_of(ready.sequence))
    store.archive.add(ArchivedPart(job_id=job, part_id="p", recipe_id="plate", path=state.relative(path),
        digest=digest, outcome=verdict.outcome, size_bytes=1, emulated=False, at=NOON))
    print(f"archived {job} {digest}", flush=True)
"""

LEARNING = """
import sys
from pathlib import Path
from cell.defects import ReviewVerb, Split
from cell.jobs import JobKind
from cell.store.layout import StateDir
from cell.store.learning import LearningStore
from tests.store.helpers import draft_on, review, stack_of
store = LearningStore(StateDir.create(Path(sys.argv[1])))
store.jobs.mark_interrupted()
seeds = tuple(seed.seed_id for seed in store.seeds("plate", defect_class="pit"))
job = store.jobs.create(JobKind.GENERATE, "plate", {})
store.jobs.start(job.job_id)
number = 0
while True:
    number += 1
    background = store.add_background("plate", f"{job.job_id}-{number}", stack_of(1000 + number), Split.LEARN)
    print(f"background {background.background_id}", flush=True)
    for one in store.candidates.add_many(job.job_id, "plate", [draft_on(store, "b000001", seeds, "pit")] * 2):
        print(f"candidate {one.candidate_id}", flush=True)
        review(store, one.candidate_id)
        print(f"decision {one.candidate_id}", flush=True)
"""


def killed(script: str, folder: Path, after_lines: int, wait_s: float) -> list[str]:
    """Run a script, kill it some time after it said so many lines, and return the lines."""
    with subprocess.Popen([sys.executable, "-c", script, folder], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(after_lines)]
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            pass
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read()
    assert process.returncode == -signal.SIGKILL
    return [line for line in (*lines, *rest.splitlines(keepends=True)) if line.endswith("\n")]


def test_a_killed_daemon_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    chance = random.Random(1)
    said: list[list[str]] = []
    for _ in range(5):
        lines = killed(LINE, tmp_path, chance.randrange(1, 60), chance.random() * 0.004)
        said += [line.split() for line in lines]
        state = StateDir.create(tmp_path)
        with LineStore(state) as store:
            left = store.requests.interrupted()
            assert len(left) <= 1  # at most the one that was in the works
            for command in left:
                store.requests.finish(command.request_id, Reply(request_id=command.request_id, error=-1))
    with LineStore(state) as store:
        for kind, job, value in said:
            if kind == "part":
                assert store.verdict(job).job_id == job
                request = Command(request_id=f"r-{job}", command="StartSingleJob")
                assert isinstance(store.requests.begin(request), Seen)
            else:
                assert store.archive.get(job).digest == value
        for part in store.archive.list():
            read_stack(state.resolve(part.path), part.digest)  # a row never names a file that is not whole
        sequences = [event.sequence for event in store.events_since(0, 100_000)]
        assert sequences == sorted(set(sequences))
        assert len(store.verdicts()) >= 5


def test_a_killed_trainer_leaves_a_store_that_goes_on(tmp_path: Path) -> None:
    chance = random.Random(2)
    state = StateDir.create(tmp_path)
    with LearningStore(state) as store:
        fill(store, candidates=2)
    said: list[list[str]] = []
    for _ in range(4):
        lines = killed(LEARNING, tmp_path, chance.randrange(1, 25), chance.random() * 0.02)
        said += [line.split() for line in lines]
        with LearningStore(state) as store:
            assert store.gate.verify_chain() > 0
            (left,) = store.jobs.mark_interrupted()
            assert left.state is JobState.INTERRUPTED
            backgrounds = {one.background_id: one for one in store.backgrounds("plate")}
            candidates = {row.candidate.candidate_id: row for row in store.candidates.list("plate")}
            for background in backgrounds.values():
                store.read_image(background.image)
            for row in candidates.values():
                store.read_image(row.candidate.image)
                store.read_mask(row.candidate.mask)
            for kind, name in said:
                if kind == "background":
                    assert name in backgrounds
                else:
                    assert kind != "decision" or candidates[name].decision is not None
            assert state.sweep() == 0  # young leftovers may belong to somebody
            for path in state.root.rglob(".*.tmp"):
                os.utime(path, (1, 1))
            state.sweep()
            assert not list(state.root.rglob(".*.tmp"))


WRITER = """
import sys
from pathlib import Path
from cell.defects import Split
from cell.store.layout import StateDir
from cell.store.learning import LearningStore
from cell.wire.messages import Command, Reply
from tests.store.helpers import review, stack_of
name, mine = sys.argv[2], sys.argv[3].split(",")
with LearningStore(StateDir.create(Path(sys.argv[1]))) as store:
    for number in range(25):
        store.add_background("plate", f"{name}-{number}", stack_of(1000 + number), Split.LEARN)
        review(store, mine[number % len(mine)], reviewer=name)
        store.requests.begin(Command(request_id=f"{name}-{number}", command="x"))
        store.requests.finish(f"{name}-{number}", Reply())
"""


def test_two_processes_write_the_learning_store_at_once(tmp_path: Path) -> None:
    state = StateDir.create(tmp_path)
    with LearningStore(state) as store:
        ids = [one.candidate_id for one in fill(store, candidates=6)]
        before = store.gate.verify_chain()
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, tmp_path, name, ",".join(ids)], stderr=subprocess.PIPE, text=True
            )
            for name in ("harvest", "trainer", "web")
        ]
        while any(writer.poll() is None for writer in writers):
            store.assign_split("plate", f"here-{time.monotonic_ns()}", Split.LEARN)
            store.candidates.counts("plate")
        errors = [writer.communicate(timeout=60)[1] for writer in writers]
        assert errors == ["", "", ""]
        assert len(store.backgrounds("plate")) == 4 + 3 * 25
        assert len(store.gate.decisions()) == 3 * 25
        assert store.gate.verify_chain() >= before + 3 * 25 * 4
        head = json.loads((state.keys / "gate.head").read_text())
        assert head["sequence"] == store.gate.verify_chain()


FULL = """
import sys
from pathlib import Path
from cell.errors import DiskFull
from cell.store.layout import StateDir
from cell.store.learning import LearningStore
from cell.store.line import LineStore
from cell.defects import Split
from cell.wire.messages import Command, Reply
from tests.store.helpers import stack_of, verdict_of
import dataclasses, numpy as np
root = Path(sys.argv[1])
state = StateDir.create(root)
state.ensure_ballast(1)
line, learning = LineStore(state), LearningStore(state)
large = dataclasses.replace(stack_of(1), pixels=np.random.default_rng(1).integers(0, 255, (2, 400, 400), np.uint8))
kept, parts = [], ["first"]
line.commit_part(verdict_of("first"))
try:
    for number in range(1000):
        kept.append(learning.add_background("plate", f"p{number}", large, Split.LEARN))
except DiskFull as error:
    print("learning:", error)
try:
    for number in range(100000):
        job = line.next_job_id()
        line.commit_part(verdict_of(job))
        parts.append(job)
except DiskFull as error:
    print("line:", error)
try:
    for number in range(1000):  # the first ones may still find room where a part's larger commit found none
        line.requests.begin(Command(request_id=f"r{number}", command="x"))
except DiskFull as error:
    print("request:", error)
assert learning.backgrounds("plate") == tuple(kept)
for one in kept:
    learning.read_image(one.image)
assert line.verdict(parts[-1]).job_id == parts[-1]
assert state.release_ballast()
line.commit_part(verdict_of("after"))
assert line.requests.begin(Command(request_id=f"r{number}", command="x")).__class__.__name__ == "New"
learning.assign_split("plate", "after", Split.LEARN)
learning.gate.verify_chain()
line.close(), learning.close()
LineStore(state).close(), LearningStore(state).close()
left = [path.name for path in root.rglob("*.tmp")]
print("went on", left)
"""


def test_a_full_disk_is_survived_and_the_ballast_gets_out_of_it(tmp_path: Path) -> None:
    mount = f'mount -t tmpfs -o size=5m none "$1" && exec "{sys.executable}" -c "$0" "$1"'
    try:
        done = subprocess.run(
            ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, FULL, tmp_path],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("this machine has no unshare to mount a small disk with")
    if "mount:" in done.stderr or "unshare:" in done.stderr:
        pytest.skip(f"this machine lets nobody mount a small disk: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("learning: no room to write")
    assert lines[1].startswith("line: no room to write line.db")
    assert lines[2].startswith("request: no room to write line.db")
    assert lines[3] == "went on []"
