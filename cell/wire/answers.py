"""What the faces make of a server's answer."""

from __future__ import annotations

from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from cell.errors import ProtocolError

T = TypeVar("T")


def parsed(adapter: TypeAdapter[T], value: object, what: str) -> T:
    """Return the record, or records, that a server sent. Raises `ProtocolError` when it is none."""
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise ProtocolError(f"the answer holds no {what}; do all programs have the same version?") from error
