"""Checks of a camera's set-up: what is written is read back, what can't be is refused, and closed is closed."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cell.errors import CameraError
from cell.recipes import Recipe, SensorSetup
from drivers.conformance.camera_bench import Bench, Finding
from drivers.conformance.report import Skip

#: No sensor has so many columns.
_TOO_WIDE = 10_000_000
_UNKNOWN = "NoSuchFeature"
#: Nor is there one that exposes for eleven days.
_TOO_MUCH = 1e12
_NUMBER = re.compile(r"[0-9][0-9.e+]*[0-9]|[0-9]")
_SET_UPS = 12
#: Settings that recovering must bring back, as far as the camera has them.
_RESTORED = (
    *("Width", "Height", "OffsetX", "OffsetY", "BinningHorizontal", "BinningVertical", "PixelFormat"),
    *("TriggerMode", "TriggerSource", "ExposureAuto", "GainAuto", "ChunkModeActive", "SequencerMode"),
)


def opens_idle(bench: Bench) -> Iterator[Finding]:
    """No frame before a recipe."""
    camera, channel = bench.camera, bench.channel
    yield from bench.refused("exposing an unconfigured camera", lambda: camera.expose(channel))
    yield from bench.refused("awaiting a frame of an unconfigured camera", lambda: camera.await_frame(channel, 0.1))


def identity(bench: Bench) -> Iterator[Finding]:
    """A name that can stand in a frame, and a plain yes or no."""
    if not bench.camera.name.strip() or "\n" in bench.camera.name:
        yield f"its name is {bench.camera.name!r}"
    emulated: object = bench.camera.emulated
    if not isinstance(emulated, bool):
        yield f"emulated is {emulated!r}, neither True nor False"


def set_up_reads_back(bench: Bench) -> Iterator[Finding]:
    """The features hold what the recipe asked for."""
    recipe = bench.recipe
    wanted = {
        "Width": recipe.width,
        "Height": recipe.height,
        "OffsetX": recipe.sensor.offset_x,
        "OffsetY": recipe.sensor.offset_y,
        "BinningHorizontal": recipe.sensor.binning,
        "BinningVertical": recipe.sensor.binning,
    }
    read = {name: bench.value(name) for name in wanted}
    if read["Width"] is None or read["Height"] is None:
        yield "its features tell no Width and Height"
    yield from (
        f"{name} is {read[name]} and not {wanted[name]}" for name in wanted if read[name] not in {None, wanted[name]}
    )


def features_work(bench: Bench) -> Iterator[Finding]:
    """Names are listed, values read, written back and read again."""
    features = bench.camera.features
    names = features.names()
    if not names or list(names) != sorted(set(names)):
        yield f"it lists {len(names)} features, unsorted or twice"
    yield from bench.refused(f"reading {_UNKNOWN}", lambda: features.read(_UNKNOWN))
    yield from bench.refused(f"writing {_UNKNOWN}", lambda: features.write(_UNKNOWN, 1))
    yield from bench.refused(f"executing {_UNKNOWN}", lambda: features.execute(_UNKNOWN))
    for name in ("ExposureTime", "UserOutputValue", "Gain"):
        if name not in names:
            continue
        before = features.read(name)
        written = features.write(name, before)
        if features.read(name) != written:
            yield f"{name} was written as {written} and reads {features.read(name)}"


def clipped_feature(bench: Bench) -> Iterator[Finding]:
    """An impossible value is refused and both values are named; the camera does not keep it."""
    features = bench.camera.features
    name = next((name for name in ("ExposureTime", "Gain", "AcquisitionFrameRate") if bench.has(name)), None)
    if name is None:
        yield Skip("it has no exposure time, gain or frame rate")
        return
    try:
        features.write(name, _TOO_MUCH)
    except CameraError as error:
        numbers = {float(text) for text in _NUMBER.findall(str(error))}
        if _TOO_MUCH not in numbers or len(numbers) < 2:
            yield f"the message does not name {_TOO_MUCH:g} and what there is instead: {error}"
    else:
        yield f"{name} took {_TOO_MUCH:g} without a word"
    if features.read(name) == _TOO_MUCH:
        yield f"{name} is {_TOO_MUCH:g}"


def too_large(bench: Bench) -> Iterator[Finding]:
    """A recipe that the sensor can't serve is refused; until a good one comes the camera gives nothing."""
    camera, recipe = bench.camera, bench.recipe
    wide = recipe.model_copy(update={"width": _TOO_WIDE})
    yield from bench.refused(f"a width of {_TOO_WIDE}", lambda: camera.configure(wide))
    if bench.trigger == "software":
        yield from bench.refused("exposing after a refused recipe", lambda: camera.expose(bench.channel))
    else:
        yield from bench.refused("awaiting after a refused recipe", lambda: camera.await_frame(bench.channel, 0.1))
    camera.configure(recipe)
    yield from _takes(bench, recipe, "after a refused one")


def misfit_format(bench: Bench) -> Iterator[Finding]:
    """Depths no camera has, and planes that a format lacks, are refused when the recipe is prepared."""
    camera, recipe = bench.camera, bench.recipe
    depth = recipe.model_copy(update={"bit_depth": 9, "sensor": SensorSetup()})
    yield from bench.refused("a bit depth of 9", lambda: camera.configure(depth))
    if recipe.channels[0].plane != "mono":
        plain = tuple(channel.model_copy(update={"plane": "mono"}) for channel in recipe.channels)
        yield from bench.refused(
            "a mono plane of a colour format", lambda: camera.configure(recipe.model_copy(update={"channels": plain}))
        )
        return
    red = tuple(channel.model_copy(update={"plane": "red"}) for channel in recipe.channels)
    yield from bench.refused(
        "a colour plane of a mono format", lambda: camera.configure(recipe.model_copy(update={"channels": red}))
    )


def wrong_way(bench: Bench) -> Iterator[Finding]:
    """A camera that a line triggers is not exposed, one that software triggers not awaited."""
    camera, channel = bench.camera, bench.channel
    if bench.trigger == "software":
        yield from bench.refused("awaiting a frame of software's camera", lambda: camera.await_frame(channel, 0.1))
    else:
        yield from bench.refused("exposing a line's camera", lambda: camera.expose(channel))


def many_set_ups(bench: Bench) -> Iterator[Finding]:
    """Set-ups of two sizes in turn, each with frames of its own size."""
    small = _smaller(bench)
    if small is None:
        yield Skip("the recipe's frame is too small to be halved")
        return
    last = -1
    for number in range(_SET_UPS):
        recipe = small if number % 2 else bench.recipe
        bench.camera.configure(recipe)
        frame = bench.take(recipe.channels[0])
        if frame is None:
            yield Skip("nobody can trigger it")
            return
        if frame.shape != (recipe.height, recipe.width):
            yield f"set-up {number} gave {frame.shape} and not {(recipe.height, recipe.width)}"
        if frame.frame_id <= last:
            yield f"set-up {number} began with frame id {frame.frame_id} after {last}"
        last = frame.frame_id


def recover_restores(bench: Bench) -> Iterator[Finding]:
    """After recovering, every setting is as before, and frames go on."""
    camera = bench.camera
    before = {name: bench.value(name) for name in _RESTORED}
    first = bench.take(bench.channel)
    camera.recover()
    after = {name: bench.value(name) for name in _RESTORED}
    yield from (f"{name} was {before[name]} and is {after[name]}" for name in _RESTORED if before[name] != after[name])
    second = bench.take(bench.channel)
    if first is not None and second is not None and second.frame_id <= first.frame_id:
        yield f"frame id {second.frame_id} came after {first.frame_id}"


def closed_for_good(bench: Bench) -> Iterator[Finding]:
    """Closing twice does no harm; nothing works afterwards, and every call says so."""
    camera = bench.camera
    camera.close()
    camera.close()
    if bench.trigger == "software":
        yield from bench.refused("exposing a closed camera", lambda: camera.expose(bench.channel))
    else:
        yield from bench.refused("awaiting a frame of a closed camera", lambda: camera.await_frame(bench.channel, 0.1))
    yield from bench.refused("setting up a closed camera", lambda: camera.configure(bench.recipe))
    yield from bench.refused("recovering a closed camera", camera.recover)
    yield from bench.refused("reading a closed camera's features", lambda: camera.features.read("Width"))


def _takes(bench: Bench, recipe: Recipe, when: str) -> Iterator[Finding]:
    frame = bench.take(recipe.channels[0])
    if frame is not None and frame.shape != (recipe.height, recipe.width):
        yield f"the frame {when} is {frame.shape} and not {(recipe.height, recipe.width)}"


def _smaller(bench: Bench) -> Recipe | None:
    """Return the recipe with half the frame, in steps that cameras have; None when there is none."""
    width, height = bench.recipe.width // 32 * 16, bench.recipe.height // 4 * 2
    if width < 16 or height < 2:
        return None
    return bench.recipe.model_copy(update={"width": width, "height": height, "roi": None, "exclusions": ()})
