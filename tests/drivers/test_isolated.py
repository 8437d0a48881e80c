"""A camera in a process of its own: what comes through, and what happens when that crashes, hangs or is killed."""

from __future__ import annotations

import gc
import logging
import os
import signal
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from cell.errors import AcquisitionTimeout, CameraError, ConfigurationError, HardwareError, SdkMissing, StillBusy
from cell.frames import AcquisitionFault
from cell.recipes import Recipe
from cell.settings import EmulatedCellSettings
from drivers.cameras.base import fault_of
from drivers.cameras.isolated import IsolatedCamera
from drivers.cameras.shared_frames import FrameRing, RingPlan, SlotWriter
from drivers.registry import open_rig
from drivers.sim.plate import recipe_for_plate
from tests.daemon.cells import eventually
from tests.drivers.isolation import gone, isolated, settings_of

pytestmark = pytest.mark.timeout(60, method="thread")  # pylon uses SIGALRM itself

PLATE = recipe_for_plate(2)
CHANNEL = PLATE.channels[0]


@pytest.fixture(params=["simulated", "pylon"])
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_frames_are_those_of_a_camera_in_the_daemon(driver: str) -> None:
    here = open_rig(settings_of(driver, isolated=False))
    with isolated(driver) as (rig, _):
        for cell in (here, rig):
            cell.camera.configure(PLATE)
            cell.present("scratch-000001")
        for channel in PLATE.channels:
            frames = []
            for cell in (here, rig):
                cell.light.apply(channel.lights)
                frames.append(cell.camera.expose(channel))
            assert np.array_equal(frames[0].pixels, frames[1].pixels)
            assert frames[0].pixels.dtype == frames[1].pixels.dtype
            for name in ("channel", "bit_depth", "exposure_us", "gain_db", "camera", "frame_id", "pixel_format"):
                assert getattr(frames[0], name) == getattr(frames[1], name)
        assert rig.camera.emulated
        assert rig.light.lines == here.light.lines
    here.close()


def test_frames_that_are_kept_are_never_written_over_and_slots_are_used_again() -> None:
    with isolated() as (rig, camera):
        camera.configure(PLATE)
        rig.present("good-000001")
        rig.light.apply(CHANNEL.lights)
        ring = camera._ring
        assert ring is not None
        kept = camera.expose(CHANNEL)
        view = kept.pixels[10:20, ::2]
        before = view.copy()
        del kept
        for _ in range(3 * ring.plan.slots):
            camera.expose(CHANNEL)
        assert np.array_equal(view, before), "a view of a frame was written over"
        assert ring.free == ring.plan.slots - 1
        with pytest.raises(ValueError, match="read-only"):
            view[0, 0] = 1
        del view
        gc.collect()
        assert ring.free == ring.plan.slots


def test_a_reader_that_keeps_every_frame_is_a_fault_and_no_lack_of_memory() -> None:
    with isolated() as (_, camera):
        camera.configure(PLATE)
        assert camera._ring is not None
        frames = [camera.expose(CHANNEL) for _ in range(camera._ring.plan.slots)]
        with pytest.raises(CameraError, match="frame buffers still hold earlier parts") as caught:
            camera.expose(CHANNEL)
        assert fault_of(caught.value) is AcquisitionFault.OVERRUN
        frames.pop()
        camera.expose(CHANNEL)


def test_a_frame_outlives_its_camera() -> None:
    with isolated() as (rig, camera):
        camera.configure(PLATE)
        rig.present("good-000001")
        rig.light.apply(CHANNEL.lights)
        frame = camera.expose(CHANNEL)
        mean = frame.pixels.mean()
    gc.collect()
    assert frame.pixels.mean() == mean > 20


@pytest.mark.parametrize("kind", ["SIGSEGV", "SIGABRT", "SIGKILL"])
def test_a_crash_is_an_error_at_once_and_the_next_process_goes_on(
    driver: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    if driver == "pylon" and kind != "SIGSEGV":
        pytest.skip("once is enough with the slower camera")
    with isolated(driver) as (rig, camera):
        camera.configure(PLATE)
        rig.present("good-000001")
        rig.light.apply(CHANNEL.lights)
        before, first = camera.expose(CHANNEL), camera.pid
        camera.emulate("mishap", "expose", kind)
        started = time.monotonic()
        with pytest.raises(CameraError, match=f"died by {kind}") as caught:
            camera.expose(CHANNEL)
        assert time.monotonic() - started < 3
        assert fault_of(caught.value) is AcquisitionFault.CAMERA
        assert gone(first)
        with pytest.raises(CameraError, match="being brought back"):
            camera.expose(CHANNEL)
        camera.recover()
        after = camera.expose(CHANNEL)
        assert camera.restarts == 1
        assert camera.pid != first
        assert after.frame_id > before.frame_id, "the count must go on"
        assert after.pixels.mean() == pytest.approx(before.pixels.mean(), rel=0.02), "part or light was forgotten"
    if kind == "SIGSEGV":
        assert "come_to_grief" in caplog.text, "where it crashed is not in the log"


@pytest.mark.parametrize("call", ["expose", "configure", "recover"])
def test_a_call_that_never_returns_is_killed_in_its_time(
    call: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("_CONFIGURE_S", "_RECOVER_S"):
        monkeypatch.setattr(f"drivers.cameras.isolated.{name}", 1.0)
    with isolated(frame_timeout_s=0.2) as (_, camera):
        camera.configure(PLATE)
        first = camera.pid
        camera.emulate("mishap", call, "hang")
        started = time.monotonic()
        with pytest.raises(AcquisitionTimeout, match=f"did not return from {call}") as caught:
            {
                "expose": lambda: camera.expose(CHANNEL),
                "configure": lambda: camera.configure(PLATE),
                "recover": camera.recover,
            }[call]()
        assert time.monotonic() - started < 4
        assert "\n" not in str(caught.value)
        assert gone(first)
        assert "come_to_grief" in caplog.text, "where it hung is not in the log"
        camera.recover()
        assert camera.expose(CHANNEL).shape == (PLATE.height, PLATE.width)


def test_a_hanging_device_costs_one_time_out_and_a_new_process() -> None:
    with isolated(frame_timeout_s=0.2) as (_, camera):
        camera.configure(PLATE)
        camera.emulate("inject", "hang")
        with pytest.raises(AcquisitionTimeout) as caught:
            camera.expose(CHANNEL)
        assert fault_of(caught.value) is AcquisitionFault.MISSING
        camera.recover()
        camera.expose(CHANNEL)
        assert camera.restarts == 1


@pytest.mark.parametrize("how", ["stopped", "in a call that holds the interpreter"])
def test_a_process_that_hangs_between_two_parts_is_found_with_the_next_part(how: str) -> None:
    """Rendering an emulated part may take a minute; a process that is not even rendering must not be waited for."""
    with isolated(frame_timeout_s=0.2) as (rig, camera):
        camera.configure(PLATE)
        rig.present("good-000001")
        first = camera.pid
        if how == "stopped":
            os.kill(first, signal.SIGSTOP)
        else:
            camera.emulate("mishap", "present", "hang")
        started = time.monotonic()
        rig.present("good-000002")
        assert time.monotonic() - started < 10
        assert gone(first)
        with pytest.raises(CameraError, match="being brought back"):
            camera.expose(CHANNEL)
        camera.recover()
        assert camera.expose(CHANNEL).shape == (PLATE.height, PLATE.width)


def test_close_ends_a_process_that_hangs() -> None:
    with isolated() as (_, camera):
        os.kill(camera.pid, signal.SIGSTOP)
        started = time.monotonic()
        camera.close()
        assert time.monotonic() - started < 6
        assert gone(camera.pid)
        with pytest.raises(CameraError, match="closed"):
            camera.recover()


def test_a_patient_recovery_lets_its_caller_go_on() -> None:
    with isolated() as (_, camera):
        camera.configure(PLATE)
        os.kill(camera.pid, signal.SIGKILL)
        with pytest.raises(CameraError, match="SIGKILL"):
            camera.expose(CHANNEL)
        waits = []
        while True:
            started = time.monotonic()
            try:
                camera.recover(0.05)
                break
            except StillBusy:
                waits.append(time.monotonic() - started)
        assert waits, "a new process can't be there at once"
        assert sorted(waits)[len(waits) // 2] < 0.3
        camera.expose(CHANNEL)


def test_a_recipe_asked_for_during_a_recovery_is_the_one_set_up() -> None:
    smaller = PLATE.model_copy(update={"height": 100, "width": 120})
    with isolated() as (_, camera):
        camera.configure(PLATE)
        os.kill(camera.pid, signal.SIGKILL)
        with pytest.raises(CameraError):
            camera.expose(CHANNEL)
        with pytest.raises(StillBusy):
            camera.recover(0.001)
        with pytest.raises(CameraError, match="being brought back"):
            camera.configure(smaller)
        camera.recover()
        assert camera.expose(CHANNEL).shape == (100, 120)


def test_a_library_that_fails_again_and_again_gets_a_new_process() -> None:
    impossible = PLATE.model_copy(update={"width": 1_000_000, "height": 1})
    with isolated("pylon") as (_, camera):
        first = camera.pid
        with pytest.raises(CameraError):
            camera.configure(impossible)
        for _ in range(8):
            with pytest.raises(CameraError, match="1000000"):
                camera.recover()
            assert camera.pid == first
        with pytest.raises(HardwareError):
            camera.recover()
        assert camera.pid != first
        camera.configure(PLATE)
        camera.expose(CHANNEL)


def test_the_device_misbehaves_on_request() -> None:
    with isolated() as (_, camera):
        camera.configure(PLATE)
        camera.expose(CHANNEL)
        for fault, name in (("dropped", "missing"), ("repeated", "repeated"), ("truncated", "wrong-size")):
            camera.emulate("inject", fault)
            with pytest.raises(HardwareError) as caught:
                camera.expose(CHANNEL)
            assert fault_of(caught.value) == name
            camera.expose(CHANNEL)
        camera.emulate("remove")
        for call in (lambda: camera.expose(CHANNEL), camera.recover):
            with pytest.raises(CameraError, match="gone"):
                call()
        camera.emulate("plug_in")
        camera.recover()
        camera.expose(CHANNEL)
        assert camera.restarts == 0, "a driver that works needs no new process"
        with pytest.raises(CameraError, match="can't dance; it can mishap"):
            camera.emulate("dance")


def test_features_are_read_and_written_in_the_process(driver: str) -> None:
    with isolated(driver) as (_, camera):
        camera.configure(PLATE)
        names = camera.features.names()
        assert {"ExposureTime", "Width"} <= set(names)
        assert camera.features.read("Width") == PLATE.width
        assert camera.features.write("ExposureTime", 1234.0) == pytest.approx(1234, rel=0.02)
        with pytest.raises(CameraError, match="NoSuchFeature"):
            camera.features.read("NoSuchFeature")


def test_pylons_removal_is_seen_and_mended_in_the_process() -> None:
    with isolated("pylon") as (rig, camera):
        camera.configure(PLATE)
        rig.present("good-000001")
        rig.light.apply(CHANNEL.lights)
        before = camera.expose(CHANNEL)
        camera.features.execute("FirePnPCallback")
        with pytest.raises(CameraError, match=r"gone|removed") as caught:
            camera.expose(CHANNEL)
        assert fault_of(caught.value) is AcquisitionFault.CAMERA
        camera.recover()
        assert camera.expose(CHANNEL).frame_id > before.frame_id
        assert camera.restarts == 0


@pytest.mark.parametrize(("driver", "module"), [("pylon", "pypylon"), ("genicam", "harvesters")])
def test_a_missing_sdk_is_named_with_its_command(
    driver: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{module}.py").write_text("raise ImportError('not installed')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    before = len(psutil.Process().children())
    with pytest.raises(SdkMissing, match=f"pip install {module}"):
        open_rig(settings_of(driver))
    assert len(psutil.Process().children()) == before


def test_a_product_that_is_not_there_is_named() -> None:
    settings = settings_of().model_copy(update={"emulated": EmulatedCellSettings(product="bolt")})
    with pytest.raises(ConfigurationError, match="no emulated product 'bolt'"):
        open_rig(settings)


def test_several_cameras_take_one_part_each_in_its_own_process() -> None:
    with isolated(others=("side",)) as (rig, camera):
        side = rig.cameras["side"]
        assert isinstance(side, IsolatedCamera)
        assert side.pid != camera.pid
        for each in rig.cameras.values():
            each.configure(PLATE)
        rig.present("good-000001")
        rig.light.apply(CHANNEL.lights)
        frames = [each.expose(CHANNEL) for each in rig.cameras.values()]
        assert all(frame.pixels.mean() > 20 for frame in frames)
        os.kill(side.pid, signal.SIGKILL)
        with pytest.raises(CameraError, match="camera side died"):
            side.expose(CHANNEL)
        camera.expose(CHANNEL)
    with pytest.raises(ConfigurationError, match=r"cameras\.camera"):
        open_rig(settings_of(others=("camera",)))


def test_the_childs_log_is_the_daemons(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with isolated() as (_, camera):
        os.kill(camera.pid, signal.SIGUSR1)  # faulthandler writes every thread's stack to standard error
        assert eventually(lambda: "camera camera:" in caplog.text and "child.py" in caplog.text)


def test_the_ring_keeps_to_its_plan() -> None:
    large = Recipe.model_validate(PLATE.model_dump() | {"height": 7000, "width": 7200, "roi": None, "exclusions": ()})
    plan = RingPlan.of(large)
    assert plan.slots >= 6 * len(large.channels)
    assert plan.slots * plan.slot_bytes <= max(2 << 30, 6 * len(large.channels) * plan.slot_bytes)
    ring = FrameRing(RingPlan(4096, 2))
    writer = SlotWriter()
    writer.attach(os.dup(ring.descriptor), 4096)
    slot = ring.take()
    writer.select(slot)
    given = writer.allocate((4, 5), np.dtype(np.uint16))
    given[:] = np.arange(20).reshape(4, 5)
    writer.place(given)
    assert writer.allocate((4, 5), np.dtype(np.uint16)) is not given, "a slot was given out twice"
    pixels = ring.lease(slot, (4, 5), "uint16")
    assert np.array_equal(pixels, np.arange(20).reshape(4, 5))
    for shape, dtype in (((100, 100), "uint8"), ((0, 5), "uint8"), ((4, 5), "float64")):
        with pytest.raises(CameraError, match="which can't be"):
            ring.lease(ring.take(), shape, dtype)
    writer.select(ring.take())
    with pytest.raises(CameraError, match="no frame of the recipe"):
        writer.place(np.zeros((100, 100), np.uint8))
    with pytest.raises(OSError):
        os.ftruncate(ring.descriptor, 0)  # sealed: no process can pull it from under the other
    ring.close()
