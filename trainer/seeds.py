"""Commands about real defects: a person's confirmations, what a set lacks, the split, and folders taken in.

They read pictures, so a thread of their own works them off; an export or a training that takes minutes holds none up.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from PIL import Image, UnidentifiedImageError
from pydantic import Field, StringConstraints

from cell.base import Record
from cell.defects import Mask, Seed, Split
from cell.errors import DataError
from cell.recipes import Fraction, Name, Recipe
from cell.store.learning import LearningStore
from cell.store.real import check_reviewer
from cell.wire.messages import Command
from trainer import arguments
from trainer.arguments import OfRecipe, Person, SeedConfirm, SeedRefuse
from trainer.folders.detect import Layout
from trainer.importing import FolderImport, Wishes
from trainer.slow import Work

Result = dict[str, Any]
PartId = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Pattern = Annotated[str, StringConstraints(max_length=200)]


class SeedAlso(Record):
    """``inspectd.seed.also``: another defect on the picture of `seed_id`."""

    seed_id: Name
    defect_class: Name
    reviewer: Person
    is_person: bool
    mask_png_base64: str


class SplitPlanned(Record):
    """``inspectd.split.plan``."""

    recipe_id: Name
    by: Literal["part", "lot"]
    held_out_share: Fraction
    reviewer: Person


class SplitAssigned(Record):
    """``inspectd.split.assign``: what one part is for."""

    recipe_id: Name
    part_id: PartId
    split: Split
    reviewer: Person
    lot: Annotated[str, StringConstraints(max_length=128)] = ""


class SplitShown(Record):
    """``inspectd.split``; with `twins` all pictures are compared."""

    recipe_id: Name
    twins: bool = False


class Import(Record):
    """``inspectd.import``."""

    recipe_id: Name
    directory: Path
    layout: Layout = "auto"
    dry_run: bool = False
    skip_misfits: bool = False
    held_out: tuple[Annotated[str, StringConstraints(max_length=64)], ...] | None = None
    classes: dict[str, Name] = Field(default_factory=dict)
    part_pattern: Pattern = ""
    lot_pattern: Pattern = ""
    #: Who vouches that a real camera took the pictures; empty: nobody does.
    vouched_by: Annotated[str, StringConstraints(max_length=128)] = ""


class SeedCommands:
    """Prepares the work of each command; arguments are checked at once.

    :param recipe_of: returns the recipe that production uses, by its id.
    """

    def __init__(self, store: LearningStore, recipe_of: Callable[[str], Recipe]) -> None:
        self._store = store
        self._recipe = recipe_of

    def works(self) -> dict[str, Callable[[Command], Work]]:
        """Return the commands by name."""
        return {
            "inspectd.seed.confirm": self._confirm,
            "inspectd.seed.also": self._also,
            "inspectd.seed.refuse": self._refuse,
            "inspectd.seeds.lacks": self._lacks,
            "inspectd.split": self._split,
            "inspectd.split.plan": self._plan,
            "inspectd.split.assign": self._assign,
            "inspectd.import": self._import,
        }

    def _confirm(self, command: Command) -> Work:
        asked = arguments.read(command, SeedConfirm)

        def work(_: Callable[[], bool]) -> Result:
            seed = self._store.seed(asked.seed_id)
            mask = self._store.read_mask(seed.mask)
            if asked.mask_png_base64 is not None:
                mask = mask_of_png(asked.mask_png_base64, mask.shape[0], mask.shape[1])
            confirmed = self._store.confirm_seed(
                seed.seed_id,
                asked.defect_class,
                mask,
                asked.reviewer,
                is_person=asked.is_person,
                recipe=self._recipe(seed.recipe_id),
            )
            return _told(confirmed)

        return work

    def _also(self, command: Command) -> Work:
        asked = arguments.read(command, SeedAlso)

        def work(_: Callable[[], bool]) -> Result:
            seed = self._store.seed(asked.seed_id)
            height, width = self._store.read_mask(seed.mask).shape
            added = self._store.add_region(
                seed.seed_id,
                asked.defect_class,
                mask_of_png(asked.mask_png_base64, height, width),
                asked.reviewer,
                is_person=asked.is_person,
                recipe=self._recipe(seed.recipe_id),
            )
            return _told(added)

        return work

    def _refuse(self, command: Command) -> Work:
        asked = arguments.read(command, SeedRefuse)
        return lambda _: _told(self._store.refuse_seed(asked.seed_id, asked.reviewer, asked.reason))

    def _lacks(self, command: Command) -> Work:
        recipe = self._recipe(arguments.read(command, OfRecipe).recipe_id)

        def work(_: Callable[[], bool]) -> Result:
            found = self._store.checks.survey(recipe, self._store.seeds(recipe.recipe_id))
            classes = [one.model_dump(mode="json") | {"ready": one.ready} for one in found]
            return {"recipe_id": recipe.recipe_id, "ready": all(one.ready for one in found), "classes": classes}

        return work

    def _split(self, command: Command) -> Work:
        asked = arguments.read(command, SplitShown)

        def work(_: Callable[[], bool]) -> Result:
            state = self._store.split_book.state(asked.recipe_id)
            answer: Result = {"split": state.model_dump(mode="json")}
            if asked.twins:
                pairs = self._store.twins_across(asked.recipe_id)
                answer["twins"] = [{"parts": [one, two], "correlation": round(c, 3)} for one, two, c in pairs]
            return answer

        return work

    def _plan(self, command: Command) -> Work:
        asked = arguments.read(command, SplitPlanned)
        self._recipe(asked.recipe_id)

        def work(_: Callable[[], bool]) -> Result:
            plan = self._store.split_book.set_plan(asked.recipe_id, asked.by, asked.held_out_share, asked.reviewer)
            return {"plan": plan.model_dump(mode="json")}

        return work

    def _assign(self, command: Command) -> Work:
        asked = arguments.read(command, SplitAssigned)
        self._recipe(asked.recipe_id)

        def work(_: Callable[[], bool]) -> Result:
            check_reviewer(asked.reviewer, is_person=False)
            self._store.assign_split(asked.recipe_id, asked.part_id, asked.split, lot=asked.lot)
            return {"part_id": asked.part_id, "split": asked.split.value, "lot": asked.lot}

        return work

    def _import(self, command: Command) -> Work:
        asked = arguments.read(command, Import)
        recipe = self._recipe(asked.recipe_id)
        if asked.vouched_by:
            check_reviewer(asked.vouched_by, is_person=True)
        # As for an export: a relative folder lies where the service may look under its unit.
        root = self._store.state.root / "imports" / asked.directory
        wishes = Wishes(
            layout=asked.layout,
            held_out=asked.held_out,
            classes=asked.classes,
            part_pattern=asked.part_pattern,
            lot_pattern=asked.lot_pattern,
            vouched_by=asked.vouched_by,
            skip_misfits=asked.skip_misfits,
        )

        def work(cancelled: Callable[[], bool]) -> Result:
            folder = FolderImport(self._store, recipe, root, wishes, cancelled)
            survey = folder.survey()
            answer: Result = {"recipe_id": recipe.recipe_id, "directory": str(root), "survey": survey.told(root)}
            return answer | {"taken": None if asked.dry_run else folder.take(survey)}

        return work


def mask_of_png(text: str, height: int, width: int) -> Mask:
    """Decode a mask; nonzero is defect. Raises `DataError` when it is no PNG of that size or is empty."""
    try:
        data = base64.b64decode(text, validate=True)
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            if picture.size != (width, height):
                raise DataError(
                    f"the mask is {picture.size[0]}x{picture.size[1]} pixels, its image {width}x{height}; "
                    "draw it on this image"
                )
            pixels = np.asarray(picture.convert("L"))
    except (binascii.Error, ValueError, UnidentifiedImageError, OSError, SyntaxError) as error:
        raise DataError("the mask is not a whole PNG in base64; send it again") from error
    mask: Mask = pixels > 0
    if not mask.any():
        raise DataError("the mask is empty; mark the defect or refuse the seed")
    return mask


def _told(seed: Seed) -> Result:
    return {"seed": seed.model_dump(mode="json")}
