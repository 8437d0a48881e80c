"""What a person writes when he asks for candidates, as the arguments of ``inspectd.generate``.

The console and the pages read it here alike; what may be asked is the trainer's to judge, once, when it is asked.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from typing import Any

from cell.errors import ProtocolError

#: Targets that take a unit behind their range, and the key that tells it.
UNIT_KEYS = {"severity": "severity_unit", "size": "size_unit"}
_WORDS = {"orientation": "as-seeds"}


def plan_of(text: str, *, is_json: bool = False, name: str = "the plan") -> dict[str, Any]:
    """Return the `control` and `class_control` of a plan's text, TOML or JSON. Raises `ProtocolError`."""
    try:
        read: Any = json.loads(text) if is_json else tomllib.loads(text)
    except (json.JSONDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ProtocolError(f"{name} can't be read as a plan: {error}") from error
    if not isinstance(read, dict) or not isinstance(read.get("class", {}), dict):
        raise ProtocolError(f"{name} is no plan: it needs targets, and tables [class.NAME] for single classes")
    return {
        "control": {key: value for key, value in read.items() if key != "class"},
        "class_control": read.get("class", {}),
    }


def targets_of(texts: Mapping[str, str]) -> dict[str, Any]:
    """Return what the texts of single targets ask for, by key of `control`; empty texts ask for nothing.

    :param texts: by name: ranges "LOW:HIGH", "LOW:HIGH UNIT" for severity and size, "as-seeds" for the orientation, and
        zones "X,Y,WIDTHxHEIGHT", several of them with a semicolon or a line end between.
    :raises ProtocolError: a text is none of these.
    """
    asked: dict[str, Any] = {}
    for name, text in texts.items():
        written = text.strip()
        if not written:
            continue
        if name == "zones":
            asked["zones"] = [_zone(one) for one in written.replace("\n", ";").split(";") if one.strip()]
        elif written == _WORDS.get(name):
            asked[name] = written
        else:
            asked |= _range(name, written)
    return asked


def _range(name: str, text: str) -> dict[str, Any]:
    span, _, unit = text.partition(" ") if name in UNIT_KEYS else (text, "", "")
    try:
        low, high = (float(number) for number in span.split(":"))
    except ValueError as error:
        raise ProtocolError(f"{name} is LOW:HIGH, not {text[:40]}") from error
    # The wire tells 2 from 2.0, and a number of defects is a whole one.
    ends = [int(end) if name == "count" and end.is_integer() else end for end in (low, high)]
    return {name: ends} | ({UNIT_KEYS[name]: unit.strip()} if unit.strip() else {})


def _zone(text: str) -> dict[str, int]:
    try:
        x, y, extent = text.split(",")
        width, height = extent.lower().split("x")
        return {"x": int(x), "y": int(y), "width": int(width), "height": int(height)}
    except ValueError as error:
        raise ProtocolError(f"a zone is X,Y,WIDTHxHEIGHT in pixels of the frame, not {text.strip()[:40]}") from error
