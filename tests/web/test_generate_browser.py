"""Asking for candidates in a real browser: what is written reaches the trainer, and a job can be stopped and go on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from cell import settings as settings_files
from cell.errors import ProtocolError
from cell.jobs import JobState
from cell.settings import Settings
from cell.store.layout import StateDir
from cell.store.learning import LearningStore
from cell.wire.client import Client
from tests.trainer.service_support import add_backgrounds, add_calibration, add_seeds, open_store, write_config
from tests.web import cells

pytestmark = pytest.mark.browser


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A cell that can generate."""
    config = write_config(tmp_path)
    monkeypatch.setenv("INSPECTD_CONFIG", str(config))  # for the jobs' processes
    with open_store(tmp_path) as store:
        add_backgrounds(store, 3, 1)
        add_seeds(store, 3, 1)
        add_calibration(store)
    return settings_files.load(config)


@pytest.fixture
def asking(settings: Settings) -> Iterator[str]:
    """The pages' address, with a trainer whose jobs end at once: what was asked is all that is looked at."""
    with cells.trainer(settings, lambda _: (sys.executable, "-c", "")), cells.pages(settings) as address:
        yield address


def form(page: Any, address: str) -> None:
    """Open the form and say who asks."""
    page.goto(f"{address}/jobs")
    page.locator("#who").click()
    page.locator("#name-field").fill("Ada Moser")
    page.keyboard.press("Enter")
    page.wait_for_selector("#name-dialog:not([open])", state="attached")
    page.locator("#generation summary").click()
    expect(page.locator("#classes label")).to_have_text([" pit", " scratch"])


def fill(page: Any, **texts: str) -> None:
    for name, text in texts.items():
        page.locator(f"#generate [name={name}]").fill(text)


def told(page: Any, sentence: str) -> None:
    page.locator("#generate button[type=submit]").click()
    expect(page.locator("#generate-problem")).to_contain_text(sentence)


def test_what_the_form_asks_is_judged_by_the_trainer(settings: Settings, asking: str, page: Any) -> None:
    form(page, asking)
    page.locator("[name=arm]").select_option("procedural")
    page.locator("[name=class][value=pit]").check()
    fill(page, per_class="many")
    told(page, "per_class: input should be a valid integer")
    fill(page, per_class="2", severity="high")
    told(page, "severity is LOW:HIGH, not high")
    fill(page, severity="2:0.5")
    told(page, "the range of severity must be given as [low, high]")
    fill(page, severity="0.5:2", zones="0,0,96x4000")
    told(page, "zones reach out of the 96x64 frame")
    fill(page, zones="0,0,96x64", plan="[class.rust]\nwidth = [1, 2]")
    told(page, "the plan names rust")
    fill(page, plan="width = [1, ")
    told(page, "can't be read as a plan")
    assert not page.locator(".job").count()
    fill(page, size="5:12", orientation="as-seeds", count="1:2", plan="[class.pit]\nuniform_share = 0.5")
    page.locator("[name=size_unit]").select_option("px")
    page.locator("#generate button[type=submit]").click()
    expect(page.locator("#said")).to_contain_text("t00001 is queued")
    expect(page.locator(".job")).to_contain_text("t00001")
    with LearningStore(StateDir(settings.state_dir)) as store:
        job = store.jobs.get("t00001")
    asked = job.parameters["control"]
    assert (asked["severity"], asked["size"], asked["size_unit"]) == ([0.5, 2.0], [5.0, 12.0], "px")
    assert (asked["orientation"], asked["count"]) == ("as-seeds", [1, 2])
    assert asked["zones"] == [{"x": 0, "y": 0, "width": 96, "height": 64}]
    assert job.parameters["class_control"]["pit"]["uniform_share"] == 0.5
    assert job.parameters["classes"] == ["pit"]


def test_the_form_and_the_wire_refuse_alike(settings: Settings, asking: str, page: Any) -> None:
    form(page, asking)
    fill(page, count="0:3")
    page.locator("#generate button[type=submit]").click()
    expect(page.locator("#generate-problem")).not_to_be_empty()
    with Client(settings.wire.trainer_commands, settings.wire.keys) as client, pytest.raises(ProtocolError) as refused:
        client.call("inspectd.generate", {"recipe_id": "disc", "per_class": 40, "control": {"count": [0, 3]}})
    assert page.locator("#generate-problem").text_content() == str(refused.value)


def test_a_generation_is_paused_goes_on_and_is_cancelled(settings: Settings, page: Any) -> None:
    with cells.trainer(settings), cells.pages(settings) as address:
        _pause_and_cancel(page, address)
    with LearningStore(StateDir(settings.state_dir)) as store:
        rows = store.candidates.list("disc", limit=10_000)
        assert store.jobs.get("t00001").state is JobState.CANCELLED
        assert 0 < len(rows) < 10_000
        for row in rows:
            assert store.read_image(row.candidate.image).pixels.shape[0] == 2


def _pause_and_cancel(page: Any, address: str) -> None:
    form(page, address)
    page.locator("[name=arm]").select_option("procedural")
    fill(page, per_class="5000")
    page.locator("#generate button[type=submit]").click()
    note, state = page.locator(".job .note").first, page.locator(".job .state")
    expect(note).to_contain_text("images per second", timeout=180_000)  # the process loads torch first
    expect(note).to_contain_text(" left")
    page.get_by_role("button", name="Pause").click()
    expect(state).to_have_text("paused")
    page.get_by_role("button", name="Go on").click()
    expect(state).to_have_text("running")
    page.get_by_role("button", name="Cancel").click()
    expect(state).to_have_text("cancelled")
