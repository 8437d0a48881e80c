"""The background model: good parts alone teach it, and what it has not seen stands out where it is."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from cell.errors import DataError
from cell.imaging.background import LEAST_PARTS, BackgroundModel
from tests.cell.plates import WHOLE, flaw, plate


@cache
def taught(parts: int = 24) -> BackgroundModel:
    model = BackgroundModel(2, 8)
    for index in range(parts):
        model.add(plate(f"good-{index:06d}"), WHOLE)
    return model


def test_holes_in_a_fixture_are_no_anomaly_and_pits_are() -> None:
    model = taught()
    assert model.golden is not None
    good = [model.score(plate(f"good-{index:06d}"), WHOLE) for index in range(100, 108)]
    bad = [model.score(plate(f"{kind}-{index:06d}"), WHOLE) for kind in ("pit", "crack") for index in range(3)]
    assert max(good) < min(bad)
    assert all(model.is_typical(score) for score in good)
    assert float(np.median(good)) == pytest.approx(1.0, abs=0.25)


def test_the_anomaly_peaks_on_the_flaw_and_the_mask_is_proposed_there() -> None:
    model, overlaps = taught(), []
    for index in range(4):
        stack, truth = plate(f"pit-{index:06d}"), flaw(f"pit-{index:06d}")
        anomaly = model.anomaly_map(stack, WHOLE)
        assert anomaly.dtype == np.float32
        row, column = np.unravel_index(int(anomaly.argmax()), anomaly.shape)
        assert truth[max(0, row - 4) : row + 5, max(0, column - 4) : column + 5].any()
        proposed = model.propose_mask(stack, WHOLE)
        overlaps.append((proposed & truth).sum() / (proposed | truth).sum())
    assert float(np.median(overlaps)) > 0.5


def test_a_flaw_under_one_light_only_is_found() -> None:
    model, stack = taught(), plate("good-000200").copy()
    stack[1, 120:126, 60:66] //= 2
    assert model.score(stack, WHOLE) > 1.5 * model.score(plate("good-000200"), WHOLE)
    assert model.propose_mask(stack, WHOLE)[120:126, 60:66].mean() > 0.5


def test_textures_of_any_size_on_a_carrier() -> None:
    rng = np.random.default_rng(1)

    def tile(
        *, pit: bool = False
    ) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.uint8]], np.ndarray[tuple[int, ...], np.dtype[np.bool_]]]:
        height, width = (int(v) for v in rng.integers(90, 140, 2))
        frame, part = np.full((1, 160, 160), 4, np.uint8), np.zeros((160, 160), np.bool_)
        part[10 : 10 + height, 10 : 10 + width] = True
        frame[0, part] = np.clip(rng.normal(110, 6, int(part.sum())), 20, 255).astype(np.uint8)
        if pit:
            frame[0, 50:56, 40:46] = 40
        return frame, part

    model = BackgroundModel(1, 8)
    for _ in range(16):
        model.add(*tile())
    assert model.golden is None
    frame, part = tile(pit=True)
    assert model.score(frame, part) > 2.0
    mask = model.propose_mask(frame, part)
    assert mask[50:56, 40:46].all()
    assert mask.sum() < 120
    assert not (mask & ~part).any()
    assert not model.anomaly_map(frame, part)[~part].any()


def test_memory_does_not_grow_with_the_parts() -> None:
    model = BackgroundModel(1, 8)
    rng, whole = np.random.default_rng(0), np.ones((48, 48), np.bool_)
    sizes = []
    for index in range(300):
        model.add(rng.integers(90, 120, (1, 48, 48)).astype(np.uint8), whole)
        if index in (20, 299):
            sizes.append(model.counts.nbytes)
    assert sizes[0] == sizes[1]
    assert len(model.scores) <= 256


def test_saved_and_loaded_it_says_the_same(tmp_path: Path) -> None:
    model, stack = taught(), plate("crack-000001")
    model.save(tmp_path / "model.npz")
    again = BackgroundModel.load(tmp_path / "model.npz")
    assert np.array_equal(again.anomaly_map(stack, WHOLE), model.anomaly_map(stack, WHOLE))
    assert again.seen == model.seen
    assert [path.name for path in tmp_path.iterdir()] == ["model.npz"]


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04 half a zip"])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.npz").write_bytes(content)
    with pytest.raises(DataError, match="not a background model"):
        BackgroundModel.load(tmp_path / "model.npz")


def test_nothing_is_called_unlike_too_few_parts() -> None:
    model = BackgroundModel(2, 8)
    for index in range(LEAST_PARTS - 1):
        model.add(plate(f"good-{index:06d}"), WHOLE)
    with pytest.raises(DataError, match="needs 8"):
        model.score(plate("good-000050"), WHOLE)
    with pytest.raises(DataError, match="2 channels, the picture 1"):
        taught().score(plate("good-000050")[:1], WHOLE)


def test_a_faint_crack_on_one_light_is_found_by_its_oddest_filter_and_outlined() -> None:
    model, stack = taught(32), plate("good-000301").copy()
    crack = np.zeros(stack.shape[1:], np.bool_)
    for step in range(40):
        crack[150 + step // 8, 40 + step] = True
    stack[0][crack] = (stack[0][crack] * 0.6).astype(np.uint8)
    view = model.view(stack, WHOLE)
    assert view.deviations > 4
    assert view.score > 1.4
    mask = model.mask_of(view)
    assert (mask & crack).sum() > 0.5 * crack.sum()


def test_a_dark_surround_that_hardly_varies_is_no_anomaly() -> None:
    rng = np.random.default_rng(3)
    whole, model = np.ones((72, 90), np.bool_), BackgroundModel(1, 8)

    def part(level: float) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        frame = np.full((1, 72, 90), 6.0)
        frame[0, 20:60, 20:70] = level
        return np.clip(np.rint(frame + rng.normal(0, [[0.2]], frame.shape)), 0, 255).astype(np.uint8)

    for _ in range(32):
        model.add(part(140 + rng.normal(0, 1)), whole)
    brighter = model.view(part(142), whole)
    assert float(np.median(brighter.anomaly[:15])) < 1.0
