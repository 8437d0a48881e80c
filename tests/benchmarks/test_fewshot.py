"""The few-shot benchmark runs on any product in the layout, keeps its keys, and names what does not fit."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import fewshot, fewshot_table
from benchmarks._arms import export_synthetic, synthesise
from benchmarks._figures import figures, rate_by_part
from benchmarks._layout import load
from benchmarks._pixels import average_precisions, draw_parts
from cell.defects import PASTED_FROM, Sample
from cell.errors import DataError
from tests.trainer.parts import plate
from trainer.evaluate import PixelPrecisions, Scored

KEYS = {
    "auroc", "auroc_95", "auroc_macro", "auroc_macro_95", "fa", "fa_95", "fr", "fr_95", "oracle_fa_at_fr5",
    "oracle_fr_at_fa0", "pixel_ap", "pixel_ap_macro", "recall", "seconds", "peak_mb",
}  # fmt: skip


def write(folder: Path, sample: Sample, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sample.stack[0]).save(folder / f"{name}.png")
    if sample.labels.any():
        Image.fromarray(np.where(sample.labels > 0, 255, 0).astype(np.uint8)).save(folder / f"{name}_mask.png")


@pytest.fixture
def product(tmp_path: Path) -> Path:
    root = tmp_path / "plates"
    part = 0
    for folder, kind, parts, pictures in (
        ("seeds/pit", "pit", 3, 2), ("seeds/scratch", "scratch", 2, 2), ("backgrounds/good", "good", 6, 1),
        ("test/pit", "pit", 2, 2), ("test/scratch", "scratch", 1, 2), ("test/good", "good", 4, 1),
    ):  # fmt: skip
        for _ in range(parts):
            for picture in range(pictures):
                write(root / folder, plate(part, kind, picture), f"t{part:03d}_e{picture + 1}")
            part += 1
    return root


def test_a_shot_is_a_part_with_all_its_pictures(product: Path) -> None:
    plates = load(product, shots=1)
    assert plates.classes == ("pit", "scratch")
    assert [sample.sample_id for sample in plates.seeds] == ["t000_e1", "t000_e2", "t003_e1", "t003_e2"]
    assert {int(sample.labels.max()) for sample in plates.seeds} == {1, 2}
    assert len(load(product, shots=5).seeds) == 10
    assert {sample.group for sample in load(product, shots=1).seeds} == {"t000", "t003"}


def test_real_arm_end_to_end(product: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "real.json"
    arguments = ["--data", str(product), "--shots", "2", "--arm", "real", "--seed", "3", "--updates", "4", "--quiet"]
    assert fewshot.main([*arguments, "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert set(result) >= KEYS
    assert len(result["scores"]) == 10
    assert 0 <= result["auroc_95"][0] <= result["auroc"] <= result["auroc_95"][1] <= 1
    assert set(result["seconds"]) == {"load", "generate", "cross-validation", "fit", "test"}
    assert result["synthetic"] == 0
    assert "FA at the frozen threshold" in capsys.readouterr().out


def test_oracle_arm_scores_every_test_part_once(product: Path, tmp_path: Path) -> None:
    out = tmp_path / "oracle.json"
    arguments = ["--data", str(product), "--arm", "oracle", "--updates", "2", "--quiet", "--json", str(out)]
    assert fewshot.main(arguments) == 0
    result = json.loads(out.read_text())
    assert len(result["scores"]) == 10
    assert result["fa"] is None


def test_a_run_that_is_repeated_on_its_work_folder_learns_nothing_anew(
    product: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, work = tmp_path / "real.json", tmp_path / "work"
    arguments = ["--data", str(product), "--arm", "real", "--updates", "4", "--batch", "2", "--quiet"]
    assert fewshot.main([*arguments, "--work", str(work), "--json", str(out)]) == 0
    first = json.loads(out.read_text())
    assert first["threshold_source"].startswith("leave-one-part-out")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("fitted again")

    monkeypatch.setattr("trainer.crossval.fit", refuse)
    monkeypatch.setattr("trainer.crossval.go_on", refuse)
    assert fewshot.main([*arguments, "--work", str(work), "--json", str(out)]) == 0
    again = json.loads(out.read_text())
    assert (again["scores"], again["threshold"], again["pixels"]) == (
        first["scores"], first["threshold"], first["pixels"]
    )  # fmt: skip


def test_the_table_pairs_arms_and_shots_by_part(
    product: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = []
    for shots in ("1", "2"):
        runs.append(str(tmp_path / f"{shots}.json"))
        fewshot.main(["--data", str(product), "--shots", shots, "--updates", "2", "--batch", "2", "--folds", "0",
                      "--quiet", "--json", runs[-1]])  # fmt: skip
    record = json.loads(Path(runs[0]).read_text())
    once = np.ones((1, len(record["pixels"])), np.intp)
    assert average_precisions([record["pixels"]], once, None)[0] == pytest.approx(record["pixel_ap"], abs=0.01)
    macro = average_precisions([record["pixels"]], once, ["pit", "scratch"])[0]
    assert macro == pytest.approx(record["pixel_ap_macro"], abs=0.01)
    draws = draw_parts(sorted(record["pixels"]), 50)
    assert set(draws.sum(axis=1)) == {len(record["pixels"])}
    capsys.readouterr()
    assert fewshot_table.main([*runs, "--against", "real:2"]) == 0
    one, two = capsys.readouterr().out.splitlines()[2:]
    assert one.startswith("| real | 1 | 1 |")
    assert one.count("[") == 3
    assert two.endswith("| - | - | - |")


def test_figures_of_known_scores() -> None:
    scored = [
        Scored("a1", "a", "pit", (0.9,)), Scored("a2", "a", "pit", (0.2,)), Scored("b1", "b", "pit", (0.8,)),
        Scored("c1", "c", "good", (0.1,)), Scored("c2", "c", "good", (0.85,)), Scored("d1", "d", "good", (0.05,)),
    ]  # fmt: skip
    result = figures(scored, PixelPrecisions.empty(["pit"]), ["pit"], 0.5)
    assert result["auroc"] == pytest.approx(7 / 9)
    assert result["fa"] == pytest.approx(1 / 3)
    assert result["fr"] == pytest.approx(1 / 3)
    assert result["recall"] == {"pit": pytest.approx(2 / 3)}
    assert result["oracle_fr_at_fa0"] == pytest.approx(1 / 3)
    assert result["oracle_fa_at_fr5"] == pytest.approx(2 / 3)  # no good picture may fail, so only 0.9 is found
    assert result["fa_95"][0] < 1 / 3 < result["fa_95"][1]


def test_intervals_count_parts_not_pictures() -> None:
    one_part = rate_by_part([True] * 50 + [False] * 50, ["a"] * 100)[1]
    many_parts = rate_by_part([True] * 50 + [False] * 50, [str(n) for n in range(100)])[1]
    assert one_part[1] - one_part[0] > 0.9
    assert many_parts[1] - many_parts[0] < 0.25
    assert rate_by_part([], []) == (None, (0.0, 1.0))


def test_export_writes_image_and_mask_of_each_class(tmp_path: Path) -> None:
    samples = [replace(one, stack=one.stack[:1]) for one in (plate(1, "scratch"), plate(2, "pit"))]
    export_synthetic(samples, ("pit", "scratch"), tmp_path / "out")
    image = np.asarray(Image.open(tmp_path / "out" / "pit" / "p2_0.png"))
    mask = np.asarray(Image.open(tmp_path / "out" / "pit" / "p2_0_mask.png"))
    assert np.array_equal(image, samples[1].stack[0])
    assert np.array_equal(mask == 255, samples[1].labels > 0)
    assert len(list((tmp_path / "out" / "scratch").glob("*.png"))) == 2


def test_lights_of_a_part_are_one_stack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    insulator = Path(fewshot.__file__).parent / "heldout" / "data" / "insulator"
    product = load(insulator, shots=3, lights=True)
    assert {len(sample.stack) for sample in (*product.seeds, *product.backgrounds, *product.test)} == {4}
    assert len(product.seeds) == 12
    made = synthesise("procedural", product, 1, 1, lambda _progress: None)
    assert made.samples[0].stack.shape == product.backgrounds[0].stack.shape
    export_synthetic(made.samples, product.classes, tmp_path)
    names = {file.name for file in (tmp_path / product.classes[0]).iterdir()}
    assert len(names) == 8
    assert "synthetic-00000_e4_mask.png" in names
    shutil.copytree(insulator, tmp_path / "short")
    next((tmp_path / "short" / "test" / "good").glob("*_e4.png")).unlink()
    assert fewshot.main(["--data", str(tmp_path / "short"), "--lights", "--folds", "0"]) == DataError.exit_code
    assert "give each the same lights" in capsys.readouterr().err


def test_bad_folders_are_named_in_one_line(product: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fewshot.main(["--data", str(product / "nowhere"), "--quiet"]) == 65
    err = capsys.readouterr().err
    assert "is missing; the layout is" in err
    assert err.count("\n") == 1

    mask = product / "seeds" / "pit" / "t000_e1_mask.png"
    kept = mask.read_bytes()
    mask.unlink()
    with pytest.raises(DataError, match=r"its mask .* is missing"):
        load(product, 5)
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(mask)
    with pytest.raises(DataError, match="draw it again"):
        load(product, 5)
    mask.write_bytes(kept[: math.ceil(len(kept) / 2)])
    with pytest.raises(DataError, match="not a whole picture"):
        load(product, 5)
    mask.write_bytes(kept)

    write(product / "test" / "good", plate(0), "t000_e9")
    with pytest.raises(DataError, match="in test and in the learning folders"):
        load(product, 5)


def test_a_defective_test_picture_may_have_an_empty_mask(product: Path) -> None:
    mask = product / "test" / "pit" / "t011_e2_mask.png"
    shape = np.asarray(Image.open(mask)).shape
    Image.fromarray(np.zeros(shape, np.uint8)).save(mask)
    unmarked = next(sample for sample in load(product, 5).test if sample.sample_id == "t011_e2")
    assert not unmarked.labels.any()
    assert unmarked.tags["class"] == "pit"


@pytest.mark.parametrize("arm", ["copypaste", "procedural"])
def test_synthetic_images_say_which_parts_are_in_them(product: Path, arm: str) -> None:
    plates = load(product, 5)
    made = synthesise(arm, plates, 2, 1, lambda _: None)
    assert made.seeds_can_be_held_out
    assert sorted(int(sample.labels.max()) for sample in made.samples) == [1, 1, 2, 2]
    seeds = {sample.group: int(sample.labels.max()) for sample in plates.seeds}
    backgrounds = {sample.group: sample.stack for sample in plates.backgrounds}
    for sample in made.samples:
        assert sample.synthetic
        assert sample.stack.shape == backgrounds[sample.group].shape
        assert {seeds[part] for part in sample.tags[PASTED_FROM].split(",")} == {int(sample.labels.max())}
        changed = sample.stack[0] != backgrounds[sample.group][0]
        assert changed[sample.labels > 0].mean() > 0.5
    assert synthesise("real", plates, 2, 1, lambda _: None).samples == ()
