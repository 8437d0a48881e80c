"""What the few-shot table says synthetic images are worth, on scores whose answer is known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks import fewshot, fewshot_table
from benchmarks._layout import load
from benchmarks._worth import auroc_of_draws, interval, ratio, real_shots, share_closed
from cell.defects import Sample
from tests.trainer.parts import plate
from trainer.crossval import HoldOut, hold_out
from trainer.metrics import auroc_within

_GOOD, _BAD = 40, 20


def _run(arm: str, shots: int, passing: int, **more: Any) -> dict[str, Any]:
    """Return a run in which `passing` of the defective parts of each class score as good ones do."""
    rng = np.random.default_rng(3)
    scores = {f"g{n}": ["good", f"g{n}", float(value), 0] for n, value in enumerate(rng.uniform(0.1, 0.3, _GOOD))}
    for name in ("crack", "pit"):
        for n in range(_BAD):
            scores[f"{name}{n}"] = [name, f"{name}{n}", 0.05 if n < passing else 0.8 + n / 1000, 0]
    columns = dict.fromkeys(fewshot_table._COLUMNS)
    return {"arm": arm, "shots": shots, "scores": scores, "threshold": 0.5, **columns, **more}


def _table(runs: Sequence[dict[str, Any]], folder: Path, capsys: pytest.CaptureFixture[str], *more: str) -> list[str]:
    files = []
    for number, run in enumerate(runs):
        files.append(str(folder / f"{number}.json"))
        Path(files[-1]).write_text(json.dumps(run))
    assert fewshot_table.main([*files, *more]) == 0
    return capsys.readouterr().out.splitlines()


def test_weighted_auroc_is_that_of_the_repeated_pictures() -> None:
    rng = np.random.default_rng(1)
    scores, bad, folds = rng.integers(0, 8, 60) / 8, rng.random(60) < 0.4, rng.integers(0, 3, 60).astype(float)
    weights = rng.integers(0, 3, (20, 60))
    found = auroc_of_draws(scores, bad, folds, weights)
    for row, value in zip(weights, found, strict=True):
        taken = np.repeat(np.arange(60), row)
        assert value == pytest.approx(auroc_within(scores[taken], bad[taken], folds[taken].astype(np.intp)))


def test_real_shots_are_read_off_a_curve_that_never_falls() -> None:
    curve = {1: np.array([0.2] * 5), 4: np.array([0.4, 0.4, 0.4, 0.4, 0.1]), 16: np.array([0.8] * 5)}
    found = real_shots(curve, np.array([0.6, 0.1, 0.9, 0.2, 0.15]))
    assert found.tolist() == pytest.approx([8.0, 0.0, np.inf, 1.0, 1.0])  # last: the fall from 0.2 is levelled at 0.15


def test_ratio_and_share_of_the_distance() -> None:
    assert ratio(np.array([0.4, 0.2, 0.0]), np.array([0.2, 0.0, 0.0])).tolist() == [2.0, np.inf, 1.0]
    ones = np.ones(101)
    share, bounds = share_closed(0.8 * ones, 0.7 * ones, 0.9 * ones)
    assert share == pytest.approx(0.5)
    assert bounds == pytest.approx((0.5, 0.5))
    ahead_in_half = np.where(np.arange(101) % 2, 0.6, 0.9)
    assert share_closed(0.8 * ones, 0.7 * ones, ahead_in_half)[1] is None
    assert np.isnan(share_closed(0.8 * ones, 0.95 * ones, 0.9 * ones)[0])
    low, high = interval(np.concatenate([[0.0], np.arange(1000.0)]))
    assert (low, high) == (24.0, 975.0)


def test_the_table_says_what_an_arm_is_worth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [_run("real", 5, 8), _run("real", 1, 12), _run("diffusion", 5, 4), _run("gan", 5, 9),
            _run("oracle", 5, 0, threshold=None)]  # fmt: skip
    lines = _table(runs, tmp_path, capsys)
    worth = {row.split("|")[1].strip(): [cell.strip() for cell in row.split("|")[3:-1]] for row in lines[-2:]}
    frozen, at_fr5, shots, _, closed, _ = worth["diffusion"]
    assert frozen.startswith("2.00x [1.")
    assert at_fr5 == frozen  # each run's clean gap holds both thresholds
    assert shots.startswith("more than 5 [")
    assert closed.startswith("50% [")
    assert closed.endswith("from real")
    frozen, _, shots, _, closed, _ = worth["gan"]
    assert frozen.startswith("0.89x [")
    assert 1 < float(shots.split()[0]) < 5
    assert closed.startswith("-125% [")
    assert closed.endswith("from diffusion")


def test_the_table_says_which_share_may_be_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def without(share: float, passing: int, defect_class: str | None = None) -> dict[str, Any]:
        return _run("gan", 5, passing, left_out={"share": share, "class": defect_class, "parts": []})

    runs = [_run("real", 5, 5), _run("gan", 5, 3), without(0.4, 4), without(0.6, 5), without(0.8, 9),
            without(0.6, 9, "crack")]  # fmt: skip
    lines = _table(runs, tmp_path, capsys)
    said = [line for line in lines if "may be left out" in line]
    assert said[0].startswith(
        "gan, 5 shots, all: by AUROC, 60% of the real parts may be left out in the mean; 60% with"
    )
    assert said[2].startswith("gan, 5 shots, crack: by AUROC, 0% ")
    assert any(row.startswith("| gan -60% crack | 5 |") for row in lines)
    assert any(row.startswith("| gan | 5 | crack | 60% | 1 | -0.2") for row in lines)


def test_runs_of_different_tests_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = []
    for number, run in enumerate((_run("real", 5, 5), _run("gan", 5, 3))):
        if number:
            del run["scores"]["pit3"]
        files.append(str(tmp_path / f"{number}.json"))
        Path(files[-1]).write_text(json.dumps(run))
    assert fewshot_table.main(files) == 65
    assert "run real was scored on other pictures" in capsys.readouterr().err


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "plates"
    kinds = [("seeds", kind, part) for kind, first in (("pit", 0), ("scratch", 4)) for part in range(first, first + 4)]
    kinds += [("backgrounds", "good", part) for part in range(10, 13)]
    kinds += [("test", "pit", 20), ("test", "scratch", 21), ("test", "good", 22)]
    for where, kind, part in kinds:
        (root / where / kind).mkdir(parents=True, exist_ok=True)
        one = plate(part, kind)
        Image.fromarray(one.stack[0]).save(root / where / kind / f"t{part:03d}_e1.png")
        if one.labels.any():
            mask = Image.fromarray(np.where(one.labels > 0, 255, 0).astype(np.uint8))
            mask.save(root / where / kind / f"t{part:03d}_e1_mask.png")
    return root


def test_left_out_parts_are_not_learned_but_what_was_made_of_them_is(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[Sequence[Sample]] = []

    def noted(*given: Any) -> HoldOut:
        learned.append(given[3])
        return hold_out(*given)

    monkeypatch.setattr(fewshot, "hold_out", noted)
    out = tmp_path / "out.json"
    usual = ["--data", str(folder), "--arm", "procedural", "--per-class", "2", "--updates", "2", "--batch", "2",
             "--folds", "0", "--quiet", "--json", str(out)]  # fmt: skip
    assert fewshot.main(usual) == 0
    assert json.loads(out.read_text())["left_out"] is None
    assert fewshot.main([*usual, "--leave-out", "0.75", "--leave-out-class", "pit"]) == 0
    told = json.loads(out.read_text())["left_out"]
    assert (told["share"], told["class"], len(told["parts"])) == (0.75, "pit", 3)
    everything, fewer = ({one.sample_id: one for one in given} for given in learned)
    gone = {everything[name].group for name in set(everything) - set(fewer)}
    assert gone == set(told["parts"]) <= {f"t{part:03d}" for part in range(4)}
    made = [name for name, one in fewer.items() if one.synthetic]
    assert len(made) == 4
    assert all(np.array_equal(fewer[name].stack, everything[name].stack) for name in made)
    assert len(fewshot.left_out_parts(load(folder, 4), 0.5, None, 1)) == 4
    assert fewshot.main([*usual, "--leave-out", "0.5", "--leave-out-class", "dent"]) == 65
    with pytest.raises(SystemExit):
        fewshot.main(["--data", str(folder), "--arm", "oracle", "--leave-out", "0.5"])
