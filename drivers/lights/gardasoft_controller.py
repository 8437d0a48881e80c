"""One Gardasoft controller on its connection: identified, set up, told what to do, and read back each time.

Whatever goes wrong on the wire ends the connection; the next use makes a new one and restores everything on it, ending
dark. An answer that is late can therefore never be taken for another's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from cell.clock import Monotonic, monotonic
from cell.errors import LightError
from cell.settings import LightOutput, LightSettings
from drivers.lights import gardasoft_protocol as protocol
from drivers.lights.gardasoft_protocol import Identity, Mode, Reply, Setting, Status
from drivers.lights.link import TextLink

DARK = Setting(Mode.CONTINUOUS, 0.0)
#: A strobe lamp has no continuous mode; switched to 0 % it stays dark whatever its trigger does.
_STROBE_DARK = Setting(Mode.SWITCHED, 0.0)
#: Outputs set in one command line; the manuals name no longest line, and the usual change is two outputs.
_TOGETHER = 4
_RATING_TOLERANCE_A = 0.001


class Controller:
    """The outputs of one controller that have lines. Not thread-safe. All methods but `close` raise `LightError`."""

    def __init__(
        self, host: str, outputs: Mapping[str, LightOutput], settings: LightSettings, clock: Monotonic = monotonic
    ) -> None:
        self.host = host
        self.outputs = dict(outputs)
        self.reconnections = 0
        self._settings = settings
        self._clock = clock
        self._link = TextLink(host, settings.port, settings.reply_timeout_s, clock)
        self._known: dict[str, Setting] = {}  # what each line was last read to do; absent: not known
        self._events: list[protocol.Event] = []
        self._used_at = clock()
        self.identity = Identity("", "", "")
        self._connect()

    @property
    def emulated(self) -> bool:
        """True for the fake controller."""
        return self.identity.hardware == protocol.SIMULATED_HARDWARE

    @property
    def connected(self) -> bool:
        """False from a failure until the next use."""
        return self._link.connected

    @property
    def idle_s(self) -> float:
        """Seconds since the last exchange."""
        return self._clock() - self._used_at

    @property
    def dark(self) -> Setting:
        """What an output does when its line is off."""
        return _STROBE_DARK if self.identity.strobe_only else DARK

    def set(self, wanted: Mapping[str, Setting]) -> bool:
        """Make these lines do this and all others dark, sending only what changes; tell whether anything did.

        After an error the lines may do anything.
        """
        self._use()
        target = {line: wanted.get(line, self.dark) for line in self.outputs}
        changes = {line: setting for line, setting in target.items() if self._known.get(line) != setting}
        if changes:
            self._send(changes)
        self._heed()
        return bool(changes)

    def read(self) -> dict[str, Status]:
        """Return what every line does, as the controller tells it."""
        self._use()
        reply = self._exchange(*(f"ST{output.channel}" for output in self.outputs.values()))
        self._refuse(reply, "asked for its settings")
        return {line: reply.statuses[output.channel] for line, output in self.outputs.items()}

    def notice(self) -> None:
        """Take in what came unasked: events, or the end of the connection. Never waits, never raises."""
        self._note(self._link.pending())

    def keep_alive(self) -> None:
        """Exchange something harmless, or connect again after a failure."""
        if self._link.connected:
            self._exchange("VR")
        else:
            self._reconnect()

    def close(self) -> None:
        """Switch dark, if the controller still answers, and disconnect. Never raises."""
        self._known.clear()
        if self._link.connected:
            with contextlib.suppress(LightError):
                self._send(dict.fromkeys(self.outputs, self.dark))
        self._link.close()

    def _use(self) -> None:
        """See to a live connection. What came unasked is read first, so that its end is noticed before it is used."""
        self.notice()
        if not self._link.connected:
            self._reconnect()

    def _reconnect(self) -> None:
        self._connect()
        self.reconnections += 1

    def _connect(self) -> None:
        self._known.clear()
        self._events.clear()
        self._used_at = self._clock()
        self._link.connect()
        try:
            self._identify()
            self._restore()
        except LightError:
            self._link.close()
            raise

    def _identify(self) -> None:
        identity = self._exchange("VR").identity
        if identity is None or not identity.known:
            found = identity.model if identity else "something else"
            raise LightError(
                f"the device at {self._link.address} is {found}, not a Gardasoft controller of the RT, TR, RC or VTR "
                "series; correct light.host"
            )
        if identity.strobe_only and self._settings.mode == "continuous":
            raise LightError(
                f"the {identity.model} at {self._link.address} can only be strobed; set light.mode to pulsed"
            )
        self.identity = identity

    def _restore(self) -> None:
        """Darkness first, then everything else that is not the controller's default, read back."""
        self._send(dict.fromkeys(self.outputs, self.dark))
        reply = self._exchange("GT1", "TT0", "ST0")
        self._refuse(reply, "told to trigger from outside only")
        if reply.internal_trigger is not False:
            raise LightError(f"the light controller at {self._link.address} keeps its internal trigger on; reset it")
        for line, output in self.outputs.items():
            self._wire(line, output)

    def _wire(self, line: str, output: LightOutput) -> None:
        channel = output.channel
        flags = protocol.NEGATIVE_TRIGGER if output.inverted else 0
        commands = []
        if output.rated_current_a is not None:
            commands.append(f"VL{channel},0,{output.rated_current_a:.3f}A")
        if output.trigger_input is not None:
            commands.append(f"RP{channel},{output.trigger_input}")
        if flags or not self.identity.strobe_only:
            commands.append(f"RE{channel},{flags}")
        if not commands:
            return
        reply = self._exchange(*commands, f"ST{channel}")
        self._refuse(reply, f"given {' '.join(commands)}")
        status = reply.statuses[channel]
        wired: tuple[tuple[str, float | None, float], ...] = (
            ("rated_current_a", output.rated_current_a, status.rating_a),
            ("trigger_input", output.trigger_input, status.trigger_input),
            ("inverted", flags if flags or not self.identity.strobe_only else None, status.flags & flags),
        )
        for name, asked, actual in wired:
            if asked is not None and abs(asked - actual) > _RATING_TOLERANCE_A:
                raise LightError(
                    f"light line {line}: {name} {asked:g} was asked for and {actual:g} is set on {self._link.address}; "
                    "correct light.outputs"
                )

    def _send(self, changes: Mapping[str, Setting]) -> None:
        """Send settings and read them back, a few outputs in one exchange."""
        for line in changes:
            self._known.pop(line, None)
        items = list(changes.items())
        for start in range(0, len(items), _TOGETHER):
            self._send_together(dict(items[start : start + _TOGETHER]))

    def _send_together(self, changes: Mapping[str, Setting]) -> None:
        channels = {line: self.outputs[line].channel for line in changes}
        commands = [setting.command(channels[line]) for line, setting in changes.items()]
        reply = self._exchange(*commands, *(f"ST{channel}" for channel in channels.values()))
        doing = "told " + " ".join(commands)
        if set(reply.errors) - {protocol.ADJUSTED}:
            self._refuse(reply, doing)
        for line, setting in changes.items():
            status = reply.statuses.get(channels[line])
            problem = setting.problem(status) if status else ""
            if problem:
                raise LightError(
                    f"light line {line}: {problem} on the controller at {self._link.address}; correct the recipe or "
                    "light.outputs"
                )
        self._refuse(reply, doing)
        self._known.update(changes)

    def _exchange(self, *commands: str) -> Reply:
        self._used_at = self._clock()
        reply = protocol.parse(self._link.ask((";".join(commands) + "\r").encode("ascii"), protocol.PROMPT), commands)
        self._events += reply.events
        while reply.empty and self.idle_s < self._settings.reply_timeout_s:
            # That prompt ended an event, which came before the answer.
            reply = protocol.parse(self._link.more(protocol.PROMPT), commands)
            self._events += reply.events
        asked = {int(command[2:]) for command in commands if command.startswith("ST")} - {0}
        answered = reply.errors or (
            asked <= set(reply.statuses)
            and (reply.identity is not None or "VR" not in commands)
            and (reply.internal_trigger is not None or "ST0" not in commands)
        )
        if reply.rest or not answered:
            self._link.close()
            raise LightError(
                f"the light controller at {self._link.address} answered {(reply.rest or 'nothing')[:60]!r} to "
                f"{commands[0]}; check that light.host is its address"
            )
        return reply

    def _refuse(self, reply: Reply, doing: str) -> None:
        if reply.errors:
            words = ", ".join(protocol.reason(number) for number in reply.errors)
            raise LightError(
                f"the light controller at {self._link.address} was {doing} and answered {words}; correct the recipe or "
                "light.outputs"
            )

    def _note(self, text: str) -> None:
        """Sort out what came unasked; anything but events means that question and answer no longer match."""
        if not text:
            return
        reply = protocol.parse(text, ())
        self._events += reply.events
        if not reply.empty:
            self._link.close()

    def _heed(self) -> None:
        """Raise for the first event that tells of a lamp or a controller in trouble, once."""
        events, self._events = self._events, []
        for event in events:
            if event.good:
                continue
            lines = [line for line, output in self.outputs.items() if output.channel == event.channel]
            if event.channel and not lines:
                continue
            self._known.clear()
            self._clear_errors()
            where = f"light line {lines[0]}" if lines else "the whole controller"
            raise LightError(
                f"{where}: the controller at {self._link.address} reports event {event.code}; check the lamp, its "
                "cable and its rating"
            )

    def _clear_errors(self) -> None:
        """Let the controller drive a lamp again that it gave up; its answer is the event, once more."""
        if self._link.connected:
            self._exchange("GR", "VR")
            self._events.clear()
