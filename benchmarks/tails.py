"""Do candidates that were asked for on purpose find the rare defects? ``python -m benchmarks.tails --json FILE``.

A product of the emulated cell with seeds as they usually come: of usual severity, cracks long and without branches,
pits not small. Three detectors learn from the seeds and good parts: with nothing else, with candidates as the seeds
are, and with as many by a plan whose histograms over-represent weak, small and branched ones (`--plan`, the format of
docs/plan.md). Each is judged on rendered defects of its own parts, usual ones and each tail apart: recall at the
threshold that rejects 5 % of further good parts, and AUROC. Intervals are of draws of parts; differences are paired.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.rendered_cell import Fits, RenderedCell, image_scores
from cell.defects import Draft, Sample
from cell.store.files import write_bytes
from drivers.sim.truth import DefectTruth
from trainer.generate.base import BackgroundSample, GenerateRequest, SeedSample
from trainer.generate.candidates import make_candidates
from trainer.generate.control import AS_SEEDS, Control
from trainer.metrics import auroc

CLASSES = ("pit", "crack")
PLAN = Path(__file__).with_name("tails_plan.toml")
_USUAL, _WEAK = (0.8, 1.3), (0.2, 0.45)
_MOST_FR, _DRAWS = 0.05, 1000
SEEDS_ALONE, LIKE_SEEDS, BY_PLAN = "seeds alone", "candidates as the seeds", "candidates by the plan"
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Tail:
    """Defects of one kind: of which classes, how severe, and which of those that chance draws."""

    classes: tuple[str, ...]
    severity: tuple[float, float]
    fits: Fits


def _long(defect: DefectTruth) -> bool:
    drawn = defect.parameters
    return drawn["length_mm"] >= 2.5 if defect.defect_class == "crack" else drawn["radius_mm"] >= 0.1


def _plain(defect: DefectTruth) -> bool:
    return _long(defect) and defect.parameters.get("branches", 0) == 0


def _small(defect: DefectTruth) -> bool:
    drawn = defect.parameters
    return drawn["length_mm"] < 2.4 if defect.defect_class == "crack" else drawn["radius_mm"] < 0.095


def _branched(defect: DefectTruth) -> bool:
    return _long(defect) and defect.parameters["branches"] >= 1


#: Small and branched ones of usual severity are all found (docs/notes/generator.md), so these are weak as well.
TAILS = {
    "usual": Tail(CLASSES, _USUAL, _plain),
    "weak": Tail(CLASSES, _WEAK, _plain),
    "weak and small": Tail(CLASSES, _WEAK, _small),
    "weak and branched": Tail(("crack",), _WEAK, _branched),
}


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """What the detectors learn from."""

    cell: RenderedCell
    seeds: list[SeedSample]
    backgrounds: list[BackgroundSample]

    def candidates(self, options: argparse.Namespace, general: Control, special: Mapping[str, Control]) -> list[Draft]:
        """Make candidates as asked."""
        request = GenerateRequest(
            arm=options.arm,
            per_class=options.per_class,
            random_seed=options.seed,
            fit_steps=options.fit_steps,
            control=general,
            class_control=special,
        )
        cell = self.cell
        with tempfile.TemporaryDirectory(prefix="tails-") as folder:
            made = make_candidates(
                request, self.seeds, self.backgrounds, cell.calibration, cell.recipe, workdir=Path(folder)
            )
            return list(made)

    def samples(self, drafts: Sequence[Draft]) -> list[Sample]:
        """Return all that a detector learns from."""
        cell = self.cell
        real = [*(cell.defective(one) for one in self.seeds), *(cell.plain(one) for one in self.backgrounds)]
        return real + [cell.candidate(draft, number) for number, draft in enumerate(drafts)]


def read_plan(path: Path) -> tuple[Control, dict[str, Control]]:
    """Return what a plan's file asks of all classes and of some. Raises `ValueError` for a plan that can't be."""
    read = tomllib.loads(path.read_text(encoding="utf-8"))
    special = read.pop("class", {})
    return Control.model_validate(read), {name: Control.model_validate(one) for name, one in special.items()}


def figures(good: Floats, tails: Mapping[str, Floats]) -> dict[str, tuple[Floats, Floats]]:
    """Return recall and AUROC of each tail, (1 + draws,) each: of the test, then of draws of its parts.

    :param good: (R, N) scores of good parts by R detectors, whose figures are averaged; :param tails: likewise.
    """
    rng = np.random.default_rng(0)
    recalls: dict[str, list[float]] = {name: [] for name in tails}
    aurocs: dict[str, list[float]] = {name: [] for name in tails}
    for draw in range(1 + _DRAWS):
        taken = good if draw == 0 else good[:, rng.integers(good.shape[1], size=good.shape[1])]
        # The lowest threshold (score >= threshold is NG) that rejects at most 5 % of the good parts.
        ordered = np.sort(taken, axis=1)
        allowed = int(_MOST_FR * good.shape[1] + 1e-9)
        strongest = ordered[:, good.shape[1] - 1 - allowed]
        for name, scores in tails.items():
            own = scores if draw == 0 else scores[:, rng.integers(scores.shape[1], size=scores.shape[1])]
            recalls[name].append(float((own > strongest[:, None]).mean()))
            aurocs[name].append(float(np.mean([auroc(a, b) for a, b in zip(own, taken, strict=True)])))
    return {name: (np.array(recalls[name]), np.array(aurocs[name])) for name in tails}


def with_interval(values: Floats) -> list[float]:
    """Return a figure and its 95 % interval."""
    return [round(float(one), 4) for one in (values[0], *np.percentile(values[1:], [2.5, 97.5]))]


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure everything; return the figures."""
    cell = RenderedCell(options.product, options.lights, CLASSES)
    began = time.process_time()
    seeds = cell.seeds(options.shots, 10_000, _USUAL, _plain)
    learned = Learned(cell, seeds, [cell.background(number) for number in range(options.backgrounds)])
    tests: dict[str, list[Sample]] = {}
    for place, (name, one) in enumerate(TAILS.items()):
        rendered = cell.seeds(options.real, 20_000 + 10_000 * place, one.severity, one.fits, one.classes)
        tests[name] = [cell.defective(defect) for defect in rendered]
    good = [cell.plain(cell.background(90_000 + number)) for number in range(options.good)]
    _say(f"rendered in {time.process_time() - began:.0f} s of processor")
    sets: dict[str, list[Draft]] = {
        SEEDS_ALONE: [],
        LIKE_SEEDS: learned.candidates(options, AS_SEEDS, {}),
        BY_PLAN: learned.candidates(options, *read_plan(options.plan)),
    }
    _say(f"candidates after {time.process_time() - began:.0f} s")
    found: dict[str, dict[str, tuple[Floats, Floats]]] = {}
    for name, drafts in sets.items():
        models = [
            cell.learn(learned.samples(drafts), options.updates, seed) for seed in range(1, 1 + options.detectors)
        ]
        scores = {tail: np.stack([image_scores(one, own) for one in models]) for tail, own in tests.items()}
        found[name] = figures(np.stack([image_scores(one, good) for one in models]), scores)
        told = {tail: with_interval(recall) for tail, (recall, _) in found[name].items()}
        _say(f"{name}, after {time.process_time() - began:.0f} s: {told}")
    return _result(options, found, {name: len(drafts) for name, drafts in sets.items()})


def _result(
    options: argparse.Namespace, found: dict[str, dict[str, tuple[Floats, Floats]]], candidates: dict[str, int]
) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for tail in TAILS:
        rows[tail] = {}
        for place, figure in enumerate(("recall", "auroc")):
            values = {name: own[tail][place] for name, own in found.items()}
            rows[tail][figure] = {name: with_interval(one) for name, one in values.items()}
            for other in (SEEDS_ALONE, LIKE_SEEDS):
                rows[tail][f"{figure}: the plan less {other}"] = with_interval(values[BY_PLAN] - values[other])
    settings = {name: str(value) for name, value in vars(options).items() if name != "json"}
    return {"settings": settings, "candidates": candidates, "tails": rows}


def print_table(result: dict[str, Any]) -> None:
    """Print the figures."""
    print(f"| tail | figure | {' | '.join((SEEDS_ALONE, LIKE_SEEDS, BY_PLAN))} | plan - alone | plan - as the seeds |")
    print("|" + " --- |" * 7)
    for tail, row in result["tails"].items():
        for figure in ("recall", "auroc"):
            cells = [f"{value:.3f} [{low:.3f}, {high:.3f}]" for value, low, high in row[figure].values()]
            for other in (SEEDS_ALONE, LIKE_SEEDS):
                value, low, high = row[f"{figure}: the plan less {other}"]
                cells.append(f"{value:+.3f} [{low:+.3f}, {high:+.3f}]")
            print(f"| {tail} | {figure} | {' | '.join(cells)} |")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return 0 when recall on no tail is worse with the plan than without candidates."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tails", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--product", default="brushed", help="rendered product")
    parser.add_argument("--lights", default="2", help="its lamps, such as 4 or 4+ring")
    parser.add_argument("--arm", default="procedural")
    parser.add_argument("--plan", type=Path, default=PLAN)
    parser.add_argument("--shots", type=int, default=5, help="seeds of a class")
    parser.add_argument("--per-class", type=int, default=60, help="candidates")
    parser.add_argument("--fit-steps", type=int, default=160, help="of each class's adapter, where the arm has one")
    parser.add_argument("--backgrounds", type=int, default=24, help="good parts to learn from")
    parser.add_argument("--real", type=int, default=24, help="defects of each class and tail that judge")
    parser.add_argument("--good", type=int, default=60, help="further good parts")
    parser.add_argument("--updates", type=int, default=600, help="of each detector")
    parser.add_argument("--detectors", type=int, default=2, help="random seeds of the detector")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    result = run(options)
    print_table(result)
    if options.json:
        write_bytes(options.json, json.dumps(result, indent=1).encode())
    key = f"recall: the plan less {SEEDS_ALONE}"
    return 0 if all(row[key][0] >= 0 for tail, row in result["tails"].items() if tail != "usual") else 1


if __name__ == "__main__":
    sys.exit(main())
