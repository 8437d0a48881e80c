"""Acquisition through pylon's emulated camera against a bare pypylon loop, in turns of one run."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from pypylon import pylon

from benchmarks.imaging import cells
from benchmarks.imaging.load import Note
from cell.errors import InspectdError
from cell.frames import FailedAcquisition
from cell.recipes import Recipe
from daemon.acquire import Acquirer
from drivers.registry import LazyScene, open_rig
from drivers.sim.folder_feed import FolderFeed

_TIMEOUT_MS = 2000


def against_bare_loop(
    parts: int, turns: int, channels: int, exposure_us: float, note: Note, *, isolated: bool = True
) -> dict[str, Any]:
    """Take `parts` parts in `turns` turns each way and compare the times of a set, ms.

    The bare loop shows the same pictures in the same way and does what pypylon's own examples do: wait until the
    camera takes a trigger, fire, retrieve, copy the array. No process of its own, no read-back, no proof that the
    frame is the right one. Ours asks the camera that too, for each frame, but beside what it does with the frame
    before. Both render the emulated part for each exposure, warm up with as many parts, and have the exposure in the
    one register that the emulator obeys.

    Renderer and pylon's library run in this process in the bare loop, and with `isolated` in the camera's own
    otherwise; no process is bound to a processor. Without `isolated` both run here, which tells the cost of the process
    from that of the driver and the proof.
    """
    recipe = cells.recipe(channels, 256, 320, exposure_us=exposure_us)
    ours: list[float] = []
    bare: list[float] = []
    for turn in range(turns):
        note("bare pypylon loop", turn, turns)
        bare += _bare(recipe, max(1, parts // turns))
        note("acquirer through pylon", turn, turns)
        ours += _ours(recipe, max(1, parts // turns), isolated=isolated)
    mine, theirs = cells.percentiles(ours), cells.percentiles(bare)
    ratio = {key: round(mine[key] / theirs[key], 3) for key in mine}
    return {
        "sets": len(ours),
        "channels": channels,
        "exposure_us": exposure_us,
        "isolated": isolated,
        "set_ms": mine,
        "bare_ms": theirs,
        "ratio": ratio,
    }


def _ours(recipe: Recipe, parts: int, *, isolated: bool) -> list[float]:
    rig = open_rig(cells.settings("pylon", len(recipe.channels), isolated=isolated))
    try:
        acquirer = Acquirer(rig)
        acquirer.configure(recipe)
        for number in range(cells.DISTINCT):
            acquirer.take(cells.part(number, recipe))
        durations = []
        for number in range(parts):
            part = cells.part(number, recipe)
            begun = time.perf_counter()
            acquired = acquirer.take(part)
            durations.append((time.perf_counter() - begun) * 1e3)
            if isinstance(acquired, FailedAcquisition):
                raise InspectdError(f"pylon's emulated camera gave no set: {acquired.detail}")
        return durations
    finally:
        rig.close()


def _bare(recipe: Recipe, parts: int) -> list[float]:
    scene = LazyScene(cells.settings("pylon", len(recipe.channels)).emulated)
    feed = FolderFeed()
    camera = pylon.InstantCamera(pylon.TlFactory.GetInstance().CreateFirstDevice())
    try:
        camera.Open()
        feed.put(np.zeros((recipe.height, recipe.width), np.uint8))
        for name, value in _set_up(recipe, str(feed.folder)):
            getattr(camera, name).Value = value
        camera.StartGrabbing(pylon.GrabStrategy_OneByOne, pylon.GrabLoop_ProvidedByUser)
        durations = []
        for number in range(-cells.DISTINCT, parts):
            begun = time.perf_counter()
            scene.present(cells.part_name(number))
            for channel in recipe.channels:
                scene.illuminate(channel.lights)
                feed.put(scene.picture(recipe.height, recipe.width, channel.exposure_us, channel.gain_db))
                camera.WaitForFrameTriggerReady(_TIMEOUT_MS, pylon.TimeoutHandling_ThrowException)
                camera.TriggerSoftware.Execute()
                with camera.RetrieveResult(_TIMEOUT_MS, pylon.TimeoutHandling_ThrowException) as result:
                    result.GetArray()
            if number >= 0:
                durations.append((time.perf_counter() - begun) * 1e3)
        return durations
    finally:
        camera.Close()
        feed.close()


def _set_up(recipe: Recipe, folder: str) -> list[tuple[str, str | int | float]]:
    return [
        ("Width", recipe.width),
        ("Height", recipe.height),
        ("PixelFormat", "Mono8"),
        ("TestImageSelector", "Off"),
        ("ImageFilename", folder),
        ("ImageFileMode", "On"),
        ("TriggerSelector", "FrameStart"),
        ("TriggerMode", "On"),
        ("TriggerSource", "Software"),
        ("ExposureTimeAbs", recipe.channels[0].exposure_us),  # the emulator's ExposureTime has no effect
    ]
