"""One trigger on its way to its one verdict."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from cell.recipes import Recipe
from cell.verdicts import Outcome, Timings, Verdict
from cell.wire.server import Request

#: The verdict leaves this share of the deadline, at least and at most these seconds, before it: committing a FAULT and
#: sending it take time too.
_MARGIN_SHARE, _MARGIN_LEAST_S, _MARGIN_MOST_S = 0.05, 0.003, 0.025

ABORTED = "aborted"


@dataclass(eq=False)
class Part:
    """A part under inspection. Whoever claims it gives its verdict: the line, the deadline, or an abort.

    `received` is the instant of the trigger on the monotonic clock, in seconds; `request` is who waits for the answer,
    None in a continuous run.
    """

    job_id: str
    trigger_id: int
    part_id: str
    recipe: Recipe
    received: float
    created_at: datetime
    physical_part: str = ""
    lot: str = ""
    meas_id: str = ""
    product_id: str = ""
    configuration_id: str = ""
    request: Request | None = None
    #: Tells what it still waits for, where something better is known than that its time is over. From any thread.
    why_late: Callable[[], str] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _claimed: bool = False

    @property
    def expires(self) -> float:
        """The instant at which FAULT must be given, on the monotonic clock: a little before the deadline."""
        deadline_s = self.recipe.deadline_ms / 1e3
        margin_s = min(max(deadline_s * _MARGIN_SHARE, _MARGIN_LEAST_S), _MARGIN_MOST_S, deadline_s / 2)
        return self.received + deadline_s - margin_s

    @property
    def claimed(self) -> bool:
        """Tell whether the verdict is given or being given."""
        return self._claimed

    def claim(self) -> bool:
        """Take the right to give the verdict; True for the first caller only."""
        with self._lock:
            first = not self._claimed
            self._claimed = True
        return first and (self.request is None or self.request.claim())

    def fault(self, reason: str, *, emulated: bool, total_s: float, model_digest: str = "") -> Verdict:
        """Return the FAULT of this part: one sentence says why nothing is known."""
        return Verdict(
            job_id=self.job_id,
            part_id=self.part_id,
            physical_part=self.physical_part,
            lot=self.lot,
            meas_id=self.meas_id,
            product_id=self.product_id,
            recipe_id=self.recipe.recipe_id,
            recipe_version=self.recipe.version,
            outcome=Outcome.FAULT,
            reasons=(reason,),
            model_digest=model_digest,
            emulated=emulated,
            created_at=self.created_at,
            timings=Timings(total_ms=total_s * 1e3),
        )
