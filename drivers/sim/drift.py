"""Drift on request: what slowly or suddenly becomes different on a line, by a schedule that counts parts.

The n-th part that is presented always meets the same state, so a run can be made again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from cell.settings import DriftSettings


@dataclass(frozen=True, slots=True)
class CellState:
    """What is not as it was when the cell was set up."""

    lamps: Mapping[str, float] = field(default_factory=dict)  # remaining brightness by line; "" is every other line
    gain: float = 1.0  # of the camera's, as a factor
    defocus_px: float = 0.0  # radius of the disc that a point becomes
    batch: int = 0  # number of the material's batch
    shift_mm: tuple[float, float] = (0.0, 0.0)  # of the fixture, to the right and down
    turn_deg: float = 0.0

    def brightness(self, line: str) -> float:
        """Return the remaining brightness of a line."""
        return self.lamps.get(line, 1.0) * self.lamps.get("", 1.0)

    def rendering(self) -> tuple[float, ...]:
        """Return what a rendered part depends on; lamps and gain come in only when it is exposed."""
        return (self.defocus_px, float(self.batch), *self.shift_mm, self.turn_deg)


AS_SET_UP = CellState()


def state_at(count: int, drifts: Sequence[DriftSettings]) -> CellState:
    """Return the state that part number `count` (from 0) meets. Several drifts of one kind add up."""
    state = AS_SET_UP
    for drift in drifts:
        since = count - drift.start_part
        if since < 0:
            continue
        share = 1.0 if drift.over_parts == 0 else min(1.0, since / drift.over_parts)
        state = _moved(state, drift, share)
    return state


def _moved(state: CellState, drift: DriftSettings, share: float) -> CellState:
    amount = share * drift.amount
    if drift.kind == "lamp":
        line = drift.line or ""
        left = state.lamps.get(line, 1.0) * max(0.0, 1 - amount)
        return replace(state, lamps={**state.lamps, line: left})
    if drift.kind == "gain":
        return replace(state, gain=state.gain * (1 + amount))
    if drift.kind == "defocus":
        return replace(state, defocus_px=state.defocus_px + amount)
    if drift.kind == "material":
        # A batch is changed, not blended: parts are of the new one from the start on.
        return replace(state, batch=round(drift.amount))
    x, y = state.shift_mm
    shift = (x + amount, y + share * drift.amount_y)
    return replace(state, shift_mm=shift, turn_deg=state.turn_deg + share * drift.turn_deg)
