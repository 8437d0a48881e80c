"""``python -m benchmarks.demo``: see the package. Ends with ``report.html`` and ``report.json`` in the folder."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.demo import offline, report, summary
from benchmarks.demo.results import DemoReport, ModelSummary
from benchmarks.demo.reviewer import ScriptedReviewer, confirm_seeds
from benchmarks.demo.scenario import choose, of_plates
from benchmarks.demo.workshop import Workshop, workshop
from cell.defects import SeedState, Split
from cell.errors import InspectdError
from cell.models import ModelManifest
from cell.store.images import read_stack
from cell.store.learning import LearningStore
from cell.wire.client import Client
from daemon.harvest.harvester import ACCEPTANCE
from trainer.calibrate import curves_svg

_FOLDER = Path(__file__).parents[2] / "var" / "demo"
_LONG_S = 300.0
#: From one held-out part to the next, at least: 300 a minute.
_PART_EVERY_S = 0.2


def main() -> int:
    """Run the demo; return 0 when everything that must be so was so."""
    options = _parser().parse_args()
    console = Console()
    try:
        scenario = of_plates() if options.simulated else choose()
        with workshop(options.folder.resolve(), scenario, console, options.threads) as shop:
            result = _run(shop, options)
    except InspectdError as error:
        Console(stderr=True).print(f"[bold red]demo: {error}", soft_wrap=True)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    failures = result.failures()
    for failure in failures:
        console.print(f"[bold red]{failure}")
    console.print(f"[bold]{'failed' if failures else 'passed'}[/] in {result.seconds / 60:.1f} min, peak ", end="")
    console.print(f"{result.peak_mb / 1024:.1f} GiB; see {options.folder.resolve() / 'report.html'}", soft_wrap=True)
    return 1 if failures else 0


def _run(shop: Workshop, options: argparse.Namespace) -> DemoReport:
    started = time.monotonic()
    scenario = shop.scenario
    shop.console.print(f"{scenario.source}: {len(scenario.learning)} pictures to learn from, ", end="")
    shop.console.print(f"{len(scenario.held_out)} held out")
    with shop.stage("start the cell"):
        shop.start(web=options.review == "web")
        shop.prepare()
    harvest = _gather(shop)
    with shop.stage("calibrate"):
        shop.job("inspectd.calibrate", {})
    with shop.stage("train from the seeds alone"):
        first = _train(shop, ratio=0.0, updates=options.updates)
    with shop.stage("generate"):
        arguments = {"arm": "diffusion", "per_class": options.per_class, "planted_bad": options.planted}
        shop.job("inspectd.generate", arguments)
    with shop.stage("review"):
        review = _review(shop, options.review)
    with shop.stage("train from seeds and accepted candidates"):
        second = _train(shop, ratio=5.0, updates=options.updates)
    with shop.stage("judge held-out parts, promote half-way"):
        shop.line("inspectd.deploy", {"model": first.onnx_digest, "promote": True, "by": "demo"})
        half = len(scenario.held_out) // 2
        beside = {
            0: lambda: shop.line("inspectd.deploy", {"model": second.onnx_digest, "by": "demo"}),
            half: lambda: shop.line("inspectd.promote", {"by": "demo"}),
        }
        answers = shop.show("held-out parts", scenario.held_out, beside, _PART_EVERY_S)
    with shop.stage("judge the archived frames again, offline"), shop.bar("judging again", len(answers)) as bar:
        again = offline.check(shop.state, scenario.recipe, (first, second), answers, bar)
    misses, alarms = summary.worst(shop.state, scenario, answers)
    with LearningStore(shop.state) as store:
        models = (
            summary.model_summary(store, first, "seeds alone"),
            summary.model_summary(store, second, "seeds and candidates"),
        )
        result = _result(shop, store, harvest, review, models, started)
        result = result.model_copy(update={"line": summary.line_summary(scenario, answers, again)})
        pictures = summary.gallery(store, scenario)
        curves = curves_svg(store.calibration(shop.recipe_id))
    report.write(result, shop.folder, gallery=pictures, curves=curves, misses=misses, alarms=alarms)
    return result


def _gather(shop: Workshop) -> dict[str, Any]:
    """Show every part that may be learned from or tested on, and let the cell choose what it keeps."""
    scenario = shop.scenario
    with shop.stage("gather pictures"):
        shop.show("parts to learn from", scenario.learning)
        shop.report(scenario.learning, "gauge")
        shop.show("parts set aside for the acceptance test", scenario.held_out)
        shop.report(scenario.held_out, ACCEPTANCE)
    with shop.stage("harvest"):
        harvest = shop.harvest(len(scenario.learning) + len(scenario.held_out))
        with Client(shop.settings.wire.trainer_commands, timeout_s=_LONG_S) as client:
            confirmed, refused = confirm_seeds(client, shop.recipe_id, shop.settings.state_dir, scenario.truth)
        shop.console.print(f"{harvest['backgrounds']} backgrounds, {confirmed} seeds confirmed, {refused} refused")
        for reason, count in harvest["refused"].items():
            shop.console.print(f"  {count} pictures refused: {reason}")
    return harvest


def _train(shop: Workshop, *, ratio: float, updates: int | None) -> ModelManifest:
    job = shop.job("inspectd.train", {"synthetic_ratio": ratio} | ({"updates": updates} if updates else {}))
    with LearningStore(shop.state) as store:
        manifest = store.model(str(job.result["onnx_digest"]))
    found = manifest.evaluation
    shop.console.print(
        f"held-out parts: AUROC {found.auroc if found.auroc is not None else float('nan'):.3f}, "
        f"FA {found.false_acceptance.count}/{found.false_acceptance.parts}, "
        f"FR {found.false_rejection.count}/{found.false_rejection.parts} parts at the frozen threshold"
    )
    return manifest


def _review(shop: Workshop, how: str) -> dict[str, Any]:
    asked = {"recipe_id": shop.recipe_id}
    if how == "web":
        page = f"http://{shop.settings.web.host}:{shop.settings.web.port}/review?recipe={shop.recipe_id}"
        shop.console.print(f"review every candidate at [bold]{page}")
        with shop.bar("waiting for your decisions") as bar:
            while True:
                shop.processes.check()
                found = shop.trainer("inspectd.review.summary", asked)
                done = int(found["accepted"]) + int(found["rejected"])
                bar(done, done + int(found["waiting"]))
                if not int(found["waiting"]):
                    return found
                time.sleep(1.0)
    with Client(shop.settings.wire.trainer_commands, timeout_s=_LONG_S) as client, shop.bar("reviewing") as bar:
        decisions = ScriptedReviewer(client, shop.settings.state_dir, shop.scenario.recipe).review(bar)
    shop.console.print(f"{decisions.accepted} accepted, {decisions.rejected} rejected")
    return shop.trainer("inspectd.review.summary", asked)


def _result(
    shop: Workshop,
    store: LearningStore,
    harvest: dict[str, Any],
    review: dict[str, Any],
    models: tuple[ModelSummary, ...],
    started: float,
) -> DemoReport:
    scenario, calibration = shop.scenario, store.calibration(shop.recipe_id)
    seeds = store.seeds(shop.recipe_id, state=SeedState.CONFIRMED, split=Split.LEARN)
    counts = store.candidates.counts(shop.recipe_id)
    camera = read_stack(shop.settings.state_dir / seeds[0].image.path).metadata.get("camera", "")
    return DemoReport(
        product=scenario.title,
        source=scenario.source,
        camera=f"pylon's emulated camera {camera}",
        recipe_id=shop.recipe_id,
        channels=scenario.recipe.channel_names,
        classes=scenario.recipe.class_names,
        backgrounds=len(store.backgrounds(shop.recipe_id, Split.LEARN)),
        refused=harvest["refused"],
        seeds=dict(Counter(seed.defect_class for seed in seeds)),
        calibration_kind=calibration.kind.value,
        calibration_findings=calibration.findings,
        candidates={name: sum(states.values()) for name, states in counts.items()},
        review=summary.review_summary(store, shop.recipe_id, review),
        models=models,
        line=summary.line_summary(scenario, (), offline.Offline(0, 0, 0)),
        stages=tuple(shop.times),
        seconds=round(time.monotonic() - started, 1),
        peak_mb=round(shop.processes.peak_mb, 1),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo", description=__doc__)
    parser.add_argument("--review", choices=("script", "web"), default="script", help="who reviews")
    parser.add_argument(
        "--simulated", action="store_true", help="show the simulated product even when pictures are there"
    )
    parser.add_argument("--folder", type=Path, default=_FOLDER, help="emptied and filled anew")
    parser.add_argument("--per-class", type=int, default=25, help="candidates of each class")
    parser.add_argument("--planted", type=int, default=10, help="known-bad candidates hidden among them")
    parser.add_argument("--updates", type=int, default=1200, help="training updates of each fit; the trainer's own: 0")
    parser.add_argument("--threads", type=int, default=max(1, min(4, os.cpu_count() or 1)), help="of the trainer")
    return parser


if __name__ == "__main__":
    sys.exit(main())
