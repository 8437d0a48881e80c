"""Output: short aligned tables for people, one JSON document for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

_STYLES = {
    "OK": "green", "NG": "bold red", "FAULT": "bold yellow", "done": "green", "running": "cyan", "failed": "red",
    "interrupted": "yellow", "cancelled": "yellow", "accepted": "green", "rejected": "red", "confirmed": "green",
}  # fmt: skip
#: Width of output that is not a terminal: nothing is cut off for a program that reads it.
_PIPED = 400


def console(*, stderr: bool = False) -> Console:
    """Return a console that wraps for terminals only."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, highlight=False, markup=False, width=None if stream.isatty() else _PIPED)


def as_json(document: object) -> None:
    """Write one JSON document to stdout."""
    sys.stdout.write(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def json_line(document: object) -> None:
    """Write one JSON document on a line of its own, at once: for what goes on until it is stopped."""
    sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def table(headers: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """Write an aligned table, or the sentence `empty` when there are no rows. Numbers stand to the right."""
    listed = [list(row) for row in rows]
    if not listed:
        line(empty)
        return
    shown = Table(box=None, pad_edge=False, show_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for index, header in enumerate(headers):
        numeric = all(isinstance(row[index], int | float) for row in listed)
        shown.add_column(header, justify="right" if numeric else "left", no_wrap=True)
    for row in listed:
        shown.add_row(*(_cell(value) for value in row))
    out = console()
    with out.capture() as drawn:
        out.print(shown)
    # The table fills every row with spaces up to its width.
    sys.stdout.write("".join(f"{row.rstrip()}\n" for row in drawn.get().splitlines()))


def facts(pairs: Iterable[tuple[str, object]]) -> None:
    """Write names and values, the names aligned to the right as systemctl does; empty values are left out."""
    shown = [(name, _cell(value)) for name, value in pairs if value not in ("", None)]
    width = max((len(name) for name, _ in shown), default=0)
    out = console()
    for name, value in shown:
        out.print(Text(f"{name:>{width + 2}}: ") + value, soft_wrap=True)


def line(text: str) -> None:
    """Write one line."""
    console().print(Text(text), soft_wrap=True)


def hint(text: str) -> None:
    """Write one line to stderr, where it is in no program's way."""
    console(stderr=True).print(Text(text), soft_wrap=True)


def when(value: object) -> str:
    """Return an instant in this machine's time, to the second."""
    if not value:
        return ""
    at = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def figure(value: object, digits: int = 3) -> str:
    """Return a number with few digits, a dash for none."""
    return f"{value:.{digits}f}" if isinstance(value, int | float) else "-"


def short(digest: object) -> str:
    """Return the first characters of a digest: enough to name it."""
    return str(digest or "")[:12]


def share(done: int, total: int) -> str:
    """Return progress in per cent."""
    return f"{100 * done / total:.0f} %" if total else ""


def pick(record: dict[str, Any], *keys: str) -> list[object]:
    """Return some values of a record as cells."""
    return [record.get(key, "") for key in keys]


def _cell(value: object) -> Text:
    if isinstance(value, Text):
        return value
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    if isinstance(value, float):
        return Text(f"{value:.3f}")
    text = "" if value is None else str(value)
    return Text(text, style=_STYLES.get(text, ""))
