"""Coverage: backgrounds grow by what they add, and harvest says when more would no longer help."""

from __future__ import annotations

import json

import numpy as np

from daemon.harvest.coverage import BASE, Coverage


def figures(rng: np.random.Generator, *, level: float = 0.0) -> dict[str, float]:
    return {"down": rng.normal(0, 1), "level ring": level + rng.normal(0, 0.02), "texture ring": rng.normal(0, 0.1)}


def run(coverage: Coverage, rng: np.random.Generator, parts: int, *, level: float = 0.0) -> int:
    kept = 0
    for _ in range(parts):
        values = figures(rng, level=level)
        useful = coverage.useful(values)
        coverage.saw(values, kept=useful)
        kept += useful
    return kept


def test_it_is_complete_after_a_while_and_memory_is_bounded() -> None:
    coverage, rng = Coverage(), np.random.default_rng(1)
    assert run(coverage, rng, BASE) == BASE
    early = coverage.complete
    run(coverage, rng, 600)
    assert (early, coverage.complete) == (False, True)
    late = run(coverage, rng, 400)
    assert late < 20
    assert len(json.dumps(coverage.state())) < 10_000


def test_another_light_is_new_again() -> None:
    coverage, rng = Coverage(), np.random.default_rng(2)
    run(coverage, rng, 800)
    assert coverage.complete
    assert run(coverage, rng, 30, level=0.3) >= 2
    assert not coverage.complete or coverage.table()
    row = next(row for row in coverage.table() if row["quantity"] == "level ring")
    assert row["high"] > 0.25
    assert row["covered"] == row["bins"]


def test_it_is_recalled_as_it_was() -> None:
    coverage, rng = Coverage(), np.random.default_rng(3)
    run(coverage, rng, 10)
    early = Coverage.recalled(json.loads(json.dumps(coverage.state())))
    run(coverage, rng, 200)
    again = Coverage.recalled(json.loads(json.dumps(coverage.state())))
    assert again.table() == coverage.table()
    assert again.count == coverage.count
    one, two = np.random.default_rng(4), np.random.default_rng(4)
    assert run(early, one, 300) > 0
    assert run(again, two, 50) == run(coverage, np.random.default_rng(4), 50)
