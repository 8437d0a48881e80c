"""The one preprocessing (owned by the detector; this is its first shape)."""

from __future__ import annotations

from cell.base import Record


class Preprocessing(Record):
    """How raw stacks become network input."""

    kind: str = "local-contrast"
    multiple: int = 16
