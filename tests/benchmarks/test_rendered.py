"""The benchmarks that learn on the emulated cell: product variants, and the tails of severity and morphology."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import tails, variants
from benchmarks.rendered_cell import SIZE, RenderedCell


@pytest.fixture(scope="module")
def cell() -> RenderedCell:
    return RenderedCell("brushed", "1", ("pit", "crack"))


def test_a_variant_is_another_part_with_the_same_kind_of_defect(cell: RenderedCell) -> None:
    other = RenderedCell("brushed", "1", ("pit", "crack"), variants.OTHER)
    here, there = cell.background(3), other.background(3)
    assert here.stack.shape == there.stack.shape == (1, *SIZE)
    # The part is smaller: its hole and lower edge lie in the view, and nothing may be put there.
    assert there.allowed.mean() < here.allowed.mean() < 1
    dark = [float((one.stack[0] < 300).mean()) for one in (here, there)]
    assert dark[0] < dark[1]
    rough = [float(np.abs(np.diff(one.stack[0][one.allowed].astype(float))).mean()) for one in (here, there)]
    assert rough[1] > 1.1 * rough[0]
    pit = cell.seeds(1, 500, (1.0, 1.0), classes=("pit",))[0]
    assert np.array_equal(pit.stack, cell.seeds(1, 500, (1.0, 1.0), classes=("pit",))[0].stack)
    assert pit.mask.sum() == pytest.approx(other.seeds(1, 500, (1.0, 1.0), classes=("pit",))[0].mask.sum(), rel=0.5)


def test_tails_hold_what_their_name_says(cell: RenderedCell) -> None:
    area = {}
    for name in ("weak", "weak and small"):
        one = tails.TAILS[name]
        found = cell.seeds(3, 700, one.severity, one.fits, ("crack",))
        area[name] = float(np.mean([seed.mask.sum() for seed in found]))
    assert area["weak and small"] < area["weak"]
    general, special = tails.read_plan(tails.PLAN)
    assert general.severity is not None
    assert special["crack"].branches is not None


def test_recall_is_counted_at_five_percent_of_the_good_parts() -> None:
    good = np.linspace(0, 0.5, 40)[None]  # the two highest are rejected: 0.4872 and 0.5
    found = tails.figures(good, {"weak": np.array([[0.48, 0.4, 0.2, 0.9]]), "usual": np.full((1, 6), 0.8)})
    recall, area = found["weak"]
    assert recall[0] == 0.5
    assert 0 < area[0] < 1
    assert tails.with_interval(found["usual"][0]) == [1.0, 1.0, 1.0]
    low, high = tails.with_interval(recall)[1:]
    assert low < 0.5 < high


def test_auroc_is_the_mean_over_classes_and_detectors() -> None:
    truths = ["pit", "pit", "crack", "good", "good"]
    scores = np.array([[0.9, 0.1, 0.8, 0.2, 0.3], [0.9, 0.9, 0.0, 0.2, 0.3]])
    values = variants.aurocs(scores, truths)
    assert values[0] == pytest.approx((0.5 + 1 + 1 + 0) / 4)
    assert variants.with_interval(values - values) == [0, 0, 0]


def test_variants_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "variants.json"
    few = ["--classes", "pit", "--lights", "1", "--shots", "3", "--per-class", "2", "--fit-steps", "1"]
    small = ["--backgrounds", "2", "--real", "3", "--updates", "1", "--detectors", "1", "--json", str(out)]
    variants.main([*few, *small])
    result = json.loads(out.read_text())
    # The relative's adapters are found, not fitted again.
    assert result["adapters_fitted"] == {"reused": 0, "own": 1}
    assert set(result["gap_auroc"]) == {"reused", "own"}
    assert set(result["passed"]) == {"gap", "detector", "detector, upper 95 % bound", "time"}
    assert "share of the time" in capsys.readouterr().out


def test_tails_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "tails.json"
    arguments = ["--lights", "1", "--shots", "3", "--per-class", "2", "--backgrounds", "2", "--real", "1",
                 "--good", "3", "--updates", "1", "--detectors", "1", "--json", str(out)]  # fmt: skip
    tails.main(arguments)
    result = json.loads(out.read_text())
    assert result["candidates"] == {tails.SEEDS_ALONE: 0, tails.LIKE_SEEDS: 4, tails.BY_PLAN: 4}
    assert set(result["tails"]) == {"usual", "weak", "weak and small", "weak and branched"}
    assert capsys.readouterr().out.count("\n") == 10
