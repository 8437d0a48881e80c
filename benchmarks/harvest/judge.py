"""One pool through the real harvester and real stores, and what came of it against the truth."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harvest.pools import Pool, PoolPart
from benchmarks.harvest.visible import VISIBLE
from cell.defects import Mask
from cell.frames import StoredStack
from cell.store.images import write_stack
from cell.store.layout import StateDir
from cell.store.learning import LearningStore
from cell.store.line import LineStore
from cell.store.line_records import ArchivedPart, PartReport
from cell.verdicts import Outcome
from daemon.harvest.harvester import Harvester

#: Numbers that a good part is described by when its diversity is counted, and width of their bins in deviations.
_COMPONENTS, _BIN = 8, 0.5
_COARSE = 12
_COUNTED = (
    "good", "bad", "backgrounds", "good_believed", "visible", "visible_proposed", "visible_hit", "visible_taken",
    "noise_visible", "noise_visible_proposed", "good_proposed", "seconds", "looked_at",
)  # fmt: skip


@dataclass(slots=True)
class Outcomes:
    """What became of the parts of one or several pools."""

    good: int = 0
    bad: int = 0
    backgrounds: int = 0
    bad_taken: list[str] = field(default_factory=list)
    visible_taken: int = 0
    noise_visible: int = 0
    noise_visible_proposed: int = 0
    good_believed: int = 0
    diversity: list[float] = field(default_factory=list)
    visible: int = 0
    visible_proposed: int = 0
    visible_hit: int = 0
    missed: list[str] = field(default_factory=list)
    good_proposed: int = 0
    overlaps: dict[str, list[float]] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    groups: list[tuple[str, str]] = field(default_factory=list)  # (true class, suggested group) of proposals
    seconds: float = 0.0
    looked_at: int = 0

    def add(self, other: Outcomes) -> None:
        """Count another pool in."""
        for name in _COUNTED:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.bad_taken += other.bad_taken
        self.diversity += other.diversity
        self.missed += other.missed
        self.groups += other.groups
        for kind, values in other.overlaps.items():
            self.overlaps.setdefault(kind, []).extend(values)
        for reason, count in other.refused.items():
            self.refused[reason] = self.refused.get(reason, 0) + count

    def figures(self) -> dict[str, Any]:
        """Return the figures that the aims are about."""
        everything = [value for values in self.overlaps.values() for value in values]
        return {
            "good": self.good,
            "bad": self.bad,
            "backgrounds": self.backgrounds,
            "bad_taken": self.bad_taken,
            "visible_bad_taken": self.visible_taken,
            "bad_per_300": round(300 * len(self.bad_taken) / max(self.backgrounds, 1), 3),
            "good_believed_share": round(self.good_believed / max(self.good, 1), 3),
            "diversity_kept": round(float(np.mean(self.diversity)), 3) if self.diversity else None,
            "visible_bad": self.visible,
            "visible_proposed_share": round(self.visible_proposed / self.visible, 3) if self.visible else None,
            "visible_hit_share": round(self.visible_hit / self.visible, 3) if self.visible else None,
            "visible_missed": self.missed,
            "visible_over_noise_alone": self.noise_visible,
            "visible_over_noise_alone_proposed": self.noise_visible_proposed,
            "good_proposed_share": round(self.good_proposed / max(self.good, 1), 3),
            "mask_iou_median": round(float(np.median(everything)), 3) if everything else None,
            "mask_iou_by_class": {kind: round(float(np.median(v)), 3) for kind, v in sorted(self.overlaps.items())},
            "group_purity": purity(self.groups),
            "refused": self.refused,
            "seconds_per_part": round(self.seconds / max(self.looked_at, 1), 3),
        }


def run(pool: Pool, *, verdicts: bool = False) -> Outcomes:
    """Archive a pool, harvest it and compare; with `verdicts` another station reported every part truly."""
    with tempfile.TemporaryDirectory() as folder:
        state = StateDir.create(Path(folder))
        with LineStore(state) as line, LearningStore(state) as learning:
            line.recipes.add(pool.recipe)
            harvester = Harvester(line, learning, state)
            for index, part in enumerate(pool.parts):
                _archive(state, line, pool, f"j{index:08d}", part)
                if verdicts:
                    harvester.report(_report(part))
            begun = time.process_time()
            summary = harvester.run_once(pool.recipe.recipe_id)
            seconds = time.process_time() - begun
            return _judged(pool, learning, summary, seconds)


def purity(groups: list[tuple[str, str]]) -> float | None:
    """Return the share of proposals whose group's commonest true class is their own; None without any."""
    if not groups:
        return None
    right = 0
    for group in {name for _, name in groups}:
        members = [kind for kind, name in groups if name == group]
        right += max(members.count(kind) for kind in set(members))
    return round(right / len(groups), 3)


def diversity(pool: Pool, kept: set[str]) -> float:
    """Return how much of the good parts' variety is kept: the share of occupied bins that hold a kept part.

    Good parts are described by the principal components of their coarse log pictures and fine texture on all channels;
    bins are half a standard deviation wide, along each component.
    """
    good = pool.good
    looks = np.stack([_coarse(part) for part in good])
    looks = (looks - looks.mean(axis=0)) / (looks.std(axis=0) + 1e-6)
    left, scale, _ = np.linalg.svd(looks, full_matrices=False)
    places = left[:, :_COMPONENTS] * scale[:_COMPONENTS]
    bins = np.floor(places / (places.std(axis=0) * _BIN + 1e-9)).astype(int)
    chosen = np.array([part.part_id in kept for part in good])
    occupied = sum(len(set(column.tolist())) for column in bins.T)
    return sum(len(set(column[chosen].tolist())) for column in bins.T) / occupied


def _judged(pool: Pool, learning: LearningStore, summary: dict[str, Any], seconds: float) -> Outcomes:
    recipe_id = pool.recipe.recipe_id
    taken = {background.part_id for background in learning.backgrounds(recipe_id)}
    seeds = {seed.part_id: seed for seed in learning.seeds(recipe_id)}
    bad = {part.part_id: part for part in pool.bad}
    known = sum(
        count for reason, count in summary["refused"].items() if reason.startswith(("good, but", "enough good"))
    )
    result = Outcomes(
        good=len(pool.good),
        bad=len(bad),
        backgrounds=len(taken),
        bad_taken=[f"{pool.name}/{name}" for name in sorted(taken & bad.keys())],
        good_believed=len(taken - bad.keys()) + known,
        diversity=[diversity(pool, taken)],
        good_proposed=len(seeds.keys() - bad.keys()),
        refused=dict(summary["refused"]),
        seconds=seconds,
        looked_at=len(pool.parts),
    )
    for name, part in bad.items():
        result.noise_visible += part.noise_sigmas >= VISIBLE
        result.noise_visible_proposed += part.noise_sigmas >= VISIBLE and name in seeds
        if part.sigmas >= VISIBLE:
            result.visible += 1
            result.visible_taken += name in taken
            if name not in seeds:
                result.missed.append(f"{pool.name}/{name} {part.sigmas:.1f}")
        if name in seeds and part.truth is not None:
            mask = learning.read_mask(seeds[name].mask)
            if part.sigmas >= VISIBLE:
                result.visible_proposed += 1
                result.visible_hit += bool((mask & part.truth).any())
                result.overlaps.setdefault(part.defect_class, []).append(iou(mask, part.truth))
            result.groups += [(part.defect_class, region.group) for region in seeds[name].regions[:1]]
    return result


def iou(mask: Mask, truth: Mask) -> float:
    """Return intersection over union."""
    return float((mask & truth).sum() / max((mask | truth).sum(), 1))


def _coarse(part: PoolPart) -> NDArray[np.float64]:
    _, height, width = part.stack.shape
    rows, columns = np.arange(0, height, max(1, height // _COARSE)), np.arange(0, width, max(1, width // _COARSE))
    logs = np.log(part.stack.astype(np.float64) + 1)
    coarse = np.add.reduceat(np.add.reduceat(logs, rows, axis=1), columns, axis=2)
    fine = np.log(np.abs(np.diff(part.stack.astype(np.float64), axis=2)).mean(axis=(1, 2)) + 0.1)
    return np.concatenate([coarse.ravel(), fine])


def _archive(state: StateDir, line: LineStore, pool: Pool, job_id: str, part: PoolPart) -> None:
    now, recipe = datetime.now(UTC), pool.recipe
    exposures = tuple(channel.exposure_us for channel in recipe.channels)
    facts = {"part_id": part.part_id, "emulated": True}
    stack = StoredStack(part.stack, recipe.channel_names, recipe.bit_depth, exposures, (0.0,) * len(exposures), facts)
    path = state.archive_path(recipe.recipe_id, job_id, now)
    line.archive.add(
        ArchivedPart(
            job_id=job_id,
            part_id=part.part_id,
            recipe_id=recipe.recipe_id,
            path=state.relative(path),
            digest=write_stack(path, stack),
            outcome=Outcome.OK,
            size_bytes=path.stat().st_size,
            emulated=True,
            at=now,
        )
    )


def _report(part: PoolPart) -> PartReport:
    return PartReport(
        part_id=part.part_id,
        outcome=Outcome.NG if part.defect_class else Outcome.OK,
        defect_class=part.defect_class,
        source="plc",
        at=datetime.now(UTC),
    )
