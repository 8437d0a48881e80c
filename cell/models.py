"""Training-set manifests, reports and model manifests: the papers a model carries from training to deployment."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import Field, model_validator

from cell.base import Record
from cell.imaging.preprocess import Preprocessing
from cell.recipes import Name


class SampleKind(StrEnum):
    """Where a training image comes from."""

    BACKGROUND = "background"
    SEED = "seed"
    SYNTHETIC = "synthetic"


class ManifestItem(Record):
    """One image of a training set and, when synthetic, the decision that let it in."""

    kind: SampleKind
    item_id: Name
    part_id: str
    defect_class: Name | None = None
    image_digest: str
    mask_digest: str | None = None
    decision_sequence: int | None = None


class TrainingSet(Record):
    """The hashed list of all that a training may see. Only the learning store can issue one.

    `seal` is an HMAC by the store's key over :meth:`content_digest`; the trainer and the deployment verify it with
    the store.
    """

    manifest_id: Name
    recipe_id: Name
    recipe_version: int
    classes: tuple[Name, ...]
    channels: tuple[Name, ...]
    items: tuple[ManifestItem, ...]
    reviewers: tuple[str, ...]
    #: True when every synthetic image was accepted by a person; models of scripted reviews run on emulated cells only.
    reviewed_by_people: bool
    #: True when any frame came from an emulated cell.
    emulated: bool
    issued_at: datetime
    seal: str = ""

    def content_digest(self) -> str:
        """Return the digest over everything but the seal; it is what the seal signs."""
        return self.model_copy(update={"seal": ""}).record_digest()


class RateBound(Record):
    """A rate with its exact binomial bounds (Clopper and Pearson 1934), counted in physical parts.

    `count` parts of `parts` are what the rate is of: wrongly judged ones, or found ones where it is a recall.
    """

    count: int = Field(ge=0)
    parts: int = Field(ge=0)
    rate: float | None  # None when there are no parts
    lower_95: float | None
    upper_95: float | None

    @model_validator(mode="before")
    @classmethod
    def _former_name(cls, values: Any) -> Any:
        # Models that were stored when it was called `errors` must stay deployable.
        if isinstance(values, dict) and "errors" in values and "count" not in values:
            return {("count" if key == "errors" else key): value for key, value in values.items()}
        return values


class EvaluationReport(Record):
    """What held-out real parts say of a model. Synthetic images never enter here."""

    threshold: float
    threshold_source: str  # e.g. "grouped 5-fold cross-validation inside the learning parts"
    false_acceptance: RateBound
    false_rejection: RateBound
    recall_by_class: dict[str, RateBound]
    auroc: float | None
    auroc_macro: float | None
    pixel_ap: float | None
    pixel_ap_macro: float | None
    validated: bool
    #: Plain sentences: why it is not validated and what is missing.
    findings: tuple[str, ...] = ()
    worst_misses: tuple[str, ...] = ()  # ids of held-out parts, worst first


class ParityReport(Record):
    """Exported model against the trained one, on real frames."""

    engine: str
    frames: int
    max_probability_difference: float
    max_score_difference: float
    verdict_flips: int
    passed: bool


class GoldenImage(Record):
    """A real frame set whose scores under this model are known: the self-test at every load."""

    image_path: str  # relative to the model's folder
    image_digest: str
    scores: tuple[float, ...]  # per class, by the exported model


class ModelManifest(Record):
    """All that must be known to let a model judge. Lies beside the ONNX file as ``manifest.json``."""

    model_id: Name
    recipe_id: Name
    recipe_version: int
    onnx_file: str
    onnx_digest: str  # SHA-256 of the file; it is the model's identity in every verdict
    classes: tuple[Name, ...]
    channels: tuple[Name, ...]
    preprocessing: Preprocessing
    threshold: float  # on the highest class score: at or above is NG
    pixel_threshold: float = 0.5  # on the probability map, for regions
    score_tolerance: float = 1e-3  # golden images and parity
    golden: tuple[GoldenImage, ...]
    training_set_digest: str
    reviewed_by_people: bool
    emulated: bool  # learned from an emulated cell or by a scripted reviewer: refused by any real cell
    evaluation: EvaluationReport
    parity: ParityReport | None
    created_at: datetime
