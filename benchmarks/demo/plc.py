"""A PLC gateway as the daemon sees one: a trigger for each part, at a fixed pace, and exactly one answer expected."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from cell.errors import InspectdError, PeerTimeout
from cell.verdicts import Outcome, Verdict
from cell.wire.client import Client


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one trigger; `verdict` None when nothing came within twice the deadline."""

    part_id: str
    verdict: Verdict | None
    latency_ms: float
    refusal: str = ""


def run_parts(
    client: Client,
    recipe_id: str,
    part_ids: Sequence[str],
    *,
    deadline_ms: float,
    interval_s: float = 0.0,
    between: Callable[[int], None] = lambda _index: None,
) -> list[Answer]:
    """Send ``StartSingleJob`` for each part and collect the answers.

    :param interval_s: time between triggers by absolute deadline; 0 for as soon as the last answer is there.
    :param between: called with the index before each trigger.
    """
    answers = []
    start = time.monotonic()
    for index, part_id in enumerate(part_ids):
        between(index)
        pause = start + index * interval_s - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        answers.append(_trigger(client, recipe_id, part_id, deadline_ms))
    return answers


def _trigger(client: Client, recipe_id: str, part_id: str, deadline_ms: float) -> Answer:
    sent = time.monotonic()
    verdict: Verdict | None = None
    refusal = ""
    try:
        result = client.call(
            "StartSingleJob", {"PartId": part_id, "RecipeId": recipe_id}, timeout_s=2 * deadline_ms / 1e3
        )
        verdict = Verdict.model_validate(result["Result"]["ResultContent"])
    except PeerTimeout as error:
        refusal = str(error)
    except InspectdError as error:
        refusal = str(error)
    return Answer(part_id, verdict, (time.monotonic() - sent) * 1e3, refusal)


def lost(answers: Iterable[Answer]) -> int:
    """Count triggers that got no verdict."""
    return sum(answer.verdict is None for answer in answers)


def faults(answers: Iterable[Answer]) -> int:
    """Count verdicts that are FAULT."""
    return sum(answer.verdict is not None and answer.verdict.outcome is Outcome.FAULT for answer in answers)


def late(answers: Iterable[Answer], deadline_ms: float) -> int:
    """Count replies that the client saw after the deadline."""
    return sum(answer.latency_ms > deadline_ms for answer in answers)


def percentile(answers: Sequence[Answer], share: float) -> float:
    """Return a percentile of the latencies in milliseconds; 0 without answers."""
    return float(np.percentile([a.latency_ms for a in answers], share)) if answers else 0.0
