from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cell.errors import NotFound, StateError
from cell.jobs import Job, JobKind, JobState, Progress
from cell.store.learning import LearningStore
from tests.store.helpers import Clock, open_state


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LearningStore]:
    with LearningStore(open_state(tmp_path), clock=Clock()) as opened:
        yield opened


def queued(store: LearningStore) -> Job:
    return store.jobs.create(JobKind.GENERATE, "plate", {"count": 3})


def test_a_job_goes_from_the_queue_to_its_result(store: LearningStore) -> None:
    job = queued(store)
    later = queued(store)
    assert store.jobs.next_queued() == job
    running = store.jobs.start(job.job_id)
    assert running.state is JobState.RUNNING
    assert running.updated_at > job.updated_at
    progress = Progress(stage="fit", done=1, total=3)
    assert store.jobs.progress(job.job_id, progress).progress == progress
    with pytest.raises(StateError, match="runs; wait for it"):
        store.jobs.start(later.job_id)
    done = store.jobs.done(job.job_id, {"candidates": 3})
    assert store.jobs.get(job.job_id) == done
    assert store.jobs.next_queued() == later
    assert store.jobs.list() == (later, done)
    assert store.jobs.list(state=JobState.DONE) == (done,)
    assert store.jobs.list(recipe_id="other") == ()


@pytest.mark.parametrize(
    ("reached", "allowed"),
    [
        (JobState.QUEUED, {"start", "cancel", "pause"}),
        (JobState.RUNNING, {"progress", "done", "fail", "cancel", "pause"}),
        (JobState.DONE, set()),
        (JobState.FAILED, {"resume"}),
        (JobState.CANCELLED, {"resume"}),
        (JobState.PAUSED, {"resume", "cancel"}),
        (JobState.INTERRUPTED, {"resume"}),
    ],
)
def test_every_other_transition_is_refused(reached: JobState, allowed: set[str], tmp_path: Path) -> None:
    for name in ("start", "progress", "done", "fail", "cancel", "pause", "resume"):
        with LearningStore(open_state(tmp_path / name)) as store:
            job = queued(store).job_id
            if reached is not JobState.QUEUED:
                store.jobs.start(job)
            _end(store, job, reached)
            assert store.jobs.get(job).state is reached
            if name in allowed:
                _call(store, name, job)
            else:
                with pytest.raises(StateError):
                    _call(store, name, job)
                assert store.jobs.get(job).state is reached


def _end(store: LearningStore, job: str, state: JobState) -> None:
    if state is JobState.DONE:
        store.jobs.done(job, {})
    elif state is JobState.FAILED:
        store.jobs.fail(job, "out of memory")
    elif state is JobState.CANCELLED:
        store.jobs.cancel(job)
    elif state is JobState.PAUSED:
        store.jobs.pause(job)
    elif state is JobState.INTERRUPTED:
        store.jobs.mark_interrupted()


def _call(store: LearningStore, name: str, job: str) -> None:
    if name == "progress":
        store.jobs.progress(job, Progress(stage="s", done=0, total=0))
    elif name == "done":
        store.jobs.done(job, {})
    elif name == "fail":
        store.jobs.fail(job, "x")
    else:
        getattr(store.jobs, name)(job)


def test_a_restart_shows_what_was_interrupted(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    with LearningStore(state) as store:
        job = queued(store)
        store.jobs.start(job.job_id)
        store.jobs.progress(job.job_id, Progress(stage="fit", done=2, total=3))
    with LearningStore(state) as store:
        (left,) = store.jobs.mark_interrupted()
        assert left.state is JobState.INTERRUPTED
        assert left.progress is not None
        assert "resume" in left.error
        assert store.jobs.mark_interrupted() == ()
        assert store.jobs.resume(job.job_id).state is JobState.QUEUED
        assert store.jobs.start(job.job_id).error == ""


def test_an_unknown_job_is_not_found(store: LearningStore) -> None:
    for call in (store.jobs.get, store.jobs.start, store.jobs.cancel, store.jobs.resume):
        with pytest.raises(NotFound):
            call("t99999")
    assert store.jobs.next_queued() is None


def test_a_paused_job_stays_so_after_a_restart_and_others_are_taken_up_before_it(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    with LearningStore(state) as store:
        job, other = queued(store), queued(store)
        store.jobs.start(job.job_id)
        store.jobs.progress(job.job_id, Progress(stage="generate", done=2, total=3))
        assert store.jobs.pause(job.job_id).state is JobState.PAUSED
    with LearningStore(state) as store:
        assert store.jobs.mark_interrupted() == ()
        paused = store.jobs.get(job.job_id)
        assert (paused.state, paused.progress and paused.progress.done) == (JobState.PAUSED, 2)
        assert store.jobs.next_queued() == other
        store.jobs.resume(job.job_id)
        following = store.jobs.next_queued()
        assert following is not None
        assert following.job_id == job.job_id
