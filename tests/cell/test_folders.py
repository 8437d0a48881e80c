"""Folder data sets: what fits is read, what does not is listed, and nothing is guessed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cell.errors import DataError
from cell.imaging.folders import physical_part, read_folder, read_picture


def picture(path: Path, size: tuple[int, int] = (40, 30), value: int = 90) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)


def mask(path: Path, size: tuple[int, int] = (40, 30), *, empty: bool = False) -> None:
    pixels = np.zeros(size[::-1], np.uint8)
    if not empty:
        pixels[5:9, 6:12] = 255
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part in ("t001", "t002"):
        for exposure in (1, 2):
            picture(tmp_path / "seeds" / "crack" / f"{part}_e{exposure}.png")
            mask(tmp_path / "seeds" / "crack" / f"{part}_e{exposure}_mask.png")
    picture(tmp_path / "seeds" / "pit" / "t009_e1.png")
    mask(tmp_path / "seeds" / "pit" / "t009_e1_mask.png")
    for part in ("t003", "t004"):
        picture(tmp_path / "backgrounds" / "good" / f"{part}_e1.png", (36, 30))
        picture(tmp_path / "backgrounds" / "good" / f"{part}_e2.png", (40, 26))
    picture(tmp_path / "test" / "good" / "t005_e1.png")
    return tmp_path


def test_reads_parts_classes_and_labels(folder: Path) -> None:
    dataset = read_folder(folder)
    assert dataset.classes == ("crack", "pit")
    assert dataset.misfits == ()
    assert [item.part for item in dataset.shots(1)] == ["t001", "t001", "t009"]
    sample = dataset.load(dataset.seeds[-1])
    assert (sample.group, sample.sample_id, sample.stack.shape) == ("t009", "pit/t009_e1", (1, 30, 40))
    assert set(np.unique(sample.labels)) == {0, 2}
    assert int((sample.labels == 2).sum()) == 24
    assert not dataset.load(dataset.backgrounds[0]).labels.any()


def test_stacks_exposures_at_their_common_size(folder: Path) -> None:
    dataset = read_folder(folder)
    assert [stack.shape for stack in dataset.stacked(dataset.backgrounds, 2)] == [(2, 26, 36), (2, 26, 36)]


@pytest.mark.parametrize(
    ("name", "part"),
    [("t012_e3", "t012"), ("test/good/t030_e1_6", "t030"), ("good-000012", "good-000012"), ("_e1", "_e1")],
)
def test_names_speak_of_physical_parts(name: str, part: str) -> None:
    assert physical_part(name) == part


def test_lists_everything_that_does_not_fit(folder: Path) -> None:
    crack = folder / "seeds" / "crack"
    picture(crack / "t006_e1.png")
    picture(crack / "t007_e1.png")
    mask(crack / "t007_e1_mask.png", (20, 20))
    picture(crack / "t008_e1.png")
    mask(crack / "t008_e1_mask.png", empty=True)
    mask(crack / "orphan_mask.png")
    (crack / "notes.txt").write_text("x")
    whole = (crack / "t001_e1.png").read_bytes()
    (crack / "t010_e1.png").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (40, 30), (200, 90, 10)).save(folder / "backgrounds" / "good" / "t011_e1.png")
    picture(folder / "test" / "dent" / "t012_e1.png")
    mask(folder / "test" / "dent" / "t012_e1_mask.png")
    picture(folder / "test" / "good" / "t001_e2.png")
    dataset = read_folder(folder)
    told = {misfit.path.name: misfit.reason for misfit in dataset.misfits}
    assert "is missing" in told["t006_e1.png"]
    assert "20x20" in told["t007_e1.png"]
    assert "marks nothing" in told["t008_e1.png"]
    assert told["orphan_mask.png"] == "a mask without its picture"
    assert told["notes.txt"] == "not a picture"
    assert "not a whole picture" in told["t010_e1.png"]
    assert "colour" in told["t011_e1.png"]
    assert "no seeds" in told["t012_e1.png"]
    assert "test and in the learning folders" in told["t001"]
    assert len(dataset.seeds) == 5


def test_a_missing_or_empty_folder_is_one_clear_line(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(DataError, match="is missing; the layout is"):
        read_folder(tmp_path / "nowhere")
    for file in (folder / "backgrounds" / "good").iterdir():
        file.unlink()
    with pytest.raises(DataError, match="no usable picture"):
        read_folder(folder)


def test_sixteen_bit_pictures_stay_sixteen_bit(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 4000, np.uint16)).save(tmp_path / "deep.png")
    pixels = read_picture(tmp_path / "deep.png")
    assert pixels.dtype == np.dtype(np.uint16)
    assert int(pixels[0, 0]) == 4000
