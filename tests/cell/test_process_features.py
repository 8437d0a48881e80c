"""What the features say of pictures whose change is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from cell.errors import DataError
from cell.imaging.process_features import REFERENCE_PARTS, FrameReader, feature_names, relevant_changes
from cell.recipes import Channel, DefectClass, Recipe

HEIGHT, WIDTH = 160, 240
RECIPE = Recipe(
    recipe_id="part",
    product="part",
    height=HEIGHT,
    width=WIDTH,
    bit_depth=12,
    channels=tuple(Channel(name=name, exposure_us=100, lights={name: 1.0}) for name in ("left", "right")),
    defect_classes=(DefectClass(name="pit"),),
)
GAIN, READ, BLACK = 0.4, 3.0, 20.0


def scene(seed: int, *, shift: tuple[float, float] = (0.0, 0.0), turn: float = 0.0) -> np.ndarray:
    """Return the expected electrons of a part: a plate with two holes and a fine texture, (2, H, W)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(float)
    y, x = y - shift[1] - HEIGHT / 2, x - shift[0] - WIDTH / 2
    angle = np.radians(turn)
    u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    inside = np.clip(60 - np.abs(v), 0, 1) * np.clip(95 - np.abs(u), 0, 1)
    holes = np.clip(np.hypot(u - 50, v - 20) - 12, 0, 1) * np.clip(np.hypot(u + 40, v + 15) - 9, 0, 1)
    texture = 1 + 0.06 * ndimage.gaussian_filter(rng.standard_normal((HEIGHT, WIDTH)), 1.5) * 5
    light = np.stack([1 + 0.001 * x, 1 - 0.001 * x])
    return 3000 * (0.02 + inside * holes * texture) * light


def seen(electrons: np.ndarray, seed: int, gain: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng([seed, 9])
    noisy = electrons + rng.standard_normal(electrons.shape) * np.sqrt(np.maximum(electrons, 0) + READ**2)
    return np.clip(np.rint(BLACK + GAIN * gain * noisy), 0, 4095).astype(np.uint16)


@pytest.fixture(scope="module")
def reader() -> FrameReader:
    reader = FrameReader(RECIPE)
    rng = np.random.default_rng(1)
    for index in range(REFERENCE_PARTS):
        shift = (float(rng.normal(0, 0.3)), float(rng.normal(0, 0.3)))
        assert reader.read(seen(scene(index, shift=shift), index)) is None
    assert reader.ready
    return reader


def change(reader: FrameReader, first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    one, two = reader.read(first), reader.read(second)
    assert one is not None
    assert two is not None
    return dict(zip(reader.names, two - one, strict=True))


def test_there_is_a_name_and_a_scale_for_each() -> None:
    names = feature_names(("a", "b", "c"))
    assert len(names) == len(set(names)) == len(relevant_changes(("a", "b", "c")))


def test_light_that_fades_is_told_from_the_other(reader: FrameReader) -> None:
    scale = np.array([1.0, 0.9])[:, None, None]
    found = change(reader, seen(scene(100), 100), seen(scene(100) * scale, 101))
    assert found["balance:right"] == pytest.approx(np.log(0.9) / 2, abs=0.008)
    assert found["level"] == pytest.approx(np.log(0.9) / 2, abs=0.008)
    assert abs(found["noise:left"]) < 0.1
    assert abs(found["shift-x"]) < 0.15


def test_a_gain_takes_its_noise_along(reader: FrameReader) -> None:
    found = change(reader, seen(scene(100), 100), seen(scene(100), 101, gain=1.3))
    assert found["level"] == pytest.approx(np.log(1.3), abs=0.03)
    assert found["noise:left"] == pytest.approx(np.log(1.3), abs=0.12)
    assert abs(found["detail-4:left"]) < 0.03


def test_a_lens_out_of_focus_takes_fine_detail_first(reader: FrameReader) -> None:
    blurred = ndimage.gaussian_filter(scene(100), (0, 1.0, 1.0))
    found = change(reader, seen(scene(100), 100), seen(blurred, 101))
    assert found["detail-2:left"] < -0.1
    assert found["detail-2:left"] < found["detail-4:left"] < found["detail-8:left"] + 0.02
    assert abs(found["level"]) < 0.01


def test_a_moved_part_is_measured_in_pixels_and_degrees(reader: FrameReader) -> None:
    found = change(reader, seen(scene(100), 100), seen(scene(100, shift=(1.0, -0.6)), 101))
    assert found["shift-x"] == pytest.approx(1.0, abs=0.25)
    assert found["shift-y"] == pytest.approx(-0.6, abs=0.4)
    turned = change(reader, seen(scene(100), 100), seen(scene(100, turn=0.5), 101))
    assert turned["turn"] == pytest.approx(0.5, abs=0.15)


def test_the_reference_outlives_a_restart(reader: FrameReader) -> None:
    again = FrameReader(RECIPE)
    again.restore(reader.state())
    picture = seen(scene(7), 7)
    one, two = reader.read(picture), again.read(picture)
    assert one is not None
    assert two is not None
    np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)


def test_what_is_not_the_recipes_is_refused(reader: FrameReader) -> None:
    with pytest.raises(DataError, match="recipe"):
        reader.read(np.zeros((2, HEIGHT, WIDTH + 2), np.uint16))
    other = FrameReader(RECIPE.model_copy(update={"channels": RECIPE.channels[:1]}))
    with pytest.raises(DataError, match="anew"):
        other.restore(reader.state())
    with pytest.raises(DataError, match="anew"):
        other.restore({"format": np.array(1)})
