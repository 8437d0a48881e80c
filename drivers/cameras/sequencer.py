"""The SFNC sequencer: exposure, gain and lamps change from frame to frame in the camera, faster than a host could.

A set holds one exposure, and which output lines switch light during it: lines of strobed lamps follow the exposure or a
user output that is off (LineSource), those of continuous ones follow a user output of their own. The next set follows
when a frame is over, and after the last one comes the first. Sets can be changed only while SequencerMode is Off (SFNC
2.x, sequencer control). Basler's ace GigE has another, older sequencer (SequenceEnable and so on), which is not used:
it can't be read back set by set.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Sets

from cell.errors import CameraError
from cell.recipes import Channel
from cell.settings import CameraLamp
from drivers.cameras.base import Value
from drivers.cameras.features import GenApiFeatures

#: What ends a set; the first that the camera has. The end of a frame leaves no doubt whose exposure was whose.
_NEXT_AFTER = ("FrameEnd", "ExposureEnd", "FrameStart")
#: Ends the pulses of lamps whose channel has a strobe width.
_TIMER = "Timer1"
#: How a lamp is switched, by its mode: selector and feature.
_SWITCHES = {"pulsed": ("LineSelector", "LineSource"), "continuous": ("UserOutputSelector", "UserOutputValue")}
#: Lamps by the names of their light lines.
Lamps = Mapping[str, CameraLamp]


def steps_light(lamps: Lamps, exposures: Sets[Channel]) -> bool:
    """Tell whether lamps of the camera must be switched between these exposures."""
    schemes = {(lit_of(lamps, channel), channel.strobe_us) for channel in exposures}
    return bool(lamps) and len(schemes) > 1


def lit_of(lamps: Lamps, channel: Channel) -> frozenset[str]:
    """Return which lamps of the camera shine during a channel's exposure."""
    return frozenset(line for line, level in channel.lights.items() if level > 0 and line in lamps)


def switch_off(features: GenApiFeatures) -> None:
    """Let one exposure count for all frames. Raises `CameraError`."""
    if features.writable("SequencerMode"):
        features.write("SequencerMode", "Off")
    if features.writable("SequencerConfigurationMode"):
        features.write("SequencerConfigurationMode", "Off")


def program(
    features: GenApiFeatures, exposures: Sets[Channel], lamps: Lamps | None = None
) -> tuple[tuple[float, float], ...]:
    """Write one set for each exposure, read all back and switch the sequencer on.

    :param exposures: a channel for each set, in the order of the frames.
    :param lamps: what the sets switch, if they do; all other lines stay as they are.
    :returns: (exposure in us, gain in dB) of each set, as read.
    :raises CameraError: the camera has no such sequencer, too few sets, or clips a value.
    """
    if not features.has("SequencerMode"):
        names = ", ".join(channel.name for channel in exposures)
        raise CameraError(
            f"camera {features.camera} has no sequencer, and the channels {names} differ in exposure, gain or light; "
            "give them the same ones, or trigger by software"
        )
    lamps = lamps or {}
    switch_off(features)
    _wire(features, lamps, exposures)
    features.write("SequencerConfigurationMode", "On")
    switched = dict.fromkeys(_SWITCHES[lamp.mode][1] for lamp in lamps.values())
    _enable(features, ("ExposureTime", "Gain"), tuple(switched))
    after = _end_of_set(features)
    for index, channel in enumerate(exposures):
        features.write("SequencerSetSelector", index)
        features.write("ExposureTime", channel.exposure_us)
        if features.has("Gain"):
            features.write("Gain", channel.gain_db)
        for line, lamp in lamps.items():
            selector, selected, feature, value = _switch(lamp, line, channel)
            features.write(selector, selected)
            features.write(feature, value)
        if features.writable("SequencerPathSelector"):
            features.write("SequencerPathSelector", 0)
        features.write("SequencerSetNext", (index + 1) % len(exposures))
        features.write("SequencerTriggerSource", after)
        features.execute("SequencerSetSave")
    saved = tuple(_load(features, index, channel, lamps) for index, channel in enumerate(exposures))
    features.write("SequencerSetStart", 0)
    features.write("SequencerConfigurationMode", "Off")
    features.write("SequencerMode", "On")
    return saved


def _switch(lamp: CameraLamp, line: str, channel: Channel) -> tuple[str, str, str, Value]:
    """Return selector, entry, feature and value that a lamp has during a channel's exposure."""
    lit = channel.lights.get(line, 0.0) > 0
    selector, feature = _SWITCHES[lamp.mode]
    if lamp.mode == "continuous":
        return selector, _user_output(lamp), feature, lit
    source = "ExposureActive" if channel.strobe_us is None else f"{_TIMER}Active"
    return selector, lamp.line, feature, source if lit else _user_output(lamp)


def _user_output(lamp: CameraLamp) -> str:
    return f"UserOutput{lamp.user_output}"


def _wire(features: GenApiFeatures, lamps: Lamps, exposures: Sets[Channel]) -> None:
    """Make the lamps' lines dark outputs of the right polarity, and let the timer give the strobe's width."""
    for lamp in lamps.values():
        features.write("UserOutputSelector", _user_output(lamp))
        features.write("UserOutputValue", False)
        features.write("LineSelector", lamp.line)
        features.write("LineSource", _user_output(lamp))
        if features.has("LineInverter") or lamp.inverted:
            features.write("LineInverter", lamp.inverted)
        if features.writable("LineMode"):
            features.write("LineMode", "Output")
    widths = {channel.strobe_us for channel in exposures if channel.strobe_us is not None} if lamps else set()
    if len(widths) > 1:
        told = " and ".join(f"{width:g}" for width in sorted(widths))
        raise CameraError(
            f"camera {features.camera} has one timer for strobes, and the recipe wants {told} us after one "
            "edge; give all channels one strobe_us, or trigger by software"
        )
    for width in widths:
        features.write("TimerSelector", _TIMER)
        features.write("TimerTriggerSource", "ExposureStart")
        features.write("TimerDuration", width)


def _enable(features: GenApiFeatures, may: tuple[str, ...], must: tuple[str, ...]) -> None:
    """Let the sets hold these features. Raises `CameraError` when they can't hold one that they must."""
    offered = features.choices("SequencerFeatureSelector")
    for feature in (*may, *must):
        if features.writable("SequencerFeatureSelector") and feature in offered:
            features.write("SequencerFeatureSelector", feature)
            if features.writable("SequencerFeatureEnable"):
                features.write("SequencerFeatureEnable", True)
        elif feature in must and offered:
            raise CameraError(
                f"the sequencer of camera {features.camera} holds {', '.join(offered)} and not {feature}, by which its "
                f"lamps are switched; try light.mode {'pulsed' if feature == 'UserOutputValue' else 'continuous'}, "
                "give all channels the same lights, or trigger by software"
            )


def _end_of_set(features: GenApiFeatures) -> str:
    offered = features.choices("SequencerTriggerSource")
    for source in _NEXT_AFTER:
        if source in offered:
            return source
    raise CameraError(
        f"the sequencer of camera {features.camera} goes on at {', '.join(offered) or 'nothing'}, and not at the "
        "end of a frame; give all channels the same exposure, gain and light, or trigger by software"
    )


def _load(features: GenApiFeatures, index: int, channel: Channel, lamps: Lamps) -> tuple[float, float]:
    """Read a set back. Raises `CameraError` naming what was saved and what is there."""
    features.write("SequencerSetSelector", index)
    features.execute("SequencerSetLoad")
    exposure = float(features.read("ExposureTime"))
    gain = float(features.read("Gain")) if features.has("Gain") else 0.0
    wanted = channel.gain_db if features.has("Gain") else 0.0
    if not features.same("ExposureTime", channel.exposure_us, exposure) or not features.same("Gain", wanted, gain):
        raise CameraError(
            f"camera {features.camera}: set {index} of its sequencer was saved with {channel.exposure_us:g} us and "
            f"{channel.gain_db:g} dB and holds {exposure:g} us and {gain:g} dB; see its manual for what a set can hold"
        )
    for line, lamp in lamps.items():
        selector, selected, feature, value = _switch(lamp, line, channel)
        features.write(selector, selected)
        held = features.read(feature)
        if held != value:
            raise CameraError(
                f"camera {features.camera}: set {index} of its sequencer was saved with {selected} {feature} {value} "
                f"for the light line {line} and holds {held}; its sequencer can't switch this lamp, so give all "
                "channels the same lights, or trigger by software"
            )
    return exposure, gain
