"""Does a new product of the same process get along with its relative's adapters? ``python -m benchmarks.variants``.

    python -m benchmarks.variants --json FILE [--per-class N] [--fit-steps N] [--classes pit]

Product A has seeds, and an adapter for each class is fitted to them. Variant B is of the same process: other material
(shade, gloss, relief, grain) and another size. Candidates on B's own backgrounds are made twice, with A's seeds and
adapters (what a job with ``adapters_from`` does) and with adapters fitted to seeds of B. Both are held against real
defects of B that neither has seen: by the gap report's classifier in the mask, and by a small detector that learns from
the candidates and B's backgrounds alone and judges faint defects on B's parts. Reuse must stay within 0.05 AUROC of the
own adapter by both, in at most a quarter of its processor time. ``--work FOLDER`` keeps the adapters and what fitting
them took, for the same command to go on.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.rendered_cell import RenderedCell, Variant, image_scores
from cell.defects import Draft
from cell.store.files import make_folder, write_bytes
from drivers.sim.products.blueprint import Batch
from trainer.gap.crops import Crop, crop_of, plain_corners, plain_crop
from trainer.gap.measure import Evidence, measure_gap
from trainer.generate.base import BackgroundSample, GenerateRequest, SeedSample
from trainer.generate.candidates import make_candidates
from trainer.metrics import auroc

#: Largest loss of AUROC, and largest share of the own adapter's processor time.
WITHIN, SHARE_OF_TIME = 0.05, 0.25
CLASSES = ("pit", "scratch")
#: Darker, duller, rougher, of coarser grain, and the part three quarters as large.
OTHER = Variant(Batch(tone=0.65, roughness=1.3, relief=1.3, grain=1.5), 0.75)
_USUAL, _FAINT = (0.7, 1.4), (0.03, 0.12)
_DRAWS, _PLAIN_WINDOWS = 1000, 3
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Real:
    """Parts of the variant: those that are learned from, and those that judge."""

    cell: RenderedCell
    backgrounds: list[BackgroundSample]
    defects: list[SeedSample]  # as the seeds are: the gap is measured against these
    faint: list[SeedSample]  # the detector is measured with these: it finds the others all
    good: list[BackgroundSample]

    @classmethod
    def render(cls, cell: RenderedCell, backgrounds: int, each: int) -> Real:
        """Render `each` defects of a class, as many faint ones, and as many good parts."""
        learned = [cell.background(number) for number in range(backgrounds)]
        defects = cell.seeds(each, 50_000, _USUAL)
        faint = cell.seeds(each, 70_000, _FAINT)
        return cls(cell, learned, defects, faint, [cell.background(90_000 + number) for number in range(len(defects))])


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """Candidates, how many adapters were fitted for them, and the processor seconds that fitting and making took."""

    drafts: list[Draft]
    fitted: int
    fit_s: float
    make_s: float


def make(
    name: str, cell: RenderedCell, seeds: Sequence[SeedSample], real: Real, request: GenerateRequest, folder: Path
) -> Made:
    """Make candidates on the variant's backgrounds; adapters that `folder` holds are not fitted again."""
    known, began = len(_adapters(folder)), time.process_time()
    found = make_candidates(request, seeds, real.backgrounds, cell.calibration, cell.recipe, workdir=folder)
    drafts = [next(found)]  # everything that is fitted is there once the first is
    first = time.process_time()
    drafts += found
    rest = time.process_time() - first
    whole = rest * len(drafts) / max(1, len(drafts) - 1)
    spent = max(0.0, first - began - whole / len(drafts))
    fitted = len(_adapters(folder)) - known
    return Made(drafts, fitted, _remembered(folder / f"{name}.json", fitted, spent), whole)


def _adapters(folder: Path) -> list[Path]:
    return list(folder.glob("*.safetensors"))


def _remembered(path: Path, fitted: int, spent: float) -> float:
    """Return the seconds that fitting took, also when it was done before an interruption."""
    if not fitted and path.exists():
        return float(json.loads(path.read_bytes()))
    write_bytes(path, json.dumps(spent).encode())
    return spent


def gap(real: Real, made: Made, seed: int) -> dict[str, Any]:
    """Return what the gap report says of candidates against real defects of the variant."""
    rng = np.random.default_rng(seed)
    backgrounds = {one.background_id: one for one in real.backgrounds}
    crops = [crop_of(one.stack, one.mask, one.part_id, name=one.seed_id) for one in real.defects]
    synthetic = [
        crop_of(draft.stack, draft.mask, backgrounds[draft.provenance.background_id].part_id, name=str(number))
        for number, draft in enumerate(made.drafts)
        if draft.mask.any()
    ]
    plain: list[Crop] = []
    for one in real.good:
        corners = plain_corners(one.allowed, _PLAIN_WINDOWS, rng, least_share=0.98)
        plain += [plain_crop(one.stack, top, left, one.part_id) for top, left in corners]
    frames = [(one.part_id, one.stack.astype(np.float32)) for one in real.good]
    evidence = Evidence(crops, synthetic, plain, real.cell.calibration, real.cell.product.bit_depth, frames)
    report = measure_gap(evidence, seed)
    rows = {one.name: one.model_dump(mode="json") for one in report.measures}
    controls = {name: rows[name] for name in ("real against real", "crude paste") if name in rows}
    return {
        "defects": rows["defects"],
        "distance": rows["kernel distance"],
        "controls": controls,
        "conclusion": report.conclusion.value,
    }


def judge(real: Real, made: Made | None, seeds: Sequence[SeedSample], updates: int, seed: int) -> Floats:
    """Return scores, first of the faint real defects and then of the good parts, by a detector of these defects."""
    cell = real.cell
    samples = [cell.defective(one) for one in seeds] + [cell.plain(one) for one in real.backgrounds]
    if made is not None:
        samples += [cell.candidate(draft, number) for number, draft in enumerate(made.drafts)]
    model = cell.learn(samples, updates, seed)
    return image_scores(
        model, [*(cell.defective(one) for one in real.defects), *(cell.plain(one) for one in real.good)]
    )


def aurocs(scores: Floats, truths: Sequence[str]) -> Floats:
    """Return the AUROC, mean over the classes, of the test and of draws of its parts with replacement.

    :param scores: (R, N) of the detectors of one arm, its mean is taken; parts of `truths` are a picture each.
    """
    names = np.array(truths)
    rows = {name: np.flatnonzero(names == name) for name in sorted(set(truths))}
    rng = np.random.default_rng(0)
    found = []
    for draw in range(1 + _DRAWS):
        taken = {name: own if draw == 0 else rng.choice(own, own.size) for name, own in rows.items()}
        values = [
            auroc(one[taken[name]], one[taken["good"]]) or 0.0 for one in scores for name in taken if name != "good"
        ]
        found.append(float(np.mean(values)))
    return np.array(found)


def with_interval(values: Floats) -> list[float]:
    """Return a figure and its 95 % interval."""
    return [round(float(one), 4) for one in (values[0], *np.percentile(values[1:], [2.5, 97.5]))]


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure everything; return the figures."""
    process = RenderedCell(options.product, options.lights, options.classes)
    variant = RenderedCell(options.product, options.lights, options.classes, OTHER)
    real = Real.render(variant, options.backgrounds, options.real)
    old, own = process.seeds(options.shots, 10_000, _USUAL), variant.seeds(options.shots, 20_000, _USUAL)
    request = GenerateRequest(
        arm=options.arm, per_class=options.per_class, random_seed=options.seed, fit_steps=options.fit_steps
    )
    made: dict[str, Made] = {}
    with _folder(options.work) as folder:
        # The process has its adapters already: fitted to its own seeds for its own parts.
        at_home = Real(process, [process.background(number) for number in range(2)], [], [], [])
        before = make("process", process, old, at_home, replace(request, per_class=2), folder)
        _say(f"adapters of {process.recipe.recipe_id}: {before.fit_s:.0f} s of processor")
        for arm, seeds in (("reused", old), ("own", own)):
            made[arm] = make(arm, variant, seeds, real, request, folder)
            _say(f"{arm}: fitted in {made[arm].fit_s:.0f} s, made in {made[arm].make_s:.0f} s")
    gaps = {arm: gap(real, one, options.seed) for arm, one in made.items()}
    _say(f"gap: { {arm: one['defects']['value'] for arm, one in gaps.items()} }")
    truths = [one.defect_class for one in real.faint] + ["good"] * len(real.good)
    scores: dict[str, Floats] = {}
    for arm, learned, seeds in (
        ("reused", made["reused"], []),
        ("own", made["own"], []),
        ("own seeds alone", None, own),
    ):
        runs = [judge(real, learned, seeds, options.updates, seed) for seed in range(1, 1 + options.detectors)]
        scores[arm] = np.stack(runs)
        _say(f"detector of {arm}: {with_interval(aurocs(scores[arm], truths))}")
    return _result(options, made, scores, truths, gaps)


@contextmanager
def _folder(work: Path | None) -> Iterator[Path]:
    if work is not None:
        make_folder(work)
        yield work
        return
    with tempfile.TemporaryDirectory(prefix="variants-") as name:
        yield Path(name)


def _result(
    options: argparse.Namespace,
    made: dict[str, Made],
    scores: dict[str, Floats],
    truths: Sequence[str],
    gaps: dict[str, Any],
) -> dict[str, Any]:
    values = {arm: aurocs(one, truths) for arm, one in scores.items()}
    lost = values["own"] - values["reused"]
    wider = gaps["reused"]["defects"]["value"] - gaps["own"]["defects"]["value"]
    seconds = {arm: {"fit": round(one.fit_s, 1), "make": round(one.make_s, 1)} for arm, one in made.items()}
    share = (made["reused"].fit_s + made["reused"].make_s) / (made["own"].fit_s + made["own"].make_s)
    return {
        "product": options.product,
        "lights": options.lights,
        "classes": options.classes,
        "fit_steps": options.fit_steps,
        "candidates": {arm: len(one.drafts) for arm, one in made.items()},
        "adapters_fitted": {arm: one.fitted for arm, one in made.items()},
        "gap_auroc": {arm: one["defects"] for arm, one in gaps.items()},
        "kernel_distance": {arm: one["distance"] for arm, one in gaps.items()},
        "gap_controls": gaps["reused"]["controls"],
        "gap_wider_by": round(wider, 4),
        "detector_auroc": {arm: with_interval(one) for arm, one in values.items()},
        "detector_auroc_lost": with_interval(lost),
        "processor_s": seconds,
        "share_of_time": round(share, 3),
        "passed": {
            "gap": bool(wider <= WITHIN),
            "detector": bool(lost[0] <= WITHIN),
            "detector, upper 95 % bound": bool(with_interval(lost)[2] <= WITHIN),
            "time": bool(share <= SHARE_OF_TIME),
        },
    }


def print_table(result: dict[str, Any]) -> None:
    """Print the figures."""
    print(f"{result['product']}, {result['lights']} lights, {result['candidates']['own']} candidates")
    for arm, one in result["gap_auroc"].items():
        print(f"  gap in the mask, {arm:<22}{one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}] (90 %)")
    for arm, one in result["kernel_distance"].items():
        print(f"  kernel distance, {arm:<22}{one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}]")
    print(f"  {'reused less own, AUROC of the gap':<40}{result['gap_wider_by']:+.3f}")
    for arm, (value, low, high) in result["detector_auroc"].items():
        print(f"  detector AUROC, {arm:<23}{value:.3f} [{low:.3f}, {high:.3f}]")
    value, low, high = result["detector_auroc_lost"]
    print(f"  {'lost by reuse':<40}{value:+.3f} [{low:+.3f}, {high:+.3f}]")
    for arm, one in result["processor_s"].items():
        print(f"  processor seconds, {arm:<20}fit {one['fit']:.0f}, make {one['make']:.0f}")
    print(f"  {'share of the time':<40}{result['share_of_time']:.2f}")
    for name, passed in result["passed"].items():
        print(f"  {name:<40}{'reached' if passed else 'MISSED'}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return 0 when gap, detector and time are within their limits."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.variants", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--product", default="brushed", help="rendered product")
    parser.add_argument("--lights", default="2", help="its lamps, such as 4 or 4+ring")
    parser.add_argument("--classes", nargs="+", default=list(CLASSES))
    parser.add_argument("--arm", default="diffusion")
    parser.add_argument("--shots", type=int, default=5, help="seeds of a class")
    parser.add_argument("--per-class", type=int, default=24, help="candidates")
    parser.add_argument("--fit-steps", type=int, default=160, help="of each class's adapter")
    parser.add_argument("--backgrounds", type=int, default=24, help="good parts of the variant to learn from")
    parser.add_argument(
        "--real", type=int, default=32, help="real defects of each class that judge; as many good parts"
    )
    parser.add_argument("--updates", type=int, default=400, help="of each detector")
    parser.add_argument("--detectors", type=int, default=2, help="random seeds of the detector")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, help="folder for adapters: the same command again goes on")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    result = run(options)
    print_table(result)
    if options.json:
        write_bytes(options.json, json.dumps(result, indent=1).encode())
    return 0 if all(result["passed"][name] for name in ("gap", "detector", "time")) else 1


if __name__ == "__main__":
    sys.exit(main())
