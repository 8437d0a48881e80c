from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cell import digest
from cell.calibration import Calibration, CalibrationKind, ChannelCalibration, Illumination, NoiseModel
from cell.defects import Candidate, CandidateState, ReviewVerb, SeedFinding, SeedRegion, SeedState, Split
from cell.errors import CalibrationError, DataError, GateError, ModelError, NotFound, StateError, StoreError
from cell.imaging.preprocess import Preprocessing
from cell.models import EvaluationReport, ModelManifest, RateBound
from cell.recipes import Rect
from cell.store.images import write_stack
from cell.store.learning import LearningStore
from tests.store.helpers import (
    NOON,
    RECIPE,
    Clock,
    changed_pixels,
    draft_on,
    fill,
    mask_of,
    open_state,
    review,
    stack_of,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LearningStore]:
    with LearningStore(open_state(tmp_path), clock=Clock()) as opened:
        yield opened


def test_a_background_is_a_file_a_row_and_a_split(store: LearningStore) -> None:
    stack = stack_of(1)
    background = store.add_background("plate", "p1", stack, Split.LEARN, lot="l7", quality={"sharpness": 2.5})
    assert store.background(background.background_id) == background
    assert np.array_equal(store.read_image(background.image).pixels, stack.pixels)
    held = store.add_background("plate", "p2", stack_of(2), Split.HELD_OUT)
    assert store.backgrounds("plate") == (background, held)
    assert store.backgrounds("plate", Split.HELD_OUT) == (held,)
    assert store.backgrounds("other") == ()
    assert store.split_of("plate", "p1") is Split.LEARN
    assert store.splits("plate") == {"p1": Split.LEARN, "p2": Split.HELD_OUT}
    with pytest.raises(NotFound):
        store.background("b999999")


def test_a_part_never_stands_on_two_sides(store: LearningStore) -> None:
    store.assign_split("plate", "p1", Split.HELD_OUT, lot="l1")
    store.assign_split("plate", "p1", Split.HELD_OUT)
    for attempt in (
        lambda: store.assign_split("plate", "p1", Split.LEARN),
        lambda: store.add_background("plate", "p1", stack_of(1), Split.LEARN),
        lambda: store.propose_seed("plate", "p1", stack_of(1), mask_of(), "pit", Split.LEARN),
    ):
        with pytest.raises(StoreError, match="two sides"):
            attempt()
    assert store.backgrounds("plate") == ()
    assert store.seeds("plate") == ()
    assert not list(store.state.backgrounds.rglob("*.tif"))
    assert store.split_of("plate", "p1") is Split.HELD_OUT
    assert store.split_of("plate", "P1") is None
    store.assign_split("plate2", "p1", Split.LEARN)  # another product's parts have ids of their own
    assert store.splits("plate") == {"p1": Split.HELD_OUT}
    with pytest.raises(DataError, match="without an id"):
        store.assign_split("plate", "", Split.LEARN)


def test_a_seed_is_proposed_confirmed_corrected_and_taken_back(store: LearningStore) -> None:
    proposed = store.propose_seed("plate", "p1", stack_of(1), mask_of(), "scratch", Split.LEARN, lot="l1")
    assert (proposed.state, proposed.confirmed_by) == (SeedState.PROPOSED, "")
    larger = mask_of(x=2, y=3, size=6)
    seed = store.confirm_seed(proposed.seed_id, "pit", larger, "Ada")
    assert (seed.state, seed.defect_class, seed.confirmed_by) == (SeedState.CONFIRMED, "pit", "Ada")
    assert (seed.box.x, seed.box.y, seed.box.width, seed.box.height) == (2, 3, 6, 6)
    assert np.array_equal(store.read_mask(seed.mask), larger)
    assert np.array_equal(store.read_mask(proposed.mask), mask_of())  # the proposal's own mask is still there
    again = store.confirm_seed(proposed.seed_id, "pit", mask_of(), "Bob")
    assert store.seeds("plate", state=SeedState.CONFIRMED, split=Split.LEARN, defect_class="pit") == (again,)
    assert store.seeds("plate", state=SeedState.PROPOSED) == ()
    assert store.refuse_seed(seed.seed_id, "Ada", " a fibre,\n it wipes off ").state is SeedState.REFUSED
    assert store.seed(seed.seed_id).reason == "a fibre, it wipes off"
    # Seeds were sealed before they could have a reason and what harvest finds, and must still be what was sealed.
    assert again.record_digest() == digest.of_record(
        again.model_dump(mode="json", exclude={"reason", "regions", "proposed_by", "anomaly"})
    )
    with pytest.raises(StateError, match="was refused"):
        store.confirm_seed(seed.seed_id, "pit", larger, "Ada")


def test_the_regions_are_those_of_the_mask_that_a_person_drew(store: LearningStore) -> None:
    found = SeedFinding(regions=(SeedRegion(box=Rect(x=4, y=5, width=3, height=3), area_px=9, group="g1"),))
    proposed = store.propose_seed("plate", "p1", stack_of(1), mask_of(), "scratch", Split.LEARN, found=found)
    seed = store.confirm_seed(proposed.seed_id, "pit", mask_of(x=2, y=3, size=6) | mask_of(x=15, y=5), "Ada")
    assert [(one.group, one.area_px) for one in seed.regions] == [("g1", 36), ("", 9)]
    assert store.seed(seed.seed_id) == seed


def test_a_mask_of_another_size_or_without_pixels_is_refused(store: LearningStore) -> None:
    seed = store.propose_seed("plate", "p1", stack_of(1), mask_of(), "pit", Split.LEARN)
    wrong: list[Any] = [np.ones((3, 3), np.bool_), np.zeros_like(mask_of()), mask_of().astype(np.uint8)]
    for mask in wrong:
        with pytest.raises(DataError):
            store.confirm_seed(seed.seed_id, "pit", mask, "Ada")
        with pytest.raises(DataError):
            store.propose_seed("plate", "p2", stack_of(2), mask, "pit", Split.LEARN)
    with pytest.raises(GateError, match="say who you are"):
        store.confirm_seed(seed.seed_id, "pit", mask_of(), "  ")
    with pytest.raises(GateError, match="not a person"):
        store.confirm_seed(seed.seed_id, "pit", mask_of(), "demo-script (not a person)")
    assert store.seed(seed.seed_id) == seed


def test_a_picture_that_was_exchanged_is_refused(store: LearningStore) -> None:
    background = store.add_background("plate", "p1", stack_of(1), Split.LEARN)
    write_stack(store.state.resolve(background.image.path), changed_pixels(stack_of(1)))
    with pytest.raises(DataError, match="other pixels than the store recorded"):
        store.read_image(background.image)


def test_candidates_are_listed_with_what_was_decided(store: LearningStore) -> None:
    first, second, third, fourth = fill(store, candidates=4)
    assert store.read_image(first.image).metadata["synthetic"] is True
    assert np.array_equal(store.read_mask(first.mask), mask_of(x=10, y=8))
    review(store, first.candidate_id)
    review(store, second.candidate_id, ReviewVerb.REJECT)
    review(store, third.candidate_id)
    review(store, third.candidate_id, ReviewVerb.REJECT)

    def ids(**wanted: object) -> list[str]:
        return [row.candidate.candidate_id for row in store.candidates.list("plate", **wanted)]  # type: ignore[arg-type]

    every = [one.candidate_id for one in (first, second, third, fourth)]
    assert ids() == every
    assert ids(state=CandidateState.ACCEPTED) == [every[0]]
    assert ids(state=CandidateState.REJECTED) == every[1:3]
    assert ids(state=CandidateState.WAITING) == every[3:]
    assert ids(defect_class="pit") == [every[1], every[3]]
    assert ids(job_id="t00001", limit=2) == every[:2]
    assert ids(job_id="t00002") == []
    row = store.candidates.get(every[2])
    assert row.state is CandidateState.REJECTED
    assert row.decision is not None
    assert row.decision.reason == "not plausible"
    counts = store.candidates.counts("plate")
    assert counts["pit"] == {CandidateState.WAITING: 1, CandidateState.ACCEPTED: 0, CandidateState.REJECTED: 1}
    assert counts["scratch"] == {CandidateState.WAITING: 0, CandidateState.ACCEPTED: 1, CandidateState.REJECTED: 1}
    with pytest.raises(NotFound):
        store.candidates.get("c999999")


def test_a_draft_must_keep_its_promises(store: LearningStore) -> None:
    fill(store, candidates=0)
    seeds = tuple(seed.seed_id for seed in store.seeds("plate", defect_class="pit"))
    good = draft_on(store, "b000001", seeds, "pit")
    outside = good.stack.copy()
    outside[0, 0, 0] ^= 1
    broken = {
        "outside its support": replace(good, stack=outside),
        "reaches outside": replace(good, mask=mask_of(x=0, y=0)),
        "background's own size": replace(good, stack=good.stack[:, :-1]),
        "(2, 24, 32) uint16": replace(good, stack=good.stack.astype(np.uint16)),
        "is empty": replace(good, mask=np.zeros_like(good.mask)),
        "is held out": draft_on(store, "b000003", seeds, "pit"),
        "not a confirmed one": replace(
            good,
            provenance=good.provenance.model_copy(
                update={
                    "seed_ids": (
                        store.propose_seed("plate", "px", stack_of(70), mask_of(), "pit", Split.LEARN).seed_id,
                    )
                }
            ),
        ),
    }
    for reason, draft in broken.items():
        with pytest.raises(DataError) as caught:
            store.candidates.add_many("t00001", "plate", [good, draft])
        assert reason in str(caught.value)
    with pytest.raises(DataError, match="of another recipe"):
        store.candidates.add("t00001", "other", good)
    lost = good.provenance.model_copy(update={"background_id": "b999999"})
    with pytest.raises(NotFound):
        store.candidates.add("t00001", "plate", replace(good, provenance=lost))
    assert store.candidates.list("plate") == ()
    assert not list(store.state.candidates.rglob("*.tif"))
    assert store.candidates.add_many("t00001", "plate", []) == ()
    assert isinstance(store.candidates.add("t00001", "plate", good), Candidate)


def calibration(name: str, **changes: object) -> Calibration:
    channel = ChannelCalibration(
        channel="left",
        noise=NoiseModel(gain_dn_per_e=0.1, read_noise_dn=1.0, offset_dn=2.0, saturation_dn=255, lag1_correlation=0.0),
        illumination=Illumination(grid=((1.0, 1.0), (1.0, 1.0)), mean_dn=120),
        psf_sigma_px=0.7,
    )
    values = {
        "calibration_id": name,
        "recipe_id": "plate",
        "kind": CalibrationKind.MEASURED,
        "channels": (channel,),
        "frames_used": 16,
        "created_at": NOON,
    }
    return Calibration.model_validate({**values, **changes})


def test_the_newest_valid_calibration_counts(store: LearningStore) -> None:
    with pytest.raises(CalibrationError, match="has no calibration"):
        store.calibration("plate")
    outdated = calibration("k2", created_at=NOON + timedelta(minutes=2), valid_until=NOON)
    found = store.add_calibration(outdated)
    with pytest.raises(CalibrationError, match="is outdated since"):
        store.calibration("plate")
    valid = calibration("k1")
    store.add_calibration(valid)
    assert store.add_calibration(valid) == valid.record_digest()
    assert store.calibration("plate") == valid
    assert store.calibrations("plate") == (outdated, valid)
    assert store.calibration_by_digest(found) == outdated
    with pytest.raises(StoreError, match="is taken"):
        store.add_calibration(calibration("k1", frames_used=17))
    with pytest.raises(NotFound):
        store.calibration_by_digest("0" * 64)


def model(onnx: bytes, name: str, minutes: int = 0) -> ModelManifest:
    none = RateBound(count=0, parts=0, rate=None, lower_95=None, upper_95=None)
    report = EvaluationReport(
        threshold=0.5,
        threshold_source="test",
        false_acceptance=none,
        false_rejection=none,
        recall_by_class={},
        auroc=None,
        auroc_macro=None,
        pixel_ap=None,
        pixel_ap_macro=None,
        validated=False,
        findings=("no held-out parts",),
    )
    return ModelManifest(
        model_id=name,
        recipe_id="plate",
        recipe_version=1,
        onnx_file="model.onnx",
        onnx_digest=digest.of_bytes(onnx),
        classes=RECIPE.class_names,
        channels=RECIPE.channel_names,
        preprocessing=Preprocessing.for_recipe(RECIPE),
        threshold=0.5,
        golden=(),
        training_set_digest="0" * 64,
        reviewed_by_people=True,
        emulated=False,
        evaluation=report,
        parity=None,
        created_at=NOON + timedelta(minutes=minutes),
    )


def test_models_are_registered_with_the_file_they_name(store: LearningStore) -> None:
    manifests = []
    for minutes, content in enumerate((b"one", b"two")):
        manifest = model(content, f"m{minutes}", minutes)
        folder = store.state.model_folder(manifest.onnx_digest)
        with pytest.raises(ModelError, match="can't read"):
            store.register_model(manifest, folder)
        folder.mkdir()
        (folder / "model.onnx").write_bytes(b"something else")
        with pytest.raises(ModelError, match="is not the file"):
            store.register_model(manifest, folder)
        (folder / "model.onnx").write_bytes(content)
        with pytest.raises(ModelError, match="must lie in"):
            store.register_model(manifest, folder.parent)
        store.register_model(manifest, folder)
        store.register_model(manifest, folder)
        manifests.append(manifest)
    first, second = manifests
    assert store.models() == (second, first)
    assert store.models("other") == ()
    assert store.model("m0") == first
    assert store.model(second.onnx_digest) == second
    assert store.model(second.onnx_digest[:10]) == second
    for name in ("", "m9", "%"):
        with pytest.raises(NotFound):
            store.model(name)
    with pytest.raises(ModelError, match="is taken"):
        store.register_model(first.model_copy(update={"threshold": 0.1}), store.state.model_folder(first.onnx_digest))
