"""What a defect must fulfil before a person's confirmation makes a seed of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa

from cell.defects import Mask, Seed, SeedState, Split
from cell.errors import DataError
from cell.frames import StoredStack
from cell.imaging import production
from cell.imaging.seed_set import ClassSeeds, SeedLook, look_at, summarise
from cell.recipes import Recipe
from cell.store.database import Database
from cell.store.ledger import latest
from cell.store.pictures import Pictures
from cell.store.prints import Prints
from cell.store.tables import backgrounds, ledger

#: Share of the smaller of two masks that both may cover before they are one region.
_SHARED = 0.3
#: Good parts whose levels say how bright the light usually is, the newest.
_REFERENCES = 200


class SeedChecks:
    """Holds a defect to the recipe that production uses and to the seeds that there are."""

    def __init__(self, database: Database, prints: Prints, pictures: Pictures) -> None:
        self._database = database
        self._prints = prints
        self._pictures = pictures

    def unlike_production(self, recipe: Recipe, stack: StoredStack, mask: Mask | None) -> tuple[str, ...]:
        """Return what differs about how a picture was taken, a phrase each: size, exposure, gain, light."""
        levels = production.levels(stack.pixels, mask)
        return self._unlike(recipe, production.Taking.of(stack), levels, self.references(recipe.recipe_id))

    @staticmethod
    def _unlike(
        recipe: Recipe,
        taking: production.Taking,
        levels: Sequence[float],
        references: Sequence[Sequence[float]],
    ) -> tuple[str, ...]:
        found = production.unlike(recipe, taking)
        return found or production.lit_otherwise(levels, references, recipe.channel_names)

    def survey(self, recipe: Recipe, found: Iterable[Seed]) -> tuple[ClassSeeds, ...]:
        """Return where the seeds of each class stand and what the set lacks.

        Reads every mask, and the pictures of the confirmed seeds that are learned from.

        :param found: the recipe's seeds.
        """
        kept = [seed for seed in found if seed.state is not SeedState.REFUSED]
        looks, problems = [], {}
        for seed in kept:
            try:
                looks.append(look_at(seed, self._pictures.read_mask(seed.mask)))
            except DataError as error:
                # Its place is not known, but it must not be missing from the count either.
                looks.append(SeedLook(seed, (seed.box.y, seed.box.x), 0.0, 0.0, 1.0))
                problems[seed.seed_id] = str(error)
        confirmed = [seed for seed in kept if seed.state is SeedState.CONFIRMED]
        references = self.references(recipe.recipe_id)
        for seed in confirmed:
            problem = problems.get(seed.seed_id) or self._problem(recipe, seed, references)
            if problem:
                problems[seed.seed_id] = problem
        learned = [seed for seed in confirmed if seed.split is Split.LEARN and seed.seed_id not in problems]
        return summarise(recipe, looks, problems, self._duplicates(recipe, learned))

    def _problem(self, recipe: Recipe, seed: Seed, references: Sequence[Sequence[float]]) -> str:
        facts = self._facts(seed.seed_id)
        taking = production.Taking.of_facts(facts)
        try:
            if seed.split is Split.LEARN or taking is None:
                stack = self._pictures.read_image(seed.image)
                taking = production.Taking.of(stack)
        except DataError as error:
            return str(error)
        return "; ".join(self._unlike(recipe, taking, facts.get("levels", ()), references))

    def _duplicates(self, recipe: Recipe, learned: Sequence[Seed]) -> dict[str, str]:
        """Return of which earlier seed's part one is another picture, by seed id."""
        found: dict[str, str] = {}
        for index, seed in enumerate(learned):
            earlier = [
                one
                for one in learned[:index]
                if one.defect_class == seed.defect_class and one.image.digest != seed.image.digest
            ]
            same = next((one for one in earlier if one.part_id == seed.part_id), None)
            if same is None and earlier:
                like = self._prints.likeness_of(recipe.recipe_id, seed.image.digest, part_id=seed.part_id)
                same = None if like is None else next((o for o in earlier if o.part_id == like.picture.part_id), None)
            if same is not None:
                found[seed.seed_id] = same.seed_id
        return found

    def _facts(self, seed_id: str) -> dict[str, Any]:
        with self._database.read() as connection:
            entry = latest(connection, "seed", seed_id)
        return {} if entry is None else entry.payload

    def references(self, recipe_id: str) -> list[tuple[float, ...]]:
        """Return the levels of the good parts that are learned from, newest first, as the ledger sealed them."""
        learned = sa.func.json_extract(backgrounds.c.record, "$.split") == Split.LEARN.value
        statement = (
            sa.select(sa.func.json_extract(ledger.c.payload, "$.levels"))
            .join(backgrounds, backgrounds.c.background_id == ledger.c.subject)
            .where(ledger.c.kind == "background", backgrounds.c.recipe_id == recipe_id, learned)
            .order_by(ledger.c.sequence.desc())
            .limit(_REFERENCES)
        )
        with self._database.read() as connection:
            return [tuple(json.loads(text)) for text in connection.scalars(statement) if text]

    def require(
        self, recipe: Recipe, seed: Seed, defect_class: str, mask: Mask, stack: StoredStack, others: Iterable[Seed]
    ) -> None:
        """Raise `DataError` for a class that the recipe lacks, a picture that production would not take, or a defect
        that a confirmed seed shows already.

        :param others: the recipe's seeds.
        """
        if defect_class not in recipe.class_names:
            raise DataError(
                f"{recipe.recipe_id} has no defect class {defect_class}; it has {', '.join(recipe.class_names)}"
            )
        different = self.unlike_production(recipe, stack, mask)
        if different:
            raise DataError(
                f"the picture of {seed.seed_id} was not taken as production takes it: {'; '.join(different)}; "
                "take the part again with this recipe, or refuse the seed"
            )
        confirmed = [one for one in others if one.state is SeedState.CONFIRMED and one.seed_id != seed.seed_id]
        self._refuse_same_region(seed, mask, [one for one in confirmed if one.image.digest == seed.image.digest])
        if seed.split is Split.LEARN:
            self._refuse_same_part(recipe, seed, stack, [one for one in confirmed if one.split is Split.LEARN])

    def _refuse_same_region(self, seed: Seed, mask: Mask, siblings: Iterable[Seed]) -> None:
        for sibling in siblings:
            theirs = self._pictures.read_mask(sibling.mask)
            shared = int((theirs & mask).sum())
            if shared > _SHARED * min(int(theirs.sum()), int(np.count_nonzero(mask))):
                raise DataError(
                    f"the region of {seed.seed_id} is that of {sibling.seed_id}, a confirmed {sibling.defect_class}; "
                    "correct that one, or draw only what is another defect"
                )

    def _refuse_same_part(self, recipe: Recipe, seed: Seed, stack: StoredStack, confirmed: list[Seed]) -> None:
        others = [one for one in confirmed if one.image.digest != seed.image.digest]
        same = next((one for one in others if one.part_id == seed.part_id), None)
        if same is not None:
            raise DataError(
                f"{seed.seed_id} is another picture of part {seed.part_id}, of which {same.seed_id} is confirmed; "
                f"draw what it shows on {same.seed_id} as well, and refuse this one"
            )
        if not others:
            return
        like = self._prints.likeness(recipe.recipe_id, seed.image.digest, stack.pixels, part_id=seed.part_id)
        twin = None if like is None else next((one for one in others if one.part_id == like.picture.part_id), None)
        if like is not None and twin is not None:
            raise DataError(
                f"{seed.seed_id} shows the part of {twin.seed_id} again (its texture correlates to "
                f"{like.correlation:.2f}, the next part's to {like.next:.2f}); refuse one of them"
            )
