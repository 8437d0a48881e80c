"""Real images of the learning store: splits, backgrounds, seeds."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from cell.clock import WallClock
from cell.defects import Background, Mask, Seed, SeedFinding, SeedState, Split
from cell.errors import DataError, GateError, NotFound, StateError, StoreError
from cell.frames import StoredStack
from cell.store.counters import reserve
from cell.store.database import Database
from cell.store.ledger import Ledger, LedgerWriter
from cell.store.pictures import Pictures, check_mask
from cell.store.tables import backgrounds, ledger, seeds

#: How the name of a reviewer or confirmer ends who is none.
NOT_A_PERSON = "(not a person)"


class RealImages:
    """Splits, backgrounds and seeds. Every one of them is sealed in the gate's ledger when it is added or confirmed."""

    def __init__(self, database: Database, chain: Ledger, pictures: Pictures, clock: WallClock) -> None:
        self._database = database
        self._ledger = chain
        self._pictures = pictures
        self._clock = clock

    def assign_split(self, recipe_id: str, part_id: str, split: Split, *, lot: str = "") -> None:
        """Record what a physical part may be used for, once and for all; the same again changes nothing.

        Raises `StoreError` when the part stands on the other side, `DataError` when it has no id.
        """
        with self._ledger.transaction() as writer:
            _assign(writer, recipe_id, part_id, split, lot)

    def split_of(self, recipe_id: str, part_id: str) -> Split | None:
        """Return a part's split, or None when none was recorded."""
        return self.splits(recipe_id, part_id).get(part_id)

    def splits(self, recipe_id: str, part_id: str | None = None) -> dict[str, Split]:
        """Return the split of every part of a recipe, or of one part."""
        subject = ledger.c.subject
        wanted = (
            subject.startswith(f"{recipe_id}/", autoescape=True)
            if part_id is None
            else subject == f"{recipe_id}/{part_id}"
        )
        statement = sa.select(subject, sa.func.json_extract(ledger.c.payload, "$.split"))
        with self._database.read() as connection:
            rows = connection.execute(statement.where(ledger.c.kind == "split", wanted)).all()
        return {name.removeprefix(f"{recipe_id}/"): Split(split) for name, split in rows}

    def add_background(
        self,
        recipe_id: str,
        part_id: str,
        stack: StoredStack,
        split: Split,
        *,
        lot: str = "",
        quality: Mapping[str, float] | None = None,
        taken_at: datetime | None = None,
    ) -> Background:
        """Keep a good part's frame set (file durable, then row) and record its part's split if it has none.

        ``stack.metadata["emulated"]`` must be False for frames of a real camera; without it they count as emulated.
        Raises `StoreError` when the part stands on the other side, `DataError` for an unusable stack, `DiskFull`.
        """
        background_id = f"b{self._number('background'):06d}"
        self._check_split(recipe_id, part_id, split)
        background = Background(
            background_id=background_id,
            recipe_id=recipe_id,
            part_id=part_id,
            lot=lot,
            image=self._pictures.write_image(f"backgrounds/{recipe_id}/{background_id}.tif", stack),
            split=split,
            quality=dict(quality or {}),
            taken_at=taken_at or self._clock(),
        )
        with self._ledger.transaction() as writer:
            _assign(writer, recipe_id, part_id, split, lot)
            payload = {"record": background.record_digest(), **facts_of(stack)}
            writer.append("background", background_id, payload)
            row = {"background_id": background_id, "recipe_id": recipe_id, "part_id": part_id}
            writer.connection.execute(sa.insert(backgrounds).values(**row, record=background.model_dump_json()))
        return background

    def background(self, background_id: str) -> Background:
        """Return a background. Raises `NotFound`."""
        with self._database.read() as connection:
            return get_background(connection, background_id)

    def backgrounds(self, recipe_id: str, split: Split | None = None) -> tuple[Background, ...]:
        """Return the backgrounds of a recipe in the order they were added."""
        statement = sa.select(backgrounds.c.record).where(backgrounds.c.recipe_id == recipe_id)
        with self._database.read() as connection:
            texts = connection.scalars(statement.order_by(backgrounds.c.background_id)).all()
        found = (Background.model_validate_json(text) for text in texts)
        return tuple(background for background in found if split is None or background.split is split)

    def propose_seed(
        self,
        recipe_id: str,
        part_id: str,
        stack: StoredStack,
        mask: Mask,
        defect_class: str,
        split: Split,
        *,
        lot: str = "",
        found: SeedFinding | None = None,
    ) -> Seed:
        """Keep a defective part's frame set with a proposed mask (H, W) bool and class, for a person to confirm.

        `found` is what harvest tells them. Raises as :meth:`add_background` does, and `DataError` for a mask that
        is empty or of another size.
        """
        box = check_mask(mask, stack)
        seed_id = f"s{self._number('seed'):06d}"
        self._check_split(recipe_id, part_id, split)
        folder = f"seeds/{recipe_id}"
        seed = Seed(
            seed_id=seed_id,
            recipe_id=recipe_id,
            part_id=part_id,
            lot=lot,
            defect_class=defect_class,
            image=self._pictures.write_image(f"{folder}/{seed_id}.tif", stack),
            mask=self._pictures.write_mask(f"{folder}/{seed_id}-mask-0.png", mask),
            box=box,
            state=SeedState.PROPOSED,
            split=split,
            taken_at=self._clock(),
            **dict(found or SeedFinding()),
        )
        with self._ledger.transaction() as writer:
            _assign(writer, recipe_id, part_id, split, lot)
            row = {"seed_id": seed_id, "recipe_id": recipe_id, "part_id": part_id}
            writer.connection.execute(sa.insert(seeds).values(**row, record=seed.model_dump_json()))
            _seal_seed(writer, seed, {"is_person": False, **facts_of(stack)})
        return seed

    def confirm_seed(self, seed_id: str, defect_class: str, mask: Mask, person: str, *, is_person: bool = True) -> Seed:
        """Record that `person` confirms the class and mask of a seed; doing so again corrects it.

        Training sets issued before a correction lose their validity. Raises `NotFound`, `DataError` for a wrong mask,
        `GateError` for a nameless or contradictory person.
        """
        check_reviewer(person, is_person=is_person)
        known = self.seed(seed_id)
        stack = self._pictures.read_image(known.image)
        box = check_mask(mask, stack)
        number = self._number("seed-mask")
        path = f"seeds/{known.recipe_id}/{seed_id}-mask-{number}.png"
        changes = {
            "defect_class": defect_class,
            "mask": self._pictures.write_mask(path, mask),
            "box": box,
            "state": SeedState.CONFIRMED,
            "confirmed_by": person,
        }
        return self._change_seed(seed_id, changes, {"is_person": is_person, **facts_of(stack)})

    def refuse_seed(self, seed_id: str, person: str, reason: str = "") -> Seed:
        """Record that a person refuses a proposal or takes a confirmation back, and why.

        Raises `NotFound`, `GateError`.
        """
        check_reviewer(person, is_person=not person.endswith(NOT_A_PERSON))
        facts = facts_of(self._pictures.read_image(self.seed(seed_id).image))
        changes = {"state": SeedState.REFUSED, "confirmed_by": person, "reason": " ".join(reason.split())}
        return self._change_seed(seed_id, changes, {"is_person": False, **facts})

    def seed(self, seed_id: str) -> Seed:
        """Return a seed. Raises `NotFound`."""
        with self._database.read() as connection:
            return get_seed(connection, seed_id)

    def seeds(
        self, recipe_id: str, *, state: SeedState | None = None, split: Split | None = None, defect_class: str = ""
    ) -> tuple[Seed, ...]:
        """Return the seeds of a recipe that match, in the order they were proposed."""
        statement = sa.select(seeds.c.record).where(seeds.c.recipe_id == recipe_id).order_by(seeds.c.seed_id)
        with self._database.read() as connection:
            found = tuple(Seed.model_validate_json(text) for text in connection.scalars(statement))
        return tuple(
            seed
            for seed in found
            if (state is None or seed.state is state)
            and (split is None or seed.split is split)
            and (not defect_class or seed.defect_class == defect_class)
        )

    def _change_seed(self, seed_id: str, changes: Mapping[str, Any], facts: Mapping[str, Any]) -> Seed:
        with self._ledger.transaction() as writer:
            known = get_seed(writer.connection, seed_id)
            changed = Seed.model_validate({**dict(known), **changes})
            if changed.state is SeedState.CONFIRMED and known.state is SeedState.REFUSED:
                raise StateError(f"the seed {seed_id} was refused; propose the part again to learn from it")
            writer.connection.execute(
                sa.update(seeds).where(seeds.c.seed_id == seed_id).values(record=changed.model_dump_json())
            )
            _seal_seed(writer, changed, facts)
        return changed

    def _number(self, name: str) -> int:
        with self._database.write_direct() as connection:
            return reserve(connection, name, 1)

    def _check_split(self, recipe_id: str, part_id: str, split: Split) -> None:
        # Before files are written; the same is checked again in the transaction.
        known = self.split_of(recipe_id, part_id)
        if known is not None and known is not split:
            raise StoreError(_other_side(part_id, known))


def check_reviewer(name: str, *, is_person: bool) -> None:
    """Raise `GateError` for a name that is empty, or that says of itself that it is no person when it should be."""
    if not name.strip():
        raise GateError("a decision needs the name of who takes it; say who you are")
    if is_person and name.strip().endswith(NOT_A_PERSON):
        raise GateError(f"{name!r} says of itself that it is not a person, so it can't decide as one")


def facts_of(stack: StoredStack) -> dict[str, Any]:
    """Return what the ledger seals of a picture besides its record."""
    return {
        "emulated": stack.metadata.get("emulated") is not False,
        "channels": list(stack.channels),
        "size": [int(length) for length in stack.pixels.shape[1:]],
        "bit_depth": stack.bit_depth,
    }


def get_background(connection: sa.Connection, background_id: str) -> Background:
    """Return a background. Raises `NotFound`."""
    statement = sa.select(backgrounds.c.record).where(backgrounds.c.background_id == background_id)
    text = connection.scalars(statement).first()
    if text is None:
        raise NotFound(f"there is no background {background_id!r}; `inspectctl harvest` shows what there is")
    return Background.model_validate_json(text)


def get_seed(connection: sa.Connection, seed_id: str) -> Seed:
    """Return a seed. Raises `NotFound`."""
    text = connection.scalars(sa.select(seeds.c.record).where(seeds.c.seed_id == seed_id)).first()
    if text is None:
        raise NotFound(f"there is no seed {seed_id!r}; `inspectctl seeds` lists them")
    return Seed.model_validate_json(text)


def _assign(writer: LedgerWriter, recipe_id: str, part_id: str, split: Split, lot: str) -> None:
    if not part_id:
        raise DataError("a part without an id can't be kept apart from itself in a split; give it a part id")
    subject = f"{recipe_id}/{part_id}"
    known = writer.latest("split", subject)
    if known is None:
        writer.append("split", subject, {"split": split.value, "lot": lot})
    elif known.payload.get("split") != split.value:
        raise StoreError(_other_side(part_id, Split(known.payload["split"])))


def _other_side(part_id: str, known: Split) -> str:
    return f"the part {part_id} was set aside as {known.value!r} before; a part never stands on two sides of a split"


def _seal_seed(writer: LedgerWriter, seed: Seed, facts: Mapping[str, Any]) -> None:
    writer.append("seed", seed.seed_id, {"record": seed.record_digest(), "state": seed.state.value, **facts})
