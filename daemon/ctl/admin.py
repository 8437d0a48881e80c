"""Care of the machine: logs, keys, selftest."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from cell.errors import ConfigurationError, DataError, InspectdError
from cell.recipes import Recipe
from cell.wire import security
from daemon.ctl import render
from daemon.ctl.session import Session, session_of

keys = typer.Typer(help="CURVE keys for connections that leave this machine.", no_args_is_help=True)
_OF_DAEMON = frozenset({"model", "conditions"})
UNITS = ("inspectd", "inspectd-trainer", "inspectd-web")
Folder = Annotated[Path | None, typer.Option(help="Folder of the keys; default wire.keys, or keys/ in state_dir.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(logs)
    app.add_typer(keys, name="keys")
    app.command()(selftest)


def logs(
    context: typer.Context,
    unit: Annotated[str, typer.Argument(help="inspectd, inspectd-trainer or inspectd-web; default all.")] = "",
    lines: Annotated[int, typer.Option("-n", "--lines", min=1, help="Of the last so many.")] = 50,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="And what comes.")] = False,
) -> None:
    """Show the journal of the services."""
    session = session_of(context)
    if unit and unit not in UNITS:
        raise typer.BadParameter(f"there is no unit {unit}; there are {', '.join(UNITS)}")
    if shutil.which("journalctl") is None:
        raise ConfigurationError(
            "there is no journalctl on this machine; read what the programs write to stderr where you started them"
        )
    command = ["journalctl", "--no-pager", "-n", str(lines)]
    command += [word for name in ([unit] if unit else UNITS) for word in ("-u", name)]
    if session.as_json:
        done = subprocess.run([*command, "-o", "json"], check=False, capture_output=True, text=True)
        render.as_json({"entries": [json.loads(entry) for entry in done.stdout.splitlines() if entry.startswith("{")]})
    else:
        done = subprocess.run([*command, *(["-f"] if follow else [])], check=False, text=True)
    if done.returncode:
        raise ConfigurationError("journalctl could not read the journal; are you in the group systemd-journal?")


@keys.command()
def create(context: typer.Context, folder: Folder = None) -> None:
    """Make the server's keys and those of the tools on this machine."""
    session = session_of(context)
    where = _folder(session, folder)
    security.create_server_keys(where)
    _told(session, where, f"made keys in {where}; set wire.keys to it and start the services again")


@keys.command()
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the client, e.g. plc-3.")],
    target: Annotated[Path, typer.Argument(help="New folder with what the client needs.")],
    folder: Folder = None,
) -> None:
    """Let a client in: writes the folder that it takes with it."""
    session = session_of(context)
    where = _folder(session, folder)
    security.issue_client(where, name, target)
    _told(session, target, f"{name} may connect with the keys in {target}; move them there, they are secret")


@keys.command("list")
def list_keys(context: typer.Context, folder: Folder = None) -> None:
    """List the clients that may connect."""
    session = session_of(context)
    names = sorted(file.stem for file in (_folder(session, folder) / "clients").glob("*.key"))
    if session.as_json:
        render.as_json({"clients": names})
    else:
        render.table(("CLIENT",), [(name,) for name in names], "no client may connect; inspectctl keys add lets one in")


def selftest(context: typer.Context) -> None:
    """Check what must be right for parts to be judged; ends with 1 when something is not."""
    session = session_of(context)
    checks: list[tuple[str, Callable[[Session], str]]] = [
        ("settings", _settings),
        ("state directory", _state),
        ("recipes", _recipes),
        ("daemon", _daemon),
        ("model", _model),
        ("conditions", _conditions),
        ("trainer", lambda session: f"version {session.trainer('inspectd.trainer.status')['version']}"),
    ]
    found: list[dict[str, Any]] = []
    silent = False
    for name, check in checks:
        if silent and name in _OF_DAEMON:
            continue
        try:
            found.append({"check": name, "ok": True, "detail": check(session)})
        except InspectdError as error:
            found.append({"check": name, "ok": False, "detail": str(error)})
            silent = silent or name == "daemon"
    passed = all(entry["ok"] for entry in found)
    if session.as_json:
        render.as_json({"passed": passed, "checks": found})
    else:
        rows = [(e["check"], "ok" if e["ok"] else "WRONG", e["detail"]) for e in found]
        render.table(("CHECK", "", "DETAIL"), rows, "")
    raise typer.Exit(0 if passed else 1)


def _settings(session: Session) -> str:
    return f"cell {session.settings.cell_name}, camera {session.settings.camera.driver}"


def _state(session: Session) -> str:
    root = session.settings.state_dir
    if not root.is_dir():
        raise ConfigurationError(f"there is no folder {root}; start inspectd once or set state_dir")
    free_mb = shutil.disk_usage(root).free // 1_000_000
    if free_mb < session.settings.minimum_free_mb:
        raise DataError(f"{free_mb} MB are free in {root}, {session.settings.minimum_free_mb} are needed; make room")
    return f"{root}, {free_mb} MB free"


def _recipes(session: Session) -> str:
    names = []
    for file in sorted(session.settings.recipes_dir.glob("*.json")):
        try:
            names.append(Recipe.model_validate_json(file.read_bytes()).recipe_id)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"the recipe {file} can't be used; inspectctl recipe add tells why") from error
    if not names:
        raise ConfigurationError(f"there is no recipe in {session.settings.recipes_dir}; put one there")
    return ", ".join(names)


def _daemon(session: Session) -> str:
    found = session.daemon("inspectd.status")
    return (
        f"version {found['version']}, {found['state']['name']}, {'emulated' if found['emulated'] else 'real'} hardware"
    )


def _model(session: Session) -> str:
    found = session.daemon("inspectd.status")
    if found["recipe"] is None:
        return "no recipe is prepared"
    model = found["model"]
    if model is None:
        raise ConfigurationError(f"no model is deployed for {found['recipe']['recipe_id']}: every verdict is FAULT")
    return f"{model['model_id']}, golden images within {model['golden_difference']:.2g}"


def _conditions(session: Session) -> str:
    conditions = session.daemon("inspectd.status")["conditions"]
    found = [condition for condition in conditions if not condition["resolved_at"]]
    if found:
        raise DataError("; ".join(f"{condition['name']}: {condition['message']}" for condition in found))
    return "none"


def _folder(session: Session, folder: Path | None) -> Path:
    return folder or session.settings.wire.keys or session.settings.state_dir / "keys"


def _told(session: Session, folder: Path, text: str) -> None:
    if session.as_json:
        render.as_json({"folder": str(folder)})
    else:
        render.line(text)
