"""inspectctl camera, light and sim: real drivers of the simulated cell, without a daemon and through one."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cell.settings import load
from cell.store import images
from cell.store.layout import StateLock
from cell.wire.client import Client
from daemon.ctl.watch import Tally, bar
from daemon.main import Daemon
from drivers.bench import Wanted, opened
from drivers.registry import open_rig
from tests.ctl.bench_cell import Run, configured, daemon_of, runner, twelve_bit
from tests.ctl.test_terminal import in_terminal

LOOKING = [
    ("camera", "list"),
    ("camera", "info"),
    ("camera", "info", "camera"),
    ("light", "list"),
    ("light", "off"),
    ("light", "sweep"),
    ("light", "set", "az000=0.5", "--seconds", "0.1"),
    ("light", "conformance"),
    ("camera", "conformance"),
    ("doctor", "camera"),
]


@pytest.mark.parametrize("words", LOOKING, ids=" ".join)
def test_every_look_works_without_a_daemon(run: Run, words: tuple[str, ...]) -> None:
    code, out, err = run(*words, "--json")
    assert (code, err) == (0, "")
    assert isinstance(json.loads(out), dict)
    code, out, err = run(*words)
    assert code == 0
    assert out.strip() or err.strip()
    assert all(line == line.rstrip() for line in out.splitlines())


@pytest.mark.parametrize("words", [words for words in LOOKING if words[1] != "conformance"], ids=" ".join)
def test_every_look_works_through_the_daemon(through: Run, words: tuple[str, ...]) -> None:
    code, out, err = through(*words, "--json")
    assert (code, err) == (0, "")
    assert isinstance(json.loads(out), dict)


def test_the_list_says_how_the_cameras_are(run: Run, through: Run) -> None:
    for ask in (run, through):
        found = json.loads(ask("camera", "list", "--json")[1])
        assert found["cameras"][0]["emulated"] is True
        assert found["cameras"][0]["state"] == "well"
        assert (found["reachable"], found["problems"]) == ([], [])


def test_a_camera_of_a_producer_is_looked_through(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The demonstration producer has neither exposure nor gain: a picture is to be had of it all the same."""
    import genicam

    producer = next(Path(genicam.__file__).parent.rglob("viky.cti"))
    file = configured(tmp_path, camera=f'producers = ["{producer}"]\ndevice = "0"')
    file.write_text(file.read_text().replace('driver = "simulated"', 'driver = "genicam"').replace("= 0.3", "= 5.0"))
    run = runner(file, capsys)
    out = tmp_path / "seen.tif"
    code, told, err = run("camera", "snap", "--out", str(out), "--json")
    assert (code, err) == (0, "")
    (frame,) = json.loads(told)["frames"]
    assert (frame["width"], frame["height"], frame["pixel_format"]) == (400, 400, "Mono8")
    assert images.read_stack(out).pixels.shape == (1, 400, 400)
    assert run("camera", "focus", "-n", "1")[0] == 0


def test_what_the_drivers_find_is_listed_when_none_is_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import genicam

    producer = next(Path(genicam.__file__).parent.rglob("viky.cti"))
    file = configured(tmp_path, twelve_bit(), camera=f'producers = ["{producer}"]\ndevice = "nosuch"')
    file.write_text(file.read_text().replace('driver = "simulated"', 'driver = "genicam"'))
    run = runner(file, capsys)
    code, out, err = run("camera", "list", "--json")
    assert code in {74, 78}
    found = json.loads(out)
    assert found["cameras"] == []
    assert found["reachable"], "the producer's simulators"
    assert all(device["name"] and device["driver"] == "genicam" for device in found["reachable"])
    assert "nosuch" in found["problems"][-1]
    assert err.startswith("inspectctl: ")
    code, out, _ = run("camera", "list")
    assert out.splitlines()[0].startswith("FOUND")


@pytest.mark.parametrize("suffix", ["tif", "png"])
@pytest.mark.parametrize("way", ["run", "through"])
def test_a_snap_keeps_every_bit_and_says_what_it_is(
    request: pytest.FixtureRequest, tmp_path: Path, way: str, suffix: str
) -> None:
    ask: Run = request.getfixturevalue(way)
    out = tmp_path / "here" / f"a.{suffix}"
    code, text, err = ask("camera", "snap", "--out", str(out), "--part", "good-000003", "--exposure", "900", "--json")
    assert (code, err) == (0, "")
    taken = json.loads(text)
    assert [frame["channel"] for frame in taken["frames"]] == ["az000", "az180"]
    assert all(frame["bit_depth"] == 12 and frame["exposure_us"] == 900 for frame in taken["frames"])
    assert sorted(path.name for path in out.parent.iterdir()) == sorted(Path(path).name for path in taken["paths"])
    for index, frame in enumerate(taken["frames"]):
        if suffix == "tif":
            stack = images.read_stack(out)
            pixels, facts = stack.pixels[index], stack.metadata | {"exposure_us": stack.exposure_us[index]}
        else:
            with Image.open(taken["paths"][index]) as picture:
                pixels, facts = np.asarray(picture), json.loads(picture.info["Description"])
        assert (int(pixels.min()), int(pixels.max())) == (frame["low"], frame["high"])
        assert pixels.max() > 255, "twelve bits, not eight"
        assert frame["mean"] == pytest.approx(pixels.mean(), abs=1e-3)
        assert (facts["exposure_us"], facts["recipe_id"], facts["emulated"]) == (900, "plate", True)


def test_one_channel_is_taken_when_one_is_named(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("camera", "snap", "--channel", "az180", "--out", str(tmp_path / "b.tif"), "--json")
    assert code == 0
    assert [frame["channel"] for frame in json.loads(out)["frames"]] == ["az180"]


REFUSED = [
    (("camera", "snap", "nosuch", "--out", "x.tif"), 65),
    (("camera", "info", "nosuch"), 65),
    (("camera", "snap", "--out", "x.jpg"), 78),
    (("camera", "snap", "--channel", "nosuch", "--out", "x.tif"), 65),
    (("camera", "snap", "--recipe", "nosuch", "--out", "x.tif"), 78),
    (("camera", "snap", "--part", "nosuch", "--out", "x.tif"), 65),
    (("camera", "focus", "--region", "1,2", "-n", "1"), 64),
    (("camera", "focus", "--region", "0,0,5000,5000", "-n", "1"), 65),
    (("light", "set", "az000"), 64),
    (("light", "set", "az000=2"), 64),
    (("light", "set", "nosuch=0.5"), 74),
]


@pytest.mark.parametrize(("words", "expected"), REFUSED, ids=str)
def test_a_refusal_is_one_line_and_an_exit_code(
    run: Run, words: tuple[str, ...], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    code, out, err = run(*words)
    assert code == expected, err
    assert out == ""
    assert err.startswith("inspectctl: ")
    assert err.count("\n") == 1
    assert set(tmp_path.iterdir()) == before, "nothing is left behind"


def test_a_camera_without_a_recipe_is_taken_as_it_stands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = runner(configured(tmp_path), capsys)
    code, out, err = run("camera", "snap", "--out", str(tmp_path / "c.tif"), "--json")
    assert (code, err) == (0, "")
    frame = json.loads(out)["frames"][0]
    assert (frame["width"], frame["height"], frame["channel"]) == (640, 480, "bench")


def test_focus_shows_the_figure_beside_the_best(run: Run) -> None:
    code, out, err = run("camera", "focus", "-n", "3", "--json", "--region", "10,10,100,100")
    assert (code, err) == (0, "")
    updates = [json.loads(line)["frames"] for line in out.splitlines()]
    assert len(updates) == 3
    for update in updates:
        for frame in update:
            assert 0 < frame["sharpness"] <= frame["best"]
    assert updates[2][0]["best"] == max(update[0]["sharpness"] for update in updates)
    code, out, _ = run("camera", "focus", "-n", "1")
    assert code == 0
    assert out.splitlines()[0].split() == ["CHANNEL", "SHARPNESS", "BEST", "OF", "BEST"]


def test_focus_is_drawn_in_place_on_a_terminal(tmp_path: Path) -> None:
    configured(tmp_path, twelve_bit())
    code, text = in_terminal(tmp_path, "camera", "focus", "-n", "3")
    assert code == 0
    assert "turn the lens" in text
    assert "\x1b[1A" in text, "the next figures stand in the place of the last"
    assert "█" in text


def test_a_stream_counts_and_keeps_its_frames(run: Run, tmp_path: Path) -> None:
    code, out, err = run("camera", "stream", "-n", "10", "--save", str(tmp_path / "kept"), "--json")
    assert (code, err) == (0, "")
    summary = json.loads(out.splitlines()[-1])["summary"]
    assert summary["frames"] == 10
    assert (summary["lost"], summary["failed"], summary["saved"]) == (0, 0, 10)
    assert summary["frames_per_s"] > 1
    kept = sorted((tmp_path / "kept").glob("*.tif"))
    assert len(kept) == 10
    ids = [images.read_stack(file).metadata["frame_ids"][0] for file in kept]
    assert len(set(ids)) == 10
    code, out, _ = run("camera", "stream", "-n", "4")
    assert code == 0
    assert "lost: 0" in out


def test_a_stream_tells_of_frames_that_did_not_come(through: Run, served: tuple[Path, Daemon, Client]) -> None:
    camera: Any = served[1].rig.camera
    camera.inject(None, None, None, "dropped", None)
    code, out, _ = through("camera", "stream", "-n", "12", "--json")
    assert code == 74
    summary = json.loads(out.splitlines()[-1])["summary"]
    assert summary["failed"] + summary["lost"] >= 1


def test_two_programs_do_not_drive_one_camera(run: Run, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    file = tmp_path / "state" / "daemon.lock"
    with StateLock(file, "daemon"):
        code, _, err = run("camera", "list")
    assert code == 75
    assert "does not answer" in err
    assert run("camera", "list")[0] == 0


def test_a_run_comes_first(through: Run, served: tuple[Path, Daemon, Client], tmp_path: Path) -> None:
    client = served[2]
    client.call("PrepareRecipe", {"RecipeId": "plate"})
    try:
        client.call("StartContinuous", {"Parameters": {"interval_ms": 5}})
        for words in (("camera", "snap", "--out", str(tmp_path / "x.tif")), ("light", "off"), ("camera", "info")):
            code, _, err = through(*words)
            assert code == 1
            assert "run is on" in err
        found = json.loads(through("camera", "list", "--json")[1])["cameras"][0]
        assert (found["name"], found["state"], found["model"]) == ("simulated", "well", None), "the device is not asked"
        client.call("Stop")
        code, out, _ = through("camera", "snap", "--out", str(tmp_path / "y.tif"), "--json")
        assert code == 0
        assert json.loads(out)["recipe_id"] == "plate"
        code, _, err = through("camera", "snap", "--recipe", "other", "--out", str(tmp_path / "z.tif"))
        assert code == 1
        assert "inspectctl recipe unprepare first" in err
        code, _, err = through("camera", "snap", "--exposure", "500", "--out", str(tmp_path / "z.tif"))
        assert (code, "another exposure" in err) == (1, True)
        # Parts are judged afterwards as before: with no model every verdict is FAULT for that reason alone.
        verdict = client.call("StartSingleJob", {"PartId": "good-000001"})["Result"]["ResultContent"]
        assert "no model" in verdict["reasons"][0]
    finally:
        client.call("UnprepareRecipe")


def test_a_stream_makes_way_for_parts_and_goes_on(through: Run, served: tuple[Path, Daemon, Client]) -> None:
    client = served[2]
    client.call("PrepareRecipe", {"RecipeId": "plate"})
    reasons: list[str] = []

    def parts() -> None:
        with Client(f"ipc://{served[0].parent}/c", timeout_s=10) as plc:
            for number in range(12):
                result = plc.call("StartSingleJob", {"PartId": f"good-{number:06d}"})["Result"]["ResultContent"]
                reasons.append(result["reasons"][0])

    plc = threading.Thread(target=parts, name="test-plc")
    plc.start()
    try:
        code, out, err = through("camera", "stream", "--seconds", "1.5", "--json")
    finally:
        plc.join(20)
        client.call("UnprepareRecipe")
    assert (code, err) == (0, "")
    summary = json.loads(out.splitlines()[-1])["summary"]
    assert summary["frames"] > 0
    assert (summary["lost"], summary["failed"]) == (0, 0), "frames of parts are not losses of the stream"
    assert len(reasons) == 12
    assert all("no model" in reason for reason in reasons), "no part came too late or to nothing"


def test_who_must_give_way_takes_nothing_more(tmp_path: Path) -> None:
    settings = load(configured(tmp_path, twelve_bit()))
    asked = iter((False, False, True))
    with opened(settings, open_rig) as bench:
        bench.set_up(twelve_bit())
        taken = bench.take("camera", twelve_bit(), Wanted(count=10, give_way=lambda: next(asked)))
    assert (len(taken.frames), taken.gave_way) == (2, True)


def test_frames_of_a_triggered_camera_belong_to_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = configured(tmp_path, twelve_bit(), camera='trigger = "line"')
    run = runner(file, capsys)
    out = ("--out", str(tmp_path / "x.tif"))
    with daemon_of(file) as (_, client):
        client.call("SelectModeAutomatic")
        code, _, err = run("camera", "snap", *out)
        assert (code, "no trigger came on Line1" in err) == (74, True)
        client.call("PrepareRecipe", {"RecipeId": "plate"})
        code, _, err = run("camera", "snap", *out)
        assert (code, "triggered by its line" in err) == (1, True)
    # Without a daemon no part can be under way: the program triggers the camera itself.
    assert run("camera", "snap", *out)[0] == 0


def test_a_camera_that_is_gone_is_not_waited_for_on_every_channel(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = configured(tmp_path, twelve_bit(lights=4))
    file.write_text(file.read_text().replace("frame_timeout_s = 0.3", "frame_timeout_s = 1.5"))
    run = runner(file, capsys)
    with daemon_of(file) as (daemon, client):
        client.call("SelectModeAutomatic")
        client.call("inspectd.cameras")
        camera: Any = daemon.rig.camera
        camera.inject(*["dropped"] * 4)
        began = time.monotonic()
        code, _, err = run("camera", "snap", "--out", str(tmp_path / "x.tif"))
        assert code == 74, err
        assert time.monotonic() - began < 3.5 * 1.5


def test_a_tally_counts_losses_and_gives_up_only_after_a_while() -> None:
    tally = Tally()
    frame = {"channel": "a", "low": 3, "high": 9, "mean": 5.0, "clipped_share": 0.0, "dark_share": 0.0}
    tally.add(lambda: {"frames": [frame] * 4, "lost": 2, "seconds": 0.5, "paths": [], "failures": ["one"]})
    assert (tally.frames, tally.lost, tally.failed, tally.rate) == (4, 2, 1, 8.0)
    assert tally.rounds(None) > 1
    assert tally.rounds(6) == 1
    assert tally.enough(5)


@pytest.mark.parametrize(
    ("share", "shown"), [(0.0, ""), (0.5, "████"), (1.0, "████████"), (2.0, "████████"), (1 / 16, "▌")]
)
def test_a_bar_is_as_long_as_its_share(share: float, shown: str) -> None:
    assert bar(share, 8) == shown.ljust(8)


def test_what_people_took_is_given_up_oldest_first(
    through: Run, served: tuple[Path, Daemon, Client], tmp_path: Path
) -> None:
    folder = served[0].parent / "state" / "snaps"
    folder.mkdir(exist_ok=True)
    for number in range(205):
        file = folder / f"old-{number:03d}.tif"
        file.write_bytes(b"")
        os.utime(file, (number, number))
    large = folder / "large.tif"
    large.touch()
    os.truncate(large, 3 << 30)
    os.utime(large, (1000, 1000))
    assert through("camera", "snap", "--out", str(tmp_path / "x.tif"))[0] == 0
    left = {file.name for file in folder.glob("*.tif")}
    assert "large.tif" not in left
    assert not left & {f"old-{number:03d}.tif" for number in range(205)}, (
        "what is older than the large one goes before it"
    )
    assert left, "and what was just taken stays"
