"""The SFNC sequencer: exposure and gain change from frame to frame in the camera, faster than a host could.

A set holds one exposure; the next set follows when a frame is over, and after the last one comes the first. Sets can be
changed only while SequencerMode is Off (SFNC 2.x, sequencer control). Basler's ace GigE has another, older sequencer
(SequenceEnable and so on), which is not used: it can't be read back set by set.
"""

from __future__ import annotations

from collections.abc import Sequence as Sets

from cell.errors import CameraError
from cell.recipes import Channel
from drivers.cameras.features import GenApiFeatures

#: What ends a set; the first that the camera has. The end of a frame leaves no doubt whose exposure was whose.
_NEXT_AFTER = ("FrameEnd", "ExposureEnd", "FrameStart")


def switch_off(features: GenApiFeatures) -> None:
    """Let one exposure count for all frames. Raises `CameraError`."""
    if features.writable("SequencerMode"):
        features.write("SequencerMode", "Off")
    if features.writable("SequencerConfigurationMode"):
        features.write("SequencerConfigurationMode", "Off")


def program(features: GenApiFeatures, exposures: Sets[Channel]) -> tuple[tuple[float, float], ...]:
    """Write one set for each exposure, read all back and switch the sequencer on.

    :param exposures: a channel for each set, in the order of the frames.
    :returns: (exposure in us, gain in dB) of each set, as read.
    :raises CameraError: the camera has no such sequencer, too few sets, or clips a value.
    """
    if not features.has("SequencerMode"):
        names = ", ".join(channel.name for channel in exposures)
        raise CameraError(
            f"camera {features.camera} has no sequencer, and the channels {names} differ in exposure or gain; give "
            "them the same ones, or trigger by software"
        )
    switch_off(features)
    features.write("SequencerConfigurationMode", "On")
    for feature in ("ExposureTime", "Gain"):
        if features.writable("SequencerFeatureSelector") and feature in features.choices("SequencerFeatureSelector"):
            features.write("SequencerFeatureSelector", feature)
            if features.writable("SequencerFeatureEnable"):
                features.write("SequencerFeatureEnable", True)
    after = _end_of_set(features)
    for index, channel in enumerate(exposures):
        features.write("SequencerSetSelector", index)
        features.write("ExposureTime", channel.exposure_us)
        if features.has("Gain"):
            features.write("Gain", channel.gain_db)
        if features.writable("SequencerPathSelector"):
            features.write("SequencerPathSelector", 0)
        features.write("SequencerSetNext", (index + 1) % len(exposures))
        features.write("SequencerTriggerSource", after)
        features.execute("SequencerSetSave")
    saved = tuple(_load(features, index, channel) for index, channel in enumerate(exposures))
    features.write("SequencerSetStart", 0)
    features.write("SequencerConfigurationMode", "Off")
    features.write("SequencerMode", "On")
    return saved


def _end_of_set(features: GenApiFeatures) -> str:
    offered = features.choices("SequencerTriggerSource")
    for source in _NEXT_AFTER:
        if source in offered:
            return source
    raise CameraError(
        f"the sequencer of camera {features.camera} goes on at {', '.join(offered) or 'nothing'}, and not at the "
        "end of a frame; give all channels the same exposure and gain, or trigger by software"
    )


def _load(features: GenApiFeatures, index: int, channel: Channel) -> tuple[float, float]:
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
    return exposure, gain
