"""Messages on the wire: JSON objects in one ZeroMQ frame each.

A command goes DEALER/REQ -> ROUTER, its reply comes back with the same ``request_id``. ``error`` 0 is OK; numbers
below 0 are :attr:`cell.errors.InspectdError.code`. A ``request_id`` that was seen before is answered from the store
without a second effect, also after a restart; clients therefore make fresh ones (UUID) for each intent and repeat
them only to ask again.
"""

from __future__ import annotations

import json
import math
from typing import Annotated, Any

from pydantic import Field, StringConstraints, ValidationError

from cell.base import Record
from cell.errors import ProtocolError

#: Largest message accepted, bytes.
MAX_MESSAGE = 1 << 20
RequestId = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class Command(Record):
    """What a client asks for. `command` is an OPC 40100-1 method name or stands in the ``inspectd.`` namespace."""

    request_id: RequestId
    command: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    arguments: dict[str, Any] = Field(default_factory=dict)


class Reply(Record):
    """The answer. `request_id` is empty when the message was too broken to read one."""

    request_id: str = ""
    error: int = 0
    message: str = ""
    result: dict[str, Any] = Field(default_factory=dict)


def parse_command(data: bytes) -> Command:
    """Read a command. Raises `ProtocolError` with one sentence on what is wrong."""
    if len(data) > MAX_MESSAGE:
        raise ProtocolError(f"the message has {len(data)} bytes; at most {MAX_MESSAGE} are accepted")
    try:
        return Command.model_validate(_json_object(data), strict=True)
    except ValidationError as error:
        detail = error.errors()[0]
        key = ".".join(str(part) for part in detail["loc"])
        raise ProtocolError(f"malformed command: {key}: {detail['msg'].lower()}") from error


def parse_reply(data: bytes) -> Reply:
    """Read a reply. Raises `ProtocolError`."""
    try:
        return Reply.model_validate(_json_object(data))
    except ValidationError as error:
        raise ProtocolError(f"the answer is not a reply of inspectd: {error.errors()[0]['msg']}") from error


def request_id_of(data: bytes) -> str:
    """Return the request id of a message that may be otherwise broken, or an empty string."""
    try:
        value = _json_object(data).get("request_id", "")
    except ProtocolError:
        return ""
    return value if isinstance(value, str) and len(value) <= 128 else ""


def _finite(number: str) -> float:
    # Python reads NaN, Infinity and 1e999, which are no JSON numbers and which no reply, row or digest can hold.
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number} is not a number of JSON")
    return value


def _json_object(data: bytes) -> dict[str, Any]:
    try:
        text = data.decode("utf-8-sig")
        value = json.loads(text, parse_constant=_finite, parse_float=_finite)
        if "\\u" in text:
            # An escape may stand for half a character; neither a reply nor a row can hold one.
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ProtocolError("the message is not JSON in UTF-8; send one JSON object in one frame") from error
    if not isinstance(value, dict):
        raise ProtocolError(f"the message is a JSON {type(value).__name__}, not an object")
    return value
