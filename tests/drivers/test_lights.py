"""Every registered light passes the suite, and every check of the suite fails for a light that deserves it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from cell.errors import ConfigurationError, LightError
from cell.recipes import Channel, Recipe
from cell.settings import CameraSettings, EmulatedCellSettings, LightSettings, Settings, load
from drivers.conformance.light_benches import BENCHES, LINES, Mode, simulated_bench
from drivers.conformance.lights import LightBench, run_light
from drivers.conformance.report import Outcome, Report
from drivers.lights.base import Light
from drivers.lights.cost import switching_cost
from drivers.lights.gardasoft import GardasoftLight
from drivers.lights.simulated import SimulatedLight
from drivers.registry import LIGHTS, open_rig
from drivers.sim.fake_gardasoft import FakeGardasoft
from drivers.sim.plate import PlateProduct, recipe_for_plate

CONFIG = Path(__file__).parents[2] / "config"

pytestmark = pytest.mark.timeout(120, method="thread")  # pylon uses SIGALRM itself


def wrong(light: type[SimulatedLight] = SimulatedLight, **more: Any) -> Report:
    """Run the suite over a light that is made wrong on purpose, or over a right one on a wrong bench."""
    with simulated_bench(light=light) as bench:
        return run_light(replace(bench, **more))


def test_every_registered_light_has_a_bench() -> None:
    assert set(LIGHTS) == set(BENCHES)


@pytest.mark.parametrize("mode", ["continuous", "pulsed"])
@pytest.mark.parametrize("driver", sorted(BENCHES))
def test_every_registered_light_conforms(driver: str, mode: Mode) -> None:
    with BENCHES[driver](mode) as bench:
        report = run_light(bench, driver)
    assert report.passed, report.text()
    skipped = {result.name for result in report.results if result.outcome is Outcome.SKIPPED}
    if driver == "gardasoft":
        assert skipped == ({"goes dark when nobody tends it"} if mode == "pulsed" else set())


class Lit(SimulatedLight):
    """Shines when it is opened."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._shine({self.lines[0]: 1.0})


class Careless(SimulatedLight):
    """Does not look at what it finds."""

    def __init__(self, lines: tuple[str, ...], illuminate: Any) -> None:
        self._looking = False
        super().__init__(lines, illuminate)
        self._looking = True

    def _shine(self, levels: dict[str, float], share: float = 1.0) -> None:
        if self._looking:
            super()._shine(levels, share)


class Twins(SimulatedLight):
    def __init__(self, lines: tuple[str, ...], *more: Any) -> None:
        super().__init__((lines[0], lines[0]), *more)


class Leaking(SimulatedLight):
    """A neighbour shines a little, too."""

    def apply(self, lights: Mapping[str, float], strobe_us: float | None = None) -> None:
        super().apply({self.lines[0]: 0.05, **lights}, strobe_us)


class Adding(SimulatedLight):
    """Forgets to switch the others off."""

    def apply(self, lights: Mapping[str, float], strobe_us: float | None = None) -> None:
        super().apply({**self._levels, **lights}, strobe_us)


class Clipping(SimulatedLight):
    def apply(self, lights: Mapping[str, float], strobe_us: float | None = None) -> None:
        super().apply({line: min(1.0, max(level, 0.2)) for line, level in lights.items()}, strobe_us)


class Ignorant(SimulatedLight):
    """Leaves out what it does not know."""

    def apply(self, lights: Mapping[str, float], strobe_us: float | None = None) -> None:
        super().apply({line: level for line, level in lights.items() if line in self.lines}, strobe_us)


class Stubborn(SimulatedLight):
    """Refuses, but stays as it was."""

    def apply(self, lights: Mapping[str, float], strobe_us: float | None = None) -> None:
        self._require(lights, strobe_us)
        super().apply(lights, strobe_us)


class Unstrobed(SimulatedLight):
    """Takes a strobe width and does nothing with it but stay dark."""

    def apply(self, lights: Mapping[str, float], strobe_us: float | None = None) -> None:
        super().apply({} if strobe_us else lights)


class AlwaysOn(SimulatedLight):
    def off(self) -> None:
        """Do nothing."""


class Demonstrating(SimulatedLight):
    """Leaves the last scheme on after preparing."""

    def prepare(self, recipe: Recipe) -> None:
        super().prepare(recipe)
        super().apply(recipe.channels[-1].lights)


class Curt(SimulatedLight):
    """Does not say which channel."""

    def prepare(self, recipe: Recipe) -> None:
        self.off()
        for channel in recipe.channels:
            self._require(channel.lights, None)


class Unarmed(SimulatedLight):
    """Leaves a camera in the dark that triggers itself."""

    def arm(self, recipe: Recipe) -> None:
        self._require(recipe.channels[0].lights, None)


class Silent(SimulatedLight):
    """Refuses to follow a camera without saying why, and leaves the first scheme on."""

    def arm(self, recipe: Recipe) -> None:
        super().apply(recipe.channels[0].lights)
        if len({tuple(channel.lights) for channel in recipe.channels}) > 1:
            raise LightError("this can't be; try something else")


class Slow(SimulatedLight):
    def apply(self, lights: Mapping[str, float], strobe_us: float | None = None) -> None:
        threading.Event().wait(0.03)
        super().apply(lights, strobe_us)


class Undead(SimulatedLight):
    """Works on after close."""

    def close(self) -> None:
        """Do nothing."""


class OnlyOnce(SimulatedLight):
    opened = 0

    def __init__(self, *arguments: Any) -> None:
        type(self).opened += 1
        if self.opened > 1:
            raise LightError("the controller takes no second connection; cycle its power")
        super().__init__(*arguments)


class Threaded(SimulatedLight):
    """Leaves a thread until `done` is set."""

    done = threading.Event()

    def close(self) -> None:
        super().close()
        threading.Thread(target=self.done.wait, name="left-behind", args=(30,)).start()


class Touchy(SimulatedLight):
    """Fails when a controller is only slow."""

    touched = False

    def apply(self, lights: Mapping[str, float], strobe_us: float | None = None) -> None:
        if self.touched:
            type(self).touched = False
            raise LightError("the controller is slow; wait")
        super().apply(lights, strobe_us)


def touch() -> None:
    Touchy.touched = True


def nothing() -> None:
    pass


WRONG: dict[str, Callable[[], Report]] = {
    "has 1 to 32 lines of different names": lambda: wrong(Twins),
    "is dark after construction": lambda: wrong(Lit),
    "is dark after construction whatever shone before": lambda: wrong(Careless),
    "switches each line alone": lambda: wrong(Leaking),
    "combines lines in one scheme": lambda: wrong(Adding),
    "sets intensities or refuses them": lambda: wrong(Clipping),
    "treats intensity 0 as off": lambda: wrong(Clipping),
    "refuses an unknown line by name and goes dark": lambda: wrong(Ignorant),
    "refuses impossible intensities and goes dark": lambda: wrong(Clipping),
    "takes a strobe width or refuses it": lambda: wrong(Unstrobed),
    "refuses a strobe width that is none and goes dark": lambda: wrong(Stubborn),
    "switches off": lambda: wrong(AlwaysOn),
    "prepares a recipe and stays dark": lambda: wrong(Demonstrating),
    "names the channel of a recipe it can't light": lambda: wrong(Curt),
    "lights a camera that is triggered from outside": lambda: wrong(Unarmed),
    "tells when it can't follow such a camera": lambda: wrong(Silent),
    "switches fast enough": lambda: wrong(Slow),
    "is dark after close and does nothing more": lambda: wrong(Undead),
    "leaves no thread behind": lambda: wrong(Threaded),
    "opens again after close": lambda: wrong(OnlyOnce),
    "tells of silence, goes dark and works again": lambda: wrong(faults={"silence": nothing}),
    "bears slowness": lambda: wrong(Touchy, nuisances={"slowness": touch}),
    "tells of a controller that is gone and finds it again": lambda: wrong(unplug=nothing, plug_in=nothing),
    "goes dark when nobody tends it": lambda: wrong(stall_s=0.1),
}


@pytest.mark.parametrize("name", WRONG)
def test_each_check_fails_for_a_light_that_breaks_its_rule(name: str) -> None:
    OnlyOnce.opened = 0
    Threaded.done.clear()
    report = WRONG[name]()
    Threaded.done.set()
    assert name in {result.name for result in report.failures}, report.text()
    assert not report.passed
    assert "breaks" in report.text().splitlines()[0]


def test_no_check_is_without_a_light_that_fails_it() -> None:
    report = wrong(faults={"silence": nothing}, nuisances={"slowness": nothing})
    assert {result.name for result in report.results} == set(WRONG)


@pytest.mark.parametrize("lines", [1, 2, 32])
def test_the_simulated_light_switches_far_more_than_50_schemes_a_second(lines: int) -> None:
    light = SimulatedLight(tuple(f"l{number}" for number in range(lines)))
    cost = switching_cost(light, rounds=300, together=min(3, lines))
    assert cost.schemes == 300
    assert cost.p50_ms <= cost.p99_ms <= cost.max_ms
    assert cost.schemes_per_s > 500
    assert not any(light.levels().values())


def test_a_short_pulse_gives_an_emulated_camera_that_share_of_the_light() -> None:
    recipe = recipe_for_plate(1)
    channel = recipe.channels[0]
    half = channel.model_copy(update={"name": "half", "strobe_us": channel.exposure_us / 2})
    long = channel.model_copy(update={"name": "long", "strobe_us": channel.exposure_us * 2})
    recipe = recipe.model_copy(update={"channels": (channel, half, long)})
    cell = open_rig(
        Settings(
            camera=CameraSettings(driver="simulated", isolated=False),
            light=LightSettings(lines=(*channel.lights,)),
            emulated=EmulatedCellSettings(product="plate-1"),
        )
    )
    try:
        cell.present("good-000001")
        cell.camera.configure(recipe)
        cell.light.prepare(recipe)
        seen = []
        for one in recipe.channels:
            cell.light.apply(one.lights, one.strobe_us)
            assert cell.light.levels() == one.lights
            seen.append(float(np.median(cell.camera.expose(one).pixels)))
        cell.light.off()
        dark = float(np.median(cell.camera.expose(channel).pixels))
    finally:
        cell.close()
    assert (seen[1] - dark) / (seen[0] - dark) == pytest.approx(0.5, abs=0.03)
    assert seen[2] == pytest.approx(seen[0], abs=1)


def test_an_emulated_strobe_with_two_exposures_is_refused_beforehand() -> None:
    first = Channel(name="a", exposure_us=200, lights={"light": 1.0}, strobe_us=50)
    recipe = recipe_for_plate(1).model_copy(
        update={"channels": (first, first.model_copy(update={"name": "b", "exposure_us": 300.0}))}
    )
    with pytest.raises(LightError, match="channel b: an emulated strobe of 50 us"):
        SimulatedLight(("light",)).prepare(recipe)


def gardasoft_settings(fake: FakeGardasoft) -> LightSettings:
    outputs = {line: {"channel": channel} for channel, line in enumerate(LINES, 1)}
    return LightSettings.model_validate(
        {"driver": "gardasoft", "host": fake.host, "port": fake.port, "outputs": outputs}
    )


def camera_settings(mode: str) -> LightSettings:
    outputs = {line: {"camera_line": f"Line{number}", "channel": number} for number, line in enumerate(LINES, 1)}
    return LightSettings.model_validate({"driver": "camera_lines", "mode": mode, "outputs": outputs})


def test_a_cell_takes_its_light_from_the_settings() -> None:
    fake = FakeGardasoft()
    cell = open_rig(Settings(camera=CameraSettings(driver="simulated", isolated=False), light=gardasoft_settings(fake)))
    try:
        assert cell.light.lines == LINES
        assert isinstance(cell.light, GardasoftLight)
        cell.light.apply({"ring": 1.0})
        assert fake.shining()[1] == 100.0
    finally:
        cell.close()
        fake.close()
    assert fake.shining()[1] == 0.0


def test_a_camera_that_is_not_there_has_no_lines() -> None:
    settings = camera_settings("pulsed").model_copy(update={"camera": "side"})
    with pytest.raises(ConfigurationError, match=r"light\.camera names side, but the cell's cameras are camera"):
        open_rig(Settings(camera=CameraSettings(driver="simulated", isolated=False), light=settings))


def test_a_camera_without_line_features_is_refused() -> None:
    with pytest.raises(LightError, match="has no LineSelector"):
        open_rig(
            Settings(camera=CameraSettings(driver="simulated", isolated=False), light=camera_settings("continuous"))
        )


def test_a_product_of_many_lights_keeps_its_lines_on_a_simulated_light() -> None:
    light: Light = SimulatedLight(PlateProduct(32).lines)
    assert len(light.lines) == 32
    assert run_light(LightBench(lambda: SimulatedLight(PlateProduct(32).lines))).passed


@pytest.mark.parametrize("file", sorted(set(CONFIG.glob("*.toml")) - {CONFIG / "emulated.toml"}), ids=lambda f: f.name)
def test_the_example_of_a_real_cell_has_a_real_light(file: Path) -> None:
    light = load(file).light
    assert light.driver != "simulated", "its models would be refused by every real cell"
    assert light.mode == "pulsed", "nothing ends continuous light when the host stops"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"driver": "gardasoft"}, "needs light.outputs"),
        ({"driver": "gardasoft", "outputs": {"a": {}}}, "needs light.host"),
        ({"driver": "gardasoft", "host": "h", "outputs": {"a": {}, "b": {}}}, "same channel"),
        ({"driver": "gardasoft", "host": "h", "outputs": {"a": {}}, "lines": ("b",)}, "different lines"),
        ({"driver": "gardasoft", "host": "h", "outputs": {"a": {}}, "keep_alive_s": 12}, "less than 10"),
        ({"driver": "camera_lines", "outputs": {"a": {}}}, "camera_line of its own"),
        (
            {"driver": "camera_lines", "outputs": {"a": {"camera_line": "Line1"}, "b": {"camera_line": "Line2"}}},
            "user output",
        ),
        ({"driver": "gardasoft", "host": "h", "outputs": {f"l{n}": {"channel": 1} for n in range(33)}}, "at most 32"),
        ({"driver": "lantern"}, "simulated"),
    ],
)
def test_settings_that_can_not_be_wired_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        LightSettings.model_validate(values)


def test_outputs_on_several_controllers_may_share_a_channel() -> None:
    settings = LightSettings.model_validate(
        {"driver": "gardasoft", "host": "h", "outputs": {"a": {}, "b": {"host": "i"}}, "lines": ("b", "a")}
    )
    assert settings.names == ("a", "b")
