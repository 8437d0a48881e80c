"""Backgrounds, seeds, candidates and the decisions of people about them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from cell import digest
from cell.base import Record
from cell.frames import Stack
from cell.recipes import Name, Rect

#: (H, W) uint8: 0 is good, i + 1 is the recipe's defect class i.
LabelMap = NDArray[np.uint8]
#: (H, W) bool.
Mask = NDArray[np.bool_]


class Split(StrEnum):
    """What a real part may be used for; set per physical part before anything is learned."""

    LEARN = "learn"
    HELD_OUT = "held-out"


class ImageRef(Record):
    """A picture in the store: a path relative to the store's root and the digest of its pixels."""

    path: str
    digest: str


class Background(Record):
    """A good part's frame set, chosen by harvest; candidates are made on it and good training parts come from it."""

    background_id: Name
    recipe_id: Name
    part_id: str
    lot: str = ""
    image: ImageRef
    split: Split
    quality: dict[str, float] = Field(default_factory=dict)  # sharpness, clipped share, distance to the others
    taken_at: datetime


class SeedState(StrEnum):
    """A proposal becomes a seed when a person confirms class and mask."""

    PROPOSED = "proposed"
    CONFIRMED = "confirmed"
    REFUSED = "refused"


class SeedRegion(Record):
    """One connected region of a proposed mask: where it is, on which lights it shows, and what it resembles."""

    box: Rect
    area_px: int = Field(ge=1)
    #: Regions that look alike share a group, "g1", "g2", ... in the order in which groups were met.
    group: str = ""
    #: Class of the group's seeds that a person confirmed or another station reported; empty while nobody said.
    suggested_class: str = ""
    channels: tuple[str, ...] = ()  # lights under which it stands out from good parts
    #: What groups are made by: shape, and contrast on each channel; see :mod:`cell.imaging.likeness`.
    look: tuple[float, ...] = ()


class SeedFinding(Record):
    """What harvest found out about a part that it proposes."""

    regions: tuple[SeedRegion, ...] = ()
    proposed_by: str = ""
    anomaly: float = 0.0


class Seed(Record):
    """A real defect: frame set, mask, class. Only a confirmed seed is learned from or measured against."""

    seed_id: Name
    recipe_id: Name
    part_id: str
    lot: str = ""
    defect_class: Name
    image: ImageRef
    mask: ImageRef  # label image (H, W) uint8, nonzero inside the defect
    box: Rect
    state: SeedState
    split: Split
    confirmed_by: str = ""  # or refused by
    taken_at: datetime
    reason: str = ""  # why it was refused
    regions: tuple[SeedRegion, ...] = ()  # as harvest proposed them, or as a person drew them; the mask counts
    proposed_by: str = ""  # who called the part bad: plc, operator, another station, or anomaly
    anomaly: float = 0.0  # how unlike good parts it is: 1 is a good part's typical score; 0 when nobody measured

    def record_digest(self) -> str:
        """Return the digest of :meth:`Record.record_digest`; fields that came later count where they say something.

        The ledger sealed seeds before there were such fields, and they must still be what it sealed.
        """
        silent = {name for name in _LATER_SEED_FIELDS if not getattr(self, name)}
        return digest.of_record(self.model_dump(mode="json", exclude=silent or None))


_LATER_SEED_FIELDS = ("reason", "regions", "proposed_by", "anomaly")


class GeneratorParameters(Record):
    """What was asked for one candidate. Every number that shaped it stands here."""

    arm: Name  # diffusion, procedural, copypaste, vae, gan, stable-diffusion
    defect_class: Name
    severity: float = Field(gt=0)  # asked for, relative: 1 is the median seed; the result's d-prime is the candidate's
    center_x: float
    center_y: float
    orientation_deg: float = Field(ge=-180, le=180)
    size_px: float = Field(gt=0)  # square root of the support's area
    morphology: dict[str, float] = Field(default_factory=dict)
    random_seed: int = Field(ge=0)
    #: What a run's plan asked of this one and what came of it, by name and in the same units; empty: as the seeds are.
    asked: dict[str, float] = Field(default_factory=dict)
    made: dict[str, float] = Field(default_factory=dict)
    units: dict[str, str] = Field(default_factory=dict)


class Provenance(Record):
    """Where a candidate comes from, complete enough to make it again."""

    background_id: Name
    seed_ids: tuple[Name, ...]
    base_digest: str
    adapter_digest: str
    calibration_digest: str
    parameters: GeneratorParameters
    generator_version: str
    #: How the seed was brought to this cell, pixels and factors: `psf_seed_px`, `psf_target_px`, `blur_px` that was
    #: added and `psf_short_px` that could not be taken away (0: the edge is as sharp as this cell shows edges).
    conditions: dict[str, float] = Field(default_factory=dict)
    #: Recipe whose seeds and adapters were used; empty: the candidate's own.
    adapters_from: str = ""
    #: What was changed of the whole picture, background included, and by how much; empty: nothing outside the support.
    randomised: dict[str, float] = Field(default_factory=dict)


_LATER_PARAMETER_FIELDS = ("asked", "made", "units")
_LATER_PROVENANCE_FIELDS = ("conditions", "adapters_from", "randomised")


@dataclass(frozen=True, slots=True, eq=False)
class DraftRegion:
    """One of several defects on a part: `mask` and `support` (h, w) bool in a window of the frame."""

    window: tuple[slice, slice]
    mask: Mask
    support: Mask
    severity: float  # d-prime
    provenance: Provenance

    @property
    def defect_class(self) -> str:
        """The defect's own class."""
        return self.provenance.parameters.defect_class


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """A candidate before the store has it: pixels, label and all that is said about it.

    `stack` (K, H, W) has the background's dtype and equals it bit for bit where `support` is False; `mask` is what
    was really changed (above 2 sigma of the noise), always inside `support`. `severity` is measured on the result,
    `scores` are the plausibility figures (visibility, nearest_seed, seam, ...) by which review puts doubtful ones
    first. `regions` names each of several defects, the one that was asked for first; empty when there is one.
    """

    stack: Stack
    mask: Mask
    support: Mask
    defect_class: str
    severity: float
    scores: dict[str, float]
    provenance: Provenance
    planted_bad: bool = False
    regions: tuple[DraftRegion, ...] = ()

    def label_image(self) -> LabelMap:
        """Return what is stored as the mask, (H, W) uint8: 255 in the one defect, or i + 1 in region i of several."""
        if not self.regions:
            return np.where(self.mask, np.uint8(255), np.uint8(0))
        numbers = np.zeros(self.mask.shape, np.uint8)
        for number, region in enumerate(self.regions, start=1):
            numbers[region.window][region.mask] = number
        return numbers


class CandidateRegion(Record):
    """One of several defects of a candidate; region i has the value i + 1 in the candidate's mask."""

    defect_class: Name
    box: Rect
    severity: float
    provenance: Provenance


class CandidateState(StrEnum):
    """Where a candidate stands in review; derived from the append-only decisions, never set by hand."""

    WAITING = "waiting"
    ACCEPTED = "accepted"
    REJECTED = "rejected"


class Candidate(Record):
    """A synthetic defect on a real background, waiting for or past its review."""

    candidate_id: Name
    job_id: Name
    recipe_id: Name
    defect_class: Name
    image: ImageRef
    mask: ImageRef
    box: Rect
    severity: float
    scores: dict[str, float]
    provenance: Provenance
    #: Known-bad candidates hidden among the others test the reviewer; they can never enter a training set.
    planted_bad: bool = False
    created_at: datetime
    #: Each of several defects, the one that was asked for first; empty when there is one.
    regions: tuple[CandidateRegion, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """All classes that the candidate shows, its own first."""
        return tuple(dict.fromkeys((self.defect_class, *(region.defect_class for region in self.regions))))

    def record_digest(self) -> str:
        """Return the digest of :meth:`Record.record_digest`; fields that came later count where they say something.

        The ledger sealed candidates before there were such fields, and they must still be what it sealed.
        """
        made = self.provenance
        silent: dict[str, Any] = {name: True for name in _LATER_PROVENANCE_FIELDS if not getattr(made, name)}
        if unsaid := {name for name in _LATER_PARAMETER_FIELDS if not getattr(made.parameters, name)}:
            silent["parameters"] = unsaid
        exclude: dict[str, Any] = {"provenance": silent} if silent else {}
        if not self.regions:
            exclude["regions"] = True
        return digest.of_record(self.model_dump(mode="json", exclude=exclude or None))


class ReviewVerb(StrEnum):
    """The two decisions."""

    ACCEPT = "accept"
    REJECT = "reject"


class ReviewDecision(Record):
    """Who decided what, when and why about which pixels. Append-only and chained: each row seals the one before."""

    sequence: int = Field(ge=1)
    candidate_id: Name
    image_digest: str
    verb: ReviewVerb
    reviewer: str = Field(min_length=1)
    is_person: bool
    reason: str = ""
    displayed_at: datetime
    decided_at: datetime
    seal: str = ""  # HMAC-SHA-256 over the previous seal and this record, by the store's key

    @model_validator(mode="after")
    def _in_order(self) -> ReviewDecision:
        if self.decided_at < self.displayed_at:
            raise ValueError("a decision can't be older than the display of its candidate")
        if self.verb is ReviewVerb.REJECT and not self.reason:
            raise ValueError("a rejection needs a reason")
        return self


#: Tag of a synthetic sample: the physical parts, comma-separated, that it is made of beside its background's.
PASTED_FROM = "pasted_from"


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One image for training or evaluation, in memory.

    `stack` (K, H, W) uint8 or uint16 DN; `labels` (H, W) uint8; `group` is the physical part, so that no split ever
    puts one part on two sides; `weight` is the share in the sampler.
    """

    stack: Stack
    labels: LabelMap
    group: str
    synthetic: bool = False
    weight: float = 1.0
    sample_id: str = ""
    tags: dict[str, str] = field(default_factory=dict)
