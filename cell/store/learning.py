"""The learning database: real images, splits, calibrations, models; and beside it jobs, candidates and the gate."""
# mypy: ignore-errors
from __future__ import annotations
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cell.base import Record
from cell.calibration import Calibration
from cell.clock import WallClock, utc_now
from cell.defects import *
from cell.events import Event, ResultReady
from cell.frames import StoredStack
from cell.jobs import Job, JobKind, JobState, Progress
from cell.models import ManifestItem, ModelManifest, TrainingSet
from cell.recipes import Recipe
from cell.verdicts import Outcome, Verdict
from cell.wire.messages import Command, Reply
from cell.store.layout import StateDir
from cell.store.requests import RequestLedger
from cell.store.jobs import Jobs
from cell.store.candidates import Candidates
from cell.store.gate import Gate

class LearningStore:
    """Safe for threads and for several processes (daemon's harvest, trainer, web)."""

    state: StateDir
    requests: RequestLedger     # the trainer service's commands
    jobs: Jobs
    candidates: Candidates
    gate: Gate

    def __init__(self, state: StateDir, *, clock: WallClock = utc_now) -> None: ...
    def close(self) -> None: ...
    # splits: per recipe and physical part, append-only
    def assign_split(self, recipe_id: str, part_id: str, split: Split, *, lot: str = "") -> None: ...   # StoreError when the part stands on the other side
    def split_of(self, recipe_id: str, part_id: str) -> Split | None: ...
    def splits(self, recipe_id: str) -> dict[str, Split]: ...
    # real images; `stack.metadata["emulated"]` must say False for a real cell, anything else counts as emulated
    def add_background(self, recipe_id: str, part_id: str, stack: StoredStack, split: Split, *, lot: str = "", quality: Mapping[str, float] = {}, taken_at: datetime | None = None) -> Background: ...
    def background(self, background_id: str) -> Background: ...
    def backgrounds(self, recipe_id: str, split: Split | None = None) -> tuple[Background, ...]: ...
    def propose_seed(self, recipe_id: str, part_id: str, stack: StoredStack, mask: Mask, defect_class: str, split: Split, *, lot: str = "", taken_at: datetime | None = None) -> Seed: ...
    def confirm_seed(self, seed_id: str, defect_class: str, mask: Mask, person: str, *, is_person: bool = True) -> Seed: ...
    def refuse_seed(self, seed_id: str, person: str) -> Seed: ...
    def seed(self, seed_id: str) -> Seed: ...
    def seeds(self, recipe_id: str, *, state: SeedState | None = None, split: Split | None = None, defect_class: str = "") -> tuple[Seed, ...]: ...
    # pixels, digest verified on every read
    def read_image(self, image: ImageRef) -> StoredStack: ...
    def read_mask(self, mask: ImageRef) -> Mask: ...
    # papers
    def add_calibration(self, calibration: Calibration) -> str: ...   # digest
    def calibration(self, recipe_id: str) -> Calibration: ...          # latest that is valid now; CalibrationError
    def calibration_by_digest(self, digest: str) -> Calibration: ...
    def register_model(self, manifest: ModelManifest, folder: Path) -> None: ...  # folder already durable under models/<onnx digest>
    def model(self, onnx_digest: str) -> ModelManifest: ...            # full digest, model id or unique prefix
    def models(self, recipe_id: str = "") -> tuple[ModelManifest, ...]: ...  # newest first

