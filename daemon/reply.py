"""Verdict to answer: durable, then told, then seen by watchers; exactly once for each trigger."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from cell.errors import StoreError
from cell.verdicts import Outcome, Verdict
from cell.wire.messages import Reply
from daemon.notices import Conditions
from daemon.parts import ABORTED, Part

_LOG = logging.getLogger(__name__)

#: ResultState of OPC 40100-1.
COMPLETED, ABORTED_STATE, FAILED = 1, 3, 4

Result = dict[str, Any]


class Answers:
    """Gives the one verdict of each part; the line, the deadline and an abort may call it from their threads."""

    def __init__(self, conditions: Conditions, on_given: Callable[[Verdict], None] = lambda _: None) -> None:
        self._log = conditions.log
        self._conditions = conditions
        self._on_given = on_given

    def give(self, part: Part, verdict: Verdict) -> Verdict | None:
        """Give a part its verdict unless it has one; return the verdict that was given, or None.

        With a traceable recipe the verdict is durable before anybody hears of it; when it can't be stored, the part is
        FAULT, because an OK that nobody can prove later is not known.
        """
        if not part.claim():
            return None
        if part.recipe.traceable:
            given = self._durable_first(part, verdict)
        else:
            given = verdict
            self._send(part, _reply(part, verdict))
            self._commit(part, verdict, None)
        self._on_given(given)
        return given

    def _durable_first(self, part: Part, verdict: Verdict) -> Verdict:
        reply = _reply(part, verdict)
        if self._commit(part, verdict, reply):
            return verdict
        fault = verdict.model_copy(
            update={"outcome": Outcome.FAULT, "reasons": ("the verdict can't be stored; see the daemon's conditions",)}
        )
        self._send(part, _reply(part, fault))
        return fault

    def _commit(self, part: Part, verdict: Verdict, reply: Reply | None) -> bool:
        request = part.request
        send = None if request is None or reply is None else lambda: request.send(reply)
        kept = reply if reply is not None else _reply(part, verdict)
        try:
            if request is None:
                self._log.commit(verdict, send=send)
            else:
                self._log.commit(verdict, request.request_id, kept, send)
        except StoreError as error:
            self._conditions.raise_("store", f"verdicts can't be stored: {error}", severe=True)
            return False
        self._conditions.resolve("store")
        return True

    def _send(self, part: Part, reply: Reply) -> None:
        if part.request is not None:
            part.request.send(reply)


def result_of(verdict: Verdict, configuration_id: str = "") -> Result:
    """Return a verdict as OPC 40100-1's Result; OK, NG or FAULT stands in ResultContent."""
    if verdict.outcome is not Outcome.FAULT:
        state = COMPLETED
    else:
        state = ABORTED_STATE if verdict.reasons and verdict.reasons[0].startswith(ABORTED) else FAILED
    content = verdict.model_dump(mode="json")
    return {
        "ResultId": verdict.job_id,
        "JobId": verdict.job_id,
        "IsPartial": False,
        "IsSimulated": verdict.emulated,
        "ResultState": state,
        "MeasId": verdict.meas_id,
        "PartId": verdict.part_id,
        "ProductId": verdict.product_id,
        "ExternalRecipeId": {"Id": verdict.recipe_id, "Version": str(verdict.recipe_version)},
        "InternalRecipeId": {
            "Id": verdict.recipe_id,
            "Version": str(verdict.recipe_version),
            "Hash": verdict.model_digest,
            "HashAlgorithm": "SHA-256",
            "Description": "hash of the model that judged",
        },
        "InternalConfigurationId": {"Id": configuration_id},
        "CreationTime": content["created_at"],
        "ProcessingTimes": {
            "StartTime": content["created_at"],
            "EndTime": _ended(verdict),
            "AcquisitionDuration": verdict.timings.acquisition_ms,
            "ProcessingDuration": verdict.timings.total_ms - verdict.timings.acquisition_ms,
        },
        "ResultContent": content,
    }


def _ended(verdict: Verdict) -> str:
    ended = verdict.created_at + timedelta(milliseconds=verdict.timings.total_ms)
    return ended.isoformat().replace("+00:00", "Z")


def _reply(part: Part, verdict: Verdict) -> Reply:
    request_id = part.request.request_id if part.request is not None else ""
    result = {"JobId": part.job_id, "Error": 0, "Result": result_of(verdict, part.configuration_id)}
    return Reply(request_id=request_id, result=result)
