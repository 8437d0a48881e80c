"""Old pictures are given up by age and number and to get out of a full disk; what is learned from never goes."""

from __future__ import annotations

import contextlib
import math
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from cell.defects import Mask, Split
from cell.errors import DiskFull
from cell.frames import Frame, StoredStack
from cell.settings import ArchiveSettings
from cell.store.images import write_stack
from cell.store.layout import BALLAST_MB, StateDir
from cell.store.learning import LearningStore
from cell.store.line import LineStore
from cell.store.line_records import ArchivedPart, PartReport
from cell.verdicts import Outcome
from daemon.harvest.harvester import ACCEPTANCE
from daemon.physical import PhysicalParts
from daemon.retention import Retention
from tests.daemon.cells import Cell, contrast_model, eventually, running
from tests.daemon.plc import PATIENCE_S
from tests.daemon.rigs import picture_of, recipe
from tests.store.helpers import verdict_of

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROOT = Path(__file__).parents[2]


class Archived:
    """Both stores of a cell, and archived pictures an hour apart."""

    def __init__(self, root: Path) -> None:
        self.state = StateDir.create(root)
        self.line, self.learning = LineStore(self.state), LearningStore(self.state)
        self.line.recipes.add(recipe())

    def add(self, number: int, outcome: Outcome, *, kilobytes: int = 1, physical_part: str = "") -> StoredStack:
        """Archive a picture of part ``p<number>`` as job ``j<number>``; `kilobytes` is a square number."""
        side = math.isqrt(kilobytes)
        pixels = np.random.default_rng(number).integers(0, 255, (2, 32 * side, 16 * side), np.uint8)
        stack = replace(picture_of("good"), pixels=pixels)
        at = NOON + timedelta(hours=number)
        path = self.state.archive_path("plate", f"j{number}", at)
        row = ArchivedPart(
            job_id=f"j{number}",
            part_id=f"p{number}",
            recipe_id="plate",
            path=self.state.relative(path),
            digest=write_stack(path, stack, compression="none"),
            outcome=outcome,
            size_bytes=path.stat().st_size,
            emulated=True,
            at=at,
            physical_part=physical_part,
        )
        self.line.archive.add(row)
        self.line.commit_part(verdict_of(row.job_id, outcome=outcome))
        return stack

    def protect(self, stacks: dict[int, StoredStack]) -> None:
        """Let the learning store know of the parts 0 to 3: a background, a seed, one held out, one set aside."""
        mask: Mask = np.zeros(stacks[1].pixels.shape[1:], np.bool_)
        mask[4:8, 4:8] = True
        self.learning.add_background("plate", "p0", stacks[0], Split.LEARN)
        self.learning.propose_seed("plate", "p1", stacks[1], mask, "spot", Split.LEARN)
        self.learning.assign_split("plate", "the-part", Split.HELD_OUT)  # p2 is a view of it
        self.line.reports.report_part(PartReport(part_id="p3", outcome=Outcome.OK, source=ACCEPTANCE, at=NOON))

    def there(self) -> list[int]:
        """Return the numbers of the pictures that are there, rows and files in agreement."""
        files = {file.stem for file in self.state.archive.rglob("*.tif")}
        rows = [part.job_id for part in self.line.archive.list()]
        assert files == {f"plate-{job}" for job in rows}
        return [int(job[1:]) for job in rows]

    def retention(self, minimum_free_mb: int = 0, **rule: object) -> Retention:
        """Return a retention whose clock stands at the twelfth picture's hour."""
        return Retention(
            self.line,
            self.learning,
            PhysicalParts(self.line.reports),
            ArchiveSettings.model_validate(rule),
            minimum_free_mb,
            lambda: NOON + timedelta(hours=12),
        )

    def close(self) -> None:
        self.line.close()
        self.learning.close()


@pytest.fixture
def archived(tmp_path: Path) -> Iterator[Archived]:
    """Twelve pictures, OK and NG in turn; the first four are protected."""
    made = Archived(tmp_path)
    stacks = {
        number: made.add(
            number, Outcome.NG if number % 2 else Outcome.OK, physical_part="the-part" if number == 2 else ""
        )
        for number in range(12)
    }
    made.protect(stacks)
    yield made
    made.close()


def test_nothing_goes_without_a_rule_while_there_is_room(archived: Archived) -> None:
    retention = archived.retention()
    assert retention.by_rule() == retention.keep_room() == 0
    assert archived.there() == list(range(12))


def test_old_pictures_go_and_their_rows_say_so(archived: Archived) -> None:
    assert archived.retention(max_age_days=4 / 24).by_rule() == 4
    assert archived.there() == [0, 1, 2, 3, 8, 9, 10, 11]
    gone = archived.line.archive.get("j5")
    assert gone.removed_at == NOON + timedelta(hours=12)
    assert gone.removed_because == "older than 0.166667 days"
    assert archived.retention(max_age_days=4 / 24).by_rule() == 0


def test_only_so_many_of_each_outcome_stay(archived: Archived) -> None:
    assert archived.retention(max_parts=2).by_rule() == 4
    assert archived.there() == [0, 1, 2, 3, 8, 9, 10, 11]
    assert archived.line.archive.get("j5").removed_because == "there are 2 newer NG parts"


def test_nothing_goes_in_vain(archived: Archived) -> None:
    retention = archived.retention(minimum_free_mb=10**9)
    assert retention.keep_room() == 0
    assert archived.there() == list(range(12))
    with pytest.raises(DiskFull, match="at least 1000000000 are needed"):
        retention.require_room()


def test_room_is_made_of_the_oldest_good_parts_first(archived: Archived) -> None:
    for number in range(12, 20):
        archived.add(number, (Outcome.FAULT, Outcome.OK, Outcome.NG)[number % 3], kilobytes=4096)
    # So much that only a few of the new pictures, of 4 MiB each, bring it about.
    minimum = int(archived.state.free_mb()) + 2
    assert archived.retention(minimum, make_room=False).keep_room() == 0
    gone = archived.retention(minimum).keep_room()
    there = archived.there()
    assert there[:4] == [0, 1, 2, 3]
    assert gone == 20 - len(there) > 0
    good = [number for number in there if archived.line.archive.get(f"j{number}").outcome is Outcome.OK]
    assert good == [0, 2]  # every other good part went before any bad one


def test_a_verdict_that_finds_no_room_is_fault_and_the_line_lives_on(tmp_path: Path) -> None:
    manifest = contrast_model(tmp_path)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)

    def no_more_room(frame: Frame) -> Frame:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, unlimited[1]))
        return frame

    with running(tmp_path) as cell:
        cell.ready()
        cell.client.call("inspectd.deploy", {"model": manifest.model_id, "promote": True})
        assert cell.trigger("good-1")["outcome"] == "OK"
        cell.camera.trouble = [no_more_room]
        try:
            verdict = cell.trigger("good-2")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        assert verdict["outcome"] == "FAULT"
        assert verdict["reasons"] == ["the verdict can't be stored; see the daemon's conditions"]
        assert eventually(lambda: _answer(cell, "good-3") == "OK", PATIENCE_S)


ON_A_SMALL_DISK = """
import sys
from pathlib import Path
from tests.daemon.test_retention import Archived, on_a_small_disk
on_a_small_disk(Path(sys.argv[1]))
"""


def on_a_small_disk(folder: Path) -> None:
    """Fill a disk of 64 MiB while parts are judged; runs in a process that sees `folder` as such a disk."""
    manifest = contrast_model(folder)
    made = Archived(folder / "state")
    outcomes = (Outcome.NG, Outcome.OK, Outcome.FAULT)
    stacks = {
        number: made.add(number, outcomes[number % 3], kilobytes=1024, physical_part="the-part" if number == 2 else "")
        for number in range(24)
    }
    made.protect(stacks)
    made.close()
    with running(folder) as cell:
        ballast = folder / "state" / "ballast"
        assert ballast.exists()
        cell.ready()
        cell.client.call("inspectd.deploy", {"model": manifest.model_id, "promote": True})
        _fill(folder / "filler")
        _goes_on_by_itself(cell, ballast)
        assert 10 <= cell.status()["archive"]["given_up"] <= 20
        # Somebody takes all that is free, again and again, until nothing is left that may go. At most so much that
        # verdicts have a part of the ballast's room when it is gone for good: who is faster then does not matter.
        most = _disk_bytes(folder) - _stays(folder) - ((BALLAST_MB - 4) << 20)
        assert eventually(
            lambda: _refilled(cell, folder, most) and not ballast.exists() and _there(folder) == PROTECTED, PATIENCE_S
        )
        before = cell.status()["archive"]["written"]
        assert eventually(lambda: _answer(cell, "good-late") == "OK", PATIENCE_S)  # in the ballast's room
        assert cell.status()["archive"]["written"] == before  # which pictures must not take
        no_picture = "free space on that disk, no picture is archived until then"
        assert eventually(lambda: _sentence(cell).endswith(no_picture), PATIENCE_S), _sentence(cell)
        for filler in folder.glob("filler*"):
            filler.unlink()
        assert eventually(ballast.exists, PATIENCE_S)
        cell.trigger("bad-1")
        assert eventually(lambda: cell.status()["archive"]["written"] > before, PATIENCE_S)
    _fill(folder / "filler", leave_blocks=0)
    with running(folder, recipes=()) as again:  # it starts on a full disk and goes back to its recipe
        assert eventually(lambda: again.status()["state"]["name"] == "Operational/Ready", PATIENCE_S)
        assert eventually(lambda: _answer(again, "good-later") == "OK", PATIENCE_S)
    print("as it should be")


def _goes_on_by_itself(cell: Cell, ballast: Path) -> None:
    answers = [_answer(cell, f"good-{number}") for number in range(60)]
    assert set(answers) <= {"OK", "FAULT", "refused"}, answers
    assert eventually(lambda: cell.status()["archive"]["given_up"] > 0 and ballast.exists(), PATIENCE_S)
    assert eventually(lambda: _answer(cell, "good-again") == "OK", PATIENCE_S)
    assert eventually(lambda: all(one["resolved_at"] for one in cell.status()["conditions"]), PATIENCE_S)
    assert "was full; to go on, " in _sentence(cell)
    written = cell.status()["archive"]["written"]
    cell.trigger("good-after")
    assert eventually(lambda: cell.status()["archive"]["written"] > written, PATIENCE_S)
    (component, _) = cell.client.call("GetResultComponentsById", {"ResultId": "j4"})["Components"]
    assert component["Path"] is None
    assert component["RemovedBecause"] == "room was needed"


def _refilled(cell: Cell, folder: Path, most: int) -> bool:
    fillers = list(folder.glob("filler*"))
    _fill(folder / f"filler-{len(fillers)}", most=most - sum(filler.stat().st_size for filler in fillers))
    _answer(cell, "good-more")
    return True


def _disk_bytes(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_blocks * disk.f_frsize


def _stays(folder: Path) -> int:
    """Bytes below the state directory that nobody gives up: no ballast, no unprotected pictures."""
    kept = 0
    state = folder / "state"
    for directory, _, names in os.walk(state):
        for file in (Path(directory) / name for name in names):
            archived = file.is_relative_to(state / "archive")
            goes = file == state / "ballast" or (archived and file.stem.split("-")[1] not in PROTECTED)
            with contextlib.suppress(FileNotFoundError):  # given up this instant
                kept += 0 if goes else file.stat().st_blocks * 512
    return kept


def _answer(cell: Cell, part_id: str) -> str:
    try:
        return str(cell.trigger(part_id)["outcome"])
    except DiskFull:
        return "refused"


def _sentence(cell: Cell) -> str:
    return str(next(one["message"] for one in cell.status()["conditions"] if one["name"] == "disk-full"))


def _there(folder: Path) -> set[str]:
    return {file.stem.split("-")[1] for file in (folder / "state" / "archive").rglob("*.tif")}


PROTECTED = {"j0", "j1", "j2", "j3"}


def _fill(path: Path, leave_blocks: int = 2, most: int = 1 << 40) -> None:
    """Take all the room there is but some blocks of 64 KiB, at `most` so many bytes."""
    block = bytes(1 << 16)
    with path.open("wb", buffering=0) as stream:
        try:
            while stream.tell() + len(block) <= most:
                stream.write(block)
        except OSError:
            stream.truncate(max(0, stream.tell() - leave_blocks * len(block)))


def test_a_full_disk_is_got_out_of_and_no_part_waits_for_it(tmp_path: Path) -> None:
    mount = f'mount -t tmpfs -o size=64m none "$1" && exec "{sys.executable}" -c "$0" "$1"'
    try:
        done = subprocess.run(
            ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, ON_A_SMALL_DISK, tmp_path],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("this machine has no unshare to mount a small disk with")
    if "mount:" in done.stderr or "unshare:" in done.stderr:
        pytest.skip(f"this machine lets nobody mount a small disk: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "as it should be\n"
