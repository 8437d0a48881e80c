"""The live page against a real daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.daemon.cells import contrast_model, eventually, running
from tests.web import cells


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
            assert page.locator("#outcome").text_content() == outcome
            assert part in page.locator("#part").text_content()
            if outcome == "NG":
                page.wait_for_selector("#frames rect.region")
                assert page.locator("#frames figcaption b").all_text_contents() == ["bright", "dark"]
                box = page.locator("#frames rect.region").first.bounding_box()
                assert box["width"] > 10
        assert page.locator("#reasons-list li").count() >= 1, "a FAULT says why"
        assert [page.locator(f"#n-{name}").text_content() for name in ("ok", "ng", "fault")] == ["1", "1", "1"]
        assert page.locator("#trend circle, #trend path.ng, #trend rect.fault").count() == 3


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
