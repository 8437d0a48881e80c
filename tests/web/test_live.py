"""The live page against a real daemon."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from cell.frames import Frame
from cell.recipes import ArchiveRule, Channel
from tests.daemon.cells import Cell, contrast_model, eventually, running
from tests.daemon.rigs import recipe
from tests.web import cells

#: Longer than what the server sends in one piece, so that looking closely asks for more.
HEIGHT, WIDTH = 900, 1600


@pytest.mark.browser
def test_the_last_part_is_shown_as_it_was_judged(tmp_path: Path, page: Any) -> None:
    settings = cells.settings_in(tmp_path)
    contrast_model(tmp_path)
    with running(tmp_path, settings=settings) as cell, cells.pages(settings) as address:
        page.goto(f"{address}/live")
        page.wait_for_selector('#verdict[data-outcome="none"]')
        cell.client.call("inspectd.deploy", {"model": "contrast-1", "promote": True})
        cell.ready()
        for part, outcome in (("good-1", "OK"), ("bad-1", "NG"), ("unknown-1", "FAULT")):
            verdict = cell.trigger(part)
            assert verdict["outcome"] == outcome
            page.wait_for_selector(f'#verdict[data-outcome="{outcome}"]')
            expect(page.locator("#outcome")).to_have_text(outcome)
            expect(page.locator("#part")).to_contain_text(part)
            if outcome == "NG":
                page.wait_for_selector("#frames rect.region")
                expect(page.locator("#frames figcaption b")).to_have_text(["bright", "dark"])
                box = page.locator("#frames rect.region").first.bounding_box()
                assert box["width"] > 10
        expect(page.locator("#reasons-list li").first, "a FAULT says why").to_be_attached()
        for name in ("ok", "ng", "fault"):
            expect(page.locator(f"#n-{name}")).to_have_text("1")
        expect(page.locator("#trend circle, #trend path.ng, #trend rect.fault")).to_have_count(3)


def test_the_page_asks_for_what_it_does_not_have(tmp_path: Path) -> None:
    settings = cells.settings_in(tmp_path)
    contrast_model(tmp_path)
    with running(tmp_path, settings=settings) as cell, cells.pages(settings) as address:
        with httpx.Client(base_url=address) as http:
            assert http.get("/api/live").json()["results"] == []
            cell.client.call("inspectd.deploy", {"model": "contrast-1", "promote": True})
            cell.ready()
            job_id = cell.trigger("good-1")["job_id"]

            def picture() -> Any:
                return http.get("/api/live").json()["picture"]

            assert eventually(lambda: picture() is not None), "the archive writes behind the verdict"
            found = picture()
            assert [channel["name"] for channel in found["channels"]] == ["bright", "dark"]
            assert http.get(found["channels"][0]["ranges"]["stretched"]["whole"]).status_code == 200
            again = http.get("/api/live", params={"job": job_id, "picture": found["address"]}).json()
            assert "results" not in again
            assert again["status"]["counts"]["OK"] == 1

            cell.daemon.conditions.raise_("lamp", "a lamp is weak")
            assert http.get("/api/live").json()["status"]["conditions"] == ["a lamp is weak"]
            cell.daemon.conditions.resolve("lamp")
            assert http.get("/api/live").json()["status"]["conditions"] == [], "it waits to be confirmed"


@pytest.mark.browser
def test_a_part_without_a_picture_says_why_and_what_to_do(tmp_path: Path, page: Any) -> None:
    settings = cells.settings_in(tmp_path)
    contrast_model(tmp_path)
    sparing = recipe(archive=ArchiveRule(ok_share=0.0, ring=0))
    with running(tmp_path, settings=settings, recipes=(sparing,)) as cell, cells.pages(settings) as address:
        cell.client.call("inspectd.deploy", {"model": "contrast-1", "promote": True})
        cell.ready()
        assert cell.trigger("good-1")["outcome"] == "OK"
        page.goto(f"{address}/live")
        empty = page.locator("#frames .empty")
        assert eventually(lambda: "archive.ring of 1" in (empty.text_content() or ""))
        assert cell.trigger("bad-1")["outcome"] == "NG", "an NG part is kept, and takes the sentence's place"
        page.wait_for_selector("#frames .stack image")
        assert cell.trigger("good-2")["outcome"] == "OK"
        assert eventually(lambda: empty.count() == 1 and "archive.ring of 1" in (empty.text_content() or ""))
        expect(page.locator("#frames .stack"), "not the picture of the part before").to_have_count(0)


def twelve_bit(dark: int, bright: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint16]]:
    """A ramp from `dark` to `bright` DN along x; its row 10 counts the columns."""
    ramp = np.linspace(dark, bright, WIDTH).clip(0, 4095).round().astype(np.uint16)
    pixels = np.tile(ramp, (HEIGHT, 1))
    pixels[10] = np.arange(WIDTH) % 4000 + 1
    return pixels


def delivered(pixels: Any) -> Callable[[Frame], Frame]:
    return lambda frame: replace(frame, pixels=pixels, bit_depth=12)


@contextmanager
def bench(folder: Path) -> Iterator[tuple[Cell, str]]:
    """A cell of three channels at 12 bit: one clipped at neither end, one at 0, one at full scale."""
    settings = cells.settings_in(folder)
    channels = tuple(
        Channel(name=name, exposure_us=100, lights={"line-0": level})
        for name, level in (("plain", 0.2), ("dim", 0.1), ("glare", 1.0))
    )
    tall = recipe(height=HEIGHT, width=WIDTH, bit_depth=12, channels=channels, deadline_ms=20_000.0)
    with running(folder, settings=settings, recipes=(tall,)) as cell, cells.pages(settings) as address:
        cell.ready()
        yield cell, address


def inspect(cell: Cell, part_id: str) -> None:
    shown = (twelve_bit(100, 3000), twelve_bit(-1000, 1000), twelve_bit(1000, 4500))
    cell.camera.trouble = [delivered(pixels) for pixels in shown]
    cell.trigger(part_id)


def on_screen(page: Any, x: int, y: int) -> list[float]:
    """Return where the middle of a part's pixel is on the first channel."""
    script = (
        "(one, at) => { const p = new DOMPoint(at[0] + 0.5, at[1] + 0.5).matrixTransform(one.getScreenCTM());"
        " return [p.x, p.y]; }"
    )
    found: list[float] = page.locator("#frames .stack").first.evaluate(script, [x, y])
    return found


def seen(page: Any) -> list[str]:
    boxes: list[str] = page.locator("#frames .stack").evaluate_all(
        "all => all.map((one) => one.getAttribute('viewBox'))"
    )
    return boxes


@pytest.mark.browser
def test_all_channels_are_zoomed_read_and_marked_together(tmp_path: Path, page: Any) -> None:
    with bench(tmp_path) as (cell, address):
        inspect(cell, "A-1")
        page.goto(f"{address}/live")
        assert eventually(lambda: page.locator("#frames .histogram .counts").count() == 3)
        clips = page.locator("#frames .clip")
        assert eventually(lambda: len(clips.all_text_contents()) > 5)
        told = clips.all_text_contents()
        assert told[:4] == ["0: 0 %", "4095: 0 %", "0: 50 %", "4095: 0 %"]
        assert told[5] == "4095: 12 %"
        expect(page.locator("#frames .histogram .under, #frames .histogram .over")).to_have_count(2)

        whole = f"0 0 {WIDTH} {HEIGHT}"
        assert eventually(lambda: seen(page) == [whole] * 3)
        box = page.locator("#frames .stack").nth(1).bounding_box()
        page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + box["height"] / 2)
        page.mouse.wheel(0, -240)
        page.mouse.wheel(0, -240)
        assert eventually(lambda: page.locator("#zoom").text_content() == "3.3×")
        zoomed = seen(page)
        assert len(set(zoomed)) == 1
        x, _, width, _ = (float(value) for value in zoomed[0].split())
        assert (x + width * 0.75) == pytest.approx(WIDTH * 0.75, rel=0.02), "what is under the pointer stays there"
        page.wait_for_selector("#frames .view:nth-child(3) .detail image[href*='box=']", state="attached")

        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.65, box["y"] + box["height"] / 2, steps=3)
        page.mouse.up()
        assert eventually(lambda: float(seen(page)[0].split()[0]) > x)
        assert len(set(seen(page))) == 1

        page.keyboard.press("c")
        page.wait_for_selector("#frames .view:nth-child(3) .marks image", state="attached")
        page.keyboard.press("0")
        assert eventually(lambda: seen(page) == [whole] * 3)
        page.keyboard.press("f")
        page.wait_for_selector("#frames .view:nth-child(1) .base image[href*='lo=0&hi=4095']", state="attached")


@pytest.mark.browser
def test_the_digital_numbers_under_the_pointer_are_those_of_every_channel(tmp_path: Path, page: Any) -> None:
    with bench(tmp_path) as (cell, address):
        inspect(cell, "A-1")
        page.goto(f"{address}/live")
        page.wait_for_selector("#frames .stack image")
        for x, y in ((200, 400), (1290, 870), (1500, 10)):
            page.keyboard.press("0")
            page.mouse.move(*on_screen(page, x, y))
            for _ in range(5):
                page.mouse.wheel(0, -240)
            # A pixel of the part is now larger than one of the screen.
            assert eventually(lambda: page.locator("#zoom").text_content() == "20.1×")
            page.mouse.move(*on_screen(page, x, y))
            expected = [twelve_bit(*ends)[y, x] for ends in ((100, 3000), (-1000, 1000), (1000, 4500))]
            wanted = [f"{value} DN" for value in expected]
            assert eventually(lambda: page.locator("#frames .value").all_text_contents() == wanted)  # noqa: B023
            assert eventually(lambda: page.locator("#cursor").text_content() == f"x {x}  y {y}")  # noqa: B023
        page.mouse.move(5, 5)
        assert eventually(lambda: page.locator("#frames .value").first.text_content() == "")


@pytest.mark.browser
def test_the_pictures_stay_where_they_are_under_the_pointer(tmp_path: Path, page: Any) -> None:
    with bench(tmp_path) as (cell, address):
        inspect(cell, "A-1")
        page.set_viewport_size({"width": 1024, "height": 768})
        page.goto(f"{address}/live")
        assert eventually(lambda: page.locator("#frames .histogram .counts").count() == 3)
        place = page.locator("#frames .stack").first
        before = place.bounding_box()
        page.mouse.move(before["x"] + before["width"] / 2, before["y"] + before["height"] / 2)
        assert eventually(lambda: page.locator("#frames .value").first.text_content() != "")
        page.mouse.wheel(0, -240)
        assert eventually(lambda: page.locator("#zoom").text_content() == "1.8×")
        page.keyboard.press("Space")
        page.wait_for_selector("#verdict.held")
        assert place.bounding_box() == before


@pytest.mark.browser
def test_a_held_part_stays_while_others_go_by(tmp_path: Path, page: Any) -> None:
    with bench(tmp_path) as (cell, address):
        inspect(cell, "A-1")
        page.goto(f"{address}/live")
        page.wait_for_selector("#frames .stack image")
        page.keyboard.press("Space")
        first = page.locator("#frames .base image").first.get_attribute("href")
        for part in ("A-2", "A-3"):
            inspect(cell, part)
        page.wait_for_selector("#verdict[data-held='held: 2 newer parts']")
        assert "A-1" in page.locator("#part").text_content()
        assert page.locator("#frames .base image").first.get_attribute("href") == first
        expect(page.locator("#n-fault"), "counts go on").to_have_text("3")
        page.keyboard.press("Space")
        assert eventually(lambda: page.locator("#part").text_content().startswith("A-3"))


def test_marks_levels_and_numbers_are_those_of_the_picture(tmp_path: Path) -> None:
    with bench(tmp_path) as (cell, address), httpx.Client(base_url=address) as http:
        inspect(cell, "A-1")
        assert eventually(lambda: http.get("/api/live").json()["picture"] is not None)
        picture = http.get("/api/live").json()["picture"]
        named = {"d": picture["digest"]}
        glare = twelve_bit(1000, 4500)

        answer = http.get(f"/marks/{picture['address']}", params=named | {"c": 2, "box": "0,0,1280,900"})
        marks = np.asarray(Image.open(BytesIO(answer.content)).convert("RGBA"))
        assert answer.headers["cache-control"].endswith("immutable")
        np.testing.assert_array_equal(marks[..., 3] > 0, glare[:, :1280] >= 4095)
        small = http.get(f"/marks/{picture['address']}", params=named | {"c": 1, "max": 100})
        marks = np.asarray(Image.open(BytesIO(small.content)).convert("RGBA"))
        assert max(marks.shape) == 100
        assert marks[:, 10, 2].min() == 255, "blue at 0"

        lone = http.get(f"/levels/{picture['address']}", params=named | {"c": 2}).json()
        assert lone["saturated_share"] == pytest.approx((glare >= 4095).mean())
        assert sum(lone["bins"]) == HEIGHT * WIDTH

        numbers = http.get(f"/values/{picture['address']}", params=named | {"box": "1590,5,10,8"})
        patch = np.frombuffer(numbers.content, "<u2").reshape(3, 8, 10)
        np.testing.assert_array_equal(patch[2], glare[5:13, 1590:])

        refusals: tuple[tuple[str, dict[str, Any]], ...] = (
            ("values", {"box": "0,0,65,1"}),
            ("values", {}),
            ("values", {"box": "1599,0,2,1"}),
            ("levels", {"c": 3}),
            ("levels", {"c": "9" * 5000}),
            ("marks", {"c": 0, "box": "0,0,1601,1"}),
            ("marks", {"c": 0, "box": "here"}),
            ("pixels", {"c": "-1", "lo": 0, "hi": 9}),
        )
        for path, wrong in refusals:
            refused = http.get(f"/{path}/{picture['address']}", params=named | wrong)
            assert refused.status_code == 422, (path, wrong)
        assert http.get("/levels/../../etc/passwd", params=named).status_code == 404
