"""``inspectctl review``: one candidate at a time in a terminal. The review page of inspectd-web is the faster way.

``next`` shows a candidate and keeps the token of that display in the user's own cache folder; ``accept`` and ``reject``
use it up. There is no command for more than one.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter

from cell.defects import Candidate, ReviewDecision, ReviewVerb
from cell.errors import GateError, StoreError
from cell.store import images
from cell.wire.answers import parsed
from daemon.ctl import render, terminal
from daemon.ctl.harvest import RecipeOption
from daemon.ctl.seeds import Reviewer
from daemon.ctl.session import Session, require_person, session_of

group = typer.Typer(help="Decide about candidates, one at a time.", invoke_without_command=True)
CandidateId = Annotated[str, typer.Argument(help="The candidate that `review next` showed.")]
_CANDIDATE: TypeAdapter[Candidate] = TypeAdapter(Candidate)
_DECISIONS: TypeAdapter[list[ReviewDecision]] = TypeAdapter(list[ReviewDecision])


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(group, name="review")


@group.callback()
def summary(context: typer.Context, recipe: RecipeOption = "") -> None:
    """Show how many candidates wait and how many were decided."""
    if context.invoked_subcommand is not None:
        return
    session = session_of(context)
    found = session.trainer("inspectd.review.summary", {"recipe_id": session.recipe(recipe)})
    if session.as_json:
        render.as_json(found)
        return
    states = ("waiting", "accepted", "rejected")
    rows = [(name, *(counts[state] for state in states)) for name, counts in sorted(found["by_class"].items())]
    rows.append(("all", *(found[state] for state in states)))
    render.table(("CLASS", "WAITING", "ACCEPTED", "REJECTED"), rows, "no candidates")
    reviewers = ", ".join(f"{name} ({count})" for name, count in sorted(found["reviewers"].items()))
    planted = found.get("planted") or {}
    caught = f"{planted['rejected']} of {planted['shown']} found" if planted.get("shown") else ""
    render.facts([("reviewed by", reviewers), ("known-bad ones", caught)])


@group.command("next")
def next_candidate(
    context: typer.Context,
    recipe: RecipeOption = "",
    reviewer: Reviewer = "",
    after: Annotated[str, typer.Option(help="Behind this one: to go on without deciding.")] = "",
    defect_class: Annotated[str, typer.Option("--class", help="Only of this class.")] = "",
    doubtful_first: Annotated[
        bool, typer.Option("--doubtful-first", help="Those that may be wrong come earlier.")
    ] = False,
) -> None:
    """Show the next candidate that waits: every channel, without and with the mask."""
    session = session_of(context)
    who = require_person(reviewer or _kept().get("reviewer", ""), "reviewing")
    arguments: dict[str, Any] = {"recipe_id": session.recipe(recipe), "reviewer": who}
    arguments |= {"after": after} if after else {}
    arguments |= {"defect_class": defect_class} if defect_class else {}
    arguments |= {"doubtful_first": True} if doubtful_first else {}
    found = session.trainer("inspectd.review.next", arguments)
    if found["candidate"] is None:
        if session.as_json:
            render.as_json(found)
        else:
            render.line("nothing waits")
        return
    candidate: Candidate = parsed(_CANDIDATE, found["candidate"], "candidate")
    _draw(session, candidate)
    shown = session.trainer("inspectd.review.displayed", {"candidate_id": candidate.candidate_id, "reviewer": who})
    _keep({"candidate_id": candidate.candidate_id, "reviewer": who, "token": str(shown["token"])})
    if session.as_json:
        render.as_json(found)
    else:
        render.hint(f"inspectctl review accept {candidate.candidate_id}, or review reject with --reason")


@group.command()
def accept(context: typer.Context, candidate_id: CandidateId) -> None:
    """Accept the candidate that was shown: the trainer may learn from it."""
    _decide(context, candidate_id, ReviewVerb.ACCEPT, "")


@group.command()
def reject(
    context: typer.Context, candidate_id: CandidateId, reason: Annotated[str, typer.Option(help="Why; it is recorded.")]
) -> None:
    """Reject the candidate that was shown."""
    _decide(context, candidate_id, ReviewVerb.REJECT, reason)


@group.command()
def history(
    context: typer.Context,
    recipe: RecipeOption = "",
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, max=10_000, help="At most this many.")] = 20,
) -> None:
    """List the standing decisions, newest first."""
    session = session_of(context)
    arguments = {"recipe_id": session.recipe(recipe), "limit": limit}
    found = session.trainer("inspectd.review.history", arguments)["decisions"]
    if session.as_json:
        render.as_json({"decisions": found})
        return
    decisions: list[ReviewDecision] = parsed(_DECISIONS, found, "decisions")
    rows = [(d.candidate_id, f"{d.verb}ed", _who(d), render.when(d.decided_at), d.reason) for d in decisions]
    render.table(("CANDIDATE", "DECISION", "BY", "AT", "REASON"), rows, "no decisions")


def _draw(session: Session, candidate: Candidate) -> None:
    root = session.settings.state_dir
    stack = images.read_stack(root / candidate.image.path)
    label = images.read_label(root / candidate.mask.path)
    # To stderr with --json: stdout belongs to the document.
    out = render.console(stderr=session.as_json)
    for text in terminal.picture(stack, label, candidate.box, out.width):
        out.print(text, no_wrap=True, overflow="crop")
    if session.as_json:
        return
    scores = ", ".join(f"{name} {value:.3g}" for name, value in candidate.scores.items())
    # The trainer tells ranks where it judged: the share of the class that is less doubtful in that.
    judged = "doubt" in candidate.scores
    box = candidate.box
    render.facts(
        [
            ("candidate", candidate.candidate_id),
            ("class", " + ".join(candidate.classes)),
            ("severity", f"{candidate.severity:.1f} sigma"),
            ("where", f"{box.x},{box.y} {box.width}x{box.height}"),
            ("more doubtful than" if judged else "scores", scores),
            ("picture", root / candidate.image.path),
            ("mask", root / candidate.mask.path),
        ]
    )


def _decide(context: typer.Context, candidate_id: str, verb: ReviewVerb, reason: str) -> None:
    session = session_of(context)
    shown = _kept()
    who = require_person(shown.get("reviewer", ""), "a review")
    if shown.get("candidate_id") != candidate_id or not shown.get("token"):
        raise GateError(f"{candidate_id} is not on your screen; show it with inspectctl review next first")
    arguments: dict[str, Any] = {
        "candidate_id": candidate_id,
        "verb": verb.value,
        "reviewer": who,
        "is_person": True,
        "reason": reason,
        "token": shown["token"],
    }
    result = session.trainer("inspectd.review.decide", arguments)
    _keep({"reviewer": who})
    if session.as_json:
        render.as_json(result)
    else:
        render.line(f"{candidate_id}: {verb.value}ed by {who}")


def _who(decision: ReviewDecision) -> str:
    return decision.reviewer if decision.is_person else f"{decision.reviewer} [script]"


def _file() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "inspectctl" / "review.json"


def _kept() -> dict[str, str]:
    try:
        kept = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {key: str(value) for key, value in kept.items()} if isinstance(kept, dict) else {}


def _keep(values: dict[str, str]) -> None:
    file = _file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.touch(mode=0o600)
        file.write_text(json.dumps(values), encoding="utf-8")
    except OSError as error:
        raise StoreError(
            f"can't keep what is on your screen in {file}: {error.strerror}; set XDG_CACHE_HOME"
        ) from error
