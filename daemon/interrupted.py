"""Commands that an earlier process began and did not answer: each gets its one answer before new ones are taken."""

from __future__ import annotations

import logging

from cell.errors import StateError, StoreError
from cell.store.line import LineStore
from cell.verdicts import Outcome, Verdict
from cell.wire.messages import Command, Reply
from cell.wire.server import refusal
from daemon.notices import EventLog
from daemon.parts import ABORTED
from daemon.reply import result_of
from daemon.vocabulary import PARTS

_LOG = logging.getLogger(__name__)


def answer_all(store: LineStore, log: EventLog, *, emulated: bool) -> int:
    """Answer what was interrupted and return how many there were: a trigger with FAULT, anything else with an error.

    Raises `StoreError`.
    """
    interrupted = store.requests.interrupted()
    for command in interrupted:
        _LOG.warning("the command %s (%s) was interrupted by a restart", command.command, command.request_id)
        if command.command in PARTS:
            verdict = _aborted(command, store, log, emulated=emulated)
            result = {"JobId": verdict.job_id, "Error": 0, "Result": result_of(verdict)}
            log.commit(verdict, command.request_id, Reply(request_id=command.request_id, result=result))
            continue
        problem = StateError(
            f"the daemon stopped while it carried out {command.command}; look at its status and ask again with a new "
            "request id"
        )
        store.requests.finish(command.request_id, refusal(command.request_id, problem))
    return len(interrupted)


def _aborted(command: Command, store: LineStore, log: EventLog, *, emulated: bool) -> Verdict:
    arguments = command.arguments
    recipe_id = str(arguments.get("RecipeId") or "unknown")
    return Verdict(
        job_id=store.next_job_id(),
        part_id=str(arguments.get("PartId", arguments.get("part_id", ""))),
        meas_id=str(arguments.get("MeasId", arguments.get("meas_id", ""))),
        product_id=str(arguments.get("ProductId", arguments.get("product_id", ""))),
        recipe_id=recipe_id,
        recipe_version=_version(store, recipe_id),
        outcome=Outcome.FAULT,
        reasons=(f"{ABORTED}: the daemon stopped while the part was under way",),
        emulated=emulated,
        created_at=log.now(),
    )


def _version(store: LineStore, recipe_id: str) -> int:
    try:
        return store.recipes.get(recipe_id).version
    except StoreError:
        return 0  # never a real version: which one was prepared is not known any more
