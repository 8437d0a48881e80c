"""What harvest knows of one recipe, and how it is kept from one process to the next."""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cell.defects import Seed, SeedState, Split
from cell.errors import DataError
from cell.imaging.background import BackgroundModel
from cell.imaging.channels import ChannelBook
from cell.imaging.likeness import Groups
from cell.imaging.registration import locate
from cell.recipes import Recipe
from cell.store.files import write_bytes
from cell.store.layout import StateDir
from cell.store.learning import LearningStore
from cell.verdicts import Outcome
from daemon.harvest.coverage import Coverage
from daemon.harvest.findings import Journal
from daemon.harvest.learned import LearnedOddity
from daemon.harvest.nursery import Nursery
from daemon.harvest.quality import Quality
from daemon.harvest.sheet import ContactSheet

_LOG = logging.getLogger(__name__)

#: Backgrounds from which a model that was lost is made again.
_MADE_AGAIN_FROM = 64
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Shown:
    """One picture of a part as the line or the archive gives it."""

    part_id: str
    physical: str
    outcome: Outcome
    image_digest: str
    at: datetime
    lot: str = ""


@dataclass(slots=True)
class Gathered:
    """See the module. Whoever changes it holds `turn`: the harvest thread, or a run through the archive."""

    recipe: Recipe
    model: BackgroundModel
    quality: Quality
    nursery: Nursery[Shown]
    oddity: LearnedOddity
    coverage: Coverage = field(default_factory=Coverage)
    journal: Journal = field(default_factory=Journal)
    groups: Groups = field(default_factory=Groups)
    known: dict[str, str] = field(default_factory=dict)  # digest of a picture taken or refused -> its physical part
    repeated: set[tuple[str, str]] = field(default_factory=set)  # digests that came again, and of which part
    backgrounds: Counter[Split] = field(default_factory=Counter)
    proposals: int = 0  # that nobody asked for and nobody has looked at yet
    acceptance: bool = False
    sheet: ContactSheet = field(default_factory=ContactSheet)
    turn: threading.Lock = field(default_factory=threading.Lock)

    def save(self, state: StateDir) -> None:
        """Write model, figures and contact sheet. Raises `StoreError` when the disk is full."""
        if self.model.ready:
            self.model.save(_model_path(state, self.recipe.recipe_id))
        facts = {
            "format": _FORMAT,
            "channels": list(self.recipe.channel_names),
            "quality": self.quality.state(),
            "coverage": self.coverage.state(),
            "journal": self.journal.state(),
        }
        write_bytes(_facts_path(state, self.recipe.recipe_id), json.dumps(facts).encode())
        self.sheet.save(sheet_path(state, self.recipe.recipe_id))


def sheet_path(state: StateDir, recipe_id: str) -> Path:
    """Return where the contact sheet lies."""
    return state.backgrounds / f"{recipe_id}.sheet.png"


def recall(recipe: Recipe, state: StateDir, learning: LearningStore) -> Gathered:
    """Return what earlier harvests of a recipe left behind."""
    gathered = _remembered(recipe, state)
    for background in learning.backgrounds(recipe.recipe_id, withdrawn=True):
        gathered.known[background.image.digest] = background.part_id
    gathered.backgrounds = Counter(one.split for one in learning.backgrounds(recipe.recipe_id))
    seeds = learning.seeds(recipe.recipe_id)
    for seed in seeds:
        gathered.known[seed.image.digest] = seed.part_id
        gathered.proposals += seed.state is SeedState.PROPOSED and seed.proposed_by == "anomaly"
    gathered.groups = Groups.of((seed.regions, _said(seed)) for seed in seeds)
    if not gathered.model.ready:
        make_again(gathered, learning)
    return gathered


def make_again(gathered: Gathered, learning: LearningStore) -> None:
    """Learn the model anew from the newest backgrounds that may be learned from; one that can't be read is passed."""
    recipe = gathered.recipe
    gathered.model = BackgroundModel(len(recipe.channels), recipe.bit_depth)
    _model_path(learning.state, recipe.recipe_id).unlink(missing_ok=True)
    for background in learning.backgrounds(recipe.recipe_id, Split.LEARN)[-_MADE_AGAIN_FROM:]:
        try:
            pixels = learning.read_image(background.image).pixels
        except DataError as error:
            _LOG.warning("the background model does without %s: %s", background.background_id, error)
            continue
        place = locate(pixels, recipe.carrier_max_dn)
        if place is not None and pixels.shape[0] == gathered.model.channels:
            gathered.model.add(pixels, place.mask)


def _remembered(recipe: Recipe, state: StateDir) -> Gathered:
    channels = len(recipe.channels)
    model = BackgroundModel(channels, recipe.bit_depth)
    path = _model_path(state, recipe.recipe_id)
    if path.exists():
        try:
            loaded = BackgroundModel.load(path)
            model = loaded if loaded.channels == channels else model
        except DataError as error:
            _LOG.warning("%s", error)
    quality = Quality(ChannelBook(recipe.channel_names, recipe.bit_depth))
    oddity = LearnedOddity(state.backgrounds, recipe)
    gathered = Gathered(recipe, model, quality, Nursery(state.backgrounds), oddity)
    path = _facts_path(state, recipe.recipe_id)
    if path.exists():
        try:
            facts = json.loads(path.read_bytes())
            if facts["format"] == _FORMAT and facts["channels"] == list(recipe.channel_names):
                gathered.coverage = Coverage.recalled(facts["coverage"])
                gathered.journal = Journal.recalled(facts["journal"])
                gathered.quality.recall(facts["quality"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            # Only what is told to people is lost, and made anew as parts come.
            _LOG.warning("%s can't be read (%s); the figures of harvest begin anew", path, error)
            gathered.quality = Quality(ChannelBook(recipe.channel_names, recipe.bit_depth))
    return gathered


def _said(seed: Seed) -> str:
    """Return the class that somebody gave a seed; empty where harvest only suggested one."""
    somebody = seed.state is SeedState.CONFIRMED or seed.proposed_by not in ("", "anomaly")
    return seed.defect_class if somebody and seed.state is not SeedState.REFUSED else ""


def _model_path(state: StateDir, recipe_id: str) -> Path:
    return state.backgrounds / f"{recipe_id}.model.npz"


def _facts_path(state: StateDir, recipe_id: str) -> Path:
    return state.backgrounds / f"{recipe_id}.harvest.json"
