"""Checks of a camera that a line or an action command triggers: frames in order, none of its own, none lost unseen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

from cell.errors import AcquisitionTimeout, CameraError, HardwareError
from cell.frames import Frame
from drivers.cameras.arming import exposures_of
from drivers.cameras.base import fault_of, shares_exposure
from drivers.conformance.camera_bench import SLACK_S, Bench, EmulatedFault, Finding, sound
from drivers.conformance.camera_frames import fits
from drivers.conformance.report import Skip

_NOBODY = Skip("nobody can trigger its line")
_SHORT_S = 0.1
_QUEUED = 3


def no_trigger(bench: Bench) -> Iterator[Finding]:
    """Without a trigger None comes back after the time that it was asked to wait, on a quiet line."""
    if bench.runs_free:
        yield Skip("it runs free: frames come by themselves")
        return
    begun = bench.clock()
    frame = bench.camera.await_frame(bench.channel, _SHORT_S)
    took = bench.clock() - begun
    if frame is not None:
        yield f"frame {frame.frame_id} came without a trigger"
    elif not 0.5 * _SHORT_S <= took <= _SHORT_S + SLACK_S:
        yield f"waiting {_SHORT_S:g} s for nothing took {took:.2f} s"


def line_order(bench: Bench) -> Iterator[Finding]:
    """One trigger: every channel's frame once, ids and times in order, one trigger count, and nothing more."""
    if bench.fire is None:
        yield _NOBODY
        return
    bench.fire()
    yield from _complete(bench, _set(bench))
    if (more := bench.camera.await_frame(bench.channel, _SHORT_S)) is not None:
        yield f"frame {more.frame_id} came after the last channel's"


def line_queue(bench: Bench) -> Iterator[Finding]:
    """Several triggers before anything is taken: all frames wait, in order, each trigger with its own count."""
    if bench.fire is None:
        yield _NOBODY
        return
    counts: list[int | None] = []
    last: Frame | None = None
    for _ in range(_QUEUED):
        bench.fire()
        bench.idle()
    for _ in range(_QUEUED):
        frames = _set(bench)
        yield from _complete(bench, frames)
        whole = [frame for frame in frames if frame is not None]
        if not whole:
            return
        if last is not None and whole[0].frame_id != last.frame_id + 1:
            yield f"frame id {whole[0].frame_id} came after {last.frame_id}"
        last = whole[-1]
        counts.append(whole[0].trigger_count)
    told = [count for count in counts if count is not None]
    if told and [count - told[0] for count in told] != list(range(_QUEUED)):
        yield f"the counts of triggers that followed each other are {counts}"


def line_faults(bench: Bench) -> Iterator[Finding]:
    """What goes wrong on the line is named or is a gap; the frames behind it are the next trigger's."""
    if bench.fire is None:
        yield _NOBODY
        return
    if not bench.faults:
        yield Skip("nothing can be made to go wrong on it")
        return
    for fault in bench.faults:
        yield from _one_fault(bench, fault, bench.fire)


def _one_fault(bench: Bench, fault: EmulatedFault, fire: Callable[[], None]) -> Iterator[Finding]:
    camera = bench.camera
    camera.configure(bench.recipe)
    fire()
    before = _set(bench)
    yield from _complete(bench, before)
    fault.cause()
    bench.idle()
    begun = bench.clock()
    fire()
    bench.idle()
    ids = [frame.frame_id for frame in before if frame is not None]
    error = _take_set(bench, ids)
    yield from bench.in_time(fault.name, begun + (len(bench.recipe.channels) - 1) * bench.frame_timeout_s)
    gap = any(after - before > 1 for before, after in pairwise(ids))
    whole = len(set(ids)) >= 2 * len(exposures_of(bench.recipe))
    if error is not None:
        yield from sound(fault.name, error)
        if fault_of(error) not in fault.named:
            yield f"{fault.name} was called {fault_of(error)}"
    elif whole and not gap:
        yield f"{fault.name} went unnoticed"
    fault.repair()
    camera.recover()
    fire()
    yield from (f"after {fault.name} {finding}" for finding in _complete(bench, _set(bench)))


def _set(bench: Bench) -> list[Frame | None]:
    return [bench.camera.await_frame(channel, bench.frame_timeout_s) for channel in bench.recipe.channels]


def _take_set(bench: Bench, ids: list[int]) -> HardwareError | None:
    """Take one trigger's frames, append their ids, and return the error that ended it, if any."""
    for channel in bench.recipe.channels:
        try:
            frame = bench.camera.await_frame(channel, bench.frame_timeout_s)
        except (CameraError, AcquisitionTimeout) as error:
            return error
        if frame is not None:
            ids.append(frame.frame_id)
    return None


def _complete(bench: Bench, frames: list[Frame | None]) -> Iterator[Finding]:
    """Yield what is wrong with the frames of one trigger."""
    channels = bench.recipe.channels
    missing = [channel.name for channel, frame in zip(channels, frames, strict=True) if frame is None]
    if missing:
        yield f"no frame came for {', '.join(missing)}"
        return
    whole = [frame for frame in frames if frame is not None]
    for channel, frame in zip(channels, whole, strict=True):
        yield from fits(frame, channel, bench.recipe, bench.camera.name)
    for index in range(1, len(whole)):
        step = 0 if shares_exposure(channels[index - 1], channels[index]) else 1
        if whole[index].frame_id - whole[index - 1].frame_id != step:
            yield f"the ids of one trigger's frames are {[frame.frame_id for frame in whole]}"
            break
    stamps = [frame.timestamp_ns for frame in whole]
    if any(stamps) and stamps != sorted(stamps):
        yield f"the time stamps of one trigger's frames are {stamps}"
    if len({frame.trigger_count for frame in whole}) > 1:
        yield f"the trigger counts of one trigger's frames are {[frame.trigger_count for frame in whole]}"
