"""Which archived pictures are given up: by age and number, when room runs short, and to get out of a full disk.

The oldest go first, OK before FAULT before NG where room is made. What the learning store knows never goes: pictures
that became seeds or backgrounds (all that candidates and training sets rest on), and those of held-out parts. The rows
of pictures that went stay and say when and why. Everything here runs on the archive's thread.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from datetime import timedelta

from cell.clock import Monotonic, WallClock, monotonic, utc_now
from cell.defects import Split
from cell.errors import DiskFull
from cell.settings import ArchiveSettings
from cell.store.layout import BALLAST_MB, StateDir
from cell.store.learning import LearningStore
from cell.store.line import LineStore
from cell.store.line_records import ArchivedPart
from cell.verdicts import Outcome
from daemon.harvest.harvester import ACCEPTANCE
from daemon.physical import PhysicalParts

_LOG = logging.getLogger(__name__)

_PAGE = 100
#: Pictures that go between two looks at the room there is.
_FEW = 8
#: Room is made from this multiple of `minimum_free_mb` on, up to that one: not a picture at a time, and before the
#: archive has to stop.
_BEGIN, _UNTIL = 1.05, 1.10
#: What is free beside the ballast when a full disk has been got out of, MiB.
_RESERVE_MB = 8
#: Less than this is a full disk: SQLite's log needs a little, MiB.
_FULL_MB = 1
#: Where nothing may go, the stores are not asked again for so long, seconds.
_IN_VAIN_S = 30.0
_WORTH = (Outcome.OK, Outcome.FAULT, Outcome.NG)


class Retention:
    """See the module. All methods raise `StoreError`; what can't be looked up in the learning store is not given up."""

    def __init__(
        self,
        store: LineStore,
        learning: LearningStore,
        parts: PhysicalParts,
        rule: ArchiveSettings,
        minimum_free_mb: int,
        clock: WallClock = utc_now,
        elapsed: Monotonic = monotonic,
    ) -> None:
        self._store = store
        self._state: StateDir = store.state
        self._learning = learning
        self._parts = parts
        self._rule = rule
        self._minimum_mb = minimum_free_mb
        self._clock = clock
        self._monotonic = elapsed
        self._asked_in_vain = -1e9

    def by_rule(self) -> int:
        """Give up what is older or more than the settings say; return how many."""
        may_go = _Guard(self._learning, self._store, self._parts).may_go
        gone = 0
        if self._rule.max_parts is not None:
            for recipe_id, outcome in itertools.product(self._store.archive.recipes(), _WORTH):
                because = f"there are {self._rule.max_parts} newer {outcome} parts"
                for page in self._surplus(recipe_id, outcome, self._rule.max_parts):
                    gone += self._give_up([part for part in page if may_go(part)], because)[0]
        if self._rule.max_age_days is not None:
            oldest = self._clock() - timedelta(days=self._rule.max_age_days)
            because = f"older than {self._rule.max_age_days:g} days"
            for page in _pages(lambda after: self._store.archive.list(after_job=after, limit=_PAGE)):
                aged = [part for part in page if part.at < oldest]
                gone += self._give_up([part for part in aged if may_go(part)], because)[0]
                if len(aged) < len(page):
                    break
        return gone

    def keep_room(self) -> int:
        """Give the oldest up when little more than `minimum_free_mb` is free; return how many.

        Nothing goes in vain: when all pictures together would not make enough room, all stay.
        """
        free = self._state.free_mb()
        if not self._rule.make_room or free >= self._minimum_mb * _BEGIN:
            return 0
        if free + self._store.archive.size_bytes() / 2**20 < self._minimum_mb:
            return 0
        return self._make_room(self._minimum_mb * _UNTIL)[0]

    @property
    def full(self) -> bool:
        """True when not even rows find room much longer."""
        return self._state.free_mb() < _FULL_MB

    def get_out(self) -> tuple[int, int]:
        """Get out of a full disk: release the ballast, give the oldest up, make the ballast anew if there is room.

        Returns how many pictures went and the bytes they gave free. Call `restore_ballast` again later when it is
        not back.
        """
        self._state.release_ballast()
        gone = (0, 0)
        if self._rule.make_room:
            gone = self._make_room(max(self._minimum_mb * _UNTIL, BALLAST_MB + _RESERVE_MB))
        self.restore_ballast()
        return gone

    def restore_ballast(self) -> bool:
        """Make the ballast if it is missing and there is room; tell whether it is there."""
        if self._state.has_ballast:
            return True
        if self._state.free_mb() < BALLAST_MB + _FULL_MB:
            return False
        try:
            self._state.ensure_ballast()
        except DiskFull:
            return False
        return True

    def require_room(self) -> None:
        """Raise `DiskFull` when a picture must not be written: it would take the room that verdicts need."""
        self._state.require_free(self._minimum_mb)
        if not self.restore_ballast():
            raise DiskFull(
                f"the {BALLAST_MB} MiB that verdicts may need are not free in {self._state.root}; "
                "free space on that disk, no picture is archived until then"
            )

    def _make_room(self, until_mb: float) -> tuple[int, int]:
        if self._monotonic() - self._asked_in_vain < _IN_VAIN_S:
            return 0, 0
        may_go = _Guard(self._learning, self._store, self._parts).may_go
        gone = freed = 0
        for page in itertools.chain.from_iterable(map(self._oldest, _WORTH)):
            if self._state.free_mb() >= until_mb:
                return gone, freed
            count, size = self._give_up([part for part in page if may_go(part)], "room was needed")
            gone, freed = gone + count, freed + size
        if not gone:
            self._asked_in_vain = self._monotonic()
        return gone, freed

    def _surplus(self, recipe_id: str, outcome: Outcome, keep: int) -> Iterator[tuple[ArchivedPart, ...]]:
        archive = self._store.archive
        return _pages(lambda after: archive.beyond(recipe_id, outcome, keep, after_job=after, limit=_PAGE))

    def _oldest(self, outcome: Outcome) -> Iterator[tuple[ArchivedPart, ...]]:
        return _pages(lambda after: self._store.archive.list(outcome=outcome, after_job=after, limit=_FEW))

    def _give_up(self, parts: list[ArchivedPart], because: str) -> tuple[int, int]:
        if not parts:
            return 0, 0
        freed = self._store.archive.give_up(parts, self._clock(), because)
        _LOG.info("%d archived pictures up to job %s were given up: %s", len(parts), parts[-1].job_id, because)
        return len(parts), freed


class _Guard:
    """What must stay, as the learning store says while one round lasts."""

    def __init__(self, learning: LearningStore, line: LineStore, parts: PhysicalParts) -> None:
        self._learning = learning
        self._line = line
        self._parts = parts
        self._known: dict[str, tuple[frozenset[str], frozenset[str]]] = {}

    def may_go(self, part: ArchivedPart) -> bool:
        """Tell whether nothing that is learned from or measured against rests on a picture."""
        if part.recipe_id not in self._known:
            self._known[part.recipe_id] = self._of(part.recipe_id)
        pictures, held_out = self._known[part.recipe_id]
        if part.digest in pictures or self._parts.of(part.part_id, part.physical_part) in held_out:
            return False
        # Set aside for the acceptance test, though no harvest has seen it yet.
        return all(report.source != ACCEPTANCE for report in self._line.reports.of_part(part.part_id))

    def _of(self, recipe_id: str) -> tuple[frozenset[str], frozenset[str]]:
        pictures = {background.image.digest for background in self._learning.backgrounds(recipe_id, withdrawn=True)}
        pictures |= {seed.image.digest for seed in self._learning.seeds(recipe_id)}
        splits = self._learning.splits(recipe_id)
        held_out = frozenset(part for part, split in splits.items() if split is Split.HELD_OUT)
        return frozenset(pictures), held_out


def _pages(page_after: Callable[[str], tuple[ArchivedPart, ...]]) -> Iterator[tuple[ArchivedPart, ...]]:
    after = ""
    while page := page_after(after):
        after = page[-1].job_id
        yield page
