"""Which backgrounds candidates are made on: good parts of the process as it is now, and none that was withdrawn."""

from __future__ import annotations

from typing import Any

from cell.defects import Background, Split
from cell.errors import DataError
from cell.process import Rests
from cell.store.learning import LearningStore


def for_candidates(store: LearningStore, recipe_id: str, *, stale: bool = False) -> tuple[Background, ...]:
    """Return the learning side's backgrounds of the present state of the process; with `stale`, of any state.

    Raises `DataError` when there are none, or when all of them are from before a change of the process.
    """
    found = store.backgrounds(recipe_id, Split.LEARN)
    if not found:
        raise DataError(f"there are no backgrounds of {recipe_id} to generate on; run harvest first")
    if stale:
        return found
    standing = store.process.standing(recipe_id)
    old = set(standing.stale.get(Rests.BACKGROUNDS, ()))
    fresh = tuple(one for one in found if one.background_id not in old)
    if not fresh:
        raise DataError(
            f"all {len(found)} backgrounds of {recipe_id} are from before {standing.why(Rests.BACKGROUNDS)}; gather "
            "new ones with inspectctl harvest, or generate on them all the same with --stale"
        )
    return fresh


def told(store: LearningStore, recipe_id: str) -> dict[str, Any]:
    """Return every background of a recipe as JSON types, and why some are not made use of, by id."""
    standing = store.process.standing(recipe_id)
    why = standing.why(Rests.BACKGROUNDS)
    return {
        "backgrounds": [one.model_dump(mode="json") for one in store.backgrounds(recipe_id, withdrawn=True)],
        "withdrawn": {name: one.reason for name, one in store.withdrawals.of(recipe_id).items()},
        "stale": dict.fromkeys(standing.stale.get(Rests.BACKGROUNDS, ()), f"from before {why}"),
    }
