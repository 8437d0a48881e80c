"""Gardasoft light controllers (RT, TR, RC and VTR series) over TCP; see `gardasoft_protocol` for the manuals.

What the controller leaves to its host, and is done here: its connection closes when idle for 10 s (a thread sends a
keep-alive, and connects again after a failure); it keeps shining when its host stalls or dies (strobe it, or trust the
thread and the guard process, see `docs/lights.md`); it adjusts values with a warning (an error here); after a power
cycle it shows what was saved last, by default half brightness (everything is restored, darkness first).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping

from cell.clock import Monotonic, monotonic
from cell.errors import LightError
from cell.recipes import Recipe
from cell.settings import LightOutput, LightSettings
from drivers.cameras.base import Camera
from drivers.lights.base import check_exposure, check_lights, check_strobe, named, only_scheme
from drivers.lights.camera_lines import carry_exposure
from drivers.lights.gardasoft_controller import Controller
from drivers.lights.gardasoft_protocol import Mode, Setting
from drivers.lights.guard import Guard
from drivers.lights.stepping import differing, require_in_step, require_sequencer

#: How often the thread looks whether there is something to do.
_TICK_S = 0.25
#: How often it tries a controller that is gone; each try may keep whoever wants light waiting for one time-out.
_RETRY_S = 1.0
#: How many schemes are kept worked out.
_SCHEMES = 256


class GardasoftLight:
    """See `drivers.lights.base.Light`. The thread ``light-keep-alive`` lives until :meth:`close`."""

    def __init__(
        self,
        settings: LightSettings,
        camera: Camera | None = None,
        clock: Monotonic = monotonic,
        *,
        triggered: bool = False,
    ) -> None:
        """Connect, identify and set up every controller, dark. Raises `LightError`; nothing stays open then.

        :param camera: the one whose `exposure_line` triggers strobed lines, set up with each recipe, or whose sequencer
            triggers each line by its `camera_line`.
        :param triggered: a line or action command triggers the camera.
        """
        self.lines = settings.names
        self._camera = camera
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()  # one exchange at a time: the owner's thread or the keep-alive's
        self._stop = threading.Event()
        self._closed = False
        self._lit_since: float | None = None
        self._schemes: dict[tuple[frozenset[tuple[str, float]], float | None], dict[str, Setting]] = {}
        self._triggered = triggered
        self._steps: tuple[Recipe, dict[str, Setting]] | None = None  # what lines do at a camera's own triggers
        self._controllers: list[Controller] = []
        self._guard: Guard | None = None
        self.timeouts = 0  # how often stalled light was switched off
        try:
            if settings.mode == "continuous":
                # It starts while the controllers are set up, and is waited for before anything shines.
                self._guard = Guard(
                    [
                        (output.host or settings.host, settings.port, output.channel)
                        for output in settings.outputs.values()
                    ]
                )
            for host, outputs in _by_host(settings).items():
                self._controllers.append(Controller(host, outputs, settings, clock))
        except LightError:
            self._release()
            raise
        self._thread = threading.Thread(target=self._watch, name="light-keep-alive", daemon=True)
        self._thread.start()

    @property
    def emulated(self) -> bool:
        """True when any controller says that it is the fake one."""
        return any(controller.emulated for controller in self._controllers)

    @property
    def reconnections(self) -> int:
        """How often a connection was made anew."""
        return sum(controller.reconnections for controller in self._controllers)

    def prepare(self, recipe: Recipe) -> None:
        """See the contract."""
        self._schemes.clear()
        self._steps = None
        if self._triggered and differing(recipe) is not None:
            try:
                self._arm_steps(recipe)
            finally:
                with contextlib.suppress(LightError):
                    self.off()
            return
        if self._camera is not None and self._settings.exposure_line:
            carry_exposure(self._camera, self._settings.exposure_line)
        try:
            for channel in recipe.channels:
                try:
                    self.apply(channel.lights, channel.strobe_us)
                    check_exposure(channel, self._settings.pulse_delay_us)
                except LightError as error:
                    raise named(channel, error) from error
        finally:
            with contextlib.suppress(LightError):
                self.off()

    def apply(self, lights: Mapping[str, float], strobe_us: float | None = None) -> None:
        """See the contract."""
        with self._turn(), self._dark_on_error():
            key = (frozenset(lights.items()), strobe_us)
            wanted = self._schemes.get(key)
            if wanted is None:
                wanted = self._scheme(lights, strobe_us)
                if len(self._schemes) >= _SCHEMES:  # somebody at a slider; recipes have 32
                    self._schemes.clear()
                self._schemes[key] = wanted
            self._lit_since = self._clock() if wanted else None
            changed = [controller.set(wanted) for controller in self._controllers]
        if any(changed) and self._settings.mode == "continuous" and self._settings.settle_ms:
            self._stop.wait(self._settings.settle_ms / 1e3)

    def arm(self, recipe: Recipe) -> None:
        """See the contract. Lines that the camera triggers one by one hold their settings until :meth:`off`."""
        if self._triggered and differing(recipe) is not None:
            self._arm_steps(recipe)
        else:
            self.apply(*only_scheme(recipe))

    def off(self) -> None:
        """See the contract."""
        with self._turn():
            self._darken()

    def levels(self) -> dict[str, float]:
        """See the contract."""
        levels = {}
        with self._turn():
            for controller in self._controllers:
                for line, status in controller.read().items():
                    levels[line] = status.percent / self._full(line, strobed=status.mode == Mode.PULSE)
        return {line: levels[line] for line in self.lines}

    def close(self) -> None:
        """See the contract."""
        if self._closed:
            return
        self._closed = True
        self._stop.set()
        self._thread.join()
        with self._lock:
            self._release()

    def _release(self) -> None:
        for controller in self._controllers:
            controller.close()
        if self._guard is not None:
            self._guard.close()

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise LightError("the light controller is closed; open the cell again")
            if self._guard is not None:
                self._guard.require()
            yield

    @contextlib.contextmanager
    def _dark_on_error(self) -> Iterator[None]:
        try:
            yield
        except LightError:
            with contextlib.suppress(LightError):
                self._darken(connected_only=True)
            raise

    def _darken(self, *, connected_only: bool = False) -> None:
        """Switch off every controller, also when one of them fails; then raise for the first that did."""
        self._lit_since = None
        failure: LightError | None = None
        for controller in self._controllers:
            if connected_only and not controller.connected:
                continue  # it becomes dark when it is connected again; a second time-out would only delay the part
            try:
                controller.set({})
            except LightError as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def _arm_steps(self, recipe: Recipe) -> None:
        """Let each line wait for its own trigger. Raises `LightError`."""
        if self._steps is None or self._steps[0] is not recipe:
            self._steps = recipe, self._stepped(recipe)
        if self._camera is not None:
            require_sequencer(self._camera, recipe)
        with self._turn(), self._dark_on_error():
            for controller in self._controllers:
                controller.set(self._steps[1])

    def _stepped(self, recipe: Recipe) -> dict[str, Setting]:
        """Return the one setting that each line has in all channels that light it. Raises `LightError`."""
        require_in_step(recipe, self._settings.camera)
        settings: dict[str, Setting] = {}
        used_in: dict[str, str] = {}
        for channel in recipe.channels:
            try:
                check_exposure(channel, self._settings.pulse_delay_us)
                for line, setting in self._scheme(channel.lights, channel.strobe_us).items():
                    self._require_wire(line)
                    if settings.setdefault(line, setting) != setting:
                        raise LightError(
                            f"light line {line} shines otherwise than in channel {used_in[line]}, and a line that the "
                            "camera triggers has one intensity and strobe_us; give it the same in both, or let "
                            "software trigger the camera"
                        )
                    used_in[line] = channel.name
            except LightError as error:
                raise named(channel, error) from error
        return settings

    def _require_wire(self, line: str) -> None:
        """Refuse a line that the camera can't trigger alone. Raises `LightError`."""
        outputs = self._settings.outputs
        mine = outputs[line]
        shared = [
            name
            for name, other in outputs.items()
            if (other.host, other.trigger_input) == (mine.host, mine.trigger_input) and name != line
        ]
        if not mine.camera_line or mine.trigger_input is None or shared:
            problem = f"shares its trigger input with {shared[0]}" if shared and mine.trigger_input else "has no wire"
            raise LightError(
                f"the light must follow the camera's own trigger, for which light line {line} {problem}; give its "
                "output in light.outputs a camera_line and a trigger_input of its own, give all channels the same "
                "lights, or let software trigger the camera"
            )

    def _scheme(self, lights: Mapping[str, float], strobe_us: float | None) -> dict[str, Setting]:
        check_lights(lights, self.lines)
        check_strobe(strobe_us, strobed=self._settings.mode == "pulsed")
        if self._settings.mode == "continuous":
            mode = Mode.CONTINUOUS
        else:
            mode = Mode.SWITCHED if strobe_us is None else Mode.PULSE
        return {
            line: Setting(
                mode,
                round(level * self._full(line, strobed=mode is Mode.PULSE), 1),
                strobe_us or 0.0,
                self._settings.pulse_delay_us if mode is Mode.PULSE else 0.0,
            )
            for line, level in lights.items()
            if level > 0
        }

    def _full(self, line: str, *, strobed: bool) -> float:
        """Return the percentage of the rated current that intensity 1 means."""
        return self._settings.outputs[line].overdrive_percent if strobed else 100.0

    def _watch(self) -> None:
        """Keep connections alive, bring lost ones back, and end continuous light that nobody tends."""
        while not self._stop.wait(min(_TICK_S, self._settings.keep_alive_s / 4, self._settings.dark_after_s / 4)):
            with self._lock:
                self._tend()

    def _tend(self) -> None:
        lit = self._lit_since
        stalled = self._settings.mode == "continuous" and lit is not None
        if stalled and lit is not None and self._clock() - lit >= self._settings.dark_after_s:
            self.timeouts += 1
            with contextlib.suppress(LightError):
                self._darken()
        for controller in self._controllers:
            controller.notice()
            if controller.idle_s >= (self._settings.keep_alive_s if controller.connected else _RETRY_S):
                # A controller that is gone is told to whoever wants light from it next; here it is only tried again.
                with contextlib.suppress(LightError):
                    controller.keep_alive()


def _by_host(settings: LightSettings) -> dict[str, dict[str, LightOutput]]:
    hosts: dict[str, dict[str, LightOutput]] = {}
    for line, output in settings.outputs.items():
        hosts.setdefault(output.host or settings.host, {})[line] = output
    return hosts
