"""The command table and its documentation say the same. Run as a module to write the table anew."""

from __future__ import annotations

import types
import typing
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo

from cell.errors import ProtocolError
from daemon.vocabulary import COMMANDS, parse

DOCUMENT = Path(__file__).parents[2] / "docs" / "commands.md"
_BEGIN, _END = "<!-- table:", "<!-- end of table -->"


def _type_name(annotation: object) -> str:
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return " or ".join(_type_name(part) for part in typing.get_args(annotation) if part is not type(None))
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _type_name(typing.get_args(annotation)[0])
    if origin is tuple:
        return f"list of {_type_name(typing.get_args(annotation)[0])}"
    if origin is dict:
        return "object"
    return {"str": "text", "int": "whole number", "float": "number", "bool": "yes/no"}.get(
        getattr(annotation, "__name__", str(annotation)), getattr(annotation, "__name__", str(annotation))
    )


def _argument(name: str, field: FieldInfo) -> str:
    shown = f"`{name}` ({_type_name(field.annotation)})"
    return f"**{shown}**" if field.is_required() else shown


def table() -> str:
    """Return the table in Markdown; required arguments are bold."""
    rows = ["| command | once | arguments | what it does | result |", "| --- | --- | --- | --- | --- |"]
    for name, spec in COMMANDS.items():
        arguments = ", ".join(_argument(key, field) for key, field in spec.arguments.model_fields.items()) or "-"
        once = "once" if spec.has_effect else ""
        rows.append(f"| `{name}` | {once} | {arguments} | {spec.summary} | {spec.result} |")
    return "\n".join(rows)


def _split() -> tuple[str, str, str]:
    text = DOCUMENT.read_text(encoding="utf-8")
    start = text.index("\n", text.index(_BEGIN)) + 1
    end = text.index(_END)
    return text[:start], text[start:end], text[end:]


def test_the_document_holds_the_table() -> None:
    assert _split()[1].strip() == table(), "run python -m tests.daemon.test_vocabulary"


@pytest.mark.parametrize("command", COMMANDS)
def test_unknown_arguments_are_refused_by_name(command: str) -> None:
    with pytest.raises(ProtocolError, match="Surprise"):
        parse(command, _least(command) | {"Surprise": 1})


def test_an_unknown_command_is_refused() -> None:
    with pytest.raises(ProtocolError, match="no command 'Explode'"):
        parse("Explode", {})


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("StartSingleJob", {}),
        ("StartSingleJob", {"PartId": ""}),
        ("StartSingleJob", {"PartId": "x" * 129}),
        ("StartSingleJob", {"PartId": ["x"]}),
        ("PrepareRecipe", {"RecipeId": "../../etc"}),
        ("GetResultListFiltered", {"MaxResults": 0}),
        ("GetResultListFiltered", {"MaxResults": 10**9}),
        ("GetConfigurationById", {"ConfigurationId": "abc"}),
        ("inspectd.report_part", {"part_id": "p", "outcome": "good"}),
        ("AddRecipe", {"Recipe": {"recipe_id": "x"}}),
        ("inspectd.events", {"since": -1}),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(command: str, arguments: dict[str, object]) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse(command, arguments)
    assert "\n" not in str(caught.value)


def _least(command: str) -> dict[str, object]:
    known: dict[str, object] = {
        "RecipeId": "r",
        "PartId": "p",
        "ResultId": "j1",
        "ConfigurationId": "0" * 64,
        "part_id": "p",
        "trigger_count": 1,
        "what": "lamp",
        "outcome": "OK",
        "kind": "repeats",
        "model": "m",
        "Recipe": {
            "recipe_id": "r",
            "product": "p",
            "height": 8,
            "width": 8,
            "channels": [{"name": "c", "exposure_us": 1, "lights": {"l": 1}}],
            "defect_classes": [{"name": "d"}],
        },
    }
    fields = COMMANDS[command].arguments.model_fields
    return {name: known[name] for name, field in fields.items() if field.is_required()}


def _write() -> None:
    before, _, after = _split()
    DOCUMENT.write_text(f"{before}\n{table()}\n\n{after}", encoding="utf-8")


if __name__ == "__main__":
    _write()
