"""GigE Vision: what loses packets between camera and host.

Values: Balluff's checklist for Linux (net.core.rmem_max 16 MiB at least, netdev_max_backlog 10000, rp_filter 2) and
docs/installation.md, which wants 32 MiB for several cameras. Jumbo frames: packets of 8 kB and more want an MTU of 9000
on the interface and on every switch in between. Makers' Ethernet prefixes are those of the IEEE's public list.
"""

from __future__ import annotations

from dataclasses import dataclass

from daemon.ctl.doctor.machine import Check, Level, Machine, sysctl

_MTU, _MTU_LEAST = 9000, 8000  # some cards stop at 8996 or 8192
_RMEM = 32 << 20
_BACKLOG = 10_000
_GIGABIT = 1000
_LOST = ("rx_missed_errors", "rx_fifo_errors", "rx_crc_errors")
#: Ethernet prefixes of camera makers, by which a neighbour in the ARP table is known for a camera.
_MAKERS = {
    "00:30:53": "Basler",
    "00:0f:31": "Allied Vision",
    "00:b0:9d": "Teledyne FLIR",
    "00:01:0d": "Teledyne DALSA",
    "1c:0f:af": "LUCID",
    "00:0c:df": "JAI",
    "00:06:be": "Baumer",
    "00:1b:a2": "IDS",
    "00:07:48": "The Imaging Source",
}
_ETHERNET = 1


@dataclass(frozen=True, slots=True)
class Interface:
    """A wired interface that is up. `cameras` are the makers of the cameras that were seen on it."""

    name: str
    mtu: int
    speed_mbit: int | None
    cameras: tuple[str, ...]


def checks(machine: Machine, addresses: tuple[str, ...] = ()) -> list[Check]:
    """Return the checks of the network; `addresses` are the cameras' own, where they tell them."""
    wired = interfaces(machine, addresses)
    carrying = [interface for interface in wired if interface.cameras]
    matters = bool(carrying)
    found = [check for interface in carrying or wired for check in _interface(machine, interface, matters)]
    if not wired:
        mend = "for a GigE camera: plug its cable in, sudo ip link set INTERFACE up mtu 9000, and run this again"
        found = [Check("MTU", Level.UNKNOWN, "no wired interface is up", f"{_MTU}, for each GigE camera", mend)]
    found += [
        _at_least(machine, "receive buffer", "net.core.rmem_max", _RMEM, matters),
        _at_least(machine, "packet queue", "net.core.netdev_max_backlog", _BACKLOG, matters),
        _datagrams(machine, matters),
        _firewall(machine, [interface.name for interface in carrying]),
    ]
    return found


def interfaces(machine: Machine, addresses: tuple[str, ...] = ()) -> list[Interface]:
    """Return the wired interfaces with a device behind them that are up."""
    neighbours = _neighbours(machine)
    found = []
    for folder in machine.entries("sys/class/net"):
        base = machine.inside(folder)
        is_wired = machine.number(f"{base}/type") == _ETHERNET and (folder / "device").exists()
        if not is_wired or (folder / "wireless").exists() or machine.text(f"{base}/operstate") != "up":
            continue
        cameras = [
            _MAKERS.get(mac[:8], "camera")
            for address, mac, interface in neighbours
            if interface == folder.name and (mac[:8] in _MAKERS or address in addresses)
        ]
        speed = machine.number(f"{base}/speed")
        mtu = machine.number(f"{base}/mtu") or 0
        found.append(Interface(folder.name, mtu, speed if speed and speed > 0 else None, tuple(cameras)))
    return found


def _interface(machine: Machine, interface: Interface, matters: bool) -> list[Check]:
    name, seen = interface.name, f" ({', '.join(sorted(set(interface.cameras)))})" if interface.cameras else ""
    bad = Level.WRONG if matters else Level.ADVICE
    jumbo = interface.mtu >= _MTU_LEAST
    found = [
        Check(
            f"{name}{seen} MTU",
            Level.OK if jumbo else bad,
            f"{interface.mtu}: {'jumbo frames' if jumbo else 'no jumbo frames'}",
            str(_MTU),
            "" if jumbo else f"sudo ip link set {name} mtu {_MTU}, and for good in netplan or NetworkManager",
        )
    ]
    if interface.speed_mbit is not None:
        fast = interface.speed_mbit >= _GIGABIT
        mend = "" if fast else "another cable (Cat 6) or port: the link fell back"
        found.append(
            Check(f"{name} link", Level.OK if fast else bad, f"{interface.speed_mbit} Mbit/s", "1000 or more", mend)
        )
    lost = {key: machine.number(f"sys/class/net/{name}/statistics/{key}") or 0 for key in _LOST}
    if any(lost.values()):
        told = ", ".join(f"{value} {key}" for key, value in lost.items() if value)
        found.append(
            Check(f"{name} losses", Level.ADVICE, told, "none since the start", f"sudo ethtool -G {name} rx 4096")
        )
    filtering = max(machine.number(f"proc/sys/net/ipv4/conf/{key}/rp_filter") or 0 for key in ("all", name))
    strict = filtering == 1
    found.append(
        Check(
            f"{name} reverse path filter",
            Level.ADVICE if strict else Level.OK,
            "strict: drops the answers of cameras in another subnet" if strict else "not strict",
            "not strict",
            sysctl(f"net.ipv4.conf.{name}.rp_filter", 2) if strict else "",
        )
    )
    return found


def _at_least(machine: Machine, name: str, key: str, wanted: int, matters: bool) -> Check:
    value = machine.number("proc/sys/" + key.replace(".", "/"))
    if value is None:
        return Check(name, Level.UNKNOWN, f"{key} can't be read", str(wanted))
    enough = value >= wanted
    level = Level.OK if enough else Level.WRONG if matters else Level.ADVICE
    return Check(name, level, f"{key} = {value}", f"{wanted} or more", "" if enough else sysctl(key, wanted))


def _datagrams(machine: Machine, matters: bool) -> Check:
    """Datagrams that the kernel threw away because nobody took them in time: lost packets, told by the loser."""
    rows = [line.split() for line in (machine.text("proc/net/snmp") or "").splitlines() if line.startswith("Udp:")]
    if len(rows) != 2:
        return Check("lost datagrams", Level.UNKNOWN, "proc/net/snmp does not tell", "0")
    counts = dict(zip(rows[0], rows[1], strict=False))
    lost = int(counts.get("RcvbufErrors", "0"))
    if not lost:
        return Check("lost datagrams", Level.OK, "0 since the start", "0")
    mend = "a larger receive buffer, jumbo frames, a longer GevSCPD (inter-packet delay) of the camera"
    return Check("lost datagrams", Level.WRONG if matters else Level.ADVICE, f"{lost} since the start", "0", mend)


def _firewall(machine: Machine, names: list[str]) -> Check:
    """A firewall that drops the cameras' packets looks like a camera that sends none."""
    ufw = "ENABLED=yes" in (machine.text("etc/ufw/ufw.conf") or "")
    firewalld = (machine.root / "run/firewalld.pid").exists()
    if not ufw and not firewalld:
        return Check("firewall", Level.OK, "neither ufw nor firewalld runs", "GigE Vision let in")
    name = names[0] if names else "INTERFACE"
    mend = f"sudo ufw allow in on {name}" if ufw else f"sudo firewall-cmd --zone=trusted --add-interface={name}"
    found = f"{'ufw' if ufw else 'firewalld'} runs"
    return Check("firewall", Level.ADVICE, found, "UDP from the cameras let in (3956 and their stream ports)", mend)


def _neighbours(machine: Machine) -> list[tuple[str, str, str]]:
    """Return (address, Ethernet address, interface) of the hosts that this one has spoken to."""
    lines = (machine.text("proc/net/arp") or "").splitlines()[1:]
    columns = [line.split() for line in lines]
    return [(row[0], row[3].lower(), row[5]) for row in columns if len(row) >= 6]
