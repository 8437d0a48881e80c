"""How good a judge becomes from a few real defects, and what synthetic ones add.

    python -m benchmarks.fewshot --data DIR --shots 5 --arm procedural --seed 1 [--export OUT] [--json FILE]

Learns from the first N parts a class of ``seeds/`` and from ``backgrounds/``, freezes its threshold in there by leaving
out one part at a time (:mod:`trainer.crossval`), and scores ``test/`` once. With ``--work DIR`` a run that was
interrupted goes on where it was. The arm ``oracle`` is the upper bound that the detector can reach with all the real
defects there are: it also learns from the labelled test parts, in folds by part, so that every test part is scored by a
model that never saw it, and with as many more updates as it has more defective parts; it freezes no threshold. With
``--inner`` the cross-validation's figures are printed and the test is not touched: by them, and never by the test, is
anything chosen: the one `--ratio` for all arms too. ``--leave-out SHARE`` takes real seed parts away from what the
detector learns from, while what was generated from all of them stays: how many real ones may be missing. How `augment`
and `balanced` differ from `real` stands in :mod:`benchmarks._classic`.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import _layout
from benchmarks._arms import ARMS, BALANCED, Synthetic, export_synthetic, synthesise
from benchmarks._classic import balanced
from benchmarks._figures import at_threshold, figures
from benchmarks._layout import Product
from benchmarks._pixels import PixelsByPart
from cell.defects import Sample
from cell.errors import DataError, InspectdError
from cell.imaging.preprocess import Preprocessing
from cell.jobs import Progress
from cell.store.files import make_folder
from trainer.crossval import CrossValidation, LeaveOneOut, Team, ThresholdRule, cross_validate, deal_folds, hold_out
from trainer.evaluate import GOOD, PixelPrecisions, Scored, truth_of
from trainer.fit import FitConfig, lengthened, never_cancelled
from trainer.samples import Sampling

ORACLE = "oracle"
ORACLE_FOLDS = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.inner and (options.arm == ORACLE or not options.folds):
        parser.error("--inner needs an arm other than oracle and --folds above 0")
    if options.arm == ORACLE and options.leave_out:
        parser.error("--leave-out needs an arm other than oracle, which learns from all the real defects")
    if options.leave_out_class and not options.leave_out:
        parser.error("--leave-out-class needs --leave-out SHARE")
    try:
        result = run(options)
    except InspectdError as error:
        print(f"fewshot: {error}", file=sys.stderr)
        return error.exit_code
    print_table(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Run one arm and return all figures. Raises `InspectdError` for what can't be used."""
    seconds: dict[str, float] = {}
    if options.work is not None:
        make_folder(options.work)
    with _stage("load", seconds):
        product = _layout.load(options.data, options.shots, lights=options.lights)
        preprocessing = Preprocessing(channels=product.channels, bit_depth=product.bit_depth)
    config = FitConfig(seed=options.seed, start=options.start, sampling=_sampling(options, product.classes))
    if options.updates:
        config = replace(config, updates=options.updates)
    if options.batch:
        config = replace(config, batch=options.batch)
    if options.inner:
        return _validate(options, product, preprocessing, config)
    pixels = PixelsByPart(PixelPrecisions.empty(product.classes))
    extra: dict[str, Any] = {}
    if options.arm == ORACLE:
        with _stage("oracle", seconds):
            threshold, scored = None, _oracle(options, product, preprocessing, config, pixels)
    else:
        threshold, scored, extra = _learn_and_test(options, product, preprocessing, config, pixels, seconds)
    known = figures(scored, pixels.precisions, product.classes, threshold)
    return _result(options, product, config, known | extra | {"pixels": pixels.by_part}, seconds, scored)


def _sampling(options: argparse.Namespace, classes: Sequence[str]) -> Sampling:
    sampling = Sampling(synthetic_share=options.ratio)
    return balanced(sampling, classes) if options.arm == BALANCED else sampling


def _result(
    options: argparse.Namespace,
    product: Product,
    config: FitConfig,
    known: dict[str, Any],
    seconds: dict[str, float],
    scored: Sequence[Scored],
) -> dict[str, Any]:
    return {
        "data": product.name,
        "arm": options.arm,
        "shots": options.shots,
        "lights": len(product.channels),
        "seed": options.seed,
        "updates": config.updates,
        "batch": config.batch,
        "start": config.start,
        # No arm without pictures of its own has a share of them.
        "left_out": _told_left_out(options, product),
        "ratio": config.sampling.synthetic_share if known.get("synthetic") else None,
        "scored_on": "learning parts, by cross-validation" if options.inner else "test",
        **known,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "scores": {one.sample_id: [one.truth, one.group, one.score, one.fold] for one in scored},
    }


def _learning_parts(
    options: argparse.Namespace, product: Product, seconds: dict[str, float]
) -> tuple[list[Sample], Synthetic]:
    with _stage("generate", seconds):
        made = synthesise(options.arm, product, options.per_class, options.seed, _reporter(options.quiet))
        if options.export:
            export_synthetic(made.samples, product.classes, options.export)
    missing = left_out_parts(product, options.leave_out, options.leave_out_class, options.seed)
    kept = [one for one in product.seeds if one.group not in missing]
    return [*kept, *product.backgrounds, *made.samples], made


def left_out_parts(product: Product, share: float, defect_class: str | None, seed: int) -> frozenset[str]:
    """Return the seed parts, of one class or of each, that the detector does not learn from; drawn by the seed.

    :raises DataError: when the product has no such class.
    """
    if defect_class is not None and defect_class not in product.classes:
        raise DataError(
            f"{product.name} has no class {defect_class}; leave out one of {', '.join(product.classes)} or of all"
        )
    rng = np.random.default_rng([seed, 0x1EF7])
    missing: set[str] = set()
    for name in product.classes:
        parts = sorted({one.group for one in product.seeds if truth_of(one, product.classes) == name})
        order = rng.permutation(len(parts))
        if defect_class in {None, name}:
            missing |= {parts[place] for place in order[: round(share * len(parts))]}
    return frozenset(missing)


def _told_left_out(options: argparse.Namespace, product: Product) -> dict[str, Any] | None:
    if not options.leave_out:
        return None
    parts = left_out_parts(product, options.leave_out, options.leave_out_class, options.seed)
    return {"share": options.leave_out, "class": options.leave_out_class, "parts": sorted(parts)}


def _validate(
    options: argparse.Namespace, product: Product, preprocessing: Preprocessing, config: FitConfig
) -> dict[str, Any]:
    seconds: dict[str, float] = {}
    learning, made = _learning_parts(options, product, seconds)
    rule = ThresholdRule(folds=options.folds, seeds_are_held_out=made.seeds_can_be_held_out)
    with _stage("cross-validation", seconds):
        inner = cross_validate(learning, preprocessing, product.classes, config, rule, _team(options))
    known = figures(inner.scored, inner.pixels, product.classes, inner.threshold)
    extra = {"synthetic": len(made.samples), "threshold_source": inner.source}
    return _result(options, product, config, known | extra, seconds, inner.scored)


def _learn_and_test(
    options: argparse.Namespace,
    product: Product,
    preprocessing: Preprocessing,
    config: FitConfig,
    pixels: PixelsByPart,
    seconds: dict[str, float],
) -> tuple[float | None, list[Scored], dict[str, Any]]:
    learning, made = _learning_parts(options, product, seconds)
    threshold: float | None = None
    extra: dict[str, Any] = {"synthetic": len(made.samples)}
    if options.folds:
        rule = ThresholdRule(
            folds=options.folds,
            seeds_are_held_out=made.seeds_can_be_held_out,
            leave_one_out=LeaveOneOut() if options.leave_one_out else None,
        )
        with _stage("cross-validation", seconds):
            inner = cross_validate(learning, preprocessing, product.classes, config, rule, _team(options))
        threshold = inner.threshold
        extra |= _inner_figures(inner, product.classes)
    with _stage("fit", seconds):
        task = hold_out("fit", 0, set(), learning, preprocessing, product.classes, config, "fit")
        model = task.work(options.work, _reporter(options.quiet), never_cancelled).model
    with _stage("test", seconds):
        scored = pixels.score(model.predict, product.test, product.classes)
    return threshold, scored, extra


def _team(options: argparse.Namespace) -> Team:
    return Team(options.threads, options.work, _reporter(options.quiet))


def _inner_figures(inner: CrossValidation, classes: Sequence[str]) -> dict[str, Any]:
    """What the cross-validation alone says."""
    known = figures(inner.scored, inner.pixels, classes, inner.threshold)
    known |= at_threshold(inner.deciding, classes, inner.threshold)
    keys = ("auroc", "auroc_macro", "auroc_by_class", "fa", "fr", "pixel_ap", "pixel_ap_macro")
    return {"threshold_source": inner.source, "inner": {key: known[key] for key in keys}}


def _oracle(
    options: argparse.Namespace,
    product: Product,
    preprocessing: Preprocessing,
    config: FitConfig,
    pixels: PixelsByPart,
) -> list[Scored]:
    dealt = deal_folds(product.test, product.classes, ORACLE_FOLDS, config.seed)
    everything = [*product.seeds, *product.backgrounds, *product.test]
    tasks = []
    for fold in range(ORACLE_FOLDS):
        held_out = {part for part, where in dealt.items() if where == fold}
        own = replace(config, seed=config.seed + fold)
        if not options.updates:
            own = lengthened(own, [sample for sample in everything if sample.group not in held_out])
        name, stage = f"oracle-{fold}", f"oracle {fold + 1}/{ORACLE_FOLDS}"
        task = hold_out(name, fold, held_out, everything, preprocessing, product.classes, own, stage)
        # A defective part's picture without a mark shows nobody where: it is judged, but not learned as a good one.
        shown = [one for one in task.kept if one.labels.any() or truth_of(one, product.classes) == GOOD]
        tasks.append(replace(task, kept=shown))
    scored: list[Scored] = []
    for task, found in zip(tasks, _team(options).work(tasks, "oracle"), strict=True):
        scored += pixels.score(found.model.predict, task.tested, product.classes, task.number)
    return scored


def print_table(result: dict[str, Any]) -> None:
    """Print the figures of one run."""
    print(f"{result['data']}, {result['shots']} shots, arm {result['arm']}, seed {result['seed']}")
    rows = [
        ("AUROC", _figure(result["auroc"], result["auroc_95"])),
        ("AUROC macro", _figure(result["auroc_macro"], result["auroc_macro_95"])),
        ("  by class", _by_class(result["auroc_by_class"])),
        ("FA at the frozen threshold", _figure(result["fa"], result["fa_95"])),
        ("FR at the frozen threshold", _figure(result["fr"], result["fr_95"])),
        ("recall by class", _by_class(result["recall"])),
        ("FA at FR 5 % (threshold chosen on the test)", _figure(result["oracle_fa_at_fr5"])),
        ("FR at FA 0 (threshold chosen on the test)", _figure(result["oracle_fr_at_fa0"])),
        ("pixel AP", _figure(result["pixel_ap"])),
        ("pixel AP macro", _figure(result["pixel_ap_macro"])),
        ("  by class", _by_class(result["pixel_ap_by_class"])),
        ("seconds", ", ".join(f"{name} {value}" for name, value in result["seconds"].items())),
        ("peak MB", str(result["peak_mb"])),
    ]
    for name, value in rows:
        print(f"  {name:<44} {value}")


def _figure(value: float | None, interval: Sequence[float] | None = None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")


def _by_class(values: dict[str, float | None] | None) -> str:
    return "-" if values is None else ", ".join(f"{name} {_figure(value)}" for name, value in values.items())


def _reporter(quiet: bool) -> Callable[[Progress], None]:
    def report(progress: Progress) -> None:
        if not quiet and (progress.done % 100 == 0 or progress.done == progress.total):
            left = "" if progress.seconds_left is None else f", {progress.seconds_left:.0f} s left"
            print(f"{progress.stage}: {progress.done}/{progress.total} {progress.note}{left}", file=sys.stderr)

    return report


@contextmanager
def _stage(name: str, seconds: dict[str, float]) -> Iterator[None]:
    started = time.monotonic()
    yield
    seconds[name] = time.monotonic() - started


def _share(text: str) -> float:
    share = float(text)
    if not 0.0 <= share <= 1.0:
        raise argparse.ArgumentTypeError(f"a share is between 0 and 1, not {text}")
    return share


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fewshot", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="product folder (see docs/data-layout.md)")
    parser.add_argument("--shots", type=int, default=5, help="real parts a defect class to learn from")
    parser.add_argument("--lights", action="store_true", help="a part's pictures are its lights: one stack, one score")
    parser.add_argument("--arm", choices=[*ARMS, ORACLE], default="real")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--per-class", type=int, default=60, help="synthetic images a class")
    parser.add_argument(
        "--ratio",
        type=_share,
        default=Sampling().synthetic_share,
        metavar="SHARE",
        help="of the crops of a class's defects, those from its synthetic images; choose it with --inner",
    )
    parser.add_argument(
        "--leave-out",
        type=_share,
        default=0.0,
        metavar="SHARE",
        help="of the real seed parts of each class, those that the detector does not see; synthetic ones stay",
    )
    parser.add_argument("--leave-out-class", metavar="CLASS", help="leave out parts of this class alone")
    parser.add_argument("--updates", type=int, default=0, help="of the network; default: FitConfig's")
    parser.add_argument("--batch", type=int, default=0, help="crops of an update; default: FitConfig's")
    parser.add_argument(
        "--start",
        choices=["shipped", "random"],
        default=FitConfig().start,
        help="weights to start from: those of trainer/base, learned from rendered parts alone, or none",
    )
    parser.add_argument("--folds", type=int, default=3, help="of the cross-validation; 0: no threshold, no fa and fr")
    parser.add_argument(
        "--leave-one-out",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="freeze the threshold by leaving out one part at a time; else by the folds alone (a third of the time)",
    )
    parser.add_argument("--work", type=Path, help="folder for what is done so far: the same command again goes on")
    parser.add_argument("--inner", action="store_true", help="cross-validate inside the learning parts; no test")
    parser.add_argument("--threads", type=int, default=1, help="fits side by side")
    parser.add_argument("--export", type=Path, help="write the synthetic set as OUT/<class>/NAME.png, NAME_mask.png")
    parser.add_argument("--json", type=Path, help="write all figures and the score of every test picture")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    return parser


if __name__ == "__main__":
    sys.exit(main())
