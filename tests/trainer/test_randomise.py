"""Domain randomisation: off unless asked, told in the candidate's record, and as large as asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from cell.defects import Draft
from cell.imaging import noise
from tests.trainer.generate_support import CALIBRATION, NOISE, RECIPE, backgrounds, plate, seeds
from trainer.generate.base import BackgroundSample, GenerateRequest
from trainer.generate.candidates import make_candidates
from trainer.generate.domain import Randomisation

SEEDS = seeds()
#: Production whose lights differ by some percent from part to part.
BACKGROUNDS = [
    replace(one, stack=plate(100 + index, 1 + 0.03 * (index - 1.5))) for index, one in enumerate(backgrounds())
]


def make(folder: Path, asked: Randomisation, on: list[BackgroundSample] = BACKGROUNDS) -> list[Draft]:
    request = GenerateRequest(arm="procedural", per_class=8, classes=("pit",), random_seed=3, randomise=asked)
    return list(make_candidates(request, SEEDS, on, CALIBRATION, RECIPE, workdir=folder))


def before(draft: Draft) -> BackgroundSample:
    return next(one for one in BACKGROUNDS if one.background_id == draft.provenance.background_id)


def test_nothing_is_altered_unasked_and_the_defects_stay_the_same(tmp_path: Path) -> None:
    plain, altered = make(tmp_path, Randomisation()), make(tmp_path, Randomisation(light=1.0))
    for one, other in zip(plain, altered, strict=True):
        assert one.provenance.randomised == {}
        assert np.array_equal(one.stack[:, ~one.support], before(one).stack[:, ~one.support])
        assert other.stack.dtype == one.stack.dtype
        assert np.array_equal(one.mask, other.mask)
        assert one.provenance.parameters == other.provenance.parameters
        assert not np.array_equal(one.stack, other.stack)


def test_light_varies_as_production_does_times_what_was_asked(tmp_path: Path) -> None:
    for times in (1.0, 3.0):
        drafts = make(tmp_path, Randomisation(light=times))
        drawn = np.log([[d.provenance.randomised[f"light_{name}"] for name in ("left", "right")] for d in drafts])
        shown = []
        for draft in drafts:
            outside = before(draft).allowed & ~draft.support
            light = [(s[:, outside] - NOISE.offset_dn).mean(axis=1) for s in (draft.stack, before(draft).stack)]
            shown.append(np.log(light[0] / light[1]))
        assert np.asarray(shown) == pytest.approx(drawn, abs=0.01)
        # The backgrounds' own spread is 3.9 %; 16 draws.
        assert 0.5 < drawn.std() / (0.039 * times) < 1.6


@pytest.mark.parametrize(("asked", "law"), [(Randomisation(focus_px=2.0), 1.0), (Randomisation(noise=2.0), None)])
def test_noise_follows_the_law_after_blurring_and_exceeds_it_only_as_told(
    asked: Randomisation, law: float | None, tmp_path: Path
) -> None:
    level = np.full((2, 120, 150), 1500.0)
    stacks = [np.rint(noise.sample(NOISE, level, np.random.default_rng(n))).astype(np.uint16) for n in range(2)]
    even = [replace(BACKGROUNDS[number], stack=one) for number, one in enumerate(stacks)]
    kernel = np.array([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]]) / 6
    for draft in make(tmp_path, asked, even):
        outside = even[0].allowed & ~ndimage.binary_dilation(draft.support, iterations=12)
        made = float(np.mean([ndimage.convolve(p.astype(float), kernel)[outside].var() for p in draft.stack]))
        wanted = (1 + draft.provenance.randomised["noise"]) * float(noise.sigma_dn(NOISE, 1500.0)) ** 2
        # The finest octave alone, which a blur of less than a pixel thins by a little more than is made up for.
        assert made / wanted == pytest.approx(1.0, abs=0.12)
        assert law is None or draft.provenance.randomised["noise"] == 0.0
