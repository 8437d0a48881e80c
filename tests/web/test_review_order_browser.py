"""The order in which candidates come to the reviewer: doubtful ones early, those on withdrawn backgrounds last."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from cell.settings import Settings
from cell.store.layout import StateDir
from cell.store.learning import LearningStore
from tests.web import cells, product
from tests.web.test_review_browser import begin, candidate
from trainer import doubt

pytestmark = pytest.mark.browser

DOUBTS = (0.0, 0.1, 0.9, 0.05, 0.6, 0.0)


def doubted(settings: Settings) -> list[str]:
    """Add candidates of known doubt to a cell and return them in the order of a review."""
    with LearningStore(StateDir.create(settings.state_dir)) as store:
        product.fill(store, 0, 0)
        drafts = [product.draft(store, f"b{1 + index % 2:06d}", 900 + index, "pit") for index in range(len(DOUBTS))]
        drafts = [replace(one, scores={doubt.DOUBT: value}) for one, value in zip(drafts, DOUBTS, strict=True)]
        made = list(store.candidates.add_many("t00001", "cover", drafts))
    return [one.candidate_id for one in doubt.ordered(made)]


def test_doubtful_ones_come_first_and_those_on_a_withdrawn_background_last(tmp_path: Path, page: Any) -> None:
    settings = cells.settings_in(tmp_path)
    order = doubted(settings)
    with cells.trainer(settings), cells.pages(settings) as address:
        first = begin(page, address)
        assert first == min(order) != order[0]
        page.locator("#order").select_option("doubt")
        met = [candidate(page, first)]
        while len(met) < len(order):
            page.keyboard.press("n")
            met.append(candidate(page, met[-1]))
        assert met == order
        expect(page.locator("#subject-withdrawn")).to_be_hidden()
        with LearningStore(StateDir(settings.state_dir)) as store:
            by_id = {row.candidate.candidate_id: row.candidate for row in store.candidates.list("cover")}
            store.withdrawals.add("b000001", "reported bad by plc", "plc")
        gone = [name for name in order if by_id[name].provenance.background_id == "b000001"]
        expected = [name for name in order if name not in gone] + gone
        page.reload()
        met = [candidate(page)]
        while len(met) < len(order):
            marked = page.locator("#subject-withdrawn").is_visible()
            assert marked == (met[-1] in gone)
            page.keyboard.press("n")
            met.append(candidate(page, met[-1]))
        assert met == expected
        expect(page.locator("#subject-withdrawn")).to_contain_text("reported bad by plc")
