"""Candidates: identical outside, repeatable, where and how strong they were asked for, refused in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr

from cell.defects import Draft
from cell.errors import DataError, JobCancelled, JobError
from cell.jobs import Progress
from tests.trainer.generate_support import (
    BIT_DEPTH,
    CALIBRATION,
    CARRIER,
    EXCLUSION,
    HEIGHT,
    RECIPE,
    WIDTH,
    backgrounds,
    plate,
    seeds,
)
from trainer.generate import plan
from trainer.generate.base import BackgroundSample, GenerateRequest, Scene, SeedSample
from trainer.generate.candidates import make_candidates
from trainer.generate.looks import look_at, random_phase

BACKGROUNDS, SEEDS = backgrounds(), seeds()
ARMS = ("procedural", "copypaste")


def make(folder: Path, arm: str, **changes: object) -> list[Draft]:
    values: dict[str, object] = {"arm": arm, "per_class": 6, "random_seed": 3} | changes
    request = GenerateRequest(**values)  # type: ignore[arg-type]
    return list(make_candidates(request, SEEDS, BACKGROUNDS, CALIBRATION, RECIPE, workdir=folder))


def background_of(draft: Draft) -> BackgroundSample:
    return next(one for one in BACKGROUNDS if one.background_id == draft.provenance.background_id)


@pytest.mark.parametrize("arm", ARMS)
def test_candidates_keep_every_promise(arm: str, tmp_path: Path) -> None:
    drafts = make(tmp_path, arm)
    assert [draft.defect_class for draft in drafts] == ["pit", "crack"] * 6
    for draft in drafts:
        before = background_of(draft)
        assert draft.stack.dtype == before.stack.dtype
        assert np.array_equal(draft.stack[:, ~draft.support], before.stack[:, ~draft.support])
        assert not (draft.support & ~before.allowed).any()
        assert draft.mask.sum() >= 4
        assert not (draft.mask & ~draft.support).any()
        assert draft.severity > 0
        provenance = draft.provenance
        assert provenance.calibration_digest == CALIBRATION.record_digest()
        assert set(provenance.seed_ids) <= {s.seed_id for s in SEEDS if s.defect_class == draft.defect_class}
        rows, columns = np.nonzero(draft.mask)
        assert provenance.parameters.center_y == pytest.approx(rows.mean())
        assert provenance.parameters.center_x == pytest.approx(columns.mean())
        # Both lights dim: one defect, two views.
        change = draft.stack.astype(float) - before.stack
        assert (change[:, draft.mask].mean(axis=1) < 0).all()


def test_nothing_touches_carrier_or_exclusion(tmp_path: Path) -> None:
    zone = np.zeros((HEIGHT, WIDTH), np.bool_)
    zone[EXCLUSION.y : EXCLUSION.y + EXCLUSION.height, EXCLUSION.x : EXCLUSION.x + EXCLUSION.width] = True
    zone[:CARRIER] = zone[-CARRIER:] = zone[:, :CARRIER] = zone[:, -CARRIER:] = True
    drafts = make(tmp_path, "procedural", per_class=30, uniform_share=1.0)
    assert not any((draft.support & zone).any() for draft in drafts)
    # And what is allowed is used: pits lie in every quarter of the part.
    quarters = {
        (d.provenance.parameters.center_y > HEIGHT / 2, d.provenance.parameters.center_x > WIDTH / 2) for d in drafts
    }
    assert len(quarters) == 4


@pytest.mark.parametrize("arm", ARMS)
def test_the_same_request_gives_the_same_candidates(arm: str, tmp_path: Path) -> None:
    one, two, other = make(tmp_path, arm), make(tmp_path, arm), make(tmp_path, arm, random_seed=4)
    assert all(np.array_equal(a.stack, b.stack) for a, b in zip(one, two, strict=True))
    assert all(a.provenance == b.provenance for a, b in zip(one, two, strict=True))
    assert not any(np.array_equal(a.stack, b.stack) for a, b in zip(one, other, strict=True))


def test_a_resumed_run_goes_on_with_the_same_candidates(tmp_path: Path) -> None:
    request = GenerateRequest(arm="procedural", per_class=5, random_seed=3)
    whole = list(make_candidates(request, SEEDS, BACKGROUNDS, CALIBRATION, RECIPE, workdir=tmp_path))
    rest = list(make_candidates(request, SEEDS, BACKGROUNDS, CALIBRATION, RECIPE, workdir=tmp_path, skip=7))
    assert [np.array_equal(a.stack, b.stack) for a, b in zip(whole[7:], rest, strict=True)] == [True] * 3


@pytest.mark.parametrize("arm", ARMS)
def test_severity_asked_for_is_severity_measured(arm: str, tmp_path: Path) -> None:
    asked, measured = [], []
    for severity in np.geomspace(0.4, 1.6, 8):
        drafts = make(tmp_path, arm, per_class=3, classes=("pit",), severity=(severity, severity), size=(1.0, 1.0))
        asked.append(severity)
        measured.append(np.mean([draft.severity for draft in drafts]))
    assert spearmanr(asked, measured).statistic >= 0.95


def test_size_asked_for_is_size_made(tmp_path: Path) -> None:
    small, large = (
        np.median([d.mask.sum() for d in make(tmp_path, "procedural", per_class=9, classes=("pit",), size=(s, s))])
        for s in (0.8, 1.6)
    )
    assert large / small == pytest.approx(4.0, rel=0.35)


def test_defects_lie_on_a_surface_as_bright_as_their_seeds(tmp_path: Path) -> None:
    # Half of the part is a dark recess: there, no seed lies.
    dark = np.where(np.arange(WIDTH) < WIDTH // 2, 0.15, 1.0)[None, :]
    recessed = [replace(one, stack=plate(100 + index, dark)) for index, one in enumerate(BACKGROUNDS)]
    pits = [seed for seed in SEEDS if seed.defect_class == "pit"]

    def columns_of(of: list[SeedSample]) -> list[float]:
        request = GenerateRequest(arm="procedural", per_class=12, classes=("pit",), random_seed=3, uniform_share=1.0)
        drafts = make_candidates(request, of, recessed, CALIBRATION, RECIPE, workdir=tmp_path)
        return [draft.provenance.parameters.center_x for draft in drafts]

    assert min(columns_of(pits)) > WIDTH // 2 - 8
    # Where every seed lies on a surface of another kind, the class is made all the same.
    dimmer = [replace(seed, stack=(seed.stack * np.float64(0.4)).astype(np.uint16)) for seed in pits]
    assert len(columns_of(dimmer)) == 12


def test_a_crack_that_starts_at_the_edge_does_so_again(tmp_path: Path) -> None:
    # Seeds start at the upper edge; mirrored ones at the lower.
    for draft in make(tmp_path, "procedural", per_class=12, classes=("crack",)):
        rows = np.flatnonzero(draft.mask.any(axis=1))
        assert rows[0] <= CARRIER + 4 or rows[-1] >= HEIGHT - CARRIER - 5


def test_a_generous_mask_is_drawn_in() -> None:
    scene = Scene(RECIPE, CALIBRATION, {"crack": tuple(SEEDS)}, tuple(BACKGROUNDS))
    look = look_at(next(seed for seed in SEEDS if seed.defect_class == "crack"), scene)
    assert look.outline.area < 0.5 * look.seed.mask.sum()
    # What was left out does not stand out: the contrast is inside.
    inside = look.distance > 0
    assert look.contrast[:, inside].mean() < -0.25
    assert look.outline.touches == ((True, False), (False, False))


def test_texture_has_the_spectrum_of_its_texton_and_none_of_its_phases() -> None:
    rng = np.random.default_rng(0)
    streaks = np.repeat(rng.standard_normal((1, 40)), 30, axis=0)[None].astype(np.float32)
    texton = streaks / np.sqrt((streaks**2).sum()) * 0.2
    drawn = random_phase(np.concatenate([texton, 2 * texton]), (90, 80), rng)
    assert drawn.shape == (2, 90, 80)
    assert np.allclose(drawn[1], 2 * drawn[0], atol=1e-5)
    assert drawn[0].std() == pytest.approx(0.2, rel=0.3)
    down, across = (np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in _neighbours(drawn[0]))
    assert down > 0.9 > 0.5 > abs(across)


def _neighbours(field: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(field[1:], field[:-1]), (field[:, 1:], field[:, :-1])]


def test_orientation_is_the_long_axis() -> None:
    rows, columns = np.mgrid[:60, :60] - 30.0
    for angle in (-70.0, -20.0, 0.0, 35.0, 80.0):
        x, y = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        line = (np.abs(columns * y - rows * x) < 2) & (np.abs(columns * x + rows * y) < 25)
        assert plan.orientation(line) == pytest.approx(angle, abs=2)


def test_a_large_picture_costs_its_copy_and_the_window(tmp_path: Path) -> None:
    stack: NDArray[np.uint16] = np.tile(plate(1)[:, 20:100, 20:130], (1, 25, 19)).astype(np.uint16)
    recipe = RECIPE.model_copy(
        update={
            "height": stack.shape[1],
            "width": stack.shape[2],
            "roi": None,
            "exclusions": (),
            "carrier_max_dn": None,
        }
    )
    large = BackgroundSample("large", "p9", stack, np.ones(stack.shape[1:], np.bool_))
    request = GenerateRequest(arm="procedural", per_class=2, classes=("pit",))
    drafts = list(make_candidates(request, SEEDS, [large], CALIBRATION, recipe, workdir=tmp_path))
    assert all(draft.support.sum() < 2000 for draft in drafts)


def test_what_can_not_be_made_is_told(tmp_path: Path) -> None:
    def attempt(seeds: list[SeedSample], backgrounds: list[BackgroundSample], arm: str = "procedural") -> None:
        request = GenerateRequest(arm=arm, per_class=1, classes=("pit",))
        list(make_candidates(request, seeds, backgrounds, CALIBRATION, RECIPE, workdir=tmp_path))

    with pytest.raises(DataError, match="no confirmed seeds of class pit"):
        attempt([], BACKGROUNDS)
    pits = [seed for seed in SEEDS if seed.defect_class == "pit"]
    with pytest.raises(DataError, match="class pit has 2 confirmed seeds"):
        attempt(pits[:2], BACKGROUNDS)
    with pytest.raises(DataError, match="all 3 seeds of class pit are of part p1"):
        attempt([replace(seed, part_id="p1") for seed in pits[:3]], BACKGROUNDS)
    with pytest.raises(DataError, match="no backgrounds"):
        attempt(SEEDS, [])
    with pytest.raises(DataError, match="choose one of"):
        attempt(SEEDS, BACKGROUNDS, arm="magic")
    nowhere = replace(BACKGROUNDS[0], allowed=np.zeros((HEIGHT, WIDTH), np.bool_))
    with pytest.raises(DataError, match="exclusion zones"):
        attempt(SEEDS, [nowhere])
    slit = np.zeros((HEIGHT, WIDTH), np.bool_)
    slit[60, 70:72] = True
    with pytest.raises(JobError, match="no place"):
        attempt(SEEDS, [replace(BACKGROUNDS[0], allowed=slit)])
    with pytest.raises(DataError, match="empty mask"):
        SeedSample("s", "p", "pit", plate(1), np.zeros((HEIGHT, WIDTH), np.bool_))
    with pytest.raises(DataError, match="picture's size"):
        SeedSample("s", "p", "pit", plate(1), np.ones((HEIGHT, WIDTH - 1), np.bool_))


def _append_each(made: list[Draft], drafts: Iterator[Draft]) -> None:
    for draft in drafts:
        made.append(draft)


def test_cancelling_stops_between_candidates(tmp_path: Path) -> None:
    made: list[Draft] = []
    reported: list[Progress] = []
    drafts = make_candidates(
        GenerateRequest(arm="procedural", per_class=5),
        SEEDS,
        BACKGROUNDS,
        CALIBRATION,
        RECIPE,
        workdir=tmp_path,
        progress=reported.append,
        cancelled=lambda: len(made) >= 3,
    )
    with pytest.raises(JobCancelled):
        _append_each(made, drafts)
    assert len(made) == 3
    assert [one.done for one in reported][:2] == [1, 2]
    assert all(one.total == 10 for one in reported)


def test_the_bit_depth_is_kept(tmp_path: Path) -> None:
    drafts = make(tmp_path, "copypaste", severity=(3.0, 3.0), per_class=2)
    assert all(int(draft.stack.max()) < 1 << BIT_DEPTH for draft in drafts)
