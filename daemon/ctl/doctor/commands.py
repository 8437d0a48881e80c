"""``inspectctl doctor camera``."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from cell.errors import InspectdError
from daemon.ctl import bench, render
from daemon.ctl.doctor import host, network, usb
from daemon.ctl.doctor.machine import Check, Level, Machine
from daemon.ctl.session import Session, session_of

group = typer.Typer(help="Find what goes wrong in the field: camera.", no_args_is_help=True)
Facts = dict[str, Any]

_STYLES = {Level.OK: "green", Level.ADVICE: "yellow", Level.WRONG: "bold red", Level.UNKNOWN: "dim"}
#: Above this a camera's sensor gets noisy, and its maker's limit is near, degrees Celsius.
_HOT_C = 75.0
_JUMBO = 8000


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(group, name="doctor")


@group.command("camera")
def camera(
    context: typer.Context,
    opens: Annotated[bool, typer.Option("--open/--no-open", help="Ask the cameras themselves as well.")] = True,
) -> None:
    """Check what loses frames: network, USB, libraries, memory, clock, and the cameras themselves.

    Changes nothing and needs no root. Ends with 1 when something is WRONG; advice alone ends with 0.
    """
    session = session_of(context)
    checks = look(session, Machine(), opens=opens)
    passed = all(check.level is not Level.WRONG for check in checks)
    if session.as_json:
        rows = [
            {"check": c.name, "level": c.level.value, "found": c.found, "wanted": c.wanted, "mend": c.mend}
            for c in checks
        ]
        render.as_json({"passed": passed, "checks": rows})
    else:
        show(checks)
    raise typer.Exit(0 if passed else 1)


def look(session: Session, machine: Machine, *, opens: bool = True) -> list[Check]:
    """Return all checks in the order in which a frame meets what they are about."""
    found, told = _cameras(session) if opens else ([], [])
    addresses = tuple(str(facts["address"]) for facts in told if facts.get("address"))
    return [*found, *network.checks(machine, addresses), *usb.checks(machine), *host.checks(machine, session.settings)]


def show(checks: list[Check]) -> None:
    """Write the checks for a person, and below them the commands that mend what is not as it should be."""
    rows = [(c.name, Text(c.level.value, style=_STYLES[c.level]), c.found, c.wanted) for c in checks]
    render.table(("CHECK", "", "FOUND", "WANTED"), rows, "")
    todo = [check for check in checks if check.mend and check.level is not Level.OK]
    for check in todo:
        render.line("")
        render.line(f"{check.name}: {check.found}")
        render.line(f"    {check.mend}")


def _cameras(session: Session) -> tuple[list[Check], list[Facts]]:
    """Ask the cameras; one that does not answer is a finding, not the end of the checks."""
    try:
        with bench.opened(session) as hardware:
            told = hardware.cameras()
            through = "the daemon" if hardware.through_daemon else "this program"
    except InspectdError as error:
        return [Check("cameras", Level.WRONG, str(error), "they answer", "see the sentence, and the checks below")], []
    return [check for facts in told for check in _camera(facts, through)], told


def _camera(facts: Facts, through: str) -> list[Check]:
    role, well = facts["camera"], facts["state"] == "well"
    who = " ".join(str(facts[key]) for key in ("vendor", "model", "name") if facts[key])
    kind = " (emulated)" if facts["emulated"] else ""
    level = Level.OK if well else Level.WRONG
    mend = "" if well else "its cable and power; inspectctl status and inspectctl logs inspectd say more"
    found = [Check(role, level, f"{who}{kind}, {facts['state']}, asked by {through}", "answers", mend)]
    if facts["recoveries"]:
        times = f"brought back {facts['recoveries']} times since the daemon started"
        found.append(
            Check(f"{role} losses", Level.ADVICE, times, "never", "its cable, power and port; the checks below")
        )
    warm = facts["temperature_c"]
    if isinstance(warm, int | float):
        hot = warm > _HOT_C
        mend = "a heat sink, or a mount that leads heat away" if hot else ""
        level = Level.WRONG if hot else Level.OK
        found.append(Check(f"{role} temperature", level, f"{warm:.1f} C", f"below {_HOT_C:.0f} C", mend))
    packet = facts["packet_size"]
    # An emulated camera tells a packet size too, and sends no packets.
    if isinstance(packet, int) and packet and not facts["emulated"]:
        small = packet < _JUMBO
        mend = "jumbo frames on the interface and on each switch; then GevSCPSPacketSize of the camera" if small else ""
        level = Level.ADVICE if small else Level.OK
        found.append(Check(f"{role} packet size", level, f"{packet} bytes", f"{_JUMBO} or more", mend))
    return found
