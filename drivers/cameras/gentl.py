"""GenTL as harvesters shows it: producers, devices and their names, nodes and raw buffers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cell.errors import CameraError, ConfigurationError
from cell.frames import AcquisitionFault
from cell.settings import CameraSettings
from drivers.cameras.assembly import Delivery
from drivers.cameras.chunks import ChunkData


@dataclass(frozen=True, slots=True)
class Device:
    """A camera that a producer found. `name` is its serial number or, where it has none, the producer's id."""

    index: int
    name: str
    names: frozenset[str]  # serial number, user id, display name, producer's id
    vendor: str


def require_producers(settings: CameraSettings) -> tuple[Path, ...]:
    """Return the configured producers. Raises `ConfigurationError` when there are none or a file is missing."""
    if not settings.producers:
        raise ConfigurationError(
            "the driver genicam needs camera.producers, the camera maker's GenTL files (.cti); install the maker's "
            "software and name them"
        )
    for producer in settings.producers:
        if not producer.is_file():
            raise ConfigurationError(
                f"there is no GenTL producer {producer}; install the camera maker's software or correct "
                "camera.producers"
            )
    return settings.producers


def list_devices(infos: Iterable[Any], errors: tuple[type[Exception], ...]) -> list[Device]:
    """Return what the producers found; not every producer tells everything of a device."""
    devices = []
    for index, info in enumerate(infos):
        told: dict[str, str] = {}
        for key in ("serial_number", "user_defined_name", "display_name", "id_", "vendor"):
            with contextlib.suppress(*errors):
                told[key] = str(getattr(info, key) or "")
        names = frozenset(text for key, text in told.items() if key != "vendor" and text)
        devices.append(Device(index, told.get("serial_number") or told.get("id_", ""), names, told.get("vendor", "")))
    return devices


def choose_device(devices: Sequence[Device], wanted: str) -> Device:
    """Return the device of that serial number, user id or display name, or the only one there is.

    One camera that several producers find is one camera, taken through the first of them. Raises `CameraError` when it
    is not there and `ConfigurationError` when it could be several.
    """
    if not devices:
        raise CameraError("the GenTL producers find no camera; check its cable, power and address")
    found = [device for device in devices if not wanted or wanted in device.names]
    if not found:
        raise CameraError(f"the GenTL producers find no camera {wanted}; check its cable, power and address")
    names = sorted({device.name for device in found})
    if len(names) > 1:
        called = f" called {wanted}" if wanted else ""
        raise ConfigurationError(
            f"there are several cameras{called} ({', '.join(names)}); set camera.device to one of these"
        )
    return found[0]


class AcquirerNodes:
    """The features and buffers of a camera while it is open; see `drivers.cameras.features.NodeMap`."""

    snake_case = True

    def __init__(self, errors: tuple[type[Exception], ...]) -> None:
        self.errors = errors
        self._map: Any = None

    def attach(self, node_map: Any) -> None:
        """Use an open camera's node map."""
        self._map = node_map

    def detach(self) -> None:
        """Let it go before the camera is closed."""
        self._map = None

    def find(self, name: str) -> Any | None:
        """See `drivers.cameras.features.NodeMap`."""
        nodes = self._open()
        return nodes.get_node(name) if nodes.has_node(name) else None

    def all_names(self) -> Iterable[str]:
        """See `drivers.cameras.features.NodeMap`."""
        return [str(node.node.name) for node in self._open().nodes if node.node.is_feature()]

    def delivery(self, buffer: Any, chunks: ChunkData, format_names: Mapping[int, str], tick_ns: float) -> Delivery:
        """Return a raw buffer as a delivery. Raises what GenTL raises, and `CameraError` when it holds no picture."""
        parts = buffer.parts
        image = parts[0] if parts else buffer
        number = int(image.data_format if parts else image.pixel_format)
        offset = int(image.data_offset if parts else self._told(image, "image_offset", 0))
        end = offset + int(image.data_size) if parts else int(buffer.size_filled)
        if not image.width or not image.height:
            raise CameraError(
                "the camera sent a buffer without a picture; switch its other payloads off",
                fault=AcquisitionFault.WRONG_SIZE,
            )
        return Delivery(
            data=np.frombuffer(buffer.raw_buffer, np.uint8, count=end - offset, offset=offset),
            width=int(image.width),
            height=int(image.height),
            padding=int(self._told(image, "x_padding" if parts else "padding_x", 0)),
            pixel_format=format_names.get(number, f"{number:#x}"),
            block_id=int(buffer.frame_id),
            timestamp_ns=self._timestamp_ns(buffer, tick_ns),
            chunks=chunks,
            release=lambda: buffer.parent.queue_buffer(buffer),
        )

    def _timestamp_ns(self, buffer: Any, tick_ns: float) -> int:
        nanoseconds = self._told(buffer, "timestamp_ns", 0)
        return int(nanoseconds) if nanoseconds else round(int(self._told(buffer, "timestamp", 0)) * tick_ns)

    def _told(self, buffer: Any, name: str, otherwise: int) -> int:
        """Return what a producer tells of a buffer, and something else where it does not."""
        with contextlib.suppress(*self.errors):
            return int(getattr(buffer, name) or otherwise)
        return otherwise

    def _open(self) -> Any:
        if self._map is None:
            raise CameraError("the camera is not open; check its cable and power")
        return self._map
