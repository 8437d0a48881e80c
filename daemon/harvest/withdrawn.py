"""Backgrounds of parts that somebody reported bad after they were kept as good: they are taken back.

The picture stays in the store, marked, with who said what; the background model is learned anew without it, and
nothing is made on it or trained with it from then on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from cell.defects import Background, Split
from cell.store.learning import LearningStore
from cell.store.line_records import PartReport
from daemon.harvest import memory
from daemon.harvest.memory import Gathered

_LOG = logging.getLogger(__name__)

#: The last report of each physical part that was called bad.
Bad = Mapping[str, PartReport]


def take_back(learning: LearningStore, gathered: Gathered, bad: Bad) -> None:
    """Withdraw the backgrounds of bad parts and learn the model anew without them; the caller holds the turn.

    Raises `StoreError` or `GateError` when the store can't be written.
    """
    found = _of(learning.backgrounds(gathered.recipe.recipe_id), bad)
    for background, report in found:
        learning.withdrawals.add(background.background_id, reason(report), report.source)
        gathered.backgrounds[background.split] -= 1
        _LOG.warning("background %s of part %s: %s", background.background_id, background.part_id, reason(report))
    if any(background.split is Split.LEARN for background, _ in found):
        memory.make_again(gathered, learning)


def reason(report: PartReport) -> str:
    """Return why a background is withdrawn, in a few words."""
    return f"reported bad by {report.source}" + (f" ({report.defect_class})" if report.defect_class else "")


def rows(learning: LearningStore, recipe_id: str) -> list[dict[str, Any]]:
    """Return the withdrawn backgrounds by reason, as the table of what was taken and refused has them."""
    parts = {one.background_id: one.part_id for one in learning.backgrounds(recipe_id, withdrawn=True)}
    by: dict[str, list[str]] = {}
    for name, one in learning.withdrawals.of(recipe_id).items():
        by.setdefault(one.reason, []).append(parts.get(name, name))
    return [
        {"what": "withdrawn", "why": why, "parts": len(names), "first": names[0], "last": names[-1]}
        for why, names in by.items()
    ]


def findings(learning: LearningStore, recipe_id: str, bad: Bad) -> list[dict[str, Any]]:
    """Return what a person should know: backgrounds that were withdrawn, and those that the next harvest withdraws."""
    everything = {one.background_id: one for one in learning.backgrounds(recipe_id, withdrawn=True)}
    gone = learning.withdrawals.of(recipe_id)
    waiting = _of((one for name, one in everything.items() if name not in gone), bad)
    told = [(everything[name], one.reason, "it is withdrawn") for name, one in gone.items()]
    told += [(one, reason(report), "inspectctl harvest withdraws it") for one, report in waiting]
    open_ones = {one.background_id for one, _ in waiting}
    return [
        {
            "finding": "a background was reported bad later",
            "since": background.part_id,
            "parts": 1,
            "goes_on": background.background_id in open_ones,
            "sentence": f"background {background.background_id} shows part {background.part_id}, which was {why} after "
            f"it was taken; {done}: what was learned from it or made on it before is worth another look",
        }
        for background, why, done in told
    ]


def _of(backgrounds: Iterable[Background], bad: Bad) -> list[tuple[Background, PartReport]]:
    return [(one, bad[one.part_id]) for one in backgrounds if one.part_id in bad]
