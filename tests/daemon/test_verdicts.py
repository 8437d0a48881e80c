"""From trigger to verdict, through sockets and stores: judged, durable, told; FAULT for all that is not known."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cell import digest
from cell.errors import AcquisitionTimeout, CameraError, LightError, NotFound, ProtocolError, StateError
from cell.events import Ready, ResultReady
from cell.frames import AcquisitionFault, Frame
from cell.recipes import Rect
from cell.store.images import read_stack
from cell.wire.client import Subscriber, parse_events
from tests.daemon.cells import contrast_model, eventually, running
from tests.daemon.rigs import GONE, pixels_of, recipe


def test_good_is_ok_and_bad_is_ng_with_its_region(tmp_path: Path) -> None:
    manifest = contrast_model(tmp_path)
    with running(tmp_path) as cell:
        assert cell.ready()["ModelDigest"] == ""
        cell.client.call("inspectd.deploy", {"model": manifest.model_id, "promote": True})
        good = cell.trigger("good-1")
        assert (good["outcome"], good["reasons"], good["regions"]) == ("OK", [], [])
        assert good["score"] < good["threshold"] == 0.5
        bad = cell.trigger("bad-1")
        assert bad["outcome"] == "NG"
        assert bad["reasons"]
        [region] = bad["regions"]
        assert region["box"] == {"x": 40, "y": 20, "width": 12, "height": 8}
        assert region["area_px"] == 96
        assert bad["model_digest"] == manifest.onnx_digest
        stack = np.stack([pixels_of("bad-1", channel) for channel in ("bright", "dark")])
        assert bad["frames_digest"] == digest.of_array(stack)
        timings = bad["timings"]
        assert 0 < timings["acquisition_ms"] < timings["total_ms"]


def test_the_result_can_be_asked_for_again_and_its_frames_lie_in_the_archive(tmp_path: Path) -> None:
    contrast_model(tmp_path, model_id="m")
    with running(tmp_path) as cell:
        cell.ready()
        cell.client.call("inspectd.deploy", {"model": "m", "promote": True})
        reply = cell.client.call("StartSingleJob", {"PartId": "bad-7", "MeasId": "M1", "ProductId": "X"}, "id-7")
        result = reply["Result"]
        assert (result["PartId"], result["MeasId"], result["ProductId"]) == ("bad-7", "M1", "X")
        assert (result["ResultState"], result["IsSimulated"], reply["Error"]) == (1, True, 0)
        assert (
            cell.client.call("GetResultById", {"ResultId": reply["JobId"]})["Result"]["ResultContent"]
            == result["ResultContent"]
        )
        assert (
            cell.client.call("StartSingleJob", {"PartId": "bad-7", "MeasId": "M1", "ProductId": "X"}, "id-7") == reply
        )
        listed = cell.client.call("GetResultListFiltered", {"Outcome": "NG"})["Results"]
        assert [entry["JobId"] for entry in listed] == [reply["JobId"]]

        def components() -> Any:
            try:
                return cell.client.call("GetResultComponentsById", {"ResultId": reply["JobId"]})["Components"]
            except NotFound:
                return []

        assert eventually(lambda: len(components()) == 2)
        stored = read_stack(tmp_path / "state" / components()[0]["Path"], components()[0]["Hash"])
        assert stored.channels == ("bright", "dark")
        assert digest.of_array(stored.pixels) == result["ResultContent"]["frames_digest"]


def test_events_tell_the_part_in_order_and_can_be_asked_for_again(tmp_path: Path) -> None:
    with running(tmp_path) as cell:
        cell.ready()
        with Subscriber(cell.daemon.server.events) as subscriber:
            assert eventually(lambda: bool(cell.trigger("warm-up")) and subscriber.next(0.1) is not None)
            while subscriber.next(0.3) is not None:
                pass
            reply = cell.client.call("StartSingleJob", {"PartId": "p-1"}, "request-1")
            seen = list(subscriber.stream(0.5))
        assert [event.event for event in seen] == [
            "StateChanged",
            "JobStarted",
            "AcquisitionDone",
            "StateChanged",
            "Ready",
            "ResultReady",
        ]
        assert [event.sequence for event in seen] == list(range(seen[0].sequence, seen[0].sequence + 6))
        assert {event.request_id for event in seen} == {"request-1"}
        assert isinstance(seen[4], Ready)
        assert (seen[4].job_id, seen[4].recipe_id) == (reply["JobId"], "plate")
        again = parse_events(cell.client.call("inspectd.events", {"since": seen[0].sequence - 1}))
        assert again == seen
        assert isinstance(again[5], ResultReady)
        assert again[5].verdict.job_id == reply["JobId"]


def test_every_event_that_a_command_brings_about_carries_its_request_id(tmp_path: Path) -> None:
    model = contrast_model(tmp_path)
    commands: dict[str, tuple[dict[str, Any], list[str]]] = {
        "SelectModeAutomatic": ({}, ["StateChanged"]),
        "PrepareRecipe": ({"RecipeId": "plate"}, ["StateChanged", "Ready", "RecipePrepared"]),
        "inspectd.deploy": ({"model": model.model_id, "promote": True}, ["inspectd.ModelPromoted"]),
        "StartContinuous": ({"Parameters": {"interval_ms": 3_600_000}}, ["StateChanged"]),
        "Stop": ({"CauseDescription": "shift is over"}, ["StateChanged", "Ready"]),
        "inspectd.process.changed": ({"what": "lamp"}, ["inspectd.ProcessChanged"]),
        "UnprepareRecipe": ({}, ["StateChanged"]),
        "Halt": ({}, ["StateChanged"]),
        "Reset": ({}, ["StateChanged"]),
    }
    with running(tmp_path) as cell:
        for command, (arguments, told) in commands.items():
            if command == "inspectd.process.changed":
                arguments = arguments | {"recipe_id": "plate"}
            before = cell.client.call("inspectd.events", {"limit": 1})["last_sequence"]
            cell.client.call(command, arguments, f"id of {command}")
            events = parse_events(cell.client.call("inspectd.events", {"since": before}))
            mine = [event.event for event in events if event.request_id == f"id of {command}"]
            assert mine == told, command
            strangers = {event.event for event in events if not event.request_id}
            # The run's first part, of which nobody asked, goes its own way.
            assert strangers <= {"JobStarted", "AcquisitionDone", "ResultReady"}, command


def test_without_a_model_every_verdict_is_fault_and_the_frames_are_kept(tmp_path: Path) -> None:
    with running(tmp_path) as cell:
        cell.ready()
        verdict = cell.trigger("good-1")
        assert verdict["outcome"] == "FAULT"
        assert "no model is deployed for recipe plate" in verdict["reasons"][0]
        assert verdict["model_digest"] == ""
        assert eventually(lambda: cell.status()["archive"]["written"] == 1)


def test_without_a_recipe_a_trigger_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with running(tmp_path) as cell:
        with pytest.raises(StateError, match="SelectModeAutomatic first"):
            cell.trigger("p")
        with pytest.raises(ProtocolError, match="no command 'Explode'"):
            cell.client.call("Explode")
        cell.client.call("SelectModeAutomatic")
        with pytest.raises(StateError, match="PrepareRecipe first"):
            cell.trigger("p")
        with pytest.raises(NotFound, match="nothing"):
            cell.client.call("PrepareRecipe", {"RecipeId": "nothing"})
        cell.client.call("PrepareRecipe", {"RecipeId": "plate"})
        with pytest.raises(StateError, match="other is not prepared"):
            cell.client.call("StartSingleJob", {"PartId": "p", "RecipeId": "other"})


def _other(**changes: Any) -> Any:
    return lambda frame: replace(frame, **changes)


def _short(frame: Frame) -> Frame:
    return replace(frame, pixels=frame.pixels[:-1])


@pytest.mark.parametrize(
    ("trouble", "fault"),
    [
        (CameraError("a buffer came half empty", fault=AcquisitionFault.INCOMPLETE), "incomplete"),
        (AcquisitionTimeout("no frame within 2 s; check the trigger"), "missing"),
        (CameraError("the camera is gone"), "camera"),
        (LightError("the light does not answer"), "light"),
        (_other(channel="bright"), "swapped"),
        (_other(frame_id=0), "stale"),
        (_other(bit_depth=12), "wrong-size"),
        (_short, "wrong-size"),
    ],
)
def test_what_the_camera_gets_wrong_is_fault_by_name_and_the_next_part_is_judged(
    tmp_path: Path, trouble: object, fault: str
) -> None:
    contrast_model(tmp_path, model_id="m")
    with running(tmp_path) as cell:
        cell.ready()
        cell.client.call("inspectd.deploy", {"model": "m", "promote": True})
        assert cell.trigger("good-1")["outcome"] == "OK"
        cell.camera.trouble = [None, trouble]  # at the second channel
        verdict = cell.trigger("good-2")
        assert verdict["outcome"] == "FAULT"
        assert verdict["reasons"][0].startswith(fault)
        assert cell.camera.lit == {}, "the light stayed on"
        # After some faults the camera is brought back first, and parts are FAULT until it is.
        assert eventually(lambda: cell.trigger("good-3")["outcome"] == "OK")


def test_a_light_that_fails_is_a_condition_until_a_part_was_lit_again(tmp_path: Path) -> None:
    contrast_model(tmp_path, model_id="m")
    with running(tmp_path) as cell:
        cell.ready()
        cell.client.call("inspectd.deploy", {"model": "m", "promote": True})
        cell.camera.trouble = [None, LightError("the controller does not answer")]
        assert cell.trigger("good-1")["outcome"] == "FAULT"
        assert eventually(
            lambda: [c.get("resolved_at") for c in cell.status()["conditions"] if c["name"] == "light"] == [None]
        )
        [condition] = [c for c in cell.status()["conditions"] if c["name"] == "light"]
        assert "the controller does not answer" in condition["message"]
        assert cell.trigger("good-2")["outcome"] == "OK"
        assert eventually(
            lambda: all(c.get("resolved_at") for c in cell.status()["conditions"] if c["name"] == "light")
        )


def test_a_part_that_is_not_there_is_fault(tmp_path: Path) -> None:
    with running(tmp_path) as cell:
        cell.ready()
        verdict = cell.trigger("unknown-1")
        assert verdict["outcome"] == "FAULT"
        assert verdict["reasons"][0].startswith("missing: there is no part unknown-1")


def test_a_lost_camera_is_brought_back_unattended_and_parts_are_fault_meanwhile(tmp_path: Path) -> None:
    with running(tmp_path) as cell:
        cell.ready()
        back = threading.Event()
        cell.camera.recover_trouble = [GONE] * 1000
        cell.camera.trouble = [GONE]
        cell.trigger("p-1")
        assert eventually(lambda: cell.status()["state"]["name"] == "Error")
        assert [c["name"] for c in cell.status()["conditions"]] == ["camera"]
        during = cell.trigger("p-2")
        assert during["outcome"] == "FAULT"
        assert "Error" in during["reasons"][0]
        cell.camera.recover_trouble = []
        back.set()
        assert eventually(lambda: cell.status()["state"]["name"] == "Operational/Ready")
        assert cell.camera.recovered == 1
        assert cell.trigger("p-3")["reasons"][0].startswith("no model")
        assert cell.status()["conditions"][0]["resolved_at"] is not None
        assert cell.client.call("ConfirmAll", {"Comment": "cable"})["Confirmed"] == 1
        assert cell.status()["conditions"] == []


def test_a_hanging_camera_is_answered_fault_before_the_deadline_and_only_once(tmp_path: Path) -> None:
    contrast_model(tmp_path, model_id="m", of=recipe(deadline_ms=300.0))
    with running(tmp_path, recipes=(recipe(deadline_ms=300.0),)) as cell:
        cell.ready()
        cell.client.call("inspectd.deploy", {"model": "m", "promote": True})
        release = threading.Event()
        cell.camera.trouble = [release]
        verdict = cell.trigger("bad-1")
        assert verdict["outcome"] == "FAULT"
        assert verdict["reasons"][0].startswith("deadline")
        assert 200 < verdict["timings"]["total_ms"] < 300
        # The previous part still stands before the camera.
        overrun = cell.trigger("good-2")
        assert overrun["reasons"][0].startswith("overrun")
        release.set()
        assert eventually(lambda: cell.status()["counts"]["late_results"] == 1)
        assert eventually(lambda: cell.trigger("good-3")["outcome"] == "OK")
        stored = cell.client.call("GetResultListFiltered", {"PartId": "bad-1"})["Results"]
        assert [entry["ResultContent"]["outcome"] for entry in stored] == ["FAULT"]
        late = [
            event for event in parse_events(cell.client.call("inspectd.events")) if "late" in event.model_dump_json()
        ]
        assert any("came to NG" in event.model_dump_json() for event in late)


def test_abort_answers_the_part_under_way_and_halt_ends_production(tmp_path: Path) -> None:
    with running(tmp_path) as cell:
        cell.ready()
        release = threading.Event()
        cell.camera.trouble = [release]
        verdicts: list[dict[str, Any]] = []
        waiting = threading.Thread(target=lambda: verdicts.append(cell.trigger("p-1")), name="plc")
        cell.camera.exposed.clear()
        waiting.start()
        assert cell.camera.exposed.wait(5)
        with type(cell.client)(cell.daemon.server.commands) as second:
            assert second.call("Abort", {"CauseDescription": "a hand in the cell"})["State"] == "Operational/Ready"
        waiting.join(5)
        assert verdicts[0]["outcome"] == "FAULT"
        assert verdicts[0]["reasons"] == ["aborted: a hand in the cell"]
        release.set()
        assert cell.client.call("Halt")["State"] == "Halted"
        with pytest.raises(StateError, match="Reset"):
            cell.client.call("SelectModeAutomatic")
        assert cell.client.call("Reset")["State"] == "Preoperational"


def test_a_continuous_run_judges_every_part_and_ends_by_itself(tmp_path: Path) -> None:
    contrast_model(tmp_path, model_id="m")
    with running(tmp_path) as cell:
        cell.ready()
        cell.client.call("inspectd.deploy", {"model": "m", "promote": True})
        parts = ["good-1", "bad-2", "good-3"]
        cell.client.call("StartContinuous", {"Parameters": {"parts": parts, "interval_ms": 20}})
        assert eventually(lambda: cell.status()["state"]["name"] == "Operational/Ready")
        results = cell.client.call("GetResultListFiltered")["Results"][::-1]
        assert [(r["PartId"], r["ResultContent"]["outcome"]) for r in results] == [
            ("good-1", "OK"),
            ("bad-2", "NG"),
            ("good-3", "OK"),
        ]


def test_a_continuous_run_without_end_stops_when_told(tmp_path: Path) -> None:
    with running(tmp_path) as cell:
        cell.ready()
        cell.client.call("StartContinuous", {"PartId": "run", "Parameters": {"interval_ms": 5}})
        assert cell.status()["state"]["name"] == "Operational/ContinuousExecution"
        assert cell.trigger("in-between")["reasons"][0].startswith("overrun")
        assert eventually(lambda: cell.status()["counts"]["FAULT"] >= 5)
        assert cell.client.call("Stop")["State"] == "Operational/Ready"
        assert cell.client.call("GetResultListFiltered", {"PartId": "run-1"})["Results"]
        done = cell.status()["counts"]["FAULT"]
        assert not eventually(lambda: cell.status()["counts"]["FAULT"] > done + 1, within_s=0.2)
        with pytest.raises(StateError):
            cell.client.call("Stop")


def test_regions_outside_the_region_of_interest_or_in_exclusions_do_not_count(tmp_path: Path) -> None:
    cases: dict[str, dict[str, Any]] = {
        "roi": {"roi": Rect(x=0, y=32, width=96, height=32)},
        "excluded": {"exclusions": (Rect(x=32, y=16, width=32, height=16),)},
    }
    for name, changes in cases.items():
        folder = tmp_path / name
        folder.mkdir()
        wanted = recipe(**changes)
        contrast_model(folder, model_id="m", of=wanted)
        with running(folder, recipes=(wanted,)) as cell:
            cell.ready()
            cell.client.call("inspectd.deploy", {"model": "m", "promote": True})
            verdict = cell.trigger("bad-1")
            assert (verdict["outcome"], verdict["regions"]) == ("OK", [])


def test_the_operators_threshold_wins(tmp_path: Path) -> None:
    contrast_model(tmp_path, model_id="m", of=recipe(threshold=0.9999))
    with running(tmp_path, recipes=(recipe(threshold=0.9999),)) as cell:
        cell.ready()
        cell.client.call("inspectd.deploy", {"model": "m", "promote": True})
        verdict = cell.trigger("bad-1")
        assert (verdict["outcome"], verdict["threshold"]) == ("OK", 0.9999)
