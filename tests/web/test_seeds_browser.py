"""Confirming a seed in a real browser: what is drawn is what is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cell.defects import SeedState
from cell.store.layout import StateDir
from cell.store.learning import LearningStore
from tests.web import cells

pytestmark = pytest.mark.browser


def test_a_corrected_mask_is_stored_as_drawn(tmp_path: Path, page: Any) -> None:
    settings = cells.settings_in(tmp_path)
    cells.filled(settings, candidates=0, proposals=2)
    with LearningStore(StateDir(settings.state_dir)) as store:
        before = store.seeds("cover", state=SeedState.PROPOSED)
        masks = {seed.seed_id: store.read_mask(seed.mask) for seed in before}
    with cells.trainer(settings), cells.pages(settings) as address:
        page.goto(f"{address}/seeds")
        page.wait_for_selector('body[data-seed^="s"]')
        page.locator("#who").click()
        page.locator("#name-field").fill("Ada Moser")
        page.keyboard.press("Enter")
        page.wait_for_selector("#name-dialog:not([open])", state="attached")
        drawn = page.locator("body").get_attribute("data-seed")
        box = page.locator("#mask").bounding_box()
        page.mouse.move(box["x"] + 20, box["y"] + 20)
        page.mouse.down()
        page.mouse.move(box["x"] + 120, box["y"] + 20, steps=5)
        page.mouse.up()
        page.keyboard.press("1")
        page.keyboard.press("Enter")
        page.wait_for_selector(f'body[data-seed^="s"]:not([data-seed="{drawn}"])')
        second = page.locator("body").get_attribute("data-seed")
        page.locator("#why").fill("a fibre, it wipes off")
        page.locator("#refuse").click()
        page.wait_for_selector('body[data-seed=""]')
        page.locator("#state").select_option("refused")
        page.wait_for_selector(f'body[data-seed="{second}"]')
        assert page.locator("#seed-note").text_content() == "refused by Ada Moser: a fibre, it wipes off"
        assert not page.locator("#why").is_visible()
    with LearningStore(StateDir(settings.state_dir)) as store:
        confirmed, refused = store.seed(drawn), store.seed(second)
        mask = store.read_mask(confirmed.mask)
    assert (confirmed.state, confirmed.defect_class, confirmed.confirmed_by) == ("confirmed", "scratch", "Ada Moser")
    assert (refused.state, refused.reason) == (SeedState.REFUSED, "a fibre, it wipes off")
    added = mask & ~masks[drawn]
    assert not (masks[drawn] & ~mask).any(), "what was proposed stays where nothing was drawn"
    rows, columns = np.nonzero(added)
    assert added.sum() > 60
    assert np.ptp(rows) <= 6, "a horizontal stroke of five pixels"
    assert np.ptp(columns) > 15
