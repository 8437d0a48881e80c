"""What the daemon and a camera's process say to each other: one JSON object a packet, one reply for each call.

JSON and not pickle, because the process that an SDK has gone wild in must not be able to run code in the daemon.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from cell import errors
from cell.errors import CameraError, HardwareError, InspectdError
from cell.frames import AcquisitionFault, Frame, Pixels

#: Largest packet, bytes: below what a Unix socket takes at once by default (212,992).
LARGEST = 160_000
#: Asked beside a call: does the process live?
ALIVE = "alive"
_ERRORS: dict[str, type[InspectdError]] = {
    kind.__name__: kind
    for kind in (
        errors.AcquisitionTimeout,
        errors.CameraError,
        errors.ConfigurationError,
        errors.DataError,
        errors.LightError,
        errors.SdkMissing,
    )
}
_FRAME_FIELDS = tuple(field.name for field in fields(Frame) if field.name != "pixels")

Value = Any  # what JSON holds


@dataclass(frozen=True, slots=True)
class Call:
    """A call: its number, its name, how long it may take (seconds) and its arguments."""

    number: int
    name: str
    limit_s: float
    arguments: dict[str, Value]


def encode_call(call: Call) -> bytes:
    """Return the packet of a call. Raises `CameraError` when it is too large."""
    return _packet({"n": call.number, "call": call.name, "limit_s": call.limit_s, "arguments": call.arguments})


def decode_call(packet: bytes) -> Call:
    """Return the call of a packet."""
    content = json.loads(packet)
    return Call(content["n"], content["call"], content["limit_s"], content["arguments"])


def encode_value(number: int, value: Value) -> bytes:
    """Return the packet that answers a call. Raises `CameraError` when it is too large."""
    return _packet({"n": number, "value": value})


def encode_error(number: int, error: InspectdError) -> bytes:
    """Return the packet that answers a call with an error."""
    fault = str(error.fault) if isinstance(error, HardwareError) and error.fault is not None else None
    kind = next((base.__name__ for base in type(error).__mro__ if base.__name__ in _ERRORS), CameraError.__name__)
    return _packet({"n": number, "error": {"kind": kind, "text": str(error)[:4000], "fault": fault}})


def decode_reply(packet: bytes | bytearray, number: int) -> Value:
    """Return a reply's value or raise its error. Raises `CameraError` when it is no reply to the call `number`."""
    try:
        content = json.loads(packet)
        if content["n"] != number:
            raise CameraError(f"the camera's process answered call {content['n']} instead of {number}; see its log")
        if "error" not in content:
            return content["value"]
        told = content["error"]
        kind, text = _ERRORS[told["kind"]], str(told["text"])
        fault = None if told["fault"] is None else AcquisitionFault(told["fault"])
    except (ValueError, KeyError, TypeError) as error:
        raise CameraError("the camera's process answered what is no reply; see its log") from error
    if issubclass(kind, HardwareError):
        raise kind(text, fault=fault)
    raise kind(text)


def describe(frame: Frame) -> dict[str, Value]:
    """Return all of a frame but its pixels."""
    told = {name: getattr(frame, name) for name in _FRAME_FIELDS}
    return told | {"shape": list(frame.pixels.shape), "dtype": frame.pixels.dtype.name}


def shape_of(told: dict[str, Value]) -> tuple[tuple[int, int], str]:
    """Return (height, width) and dtype of a described frame. Raises `CameraError`."""
    try:
        height, width = told["shape"]
        return (int(height), int(width)), str(told["dtype"])
    except (ValueError, KeyError, TypeError) as error:
        raise CameraError("the camera's process described what is no frame; see its log") from error


def frame_of(told: dict[str, Value], pixels: Pixels) -> Frame:
    """Return the described frame with its pixels. Raises `CameraError`."""
    try:
        return Frame(pixels=pixels, **{name: told[name] for name in _FRAME_FIELDS})
    except KeyError as error:
        raise CameraError(f"the camera's process described a frame without {error}; see its log") from error


def _packet(content: dict[str, Value]) -> bytes:
    packet = json.dumps(content, separators=(",", ":"), default=_plain).encode()
    if len(packet) > LARGEST:
        raise CameraError(f"a message of {len(packet)} bytes to or from the camera's process is too long; ask for less")
    return packet


def _plain(value: object) -> Value:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} can't be sent to or from a camera's process")
