"""The emulated cell's physics: the same part again, light that adds up, noise that is what it is said to be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cell.errors import DataError
from drivers.sim.cell import EmulatedCell
from drivers.sim.contact import product_sheet
from drivers.sim.flaws import FLAWS
from drivers.sim.folder import FolderProduct, recipe_for_folder
from drivers.sim.plate import HEIGHT, WIDTH, PlateProduct, recipe_for_plate
from drivers.sim.sensor import Sensor

QUIET = Sensor(gain_dn_per_e=0.0255, read_noise_e=0.0, prnu=0.0, dsnu_e=0.0)


def _picture(cell: EmulatedCell, lights: dict[str, float], exposure_us: float = 1000.0) -> np.ndarray:
    cell.illuminate(lights)
    return cell.picture(HEIGHT, WIDTH, exposure_us, 0.0)


def test_a_part_is_its_id_and_its_seed() -> None:
    def shot(part_id: str, seed: int = 1) -> np.ndarray:
        cell = EmulatedCell(PlateProduct(2, seed), seed)
        cell.present(part_id)
        return _picture(cell, {"az000": 1.0})

    assert np.array_equal(shot("pit-000003"), shot("pit-000003"))
    assert not np.array_equal(shot("pit-000003"), shot("pit-000004"))
    assert not np.array_equal(shot("good-000003"), shot("good-000003", seed=2))


def test_repeats_of_a_still_part_differ_by_noise_alone() -> None:
    cell = EmulatedCell(PlateProduct(1))
    cell.present("good-000000")
    first, second = _picture(cell, {"az000": 1.0}).astype(float), _picture(cell, {"az000": 1.0}).astype(float)
    difference = (first - second)[20:-20, 120:200]
    assert 0.5 < difference.std() < 4
    assert abs(difference.mean()) < 0.1


def test_light_adds_up() -> None:
    part = PlateProduct(3, sensor=QUIET).part("scratch-000001")
    every = part.rate.sum(axis=0)
    assert (every > part.rate.max(axis=0)).all()
    cell = EmulatedCell(PlateProduct(3, sensor=QUIET))
    cell.present("scratch-000001")
    means = [_picture(cell, {line: 0.5}).mean() - 4 for line in ("az000", "az120", "az240")]
    together = _picture(cell, dict.fromkeys(("az000", "az120", "az240"), 0.5)).mean() - 4
    assert together == pytest.approx(sum(means), rel=0.02)
    assert _picture(cell, {"az000": 0.5}, 2000.0).mean() - 4 == pytest.approx(2 * means[0], rel=0.02)


@pytest.mark.parametrize("gain_db", [0.0, 6.0])
def test_the_sensors_noise_is_the_photon_transfer_curve_it_claims(gain_db: float) -> None:
    sensor = Sensor()
    truth = sensor.noise_model(gain_db)
    generator = np.random.Generator(np.random.SFC64(5))
    levels = np.linspace(100, 4000, 12)
    means, variances = [], []
    for electrons in levels:
        flat = np.full((200, 200), electrons, np.float32)
        pair = [sensor.digitise(flat, gain_db, generator).astype(float) for _ in range(2)]
        means.append((pair[0] + pair[1]).mean() / 2)
        variances.append((pair[0] - pair[1]).var() / 2)
    slope, intercept = np.polyfit(means, variances, 1)
    assert slope == pytest.approx(truth.gain_dn_per_e, rel=0.03)
    expected = truth.read_noise_dn**2 + 1 / 12 - truth.gain_dn_per_e * truth.offset_dn
    assert intercept == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize("flaw", sorted(FLAWS))
def test_a_flaw_shows_inside_its_mask_and_nowhere_else(flaw: str) -> None:
    product = PlateProduct(4)
    seen = 0
    for index in range(6):
        part_id = f"{flaw}-{index:06d}"
        mask = product.place_mask(part_id)
        assert product.defect_class(part_id) == flaw
        assert 4 < mask.sum() < HEIGHT * WIDTH / 8
        # Against the smooth surroundings, on the light that shows it best: texture is part of the comparison.
        rate = product.part(part_id).rate
        inside = np.array([channel[mask].std() / channel[~mask].std() for channel in rate])
        level = np.array([abs(np.median(channel[mask]) / np.median(channel) - 1) for channel in rate])
        seen += bool(inside.max() > 1.0 or level.max() > 0.05)
    assert seen >= 4
    assert not product.place_mask("good-000000").any()
    assert product.defect_class("good-000000") is None


def test_plates_are_neither_dark_nor_clipped() -> None:
    recipe = recipe_for_plate(8)
    cell = EmulatedCell(PlateProduct(8))
    cell.present("good-000007")
    for channel in recipe.channels:
        pixels = _picture(cell, dict(channel.lights))
        assert 60 < np.median(pixels) < 140
        assert (pixels == 255).mean() < 1e-3


def test_rendered_parts_are_kept_in_bounded_number() -> None:
    product = PlateProduct(1)
    for index in range(40):
        product.part(f"good-{index:06d}")
    assert len(product._rendered) == 32


def test_a_folder_of_mixed_sizes_fits_one_frame(tmp_path: Path) -> None:
    for name, shape in (("seeds/dent/a", (30, 41)), ("test/good/b", (50, 20))):
        file = tmp_path / f"{name}.png"
        file.parent.mkdir(parents=True)
        Image.fromarray(np.full(shape, 3, np.uint8)).save(file)
    mask = np.zeros((30, 41), np.uint8)
    mask[10:20, 5:9] = 255
    Image.fromarray(mask).save(tmp_path / "seeds/dent/a_mask.png")
    product = FolderProduct(tmp_path)
    assert product.list_parts() == ("seeds/dent/a", "test/good/b")
    assert (product.height, product.width) == (64, 48)
    placed = product.place_mask("seeds/dent/a")
    assert placed.shape == (64, 48)
    assert placed.sum() == 40
    assert placed[17 + 10, 3 + 5]
    cell = EmulatedCell(product)
    cell.present("seeds/dent/a")
    cell.illuminate({"light": 1.0})
    recipe = recipe_for_folder(tmp_path)
    frame = cell.picture(64, 48, 1000.0, 0.0)
    assert recipe.carrier_max_dn is not None
    assert (frame > recipe.carrier_max_dn).sum() == 30 * 41, "the part must stand out of the carrier"
    assert cell.picture(16, 16, 1000.0, 0.0).shape == (16, 16)
    with pytest.raises(DataError, match="no part seeds/dent/c"):
        cell.present("seeds/dent/c")
    assert (cell.picture(64, 48, 1000.0, 0.0) == product.carrier_dn).all(), "the refused part left the last one there"


def test_pictures_that_can_not_be_used_are_named(tmp_path: Path) -> None:
    file = tmp_path / "seeds/dent/a.png"
    file.parent.mkdir(parents=True)
    Image.fromarray(np.full((30, 40), 99, np.uint8)).save(file)
    Image.fromarray(np.zeros((30, 41), np.uint8)).save(file.with_name("a_mask.png"))
    product = FolderProduct(tmp_path)
    with pytest.raises(DataError, match=r"41x30 pixels, its picture 40x30"):
        product.place_mask("seeds/dent/a")
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(DataError, match="can't read the picture"):
        product.part("seeds/dent/a")
    file.write_bytes(b"")
    with pytest.raises(DataError, match="can't read the picture"):
        FolderProduct(tmp_path)


def test_the_contact_sheet_shows_every_class_under_every_light(tmp_path: Path) -> None:
    told = []
    parts = product_sheet(tmp_path / "sheet.png", ("plate",), "2+ring", 1, on_part=lambda *what: told.append(what))
    assert parts == len(told) == 5
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == (WIDTH + 4) * 3 + 4
        assert sheet.height == (HEIGHT + 18) * 5 + 4
        pixels = np.asarray(sheet).astype(int)
    red = (pixels[..., 0] > 200) & (pixels[..., 1] < 100)
    for row in range(5):
        cells = [pixels[18 + row * (HEIGHT + 18) :, 4 + column * (WIDTH + 4) :] for column in range(2)]
        first, second = (cell[:HEIGHT, :WIDTH] for cell in cells)
        assert first.std() > 10, "a picture is missing"
        assert np.abs(first - second).mean() > 3, "two lights show the same"
        outlined = red[18 + row * (HEIGHT + 18) :, 4 + 2 * (WIDTH + 4) :][:HEIGHT, :WIDTH].any()
        assert outlined == (row > 0), "the truth is outlined on every bad part and on no good one"
