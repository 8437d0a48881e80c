from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from cell.errors import NotFound, ProtocolError, StateError, StoreError
from cell.events import AcquisitionDone, JobStarted, ResultReady, StateChanged
from cell.store.images import write_stack
from cell.store.layout import StateDir
from cell.store.line import LineStore, VerdictFilter
from cell.store.line_records import ArchivedPart, PartReport
from cell.store.requests import InProgress, New, Seen
from cell.verdicts import Outcome
from cell.wire.messages import Command, Reply
from tests.store.helpers import NOON, RECIPE, Clock, open_state, raw, stack_of, verdict_of


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return open_state(tmp_path)


@pytest.fixture
def store(state: StateDir) -> Iterator[LineStore]:
    with LineStore(state, clock=Clock()) as opened:
        yield opened


def command(request_id: str, **arguments: str) -> Command:
    return Command(request_id=request_id, command="StartSingleJob", arguments=arguments)


def test_a_request_takes_effect_once_also_after_a_restart(state: StateDir) -> None:
    reply = Reply(request_id="r1", result={"JobId": "j1"})
    with LineStore(state) as store:
        assert store.requests.begin(command("r1", PartId="a")) == New()
        assert store.requests.begin(command("r1", PartId="a")) == InProgress()
        store.requests.finish("r1", reply)
        assert store.requests.begin(command("r1", PartId="a")) == Seen(reply)
    with LineStore(state) as store:
        assert store.requests.begin(command("r1", PartId="a")) == Seen(reply)
        with pytest.raises(ProtocolError, match="was used for another command"):
            store.requests.begin(command("r1", PartId="b"))


def test_what_was_begun_and_not_finished_is_told_after_a_restart(state: StateDir) -> None:
    with LineStore(state, clock=Clock()) as store:
        for request_id in ("r3", "r1", "r2"):
            store.requests.begin(command(request_id))
        store.requests.finish("r1", Reply(request_id="r1"))
    with LineStore(state, clock=Clock()) as store:
        assert [one.request_id for one in store.requests.interrupted()] == ["r3", "r2"]
        store.requests.finish("r3", Reply(request_id="r3", error=-1))
        store.requests.finish("r2", Reply(request_id="r2", error=-1))
        assert store.requests.interrupted() == ()


def test_a_request_is_answered_once(store: LineStore) -> None:
    with pytest.raises(StoreError, match="was not begun"):
        store.requests.finish("r1", Reply(request_id="r1"))
    store.requests.begin(command("r1"))
    store.requests.finish("r1", Reply(request_id="r1"))
    store.requests.finish("r1", Reply(request_id="r1"))  # the same again is harmless
    with pytest.raises(StoreError, match="answered already"):
        store.requests.finish("r1", Reply(request_id="r1", error=-5))


def test_old_requests_are_forgotten_but_never_open_ones(state: StateDir) -> None:
    clock = Clock(step_s=60)
    with LineStore(state, clock=clock) as store:
        for number in range(4):
            store.requests.begin(command(f"r{number}"))
        store.requests.finish("r0", Reply())
        store.requests.finish("r1", Reply())
        assert store.requests.prune(clock.now + timedelta(hours=1)) == 2
        assert store.requests.begin(command("r0")) == New()
        assert store.requests.begin(command("r2")) == InProgress()


def test_a_part_leaves_everything_in_one_commit(state: StateDir) -> None:
    with LineStore(state) as store:
        store.requests.begin(command("r1"))
        started = store.stamp(JobStarted(at=NOON, request_id="r1", job_id="j1", part_id="p"))
        assert started.sequence == 1
        assert store.events_since(0) == ()  # stamped, not stored yet
        store.flush_events()
        assert store.events_since(0) == (started,)
        reply = Reply(request_id="r1", result={"Outcome": "OK"})
        done = AcquisitionDone(at=NOON, job_id="j1", part_id="p")
        verdict = verdict_of("j1")
        ready = store.commit_part(verdict, request_id="r1", reply=reply, events=[done])
        assert ready == ResultReady(at=NOON, request_id="r1", verdict=verdict, sequence=3)
        events = store.events_since(0)
        assert events == (started, done.model_copy(update={"sequence": 2}), ready)
        assert store.events_since(1, limit=1) == events[1:2]
        assert store.verdict("j1") == verdict
        assert store.requests.begin(command("r1")) == Seen(reply)
        assert store.last_sequence() == 3


def test_a_trigger_gets_exactly_one_verdict_and_a_refused_one_leaves_nothing(store: LineStore) -> None:
    store.requests.begin(command("r1"))
    store.commit_part(verdict_of("j1"))
    waiting = store.stamp(JobStarted(at=NOON, job_id="j2", part_id="p"))
    with pytest.raises(StoreError, match="has its verdict already"):
        store.commit_part(verdict_of("j1", outcome=Outcome.NG, reasons=("x",)), request_id="r1", reply=Reply())
    with pytest.raises(StoreError, match="was not begun"):
        store.commit_part(verdict_of("j3"), request_id="r9", reply=Reply())
    assert store.requests.begin(command("r1")) == InProgress()
    assert store.verdict("j1").outcome is Outcome.OK
    with pytest.raises(NotFound):
        store.verdict("j3")
    ready = store.commit_part(verdict_of("j3"))
    assert store.events_since(1) == (waiting, ready)  # the stamped event was not lost with the refused commits


def test_numbers_are_never_given_twice(state: StateDir) -> None:
    jobs: list[str] = []
    triggers: list[int] = []
    sequences: list[int] = []
    for _ in range(3):
        with LineStore(state) as store:
            jobs += [store.next_job_id() for _ in range(1500)]
            triggers += [store.next_trigger_id() for _ in range(10)]
            for _ in range(5):
                stamped = store.stamp(StateChanged(at=NOON, state="Ready", previous="Initialized"))
                sequences += [stamped.sequence]
            sequences += [one.sequence for one in store.append([JobStarted(at=NOON, job_id="j", part_id="")])]
            store.stamp(StateChanged(at=NOON, state="Ready", previous="Initialized"))  # lost with the process
    assert sorted(set(jobs)) == jobs
    assert sorted(set(triggers)) == triggers
    assert sorted(set(sequences)) == sequences
    assert jobs[0] == "j00000001"


def test_events_have_no_gaps_and_come_in_order_from_many_threads(store: LineStore) -> None:
    seen: list[int] = []
    missed: list[tuple[int, ...]] = []
    stop = threading.Event()

    def watch() -> None:
        last = 0
        while not stop.is_set() or store.last_sequence() > last:
            for event in store.events_since(last, limit=50):
                if event.sequence != last + 1:
                    missed.append((last, event.sequence))
                last = event.sequence
                seen.append(last)

    def work(name: int) -> None:
        for number in range(300):
            store.stamp(JobStarted(at=NOON, job_id=f"{name}-{number}", part_id=""))
            if number % 3 == 0:
                store.commit_part(verdict_of(f"{name}-{number}"))
        store.append([])

    watcher = threading.Thread(target=watch, name="watcher")
    workers = [threading.Thread(target=work, args=(name,), name=f"worker-{name}") for name in range(3)]
    for thread in (watcher, *workers):
        thread.start()
    for worker in workers:
        worker.join(60)
    stop.set()
    watcher.join(60)
    assert missed == []
    assert len(seen) == 3 * 400


def test_verdicts_are_found_by_what_is_asked(store: LineStore) -> None:
    for number in range(6):
        store.commit_part(
            verdict_of(
                f"j{number}",
                part_id=f"p{number % 3}",
                recipe_id="other" if number == 5 else "plate",
                outcome=Outcome.NG if number % 2 else Outcome.OK,
                created_at=NOON + timedelta(minutes=number),
            )
        )

    def jobs(**wanted: object) -> list[str]:
        return [verdict.job_id for verdict in store.verdicts(VerdictFilter.model_validate(wanted))]

    assert jobs() == ["j5", "j4", "j3", "j2", "j1", "j0"]
    assert jobs(recipe_id="plate", outcome=Outcome.NG) == ["j3", "j1"]
    assert jobs(part_id="p1") == ["j4", "j1"]
    assert jobs(since=NOON + timedelta(minutes=4)) == ["j5", "j4"]
    assert jobs(limit=2) == ["j5", "j4"]
    with pytest.raises(NotFound):
        store.verdict("none")


def test_verdicts_can_not_be_altered(state: StateDir, store: LineStore) -> None:
    store.commit_part(verdict_of("j1"))
    with raw(state.line_db) as connection, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute("UPDATE verdicts SET outcome = 'OK'")


def archived(state: StateDir, store: LineStore, number: int, outcome: Outcome = Outcome.OK) -> ArchivedPart:
    path = state.archive_path("plate", f"j{number}", NOON)
    part = ArchivedPart(
        job_id=f"j{number}",
        part_id=f"p{number}",
        recipe_id="plate",
        path=state.relative(path),
        digest=write_stack(path, stack_of(number)),
        outcome=outcome,
        size_bytes=path.stat().st_size,
        emulated=False,
        at=NOON,
    )
    store.archive.add(part)
    return part


def test_the_archive_is_a_ring_and_deletes_files_first(state: StateDir, store: LineStore) -> None:
    parts = [archived(state, store, number) for number in range(6)]
    bad = archived(state, store, 6, Outcome.NG)
    assert store.archive.get("j6") == bad
    assert store.archive.list(recipe_id="plate", outcome=Outcome.OK) == tuple(parts)
    assert store.archive.list(after_job="j4") == (parts[5], bad)
    assert store.archive.list(part_id="p2") == (parts[2],)
    assert store.archive.beyond("plate", Outcome.OK, keep=4) == tuple(parts[:2])
    assert store.archive.beyond("plate", Outcome.OK, keep=6) == ()
    assert store.archive.beyond("plate", Outcome.OK, keep=0, limit=3) == tuple(parts[:3])
    assert store.archive.beyond("plate", Outcome.OK, keep=2, after_job="j1") == tuple(parts[2:4])
    assert store.archive.recipes() == ("plate",)
    assert store.archive.size_bytes() == sum(part.size_bytes for part in (*parts, bad))
    state.resolve(parts[0].path).unlink()  # as after a crash between file and row
    assert store.archive.delete(parts[:2]) == parts[0].size_bytes + parts[1].size_bytes
    assert not state.resolve(parts[1].path).exists()
    assert state.resolve(parts[2].path).exists()
    with pytest.raises(NotFound):
        store.archive.get("j0")


def test_a_picture_that_was_given_up_is_gone_but_not_forgotten(state: StateDir, store: LineStore) -> None:
    parts = [archived(state, store, number) for number in range(4)]
    state.resolve(parts[0].path).unlink()  # as after a crash between file and row
    assert store.archive.give_up(parts[:2], NOON, "for the test") == parts[0].size_bytes + parts[1].size_bytes
    assert not state.resolve(parts[1].path).exists()
    assert store.archive.get("j1") == parts[1].model_copy(
        update={"removed_at": NOON, "removed_because": "for the test"}
    )
    assert store.archive.list() == tuple(parts[2:])
    assert store.archive.list(after_job="j1", limit=1) == (parts[2],)
    assert store.archive.beyond("plate", Outcome.OK, keep=1) == (parts[2],)
    assert store.archive.size_bytes() == parts[2].size_bytes + parts[3].size_bytes


def test_reports_about_parts_are_kept_in_order(store: LineStore) -> None:
    reports = [
        PartReport(part_id="p", outcome=Outcome.OK, source="plc", at=NOON),
        PartReport(part_id="p", outcome=Outcome.NG, defect_class="pit", source="gauge", at=NOON),
    ]
    for report in reports:
        store.reports.report_part(report)
    assert store.reports.of_part("p") == tuple(reports)
    assert store.reports.of_part("q") == ()


def test_a_recipe_version_has_one_content(store: LineStore) -> None:
    digest = store.recipes.add(RECIPE)
    assert store.recipes.add(RECIPE) == digest == RECIPE.record_digest()
    with pytest.raises(StoreError, match="give the changed recipe version 2"):
        store.recipes.add(RECIPE.model_copy(update={"deadline_ms": 20.0}))
    second = RECIPE.model_copy(update={"version": 2})
    store.recipes.add(second)
    assert store.recipes.get("plate") == second
    assert store.recipes.get("plate", 1) == RECIPE
    assert store.recipes.list() == (second,)
    with pytest.raises(NotFound):
        store.recipes.get("plate", 3)


def test_deployments_remember_the_way_back(store: LineStore) -> None:
    assert store.deployments.current("plate") is None
    with pytest.raises(StateError, match="no previous model"):
        store.deployments.roll_back("plate", "ada")
    store.deployments.deploy("plate", "m1", "ada")
    with pytest.raises(StateError):
        store.deployments.roll_back("plate", "ada")
    store.deployments.deploy("plate", "m2", "ada")
    assert store.deployments.deploy("plate", "m2", "ada").previous == "m1"
    back = store.deployments.roll_back("plate", "bob")
    assert (back.active, back.previous, back.rollback, back.by) == ("m1", "m2", True, "bob")
    assert [one.active for one in store.deployments.history("plate")] == ["m1", "m2", "m1"]
    assert store.deployments.current("other") is None


def test_conditions_stay_until_resolved_and_confirmed(state: StateDir) -> None:
    with LineStore(state, clock=Clock()) as store:
        first = store.conditions.raise_condition("camera", "gone")
        again = store.conditions.raise_condition("camera", "still gone")
        assert again.raised_at == first.raised_at
        store.conditions.raise_condition("disk", "full")
        assert store.conditions.resolve("none") is None
        resolved = store.conditions.resolve("camera")
        assert resolved is not None
        assert store.conditions.resolve("camera") is None
    with LineStore(state, clock=Clock()) as store:
        assert [one.name for one in store.conditions.open()] == ["camera", "disk"]
        assert store.conditions.confirm_all("seen") == 2
        assert [one.name for one in store.conditions.open()] == ["disk"]
        assert store.conditions.confirm_all("again") == 0
        store.conditions.resolve("disk")
        assert store.conditions.open() == ()


def test_events_can_be_pruned(store: LineStore) -> None:
    store.append([JobStarted(at=NOON, job_id=f"j{i}", part_id="") for i in range(10)])
    assert store.prune_events(keep=3) == 7
    assert [event.sequence for event in store.events_since(0)] == [8, 9, 10]


def test_what_was_told_last_is_there_after_a_restart(state: StateDir) -> None:
    halted = StateChanged(at=NOON, state="Halted", previous="Preoperational")
    with LineStore(state) as store:
        told = store.stamp(halted)
    with LineStore(state) as store:
        assert store.events_since(0) == (told,)
