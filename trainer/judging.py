"""The judgement of a generation job: each candidate's scores on its way into the store, and what is said of them all.

What diversity is measured by is kept in the job's own folder, a small file a candidate, so that a resumed job speaks
of all that it made; where a file is missing it is measured again on what the store has.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cell.defects import Candidate, Draft
from cell.errors import StateError
from cell.store.candidates import CandidateRow
from cell.store.files import disk_errors
from cell.store.limits import warnings
from trainer.context import JobContext
from trainer.generate.base import BackgroundSample, Scene
from trainer.generate.diversity import diversity
from trainer.generate.looks import Look
from trainer.generate.plausibility import Fingerprint, Judge

_LOG = logging.getLogger(__name__)


class Judging:
    """Judges the candidates of one job; :meth:`prepare` comes first."""

    def __init__(self, context: JobContext, backgrounds: Mapping[str, BackgroundSample]) -> None:
        self._context = context
        self._backgrounds = backgrounds
        self._folder = context.work / "prints"
        self._judge: Judge | None = None
        self._prints: dict[str, list[Fingerprint]] = {}

    def prepare(self, scene: Scene, looks: Mapping[str, Sequence[Look]]) -> None:
        """Take in what the run knows of its seeds."""
        self._judge = Judge(scene, looks)

    def judged(self, draft: Draft) -> tuple[Draft, list[Fingerprint]]:
        """Return a draft, spoilt or not, with its scores, and the fingerprints of its defects."""
        scores, prints = self._ready().scores(draft, self._backgrounds[draft.provenance.background_id])
        return replace(draft, scores=scores), prints

    def keep(self, candidate: Candidate, prints: list[Fingerprint]) -> None:
        """Keep a stored candidate's fingerprints."""
        self._prints[candidate.candidate_id] = prints
        file = self._file(candidate)
        arrays = {f"{kind}{number}": array for number, one in enumerate(prints) for kind, array in _arrays(one)}
        names = np.asarray([one.defect_class for one in prints])
        with disk_errors(file):
            self._folder.mkdir(parents=True, exist_ok=True)
            with file.open("wb") as stream:
                np.savez(stream, names=names, **arrays)

    def result(self, rows: Sequence[CandidateRow], told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return what the job's result says of its candidates' variety, and every finding in a sentence."""
        if self._judge is None:
            return {}
        # Known-bad ones are no work of the generator.
        prints = [one for row in rows if not row.candidate.planted_bad for one in self._of(row.candidate)]
        figures = diversity(prints, self._judge.classes, told)
        findings = [*warnings(self._context.recipe, {row.candidate.defect_class for row in rows})]
        findings += [str(one["finding"]) for one in figures if "finding" in one]
        for finding in findings:
            _LOG.warning("%s", finding)
        said = [{key: value for key, value in one.items() if key != "finding"} for one in figures]
        return ({"diversity": said} if said else {}) | ({"findings": findings} if findings else {})

    def _of(self, candidate: Candidate) -> list[Fingerprint]:
        known = self._prints.get(candidate.candidate_id)
        return known if known is not None else self._read(candidate)

    def _read(self, candidate: Candidate) -> list[Fingerprint]:
        try:
            with np.load(self._file(candidate)) as kept:
                names = [str(name) for name in kept["names"]]
                return [Fingerprint(name, kept[f"print{i}"], kept[f"look{i}"]) for i, name in enumerate(names)]
        except (OSError, ValueError, KeyError, EOFError):
            return self._measured(candidate)

    def _measured(self, candidate: Candidate) -> list[Fingerprint]:
        store = self._context.store
        stack = store.read_image(candidate.image).pixels
        background = self._backgrounds[candidate.provenance.background_id]
        shown = [(name, mask) for name, mask in store.candidates.defects(candidate) if mask.any()]
        return [self._ready().fingerprint(stack, mask, name, background) for name, mask in shown]

    def _file(self, candidate: Candidate) -> Path:
        return self._folder / f"{candidate.candidate_id}.npz"

    def _ready(self) -> Judge:
        if self._judge is None:
            raise StateError("candidates were judged before the seeds were measured; resume the job")
        return self._judge


def _arrays(one: Fingerprint) -> tuple[tuple[str, Any], ...]:
    return ("print", one.print), ("look", one.appearance)
