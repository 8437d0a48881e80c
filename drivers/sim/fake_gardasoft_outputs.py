"""The outputs of the fake Gardasoft controller: their settings, limits, saved state, and what shines.

Limits are those of the RTxxx manual: continuous 0 to 100 % and at most 3 A, pulses of 0.02 to 999 ms with a delay of
0.02 to 999 ms and 0 to 999 %, at most 20 A, and shorter the higher the current (appendix B.4).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

_COMMAND = re.compile(r"([A-Z]{2})(.*)")
_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]+)?)(us|ms|s|A|ma|mA)?")
_IN_MS = {None: 1.0, "us": 1e-3, "ms": 1.0, "s": 1e3}
_IN_A = {None: 1.0, "A": 1.0, "ma": 1e-3, "mA": 1e-3}
_MAX_CONTINUOUS_A = 3.0
_MAX_PULSE_A = 20.0
#: Longest pulse in ms up to a current in A.
_PULSE_LIMITS = ((3.0, 999.0), (5.0, 3.0), (10.0, 1.0), (12.0, 0.4), (20.0, 0.1))
_SHORTEST_MS = 0.02


class _RefusedError(Exception):
    """Carries the number of an ``Err`` reply."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """One flash: output, percentage of its rating, width in microseconds."""

    channel: int
    percent: float
    width_us: float


@dataclass(frozen=True, slots=True)
class Output:
    """Settings of one output; factory defaults are half brightness, continuous. Times in ms, currents in A."""

    mode: int = 0
    percent: float = 50.0
    second: float = 0.0
    delay_ms: float = 1.0
    width_ms: float = 1.0
    retrigger_ms: float = 0.0
    source: int = 1
    flags: int = 0
    rating_a: float = 0.0

    def show(self, channel: int) -> str:
        """Return the line that ``ST`` prints."""
        return (
            f"CH {channel}, MD {self.mode}, S {self.percent:5.1f},{self.second:5.1f}, DL {_time(self.delay_ms)}, "
            f"PU {_time(self.width_ms)}, RT {_time(self.retrigger_ms)}, IP {self.source}, FL {self.flags}, "
            f"CS 0.000A, RA {self.rating_a:.3f}A"
        )


class Outputs:
    """All outputs. Not thread-safe."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.saves = 0
        self.internal_trigger = False
        self.triggers = 0
        self.pulses: list[Pulse] = []
        self._saved = {channel: Output(source=channel) for channel in range(1, count + 1)}
        self.now = dict(self._saved)

    def power_up(self) -> None:
        """Take what was saved last."""
        self.internal_trigger = False
        self.now = dict(self._saved)

    def shining(self) -> dict[int, float]:
        """Return what shines without a trigger: continuous outputs."""
        return {channel: output.percent if output.mode in {0, 3} else 0.0 for channel, output in self.now.items()}

    def armed(self) -> dict[int, float]:
        """Return what shines, or would when triggered."""
        return {channel: output.percent for channel, output in self.now.items()}

    def trigger(self, source: int) -> list[Pulse]:
        """Flash what listens to this input."""
        self.triggers += 1
        pulses = [
            Pulse(channel, output.percent, output.width_ms * 1e3)
            for channel, output in self.now.items()
            if output.mode == 1 and output.source == source and output.percent
        ]
        self.pulses += pulses
        return pulses

    def obey(self, text: str, *, half: bool = False) -> str:
        """Carry out one command without spaces and return its answer.

        :param half: set half of any brightness asked for, as a controller does that clips.
        """
        try:
            return self._obey(text, half)
        except _RefusedError as error:
            return f"Err {error}"

    def _obey(self, text: str, half: bool) -> str:
        match = _COMMAND.fullmatch(text)
        if match is None:
            raise _RefusedError(2)
        code, rest = match[1], match[2]
        values = [] if not rest else [_number(part) for part in rest.split(",")]
        if code == "ST":
            return self._show([value for value, _ in values])
        if code in {"AW", "GR", "CL"}:
            _count(values, 0, 0)
            return self._whole(code)
        if code == "TT":
            _count(values, 1, 2)
            self.internal_trigger = values[0][0] == 1
            return ""
        setters = {"RS": (2, 2), "RW": (2, 4), "RU": (3, 3), "RT": (4, 5), "VL": (3, 3), "RP": (2, 2), "RE": (2, 2)}
        if code == "TR":
            _count(values, 1, 1)
            self.trigger(self.now[self._channel(values[0][0])].source)
            return ""
        if code not in setters:
            raise _RefusedError(2)
        _count(values, *setters[code])
        channel = self._channel(values[0][0])
        changed, answer = _set(code, self.now[channel], values[1:])
        if half and code in {"RS", "RW", "RT"}:
            changed = replace(changed, percent=changed.percent / 2)
        self.now[channel] = changed
        return answer

    def _whole(self, code: str) -> str:
        if code == "AW":
            self.saves += 1
            self._saved = dict(self.now)
        elif code == "CL":
            self.now = {channel: Output(source=channel) for channel in self.now}
        return ""

    def _show(self, values: list[float]) -> str:
        if not values:
            return "\n\r".join(output.show(channel) for channel, output in self.now.items())
        if len(values) > 1:
            raise _RefusedError(4)
        if values[0] == 0:
            return f"TM {int(self.internal_trigger)}, TP 20.00ms"
        channel = self._channel(values[0])
        return self.now[channel].show(channel)

    def _channel(self, value: float) -> int:
        if value not in self.now:
            raise _RefusedError(1)
        return int(value)


def _set(code: str, output: Output, values: list[tuple[float, str | None]]) -> tuple[Output, str]:
    numbers = [value for value, _ in values]
    if code == "RP":
        return replace(output, source=int(numbers[0])), ""
    if code == "RE":
        return replace(output, flags=int(_within(numbers[0], 0, 15))), ""
    if code == "VL":
        return replace(output, rating_a=_within(_scaled(values[1], _IN_A), 0, _MAX_PULSE_A)), ""
    if code == "RT":
        return _pulse(output, values)
    percent = _within(numbers[0], 0, 100)
    if percent / 100 * output.rating_a > _MAX_CONTINUOUS_A and code == "RS":
        raise _RefusedError(1)
    if code == "RU":
        return replace(output, mode=3, percent=percent, second=_within(numbers[1], 0, percent)), ""
    return replace(output, mode=0 if code == "RS" else 2, percent=percent), ""


def _pulse(output: Output, values: list[tuple[float, str | None]]) -> tuple[Output, str]:
    """Return the output with a pulse set. Err 5: a time was adjusted; Err 1: more than it bears."""
    asked_width, asked_delay = _scaled(values[0], _IN_MS), _scaled(values[1], _IN_MS)
    percent = _within(values[2][0], 0, 999)
    amperes = percent / 100 * output.rating_a
    if amperes > _MAX_PULSE_A:
        raise _RefusedError(1)
    if asked_width > next(limit for current, limit in _PULSE_LIMITS if amperes <= current):
        raise _RefusedError(1)
    width = max(asked_width, _SHORTEST_MS)
    delay = min(max(asked_delay, _SHORTEST_MS), 999.0)
    changed = replace(output, mode=1, percent=percent, width_ms=width, delay_ms=delay)
    return changed, "" if (width, delay) == (asked_width, asked_delay) else "Err 5"


def _number(text: str) -> tuple[float, str | None]:
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise _RefusedError(3)
    return float(match[1]), match[2]


def _scaled(value: tuple[float, str | None], units: dict[str | None, float]) -> float:
    number, unit = value
    if unit not in units:
        raise _RefusedError(3)
    return number * units[unit]


def _within(value: float, low: float, high: float) -> float:
    if not low <= value <= high:
        raise _RefusedError(1)
    return value


def _count(values: list[tuple[float, str | None]], low: int, high: int) -> None:
    if not low <= len(values) <= high:
        raise _RefusedError(4)


def _time(ms: float) -> str:
    return f"{ms * 1e3:5.1f}us" if ms < 0.1 else f"{ms:.3f}ms"
