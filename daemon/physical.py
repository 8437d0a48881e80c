"""Which physical part an id speaks of, and of which lot it is: splits, seeds and backgrounds keep physical parts whole.

A trigger or a report may say it (`physical_part`); else the id is the part's own. Only an emulated cell that shows
folders of pictures reads it from the names, by :func:`cell.imaging.folders.physical_part`.
"""

from __future__ import annotations

from collections.abc import Callable

from cell.store.line_records import PartReports


def as_named(part_id: str) -> str:
    """Return the id: every one is a physical part of its own."""
    return part_id


class PhysicalParts:
    """Answers for one cell.

    :param rule: for ids of which nobody said more.
    """

    def __init__(self, reports: PartReports, rule: Callable[[str], str] = as_named) -> None:
        self._reports = reports
        self._rule = rule

    def of(self, part_id: str, said: str = "") -> str:
        """Return the physical part: what the trigger `said`, else what a report said last, else by the rule."""
        if said:
            return said
        reported = [report.physical_part for report in self._reports.of_part(part_id) if report.physical_part]
        return reported[-1] if reported else self._rule(part_id)

    def lot(self, part_id: str, said: str = "") -> str:
        """Return the lot: what the trigger `said`, else what a report said last; empty where nobody did."""
        if said:
            return said
        return next((one.lot for one in reversed(self._reports.of_part(part_id)) if one.lot), "")
