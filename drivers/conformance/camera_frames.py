"""Checks of a camera's frames: what they are, whose they are, and that they stay so."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise

import numpy as np

from cell.errors import CameraError
from cell.frames import Frame
from cell.recipes import Channel, Recipe, SensorSetup
from drivers.cameras.formats import format_of
from drivers.conformance.camera_bench import Bench, Finding
from drivers.conformance.report import Skip

_EXPOSURES = 5
_TOO_MUCH = 1e12
_COLOUR_FORMATS = ("BayerRG8", "BayerGR8", "BayerGB8", "BayerBG8", "RGB8", "BGR8", "RGBa8")
_PLANES = ("red", "green", "blue")


def frame_fits(bench: Bench) -> Iterator[Finding]:
    """Size, depth, names and levels of a frame are those of recipe and camera."""
    for channel in bench.recipe.channels:
        yield from fits(bench.camera.expose(channel), channel, bench.recipe, bench.camera.name)


def fits(frame: Frame, channel: Channel, recipe: Recipe, camera: str) -> Iterator[Finding]:
    """Yield what is wrong with a frame."""
    pixels = frame.pixels
    if pixels.shape != (recipe.height, recipe.width):
        yield f"a frame of {channel.name} is {pixels.shape} and not {(recipe.height, recipe.width)}"
    if pixels.dtype != (np.uint8 if recipe.bit_depth <= 8 else np.uint16) or frame.bit_depth != recipe.bit_depth:
        yield f"a frame of {channel.name} is {pixels.dtype} at {frame.bit_depth} bit and not {recipe.bit_depth} bit"
    elif pixels.size and int(pixels.max()) >= 1 << recipe.bit_depth:
        yield f"a frame of {channel.name} has a pixel of {int(pixels.max())} at {recipe.bit_depth} bit"
    if frame.channel != channel.name:
        yield f"a frame of {channel.name} says that it is of {frame.channel}"
    if frame.camera != camera:
        yield f"a frame says that camera {frame.camera} took it, which calls itself {camera}"
    if frame.pixel_format and format_of(frame.pixel_format).bits != recipe.bit_depth:
        yield f"a frame says that it is {frame.pixel_format} at {recipe.bit_depth} bit"


def exposure_as_read(bench: Bench) -> Iterator[Finding]:
    """The frame tells what the camera's features hold, for one exposure and for another."""
    if not bench.has("ExposureTime"):
        yield Skip("it has no exposure time")
        return
    for factor in (1.0, 1.5, 1.0):
        channel = bench.channel.model_copy(update={"exposure_us": bench.channel.exposure_us * factor})
        frame = bench.camera.expose(channel)
        if abs(frame.exposure_us - channel.exposure_us) > max(1.0, 0.005 * channel.exposure_us):
            yield f"a frame tells {frame.exposure_us:g} us where {channel.exposure_us:g} were asked for"
        yield from _same_as(bench, "ExposureTime", frame.exposure_us)
        if bench.has("Gain"):
            yield from _same_as(bench, "Gain", frame.gain_db)


def one_each(bench: Bench) -> Iterator[Finding]:
    """Frame ids go up by one (by more on a simulator that runs free), and time stamps go up or are all 0."""
    frames = [bench.camera.expose(bench.channel) for _ in range(_EXPOSURES)]
    ids = [frame.frame_id for frame in frames]
    steps = [after - before for before, after in pairwise(ids)]
    if min(steps) < 1 or (max(steps) > 1 and not bench.runs_free):
        yield f"frame ids of single triggers are {ids}"
    yield from times(frames)


def work_meanwhile(bench: Bench) -> Iterator[Finding]:
    """What its caller wants done meanwhile is done once, and the frame comes all the same."""
    for channel in bench.recipe.channels:
        done: list[str] = []
        frame = bench.camera.expose(channel, partial(done.append, channel.name))
        yield from fits(frame, channel, bench.recipe, bench.camera.name)
        if done != [channel.name]:
            yield f"what was to be done during an exposure was done {len(done)} times"


def times(frames: list[Frame]) -> Iterator[Finding]:
    """Yield when time stamps do not go up."""
    stamps = [frame.timestamp_ns for frame in frames]
    if any(stamps) and any(after <= before for before, after in pairwise(stamps)):
        yield f"time stamps are {stamps}"


def kept_frames(bench: Bench) -> Iterator[Finding]:
    """Buffers that are used again do not show in frames that someone keeps."""
    frame = bench.camera.expose(bench.channel)
    before = frame.pixels.copy()
    others = [bench.camera.expose(channel) for _ in range(_EXPOSURES) for channel in bench.recipe.channels]
    if not np.array_equal(frame.pixels, before):
        yield "a frame that was kept changed with the ones after it"
    if any(np.shares_memory(frame.pixels, other.pixels) for other in others):
        yield "two frames that are kept share their pixels' memory"


def shared_planes(bench: Bench) -> Iterator[Finding]:
    """Red, green and blue of one exposure have one id and time; the next red is a new exposure."""
    recipe = _coloured(bench)
    if recipe is None:
        yield Skip("it has no colour format that can be read")
        return
    first = [bench.camera.expose(channel) for channel in recipe.channels]
    second = [bench.camera.expose(channel) for channel in recipe.channels]
    for frames in (first, second):
        for frame, channel in zip(frames, recipe.channels, strict=True):
            yield from fits(frame, channel, recipe, bench.camera.name)
        if len({(frame.frame_id, frame.timestamp_ns) for frame in frames}) != 1:
            yield f"planes of one exposure have the ids {[frame.frame_id for frame in frames]}"
    if second[0].frame_id <= first[0].frame_id:
        yield f"a second exposure has id {second[0].frame_id} after {first[0].frame_id}"
    green = bench.camera.expose(recipe.channels[1])
    if green.frame_id <= second[0].frame_id:
        yield "a plane was taken a second time from an exposure of before"


def clipped_exposure(bench: Bench) -> Iterator[Finding]:
    """An impossible exposure is refused, and is forgotten with the next one."""
    yield from _clipped(bench, "ExposureTime", "exposure_us")


def clipped_gain(bench: Bench) -> Iterator[Finding]:
    """An impossible gain is refused, and is forgotten with the next exposure."""
    yield from _clipped(bench, "Gain", "gain_db")


def _clipped(bench: Bench, feature: str, field: str) -> Iterator[Finding]:
    if not bench.has(feature):
        yield Skip(f"it has no {feature}")
        return
    channel = bench.channel.model_copy(update={field: _TOO_MUCH})
    yield from bench.refused(f"{field} of {_TOO_MUCH:g}", lambda: bench.camera.expose(channel))
    frame = bench.camera.expose(bench.channel)
    yield from fits(frame, bench.channel, bench.recipe, bench.camera.name)
    if abs(getattr(frame, field) - getattr(bench.channel, field)) > max(1.0, 0.005 * bench.channel.exposure_us):
        yield f"the exposure after a refused one has {field} {getattr(frame, field):g}"


def _same_as(bench: Bench, feature: str, told: float) -> Iterator[Finding]:
    read = bench.camera.features.read(feature)
    if not isinstance(read, (int, float)) or abs(read - told) > max(1e-6, 1e-3 * abs(told)):
        yield f"a frame tells {told:g} where {feature} is {read}"


def _coloured(bench: Bench) -> Recipe | None:
    """Set the camera up for the planes of the first colour format that it takes and return the recipe."""
    if bench.channel.plane != "mono":
        return None
    channels = tuple(bench.channel.model_copy(update={"name": plane, "plane": plane}) for plane in _PLANES)
    for name in _COLOUR_FORMATS:
        sensor = SensorSetup(pixel_format=name)
        recipe = bench.recipe.model_copy(update={"bit_depth": 8, "sensor": sensor, "channels": channels})
        try:
            bench.camera.configure(recipe)
        except CameraError:
            continue
        return recipe
    return None
