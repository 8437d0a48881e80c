"""The ASCII protocol of Gardasoft's Ethernet light controllers: commands out, replies in; no sockets here.

Written from the public user manuals: RTxxx (sections 12.1-12.3 Ethernet, command structure, general commands; 13.3-13.5
error, fatal error and event codes), TR-RT (11.1-11.3), TR-RC1xx (10.3), RC1xx (10.3, 11.3), VTR1/VTR6 (10.3), and for
the bits of ``RE`` PP520 (12.2). What stands there and is used here:

- TCP port 30313; a command line ends with CR; several commands on a line are separated by ``;``. All output ends with
  ``>``, before which nothing else may be sent. Some families echo the command, replies are separated by LF CR.
- A connection that is idle for 10 s is closed, so the host sends something harmless such as ``VR``.
- ``RSc,s`` continuous, ``RWc,s`` switched (on while the trigger input is), ``RTc,p,d,s`` pulse of p ms, d ms after the
  trigger; s in percent of the lamp's rating. ``VLc,v,a`` rating, ``RPc,i`` trigger input, ``REc,m`` flags (bit 2:
  negative triggers), ``TT0`` internal trigger off, ``GT1`` tell events, ``GR`` clear errors, ``STc`` show a channel.
- Nothing is kept over a power cycle unless ``AW`` saves it. This module has no ``AW``: the memory wears out.
- ``Err 1`` to ``Err 4`` refuse a command; ``Err 5`` says that a value was adjusted, which for an inspection is a fault.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum

PORT = 30313
PROMPT = b">"

#: Model prefixes that speak this dialect. The PP series has other units and numbers its channels from 0.
FAMILIES = ("RT", "TR-", "RC", "VTR")
#: Hardware version of the fake in `drivers.sim.fake_gardasoft`; by it a driver knows that nothing lights up.
SIMULATED_HARDWARE = "SIMULATED"

REASONS = {
    1: "a parameter value is invalid",
    2: "the command is not recognised",
    3: "a number has the wrong format",
    4: "the number of parameters is wrong",
    5: "a value was out of range and has been adjusted",
    19: "a lamp without a rating is connected",
    44: "the controller is too hot",
}
#: The only ``Err`` that does not refuse: the value was changed to one that the controller takes.
ADJUSTED = 5
#: Events that tell of nothing wrong: a lamp was connected, power training is over.
_GOOD_EVENTS = frozenset({128, 138})

NEGATIVE_TRIGGER = 4  # bit 2 of RE

_UNITS_US = {"us": 1.0, "ms": 1e3, "s": 1e6}
_TIME = r"([0-9.]+)(us|ms|s)"
_STATUS = re.compile(
    rf"CH(\d+),MD(\d),S([0-9.]+),[0-9.]+,DL{_TIME},PU{_TIME},RT{_TIME},"
    r"IP(\d+),FL(\d+),CS[0-9.]+(?:mA|A|V),RA([0-9.]+)(mA|A|V)"
)
_GENERAL = re.compile(rf"TM([01]),TP{_TIME}")
_IDENTITY = re.compile(r"([A-Z][A-Z0-9]*(?:-[A-Z0-9]+)*)\(([A-Z0-9]+)\)V(\d+)")
_ERROR = re.compile(r"Err(\d+)")
_EVENT = re.compile(r"Evt(\d+),(\d+);?")


class Mode(IntEnum):
    """How an output shines (``MD`` of a status)."""

    CONTINUOUS = 0
    PULSE = 1
    SWITCHED = 2
    SELECTED = 3


@dataclass(frozen=True, slots=True)
class Identity:
    """What ``VR`` tells: model, hardware and firmware version."""

    model: str
    hardware: str
    firmware: str

    @property
    def known(self) -> bool:
        """Tell whether this dialect is the device's."""
        return self.model.startswith(FAMILIES)

    @property
    def strobe_only(self) -> bool:
        """Tell whether it is a strobe lamp without continuous light."""
        return self.model.startswith("VTR")


@dataclass(frozen=True, slots=True)
class Status:
    """What ``STc`` tells of an output; times in microseconds, the rating in amperes (0: none set)."""

    channel: int
    mode: int
    percent: float
    delay_us: float
    width_us: float
    trigger_input: int
    flags: int
    rating_a: float


@dataclass(frozen=True, slots=True)
class Event:
    """An unsolicited message: 1 to 127 are error codes, from 128 on see the manual's section 13.5."""

    channel: int
    code: int

    @property
    def good(self) -> bool:
        """Tell whether nothing is wrong."""
        return self.code in _GOOD_EVENTS


@dataclass(frozen=True, slots=True)
class Reply:
    """Everything that came before the prompt, taken apart. `rest` is what no rule explains: garbage."""

    statuses: dict[int, Status]
    identity: Identity | None
    internal_trigger: bool | None
    errors: tuple[int, ...]
    events: tuple[Event, ...]
    rest: str

    @property
    def empty(self) -> bool:
        """Tell whether nothing but events came, whose prompt is not the one waited for."""
        return not (self.statuses or self.identity or self.errors or self.rest or self.internal_trigger is not None)


def parse(text: str, commands: tuple[str, ...]) -> Reply:
    """Take a reply apart.

    :param text: what came, with or without the echo of the commands, in whatever line ends the family uses.
    :param commands: what was sent, without separators.
    """
    rest = re.sub(r"\s+", "", text).replace(">", "")
    for command in commands:
        rest = rest.replace(command, "")
    rest = rest.replace(";", " ")
    events = tuple(Event(int(channel), int(code)) for channel, code in _EVENT.findall(rest))
    rest = _EVENT.sub("", rest)
    errors = tuple(int(number) for number in _ERROR.findall(rest))
    rest = _ERROR.sub("", rest)
    statuses = {status.channel: status for status in map(_status, _STATUS.finditer(rest))}
    rest = _STATUS.sub("", rest)
    general = _GENERAL.search(rest)
    rest = _GENERAL.sub("", rest)
    identity = None
    if "VR" in commands and (match := _IDENTITY.search(rest)):
        identity = Identity(match[1], match[2], match[3])
        rest = rest.replace(match[0], "", 1)
    trigger = None if general is None else general[1] == "1"
    return Reply(statuses, identity, trigger, errors, events, rest.strip())


def _status(match: re.Match[str]) -> Status:
    channel, mode, percent, delay, delay_unit, width, width_unit, _, _, source, flags, rating, unit = match.groups()
    return Status(
        channel=int(channel),
        mode=int(mode),
        percent=float(percent),
        delay_us=float(delay) * _UNITS_US[delay_unit],
        width_us=float(width) * _UNITS_US[width_unit],
        trigger_input=int(source),
        flags=int(flags),
        rating_a=float(rating) / (1000 if unit == "mA" else 1),
    )


@dataclass(frozen=True, slots=True)
class Setting:
    """What an output is to do. `percent` of the rating; widths and delays in microseconds count in mode PULSE."""

    mode: Mode
    percent: float
    width_us: float = 0.0
    delay_us: float = 0.0

    def command(self, channel: int) -> str:
        """Return the command that sets an output so; the brightness has the resolution that ``ST`` shows."""
        if self.mode is Mode.PULSE:
            return f"RT{channel},{self.width_us / 1e3:.3f},{self.delay_us / 1e3:.3f},{self.percent:.1f}"
        letter = "S" if self.mode is Mode.CONTINUOUS else "W"
        return f"R{letter}{channel},{self.percent:.1f}"

    def problem(self, status: Status) -> str:
        """Return what differs between this and what the controller shows, or an empty text.

        Tolerated is the last digit that the protocol has: 0.1 % and 1 us (0.1 % of a long time).
        """
        if status.mode != self.mode:
            return f"mode {self.mode.name.lower()} was asked for and mode {_mode_name(status.mode)} is set"
        if abs(status.percent - self.percent) > 0.1 + 1e-9:
            return f"{self.percent:g} % was asked for and {status.percent:g} % is set"
        if self.mode is not Mode.PULSE:
            return ""
        for name, asked, actual in (
            ("a pulse of", self.width_us, status.width_us),
            ("a delay of", self.delay_us, status.delay_us),
        ):
            if abs(actual - asked) > 1.0 + 0.001 * asked:
                return f"{name} {asked:g} us was asked for and {actual:g} us is set"
        return ""


def _mode_name(number: int) -> str:
    return Mode(number).name.lower() if number in Mode._value2member_map_ else str(number)


def reason(number: int) -> str:
    """Return an error number with its meaning, where the manual gives one."""
    return f"Err {number} ({REASONS[number]})" if number in REASONS else f"Err {number} (see the controller's manual)"
