"""The calibration benchmark: bad input is told clearly, and what a camera computed is named."""

from __future__ import annotations

from benchmarks import calibration, calibration_faults
from benchmarks.heldout.sensor import Sensor


def test_every_bad_input_gets_a_clear_finding() -> None:
    rows = calibration_faults.bad_inputs()
    assert {row["input"] for row in rows} >= {"dark channel", "frozen channel", "camera moved half-way"}
    assert [row for row in rows if not row["clear"]] == []


def test_what_the_camera_computed_is_named_and_raw_pixels_are_not_accused() -> None:
    assert [row for row in calibration_faults.processed() if not row["named"]] == []


def test_parts_of_a_camera_nothing_was_tuned_on_give_a_degraded_calibration() -> None:
    report = calibration.folder(calibration.HELDOUT / "gear", camera=Sensor())
    assert report["kind"] == "degraded"
    assert len(report["sources"]) == 4
    assert all(error is None or abs(error) < 0.2 for error in report["gain_error"])
