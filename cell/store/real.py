"""Real images of the learning store: splits, backgrounds, seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from cell import digest
from cell.clock import WallClock
from cell.defects import Background, Mask, Seed, SeedFinding, SeedState, Split
from cell.errors import GateError, NotFound, SplitError, StateError
from cell.frames import StoredStack
from cell.recipes import Recipe
from cell.store.counters import reserve
from cell.store.database import Database
from cell.store.ledger import Ledger
from cell.store.pictures import Pictures, check_mask
from cell.store.prints import Likeness, Newcomer, Prints
from cell.store.real_facts import facts_of, insert_seed, seal_seed
from cell.store.seed_checks import SeedChecks
from cell.store.splits import SplitBook, other_side
from cell.store.tables import backgrounds, ledger, seeds
from cell.store.taking_in import TakingIn
from cell.store.withdrawals import Withdrawals

#: How the name of a reviewer or confirmer ends who is none.
NOT_A_PERSON = "(not a person)"


class RealImages:
    """Splits, backgrounds and seeds. Every one of them is sealed in the gate's ledger when it is added or confirmed.

    `split_book` has the plans, the sides and the attempts to change them, `checks` what a seed must fulfil; `folders`
    takes many pictures in at once; `withdrawals` has the backgrounds that turned out bad.
    """

    def __init__(self, database: Database, chain: Ledger, pictures: Pictures, clock: WallClock) -> None:
        self._database = database
        self._ledger = chain
        self._pictures = pictures
        self._clock = clock
        self._prints = Prints(database, pictures)
        self.split_book = SplitBook(database, chain)
        self.checks = SeedChecks(database, self._prints, pictures)
        self.withdrawals = Withdrawals(database, chain)
        self.folders = TakingIn(database, chain, pictures, self._prints, self.split_book, clock)

    def assign_split(self, recipe_id: str, part_id: str, split: Split, *, lot: str = "") -> None:
        """Record what a physical part may be used for, once and for all; the same again changes nothing.

        Raises `SplitError` when the part stands on the other side (the attempt is sealed), `DataError` without an id.
        """
        with self.split_book.told(recipe_id, part_id, split), self._ledger.transaction() as writer:
            self.split_book.assign(writer, recipe_id, part_id, split, lot)

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

    def side_for(
        self,
        recipe_id: str,
        part_id: str,
        stack: StoredStack,
        *,
        lot: str = "",
        set_aside: bool = False,
        otherwise: Split | None = None,
    ) -> Split:
        """Return the side on which a part's picture must stand; nothing is recorded.

        The part's own side when it has one; else that of the part under another name whose near-duplicate the picture
        is; else its lot's where the plan goes by lot; else held out when it was `set_aside`; else `otherwise`, or what
        the recipe's plan says.
        """
        known = self.split_of(recipe_id, part_id)
        if known is not None:
            return known
        like = self._prints.likeness(recipe_id, digest.of_array(stack.pixels), stack.pixels, part_id=part_id)
        twin = None if like is None else self.split_of(recipe_id, like.picture.part_id)
        if twin is not None:
            return twin
        same_lot = self.split_book.of_lot(recipe_id, lot)
        if same_lot is not None:
            return same_lot
        if set_aside:
            return Split.HELD_OUT
        return self.split_book.choose(recipe_id, part_id, lot) if otherwise is None else otherwise

    def twins_apart(self, recipe_id: str, newcomers: Sequence[Newcomer]) -> list[tuple[Newcomer, Likeness]]:
        """Return the pictures about to enter whose part stands on the other side under another name."""
        return self._prints.apart(recipe_id, newcomers, self.splits(recipe_id))

    def twins_across(self, recipe_id: str) -> tuple[tuple[str, str, float], ...]:
        """Return pairs of part ids on two sides of the split whose pictures show one part, with their correlation.

        Compares all pictures of the recipe with each other: seconds for hundreds.
        """
        found = self._prints.across(recipe_id, dict(self.splits(recipe_id)))
        return tuple((one.part_id, two.part_id, correlation) for one, two, correlation in found)

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
        Raises `SplitError` when the part, its lot or its near-duplicate stands on the other side (:meth:`side_for`
        tells beforehand), `DataError` for an unusable stack, `DiskFull`.
        """
        background_id = f"b{self._number('background'):06d}"
        self._check_split(recipe_id, part_id, split, stack)
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
        self._prints.keep(recipe_id, background.image.digest, stack.pixels)
        with self.split_book.told(recipe_id, part_id, split), self._ledger.transaction() as writer:
            self.split_book.assign(writer, recipe_id, part_id, split, lot)
            payload = {"record": background.record_digest(), **facts_of(stack)}
            writer.append("background", background_id, payload)
            row = {"background_id": background_id, "recipe_id": recipe_id, "part_id": part_id}
            writer.connection.execute(sa.insert(backgrounds).values(**row, record=background.model_dump_json()))
        return background

    def background(self, background_id: str) -> Background:
        """Return a background. Raises `NotFound`."""
        with self._database.read() as connection:
            return get_background(connection, background_id)

    def backgrounds(
        self, recipe_id: str, split: Split | None = None, *, withdrawn: bool = False
    ) -> tuple[Background, ...]:
        """Return the backgrounds of a recipe in the order they were added, the `withdrawn` ones only when asked for."""
        statement = sa.select(backgrounds.c.record).where(backgrounds.c.recipe_id == recipe_id)
        with self._database.read() as connection:
            texts = connection.scalars(statement.order_by(backgrounds.c.background_id)).all()
        found = (Background.model_validate_json(text) for text in texts)
        gone = set() if withdrawn else self.withdrawals.of(recipe_id).keys()
        return tuple(one for one in found if (split is None or one.split is split) and one.background_id not in gone)

    def propose_seed(  # noqa: PLR0913 (one row; what a harvest knows beside the picture is keyword-only)
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
        taken_at: datetime | None = None,
    ) -> Seed:
        """Keep a defective part's frame set with a proposed mask (H, W) bool and class, for a person to confirm.

        `found` is what harvest tells them. Raises as :meth:`add_background` does, and `DataError` for a mask that
        is empty or of another size.
        """
        box = check_mask(mask, stack)
        seed_id = f"s{self._number('seed'):06d}"
        self._check_split(recipe_id, part_id, split, stack)
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
            taken_at=taken_at or self._clock(),
            **dict(found or SeedFinding()),
        )
        self._prints.keep(recipe_id, seed.image.digest, stack.pixels)
        with self.split_book.told(recipe_id, part_id, split), self._ledger.transaction() as writer:
            self.split_book.assign(writer, recipe_id, part_id, split, lot)
            insert_seed(writer, seed, {"is_person": False, **facts_of(stack, mask)})
        return seed

    def confirm_seed(
        self,
        seed_id: str,
        defect_class: str,
        mask: Mask,
        person: str,
        *,
        is_person: bool = True,
        recipe: Recipe | None = None,
    ) -> Seed:
        """Record that `person` confirms the class and mask of a seed; doing so again corrects it.

        With the `recipe` that production uses, the defect is held to :meth:`SeedChecks.require`. Training sets issued
        before a correction lose their validity. Raises `NotFound`, `DataError` for a wrong mask or a seed that does not
        fit, `GateError` for a nameless or contradictory person.
        """
        # Here and not above: it needs SciPy, which a service that only lists seeds does without.
        from cell.imaging.redrawn import regions_of_mask

        check_reviewer(person, is_person=is_person)
        known = self.seed(seed_id)
        stack = self._pictures.read_image(known.image)
        box = check_mask(mask, stack)
        if recipe is not None:
            self.checks.require(recipe, known, defect_class, mask, stack, self.seeds(known.recipe_id))
        number = self._number("seed-mask")
        path = f"seeds/{known.recipe_id}/{seed_id}-mask-{number}.png"
        changes = {
            "defect_class": defect_class,
            "mask": self._pictures.write_mask(path, mask),
            "box": box,
            "regions": regions_of_mask(mask, self._pictures.read_mask(known.mask), known.regions),
            "state": SeedState.CONFIRMED,
            "confirmed_by": person,
        }
        return self._change_seed(seed_id, changes, {"is_person": is_person, **facts_of(stack, mask)})

    def add_region(
        self, seed_id: str, defect_class: str, mask: Mask, person: str, *, is_person: bool = True, recipe: Recipe
    ) -> Seed:
        """Record that the part of a seed shows another defect too, on the same picture; return the new, confirmed seed.

        Raises as :meth:`confirm_seed`, and `StateError` when that seed was refused.
        """
        check_reviewer(person, is_person=is_person)
        beside = self.seed(seed_id)
        if beside.state is SeedState.REFUSED:
            raise StateError(f"the seed {seed_id} was refused; add the defect to one of this part that was not")
        stack = self._pictures.read_image(beside.image)
        fresh = Seed(
            seed_id=f"s{self._number('seed'):06d}",
            recipe_id=beside.recipe_id,
            part_id=beside.part_id,
            lot=beside.lot,
            defect_class=defect_class,
            image=beside.image,
            mask=beside.mask,
            box=check_mask(mask, stack),
            state=SeedState.CONFIRMED,
            split=beside.split,
            confirmed_by=person,
            taken_at=beside.taken_at,
            proposed_by="person" if is_person else "",
        )
        self.checks.require(recipe, fresh, defect_class, mask, stack, self.seeds(beside.recipe_id))
        written = self._pictures.write_mask(f"seeds/{fresh.recipe_id}/{fresh.seed_id}-mask-0.png", mask)
        seed = fresh.model_copy(update={"mask": written})
        with self._ledger.transaction() as writer:
            insert_seed(writer, seed, {"is_person": is_person, **facts_of(stack, mask)})
        return seed

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
            seal_seed(writer, changed, facts)
        return changed

    def _number(self, name: str) -> int:
        with self._database.write_direct() as connection:
            return reserve(connection, name, 1)

    def _check_split(self, recipe_id: str, part_id: str, split: Split, stack: StoredStack) -> None:
        # Before files are written; what the ledger knows is checked again in the transaction.
        with self.split_book.told(recipe_id, part_id, split):
            known = self.split_of(recipe_id, part_id)
            if known is not None and known is not split:
                raise SplitError(other_side(part_id, known))
            like = self._prints.likeness(recipe_id, digest.of_array(stack.pixels), stack.pixels, part_id=part_id)
            twin = None if like is None else self.split_of(recipe_id, like.picture.part_id)
            if like is not None and twin is not None and twin is not split:
                raise SplitError(
                    f"the picture of {part_id} shows the part {like.picture.part_id} again (its texture correlates to "
                    f"{like.correlation:.2f}, the next part's to {like.next:.2f}), which is {twin.value!r}; a part "
                    "never stands on two sides of a split"
                )


def check_reviewer(name: str, *, is_person: bool) -> None:
    """Raise `GateError` for a name that is empty, or that says of itself that it is no person when it should be."""
    if not name.strip():
        raise GateError("a decision needs the name of who takes it; say who you are")
    if is_person and name.strip().endswith(NOT_A_PERSON):
        raise GateError(f"{name!r} says of itself that it is not a person, so it can't decide as one")


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
