"""Folders of every layout: what fits is taken in whole, what does not is listed, and nothing is half taken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cell.defects import SeedState, Split
from cell.errors import DataError, SplitError
from cell.store.learning import LearningStore
from tests.store.helpers import Clock, open_state
from tests.trainer.layouts import (
    HEIGHT,
    LAYOUTS,
    RECIPE,
    TRUTH,
    TWO,
    WIDTH,
    Build,
    coco,
    datumaro,
    grey,
    label_studio,
    mvtec,
    own,
    save,
    voc,
    yolo,
)
from trainer.importing import FolderImport, Wishes


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LearningStore]:
    with LearningStore(open_state(tmp_path), clock=Clock()) as opened:
        yield opened


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_the_masks_that_were_drawn(store: LearningStore, tmp_path: Path, name: str) -> None:
    build, layout, good, seeds, boxes = LAYOUTS[name]
    root = tmp_path / "data"
    build(root)
    folder = FolderImport(store, RECIPE, root, Wishes(held_out=("test",) if name == "mvtec" else None))
    survey = folder.survey()
    assert [str(misfit) for misfit in survey.misfits] == []
    told = survey.told(root)
    assert (told["layout"], told["good"], told["defective"], told["boxes"]) == (layout, good, seeds, boxes)
    assert folder.take(survey) == {"backgrounds": good, "seeds": seeds}
    found = store.seeds("tile")
    assert {(seed.defect_class, seed.state, seed.proposed_by) for seed in found} == {
        ("pit", SeedState.PROPOSED, "import")
    }
    for seed in found:
        assert np.array_equal(store.read_mask(seed.mask), TRUTH), seed.image
        assert store.read_image(seed.image).metadata["emulated"] is True
    if name in ("own", "mvtec", "yolo", "voc"):
        sides = [one.split for one in store.backgrounds("tile")] + [one.split for one in found]
        assert sides.count(Split.HELD_OUT) == (2 if name == "mvtec" else 1), "what lies in test is held out"


def test_what_does_not_fit_is_listed_and_nothing_is_taken(store: LearningStore, tmp_path: Path) -> None:
    root = tmp_path / "data"
    mvtec(root)
    save(root / "train/good/small.png", grey(20, size=(HEIGHT, WIDTH - 2)))
    (root / "train/good/torn.png").write_bytes((root / "train/good/000.png").read_bytes()[:300])
    (root / "train/good/notes.txt").write_text("x")
    Image.fromarray(np.stack([grey(21), grey(22), grey(28)], -1)).save(root / "train/good/colour.png")
    save(root / "train/good/deep.png", grey(22).astype(np.uint16) * 200)
    save(root / "test/pit/bare.png", grey(23))
    save(root / "test/dent/0.png", grey(24))
    save(root / "ground_truth/dent/0_mask.png", TRUTH.astype(np.uint8) * 255)
    save(root / "ground_truth/pit/orphan_mask.png", TRUTH.astype(np.uint8) * 255)
    save(root / "test/pit/inverted.png", grey(25))
    save(root / "ground_truth/pit/inverted_mask.png", np.where(TRUTH, 0, 255).astype(np.uint8))
    save(root / "test/pit/clean.png", grey(26))
    save(root / "ground_truth/pit/clean_mask.png", np.zeros((HEIGHT, WIDTH), np.uint8))
    save(root / "test/pit/again.png", grey(1))
    save(root / "ground_truth/pit/again_mask.png", TRUTH.astype(np.uint8) * 255)
    save(root / "test/pit/other.png", grey(27))
    save(root / "ground_truth/pit/other_mask.png", np.ones((HEIGHT + 1, WIDTH), np.uint8))
    folder = FolderImport(store, RECIPE, root, Wishes())
    survey = folder.survey()
    reasons = {misfit.path.name: misfit.reason for misfit in survey.misfits}
    expected = {
        "small.png": "54x40 pixels, the recipe 56x40",
        "torn.png": "not a whole picture",
        "notes.txt": "not a picture",
        "colour.png": "colour picture",
        "deep.png": "bits, the recipe 8",
        "bare.png": "mask bare_mask.png is missing",
        "0.png": "class 'dent' is none of the recipe's; it has pit, crack",
        "orphan_mask.png": "without its picture",
        "inverted.png": "is it inverted",
        "clean.png": "marks nothing",
        "again.png": "labelled pit instead of good; one of them is mislabelled",
        "other.png": "draw it again",
    }
    assert set(reasons) == set(expected)
    for name, part in expected.items():
        assert part in reasons[name], (name, reasons[name])
    with pytest.raises(DataError, match=r"12 things .* nothing was taken in"):
        folder.take(survey)
    assert store.backgrounds("tile") == ()
    assert store.seeds("tile") == ()
    assert store.splits("tile") == {}
    careless = FolderImport(store, RECIPE, root, Wishes(skip_misfits=True))
    assert careless.take(careless.survey()) == {"backgrounds": 4, "seeds": 1}


def test_labels_that_lie_are_told_by_their_file(store: LearningStore, tmp_path: Path) -> None:
    def reasons(build: Build, file: str, old: str, new: str) -> str:
        root = tmp_path / f"{build.__name__}-{abs(hash(new))}"
        build(root)
        text = (root / file).read_text()
        assert old in text
        (root / file).write_text(text.replace(old, new))
        return "\n".join(str(misfit) for misfit in FolderImport(store, RECIPE, root, Wishes()).survey().misfits)

    document = "annotations/instances_train.json"
    assert "category 99 is not among" in reasons(
        coco, document, '"category_id": 7, "bbox"', '"category_id": 99, "bbox"'
    )
    assert "names image 44, which is not there" in reasons(coco, document, '"image_id": 2', '"image_id": 44')
    assert "it is not there" in reasons(coco, document, '"4.png"', '"gone.png"')
    assert "leaves the 56x40 picture" in reasons(coco, document, "[[8, 10", "[[800, 10")
    assert "labels are for 56x99 pixels" in reasons(coco, document, f'"height": {HEIGHT}', '"height": 99')
    assert "class 9, which has no name" in reasons(yolo, "labels/train/0.txt", "0 0.", "9 0.")
    assert "is not class and numbers" in reasons(yolo, "labels/train/0.txt", "0 0.", "x 0.")
    assert "box of it is empty" in reasons(voc, "Annotations/0.xml", "<xmin>9", "<xmin>90")
    assert "is not XML" in reasons(voc, "Annotations/0.xml", "</annotation>", "")
    assert "entities" in reasons(voc, "Annotations/0.xml", "<annotation>", '<!DOCTYPE a [<!ENTITY b "c">]><annotation>')
    assert "nobody finished" in reasons(
        label_studio, "export.json", '"annotations": [{"result": []}]', '"annotations": []'
    )
    assert "brush strokes" in reasons(label_studio, "export.json", '"rle": [0, 0,', '"rle": [0,')
    assert "not among the document" in reasons(
        datumaro, "annotations/train.json", '"label_id": 0, "bbox"', '"label_id": 3, "bbox"'
    )


def test_a_folder_of_nothing_known_is_refused_in_one_sentence(store: LearningStore, tmp_path: Path) -> None:
    for root, match in ((tmp_path / "none", "there is no folder"), (tmp_path, "no known layout")):
        with pytest.raises(DataError, match=match):
            FolderImport(store, RECIPE, root, Wishes()).survey()
    own(tmp_path / "own")
    for wishes, match in (
        (Wishes(classes={"dent": "nosuch"}), "no class nosuch"),
        (Wishes(part_pattern="("), "pattern of the part is wrong"),
        (Wishes(lot_pattern="abc"), "needs a group"),
    ):
        with pytest.raises(DataError, match=match):
            FolderImport(store, RECIPE, tmp_path / "own", wishes).survey()


def test_other_names_parts_lots_and_real_cameras(store: LearningStore, tmp_path: Path) -> None:
    root = tmp_path / "data"
    for lot in ("A", "B"):
        for part in range(4):
            for view in range(2):
                name = f"lot{lot}/part{part}_v{view}.png"
                save(root / "train/good" / name.replace("/", "-"), grey(ord(lot) * 100 + part * 10 + view))
    save(root / "test/dent/lotA-part9.png", grey(5000))
    save(root / "ground_truth/dent/lotA-part9_mask.png", TRUTH.astype(np.uint8) * 255)
    store.split_book.set_plan("tile", "lot", 0.3, "Ada")
    wishes = Wishes(
        classes={"dent": "pit"},
        held_out=(),
        part_pattern=r"(lot\w-part\d+)",
        lot_pattern=r"lot(\w)-",
        vouched_by="Ada Moser",
    )
    folder = FolderImport(store, RECIPE, root, wishes)
    survey = folder.survey()
    assert survey.misfits == []
    assert len(survey.sides) == 9
    folder.take(survey)
    state = store.split_book.state("tile")
    assert {part.lot for part in state.parts} == {"A", "B"}
    assert state.lots_on_both_sides == ()
    (seed,) = store.seeds("tile")
    assert (seed.part_id, seed.lot, seed.defect_class) == ("lotA-part9", "A", "pit")
    assert store.read_image(seed.image).metadata["emulated"] is False
    assert store.read_image(seed.image).metadata["vouched_by"] == "Ada Moser"


def test_a_part_in_test_and_elsewhere_is_told_also_under_another_name(store: LearningStore, tmp_path: Path) -> None:
    root = tmp_path / "data"
    mvtec(root)
    for index in range(30, 38):
        save(root / "train/good" / f"{index}.png", grey(index))
    save(root / "test/good/001_e2.png", grey(40))  # part 001 is learned from
    noisy = grey(33).astype(int) + np.random.default_rng(1).integers(-2, 3, (HEIGHT, WIDTH))
    save(root / "test/good/renamed.png", noisy.astype(np.uint8))
    survey = FolderImport(store, RECIPE, root, Wishes(held_out=("test",))).survey()
    reasons = {misfit.path.name: misfit.reason for misfit in survey.misfits}
    assert set(reasons) == {"001.png", "001_e2.png", "33.png"}
    assert "part 001 is in test and elsewhere" in reasons["001.png"]
    assert "shows the part of test/good/renamed.png again" in reasons["33.png"]


def test_what_the_store_knows_already_counts(store: LearningStore, tmp_path: Path) -> None:
    root = tmp_path / "data"
    mvtec(root)
    store.assign_split("tile", "000g", Split.LEARN)
    folder = FolderImport(store, RECIPE, root, Wishes(held_out=("test",)))
    survey = folder.survey()
    assert [misfit.reason for misfit in survey.misfits] == ["part 000g stands as 'learn' in the store already"]
    # Set aside by somebody else between the dry run and the import.
    store.assign_split("tile", "000", Split.HELD_OUT)
    survey.misfits.clear()
    with pytest.raises(SplitError, match="two sides"):
        folder.take(survey)
    assert store.backgrounds("tile") == ()


def test_channels_belong_together_by_their_names(store: LearningStore, tmp_path: Path) -> None:
    root = tmp_path / "data"
    for channel in ("left", "right"):
        save(root / "backgrounds/good" / f"g0_{channel}.png", grey(1 if channel == "left" else 2))
        save(root / "seeds/pit" / f"p0_{channel}.png", grey(3 if channel == "left" else 4))
        save(root / "seeds/pit" / f"p0_{channel}_mask.png", TRUTH.astype(np.uint8) * 255)
    save(root / "backgrounds/good/g1_left.png", grey(5))
    save(root / "backgrounds/good/g2.png", grey(6))
    folder = FolderImport(store, TWO, root, Wishes(skip_misfits=True))
    survey = folder.survey()
    reasons = {misfit.path.name: misfit.reason for misfit in survey.misfits}
    assert "under right are missing" in reasons["g1_left.png"]
    assert "2 channels; name the files NAME_<channel>" in reasons["g2.png"]
    assert folder.take(survey) == {"backgrounds": 1, "seeds": 1}
    stack = store.read_image(store.backgrounds("tile")[0].image)
    assert stack.channels == ("left", "right")
    assert np.array_equal(stack.pixels, np.stack([grey(1), grey(2)]))


def test_mvtec_defects_are_divided_by_the_plan_unless_somebody_says_otherwise(
    store: LearningStore, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    mvtec(root)
    for index in range(40):
        save(root / "test/crack" / f"c{index:03d}.png", grey(100 + index))
        save(root / "ground_truth/crack" / f"c{index:03d}_mask.png", TRUTH.astype(np.uint8) * 255)
    survey = FolderImport(store, RECIPE, root, Wishes()).survey()
    sides = [survey.sides[f"c{index:03d}"] for index in range(40)]
    assert 2 <= sides.count(Split.HELD_OUT) <= 16
    assert any("plan divides the parts" in remark for remark in survey.remarks)
    all_out = FolderImport(store, RECIPE, root, Wishes(held_out=("test",))).survey()
    assert {all_out.sides[f"c{index:03d}"] for index in range(40)} == {Split.HELD_OUT}
