"""What a defect must fulfil before a person's confirmation makes a seed of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

import numpy as np
import sqlalchemy as sa

from cell.defects import ImageRef, Mask, Seed, SeedState, Split
from cell.errors import DataError
from cell.frames import StoredStack
from cell.imaging import production
from cell.recipes import Recipe
from cell.store.database import Database
from cell.store.prints import Prints
from cell.store.tables import backgrounds, ledger

#: Share of the smaller of two masks that both may cover before they are one region.
_SHARED = 0.3
#: Good parts whose levels say how bright the light usually is, the newest.
_REFERENCES = 200


class SeedChecks:
    """Holds a defect to the recipe that production uses and to the seeds that there are."""

    def __init__(self, database: Database, prints: Prints, read_mask: Callable[[ImageRef], Mask]) -> None:
        self._database = database
        self._prints = prints
        self._read_mask = read_mask

    def unlike_production(self, recipe: Recipe, stack: StoredStack, mask: Mask | None) -> tuple[str, ...]:
        """Return what differs about how a picture was taken, a phrase each: size, exposure, gain, light."""
        found = production.unlike(recipe, stack)
        if found:
            return found
        levels = production.levels(stack.pixels, mask)
        return production.lit_otherwise(levels, self.references(recipe.recipe_id), recipe.channel_names)

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
            theirs = self._read_mask(sibling.mask)
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
                f"{like.correlation:.2f}, other parts' to {like.usual:.2f}); refuse one of them"
            )
