"""Every check of the camera suite finds a driver that breaks its promise: one wrong driver a promise, or several."""

from __future__ import annotations

from typing import Any

import pytest

from cell.frames import AcquisitionFault
from drivers.conformance.camera import CHECKS, EmulatedFault, recipe_for, run_camera
from drivers.conformance.report import Outcome, Report
from tests.drivers.fake_camera import FakeCamera, FakeTime
from tests.drivers.wrong_drivers_on_a_line import RECIPE, VIOLATIONS


def _run(kind: type[FakeCamera], trigger: Any) -> Report:
    time = FakeTime()
    camera = kind(time, trigger)
    fault = EmulatedFault("a truncated buffer", camera.break_next, frozenset({AcquisitionFault.INCOMPLETE}))
    fire = camera.fire if trigger == "line" else None
    return run_camera(
        camera, lambda: RECIPE, trigger=trigger, fire=fire, frame_timeout_s=0.5, emulated_faults=(fault,), clock=time
    )


@pytest.mark.parametrize("trigger", ["software", "line"])
def test_a_driver_that_keeps_every_promise_passes_every_check(trigger: str) -> None:
    report = _run(FakeCamera, trigger)
    assert {result.outcome for result in report.results} == {Outcome.PASSED}, report.text()


@pytest.mark.parametrize(
    ("promise", "trigger", "kind"), VIOLATIONS, ids=[f"{kind.__name__}-{promise}" for promise, _, kind in VIOLATIONS]
)
def test_a_driver_that_breaks_a_promise_is_found(promise: str, trigger: str, kind: type[FakeCamera]) -> None:
    report = _run(kind, trigger)
    assert promise in {result.name for result in report.failures}, report.text()


def test_every_check_has_been_seen_to_fail() -> None:
    assert {check.promise for check in CHECKS} == {promise for promise, _, _ in VIOLATIONS}


def test_a_recipe_is_made_for_a_camera_that_nobody_wrote_one_for() -> None:
    recipe = recipe_for(FakeCamera(FakeTime()))
    assert (recipe.width, recipe.height, recipe.bit_depth) == (64, 48, 8)
