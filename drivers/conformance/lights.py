"""What every light must do, whoever made it: behaviour and safety, faults included.

Each check opens the light anew, so that it stands alone and opening is tried often. What shines is asked of the driver
and, where the bench can tell without it (a fake controller, an emulated camera), of the device itself. On a real
controller the suite makes the lamps flash for some seconds; nobody should look into them.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from cell.errors import HardwareError, LightError
from cell.recipes import Channel, DefectClass, Recipe
from drivers.conformance.report import Check, Report, Skip, run_checks
from drivers.lights.base import Light
from drivers.lights.cost import switching_cost

#: Relative intensities count as equal within this: controllers set 0.1 % to 1 %.
_TOLERANCE = 0.011
_STROBE_US = 200.0
_NOBODY = "no-such-line"


@dataclass(frozen=True, slots=True)
class LightBench:
    """A light under test, and what can be done to it and seen of it without its driver.

    `observe` returns the relative intensity of each line that shines, or would when triggered; `light_up` makes every
    line shine behind the driver's back, as a crashed program or a power cycle leaves it. `faults` make the next
    exchange with the controller go wrong, `nuisances` only awkward. `stall_s` is the time after which untended
    continuous light must be dark.
    """

    open: Callable[[], Light]
    observe: Callable[[], Mapping[str, float]] | None = None
    light_up: Callable[[], None] | None = None
    faults: Mapping[str, Callable[[], None]] = field(default_factory=dict)
    nuisances: Mapping[str, Callable[[], None]] = field(default_factory=dict)
    unplug: Callable[[], None] | None = None
    plug_in: Callable[[], None] | None = None
    stall_s: float | None = None
    answer_limit_s: float = 2.0  # every call returns or raises within this, whatever the controller does
    schemes_per_s: float = 50.0


def run_light(bench: LightBench, device: str = "light") -> Report:
    """Run every check on a light; it is closed and dark afterwards if it conforms."""
    return run_checks(device, _Suite(bench).checks())


class _Suite:
    def __init__(self, bench: LightBench) -> None:
        self._bench = bench

    def checks(self) -> Iterator[tuple[str, Check]]:
        """Return the checks in the order in which they are easiest to understand."""
        yield "has 1 to 32 lines of different names", self._lines
        yield "is dark after construction", self._dark_after_construction
        yield "is dark after construction whatever shone before", self._dark_after_a_crash
        yield "switches each line alone", self._each_line
        yield "combines lines in one scheme", self._combined
        yield "sets intensities or refuses them", self._intensities
        yield "treats intensity 0 as off", self._zero
        yield "refuses an unknown line by name and goes dark", self._unknown
        yield "refuses impossible intensities and goes dark", self._impossible
        yield "takes a strobe width or refuses it", self._strobe
        yield "refuses a strobe width that is none and goes dark", self._no_strobe
        yield "switches off", self._off
        yield "prepares a recipe and stays dark", self._prepare
        yield "names the channel of a recipe it can't light", self._prepare_unknown
        yield "lights a camera that is triggered from outside", self._arm
        yield "tells when it can't follow such a camera", self._arm_several
        yield "switches fast enough", self._speed
        yield "is dark after close and does nothing more", self._close
        yield "leaves no thread behind", self._threads
        yield "opens again after close", self._reopen
        for name, fault in self._bench.faults.items():
            yield f"tells of {name}, goes dark and works again", self._fault(fault)
        for name, nuisance in self._bench.nuisances.items():
            yield f"bears {name}", self._nuisance(nuisance)
        yield "tells of a controller that is gone and finds it again", self._gone
        yield "goes dark when nobody tends it", self._stall

    @contextlib.contextmanager
    def _light(self) -> Iterator[Light]:
        light = self._bench.open()
        try:
            yield light
        finally:
            light.close()

    def _shows(self, light: Light, wanted: Mapping[str, float]) -> str:
        """Return what is wrong with what shines, told by the driver and seen without it."""
        told = light.levels()
        if set(told) != set(light.lines):
            return f"levels() tells of {sorted(told)} where the lines are {sorted(light.lines)}"
        return _compare("the driver tells", told, wanted) or self._sees(wanted)

    def _sees(self, wanted: Mapping[str, float]) -> str:
        return "" if self._bench.observe is None else _compare("the device shows", self._bench.observe(), wanted)

    def _lines(self) -> str:
        with self._light() as light:
            if not 1 <= len(light.lines) <= 32:
                return f"it has {len(light.lines)} lines"
            return "" if len(set(light.lines)) == len(light.lines) else f"its lines are {light.lines}"

    def _dark_after_construction(self) -> str:
        with self._light() as light:
            return self._shows(light, {})

    def _dark_after_a_crash(self) -> str | Skip:
        if self._bench.light_up is None:
            return Skip("nothing can light it behind the driver's back")
        self._bench.light_up()
        return self._dark_after_construction()

    def _each_line(self) -> str:
        with self._light() as light:
            for line in light.lines:
                light.apply({line: 1.0})
                if problem := self._shows(light, {line: 1.0}):
                    return problem
        return ""

    def _combined(self) -> str:
        with self._light() as light:
            everything = dict.fromkeys(light.lines, 1.0)
            light.apply(everything)
            if problem := self._shows(light, everything):
                return problem
            others = dict.fromkeys(light.lines[1:], 1.0) or everything
            light.apply(others)
            return self._shows(light, others)

    def _intensities(self) -> str:
        with self._light() as light:
            line = light.lines[0]
            for level in (0.5, 0.1, 0.333):
                wanted = {line: level}
                try:
                    light.apply(wanted)
                except LightError as error:
                    if f"{level:g}" not in str(error) or line not in str(error):
                        return f"the refusal of {level:g} on {line} reads: {error}"
                    wanted = {}
                if problem := self._shows(light, wanted):
                    return problem
        return ""

    def _zero(self) -> str:
        with self._light() as light:
            light.apply(dict.fromkeys(light.lines, 1.0))
            light.apply(dict.fromkeys(light.lines, 0.0))
            return self._shows(light, {})

    def _unknown(self) -> str:
        return self._refused({_NOBODY: 1.0}, None, _NOBODY)

    def _impossible(self) -> str:
        for level in (1.5, -0.1, float("nan")):
            if problem := self._refused(None, None, f"{level:g}", level=level):
                return problem
        return ""

    def _no_strobe(self) -> str:
        for width in (0.0, -5.0):
            if problem := self._refused(None, width, f"{width:g}"):
                return problem
        return ""

    def _refused(
        self, lights: Mapping[str, float] | None, strobe_us: float | None, word: str, level: float = 1.0
    ) -> str:
        with self._light() as light:
            line = light.lines[0]
            light.apply(dict.fromkeys(light.lines, 1.0))
            try:
                light.apply(lights or {line: level}, strobe_us)
            except LightError as error:
                if word not in str(error):
                    return f"the refusal does not name {word}: {error}"
                return self._shows(light, {})
            return f"it took {lights or {line: level}} with a strobe of {strobe_us}"

    def _strobe(self) -> str:
        with self._light() as light:
            wanted = {light.lines[0]: 1.0}
            try:
                light.apply(wanted, _STROBE_US)
            except LightError as error:
                if "strobe" not in str(error):
                    return f"the refusal does not name the strobe: {error}"
                wanted = {}
            return self._shows(light, wanted)

    def _off(self) -> str:
        with self._light() as light:
            light.apply(dict.fromkeys(light.lines, 1.0))
            for _ in range(2):
                light.off()
                if problem := self._shows(light, {}):
                    return problem
        return ""

    def _prepare(self) -> str:
        with self._light() as light:
            recipe = _recipe(light.lines)
            light.apply({light.lines[0]: 1.0})
            light.prepare(recipe)
            if problem := self._shows(light, {}):
                return problem
            for channel in recipe.channels:
                light.apply(channel.lights, channel.strobe_us)
                if problem := self._shows(light, channel.lights):
                    return problem
        return ""

    def _prepare_unknown(self) -> str:
        with self._light() as light:
            light.apply({light.lines[0]: 1.0})
            try:
                light.prepare(_recipe((light.lines[0], _NOBODY)))
            except LightError as error:
                if _NOBODY not in str(error) or "channel c1" not in str(error):
                    return f"the refusal names neither channel nor line: {error}"
                return self._shows(light, {})
            return f"it prepared a recipe with the line {_NOBODY}"

    def _arm(self) -> str:
        with self._light() as light:
            wanted = {light.lines[-1]: 1.0}
            recipe = _recipe((light.lines[-1],) * 3)
            light.prepare(recipe)
            for _ in range(2):
                light.arm(recipe)
                if problem := self._shows(light, wanted):
                    return problem
            light.off()
            return self._shows(light, {})

    def _arm_several(self) -> str | Skip:
        with self._light() as light:
            if len(light.lines) == 1:
                return Skip("one line makes one scheme")
            recipe = _recipe(light.lines[:2])
            light.prepare(recipe)
            try:
                light.arm(recipe)
            except LightError as error:
                if "channel c1" not in str(error):
                    return f"the refusal does not name the channel: {error}"
                return self._shows(light, {})
            light.off()
            return self._shows(light, {})

    def _speed(self) -> str:
        with self._light() as light:
            cost = switching_cost(light, rounds=50)
        slow = cost.schemes_per_s < self._bench.schemes_per_s
        return f"{cost.schemes_per_s:.0f} schemes a second, {self._bench.schemes_per_s:g} are needed" if slow else ""

    def _close(self) -> str:
        light = self._bench.open()
        light.apply(dict.fromkeys(light.lines, 1.0))
        light.close()
        if problem := self._sees({}):
            return problem
        light.close()
        for name, call in (("apply", lambda: light.apply({light.lines[0]: 1.0})), ("off", light.off)):
            try:
                call()
            except LightError:
                continue
            if name == "apply":
                return "it takes schemes after close"
        return self._sees({})

    def _threads(self) -> str:
        before = set(threading.enumerate())
        with self._light() as light:
            light.apply({light.lines[0]: 1.0})
        left = [thread.name for thread in set(threading.enumerate()) - before if _ours(thread)]
        return f"after close there run {', '.join(left)}" if left else ""

    def _reopen(self) -> str:
        for _ in range(2):
            with self._light() as light:
                light.apply({light.lines[-1]: 1.0})
                if problem := self._shows(light, {light.lines[-1]: 1.0}):
                    return problem
        return ""

    def _fault(self, fault: Callable[[], None]) -> Check:
        def check() -> str:
            with self._light() as light:
                first, last = {light.lines[0]: 1.0}, {light.lines[-1]: 1.0}
                light.off()
                fault()
                began = time.monotonic()
                try:
                    light.apply(first)
                except HardwareError as error:
                    problem = "" if isinstance(error, LightError) else f"it raised {type(error).__name__}"
                else:
                    problem = "apply() told of nothing"
                took = time.monotonic() - began
                if took > self._bench.answer_limit_s:
                    problem = problem or f"apply() took {took:.1f} s"
                if problem:
                    return problem
                light.off()
                if problem := self._shows(light, {}):
                    return problem
                light.apply(last)
                return self._shows(light, last)

        return check

    def _nuisance(self, nuisance: Callable[[], None]) -> Check:
        def check() -> str:
            with self._light() as light:
                nuisance()
                light.apply({light.lines[0]: 1.0})
                return self._shows(light, {light.lines[0]: 1.0})

        return check

    def _gone(self) -> str | Skip:
        unplug, plug_in = self._bench.unplug, self._bench.plug_in
        if unplug is None or plug_in is None:
            return Skip("it can't be unplugged here")
        with self._light() as light:
            light.apply({light.lines[0]: 1.0})
            unplug()
            try:
                for call in (lambda: light.apply({light.lines[-1]: 1.0}), light.off):
                    with contextlib.suppress(LightError):
                        call()
                        return "it told of nothing"
            finally:
                plug_in()
            light.off()
            if problem := self._shows(light, {}):
                return problem
            light.apply({light.lines[-1]: 1.0})
            return self._shows(light, {light.lines[-1]: 1.0})

    def _stall(self) -> str | Skip:
        limit = self._bench.stall_s
        if limit is None:
            return Skip("it has no continuous light, or nothing that ends it")
        with self._light() as light:
            light.apply({light.lines[0]: 1.0})
            end = time.monotonic() + limit
            while problem := self._sees({}) or ("" if self._bench.observe else self._shows(light, {})):
                if time.monotonic() > end:
                    return f"after {limit:g} s {problem}"
                time.sleep(0.02)
            light.apply({light.lines[0]: 1.0})
            return self._shows(light, {light.lines[0]: 1.0})


def _compare(who: str, actual: Mapping[str, float], wanted: Mapping[str, float]) -> str:
    for line in {**actual, **wanted}:
        level, asked = actual.get(line, 0.0), wanted.get(line, 0.0)
        if not abs(level - asked) <= _TOLERANCE:
            return f"{who} {level:g} on {line} where {asked:g} was asked for"
    return ""


def _ours(thread: threading.Thread) -> bool:
    """Tell whether a thread is still running after a moment; one that is ending need not have ended."""
    thread.join(0.5)
    return thread.is_alive()


def _recipe(lines: tuple[str, ...]) -> Recipe:
    """Return a recipe with a channel for each line, at full intensity."""
    return Recipe(
        recipe_id="conformance",
        product="conformance",
        height=16,
        width=16,
        channels=tuple(
            Channel(name=f"c{index}", exposure_us=100, lights={line: 1.0}) for index, line in enumerate(lines)
        ),
        defect_classes=(DefectClass(name="none"),),
    )
