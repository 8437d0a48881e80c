"""Confirming a seed in a real browser: what is drawn is what is stored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect

from cell.defects import SeedState, Split
from cell.imaging.background import BackgroundModel
from cell.store.layout import StateDir
from cell.store.learning import LearningStore
from tests.web import cells, product

pytestmark = pytest.mark.browser


def named(page: Any, address: str) -> None:
    """Open the page and say who looks."""
    page.goto(f"{address}/seeds")
    page.wait_for_selector('body[data-seed^="s"]')
    page.locator("#who").click()
    page.locator("#name-field").fill("Ada Moser")
    page.keyboard.press("Enter")
    page.wait_for_selector("#name-dialog:not([open])", state="attached")


def drag(page: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw from one place of the easel to another, in shares of its size."""
    box = page.locator("#mask").bounding_box()
    page.mouse.move(box["x"] + start[0] * box["width"], box["y"] + start[1] * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + end[0] * box["width"], box["y"] + end[1] * box["height"], steps=6)
    page.mouse.up()


def test_the_wand_follows_the_anomaly_and_every_stroke_can_be_undone(tmp_path: Path, page: Any) -> None:
    settings = cells.settings_in(tmp_path)
    cells.filled(settings, candidates=0, proposals=1)
    model = BackgroundModel(len(product.LIGHTS), 12)
    for index in range(12):
        model.add(product.part(200 + index).pixels, np.ones((product.HEIGHT, product.WIDTH), np.bool_))
    model.save(StateDir(settings.state_dir).backgrounds / "cover.model.npz")
    _, truth = product.height_map(700, "scratch", 1.3)
    with cells.trainer(settings), cells.pages(settings) as address:
        named(page, address)
        page.keyboard.press("e")
        for _ in range(8):
            page.keyboard.press("]")
        for row in range(3):
            drag(page, (0.3, 0.4 + 0.05 * row), (0.7, 0.35 + 0.05 * row))
        for _ in range(3):
            page.keyboard.press("u")  # all three strokes
        page.keyboard.press("y")  # and one again
        page.keyboard.press("u")
        page.wait_for_function(EQUAL_TO_PROPOSED)  # undone to the last pixel
        page.keyboard.press("o")
        page.keyboard.press("e")
        for _ in range(30):
            page.keyboard.press("]")
        for row in range(12):
            drag(page, (0.05, 0.05 + 0.08 * row), (0.95, 0.05 + 0.08 * row))
        page.keyboard.press("w")
        page.keyboard.press("]")  # reaches farther
        at = page.evaluate(PLACE, [*map(float, np.argwhere(truth)[truth.sum() // 2][::-1])])
        page.mouse.click(*at)
        page.wait_for_selector('body[data-wand^="anomaly"]')
        page.keyboard.press("1")
        page.keyboard.press("Enter")
        page.wait_for_selector('body[data-seed=""]')
    with LearningStore(StateDir(settings.state_dir)) as store:
        (seed,) = (one for one in store.seeds("cover") if one.part_id == "proposed-0")
        mask = store.read_mask(seed.mask)
    assert (seed.state, seed.defect_class) == (SeedState.CONFIRMED, "scratch")
    overlap = (mask & truth).sum() / (mask | truth).sum()
    assert overlap > 0.5, f"the wand alone drew it, IoU {overlap:.2f}"


EASEL = 'async (value) => { const { easel, filled } = await import("/static/easel.js"); '
#: True when the mask is what was proposed, whose outline stands beside the seed's picture on the left.
EQUAL_TO_PROPOSED = (
    EASEL
    + 'const mask = filled(document.querySelector("#rail path.outline").getAttribute("d"), easel.width, easel.height); '
    "return mask.every((inside, at) => inside === easel.mask[at]); }"
)
#: Where a pixel of the part is on the screen.
PLACE = (
    EASEL + 'const box = document.getElementById("mask").getBoundingClientRect(); const { view } = easel; '
    "return [box.left + (value[0] + 0.5 - view.x) * box.width / view.width, "
    "box.top + (value[1] + 0.5 - view.y) * box.height / view.height]; }"
)


def test_a_person_says_what_else_a_part_shows(tmp_path: Path, page: Any) -> None:
    settings = cells.settings_in(tmp_path)
    cells.filled(settings, candidates=0, proposals=1)
    with cells.trainer(settings), cells.pages(settings) as address:
        named(page, address)
        first = page.locator("body").get_attribute("data-seed")
        expect(page.locator("#channels .tile")).to_have_text(["left", "top", "ring"])
        page.keyboard.press("ArrowRight")
        page.wait_for_selector('#channels .tile:nth-child(2)[aria-pressed="true"]')
        page.keyboard.press("p")
        page.keyboard.press("0")  # the whole part
        page.keyboard.press("2")
        page.keyboard.press("Enter")
        expect(page.locator("#notice")).to_contain_text("mask is empty")
        drag(page, (0.05, 0.05), (0.12, 0.09))
        page.keyboard.press("Enter")
        page.wait_for_selector("#part-block:not([hidden])")
        expect(page.locator("#siblings")).to_contain_text("pit")
        page.locator("#state").select_option("confirmed")
        page.wait_for_selector(f'body[data-seed^="s"]:not([data-seed="{first}"])')
        expect(page.locator("#lacks")).to_contain_text("no held-out part with scratch is confirmed")
    with LearningStore(StateDir(settings.state_dir)) as store:
        seed = store.seed(first)
        (other,) = (one for one in store.seeds("cover") if one.image == seed.image and one.seed_id != first)
        mask = store.read_mask(other.mask)
    assert seed.state is SeedState.PROPOSED
    assert (other.state, other.defect_class, other.confirmed_by) == (SeedState.CONFIRMED, "pit", "Ada Moser")
    rows, columns = np.nonzero(mask)
    assert rows.max() < 40
    assert columns.max() < 60


def test_what_the_store_refuses_is_said_on_the_page(tmp_path: Path, page: Any) -> None:
    settings = cells.settings_in(tmp_path)
    cells.filled(settings, candidates=0, proposals=0)
    relief, mask = product.height_map(700, "scratch", 1.3)
    stack = product.part(60, relief)
    with LearningStore(StateDir(settings.state_dir)) as store:
        dim = replace(stack, exposure_us=(1500.0, 700.0, 1500.0))
        store.propose_seed("cover", "dim", dim, mask, "scratch", Split.LEARN)
    with cells.trainer(settings), cells.pages(settings) as address:
        named(page, address)
        page.keyboard.press("Enter")
        page.wait_for_selector("#notice:not([hidden])")
        expect(page.locator("#notice")).to_contain_text("top was exposed 700 us, the recipe says 1500 us")
        expect(page.locator("#confirm")).to_be_enabled()


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
        expect(page.locator("#seed-note")).to_have_text("refused by Ada Moser: a fibre, it wipes off")
        expect(page.locator("#why")).to_be_hidden()
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
