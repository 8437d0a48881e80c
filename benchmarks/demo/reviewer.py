"""The scripted reviewer that stands in for a person in an unattended demo.

It is shown what a person is shown (the candidate's pixels, the background, the confirmed seeds of the class) and
nothing that a person is not. It is recorded as not a person, and what it accepts can train models for emulated cells
only.
"""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from cell.defects import Background, Mask, Seed, SeedState, Split
from cell.errors import DataError
from cell.frames import Stack
from cell.recipes import Recipe
from cell.store.images import read_label, read_stack
from cell.wire.client import Client

NAME = "demo-script (not a person)"

#: A candidate may be this much stronger than the strongest seed of its class and this much larger or smaller.
_STRENGTH_MARGIN, _AREA_MARGIN = 1.6, 6.0
#: Largest share of a mask that may lie beside the part or in a zone that is not inspected.
_OUTSIDE_SHARE = 0.02


@dataclass(frozen=True, slots=True)
class ClassLook:
    """What the confirmed seeds of one class look like: the limits of what is believable."""

    strength: float  # largest contrast against the surroundings, in robust sigmas of the surroundings
    roughness: float  # largest share of pixel-to-pixel alternation in the contrast
    least_area: float
    greatest_area: float


@dataclass(slots=True)
class Decisions:
    """Count of what was decided and why."""

    accepted: int = 0
    rejected: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


def confirm_seeds(
    client: Client, recipe_id: str, state_dir: Path, truth: Callable[[str], tuple[str | None, Mask]]
) -> tuple[int, int]:
    """Confirm every proposal with the class and mask that the quality department's records give; refuse good parts.

    :param truth: defect class (None for a good part) and mask (H, W) of a part id.
    :returns: numbers of confirmed and refused proposals.
    """
    confirmed = refused = 0
    reply = client.call("inspectd.seeds", {"recipe_id": recipe_id, "state": SeedState.PROPOSED.value}, timeout_s=30)
    for record in reply["seeds"]:
        seed = Seed.model_validate(record)
        # The store names the physical part; the picture itself knows under which id it was triggered.
        picture = read_stack(state_dir / seed.image.path)
        defect_class, mask = truth(str(picture.metadata["part_id"]))
        if defect_class is None or not mask.any():
            refusal = {"seed_id": seed.seed_id, "reviewer": NAME, "reason": "a good part"}
            client.call("inspectd.seed.refuse", refusal, timeout_s=30)
            refused += 1
            continue
        arguments = {
            "seed_id": seed.seed_id,
            "defect_class": defect_class,
            "reviewer": NAME,
            "is_person": False,
            "mask_png_base64": _png(mask),
        }
        try:
            client.call("inspectd.seed.confirm", arguments, timeout_s=30)
            confirmed += 1
        except DataError as error:
            # Another picture of a part that is confirmed already, most often: what the store refuses, a person would.
            refusal = {"seed_id": seed.seed_id, "reviewer": NAME, "reason": str(error)}
            client.call("inspectd.seed.refuse", refusal, timeout_s=30)
            refused += 1
    return confirmed, refused


class ScriptedReviewer:
    """Reviews every waiting candidate of a recipe, one by one, through the same commands as the review page."""

    def __init__(self, client: Client, state_dir: Path, recipe: Recipe) -> None:
        self._client = client
        self._state = state_dir
        self._recipe = recipe
        seeds = client.call(
            "inspectd.seeds", {"recipe_id": recipe.recipe_id, "state": SeedState.CONFIRMED.value}, timeout_s=30
        )
        confirmed = [Seed.model_validate(record) for record in seeds["seeds"]]
        # Held-out parts decide about the model; they must not decide about its training images.
        self._looks = self._learn([seed for seed in confirmed if seed.split is Split.LEARN])

    def review(self, progress: Callable[[int, int], None]) -> Decisions:
        """Decide until nothing waits; `progress` is told how many are done, and of how many."""
        decisions = Decisions()
        while True:
            asked = {"recipe_id": self._recipe.recipe_id, "reviewer": NAME}
            shown = self._client.call("inspectd.review.next", asked, timeout_s=30)
            if shown["candidate"] is None:
                return decisions
            done = decisions.accepted + decisions.rejected
            progress(done, done + int(shown["waiting"]))
            token = self._client.call(
                "inspectd.review.displayed",
                {"candidate_id": shown["candidate"]["candidate_id"], "reviewer": NAME},
                timeout_s=30,
            )["token"]
            reason = self._reason_to_reject(shown["candidate"], Background.model_validate(shown["background"]))
            self._decide(shown["candidate"]["candidate_id"], token, reason)
            if reason:
                decisions.rejected += 1
                decisions.reasons[reason] += 1
            else:
                decisions.accepted += 1

    def _decide(self, candidate_id: str, token: str, reason: str) -> None:
        arguments = {
            "candidate_id": candidate_id,
            "verb": "reject" if reason else "accept",
            "reviewer": NAME,
            "is_person": False,
            "reason": reason,
            "token": token,
        }
        self._client.call("inspectd.review.decide", arguments, timeout_s=30)

    def _reason_to_reject(self, candidate: dict[str, object], background: Background) -> str:
        stack = read_stack(self._state / _path(candidate["image"])).pixels
        mask = read_label(self._state / _path(candidate["mask"])) > 0
        untouched = read_stack(self._state / background.image.path).pixels
        look = self._looks.get(str(candidate["defect_class"]))
        if look is None:
            return "no confirmed seed of this class to compare with"
        if not mask.any():
            return "nothing is to be seen"
        residual = stack.astype(np.float32) - untouched.astype(np.float32)
        area = float(mask.sum())
        strength = _strength(residual, mask, _spread(untouched, mask))
        findings = (
            (self._outside(mask, untouched) > _OUTSIDE_SHARE, "lies beside the inspected part"),
            (not look.least_area / _AREA_MARGIN <= area <= look.greatest_area * _AREA_MARGIN, "size unlike any seed"),
            (strength > look.strength * _STRENGTH_MARGIN, "contrast stronger than any seed"),
            (_roughness(residual, mask) > max(look.roughness * _STRENGTH_MARGIN, 0.6), "texture unlike any seed"),
        )
        return next((reason for wrong, reason in findings if wrong), "")

    def _outside(self, mask: Mask, untouched: Stack) -> float:
        allowed = np.ones(mask.shape, np.bool_)
        if self._recipe.carrier_max_dn is not None:
            part = (untouched > self._recipe.carrier_max_dn).any(axis=0)
            allowed &= ndimage.binary_closing(part, iterations=3, border_value=1)
        for zone in self._recipe.exclusions:
            allowed[zone.y : zone.y + zone.height, zone.x : zone.x + zone.width] = False
        return float((mask & ~allowed).sum() / mask.sum())

    def _learn(self, seeds: list[Seed]) -> dict[str, ClassLook]:
        looks: dict[str, list[tuple[float, float, float]]] = {}
        for seed in seeds:
            stack = read_stack(self._state / seed.image.path).pixels
            mask = read_label(self._state / seed.mask.path) > 0
            residual = stack.astype(np.float32) - _surroundings(stack, mask)[:, None, None]
            spread = _spread(stack, mask)
            look = (_strength(residual, mask, spread), _roughness(residual, mask), float(mask.sum()))
            looks.setdefault(seed.defect_class, []).append(look)
        return {name: _look(rows) for name, rows in looks.items()}


def _look(rows: list[tuple[float, float, float]]) -> ClassLook:
    strengths, roughnesses, areas = zip(*rows, strict=True)
    return ClassLook(max(strengths), max(roughnesses), min(areas), max(areas))


def _ring(mask: Mask) -> Mask:
    near = ndimage.binary_dilation(mask, iterations=12) & ~ndimage.binary_dilation(mask, iterations=2)
    return near if near.any() else ~mask


def _surroundings(stack: Stack, mask: Mask) -> NDArray[np.float32]:
    return np.median(stack[:, _ring(mask)], axis=1).astype(np.float32)


def _spread(stack: Stack, mask: Mask) -> NDArray[np.float32]:
    """Return the robust standard deviation of each channel around the mask, at least 1 DN; (K,) float32."""
    ring = stack[:, _ring(mask)].astype(np.float32)
    deviation = np.median(np.abs(ring - np.median(ring, axis=1, keepdims=True)), axis=1)
    return np.maximum(1.4826 * deviation, 1.0).astype(np.float32)


def _strength(residual: NDArray[np.float32], mask: Mask, spread: NDArray[np.float32]) -> float:
    """Return the 95 % quantile of the contrast in the mask, in spreads, of the strongest channel."""
    inside = np.abs(residual[:, mask]) / spread[:, None]
    return float(np.percentile(inside, 95, axis=1).max())


def _roughness(residual: NDArray[np.float32], mask: Mask) -> float:
    """Return the share of the contrast's energy that alternates from pixel to pixel, in [0, 1]."""
    inside = np.where(mask, residual, 0)
    smooth = ndimage.uniform_filter(inside, size=(1, 3, 3))
    energy = float((inside[:, mask] ** 2).sum())
    return float(((inside - smooth)[:, mask] ** 2).sum()) / energy if energy else 0.0


def _path(reference: object) -> str:
    if not isinstance(reference, dict):
        raise TypeError("the reply's picture is not a reference")
    return str(reference["path"])


def _png(mask: Mask) -> str:
    stream = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()
