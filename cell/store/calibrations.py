"""How a recipe's calibration stands: whether there is one, whether it still holds, and when the next is due.

The words are those of OPC 40100-2: CalibrationNeeded, LastCalibration, NextCalibration.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from cell.base import Record
from cell.calibration import Calibration, CalibrationKind, outdated
from cell.clock import WallClock, utc_now
from cell.errors import CalibrationError
from cell.process import RENEWS, ChangeState, Rests
from cell.recipes import Recipe
from cell.store.learning import LearningStore


class CalibrationStanding(Record):
    """The newest calibration of a recipe, and whether another one is needed."""

    recipe_id: str
    needed: bool
    reason: str = ""  # why one is needed, a sentence; empty while none is
    last: datetime | None = None
    next: datetime | None = None
    configuration_id: str = ""
    kind: CalibrationKind | None = None

    def told(self) -> dict[str, Any]:
        """Return it in the standard's words, as JSON."""
        return {
            "RecipeId": self.recipe_id,
            "CalibrationNeeded": self.needed,
            "Reason": self.reason,
            "LastCalibration": self.last.isoformat() if self.last else None,
            "NextCalibration": self.next.isoformat() if self.next else None,
            "ConfigurationId": self.configuration_id,
            "Kind": self.kind.value if self.kind else None,
        }


def standing(store: LearningStore, recipe: Recipe, clock: WallClock = utc_now) -> CalibrationStanding:
    """Return how the calibration of a recipe stands now. Raises `StoreError` when the store can't be read."""
    found = store.calibrations(recipe.recipe_id)
    if not found:
        reason = f"the recipe {recipe.recipe_id} has no calibration; run inspectctl calibrate"
        return CalibrationStanding(recipe_id=recipe.recipe_id, needed=True, reason=reason)
    newest = found[0]
    why = outdated(newest, recipe, clock()) or _changed(store, newest)
    return CalibrationStanding(
        recipe_id=recipe.recipe_id,
        needed=bool(why),
        reason=f"the calibration {newest.calibration_id} can't be used: {why}; run inspectctl calibrate" if why else "",
        last=newest.created_at,
        next=newest.valid_until,
        configuration_id=newest.record_digest(),
        kind=newest.kind,
    )


def current(store: LearningStore, recipe: Recipe, clock: WallClock = utc_now) -> Calibration:
    """Return the calibration that holds for a recipe as it is now.

    Raises `CalibrationError` when there is none, when it is outdated, when the recipe's frame, exposures, gains or
    lights were changed since, or when camera, lens or lamp were.
    """
    now = standing(store, recipe, clock)
    if now.needed:
        raise CalibrationError(now.reason)
    return store.calibrations(recipe.recipe_id)[0]


def of_time(store: LearningStore, recipe_id: str, taken_at: datetime) -> Calibration | None:
    """Return the calibration of the cell as it was when a picture was taken; None where there is none of that time.

    It is the last one before, or else the first one after, with no change of camera, lens or lamp between.
    """
    changes = [
        change.since
        for change in store.process.list(recipe_id)
        if change.state is not ChangeState.WITHDRAWN and Rests.CALIBRATION in RENEWS[change.what]
    ]

    def same(calibration: Calibration) -> bool:
        first, last = sorted((calibration.created_at, taken_at))
        return not any(first < since <= last for since in changes)

    found = [one for one in store.calibrations(recipe_id) if same(one)]
    before = [one for one in found if one.created_at <= taken_at]
    return before[0] if before else found[-1] if found else None


def _changed(store: LearningStore, calibration: Calibration) -> str:
    """Return which change of the process came after a calibration that rests on what was before it."""
    for change in reversed(store.process.list(calibration.recipe_id)):
        if (
            change.state is not ChangeState.WITHDRAWN
            and Rests.CALIBRATION in RENEWS[change.what]
            and change.since > calibration.created_at
        ):
            return f"the {change.what} changed on {change.since:%Y-%m-%d %H:%M} ({change.state} by {change.by})"
    return ""
