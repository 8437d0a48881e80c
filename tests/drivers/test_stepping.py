"""Light that follows the frames of a hardware trigger: the camera's sequencer switches lamps and controllers' inputs.

The camera is a described one (GenICam XML run by the real GenApi), which steps through its saved sets at each edge; the
controller is the fake Gardasoft on a real socket.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cell.errors import CameraError, LightError
from cell.recipes import Channel, DefectClass, Recipe
from cell.settings import CameraSettings, LightSettings, Settings
from drivers.cameras.arming import arm
from drivers.cameras.features import GenApiFeatures
from drivers.lights.camera_lines import CameraLineLight
from drivers.lights.gardasoft import GardasoftLight
from drivers.lights.stepping import lamps_of
from drivers.sim.fake_gardasoft import FakeGardasoft
from tests.drivers.controllers import wiring
from tests.drivers.fake_camera import FakeCamera, FakeTime
from tests.drivers.genapi_camera import Description, Nodes, modern

#: Four schemes, the last of two lamps; by the names of the lines.
SCHEMES = (("north",), ("east",), ("south",), ("west", "north"))
LINES = ("north", "east", "south", "west")


def _recipe(*schemes: tuple[str, ...], strobes: tuple[float | None, ...] = (), **changes: Any) -> Recipe:
    strobes = strobes or (None,) * len(schemes)
    return Recipe(
        recipe_id="four",
        product="p",
        height=256,
        width=320,
        channels=tuple(
            Channel(name=f"c{at}", exposure_us=500.0, lights=dict.fromkeys(scheme, 1.0), strobe_us=strobe)
            for at, (scheme, strobe) in enumerate(zip(schemes, strobes, strict=True))
        ),
        defect_classes=(DefectClass(name="d"),),
    ).model_copy(update=changes)


class SteppingCamera(FakeCamera):
    """A described camera; `edge` exposes as its sets say, if it takes triggers at all."""

    def __init__(self, light: LightSettings, description: Description | None = None) -> None:
        super().__init__(FakeTime())
        self.description = description or modern()
        self.taking = False
        self.description.when_written("AcquisitionStart", lambda _: self._take(True))
        self.description.when_written("AcquisitionStop", lambda _: self._take(False))
        nodes = Nodes(self.description.load())
        self.nodes = GenApiFeatures("T", nodes)
        self.features = self.nodes  # type: ignore[assignment]
        settings = CameraSettings(driver="genicam", trigger="line", trigger_line="Line1")
        self.settings = settings.model_copy(update={"lamps": lamps_of(light, "camera", settings)})

    def configure(self, recipe: Recipe) -> None:
        arm(self.nodes, recipe, self.settings, emulated=False)
        self.nodes.execute("AcquisitionStart")

    def edge(self) -> list[set[str]]:
        """Return which output lines carry light during each exposure of an edge."""
        if not self.taking:
            return []
        firmware, number, exposures = self.description.firmware, 0, []
        for _ in range(int(firmware.get("AcquisitionBurstFrameCount"))):
            state = firmware.switched[number]
            exposures.append({f"Line{at + 1}" for at in range(6) if self._carries(state, at)})
            number = int(firmware.get("SequencerSetNext", number))
        return exposures

    def _carries(self, state: dict[str, list[float]], at: int) -> bool:
        # As `modern` numbers its sources: Off, ExposureActive, four user outputs, Timer1Active.
        source = int(state["LineSource"][at])
        return source in {1, 6} or (2 <= source < 6 and bool(state["UserOutputValue"][source - 2]))

    def _take(self, on: bool) -> float:
        self.taking = on
        return 0.0


def _on_lines(mode: str = "pulsed") -> LightSettings:
    outputs = {line: {"camera_line": f"Line{at + 2}", "channel": at + 1} for at, line in enumerate(LINES)}
    return LightSettings.model_validate({"driver": "camera_lines", "mode": mode, "outputs": outputs})


def _expected(recipe: Recipe, settings: LightSettings) -> list[set[str]]:
    return [{settings.outputs[line].camera_line for line in channel.lights} for channel in recipe.channels]


@pytest.mark.parametrize("mode", ["pulsed", "continuous"])
def test_each_exposure_of_an_edge_has_its_own_lamps_and_no_edge_gives_light_before_or_after(mode: str) -> None:
    settings, recipe = _on_lines(mode), _recipe(*SCHEMES)
    camera = SteppingCamera(settings)
    light = CameraLineLight(camera, settings, triggered=True)
    camera.configure(recipe)
    light.prepare(recipe)
    assert camera.edge() == [], "dark until the run"
    light.arm(recipe)
    assert camera.edge() == _expected(recipe, settings)
    written = len(camera.description.firmware.log)
    light.arm(recipe)  # tended
    assert camera.edge() == _expected(recipe, settings)
    assert len(camera.description.firmware.log) == written, "tending writes nothing"
    light.off()
    assert camera.edge() == []
    if mode == "continuous":
        assert [camera.description.firmware.get("UserOutputValue", index) for index in range(4)] == [0, 0, 0, 0]
    # One scheme after four: the lines are the host's again.
    plain = _recipe(("south",), ("south",))
    camera.configure(plain)
    light.prepare(plain)
    light.arm(plain)
    assert light.levels() == {"north": 0.0, "east": 0.0, "south": 1.0, "west": 0.0}
    light.close()


def test_strobes_follow_the_cameras_timer_and_two_widths_are_refused() -> None:
    settings = _on_lines()
    recipe = _recipe(*SCHEMES, strobes=(80.0, None, 80.0, None))
    camera = SteppingCamera(settings)
    light = CameraLineLight(camera, settings, triggered=True)
    camera.configure(recipe)
    light.prepare(recipe)
    light.arm(recipe)
    assert camera.edge() == _expected(recipe, settings)
    firmware = camera.description.firmware
    assert firmware.get("TimerDuration") == 80.0
    assert [firmware.switched[at]["LineSource"][at + 1] for at in range(4)] == [6, 1, 6, 1]
    with pytest.raises(CameraError, match="one timer for strobes, and the recipe wants 50 and 80 us after one edge"):
        camera.configure(_recipe(*SCHEMES, strobes=(80.0, 50.0, None, None)))


def test_a_sequencer_that_can_not_switch_lamps_is_named_with_the_way_out() -> None:
    settings, recipe = _on_lines(), _recipe(*SCHEMES)
    forgetful = modern()
    camera = SteppingCamera(settings, forgetful)
    firmware = forgetful.firmware

    def forget(_: float) -> None:
        for at in range(4):
            firmware.put("LineSource", 2, at + 1)

    firmware.on_write["SequencerSetLoad"] = forget
    firmware.sets = dict.fromkeys(range(4), (500.0, 0.0))
    firmware.put("ExposureTime", 500.0)
    with pytest.raises(CameraError, match=r"set 0 .* Line2 LineSource ExposureActive for the light line north"):
        camera.configure(recipe)
    narrow = SteppingCamera(settings)
    offered = ("ExposureTime", "Gain", "UserOutputValue")
    choices = narrow.nodes.choices
    narrow.nodes.choices = (  # type: ignore[method-assign]
        lambda name: offered if name == "SequencerFeatureSelector" else choices(name)
    )
    with pytest.raises(CameraError, match="holds ExposureTime, Gain, UserOutputValue and not LineSource") as caught:
        narrow.configure(recipe)
    assert "try light.mode continuous" in str(caught.value)


def test_a_sequencer_that_stopped_is_a_fault_of_the_light_and_a_slider_takes_the_lines_back() -> None:
    settings, recipe = _on_lines(), _recipe(*SCHEMES)
    camera = SteppingCamera(settings)
    light = CameraLineLight(camera, settings, triggered=True)
    camera.configure(recipe)
    light.prepare(recipe)
    light.arm(recipe)
    light.apply({"east": 1.0})
    assert not camera.taking
    assert light.levels() == {"north": 0.0, "east": 1.0, "south": 0.0, "west": 0.0}
    with pytest.raises(LightError, match="does not switch the lamps between its exposures, its SequencerMode is Off"):
        light.arm(recipe)


@contextmanager
def _controller(**changes: Any) -> Iterator[tuple[FakeGardasoft, LightSettings]]:
    fake = FakeGardasoft()
    outputs: dict[str, dict[str, Any]] = {
        line: {"channel": at, "trigger_input": at, "camera_line": f"Line{at + 1}"} for at, line in enumerate(LINES, 1)
    }
    for line, values in changes.items():
        outputs[line] |= values
    try:
        yield fake, wiring(fake, mode="pulsed", outputs=outputs)
    finally:
        fake.close()


def _flashes(fake: FakeGardasoft) -> list[Any]:
    """Return what the wired outputs do when all their inputs are triggered."""
    return [pulse for number in range(1, 5) for pulse in fake.trigger(number) if pulse.percent]


def test_a_controllers_outputs_flash_each_on_its_own_wire_and_hold_what_they_were_given_beforehand() -> None:
    recipe = _recipe(*SCHEMES, strobes=(100.0,) * 4)
    dim = tuple(c.model_copy(update={"lights": dict.fromkeys(c.lights, 0.25)}) for c in recipe.channels)
    recipe = recipe.model_copy(update={"channels": dim})
    with _controller() as (fake, settings):
        camera = SteppingCamera(settings)
        light = GardasoftLight(settings, camera, triggered=True)
        try:
            camera.configure(recipe)
            light.prepare(recipe)
            assert _flashes(fake) == [], "dark until the run"
            light.arm(recipe)
            for exposure, channel in zip(camera.edge(), recipe.channels, strict=True):
                pulses = [pulse for line in sorted(exposure) for pulse in fake.trigger(int(line[4:]) - 1)]
                lit = {(LINES[pulse.channel - 1], pulse.percent, pulse.width_us) for pulse in pulses}
                assert lit == {(line, 25.0, 100.0) for line in channel.lights}
            sent = len(fake.lines)
            light.arm(recipe)  # tended: nothing but keep-alives goes over the wire
            assert {line.text for line in fake.lines[sent:]} <= {"VR"}
            light.off()
            assert _flashes(fake) == []
        finally:
            light.close()


@pytest.mark.parametrize(
    ("changes", "levels", "words"),
    [
        ({"south": {"camera_line": ""}}, (1.0, 1.0, 1.0, 1.0), "channel c2: .* light line south has no wire"),
        (
            {"east": {"trigger_input": 1}},
            (1.0, 1.0, 1.0, 1.0),
            "channel c0: .* light line north shares its trigger input with east",
        ),
        ({}, (0.5, 1.0, 1.0, 1.0), "channel c3: light line north shines otherwise than in channel c0"),
    ],
)
def test_what_a_controller_can_not_follow_is_one_clear_error_when_the_recipe_is_prepared(
    changes: dict[str, Any], levels: tuple[float, ...], words: str
) -> None:
    recipe = _recipe(*SCHEMES)
    channels = tuple(
        channel.model_copy(update={"lights": dict.fromkeys(channel.lights, level)})
        for channel, level in zip(recipe.channels, levels, strict=True)
    )
    recipe = recipe.model_copy(update={"channels": channels})
    with _controller(**changes) as (fake, settings):
        camera = SteppingCamera(settings)
        light = GardasoftLight(settings, camera, triggered=True)
        try:
            camera.configure(recipe)
            with pytest.raises(LightError, match=words):
                light.prepare(recipe)
            assert [fake.armed()[channel] for channel in range(1, 5)] == [0.0] * 4
        finally:
            light.close()


def test_another_camera_must_want_the_same_light_at_the_same_time() -> None:
    settings = _on_lines()
    recipe = _recipe(("north",), ("east",), ("north",), ("south",))
    top = tuple(
        channel if at < 2 else channel.model_copy(update={"camera": "top"})
        for at, channel in enumerate(recipe.channels)
    )
    camera = SteppingCamera(settings)
    light = CameraLineLight(camera, settings, triggered=True)
    camera.configure(_recipe(("north",), ("east",)))
    with pytest.raises(LightError, match=r"channel c3: camera top takes it as exposure 2 .* of camera camera"):
        light.prepare(recipe.model_copy(update={"channels": top}))


def test_lamps_follow_from_the_settings_for_a_triggered_camera_alone() -> None:
    light = _on_lines()
    assert lamps_of(light, "camera", CameraSettings()) == {}
    assert lamps_of(light, "top", CameraSettings(trigger="line")) == {}
    lamps = lamps_of(light, "camera", CameraSettings(trigger="line"))
    assert {line: lamp.line for line, lamp in lamps.items()} == {
        "north": "Line2",
        "east": "Line3",
        "south": "Line4",
        "west": "Line5",
    }
    assert CameraSettings.model_validate(CameraSettings(lamps=lamps).model_dump(mode="json")).lamps == lamps
    outputs = {"a": {"channel": 1, "camera_line": "Line2"}, "b": {"channel": 2, "camera_line": "Line2"}}
    with pytest.raises(ValueError, match="give each output a line of its own"):
        Settings.model_validate({"light": {"driver": "gardasoft", "host": "h", "mode": "pulsed", "outputs": outputs}})
