"""Many real pictures at once, as from a folder: all of them enter the store, or none does."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from cell.clock import WallClock
from cell.defects import Background, ImageRef, Mask, Seed, SeedState, Split
from cell.errors import SplitError, StoreError
from cell.frames import StoredStack
from cell.store.counters import reserve
from cell.store.database import Database
from cell.store.ledger import Ledger, LedgerWriter
from cell.store.pictures import Pictures, check_mask
from cell.store.prints import Prints
from cell.store.real_facts import facts_of, insert_seed
from cell.store.splits import SplitBook
from cell.store.tables import backgrounds

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Incoming:
    """One picture: of a good part, or of one with defects, each a class and a mask (H, W) bool."""

    part_id: str
    stack: StoredStack
    split: Split
    lot: str = ""
    regions: tuple[tuple[str, Mask], ...] = ()
    origin: str = ""  # which program or person marked the regions


@dataclass(slots=True)
class TakenIn:
    """What entered."""

    backgrounds: list[Background] = field(default_factory=list)
    seeds: list[Seed] = field(default_factory=list)


class TakingIn:
    """Writes pictures durably one by one, then all their rows in one transaction."""

    def __init__(
        self,
        database: Database,
        chain: Ledger,
        pictures: Pictures,
        prints: Prints,
        book: SplitBook,
        clock: WallClock,
    ) -> None:
        self._database = database
        self._ledger = chain
        self._pictures = pictures
        self._prints = prints
        self._book = book
        self._clock = clock

    def take_in(self, recipe_id: str, items: Iterable[Incoming]) -> TakenIn:
        """Keep good parts as backgrounds and each region of the others as a proposed seed.

        `items` are asked for one at a time, so that one picture is in memory; an error that they raise ends it all.
        Raises `SplitError` when a part or its lot stands on the other side, `DataError` for an unusable picture,
        `DiskFull`; nothing was taken in then.
        """
        taken, facts, written = TakenIn(), _Facts(), list[ImageRef]()
        try:
            for item in items:
                self._write(recipe_id, item, taken, facts, written)
            with self._ledger.transaction() as writer:
                self._insert(writer, taken, facts)
        except SplitError as error:
            self._discard(written)
            self._book.note_refusal(recipe_id, "", "an import", str(error))
            raise
        except BaseException:
            self._discard(written)
            raise
        return taken

    def _write(self, recipe_id: str, item: Incoming, taken: TakenIn, facts: _Facts, written: list[ImageRef]) -> None:
        name = self._number("seed" if item.regions else "background")
        stem = f"seeds/{recipe_id}/s{name:06d}" if item.regions else f"backgrounds/{recipe_id}/b{name:06d}"
        image = self._pictures.write_image(f"{stem}.tif", item.stack)
        written.append(image)
        self._prints.keep(recipe_id, image.digest, item.stack.pixels)
        common: dict[str, Any] = {
            "recipe_id": recipe_id,
            "part_id": item.part_id,
            "lot": item.lot,
            "image": image,
            "split": item.split,
            "taken_at": self._clock(),
        }
        if not item.regions:
            background = Background(background_id=f"b{name:06d}", **common)
            taken.backgrounds.append(background)
            facts.of[background.background_id] = facts_of(item.stack)
            return
        for index, (defect_class, mask) in enumerate(item.regions):
            seed_id = f"s{name if index == 0 else self._number('seed'):06d}"
            box = check_mask(mask, item.stack)
            label = self._pictures.write_mask(f"seeds/{recipe_id}/{seed_id}-mask-0.png", mask)
            written.append(label)
            seed = Seed(
                seed_id=seed_id,
                defect_class=defect_class,
                mask=label,
                box=box,
                state=SeedState.PROPOSED,
                proposed_by=item.origin,
                **common,
            )
            taken.seeds.append(seed)
            facts.of[seed_id] = {"is_person": False, **facts_of(item.stack, mask)}

    def _insert(self, writer: LedgerWriter, taken: TakenIn, facts: _Facts) -> None:
        everything: list[Background | Seed] = [*taken.backgrounds, *taken.seeds]
        for one in everything:
            self._book.assign(writer, one.recipe_id, one.part_id, one.split, one.lot)
        for background in taken.backgrounds:
            payload = {"record": background.record_digest(), **facts.of[background.background_id]}
            writer.append("background", background.background_id, payload)
            row = {
                "background_id": background.background_id,
                "recipe_id": background.recipe_id,
                "part_id": background.part_id,
            }
            writer.connection.execute(sa.insert(backgrounds).values(**row, record=background.model_dump_json()))
        for seed in taken.seeds:
            insert_seed(writer, seed, facts.of[seed.seed_id])

    def _number(self, name: str) -> int:
        with self._database.write_direct() as connection:
            return reserve(connection, name, 1)

    def _discard(self, written: list[ImageRef]) -> None:
        try:
            self._pictures.remove(written)
        except StoreError as error:
            # A file without a row is a leftover that harms nothing.
            _LOG.warning("pictures of an import that was given up stay behind: %s", error)


@dataclass(slots=True)
class _Facts:
    """What the ledger seals of each picture, by id."""

    of: dict[str, dict[str, object]] = field(default_factory=dict)
