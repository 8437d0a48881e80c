"""The gap report on pictures whose difference is known: defects on a noisy surface, and what is wrong with copies."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy import ndimage

from cell.calibration import Calibration
from cell.errors import DataError
from cell.imaging import noise
from tests.trainer.generate_support import BIT_DEPTH, CALIBRATION, NOISE
from trainer.gap.crops import PLAIN, Crop, crop_of, crude_paste, plain_corners, plain_crop
from trainer.gap.looks import Codebook, figures
from trainer.gap.measure import ALIKE, Evidence, Finding, GapReport, measure_gap, recognisability
from trainer.gap.null import NoiseTally, compare, null_edit
from trainer.gap.texture import learn_textures, to_dn, to_noise
from trainer.gap.two_samples import distance, edits_told, told_apart

SIDE = 80


def wrong(gain: float) -> Calibration:
    channels = tuple(
        channel.model_copy(update={"noise": NOISE.model_copy(update={"gain_dn_per_e": gain * NOISE.gain_dn_per_e})})
        for channel in CALIBRATION.channels
    )
    return CALIBRATION.model_copy(update={"channels": channels})


def surface(part: int, side: int = SIDE) -> np.ndarray:
    """Return what two lights show of a good part, expected DN."""
    rng = np.random.default_rng([part, 1])
    texture = ndimage.gaussian_filter(rng.standard_normal((side, side)), 2.0) * 120
    return np.stack([1500 + texture, 1100 - 0.6 * texture]) * (1 + 0.02 * rng.standard_normal())


def with_pit(part: int, *, blur: float = 0.0, second: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return a part with a dark pit, and where it is; `second` weakens the second light in it."""
    rng = np.random.default_rng([part, 2])
    y, x = np.mgrid[:SIDE, :SIDE]
    row, column = rng.uniform(30, 50, 2)
    depth = np.exp(-((((y - row) ** 2 + (x - column) ** 2) / rng.uniform(16, 36)) ** 2))
    factor = np.stack([1 - 0.5 * depth, 1 - 0.3 * depth])
    mask = depth > 0.1
    if blur:
        factor = ndimage.gaussian_filter(factor, (0, blur, blur))
    expected = surface(part) * factor
    expected[1][mask] *= second
    return expected, mask


def seen(expected: np.ndarray, seed: int, calibration: Calibration = CALIBRATION) -> np.ndarray:
    rng = np.random.default_rng([seed, 3])
    noisy = [noise.sample(c.noise, mean, rng) for c, mean in zip(calibration.channels, expected, strict=True)]
    return np.clip(np.rint(np.stack(noisy)), 0, 4095).astype(np.uint16)


@cache
def real(count: int) -> tuple[Crop, ...]:
    crops = []
    for part in range(count):
        expected, mask = with_pit(part)
        crops.append(crop_of(seen(expected, part), mask, f"r{part}", name=f"r{part}"))
    return tuple(crops)


def made(count: int, calibration: Calibration = CALIBRATION, **changes: float) -> tuple[Crop, ...]:
    crops = []
    for part in range(5000, 5000 + count):
        expected, mask = with_pit(part, **changes)
        inside = ndimage.binary_dilation(mask, iterations=2)
        frame = np.where(inside, seen(expected, part, calibration), seen(expected, part))
        crops.append(crop_of(frame, mask, f"s{part}", name=f"s{part}"))
    return tuple(crops)


@cache
def plain(count: int) -> tuple[tuple[Crop, ...], tuple[tuple[str, np.ndarray], ...]]:
    crops, frames = [], []
    for part in range(9000, 9000 + count):
        frame = seen(surface(part, 112), part)
        frames.append((f"g{part}", frame.astype(np.float32)))
        rng = np.random.default_rng(part)
        for top, left in plain_corners(np.ones((112, 112), np.bool_), 4, rng):
            crops.append(plain_crop(frame, top, left, f"g{part}"))
    return tuple(crops), tuple(frames)


def evidence(synthetic: tuple[Crop, ...], calibration: Calibration = CALIBRATION, count: int = 60) -> Evidence:
    windows, frames = plain(60)
    return Evidence(real(count), synthetic, windows, calibration, BIT_DEPTH, frames)


@cache
def report_of(what: str) -> GapReport:
    if what == "right":
        return measure_gap(evidence(made(60)))
    if what == "gain":
        return measure_gap(evidence(made(60, wrong(1.5)), wrong(1.5)))
    return measure_gap(evidence(made(60, blur=1.2) if what == "blur" else made(60, second=0.8)))


def test_copies_by_the_right_physics_pass() -> None:
    report = report_of("right")
    assert report.conclusion is not Finding.DIFFERENT, report.sentence
    assert report.measure("defects").finding is not Finding.DIFFERENT
    assert report.measure("surroundings").finding is not Finding.DIFFERENT
    null = report.measure("null edit")
    assert null.value is not None
    assert 0.42 < null.value < 0.58
    assert null.finding is not Finding.DIFFERENT
    assert len(report.ranking) == 60
    for measure in report.measures:
        assert measure.sentence
        assert "\n" not in measure.sentence


def test_the_controls_stand_in_the_same_table() -> None:
    report = report_of("right")
    paste, halves = report.measure("crude paste"), report.measure("real against real")
    assert paste.value is not None
    assert paste.value >= 0.9
    assert halves.value is not None
    assert 0.35 < halves.value < 0.65


@pytest.mark.parametrize("what", ["gain", "blur", "light"])
def test_a_wrong_calibration_is_caught(what: str) -> None:
    report = report_of(what)
    assert report.conclusion is Finding.DIFFERENT
    found = {measure.name for measure in report.measures if measure.finding is Finding.DIFFERENT}
    if what == "gain":
        assert "null edit" in found
        slope = report.measure("null edit: noise slope").value
        assert slope is not None
        assert slope > 1.1
    else:
        assert "defects" in found
        assert "null edit" not in found
    assert "surroundings" not in found


def test_each_crop_is_ranked_for_the_review() -> None:
    good, bad = made(20), made(40, second=0.8)[20:]
    scores = recognisability(real(30), (*good, *bad))
    assert scores.shape == (40,)
    assert scores[20:].mean() > scores[:20].mean() + 0.15
    with pytest.raises(DataError, match="confirm seeds"):
        recognisability((), good)


def test_few_crops_are_said_to_be_too_few() -> None:
    report = measure_gap(evidence(made(30), count=6))
    row = report.measure("defects")
    assert row.finding is Finding.UNKNOWN
    assert "too few real crops to tell" in row.sentence
    assert report.measure("real against real").value is None
    assert report.conclusion is not Finding.ALIKE


def test_a_gap_needs_both_sides_and_the_same_lights() -> None:
    with pytest.raises(DataError, match="real and synthetic"):
        measure_gap(replace(evidence(made(3)), real=()))
    one = CALIBRATION.model_copy(update={"channels": CALIBRATION.channels[:1]})
    with pytest.raises(DataError, match="calibrate again"):
        measure_gap(evidence(made(3), one))


def test_the_classifier_keeps_parts_whole() -> None:
    # Ten pictures of each part, alike within a part: split by picture, parts would be recognised, which is no gap.
    rng = np.random.default_rng(1)
    parts = [f"p{index // 10}" for index in range(400)]
    centre = rng.standard_normal((40, 6))
    table = np.repeat(centre, 10, axis=0) + 0.05 * rng.standard_normal((400, 6))
    labels = np.arange(400) >= 200
    told = told_apart([table], labels, parts)
    assert told.p > 0.02
    assert told.low < 0.55
    shifted = table + 1.5 * labels[:, None]
    found = told_apart([shifted], labels, parts)
    assert found.p < 0.01
    assert found.low > 0.6
    assert found.auroc > 0.75


def test_the_upper_bound_covers() -> None:
    covered = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        told = told_apart(
            [rng.standard_normal((160, 5))], np.arange(160) >= 80, [f"p{i}" for i in range(160)], seed, permutations=1
        )
        covered += told.high >= 0.5
    assert covered >= 9


def test_the_kernel_distance_is_near_nothing_for_alike_sets() -> None:
    rng = np.random.default_rng(2)
    one, two = rng.standard_normal((80, 12)), rng.standard_normal((80, 12))
    names = [f"p{i}" for i in range(80)], [f"q{i}" for i in range(80)]
    alike = distance(one, two, *names)
    apart = distance(one, two + 0.8, *names)
    assert alike.p > 0.02
    assert apart.p < 0.01
    assert apart.low > alike.value


def test_a_null_edit_changes_the_disc_alone_and_has_the_cameras_noise() -> None:
    windows, _ = plain(60)
    textures = learn_textures(windows, CALIBRATION)
    rng = np.random.default_rng(4)
    edited = [null_edit(crop, textures, CALIBRATION, BIT_DEPTH, rng) for crop in windows]
    for before, after in zip(windows, edited, strict=True):
        np.testing.assert_array_equal(before.pixels[:, ~before.inside], after.pixels[:, ~before.inside])
        assert (before.pixels[:, before.inside] != after.pixels[:, before.inside]).mean() > 0.8
    ratios, low, high = compare(NoiseTally(windows), NoiseTally(edited))
    assert np.all(np.abs(ratios.octaves - 1) < 0.1)
    assert np.all(np.abs(ratios.slope - 1) < 0.1)
    assert np.all(low.slope <= ratios.slope)
    assert np.all(high.slope >= ratios.slope)


def stepped(count: int) -> tuple[list[Crop], list[np.ndarray]]:
    """Return windows of a dark and a bright side, the edge through the disc, and where each is dark beside the edge."""
    crops, beside = [], []
    for part in range(count):
        expected = surface(part, PLAIN)
        edge = 18 + part % 12
        expected[:, :, :edge] = 60.0
        crops.append(plain_crop(seen(expected, part), 0, 0, f"e{part}"))
        near = np.zeros((PLAIN, PLAIN), np.bool_)
        near[:, edge - 3 : edge] = True
        beside.append(near & crops[-1].inside)
    return crops, beside


def test_noise_made_anew_beside_an_edge_is_that_of_its_own_side() -> None:
    crops, beside = stepped(60)
    np.testing.assert_allclose(to_dn(to_noise(crops[0].pixels, CALIBRATION), CALIBRATION), crops[0].pixels, atol=1e-6)
    textures = learn_textures(crops, CALIBRATION)
    rng = np.random.default_rng(5)
    edited = [null_edit(crop, textures, CALIBRATION, BIT_DEPTH, rng) for crop in crops]
    changes = [
        (after.pixels - before.pixels)[:, near] for before, after, near in zip(crops, edited, beside, strict=True)
    ]
    # The dark side's own noise is 4.8 DN, that of the level between both sides 16.
    assert 2.0 < float(np.concatenate(changes, axis=1).std()) < 7.0


def test_faces_and_ribs_are_kinds_of_their_own() -> None:
    windows, _ = plain(60)
    ribbed, _ = stepped(120)
    textures = learn_textures([*windows, *ribbed], CALIBRATION)
    face = {id(textures.of(to_noise(crop.pixels, CALIBRATION))) for crop in windows}
    rib = {id(textures.of(to_noise(crop.pixels, CALIBRATION))) for crop in ribbed}
    assert len(textures.kinds) >= 2
    assert not face & rib


def test_edits_that_change_nothing_are_not_told_and_others_are() -> None:
    rng = np.random.default_rng(6)
    parts = [f"p{index // 4}" for index in range(240)]
    before = rng.standard_normal((240, 6))
    again = before + 0.1 * rng.standard_normal((240, 6))
    told = edits_told([before], [again], parts, halvings=2)
    assert 0.43 < told.auroc < 0.57
    assert told.p > 0.02
    moved = edits_told([before], [before + 0.7], parts, halvings=2)
    assert moved.p < 0.01
    assert moved.low > 0.6


def test_descriptions_do_not_see_shape() -> None:
    crop = real(1)[0]
    assert figures([crop], surroundings=False).shape[0] == 1
    assert np.isfinite(figures([crop], surroundings=True)).all()
    book = Codebook.learn(plain(60)[0][:20])
    assert np.isfinite(book.features([crop], surroundings=False)).all()
    pasted = crude_paste(crop, plain(60)[1][0][1], np.random.default_rng(1), "paste")
    assert pasted.pixels.shape == crop.pixels.shape
    assert pasted.inside.any()


def test_two_spots_far_apart_are_shown_where_one_of_them_is() -> None:
    mask = np.zeros((300, 420), np.bool_)
    mask[10:16, 10:16] = mask[280:292, 400:412] = True
    crop = crop_of(np.full((2, 300, 420), 1000, np.uint16), mask, "p1")
    assert crop.pixels.shape[1:] == crop.inside.shape
    assert 144 <= crop.inside.sum() <= 220
    assert np.isfinite(figures([crop], surroundings=False)).all()


def test_windows_lie_where_a_defect_might() -> None:
    allowed = np.zeros((120, 150), np.bool_)
    allowed[40:100, 60:140] = True
    rng = np.random.default_rng(1)
    for top, left in plain_corners(allowed, 20, rng):
        assert allowed[top : top + PLAIN, left : left + PLAIN].mean() > 0.85
    assert plain_corners(np.zeros((120, 150), np.bool_), 5, rng) == []
    assert plain_corners(np.ones((20, 20), np.bool_), 5, rng) == []
    assert ALIKE < 0.9
