"""The one preprocessing: what it must not care about, what it must keep, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cell.errors import DataError
from cell.imaging.preprocess import Preprocessing
from cell.recipes import Channel, DefectClass, Recipe, Rect

GREY = Preprocessing(channels=("grey",))


def textured(height: int = 120, width: int = 150, mean: float = 100.0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.clip(rng.normal(mean, 0.08 * mean, (1, height, width)), 0, 255)


def as_8bit(image: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def test_output_is_padded_float32_and_the_same_every_time() -> None:
    stack = as_8bit(textured(101, 130))
    out = GREY.apply(stack)
    assert out.shape == (1, 128, 160)
    assert out.dtype == np.float32
    assert out.flags.c_contiguous
    assert np.array_equal(out, GREY.apply(stack.copy()))
    # Padding is mirrored texture, not a step that a network could take for a defect.
    assert np.allclose(out[0, 101, :130], out[0, 100, :130], atol=0.3)


def test_exposure_and_falloff_hardly_matter() -> None:
    image = textured(128, 160, 60.0)
    image[0, 60:66, 80:90] *= 0.5
    falloff = np.linspace(0.7, 1.3, 160)[None, None]
    plain, bright = GREY.apply(as_8bit(image)), GREY.apply(as_8bit(image * 2.2 * falloff))
    inner = (slice(None), slice(10, -10), slice(10, -10))
    assert np.corrcoef(plain[inner].ravel(), bright[inner].ravel())[0, 1] > 0.97
    pit, pit_bright = plain[0, 61:65, 81:89].mean(), bright[0, 61:65, 81:89].mean()
    assert pit < -2.0
    assert pit_bright == pytest.approx(pit, rel=0.15)


def test_bit_depths_agree() -> None:
    image = textured(64, 64, 90.0)
    deep = Preprocessing(channels=("grey",), bit_depth=12)
    eight, twelve = GREY.apply(as_8bit(image)), deep.apply(np.rint(image / 255 * 4095).astype(np.uint16))
    assert np.abs(eight - twelve).mean() < 0.08


def test_channels_are_normalised_on_their_own() -> None:
    pair = np.concatenate([as_8bit(textured(seed=1)), as_8bit(textured(mean=30, seed=2))])
    both = Preprocessing(channels=("left", "right")).apply(pair)
    assert np.array_equal(both[0], GREY.apply(pair[:1])[0])
    assert np.array_equal(both[1], GREY.apply(pair[1:])[0])


def test_flat_dark_and_saturated_images_stay_finite() -> None:
    for value in (0, 128, 255):
        out = GREY.apply(np.full((1, 40, 50), value, np.uint8))
        assert np.isfinite(out).all()
        assert np.abs(out).max() < 1e-3


def test_roi_exclusions_and_way_back() -> None:
    spec = Preprocessing(
        channels=("grey",),
        roi=Rect(x=20, y=10, width=90, height=70),
        exclusions=(Rect(x=30, y=20, width=10, height=5), Rect(x=0, y=0, width=25, height=15)),
    )
    stack = as_8bit(textured(100, 140))
    out = spec.apply(stack)
    assert out.shape == (1, 96, 96)
    assert not out[0, 10:15, 10:20].any()
    assert not out[0, :5, :5].any()
    other = stack.copy()
    other[0, :10] = 7  # outside the ROI
    assert np.array_equal(out, spec.apply(other))

    ones = np.ones((2, 96, 96), np.float32)
    back = spec.to_frame(ones, 100, 140)
    assert back.shape == (2, 100, 140)
    assert back[0].sum() == 90 * 70 - 10 * 5 - 5 * 5
    labels = np.full((100, 140), 3, np.uint8)
    seen = spec.crop_labels(labels)
    assert (seen[:70, :90] == 3).sum() == 90 * 70 - 10 * 5 - 5 * 5
    # A defect at the edge is mirrored into the padding, so its label must be too.
    assert seen.shape == (96, 96)
    assert (seen[70:] == 3).all()


@given(st.integers(1, 90), st.integers(1, 90))
@settings(max_examples=25, deadline=None)
def test_any_size_goes_there_and_back(height: int, width: int) -> None:
    stack = np.random.default_rng(0).integers(0, 256, (1, height, width)).astype(np.uint8)
    out = GREY.apply(stack)
    assert out.shape[1] % 32 == out.shape[2] % 32 == 0
    back = GREY.to_frame(out, height, width)
    assert back.shape == (1, height, width)
    assert np.array_equal(back, out[:, :height, :width])


def test_the_carrier_neither_shades_nor_hides_the_outline() -> None:
    spec = Preprocessing(channels=("grey",), carrier_max_dn=12)
    full = as_8bit(textured(128, 128))
    part = full.copy()
    part[0, :, 96:] = 4
    alone, on_carrier = GREY.apply(full[:, :, :96]), spec.apply(part)
    assert (on_carrier[0, :, 96:] == -spec.limit).all()
    near_edge = (0, slice(None), slice(70, 96))
    assert np.abs(on_carrier[near_edge].mean() - alone[near_edge].mean()) < 0.2
    # Without the carrier level the dark side drags the shading down and the rim lights up.
    assert GREY.apply(part)[near_edge].mean() > on_carrier[near_edge].mean() + 0.5


def test_exposure_normalisation_keeps_wide_brightness() -> None:
    image = textured(128, 128)
    image[0, :, :16] *= 0.6
    spec = Preprocessing(channels=("grey",), normalisation="exposure")
    out = spec.apply(as_8bit(image))
    assert out[0, :, 2:14].mean() == pytest.approx(
        (np.log(0.6 * 100 / 255 + 0.03) - np.log(100 / 255 + 0.03)) / 0.3, abs=0.1
    )
    assert np.array_equal(out, spec.apply(as_8bit(image)))


def test_what_does_not_fit_is_refused_in_one_line() -> None:
    with pytest.raises(DataError, match="stack of 1 channels"):
        GREY.apply(np.zeros((2, 8, 8), np.uint8))
    with pytest.raises(DataError, match="uint8 or uint16"):
        GREY.apply(np.zeros((1, 8, 8), np.float32))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="empty"):
        GREY.apply(np.zeros((1, 0, 8), np.uint8))
    with pytest.raises(DataError, match="region of interest"):
        Preprocessing(channels=("grey",), roi=Rect(x=0, y=0, width=9, height=9)).apply(np.zeros((1, 8, 8), np.uint8))
    with pytest.raises(DataError, match="don't belong"):
        GREY.to_frame(np.zeros((1, 64, 64), np.float32), 100, 100)
    with pytest.raises(ValidationError):
        Preprocessing(channels=("grey",), normalization="local")  # type: ignore[call-arg]


def test_spec_survives_the_manifest_and_follows_the_recipe() -> None:
    recipe = Recipe(
        recipe_id="plate-1", product="plate", height=64, width=64, bit_depth=12, carrier_max_dn=100,
        channels=(Channel(name="left", exposure_us=100, lights={"left": 1.0}),),
        defect_classes=(DefectClass(name="scratch"),),
        roi=Rect(x=1, y=2, width=30, height=40),
    )  # fmt: skip
    spec = Preprocessing.for_recipe(recipe, shading_px=32)
    assert (spec.channels, spec.bit_depth, spec.roi, spec.carrier_max_dn) == (("left",), 12, recipe.roi, 100)
    assert Preprocessing.model_validate_json(spec.model_dump_json()) == spec
