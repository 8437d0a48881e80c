"""Process changes: what became different about material, tools or the cell, and what rests on how it was before."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from cell.base import Record
from cell.recipes import Name


class Cause(StrEnum):
    """What can change. `UNKNOWN` is for a monitor that sees a change it can't name."""

    MATERIAL = "material"
    TOOLING = "tooling"
    FINISH = "finish"
    LAMP = "lamp"
    LENS = "lens"
    CAMERA = "camera"
    FIXTURE = "fixture"
    UNKNOWN = "unknown"


class Rests(StrEnum):
    """What can rest on a state of the process."""

    BACKGROUNDS = "backgrounds"
    SEEDS = "seeds"
    CALIBRATION = "calibration"
    ADAPTERS = "adapters"
    MODELS = "models"


#: What has to be made anew after a change. A lamp that lost light or a moved fixture leaves a defect's contrast alone.
RENEWS: dict[Cause, tuple[Rests, ...]] = {
    Cause.MATERIAL: (Rests.BACKGROUNDS, Rests.ADAPTERS, Rests.MODELS),
    Cause.TOOLING: (Rests.BACKGROUNDS, Rests.ADAPTERS, Rests.MODELS),
    Cause.FINISH: (Rests.BACKGROUNDS, Rests.SEEDS, Rests.ADAPTERS, Rests.MODELS),
    Cause.LAMP: (Rests.BACKGROUNDS, Rests.CALIBRATION, Rests.MODELS),
    Cause.LENS: (Rests.BACKGROUNDS, Rests.SEEDS, Rests.CALIBRATION, Rests.ADAPTERS, Rests.MODELS),
    Cause.CAMERA: (Rests.BACKGROUNDS, Rests.SEEDS, Rests.CALIBRATION, Rests.ADAPTERS, Rests.MODELS),
    Cause.FIXTURE: (Rests.BACKGROUNDS, Rests.MODELS),
    Cause.UNKNOWN: (Rests.BACKGROUNDS, Rests.CALIBRATION, Rests.ADAPTERS, Rests.MODELS),
}

#: What a person is asked for.
ASKS: dict[Rests, str] = {
    Rests.BACKGROUNDS: "gather new backgrounds (inspectctl harvest)",
    Rests.SEEDS: "confirm new seeds (inspectctl seeds)",
    Rests.CALIBRATION: "calibrate again (inspectctl calibrate)",
    Rests.ADAPTERS: "generate anew, which fits the adapters again (inspectctl generate)",
    Rests.MODELS: "train and deploy a new model (inspectctl train)",
}


class ChangeState(StrEnum):
    """::

    SUSPECTED (by the monitor) -> DECLARED (a person says what it was)
                             '--> WITHDRAWN (a person says that it is ordinary)
    """

    SUSPECTED = "suspected"
    DECLARED = "declared"
    WITHDRAWN = "withdrawn"


class ProcessChange(Record):
    """A change of the process. What was taken before `since` rests on the old state."""

    change_id: Name
    recipe_id: Name
    state: ChangeState
    what: Cause
    since: datetime
    at: datetime
    by: str = Field(min_length=1)  # a person's name, or `monitor`
    note: str = ""
    sentence: str = ""  # what the monitor saw
    #: Change of the features that moved most, in their own units.
    evidence: dict[str, float] = Field(default_factory=dict)


class Standing(Record):
    """What of a recipe rests on a state of the process that is over."""

    recipe_id: Name
    changes: tuple[ProcessChange, ...]  # that are not withdrawn, oldest first
    stale: dict[Rests, tuple[str, ...]]  # ids
    fresh: dict[Rests, int]  # how many there are of the present state
    asks: tuple[str, ...]

    def why(self, kind: Rests) -> str:
        """Return the newest change that makes a kind stale, as the end of a sentence; empty when there is none."""
        made = [change for change in self.changes if kind in RENEWS[change.what]]
        if not made:
            return ""
        newest = max(made, key=lambda change: change.since)
        what = "a change of the process" if newest.what is Cause.UNKNOWN else f"the change of {newest.what.value}"
        return f"{what} on {newest.since:%Y-%m-%d %H:%M} UTC ({newest.state.value} by {newest.by})"


def asks_for(stale: dict[Rests, tuple[str, ...]], fresh: dict[Rests, int]) -> tuple[str, ...]:
    """Return what a person is asked for: what rests on the old state and has nothing of the present one beside it."""
    return tuple(ASKS[kind] for kind in Rests if stale.get(kind) and not fresh.get(kind))
