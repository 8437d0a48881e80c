"""A small product for harvest's tests: a fixtured part under two lights that a test can spoil, and its stores."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell.frames import Frame, FrameSet, StoredStack
from cell.recipes import Channel, DefectClass, Recipe
from cell.store.images import write_stack
from cell.store.layout import StateDir
from cell.store.learning import LearningStore
from cell.store.line import LineStore
from cell.store.line_records import ArchivedPart, PartReport
from cell.verdicts import Outcome, Verdict
from daemon.harvest.harvester import Harvester

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HEIGHT, WIDTH = 64, 80
LIGHTS = ("left", "right")
RECIPE = Recipe(
    recipe_id="cover",
    product="cover",
    height=HEIGHT,
    width=WIDTH,
    channels=tuple(Channel(name=name, exposure_us=1000.0, lights={name: 1.0}) for name in LIGHTS),
    defect_classes=(DefectClass(name="pit"), DefectClass(name="stain")),
)
Pixels = NDArray[np.uint8]
PIT = (slice(30, 36), slice(40, 46))


def picture(number: int, *, product: int = 0, moved_px: float = 0.0, spoil: Any = None) -> Pixels:
    """Return part `number` of a product, (2, H, W); `spoil` changes its float levels in place."""
    drawn = np.random.default_rng([7, product])
    relief = ndimage.gaussian_filter(drawn.standard_normal((2, HEIGHT + 60, WIDTH + 60)), (0, 3, 3), mode="wrap")
    relief /= relief.std()
    own = np.random.default_rng([8, product, number])
    place = own.normal(0, 0.3, 2) + moved_px
    moved = np.stack([ndimage.shift(channel, place, order=1, mode="wrap") for channel in relief])
    levels = np.array([110.0, 140.0])[:, None, None] + 25 * moved[:, 30 : 30 + HEIGHT, 30 : 30 + WIDTH]
    levels *= 1 + own.normal(0, 0.01)
    levels += own.normal(0, 3, levels.shape)
    if spoil is not None:
        spoil(levels)
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def pit(levels: NDArray[np.float64]) -> None:
    """Press a pit into the part, dark under the left light alone."""
    levels[0][PIT] -= 60


def frames_of(part_id: str, pixels: Pixels) -> FrameSet:
    """Return a part as the camera hands it over."""
    frames = tuple(
        Frame(name, channel, 8, 1000.0, 0.0, "sim", 1, 0) for name, channel in zip(LIGHTS, pixels, strict=True)
    )
    return FrameSet(1, part_id, "cover", NOON, frames, emulated=True)


def verdict_of(frames: FrameSet) -> Verdict:
    """Return a verdict on it that says nothing bad."""
    return Verdict(
        job_id="j1",
        part_id=frames.part_id,
        recipe_id="cover",
        recipe_version=1,
        outcome=Outcome.OK,
        score=0.1,
        frames_digest=frames.digest(),
        emulated=True,
        created_at=NOON,
    )


class HarvestCell:
    """A state directory with both stores, into which parts are archived."""

    def __init__(self, root: Path) -> None:
        self.state = StateDir.create(root)
        self.line, self.learning = LineStore(self.state), LearningStore(self.state)
        self.line.recipes.add(RECIPE)
        self.harvester = Harvester(self.line, self.learning, self.state)
        self._parts = 0

    def archive(self, part_id: str, pixels: Pixels, **changes: Any) -> None:
        """Archive a part as the line would have."""
        self._parts += 1
        job_id = f"j{self._parts:08d}"
        facts = {"exposure_us": (1000.0, 1000.0), "gain_db": (0.0, 0.0), "metadata": {"emulated": True}}
        stack = StoredStack(pixels, LIGHTS, 8, **(facts | changes))
        path = self.state.archive_path("cover", job_id, NOON)
        self.line.archive.add(
            ArchivedPart(
                job_id=job_id,
                part_id=part_id,
                recipe_id="cover",
                path=self.state.relative(path),
                digest=write_stack(path, stack),
                outcome=Outcome.OK,
                size_bytes=path.stat().st_size,
                emulated=True,
                at=NOON,
            )
        )

    def report(self, part_id: str, outcome: Outcome, defect_class: str = "", source: str = "plc") -> None:
        """Let another station say what it found."""
        self.harvester.report(
            PartReport(part_id=part_id, outcome=outcome, defect_class=defect_class, source=source, at=NOON)
        )

    def good(self, count: int, start: int = 0, *, report: bool = True) -> None:
        """Archive good parts, reported as such unless nobody should speak of them."""
        for number in range(start, start + count):
            self.archive(f"good-{number}", picture(number))
            if report:
                self.report(f"good-{number}", Outcome.OK)

    def run(self) -> dict[str, Any]:
        """Harvest the archive."""
        return self.harvester.run_once("cover")

    def taken(self) -> set[str]:
        """Return the parts that became backgrounds."""
        return {background.part_id for background in self.learning.backgrounds("cover")}

    def close(self) -> None:
        """Let go of everything."""
        self.harvester.stop()
        self.learning.close()
        self.line.close()
