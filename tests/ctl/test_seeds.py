"""inspectctl seeds, import and split against a real trainer service."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cell.defects import Split
from cell.settings import Settings
from cell.store.layout import StateDir
from cell.store.learning import LearningStore
from daemon.ctl.main import main
from tests.ctl.test_terminal import in_terminal
from tests.web import cells, product

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    settings = cells.settings_in(tmp_path_factory.mktemp("cell"))
    cells.filled(settings, candidates=0, proposals=3)
    with cells.trainer(settings):
        yield settings


@pytest.fixture
def run(cell: Settings, capsys: pytest.CaptureFixture[str]) -> Run:
    config = cell.state_dir.parent / "inspectd.toml"

    def call(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["--config", str(config), *words])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return call


def proposals(run: Run) -> list[str]:
    _, out, _ = run("seeds", "list", "--state", "proposed", "--json")
    return [seed["seed_id"] for seed in json.loads(out)["seeds"]]


def test_a_seed_is_shown_with_all_that_is_known_of_it(run: Run) -> None:
    seed_id = proposals(run)[0]
    code, out, err = run("seeds", "show", seed_id)
    assert (code, err) == (0, "")
    for part in ("left, mask", "proposed-0", "learned from", "left 1500 us 0 dB", seed_id):
        assert part in out
    assert json.loads(run("seeds", "show", seed_id, "--json")[1])["seed"]["seed_id"] == seed_id
    code, _, err = run("seeds", "show", "s999999")
    assert (code, err.count("\n")) == (66, 1)


def test_a_mask_goes_out_and_comes_back(run: Run, cell: Settings, tmp_path: Path) -> None:
    seed_id = proposals(run)[0]
    file = tmp_path / "mask.png"
    code, out, _ = run("seeds", "mask-file", seed_id, str(file))
    assert code == 0
    assert f"{product.WIDTH}x{product.HEIGHT}" in out
    drawn = np.asarray(Image.open(file)).copy()
    drawn[:5, :5] = 255
    Image.fromarray(drawn).save(file)
    here = cell.state_dir.parent
    words = ("seeds", "confirm", seed_id, "scratch", "--mask", str(file), "--as", "Ada Moser")
    assert in_terminal(here, *words) == (0, f"{seed_id}: confirmed scratch\r\n")
    other = np.zeros_like(drawn)
    other[-9:-2, -9:-2] = 255
    Image.fromarray(other).save(file)
    words = ("seeds", "also", seed_id, "pit", "--mask", str(file), "--as", "Ada Moser")
    code, out = in_terminal(here, *words)
    assert (code, "confirmed pit" in out) == (0, True)
    code, out = in_terminal(here, *words)
    assert (code, "a confirmed pit; correct that one" in out) == (65, True)
    with LearningStore(StateDir(cell.state_dir)) as store:
        assert np.array_equal(store.read_mask(store.seed(seed_id).mask), drawn > 0)
    assert run("seeds", "mask-file", seed_id, str(tmp_path / "mask.jpg"))[0] == 65


def test_away_from_a_terminal_nobody_decides(run: Run) -> None:
    seed_id = proposals(run)[-1]
    for words in (
        ("seeds", "confirm", seed_id, "scratch", "--as", "Ada"),
        ("seeds", "refuse", seed_id, "--as", "Ada"),
        ("split", "plan", "--as", "Ada", "--recipe", "cover"),
        ("split", "assign", "p", "learn", "--as", "Ada", "--recipe", "cover"),
        ("import", "/tmp", "--real", "--as", "Ada", "--recipe", "cover"),
    ):
        code, out, err = run(*words)
        assert (code, out) == (77, "")
        assert "person's decision" in err


def test_what_the_set_lacks_is_a_table_and_an_exit_code(run: Run) -> None:
    code, out, _ = run("seeds", "lacks")
    assert code == 0
    assert out.splitlines()[0].split() == ["CLASS", "SEEDS", "PARTS", "UNUSABLE", "PROPOSED", "HELD", "OUT", "READY"]
    assert "- no held-out part with scratch is confirmed; nothing can measure how well it is found" in out
    document = json.loads(run("seeds", "lacks", "--json")[1])
    assert [one["defect_class"] for one in document["classes"]] == ["scratch", "pit"]


def test_the_split_is_shown_and_can_not_be_changed(run: Run, cell: Settings) -> None:
    here = cell.state_dir.parent
    before = json.loads(run("split", "show", "--json")[1])["split"]
    words = ("split", "assign", "good-0", "held-out", "--as", "Mallory", "--recipe", "cover")
    code, out = in_terminal(here, *words)
    assert (code, "set aside as 'learn' before" in out) == (77, True)
    code, out = in_terminal(here, "split", "plan", "--by", "lot", "--as", "Mallory", "--recipe", "cover")
    assert (code, "divided already" in out) == (77, True)
    code, out, _ = run("split", "show")
    assert code == 0
    for part in ("by part, 20% held out, the default", before["digest"], "good-0", "held-out", "(plan)"):
        assert part in out
    after = json.loads(run("split", "show", "--json", "--twins")[1])
    assert after["split"]["digest"] == before["digest"]
    assert [one["part_id"] for one in after["split"]["refused"]] == ["good-0", ""]
    assert after["twins"] == []


def folder(root: Path) -> None:
    """Three lights at 12 bit: good parts, one that is too small, one defect."""
    for name, stack in (("good-7", product.part(7)), ("good-8", product.part(8))):
        (root / "train/good").mkdir(parents=True, exist_ok=True)
        for channel, pixels in zip(stack.channels, stack.pixels, strict=True):
            Image.fromarray(pixels).save(root / "train/good" / f"{name}_{channel}.png")
    relief, mask = product.height_map(900, "pit")
    stack = product.part(9, relief)
    for place in ("test/pit", "ground_truth/pit"):
        (root / place).mkdir(parents=True)
    for channel, pixels in zip(stack.channels, stack.pixels, strict=True):
        Image.fromarray(pixels).save(root / "test/pit" / f"bad-9_{channel}.png")
        Image.fromarray(mask.astype(np.uint8) * 255).save(root / "ground_truth/pit" / f"bad-9_{channel}_mask.png")


def test_a_folder_is_looked_at_then_taken_in(run: Run, cell: Settings, tmp_path: Path) -> None:
    root = tmp_path / "data"
    folder(root)
    small = root / "train/good/small_left.png"
    Image.fromarray(np.zeros((20, 30), np.uint16)).save(small)
    code, out, _ = run("import", str(root), "--dry-run")
    assert code == 65
    assert "train/good/small_left.png" in out
    assert "under top, ring are missing" in out
    assert "nothing was taken in: this was a dry run" in out
    code, out, err = run("import", str(root))
    assert (code, out) == (65, "")
    assert "nothing was taken in" in err
    small.unlink()
    code, out, err = run("import", str(root), "--held-out", "test")
    assert (code, err) == (0, "")
    assert "taken in: 2 backgrounds, 1 proposed seeds" in out
    assert "count as emulated" in out
    with LearningStore(StateDir(cell.state_dir)) as store:
        assert store.split_of("cover", "bad-9") is Split.HELD_OUT
        assert {one.part_id for one in store.backgrounds("cover")} >= {"good-7", "good-8"}
    code, out, _ = run("import", str(root / "nosuch"), "--json")
    assert code == 65
