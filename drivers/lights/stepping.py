"""Light that follows the frames of a hardware trigger without the host: the camera's sequencer switches the lamps.

::

    edge of the sensor --> camera: exposure 1 .. K, one set of its sequencer each
                             set k: lines of channel k's lamps carry ExposureActive, all others are dark
                               |--> lamps on these lines (`camera_lines`)
                               '--> trigger inputs of a controller whose outputs hold their settings (`gardasoft`)

What the sets hold is written and read back by `drivers.cameras.sequencer`, before the light is prepared; here is what
both kinds of light ask of a recipe and of the camera.
"""

from __future__ import annotations

from cell.errors import HardwareError, LightError
from cell.recipes import Channel, Recipe
from cell.settings import CameraLamp, CameraSettings, LightSettings
from drivers.cameras.base import Camera


def lamps_of(light: LightSettings, role: str, camera: CameraSettings) -> dict[str, CameraLamp]:
    """Return the light lines that the sequencer of the camera called `role` can switch; none if a host triggers it."""
    if light.camera != role or camera.trigger == "software" or light.driver == "simulated":
        return {}
    own = light.driver == "camera_lines"
    return {
        line: CameraLamp(
            line=output.camera_line,
            user_output=output.channel if own else 1,
            mode=light.mode,
            inverted=own and output.inverted,
        )
        for line, output in light.outputs.items()
        if output.camera_line
    }


def differing(recipe: Recipe) -> Channel | None:
    """Return the first channel with other light than the first channel, or None."""
    first = recipe.channels[0]
    return next((c for c in recipe.channels if (c.lights, c.strobe_us) != (first.lights, first.strobe_us)), None)


def require_in_step(recipe: Recipe, role: str) -> None:
    """Refuse a recipe whose other cameras expose in other light than the one that switches it. Raises `LightError`."""
    by_camera: dict[str, list[Channel]] = {}
    for channel in recipe.channels:
        by_camera.setdefault(channel.camera, []).append(channel)
    leading = by_camera.get(role, [])
    for other, channels in by_camera.items():
        for index, channel in enumerate(channels):
            lit = (leading[index].lights, leading[index].strobe_us) if index < len(leading) else None
            if lit != (channel.lights, channel.strobe_us):
                raise LightError(
                    f"channel {channel.name}: camera {other} takes it as exposure {index + 1} of a hardware trigger, "
                    f"when the lamps follow exposure {index + 1} of camera {role}, in other light; give both the "
                    "same lights in the same order, or let software trigger the cameras"
                )


def require_sequencer(camera: Camera, recipe: Recipe) -> None:
    """Refuse a camera whose sequencer does not run, so that the lamps would stay as they are. Raises `LightError`."""
    channel = differing(recipe)
    who = "" if channel is None else f"channel {channel.name} has other light than channel {recipe.channels[0].name}: "
    try:
        mode = camera.features.read("SequencerMode")
    except HardwareError as error:
        raise LightError(
            f"{who}camera {camera.name} has no sequencer that could switch the lamps ({error}); give all channels the "
            "same lights, or let software trigger the camera",
        ) from error
    if mode != "On":
        raise LightError(
            f"{who}camera {camera.name} does not switch the lamps between its exposures, its SequencerMode is {mode}; "
            "prepare the recipe anew"
        )
