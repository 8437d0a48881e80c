"""From a recipe and settings to a camera that waits for triggers: every feature written in an order that holds.

Old values get in the way of new ones (a width that fits the sensor may not fit behind an old offset, binning changes
what fits), so: offsets to zero, binning, pixel format, size, offsets. What an earlier program may have left on
(automatic exposure, other triggers, a sequencer) is switched off: a camera behaves alike however it was found.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cell.errors import CameraError
from cell.recipes import Channel, Recipe
from cell.settings import CameraSettings
from drivers.cameras import sequencer
from drivers.cameras.base import Value, shares_exposure
from drivers.cameras.chunks import ChunkPlan, switch_on
from drivers.cameras.features import GenApiFeatures
from drivers.cameras.formats import PixelFormat, format_of, formats_for

#: What adjusts itself and would make two frames of one channel differ.
_AUTOMATIC = ("ExposureAuto", "GainAuto", "BlackLevelAuto", "BalanceWhiteAuto")
#: A burst of frames for one edge: (trigger that starts it, how many it has), the first that a camera has.
_BURSTS = (
    ("FrameBurstStart", "AcquisitionBurstFrameCount"),
    ("AcquisitionStart", "AcquisitionBurstFrameCount"),
    ("AcquisitionStart", "AcquisitionFrameCount"),  # Basler's GigE families
)
_ACTION = "Action1"
#: Buffers of a camera whose frames come one by one, a plane's held one included.
_SINGLE_BUFFERS = 4
#: Parts of a line whose frames may wait, as far as they fit into so much memory and so many buffers.
_LINE_PARTS, _LINE_BYTES, _MOST_BUFFERS = 8, 1 << 30, 128


@dataclass(frozen=True, slots=True)
class Armed:
    """What a camera was made to do.

    `actual` holds (exposure in us, gain in dB) as read for each channel that the camera times without the host: empty
    where the host writes them before each trigger. `tick_ns` is the length of a tick of the camera's clock.
    """

    pixel_format: PixelFormat
    chunks: ChunkPlan
    tick_ns: float
    software_trigger: bool  # False on a simulator that runs free
    actual: dict[str, tuple[float, float]] = field(default_factory=dict)  # by channel


def exposures_of(recipe: Recipe) -> tuple[Channel, ...]:
    """Return one channel for each exposure, in order; colour planes of one exposure count once."""
    channels = recipe.channels
    return tuple(
        channel
        for index, channel in enumerate(channels)
        if not index or not shares_exposure(channels[index - 1], channel)
    )


def arm(features: GenApiFeatures, recipe: Recipe, settings: CameraSettings, *, emulated: bool) -> Armed:
    """Write everything that a recipe and the settings ask of a camera that does not grab.

    Only an emulated camera may lack exposure times, triggers or bursts. Raises `CameraError`.
    """
    sequencer.switch_off(features)
    pixel_format = _set_region(features, recipe)
    for feature in _AUTOMATIC:
        if features.writable(feature):
            features.write(feature, "Off")
    if features.writable("ExposureMode"):
        features.write("ExposureMode", "Timed")
    limits = {channel.name: expose_as(features, channel, emulated=emulated) for channel in recipe.channels}
    on_line = settings.trigger != "software"
    software_trigger = _set_trigger(features, recipe, settings, emulated=emulated)
    chunks = switch_on(features, settings.trigger_line if settings.trigger == "line" else None)
    return Armed(
        pixel_format,
        chunks,
        tick_ns=_tick_ns(features),
        software_trigger=software_trigger,
        actual=_time_exposures(features, recipe, settings.lamps, limits) if on_line else {},
    )


def expose_as(features: GenApiFeatures, channel: Channel, *, emulated: bool) -> tuple[float, float]:
    """Set exposure and gain and return (us, dB) as read; 0 for what an emulated camera does not have.

    Raises `CameraError` for values that the camera clips or can't have.
    """
    exposure = 0.0
    if features.has("ExposureTime"):
        exposure = float(features.write("ExposureTime", float(channel.exposure_us)))
    elif not emulated:
        raise CameraError(f"camera {features.camera} has no ExposureTime; it can't take the exposures of a recipe")
    return exposure, _set_gain(features, channel, emulated=emulated)


def _set_gain(features: GenApiFeatures, channel: Channel, *, emulated: bool) -> float:
    for selector in ("All", "AnalogAll"):
        if selector in features.choices("GainSelector"):
            features.write("GainSelector", selector)
            break
    if features.has("Gain"):
        return float(features.write("Gain", float(channel.gain_db)))
    if channel.gain_db == 0.0:
        if features.writable("GainRaw"):
            features.write("GainRaw", int(features.limits("GainRaw")[0]))
        return 0.0
    if emulated and not features.has("GainRaw"):
        return 0.0
    raise CameraError(
        f"channel {channel.name}: camera {features.camera} has no gain in dB and can't be set to {channel.gain_db:g}; "
        "set gain_db to 0 and expose longer"
    )


def _set_region(features: GenApiFeatures, recipe: Recipe) -> PixelFormat:
    sensor = recipe.sensor
    formats = formats_for(recipe)
    for offset in ("OffsetX", "OffsetY"):
        if features.writable(offset):
            features.write(offset, 0)
    _hold(features, "BinningHorizontal", sensor.binning, unless=1)
    _hold(features, "BinningVertical", sensor.binning, unless=1)
    if sensor.binning > 1:
        for mode in ("BinningHorizontalMode", "BinningVerticalMode"):
            if features.writable(mode):
                features.write(mode, "Average")  # grey levels stay those of the exposure, whatever the binning
    spelled = {format_of(name): name for name in features.choices("PixelFormat") if _readable(name)}
    pixel_format = next((candidate for candidate in formats if candidate in spelled), formats[0])
    _hold(features, "PixelFormat", spelled.get(pixel_format, pixel_format.name))
    _hold(features, "Width", recipe.width)
    _hold(features, "Height", recipe.height)
    _hold(features, "OffsetX", sensor.offset_x, unless=0)
    _hold(features, "OffsetY", sensor.offset_y, unless=0)
    return pixel_format


def _hold(features: GenApiFeatures, name: str, value: Value, *, unless: Value | None = None) -> None:
    """Make a feature have a value; one that can't be written may have it already. `unless` needs no such feature."""
    if value == unless and not features.has(name):
        return
    if not features.writable(name) and features.readable(name) and features.read(name) == value:
        return
    features.write(name, value)


def _readable(name: str) -> bool:
    try:
        format_of(name)
    except CameraError:
        return False
    return True


def _set_trigger(features: GenApiFeatures, recipe: Recipe, settings: CameraSettings, *, emulated: bool) -> bool:
    """Let exactly one trigger start exposures; tell whether there is one at all."""
    if not features.has("TriggerSource"):
        if not emulated:
            raise CameraError(f"camera {features.camera} has no trigger; without one no frame is known to be a part's")
        return False
    source = {"software": "Software", "line": settings.trigger_line, "action": _ACTION}[settings.trigger]
    count = 1 if settings.trigger == "software" else len(exposures_of(recipe))
    burst = _burst(features, count, emulated=emulated)
    selector = "FrameStart" if burst is None else burst[0]
    for other in features.choices("TriggerSelector"):
        if other != selector:
            features.write("TriggerSelector", other)
            if features.writable("TriggerMode") and features.read("TriggerMode") != "Off":
                features.write("TriggerMode", "Off")
    _hold(features, "TriggerSelector", selector, unless="FrameStart")
    _hold(features, "TriggerMode", "On")
    features.write("TriggerSource", source)
    if settings.trigger == "line" and features.writable("TriggerActivation"):
        features.write("TriggerActivation", "RisingEdge")
    if burst is not None:
        features.write(burst[1], count)
    return True


def _burst(features: GenApiFeatures, count: int, *, emulated: bool) -> tuple[str, str] | None:
    """Return trigger and counter of a burst; None where a frame for each trigger is enough."""
    if count == 1:
        return None
    selectors = features.choices("TriggerSelector")
    for selector, counter in _BURSTS:
        if selector in selectors and features.has(counter):
            return selector, counter
    if emulated:
        return None
    raise CameraError(
        f"camera {features.camera} gives one frame for a trigger, and a recipe of {count} exposures needs a burst; "
        "give the recipe one exposure or trigger by software"
    )


def _time_exposures(
    features: GenApiFeatures, recipe: Recipe, lamps: sequencer.Lamps, actual: dict[str, tuple[float, float]]
) -> dict[str, tuple[float, float]]:
    """Let a camera that no host triggers have each exposure's time, gain and light; return the first two as read."""
    exposures = exposures_of(recipe)
    stepped = lamps if sequencer.steps_light(lamps, exposures) else {}
    if len({(channel.exposure_us, channel.gain_db) for channel in exposures}) <= 1 and not stepped:
        return actual
    saved = sequencer.program(features, exposures, stepped)
    timed: dict[str, tuple[float, float]] = {}
    index = -1
    for channel in recipe.channels:
        index += channel in exposures
        timed[channel.name] = saved[index]
    return timed


def _tick_ns(features: GenApiFeatures) -> float:
    """Return the length of a tick of the camera's clock: SFNC 2.x counts ns, GigE cameras before it their own ticks."""
    if features.readable("GevTimestampTickFrequency"):
        frequency = float(features.read("GevTimestampTickFrequency"))
        if frequency > 0:
            return 1e9 / frequency
    return 1.0


def buffers_for(recipe: Recipe, settings: CameraSettings) -> int:
    """Return how many buffers a camera gets: frames of a line wait in them, those of a software trigger come singly."""
    if settings.trigger == "software":
        return _SINGLE_BUFFERS
    count = len(exposures_of(recipe))
    size = formats_for(recipe)[0].row_bits(recipe.width) * recipe.height // 8
    return max(count + 2, min(_LINE_PARTS * count, _LINE_BYTES // max(1, size), _MOST_BUFFERS))
