"""The first flow, read from top to bottom: trigger -> frames -> stack -> engine -> regions -> verdict.

What is not known is FAULT: no complete frame set, no model, an engine that fails or answers with what is not a number
between 0 and 1. NG when the highest class score reaches the threshold, OK below.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from cell.clock import Monotonic, monotonic
from cell.errors import DataError, EngineError
from cell.frames import Acquired, FailedAcquisition, FrameSet
from cell.verdicts import Outcome, Region, Timings, Verdict
from daemon import regions
from daemon.acquire import Acquirer
from daemon.intake import Intake, Prepared
from daemon.parts import Part
from daemon.swap import LoadedModel, ModelSlot
from drivers.engines.base import Inference


@dataclass(frozen=True, slots=True, eq=False)
class Inspection:
    """What became of a trigger: its verdict, and its frames when they are complete."""

    verdict: Verdict
    frames: FrameSet | None


class Inspector:
    """Judges parts; called from the line thread alone."""

    def __init__(self, acquirer: Acquirer, slot: ModelSlot, clock: Monotonic = monotonic) -> None:
        self._acquirer = acquirer
        self._slot = slot
        self._clock = clock
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="intake")

    def inspect(self, part: Part, acquired: Callable[[], None], frames: Acquired | None = None) -> Inspection:
        """Return the verdict of a part. `acquired` is called when the part may move on.

        :param frames: what was acquired of it already, on a trigger line; None takes them now.
        """
        model = self._slot.active  # one model for the whole part, whatever is promoted meanwhile
        preprocessing = model.manifest.preprocessing if model is not None else None
        intake = Intake(part.recipe, preprocessing, self._worker)
        if frames is None:
            frames = self._acquirer.take(part, intake.add)
        elif isinstance(frames, FrameSet):
            for frame in frames.frames:
                intake.add(frame)
        acquisition_s = self._clock() - part.received
        if isinstance(frames, FailedAcquisition):
            acquired()
            channels = f" ({', '.join(frames.channels)})" if frames.channels else ""
            return Inspection(self._fault(part, model, f"{frames.fault}{channels}: {frames.detail}"), None)
        frames_digest = ""
        try:
            try:
                prepared = intake.finish()
            finally:
                # Now, a moment before the engine lets go of the interpreter, others may have it to tell that.
                acquired()
            frames_digest = prepared.digest
            verdict = self._judge(part, model, prepared)
        except (EngineError, DataError) as error:
            verdict = self._fault(part, model, f"engine: {error}")
        timings = Timings(
            acquisition_ms=acquisition_s * 1e3,
            inference_ms=verdict.timings.inference_ms,
            total_ms=(self._clock() - part.received) * 1e3,
        )
        return Inspection(verdict.model_copy(update={"frames_digest": frames_digest, "timings": timings}), frames)

    def refuse(self, part: Part, reason: str, frames: FrameSet | None = None) -> Inspection:
        """Return FAULT for a part that gets no frames, or for frames that are no part's."""
        return Inspection(self._fault(part, self._slot.active, reason), frames)

    def close(self) -> None:
        """End the helper thread."""
        self._worker.shutdown()

    def _judge(self, part: Part, model: LoadedModel | None, prepared: Prepared) -> Verdict:
        if model is None or prepared.tensor is None:
            recipe_id = part.recipe.recipe_id
            return self._fault(
                part, None, f"no model is deployed for recipe {recipe_id}: harvest, train and deploy one"
            )
        started = self._clock()
        inference = model.engine.infer(prepared.tensor)
        scores = class_scores(inference, model)
        stack = prepared.stack
        maps = model.manifest.preprocessing.to_frame(inference.probability, stack.shape[1], stack.shape[2])
        found = regions.find(maps, model.manifest.classes, stack, part.recipe, model.manifest.pixel_threshold)
        threshold = part.recipe.threshold if part.recipe.threshold is not None else model.manifest.threshold
        outcome, score, reasons = decide(scores, threshold, found)
        return Verdict(
            job_id=part.job_id,
            part_id=part.part_id,
            physical_part=part.physical_part,
            lot=part.lot,
            meas_id=part.meas_id,
            product_id=part.product_id,
            recipe_id=part.recipe.recipe_id,
            recipe_version=part.recipe.version,
            outcome=outcome,
            score=score,
            threshold=threshold,
            class_scores=scores,
            regions=found,
            reasons=reasons,
            model_digest=model.digest,
            emulated=self._acquirer.emulated,
            created_at=part.created_at,
            timings=Timings(inference_ms=(self._clock() - started) * 1e3),
        )

    def _fault(self, part: Part, model: LoadedModel | None, reason: str) -> Verdict:
        return part.fault(
            reason,
            emulated=self._acquirer.emulated,
            total_s=self._clock() - part.received,
            model_digest=model.digest if model is not None else "",
        )


def class_scores(inference: Inference, model: LoadedModel) -> dict[str, float]:
    """Return the score of each class. Raises `EngineError` unless each is a number in [0, 1].

    The engine has looked already; this is the last place before a verdict, so it looks again.
    """
    classes = model.manifest.classes
    if inference.score.shape != (len(classes),) or inference.probability.shape[0] != len(classes):
        raise EngineError(
            f"model {model.digest[:12]} gave {inference.score.shape[0]} scores for {len(classes)} classes"
        )
    if not np.isfinite(inference.score).all():
        raise EngineError(
            f"model {model.digest[:12]} gave a score that is not a number; roll back to the last good one"
        )
    return {name: min(1.0, max(0.0, float(score))) for name, score in zip(classes, inference.score, strict=True)}


def decide(
    scores: dict[str, float], threshold: float, found: tuple[Region, ...]
) -> tuple[Outcome, float, tuple[str, ...]]:
    """Return outcome, highest score and reasons: at or above the threshold is NG."""
    score = max(scores.values())
    if score < threshold:
        return Outcome.OK, score, ()
    reasons = tuple(
        f"{name}: score {value:.3f} reaches the threshold {threshold:.3f}"
        + ("" if any(region.defect_class == name for region in found) else ", without a region of its own")
        for name, value in sorted(scores.items(), key=lambda item: -item[1])
        if value >= threshold
    )
    return Outcome.NG, score, reasons
