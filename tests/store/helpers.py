"""What the store's tests share: small real stacks, a filled learning store, the attacker's raw connection."""

from __future__ import annotations

import atexit
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from cell.defects import Candidate, Draft, GeneratorParameters, Mask, Provenance, ReviewVerb, Split
from cell.frames import StoredStack
from cell.recipes import Channel, DefectClass, Recipe
from cell.store.layout import StateDir
from cell.store.learning import LearningStore
from cell.verdicts import Outcome, Verdict

HEIGHT, WIDTH = 24, 32
RECIPE = Recipe(
    recipe_id="plate",
    product="plate",
    height=HEIGHT,
    width=WIDTH,
    channels=(
        Channel(name="left", exposure_us=1000, lights={"a": 1.0}),
        Channel(name="right", exposure_us=1500, lights={"b": 1.0}),
    ),
    defect_classes=(DefectClass(name="scratch"), DefectClass(name="pit")),
)
NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class Clock:
    """Time that moves on by a second whenever it is read, or stands."""

    def __init__(self, *, step_s: float = 1.0) -> None:
        self.now = NOON
        self.step = timedelta(seconds=step_s)

    def __call__(self) -> datetime:
        self.now += self.step
        return self.now


def stack_of(seed: int, *, emulated: bool | None = False) -> StoredStack:
    """Return a random stack of the recipe's size."""
    pixels = np.random.default_rng(seed).integers(80, 160, (2, HEIGHT, WIDTH), dtype=np.uint8)
    metadata: dict[str, Any] = {} if emulated is None else {"emulated": emulated}
    return StoredStack(pixels, ("left", "right"), 8, (1000.0, 1500.0), (0.0, 0.0), metadata)


def mask_of(x: int = 4, y: int = 5, size: int = 3) -> Mask:
    """Return a square mask."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.bool_)
    mask[y : y + size, x : x + size] = True
    return mask


def draft_on(
    store: LearningStore, background_id: str, seed_ids: tuple[str, ...], defect_class: str, *, planted: bool = False
) -> Draft:
    """Return a candidate on a background: the same pixels but for a darker square."""
    background = store.read_image(store.background(background_id).image)
    mask = mask_of(x=10, y=8)
    support = mask_of(x=9, y=7, size=5)
    pixels = background.pixels.copy()
    pixels[:, mask] //= 2
    parameters = GeneratorParameters(
        arm="procedural",
        defect_class=defect_class,
        severity=5.0,
        center_x=11,
        center_y=9,
        orientation_deg=0,
        size_px=3,
        random_seed=1,
    )
    provenance = Provenance(
        background_id=background_id,
        seed_ids=seed_ids,
        base_digest="",
        adapter_digest="",
        calibration_digest="",
        parameters=parameters,
        generator_version="1",
    )
    return Draft(pixels, mask, support, defect_class, 5.0, {"visibility": 4.0}, provenance, planted)


def fill(
    store: LearningStore, *, candidates: int = 4, emulated: bool = False, is_person: bool = True
) -> list[Candidate]:
    """Put in 4 backgrounds (2 to learn from), 3 confirmed seeds of two parts for each class, and candidates."""
    for part in range(4):
        side = Split.LEARN if part < 2 else Split.HELD_OUT
        store.add_background("plate", f"good-{part}", stack_of(part, emulated=emulated), side, lot="l1")
    who = "Ada Moser" if is_person else "demo-script (not a person)"
    for index, defect_class in enumerate(RECIPE.class_names):
        for number in range(3):
            part_id = f"bad-{defect_class}-{number % 2}"
            image = stack_of(100 + 10 * index + number, emulated=emulated)
            seed = store.propose_seed("plate", part_id, image, mask_of(), "scratch", Split.LEARN)
            store.confirm_seed(seed.seed_id, defect_class, mask_of(size=4), who, is_person=is_person)
    drafts = [
        draft_on(
            store,
            f"b{1 + number % 2:06d}",
            tuple(seed.seed_id for seed in store.seeds("plate", defect_class=defect_class)),
            defect_class,
        )
        for number in range(candidates)
        for defect_class in (RECIPE.class_names[number % 2],)
    ]
    return list(store.candidates.add_many("t00001", "plate", drafts))


def review(
    store: LearningStore,
    candidate_id: str,
    verb: ReviewVerb = ReviewVerb.ACCEPT,
    *,
    reviewer: str = "Ada Moser",
    is_person: bool = True,
) -> None:
    """Show one candidate and decide about it."""
    token = store.gate.displayed(candidate_id, reviewer)
    reason = "" if verb is ReviewVerb.ACCEPT else "not plausible"
    store.gate.decide(candidate_id, verb, reviewer=reviewer, is_person=is_person, token=token, reason=reason)


@contextmanager
def raw(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database as an attacker does: no pragma, no code of ours."""
    connection = sqlite3.connect(path)
    try:
        with connection:
            yield connection
    finally:
        connection.close()


def disarm(connection: sqlite3.Connection) -> None:
    """Drop every trigger, as whoever owns the file can."""
    names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]
    for name in names:
        connection.execute(f"DROP TRIGGER {name}")


def verdict_of(job_id: str, **changes: Any) -> Verdict:
    """Return a plain verdict."""
    values: Mapping[str, Any] = {
        "job_id": job_id,
        "part_id": f"p-{job_id}",
        "recipe_id": "plate",
        "recipe_version": 1,
        "outcome": Outcome.OK,
        "emulated": True,
        "created_at": NOON,
    }
    return Verdict(**{**values, **changes})


def changed_pixels(stack: StoredStack) -> StoredStack:
    """Return the stack with one pixel altered."""
    pixels = stack.pixels.copy()
    pixels[0, 0, 0] ^= 1
    return replace(stack, pixels=pixels)


def open_state(tmp_path: Path) -> StateDir:
    """Make the state directory of a test, in memory where the machine has such a file system.

    There fsync costs nothing, and these tests ask for hundreds; those about durability use the disk.
    """
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        return StateDir.create(tmp_path / "state")
    return StateDir.create(_memory_root() / tmp_path.relative_to("/"))


@cache
def _memory_root() -> Path:
    root = Path(tempfile.mkdtemp(prefix="inspectd-store-", dir="/dev/shm"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return root
