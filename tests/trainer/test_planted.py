"""Known-bad candidates: plainly wrong to whoever looks, and told by nothing but their pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cell.defects import Draft, GeneratorParameters, Provenance
from tests.trainer.service_support import HEIGHT, WIDTH, defect_mask, picture
from trainer.planted import choose, spoil


def draft() -> Draft:
    stack, mask = picture(1).pixels, defect_mask(1, "pit")
    stack[:, mask] //= 2
    parameters = GeneratorParameters(
        arm="diffusion",
        defect_class="pit",
        severity=1,
        center_x=1,
        center_y=1,
        orientation_deg=0,
        size_px=7,
        random_seed=1,
    )
    provenance = Provenance(
        background_id="b000001",
        seed_ids=("s000001",),
        base_digest="a",
        adapter_digest="b",
        calibration_digest="c",
        parameters=parameters,
        generator_version="1",
    )
    return Draft(stack, mask, mask, "pit", 5.0, {"visibility": 0.9}, provenance)


BACKGROUND = picture(1).pixels
WHOLE = np.ones((HEIGHT, WIDTH), np.bool_)
WITH_CARRIER = WHOLE.copy()
WITH_CARRIER[:, :30] = False


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("allowed", [WHOLE, WITH_CARRIER], ids=["the part fills the frame", "beside the part"])
def test_a_spoilt_candidate_keeps_the_promises_of_the_store_and_looks_wrong(seed: int, allowed: np.ndarray) -> None:
    genuine = draft()
    bad = spoil(genuine, BACKGROUND, allowed, 8, np.random.default_rng(seed))
    assert bad.planted_bad
    assert bad.stack.dtype == BACKGROUND.dtype
    assert np.array_equal(bad.stack[:, ~bad.support], BACKGROUND[:, ~bad.support])
    assert bad.mask.any()
    assert not (bad.mask & ~bad.support).any()
    beside = not (bad.mask & allowed).any()
    # Either where no defect can be, or alternating at full contrast from pixel to pixel.
    steps = np.abs(np.diff(bad.stack[0].astype(int), axis=0))[bad.mask[1:] & bad.mask[:-1]]
    assert beside or np.median(steps) == 255
    # Numbers and provenance are the genuine one's: a reviewer has to look.
    assert (bad.scores, bad.severity, bad.provenance) == (genuine.scores, genuine.severity, genuine.provenance)


def test_a_spoilt_one_of_an_altered_picture_is_altered_as_well() -> None:
    genuine = draft()
    provenance = genuine.provenance.model_copy(update={"randomised": {"noise": 0.1}})
    altered = replace(genuine, stack=genuine.stack // 2 + 1, provenance=provenance)
    for seed in range(12):
        bad = spoil(altered, BACKGROUND, WITH_CARRIER, 8, np.random.default_rng(seed))
        assert np.array_equal(bad.stack[:, ~bad.support], altered.stack[:, ~bad.support])
        steps = np.abs(np.diff(bad.stack[0].astype(int), axis=0))[bad.mask[1:] & bad.mask[:-1]]
        assert np.median(steps) == 255


def test_every_kind_comes_up() -> None:
    drafts = [spoil(draft(), BACKGROUND, WITH_CARRIER, 8, np.random.default_rng(seed)) for seed in range(30)]
    beside = sum(not (one.mask & WITH_CARRIER).any() for one in drafts)
    assert 3 < beside < 27


def test_the_spoilt_are_spread_over_the_run_but_not_at_its_beginning() -> None:
    chosen = choose(200, 10, spared=5, random_seed=3)
    assert len(chosen) == 10
    assert min(chosen) >= 5
    assert max(chosen) - min(chosen) > 60
    assert chosen == choose(200, 10, spared=5, random_seed=3)
    assert choose(4, 9, spared=5, random_seed=0) == frozenset(range(4))
    assert choose(10, 0, spared=5, random_seed=0) == frozenset()
