"""Cameras as their makers describe them: GenICam XML over registers, run by the real GenApi.

What no emulator at hand has (sequencer, chunk data, counters, the names of older families, values that are clipped) is
shown on these. The description is data; what the firmware would do is in :class:`Firmware`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any

from genicam import genapi

_HEAD = (
    '<?xml version="1.0" encoding="utf-8"?><RegisterDescription ModelName="T" VendorName="V" '
    'StandardNameSpace="None" SchemaMajorVersion="1" SchemaMinorVersion="1" SchemaSubMinorVersion="0" '
    'MajorVersion="1" MinorVersion="0" SubMinorVersion="0" ToolTip="" '
    'ProductGuid="1F3C6A72-7842-4edd-9130-E2E90A2058BA" VersionGuid="7645D2A1-A41E-4ac6-B486-1531FB7BECE6" '
    'xmlns="http://www.genicam.org/GenApi/Version_1_1" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
    'xsi:schemaLocation="http://www.genicam.org/GenApi/Version_1_1 GenApiSchema.xsd">'
)


class Firmware(genapi.AbstractPort):
    """Registers of 8 bytes, and what happens when one is written. `log` holds every write in order."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = bytearray(1 << 14)
        self.names: dict[int, str] = {}
        self.log: list[tuple[str, float]] = []
        self.on_write: dict[str, Callable[[float], float | None]] = {}
        self.floats: set[str] = set()
        self.addresses: dict[str, int] = {}
        self.sets: dict[int, tuple[float, float]] = {}  # of the sequencer: exposure in us, gain in dB
        self.switched: dict[int, dict[str, list[float]]] = {}  # of its sets: what every line and user output does

    def read(self, address: int, length: int) -> bytes:
        return bytes(self.memory[address : address + length])

    def write(self, address: int, value: bytes) -> None:
        name = self.names.get(address & ~0x7, "")
        number = struct.unpack("<d" if name in self.floats else "<q", value)[0]
        self.log.append((name, number))
        instead = self.on_write[name](number) if name in self.on_write else None
        self.memory[address : address + len(value)] = self._packed(name, number if instead is None else instead)

    def get_access_mode(self) -> Any:
        return genapi.EAccessMode.RW

    def get(self, name: str, index: int = 0) -> float:
        at = self.addresses[name] + 8 * index
        value: float = struct.unpack("<d" if name in self.floats else "<q", self.memory[at : at + 8])[0]
        return value

    def put(self, name: str, value: float, index: int = 0) -> None:
        at = self.addresses[name] + 8 * index
        self.memory[at : at + 8] = self._packed(name, value)

    def _packed(self, name: str, value: float) -> bytes:
        return struct.pack("<d", value) if name in self.floats else struct.pack("<q", int(value))


class Description:
    """A camera's XML, feature by feature. `per` is the selector that a feature has a value for each entry of."""

    def __init__(self) -> None:
        self.firmware = Firmware()
        self._parts: list[str] = []
        self._features: list[str] = []
        self._next = 0

    def integer(
        self, name: str, low: int, high: int, value: int, *, inc: int = 1, per: str = "", lock: str = ""
    ) -> None:
        self._register(name, value, per=per)
        self._feature(
            "Integer", name, f"<pValue>{name}Reg</pValue><Min>{low}</Min><Max>{high}</Max><Inc>{inc}</Inc>", lock
        )

    def floating(self, name: str, low: float, high: float, value: float, *, unit: str = "", lock: str = "") -> None:
        self.firmware.floats.add(name)
        self._register(name, value, kind="FloatReg")
        unit = f"<Unit>{unit}</Unit>" if unit else ""
        self._feature("Float", name, f"<pValue>{name}Reg</pValue><Min>{low}</Min><Max>{high}</Max>{unit}", lock)

    def boolean(self, name: str, value: bool = False, *, per: str = "") -> None:
        self._register(name, int(value), per=per)
        self._feature("Boolean", name, f"<pValue>{name}Reg</pValue><OnValue>1</OnValue><OffValue>0</OffValue>")

    def command(self, name: str) -> None:
        self._register(name, 0)
        self._feature("Command", name, f"<pValue>{name}Reg</pValue><CommandValue>1</CommandValue>")

    def choice(
        self, name: str, entries: Iterable[str], *, per: str = "", selects: Iterable[str] = (), lock: str = ""
    ) -> None:
        self._register(name, 0, per=per)
        values = "".join(
            f'<EnumEntry Name="{entry}"><Value>{number}</Value></EnumEntry>' for number, entry in enumerate(entries)
        )
        selected = "".join(f"<pSelected>{feature}</pSelected>" for feature in selects)
        self._feature("Enumeration", name, f"{values}<pValue>{name}Reg</pValue>{selected}", lock)

    def when_written(self, name: str, do: Callable[[float], float | None]) -> None:
        """Let the firmware do something; what it returns is kept instead of what was written."""
        self.firmware.on_write[name] = do

    def load(self) -> Any:
        """Return the node map."""
        root = "".join(f"<pFeature>{name}</pFeature>" for name in self._features)
        text = f'{_HEAD}<Category Name="Root">{root}</Category>{"".join(self._parts)}<Port Name="Device"/>'
        node_map = genapi.NodeMap()
        node_map.load_xml_from_string(f"{text}</RegisterDescription>")
        node_map.connect(self.firmware, "Device")
        return node_map

    def _register(self, name: str, value: float, *, kind: str = "IntReg", per: str = "") -> None:
        at, entries = self._next, 64 if per else 1
        self._next += 8 * entries
        for index in range(entries):
            self.firmware.names[at + 8 * index] = name
        self.firmware.addresses[name] = at
        self.firmware.put(name, value)
        sign = "" if kind == "FloatReg" else "<Sign>Signed</Sign>"
        index_by = f'<pIndex Offset="8">{per}</pIndex>' if per else ""
        self._parts.append(
            f'<{kind} Name="{name}Reg"><Address>{at}</Address>{index_by}<Length>8</Length><AccessMode>RW</AccessMode>'
            f"<pPort>Device</pPort><Cachable>NoCache</Cachable>{sign}<Endianess>LittleEndian</Endianess></{kind}>"
        )

    def _feature(self, kind: str, name: str, inner: str, lock: str = "") -> None:
        locked = f"<pIsLocked>{lock}</pIsLocked>" if lock else ""
        self._features.append(name)
        self._parts.append(f'<{kind} Name="{name}">{locked}{inner}</{kind}>')


class Nodes:
    """See `drivers.cameras.features.NodeMap`."""

    snake_case = True
    errors: tuple[type[Exception], ...] = (genapi.GenericException,)

    def __init__(self, node_map: Any) -> None:
        self.map = node_map

    def find(self, name: str) -> Any | None:
        return self.map.get_node(name) if self.map.has_node(name) else None

    def all_names(self) -> Iterable[str]:
        return [str(node.node.name) for node in self.map.nodes if node.node.is_feature()]


def modern() -> Description:
    """A camera after SFNC 2.x with burst, sequencer, counter and chunk data."""
    camera = Description()
    _geometry(camera, ("Mono8", "Mono12p", "BayerRG8", "RGB8"))
    camera.floating("ExposureTime", 10.0, 1e6, 5000.0, unit="us")
    camera.floating("Gain", 0.0, 24.0, 3.0, unit="dB")
    camera.choice("ExposureAuto", ("Off", "Continuous"))
    camera.firmware.put("ExposureAuto", 1)
    camera.choice("TriggerSelector", ("AcquisitionStart", "FrameBurstStart", "FrameStart"))
    camera.choice("TriggerMode", ("Off", "On"), per="TriggerSelector")
    camera.choice("TriggerSource", ("Software", "Line1", "Line2", "Action1"), per="TriggerSelector")
    camera.choice("TriggerActivation", ("FallingEdge", "RisingEdge"), per="TriggerSelector")
    camera.command("TriggerSoftware")
    camera.integer("AcquisitionBurstFrameCount", 1, 255, 1)
    _counter_and_chunks(camera)
    _sequencer(camera)
    camera.choice("LineSelector", tuple(f"Line{number}" for number in range(1, 7)))
    outputs = tuple(f"UserOutput{number}" for number in range(1, 5))
    camera.choice("LineSource", ("Off", "ExposureActive", *outputs, "Timer1Active"), per="LineSelector")
    camera.choice("LineMode", ("Input", "Output"), per="LineSelector")
    camera.boolean("LineInverter", per="LineSelector")
    camera.choice("UserOutputSelector", outputs)
    camera.boolean("UserOutputValue", per="UserOutputSelector")
    camera.choice("TimerSelector", ("Timer1",))
    camera.choice("TimerTriggerSource", ("Off", "ExposureStart"))
    camera.floating("TimerDuration", 1.0, 1e6, 10.0, unit="us")
    camera.command("AcquisitionStart")
    camera.command("AcquisitionStop")
    return camera


def classic() -> Description:
    """A GigE camera of before SFNC 2.0, without sequencer and gain in dB."""
    camera = Description()
    _geometry(camera, ("Mono8", "Mono12Packed", "RGB8Packed"))
    camera.floating("ExposureTimeAbs", 35.0, 1e6, 5000.0)
    camera.integer("GainRaw", 36, 400, 100)
    camera.choice("TriggerSelector", ("AcquisitionStart", "FrameStart"))
    camera.choice("TriggerMode", ("Off", "On"), per="TriggerSelector")
    camera.choice("TriggerSource", ("Software", "Line1"), per="TriggerSelector")
    camera.integer("AcquisitionFrameCount", 1, 255, 1)
    camera.integer("GevTimestampTickFrequency", 1, 1_000_000_000, 125_000_000)
    camera.boolean("ChunkModeActive")
    camera.choice("ChunkSelector", ("Framecounter", "Triggerinputcounter", "GainAll"))
    camera.boolean("ChunkEnable", per="ChunkSelector")
    camera.integer("ChunkFramecounter", 0, 1 << 32, 7)
    camera.integer("ChunkTriggerinputcounter", 0, 1 << 32, 3)
    return camera


def _geometry(camera: Description, formats: tuple[str, ...]) -> None:
    camera.integer("Width", 16, 1024, 1024, inc=16)
    camera.integer("Height", 2, 768, 768, inc=2)
    camera.integer("OffsetX", 0, 1008, 16, inc=16)
    camera.integer("OffsetY", 0, 766, 2, inc=2)
    camera.integer("BinningHorizontal", 1, 4, 2)
    camera.integer("BinningVertical", 1, 4, 2)
    camera.choice("BinningHorizontalMode", ("Sum", "Average"))
    camera.choice("PixelFormat", formats)


def _counter_and_chunks(camera: Description) -> None:
    camera.choice("CounterSelector", ("Counter0", "Counter1"))
    camera.choice("CounterEventSource", ("Off", "FrameStart", "Line1"), per="CounterSelector")
    camera.command("CounterReset")
    camera.boolean("ChunkModeActive")
    camera.choice("ChunkSelector", ("FrameID", "Timestamp", "ExposureTime", "Gain", "CounterValue", "LineStatusAll"))
    camera.boolean("ChunkEnable", per="ChunkSelector")
    camera.choice("ChunkCounterSelector", ("Counter0", "Counter1"))
    for name in ("ChunkFrameID", "ChunkTimestamp"):
        camera.integer(name, 0, 1 << 60, 1)
    camera.integer("ChunkCounterValue", 0, 1 << 32, 4, per="ChunkCounterSelector")
    camera.floating("ChunkExposureTime", 0, 1e9, 1000.0)
    camera.floating("ChunkGain", 0, 100, 0.0)


#: What of light a set holds.
_SWITCHED = ("LineSource", "UserOutputValue")


def _sequencer(camera: Description) -> None:
    firmware = camera.firmware
    sets = firmware.sets

    def save(_: float) -> None:
        number = int(firmware.get("SequencerSetSelector"))
        sets[number] = (firmware.get("ExposureTime"), firmware.get("Gain"))
        firmware.switched[number] = {name: [firmware.get(name, index) for index in range(8)] for name in _SWITCHED}

    def load(_: float) -> None:
        number = int(firmware.get("SequencerSetSelector"))
        exposure, gain = sets[number]
        firmware.put("ExposureTime", exposure)
        firmware.put("Gain", gain)
        for name, values in firmware.switched.get(number, {}).items():
            for index, value in enumerate(values):
                firmware.put(name, value, index)

    camera.choice("SequencerMode", ("Off", "On"))
    # A set can be changed in configuration mode only, and that is refused while the sequencer runs.
    camera.choice("SequencerConfigurationMode", ("Off", "On"), lock="SequencerMode")
    camera.integer("SequencerSetSelector", 0, 31, 0)
    camera.choice("SequencerFeatureSelector", ("ExposureTime", "Gain", *_SWITCHED))
    camera.boolean("SequencerFeatureEnable", per="SequencerFeatureSelector")
    camera.integer("SequencerPathSelector", 0, 1, 0)
    camera.integer("SequencerSetNext", 0, 31, 0, per="SequencerSetSelector")
    camera.choice("SequencerTriggerSource", ("Off", "FrameEnd", "Line1"), per="SequencerSetSelector")
    camera.integer("SequencerSetStart", 0, 31, 5)
    camera.command("SequencerSetSave")
    camera.command("SequencerSetLoad")
    camera.when_written("SequencerSetSave", save)
    camera.when_written("SequencerSetLoad", load)
