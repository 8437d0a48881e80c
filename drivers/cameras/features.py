"""Features of GenICam cameras by one name each, written with a read-back.

The names are those of the Standard Features Naming Convention (SFNC) 2.x, published by the EMVA. Cameras from before
it, Basler's GigE families foremost, spell some otherwise; :data:`OTHER_NAMES` is the one table of these. Each vendor's
library gives its nodes to :class:`GenApiFeatures` through a :class:`NodeMap`; both wrap the same GenApi.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import Any, Protocol

from cell.errors import CameraError
from drivers.cameras.base import Value

#: SFNC 2.x name: names under which older families have the same quantity in the same unit.
OTHER_NAMES: dict[str, tuple[str, ...]] = {
    "ExposureTime": ("ExposureTimeAbs",),  # us
    "Gain": ("GainAbs",),  # dB
    "BlackLevel": ("BlackLevelAbs",),
    "AcquisitionFrameRate": ("AcquisitionFrameRateAbs",),  # Hz
    "AcquisitionFrameRateEnable": ("AcquisitionFrameRateEnabled",),
    "ResultingFrameRate": ("ResultingFrameRateAbs", "AcquisitionResultingFrameRate"),
    "TriggerDelay": ("TriggerDelayAbs",),  # us
    "LineDebouncerTime": ("LineDebouncerTimeAbs",),  # us
    "TimerDuration": ("TimerDurationAbs",),  # us
    "TimerDelay": ("TimerDelayAbs",),  # us
    "DeviceTemperature": ("TemperatureAbs",),  # degrees Celsius
    "DeviceSerialNumber": ("DeviceID",),
    "TimestampLatch": ("GevTimestampControlLatch",),
    "TimestampLatchValue": ("GevTimestampValue",),
}
#: Values of enumerations that older families spell otherwise: (feature, SFNC 2.x or PFNC value): other spellings.
OTHER_VALUES: dict[tuple[str, str], tuple[str, ...]] = {
    ("PixelFormat", "RGB8"): ("RGB8Packed",),
    ("PixelFormat", "BGR8"): ("BGR8Packed",),
    ("PixelFormat", "RGB10"): ("RGB10Packed",),
    ("PixelFormat", "RGB12"): ("RGB12Packed",),
    ("PixelFormat", "RGB16"): ("RGB16Packed",),
    ("PixelFormat", "BGR10"): ("BGR10Packed",),
    ("PixelFormat", "BGR12"): ("BGR12Packed",),
    ("TriggerSource", "Action1"): ("ActionCommand1", "Action0"),
}
#: Steps of features whose cameras round to a step that they don't declare, in the feature's unit: exposures to sensor
#: clocks or rows, gains to a register's step. The largest of these and the declared one counts.
_STEPS: dict[str, tuple[float, float]] = {"ExposureTime": (1.0, 0.005), "Gain": (0.1, 0.0)}
#: How the features that decide on exposure and gain begin.
OF_EXPOSURE = ("Exposure", "Gain")
#: What lights on a camera's lines are switched with, between one exposure and the next.
_FOR_LIGHT = ("Line", "UserOutput", "Timer")
#: What any float may differ by: registers of single precision.
_SINGLE_PRECISION = 1e-6


class Kind(IntEnum):
    """GenApi's EInterfaceType, as far as features have it."""

    INTEGER = 2
    BOOLEAN = 3
    COMMAND = 4
    FLOAT = 5
    STRING = 6
    ENUMERATION = 9


class Access(IntEnum):
    """GenApi's EAccessMode."""

    NOT_IMPLEMENTED = 0
    NOT_AVAILABLE = 1
    WRITE_ONLY = 2
    READ_ONLY = 3
    READ_WRITE = 4


_READABLE = {Access.READ_ONLY, Access.READ_WRITE}
_WRITABLE = {Access.WRITE_ONLY, Access.READ_WRITE}


class NodeMap(Protocol):
    """A vendor library's access to a camera's nodes."""

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What the library raises."""

    @property
    def snake_case(self) -> bool:
        """True where members are spelled get_access_mode, as in harvesters; False for pypylon's GetAccessMode."""

    def find(self, name: str) -> Any | None:
        """Return the node of that exact name; None when the camera has none. Raises `CameraError` when it is closed."""

    def all_names(self) -> Iterable[str]:
        """Return the names of all features."""


class GenApiFeatures:
    """See `drivers.cameras.base.Features`."""

    def __init__(self, camera: str, nodes: NodeMap) -> None:
        self.camera = camera
        self._map = nodes
        self._found: dict[str, _Node] = {}
        #: Rises with every write to exposure or gain, whoever makes it.
        self.exposure_writes = 0
        #: Rises with every write and command but those that switch light, whoever makes it.
        self.changes = 0
        #: Called with the name of a feature that is about to be read.
        self.before_read: Callable[[str], None] = _nothing

    def forget(self) -> None:
        """Drop the nodes of a device that is closed."""
        self._found.clear()

    def names(self) -> tuple[str, ...]:
        """See the contract."""
        with self._translated("its features", "be listed"):
            own = {name for name in self._map.all_names() if self._look(name) is not None}
        return tuple(sorted(own | {name for name in OTHER_NAMES if self._look(name) is not None}))

    def has(self, name: str) -> bool:
        """Tell whether the camera implements a feature, under any of its names."""
        return self._look(name) is not None

    def readable(self, name: str) -> bool:
        """Tell whether a feature can be read now."""
        node = self._look(name)
        return node is not None and node.access in _READABLE

    def writable(self, name: str) -> bool:
        """Tell whether a feature can be written, or a command executed, now."""
        node = self._look(name)
        return node is not None and node.access in _WRITABLE

    def choices(self, name: str) -> tuple[str, ...]:
        """Return the values that an enumeration can take now; empty for any other feature or none."""
        node = self._look(name)
        if node is None or node.kind is not Kind.ENUMERATION:
            return ()
        with self._translated(name, "be read"):
            return node.symbols

    def limits(self, name: str) -> tuple[float, float]:
        """Return the least and the greatest value of a number. Raises `CameraError`."""
        node = self._node(name)
        with self._translated(name, "be read"):
            return node.limits

    def read(self, name: str) -> Value:
        """See the contract."""
        self.before_read(name)
        node = self._node(name)
        if node.access not in _READABLE or node.kind is Kind.COMMAND:
            raise CameraError(
                f"camera {self.camera}: {name} can't be read now; see the camera's manual for when it can"
            )
        with self._translated(name, "be read"):
            return node.value

    def write(self, name: str, value: Value) -> Value:
        """See the contract."""
        node = self._node(name)
        if node.access not in _WRITABLE or node.kind is Kind.COMMAND:
            was = f" and is {_shown(node.value)}" if node.access in _READABLE and node.kind is not Kind.COMMAND else ""
            raise CameraError(
                f"camera {self.camera}: {name} can't be set to {_shown(value)} now{was}; see the camera's manual for "
                "when it can"
            )
        wanted = self._fitting(node, name, value)
        self.exposure_writes += name.startswith(OF_EXPOSURE)
        self.changes += not name.startswith(_FOR_LIGHT)
        with self._translated(name, f"be set to {_shown(value)}"):
            node.set(wanted)
            actual = node.value
            step = node.step
        if not _same(wanted, actual, max(step, _step_of(name, wanted) if node.kind is Kind.FLOAT else 0.0)):
            raise CameraError(
                f"camera {self.camera}: {name} was set to {_shown(value)} and is {_shown(actual)}; ask for a value "
                "that the camera takes"
            )
        return actual

    def same(self, name: str, wanted: float, actual: float) -> bool:
        """Tell whether a number that is read is the one that was asked for, but for the feature's own increment."""
        node = self._look(name)
        if node is None or node.kind is not Kind.FLOAT:
            return wanted == actual
        with self._translated(name, "be read"):
            return _same(float(wanted), actual, max(node.step, _step_of(name, wanted)))

    def execute(self, name: str) -> None:
        """See the contract."""
        node = self._node(name)
        if node.kind is not Kind.COMMAND or node.access not in _WRITABLE:
            raise CameraError(f"camera {self.camera}: {name} can't be executed now; see the camera's manual")
        self.changes += 1
        with self._translated(name, "be executed"):
            node.execute()

    def _fitting(self, node: _Node, name: str, value: Value) -> Value:
        """Return the value as the node takes it. Raises `CameraError` naming it and what there is or may be."""
        with self._translated(name, f"be set to {_shown(value)}"):
            if node.kind is Kind.ENUMERATION:
                symbols = node.symbols
                for candidate in (value, *OTHER_VALUES.get((name, str(value)), ())):
                    if candidate in symbols:
                        return candidate
                problem = f"it can be {', '.join(symbols)}"
            elif node.kind in {Kind.INTEGER, Kind.FLOAT}:
                if isinstance(value, (int, float)):
                    low, high = node.limits
                    if low <= value <= high and (node.kind is Kind.FLOAT or value == int(value)):
                        return int(value) if node.kind is Kind.INTEGER else float(value)
                    problem = f"it can be {_shown(low)} to {_shown(high)}"
                else:
                    problem = "it is a number"
            elif isinstance(value, bool if node.kind is Kind.BOOLEAN else str):
                return value
            else:
                problem = "it is either true or false" if node.kind is Kind.BOOLEAN else "it is a text"
            present = _shown(node.value) if node.access in _READABLE else "unknown"
        raise CameraError(f"camera {self.camera}: {name} can't be {_shown(value)} and is {present}; {problem}")

    def _node(self, name: str) -> _Node:
        node = self._look(name)
        if node is None:
            raise CameraError(f"camera {self.camera} has no feature {name}; see inspectctl camera info")
        return node

    def _look(self, name: str) -> _Node | None:
        if name in self._found:
            return self._found[name]
        with self._translated(name, "be looked for"):
            for candidate in (name, *OTHER_NAMES.get(name, ())):
                raw = self._map.find(candidate)
                node = None if raw is None else _Node(raw, self._map.snake_case)
                if node is not None and node.access is not Access.NOT_IMPLEMENTED and node.kind is not None:
                    self._found[name] = node
                    return node
        return None

    def _translated(self, name: str, what: str) -> _Translated:
        return _Translated(self._map.errors, f"camera {self.camera}: {name} can't {what}")


class _Translated:
    """Turns a vendor's error into ours, its first line kept."""

    def __init__(self, errors: tuple[type[Exception], ...], prefix: str) -> None:
        self._errors = errors
        self._prefix = prefix

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is not None and isinstance(error, self._errors):
            raise CameraError(f"{self._prefix}: {sentence(error)}; check its cable and manual") from error


class _Node:
    """One node, whichever way the library spells its members."""

    def __init__(self, raw: Any, snake_case: bool) -> None:
        self._raw = raw
        self._snake_case = snake_case
        self.kind = self._kind()

    @property
    def access(self) -> Access:
        return Access(int(self._member("GetAccessMode")()))

    @property
    def value(self) -> Value:
        value: Value = self._member("Value")
        return value

    @property
    def limits(self) -> tuple[float, float]:
        return self._member("Min"), self._member("Max")

    @property
    def step(self) -> float:
        """Declared increment of a float; 0 where there is none and for all else, which must be exact."""
        return float(self._member("Inc")) if self.kind is Kind.FLOAT and self._member("HasInc")() else 0.0

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(str(symbol) for symbol in self._member("Symbolics"))

    def set(self, value: Value) -> None:
        setattr(self._raw, self._spelled("Value"), value)

    def execute(self) -> None:
        self._member("Execute")()

    def _kind(self) -> Kind | None:
        if int(self._member("GetAccessMode")()) == Access.NOT_IMPLEMENTED:
            return None
        if self._snake_case:
            number = int(self._raw.node.principal_interface_type)
        else:
            number = int(self._raw.GetNode().GetPrincipalInterfaceType())
        return Kind(number) if number in Kind.__members__.values() else None

    def _member(self, name: str) -> Any:
        return getattr(self._raw, self._spelled(name))

    def _spelled(self, name: str) -> str:
        return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower() if self._snake_case else name


def sentence(error: BaseException) -> str:
    """Return the first line of a vendor's message without its file and line, and without a full stop."""
    text = str(error).strip().splitlines()
    return text[0].split(" : ")[0].rstrip(".") if text else type(error).__name__


def _nothing(name: str) -> None:
    del name


def _step_of(name: str, value: Value) -> float:
    absolute, relative = _STEPS.get(name, (0.0, 0.0))
    return max(absolute, relative * abs(float(value)))


def _same(wanted: Value, actual: Value, step: float) -> bool:
    if isinstance(wanted, float) and isinstance(actual, (int, float)):
        return abs(actual - wanted) <= max(step, _SINGLE_PRECISION * abs(wanted))
    return wanted == actual


def _shown(value: Value) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)
