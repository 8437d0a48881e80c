"""What harvest takes and proposes: ``python -m benchmarks.harvest [--data DIR] [--parts N] [--json FILE]``.

Two tables. On the built-in plate: an archive with 5 % defective parts and no report at all goes through
:class:`daemon.harvest.Harvester`. On a folder (``--data``): the background model alone, 5-fold by physical part over
``backgrounds/`` with every seed against each fold; ``test/`` is not opened. Proposed masks are held against the true
ones.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from cell.defects import Mask
from cell.frames import Stack, StoredStack
from cell.imaging.background import BackgroundModel
from cell.imaging.folders import FolderDataset, FolderItem, read_folder
from cell.store.images import write_stack
from cell.store.layout import StateDir
from cell.store.learning import LearningStore
from cell.store.line import LineStore
from cell.store.line_records import ArchivedPart
from cell.verdicts import Outcome
from daemon.harvest import Harvester
from drivers.sim.plate import PlateProduct, recipe_for_plate
from trainer.metrics import auroc

FOLDS = 5
_RESAMPLES = 500


@dataclass(slots=True)
class Row:
    """One part or picture and what the model said of it."""

    defect_class: str
    part: str
    stack: Stack
    truth: Mask
    score: float = 0.0
    overlap: float = 0.0
    hit: bool = False


def rows_of(dataset: FolderDataset, channels: int) -> list[Row]:
    """Return every picture (1 channel) or every part with its first `channels` pictures as channels."""
    grouped: dict[tuple[str, str], list[FolderItem]] = {}
    for item in (*dataset.backgrounds, *dataset.seeds):
        grouped.setdefault((item.defect_class, item.part), []).append(item)
    rows: list[Row] = []
    for (defect_class, part), items in grouped.items():
        samples = [dataset.load(item) for item in sorted(items, key=lambda item: item.name)]
        if channels == 1:
            rows += [Row(defect_class, part, sample.stack, sample.labels > 0) for sample in samples]
        elif len(samples) >= channels:
            height, width = (min(sample.labels.shape[axis] for sample in samples[:channels]) for axis in (0, 1))
            cut = [_middle(sample.labels.shape, height, width) for sample in samples[:channels]]
            stack: Stack = np.concatenate([s.stack[:, w[0], w[1]] for s, w in zip(samples, cut, strict=False)])
            truth = np.any([s.labels[w] > 0 for s, w in zip(samples, cut, strict=False)], axis=0)
            rows.append(Row(defect_class, part, stack, truth))
    return rows


def judge(rows: list[Row]) -> None:
    """Fill in score and overlap of every row, by models that never saw its part."""
    fold = {
        part: index % FOLDS for index, part in enumerate(sorted({row.part for row in rows if not row.defect_class}))
    }
    for row in rows:
        row.score = 0.0
    for left_out in range(FOLDS):
        model = BackgroundModel(rows[0].stack.shape[0], 8)
        for row in rows:
            if not row.defect_class and fold[row.part] != left_out:
                model.add(row.stack, np.ones(row.truth.shape, np.bool_))
        for row in rows:
            whole = np.ones(row.truth.shape, np.bool_)
            if row.defect_class:
                row.score += model.score(row.stack, whole) / FOLDS
                if left_out == 0:
                    mask = model.propose_mask(row.stack, whole)
                    row.overlap = float((mask & row.truth).sum() / max((mask | row.truth).sum(), 1))
                    row.hit = bool((mask & row.truth).any())
            elif fold[row.part] == left_out:
                row.score = model.score(row.stack, whole)


def table(rows: list[Row]) -> dict[str, Any]:
    """Return AUROC with its interval by part, and masks, over all classes and for each."""
    result: dict[str, Any] = {}
    for defect_class in ("", *sorted({row.defect_class for row in rows} - {""})):
        chosen = [row for row in rows if not defect_class or row.defect_class in ("", defect_class)]
        bad = [row for row in chosen if row.defect_class]
        result[defect_class or "all"] = {
            "auroc": _auroc(chosen),
            "auroc_95": _interval(chosen),
            "mask_iou_median": float(np.median([row.overlap for row in bad])),
            "mask_hit": float(np.mean([row.hit for row in bad])),
            "pictures": len(bad),
        }
    return result


def plates(parts: int, seed: int = 1) -> dict[str, Any]:
    """Harvest an archive of plates, one in twenty defective, of which nobody reported anything."""
    rng, product, recipe = np.random.default_rng(seed), PlateProduct(lights=2), recipe_for_plate(2)
    kinds = recipe.class_names
    bad = [f"{kinds[index % len(kinds)]}-{index // len(kinds):06d}" for index in range(parts // 20)]
    names = [f"good-{index:06d}" for index in range(parts - len(bad))] + bad
    rng.shuffle(names)
    with tempfile.TemporaryDirectory() as folder:
        state = StateDir.create(Path(folder))
        line, learning = LineStore(state), LearningStore(state)
        line.recipes.add(recipe)
        for index, part_id in enumerate(names):
            part = product.part(part_id)
            pixels = np.stack([part.expose({name: 1.0}, 1000.0, 0.0, rng) for name in product.lines]).astype(np.uint8)
            stack = StoredStack(pixels, recipe.channel_names, 8, (1000.0,) * 2, (0.0,) * 2, {"emulated": True})
            _archive(state, line, f"j{index:08d}", part_id, stack)
        summary = Harvester(line, learning, state).run_once(recipe.recipe_id)
        taken = {background.part_id for background in learning.backgrounds(recipe.recipe_id)}
        seeds = {proposal.part_id for proposal in learning.seeds(recipe.recipe_id)}
        learning.close()
        line.close()
    return {
        "good": parts - len(bad),
        "bad": len(bad),
        "good_taken": len(taken - set(bad)),
        "bad_taken": sorted(taken & set(bad)),
        "bad_proposed": len(seeds & set(bad)),
        "good_proposed": len(seeds - set(bad)),
        "refused": summary["refused"],
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description="What harvest takes and proposes.")
    parser.add_argument("--data", type=Path, help="folder data set; only backgrounds/ and seeds/ are read")
    parser.add_argument("--channels", type=int, default=1, help="pictures of a part that are its channels")
    parser.add_argument("--parts", type=int, default=220)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    report: dict[str, Any] = {"plates": plates(arguments.parts)} if arguments.parts else {}
    for key, value in report.get("plates", {}).items():
        print(f"{key:<14}{value}")
    if arguments.data:
        rows = rows_of(read_folder(arguments.data), arguments.channels)
        judge(rows)
        report["folder"] = table(rows)
        print(f"\n{'class':<10}{'pictures':>9}{'AUROC':>8}{'95 % by part':>16}{'mask IoU':>10}{'hit':>6}")
        for name, figures in report["folder"].items():
            low, high = figures["auroc_95"]
            print(
                f"{name:<10}{figures['pictures']:>9}{figures['auroc']:>8.3f}{f'{low:.2f} to {high:.2f}':>16}"
                f"{figures['mask_iou_median']:>10.2f}{figures['mask_hit']:>6.2f}"
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


def _archive(state: StateDir, line: LineStore, job_id: str, part_id: str, stack: StoredStack) -> None:
    now = datetime.now(UTC)
    path = state.archive_path("plate", job_id, now)
    written = write_stack(path, stack)
    line.archive.add(
        ArchivedPart(
            job_id=job_id,
            part_id=part_id,
            recipe_id="plate",
            path=state.relative(path),
            digest=written,
            outcome=Outcome.OK,
            size_bytes=path.stat().st_size,
            emulated=True,
            at=now,
        )
    )


def _auroc(rows: list[Row]) -> float:
    value = auroc([row.score for row in rows if row.defect_class], [row.score for row in rows if not row.defect_class])
    return float("nan") if value is None else float(value)


def _interval(rows: list[Row]) -> tuple[float, float]:
    rng, parts = np.random.default_rng(0), sorted({row.part for row in rows})
    of = {part: [row for row in rows if row.part == part] for part in parts}
    drawn = [_auroc([row for part in rng.choice(parts, len(parts)) for row in of[part]]) for _ in range(_RESAMPLES)]
    low, high = np.nanquantile(drawn, (0.025, 0.975))
    return float(low), float(high)


def _middle(shape: tuple[int, ...], height: int, width: int) -> tuple[slice, slice]:
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    return slice(top, top + height), slice(left, left + width)


if __name__ == "__main__":
    main()
