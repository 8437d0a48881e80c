"""The line's benchmark, small: every figure is there and nothing is lost, late, FAULT or mixed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.line import main, part_ids, percentiles


def test_it_runs_a_daemon_swaps_models_and_reproduces_every_verdict(tmp_path: Path) -> None:
    out = tmp_path / "line.json"
    # The deadline is long: this test is about the figures, not about the speed of a busy machine.
    arguments = "--parts 24 --channels 2 --rate 600 --swaps 3 --cameras simulated --engines null --deadline-ms 3000"
    assert main([*arguments.split(), "--json", str(out)]) == 0
    report = json.loads(out.read_text())
    assert {key: report[key] for key in ("lost", "late", "fault", "mixed_models")} == {
        "lost": 0,
        "late": 0,
        "fault": 0,
        "mixed_models": 0,
    }
    run = report["cameras"]["simulated"]["null"]
    assert run["parts"] == 24
    assert run["swaps"] >= 1
    for side in ("daemon_ms", "bare_ms", "ratio"):
        assert set(run[side]) == {"p50", "p99", "p99.9", "max"}
        assert all(value > 0 for value in run[side].values())


@pytest.mark.parametrize("arguments", ["--parts 0", "--rate 0", "--channels 33", "--swaps -1", "--cameras eye"])
def test_wrong_arguments_are_told(arguments: str) -> None:
    with pytest.raises(SystemExit):
        main(arguments.split())


def test_percentiles_are_of_all_values() -> None:
    assert percentiles([1.0] * 99 + [101.0]) == {"p50": 1.0, "p99": 2.0, "p99.9": 91.1, "max": 101.0}


def test_good_and_bad_parts_take_turns() -> None:
    ids = part_ids(50)
    assert len(ids) == 50
    assert 0 < sum(name.startswith("pit") for name in ids) < 20
