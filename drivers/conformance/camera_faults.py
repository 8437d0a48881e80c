"""Checks of what a camera does when something goes wrong."""

from __future__ import annotations

from collections.abc import Iterator

from cell.errors import AcquisitionTimeout, CameraError, HardwareError
from cell.frames import AcquisitionFault
from drivers.cameras.base import fault_of
from drivers.conformance.camera_bench import Bench, EmulatedFault, Finding, sound
from drivers.conformance.camera_frames import fits, times
from drivers.conformance.report import Skip

#: An exposure that outlasts the time-out by this factor comes too late on every camera that takes its time.
_TOO_LATE = 1.2
#: By how much a camera's clock and this machine's may tell another time of an exposure.
_APART_S = 0.25


def late_frame(bench: Bench) -> Iterator[Finding]:
    """The frame of a trigger that was given up comes, too late, and is not taken for the next trigger's."""
    camera, channel = bench.camera, bench.channel
    if not bench.has("ExposureTime"):
        yield Skip("it has no exposure time")
        return
    good, good_at = camera.expose(channel), bench.clock()
    slow = channel.model_copy(update={"exposure_us": bench.frame_timeout_s * 1e6 * _TOO_LATE})
    begun = bench.clock()
    try:
        camera.expose(slow)
    except AcquisitionTimeout as error:
        yield from sound("a late frame", error)
        yield from bench.in_time("waiting for a late frame", begun)
    except CameraError as error:
        yield Skip(f"it takes no exposure of {slow.exposure_us:g} us: {error}")
        return
    else:
        yield Skip("it does not take its time for an exposure, so no frame comes late")
        return
    next_one, next_at = camera.expose(channel), bench.clock()
    yield from fits(next_one, channel, bench.recipe, camera.name)
    if next_one.frame_id <= good.frame_id:
        yield f"frame id {next_one.frame_id} came after {good.frame_id}"
    told_s = (next_one.timestamp_ns - good.timestamp_ns) / 1e9
    if good.timestamp_ns and abs(told_s - (next_at - good_at)) > _APART_S:
        yield f"the next frame was exposed {next_at - good_at - told_s:.2f} s before it was asked for"


def named_faults(bench: Bench) -> Iterator[Finding]:
    """What can be made to go wrong is named as what it is, within the time-out, and is over with the next exposure."""
    if not bench.faults:
        yield Skip("nothing can be made to go wrong on it")
        return
    for fault in bench.faults:
        yield from _one_fault(bench, fault)


def _one_fault(bench: Bench, fault: EmulatedFault) -> Iterator[Finding]:
    camera, channel = bench.camera, bench.channel
    before = [camera.expose(channel) for channel in bench.recipe.channels]
    before.append(camera.expose(channel))
    fault.cause()
    begun = bench.clock()
    try:
        camera.expose(channel)
    except (CameraError, AcquisitionTimeout) as error:
        yield from sound(fault.name, error)
        if fault_of(error) not in fault.named:
            yield f"{fault.name} was called {fault_of(error)}"
        lost = _lost(error)
    else:
        yield f"{fault.name} went unnoticed"
        lost = False
    yield from bench.in_time(fault.name, begun)
    fault.repair()
    if lost:
        camera.recover()
    after = [camera.expose(channel), camera.expose(channel)]
    yield from fits(after[0], channel, bench.recipe, camera.name)
    if after[0].frame_id <= before[-1].frame_id:
        yield f"after {fault.name} frame id {after[0].frame_id} came after {before[-1].frame_id}"
    yield from (f"after {fault.name} {finding}" for finding in times([before[-1], *after]))


def _lost(error: HardwareError) -> bool:
    """Tell whether whoever uses the camera would bring it back after this."""
    return fault_of(error) in {AcquisitionFault.CAMERA, AcquisitionFault.MISSING}
