"""What is asked of candidates comes out: strength, direction, size, place, outline, number and classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from scipy.stats import spearmanr

from cell import digest
from cell.defects import Candidate, Draft
from cell.errors import DataError, JobError
from cell.imaging import noise
from cell.recipes import Rect
from tests.trainer.generate_support import (
    CALIBRATION,
    CARRIER,
    HEIGHT,
    NOISE,
    RECIPE,
    WIDTH,
    backgrounds,
    plate,
    seeds,
)
from tests.trainer.test_planted import draft as planted_draft
from trainer.generate import plan
from trainer.generate.base import BackgroundSample, GenerateRequest, Scene, SeedSample
from trainer.generate.candidates import make_candidates
from trainer.generate.control import Asked, Control
from trainer.generate.lay import lay_at
from trainer.generate.looks import look_at
from trainer.generate.outlines import longest
from trainer.planted import spoil

BACKGROUNDS, SEEDS = backgrounds(), seeds()
#: The plate's lay is upright.
LAY_DEG = 90.0
ZONE = Rect(x=30, y=50, width=50, height=50)


def lines() -> list[SeedSample]:
    """Return straight dark lines in several directions, as seeds of class crack; none touches an edge."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    found = []
    for part, angle in enumerate((10.0, 50.0, 100.0, 160.0)):
        x, y = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        across, along = (columns - 60) * y - (rows - 70) * x, (columns - 60) * x + (rows - 70) * y
        line = np.clip(2.0 - np.abs(across), 0, 1) * (np.abs(along) < 15)
        mask = (np.abs(across) < 5) & (np.abs(along) < 18)
        found.append(SeedSample(f"line{part}", f"p{part}", "crack", plate(part, 1 - 0.5 * line), mask))
    return found


LINES = lines()


def make(folder: Path, control: Control, count: int = 8, name: str = "pit", **changes: object) -> list[Draft]:
    own = [*(seed for seed in SEEDS if seed.defect_class == "pit"), *LINES]
    request = GenerateRequest("procedural", count, (name,), random_seed=3, control=control, **changes)  # type: ignore[arg-type]
    return list(make_candidates(request, own, BACKGROUNDS, CALIBRATION, RECIPE, workdir=folder))


def before(draft: Draft) -> np.ndarray:
    name = draft.provenance.background_id
    return next(one.stack for one in BACKGROUNDS if one.background_id == name).astype(np.float64)


def asked(draft: Draft, name: str) -> float:
    return draft.provenance.parameters.asked[name]


def test_severity_comes_out_as_asked(tmp_path: Path) -> None:
    drafts = make(tmp_path, Control(severity=(0.4, 1.6), size=(0.9, 1.1)), 16)
    dimmed = [float(np.mean(1 - (d.stack / before(d))[:, d.mask])) for d in drafts]
    assert spearmanr([asked(d, "severity") for d in drafts], dimmed).statistic >= 0.95
    # The median seed takes 0.6 of the light in its middle; asked for 1, that is about what comes.
    [one] = make(tmp_path, Control(severity=(1.0, 1.0)), 1)
    change = ndimage.uniform_filter(1 - one.stack / before(one), (0, 3, 3))[:, one.mask]
    assert change.max() == pytest.approx(0.6, abs=0.15)


def test_an_absolute_severity_is_met(tmp_path: Path) -> None:
    for draft in make(tmp_path, Control(severity=(100.0, 400.0), severity_unit="d-prime"), 6):
        sigma = noise.sigma_dn(NOISE, before(draft))
        measured = float(np.sqrt(((draft.stack - before(draft)) / sigma)[:, draft.mask].__pow__(2).sum()))
        assert measured == pytest.approx(asked(draft, "severity"), rel=0.15)
        assert draft.provenance.parameters.units["severity"] == "d-prime"


def test_direction_is_relative_to_the_lay(tmp_path: Path) -> None:
    drafts = make(tmp_path, Control(orientation=(20.0, 40.0)), 8, "crack")
    for draft in drafts:
        rows, columns = np.nonzero(draft.mask)
        x, y = columns - columns.mean(), rows - rows.mean()
        axis = 0.5 * np.degrees(np.arctan2(2 * (x * y).mean(), (x * x).mean() - (y * y).mean()))
        assert abs((axis - LAY_DEG - asked(draft, "orientation") + 90) % 180 - 90) < 6.0
        assert 20.0 <= asked(draft, "orientation") <= 40.0


def test_the_lay_is_seen_where_there_is_one() -> None:
    rng = np.random.default_rng(0)
    everywhere = np.ones((200, 200), np.bool_)
    rows, columns = np.mgrid[:200, :200]
    for angle in (-70.0, -20.0, 0.0, 35.0, 85.0):
        across = columns * np.sin(np.radians(angle)) - rows * np.cos(np.radians(angle))
        grooves = np.interp(across, np.arange(-300, 300), rng.normal(0, 30, 600))
        stack = np.clip(1000 + grooves + rng.normal(0, 15, grooves.shape), 0, 4095).astype(np.uint16)[None]
        found = lay_at(stack, everywhere, 100, 100)
        assert found.known
        assert abs((found.direction_deg - angle + 90) % 180 - 90) < 2.0
    plain = np.clip(1000 + rng.normal(0, 15, (1, 200, 200)), 0, 4095).astype(np.uint16)
    assert not lay_at(plain, everywhere, 100, 100).known


def test_size_in_pixels_is_the_label_s(tmp_path: Path) -> None:
    drafts = make(tmp_path, Control(size=(15.0, 45.0), size_unit="px"), 10, "crack")
    errors = []
    for draft in drafts:
        rows, columns = (axis.astype(float) for axis in np.nonzero(draft.mask))
        longest = max(
            np.ptp(np.cos(a) * columns + np.sin(a) * rows) + 1 for a in np.linspace(0, np.pi, 36, endpoint=False)
        )
        errors.append(abs(longest / asked(draft, "size") - 1))
    assert np.median(errors) < 0.10
    assert max(errors) < 0.25


def test_outlines_get_thicker_at_their_length() -> None:
    scene = Scene(RECIPE, CALIBRATION, {"crack": tuple(LINES)}, tuple(BACKGROUNDS))
    outlines = [look_at(seed, scene).outline for seed in LINES]
    request = GenerateRequest("procedural", 1)

    def thickness(width: float) -> float:
        asked, control = Asked(width=width, size=1.0), Control(width=(width, width), size=(1.0, 1.0))
        drawn = [
            plan.draw(outlines, BACKGROUNDS[0], request, np.random.default_rng(i), asked, control) for i in range(8)
        ]
        return float(np.median([s.mask.sum() / longest(s.mask) for s in drawn if s is not None]))

    thin, usual, thick = (thickness(width) for width in (0.5, 1.0, 2.0))
    assert thick / usual == pytest.approx(2.0, rel=0.25)
    assert thin / usual == pytest.approx(0.5, rel=0.35)


def test_outlines_branch(tmp_path: Path) -> None:
    plain, branched = (make(tmp_path, Control(branches=(n, n), size=(1.0, 1.0)), 5, "crack") for n in (0, 4))

    def filled(drafts: list[Draft]) -> float:
        """Return by how much the label is thicker than a line: its spread across over that along."""
        values = [np.linalg.eigvalsh(np.cov(np.stack(np.nonzero(d.mask)).astype(float))) for d in drafts]
        return float(np.median([np.sqrt(v[0] / v[1]) for v in values]))

    assert filled(branched) > 1.5 * filled(plain)
    assert all(d.provenance.parameters.made["branches"] == 4 for d in branched)


def test_outlines_lie_between_two_seeds_and_beyond(tmp_path: Path) -> None:
    drafts = make(tmp_path, Control(mix=(0.3, 1.4)), 6)
    assert all(len(draft.provenance.seed_ids) == 2 for draft in drafts)
    assert [d.provenance.parameters.made["mix"] for d in drafts] == [asked(d, "mix") for d in drafts]


def test_zones_and_surface_are_kept_to(tmp_path: Path) -> None:
    zone = np.zeros((HEIGHT, WIDTH), np.bool_)
    zone[ZONE.y : ZONE.y + ZONE.height, ZONE.x : ZONE.x + ZONE.width] = True
    for draft in make(tmp_path, Control(zones=(ZONE,)), 8):
        assert not (draft.support & ~zone).any()
    # The plate is brighter further down: asked for the darkest third, nothing lies in the lower half.
    for draft in make(tmp_path, Control(level=(0.0, 0.33), uniform_share=1.0), 8):
        assert draft.provenance.parameters.center_y < HEIGHT / 2


def test_several_defects_are_labelled_each_for_itself(tmp_path: Path) -> None:
    for draft in make(tmp_path, Control(count=(2, 2), together={"crack": 1.0}), 4):
        assert [region.defect_class for region in draft.regions] == ["pit", "pit", "crack"]
        labels = draft.label_image()
        assert np.array_equal(labels > 0, draft.mask)
        assert sorted(np.unique(labels)) == [0, 1, 2, 3]
        assert np.array_equal(draft.stack[:, ~draft.support], before(draft)[:, ~draft.support])
        # Apart, so that none is another's.
        assert ndimage.label(draft.support, structure=np.ones((3, 3)))[1] >= 3
        assert set(draft.provenance.seed_ids) == {s for r in draft.regions for s in r.provenance.seed_ids}
        assert draft.defect_class == "pit"


def test_a_spoilt_one_of_several_keeps_the_others(tmp_path: Path) -> None:
    [draft] = make(tmp_path, Control(count=(2, 2)), 1)
    background = next(one for one in BACKGROUNDS if one.background_id == draft.provenance.background_id)
    spoilt = spoil(draft, background.stack, background.allowed, RECIPE.bit_depth, np.random.default_rng(1))
    other = draft.regions[1]
    assert [region.defect_class for region in spoilt.regions] == ["pit", "pit"]
    assert np.array_equal(spoilt.label_image() == 2, draft.label_image() == 2)
    rows, columns = other.window
    kept = spoilt.stack[:, rows, columns][:, other.mask] == draft.stack[:, rows, columns][:, other.mask]
    assert kept.all()
    assert not (spoilt.mask & ~spoilt.support).any()
    outside = ~spoilt.support
    assert np.array_equal(spoilt.stack[:, outside], background.stack[:, outside])


def test_what_can_not_be_had_is_told_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="zones of pit leave no place"):
        make(tmp_path, Control(zones=(Rect(x=0, y=0, width=CARRIER - 4, height=20),)))
    with pytest.raises(DataError, match="no pixels per mm"):
        make(tmp_path, Control(size=(1.0, 2.0), size_unit="mm"))
    with pytest.raises(JobError, match=r"no usable candidate in 25 attempts .*\(severity 0.001\)"):
        make(tmp_path, Control(severity=(0.001, 0.001)), 1)
    with pytest.raises(JobError, match="size 400"):
        make(tmp_path, Control(size=(400.0, 400.0), size_unit="px"), 1)


def test_pictures_that_do_not_fit_are_told(tmp_path: Path) -> None:
    def attempt(backgrounds: list[BackgroundSample], seeds: list[SeedSample] = LINES) -> None:
        request = GenerateRequest("procedural", 1, ("crack",))
        list(make_candidates(request, seeds, backgrounds, CALIBRATION, RECIPE, workdir=tmp_path))

    good = BACKGROUNDS[0]
    with pytest.raises(DataError, match="background b0 has uint8 values"):
        attempt([replace(good, stack=(good.stack >> 4).astype(np.uint8))])
    with pytest.raises(DataError, match="values up to 65535, the recipe plate has 12 bits"):
        attempt([replace(good, stack=np.full_like(good.stack, 65535))])
    with pytest.raises(DataError, match="has 1 channels, the recipe plate has 2"):
        attempt([replace(good, stack=good.stack[:1])])
    wide = np.pad(good.stack, ((0, 0), (0, 0), (0, 10))).astype(np.uint16)
    with pytest.raises(DataError, match="has 160x120 pixels, the recipe plate has 150x120"):
        attempt([replace(good, stack=wide, allowed=np.ones(wide.shape[1:], np.bool_))])
    with pytest.raises(DataError, match="its map of allowed places 149x120"):
        attempt([replace(good, allowed=good.allowed[:, 1:])])
    with pytest.raises(DataError, match=r"mask of seed line0 covers \d+ % of its part"):
        attempt([good], [replace(LINES[0], mask=np.ones_like(LINES[0].mask)), *LINES[1:]])


def test_candidates_of_before_keep_their_seal() -> None:
    draft = planted_draft()
    row = Candidate.model_validate(
        {
            "candidate_id": "c1",
            "job_id": "t1",
            "recipe_id": "plate",
            "defect_class": "pit",
            "image": {"path": "a", "digest": "b"},
            "mask": {"path": "c", "digest": "d"},
            "box": {"x": 1, "y": 1, "width": 2, "height": 2},
            "severity": 1.0,
            "scores": {},
            "provenance": draft.provenance.model_dump(),
            "created_at": "2026-01-01T00:00:00Z",
        }
    )
    told = row.provenance.parameters.model_copy(update={"asked": {"size": 1.0}})
    newer = row.model_copy(update={"provenance": row.provenance.model_copy(update={"parameters": told})})
    # What has nothing new to say is sealed as it was; what was asked counts.
    old = row.model_dump(mode="json")
    del old["regions"]
    for new in ("conditions", "adapters_from", "randomised"):
        del old["provenance"][new]
    for new in ("asked", "made", "units"):
        del old["provenance"]["parameters"][new]
    assert row.record_digest() == digest.of_record(old)
    assert newer.record_digest() != row.record_digest()
