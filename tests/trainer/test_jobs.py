"""The runner with real processes: order, ends of every kind, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from cell.errors import NotFound, StateError
from cell.jobs import Job, JobKind, JobState
from cell.store.learning import LearningStore
from tests.trainer.service_support import child, open_store, until
from trainer.jobs import Patience, Runner

FAST = Patience(grace_s=5.0, silent_s=1e9, dead_s=1e9, store_s=0.0, publish_s=0.0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LearningStore]:
    store = open_store(tmp_path)
    yield store
    store.close()


class Bench:
    """A runner on a store, and what it told."""

    def __init__(self, store: LearningStore, folder: Path, script: str, patience: Patience, **more: object) -> None:
        self.store = store
        self.told: list[Job] = []
        self.runner = Runner(
            store,
            folder / "jobs",
            child(script),
            os.environ,
            self.told.append,
            patience=patience,
            **more,  # type: ignore[arg-type]
        )

    def queue(self) -> str:
        return self.store.jobs.create(JobKind.CALIBRATE, "disc", {}).job_id

    def state(self, job_id: str) -> JobState:
        return self.store.jobs.get(job_id).state

    def run_to(self, job_id: str, state: JobState) -> Job:
        until(lambda: self.state(job_id) is state, self.runner.step)
        return self.store.jobs.get(job_id)

    def hear(self, stage: str) -> None:
        until(lambda: any(job.progress and job.progress.stage == stage for job in self.told), self.runner.step)


@pytest.fixture
def bench(store: LearningStore, tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    benches: list[Bench] = []

    def make(script: str, patience: Patience = FAST, **more: object) -> Bench:
        benches.append(Bench(store, tmp_path, script, patience, **more))
        return benches[-1]

    yield make
    for one in benches:
        one.runner.close()


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_jobs_run_one_after_another_in_the_order_they_came(bench: Callable[..., Bench]) -> None:
    b = bench("progress(3); say(kind='finished', result={'job': sys.argv[1]})")
    jobs = [b.queue() for _ in range(3)]
    done = [b.run_to(job, JobState.DONE) for job in jobs]
    assert [job.result for job in done] == [{"job": job} for job in jobs]
    moves = [(job.job_id, job.state) for job in b.told if job.state in {JobState.DONE}]
    assert moves == [(job, JobState.DONE) for job in jobs]
    # Never two at once: a job is only told RUNNING once all before it are told DONE.
    starts = [b.told.index(next(j for j in b.told if j.job_id == job)) for job in jobs]
    ends = [max(i for i, j in enumerate(b.told) if j.job_id == job) for job in jobs]
    assert ends[0] < starts[1]
    assert ends[1] < starts[2]
    assert done[0].progress is not None
    assert done[0].progress.done == 3


def test_an_error_that_the_job_knows_becomes_its_row(bench: Callable[..., Bench]) -> None:
    b = bench("say(kind='stopped', error='the mask is empty; draw it again'); sys.exit(1)")
    assert b.run_to(b.queue(), JobState.FAILED).error == "the mask is empty; draw it again"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("sys.exit(3)", "status 3"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "memory"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("os.write(pipe, b'hello\\n'); hang()", "not a report"),
        ("os.write(pipe, b'x' * (1 << 21)); hang()", "too long"),
        ("print('out of paper'); 1 / 0", "status 1"),
    ],
)
def test_a_process_that_dies_or_talks_nonsense_fails_its_job(
    bench: Callable[..., Bench], script: str, words: str
) -> None:
    b = bench(script)
    error = b.run_to(b.queue(), JobState.FAILED).error
    assert words in error
    assert "resume" in error
    assert "\n" not in error


def test_what_a_job_prints_is_kept_in_its_log(bench: Callable[..., Bench]) -> None:
    b = bench("print('out of paper', flush=True); 1 / 0")
    job = b.queue()
    b.run_to(job, JobState.FAILED)
    assert "out of paper" in b.runner.log_tail(job)
    assert b.runner.log_tail(job).endswith("ZeroDivisionError: division by zero")


def test_a_cancelled_job_stops_in_order(bench: Callable[..., Bench]) -> None:
    b = bench(
        """
signal.signal(signal.SIGTERM, lambda *_: (say(kind="stopped", error="stopped", cancelled=True), sys.exit(1)))
progress(1, stage="ready")
hang()
"""
    )
    job = b.queue()
    b.hear("ready")
    assert b.runner.cancel(job).state is JobState.RUNNING
    b.run_to(job, JobState.CANCELLED)
    with pytest.raises(StateError, match="cancelled"):
        b.runner.cancel(job)
    assert b.runner.resume(job).state is JobState.QUEUED


def test_a_job_that_ignores_the_order_is_killed_with_all_it_started(bench: Callable[..., Bench]) -> None:
    b = bench(
        """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
grandchild = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
progress(grandchild.pid, 0, stage="ready")
hang()
""",
        Patience(grace_s=0.3, silent_s=1e9, dead_s=1e9, store_s=0.0, publish_s=0.0),
    )
    job = b.queue()
    b.hear("ready")
    progress = b.told[-1].progress
    assert progress is not None
    assert not gone(progress.done)
    b.runner.cancel(job)
    b.run_to(job, JobState.CANCELLED)
    until(lambda: gone(progress.done))


def test_a_waiting_job_is_cancelled_at_once(bench: Callable[..., Bench]) -> None:
    b = bench("hang()")
    job = b.queue()
    assert b.runner.cancel(job).state is JobState.CANCELLED
    b.runner.step()
    assert b.runner.running is None
    with pytest.raises(NotFound):
        b.runner.cancel("t99999")


def test_a_job_that_finished_while_it_was_cancelled_is_done(bench: Callable[..., Bench]) -> None:
    b = bench(
        """
signal.signal(signal.SIGTERM, lambda *_: (say(kind="finished", result={"late": True}), sys.exit(0)))
progress(1, stage="ready")
hang()
"""
    )
    job = b.queue()
    b.hear("ready")
    b.runner.cancel(job)
    assert b.run_to(job, JobState.DONE).result == {"late": True}


def test_silence_is_told_and_a_dead_silence_ends_the_job(bench: Callable[..., Bench]) -> None:
    now = [0.0]
    patience = Patience(grace_s=1.0, silent_s=120, dead_s=1800, store_s=0.0, publish_s=0.0)
    b = bench("progress(1, stage='ready'); hang()", patience, clock=lambda: now[0])
    job = b.queue()
    b.hear("ready")
    now[0] = 130.0
    until(lambda: bool(b.told[-1].progress and "no progress" in b.told[-1].progress.note), b.runner.step)
    assert b.state(job) is JobState.RUNNING
    now[0] = 1900.0
    assert "no sign of life for 30 minutes" in b.run_to(job, JobState.FAILED).error


def test_a_runner_that_closes_leaves_its_job_interrupted(bench: Callable[..., Bench]) -> None:
    b = bench("progress(os.getpid(), 0, stage='ready'); hang()")
    job = b.queue()
    b.hear("ready")
    progress = b.told[-1].progress
    assert progress is not None
    b.runner.close()
    assert b.state(job) is JobState.INTERRUPTED
    assert gone(progress.done)
    assert b.told[-1].state is JobState.INTERRUPTED


def test_what_a_dead_service_left_running_is_found_and_goes_on(bench: Callable[..., Bench]) -> None:
    b = bench("say(kind='finished', result={})")
    job = b.queue()
    b.store.jobs.start(job)
    assert [left.job_id for left in b.runner.recover()] == [job]
    assert b.state(job) is JobState.INTERRUPTED
    b.runner.resume(job)
    b.run_to(job, JobState.DONE)


def test_a_child_that_can_not_be_started_fails_its_job(store: LearningStore, tmp_path: Path) -> None:
    told: list[Job] = []
    runner = Runner(store, tmp_path / "jobs", lambda _: ("/nonexistent/python",), {}, told.append, patience=FAST)
    job = store.jobs.create(JobKind.CALIBRATE, "disc", {}).job_id
    runner.step()
    assert store.jobs.get(job).state is JobState.FAILED
    assert "can't be started" in told[-1].error


def test_a_child_dies_with_the_service_that_was_killed() -> None:
    # A parent that starts a child as the service does, tells its pid, and is killed without any chance to clean up.
    sleeper = (
        "import signal, sys; from trainer.child import die_with; die_with(int(sys.argv[1]));"
        "print('up', flush=True); signal.pause()"
    )
    script = textwrap.dedent(
        f"""
        import os, signal, subprocess, sys
        child = subprocess.Popen([sys.executable, "-c", {sleeper!r}, str(os.getpid())], start_new_session=True,
                                 stdout=subprocess.PIPE)
        child.stdout.readline()
        print(child.pid, flush=True)
        signal.pause()
        """
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not gone(pid)
        parent.send_signal(signal.SIGKILL)
    until(lambda: gone(pid))


def test_a_child_whose_service_is_dead_already_ends_at_once() -> None:
    script = "from trainer.child import die_with; die_with(1 << 22); print('went on')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=240, check=False)
    assert (done.returncode, done.stdout) == (1, "")


def test_a_machine_without_torch_is_told_what_to_install() -> None:
    # No torch, as on a machine without it: None in sys.modules is nothing that other libraries expect.
    code = textwrap.dedent(
        """
        import importlib.abc, sys

        class WithoutTorch(importlib.abc.MetaPathFinder):
            def find_spec(self, fullname, path, target=None):
                if fullname.partition(".")[0] == "torch":
                    raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)

        sys.meta_path.insert(0, WithoutTorch())
        from cell.jobs import JobKind
        from trainer.child import body_of

        body_of(JobKind.CALIBRATE)
        body_of(JobKind.TRAIN)
        """
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("cell.errors.SdkMissing: a job of kind train needs torch"), done.stderr
    assert "pip install 'inspectd[trainer]'" in last


#: Works its way up in a file of its own, stops in order when told to, and goes on behind what it had done.
_STEPS = """
place = pathlib.Path(f"{sys.argv[1]}.place")
def stop(*_):
    say(kind="stopped", error="stopped", cancelled=True)
    sys.exit(1)
signal.signal(signal.SIGTERM, stop)
done = int(place.read_text()) if place.exists() else 0
if not done:
    place.write_text("7")
    progress(os.getpid(), 0, stage="ready")
    hang()
say(kind="finished", result={"behind": done})
"""


def test_a_paused_job_frees_its_place_and_goes_on_behind_what_it_had_done(bench: Callable[..., Bench]) -> None:
    steps = textwrap.indent(_STEPS, "    ")
    b = bench(f"import pathlib\nif sys.argv[1] == 't00001':\n{steps}\nsay(kind='finished', result={{}})")
    job, other = b.queue(), b.queue()
    b.hear("ready")
    progress = b.told[-1].progress
    assert progress is not None
    assert b.runner.pause(job).state is JobState.RUNNING
    assert b.run_to(job, JobState.PAUSED).error == ""
    assert gone(progress.done)
    # Others run meanwhile, and the queue does not take it up of itself.
    b.run_to(other, JobState.DONE)
    for _ in range(3):
        b.runner.step()
    assert (b.runner.running, b.state(job)) == (None, JobState.PAUSED)
    with pytest.raises(StateError, match="paused"):
        b.runner.pause(job)
    b.runner.resume(job)
    assert b.run_to(job, JobState.DONE).result == {"behind": 7}


def test_a_job_that_is_being_paused_is_paused_when_the_service_stops(bench: Callable[..., Bench]) -> None:
    b = bench("signal.signal(signal.SIGTERM, lambda *_: sys.exit(1)); progress(1, 0, stage='ready'); hang()")
    job = b.queue()
    b.hear("ready")
    b.runner.pause(job)
    b.runner.close()
    assert b.state(job) is JobState.PAUSED


def test_a_waiting_job_is_paused_at_once_and_a_paused_one_can_be_cancelled(bench: Callable[..., Bench]) -> None:
    b = bench("hang()")
    job = b.queue()
    assert b.runner.pause(job).state is JobState.PAUSED
    b.runner.step()
    assert b.runner.running is None
    assert b.runner.cancel(job).state is JobState.CANCELLED


def test_a_job_that_fails_while_it_is_paused_has_failed(bench: Callable[..., Bench]) -> None:
    b = bench(
        """
signal.signal(signal.SIGTERM, lambda *_: (say(kind="stopped", error="the disk is full; free some"), sys.exit(1)))
progress(1, stage="ready")
hang()
"""
    )
    job = b.queue()
    b.hear("ready")
    b.runner.pause(job)
    assert b.run_to(job, JobState.FAILED).error == "the disk is full; free some"


def test_a_job_that_runs_out_of_memory_says_so_whoever_lacked_it() -> None:
    # In a process of its own: torch is not loaded beside the runner.
    script = """
import numpy as np, torch
from trainer.child import _is_want_of_memory
def lacked(ask):
    try:
        ask()
    except Exception as error:
        return _is_want_of_memory(error)
asked = (lambda: torch.empty(1 << 50), lambda: np.empty(1 << 50), lambda: torch.ones(2) @ torch.ones(3))
print(*map(lacked, asked))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["True", "True", "False"]
