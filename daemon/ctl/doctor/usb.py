"""USB3 Vision: found by the interface class that the standard gives them (EF, subclass 05), whoever made them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from daemon.ctl.doctor import permissions
from daemon.ctl.doctor.machine import Check, Level, Machine

_CLASS, _SUBCLASS = "ef", "05"
#: Recommended by the makers of USB3 Vision cameras; the kernel's own is 16, less than one frame of 20 MP.
_USBFS_MB = 1000
_SUPERSPEED = 5000
_PARAMETER = "sys/module/usbcore/parameters/usbfs_memory_mb"


@dataclass(frozen=True, slots=True)
class Device:
    """A USB3 Vision camera on the bus."""

    name: str
    vendor: str
    speed_mbit: int
    node: Path


def checks(machine: Machine) -> list[Check]:
    """Return the checks of USB."""
    cameras = devices(machine)
    found = [_memory(machine, bool(cameras))]
    if not cameras:
        found.append(permissions.usb_rules(machine))
    for camera in cameras:
        found += [_speed(camera), _permission(machine, camera)]
    return found


def devices(machine: Machine) -> list[Device]:
    """Return the USB3 Vision cameras that are plugged in."""
    found: dict[str, Device] = {}
    for folder in machine.entries("sys/bus/usb/devices"):
        base = machine.inside(folder)
        kind = (machine.text(f"{base}/bInterfaceClass"), machine.text(f"{base}/bInterfaceSubClass"))
        if kind != (_CLASS, _SUBCLASS):
            continue
        device = folder.name.partition(":")[0]
        up = f"sys/bus/usb/devices/{device}"
        bus, number = machine.number(f"{up}/busnum") or 0, machine.number(f"{up}/devnum") or 0
        found[device] = Device(
            name=machine.text(f"{up}/product") or device,
            vendor=machine.text(f"{up}/idVendor") or "",
            speed_mbit=machine.number(f"{up}/speed") or 0,
            node=machine.root / f"dev/bus/usb/{bus:03d}/{number:03d}",
        )
    return list(found.values())


def _memory(machine: Machine, matters: bool) -> Check:
    value = machine.number(_PARAMETER)
    if value is None:
        mend = "for a USB3 camera: sudo modprobe usbcore, and run this again"
        return Check("USB memory", Level.UNKNOWN, "the kernel has no USB", f"{_USBFS_MB} MB or more", mend)
    enough = value == 0 or value >= _USBFS_MB  # 0: no limit
    mend = (
        f"echo {_USBFS_MB} | sudo tee /{_PARAMETER}, and usbcore.usbfs_memory_mb={_USBFS_MB} on the kernel command line"
    )
    level = Level.OK if enough else Level.WRONG if matters else Level.ADVICE
    return Check("USB memory", level, f"usbfs_memory_mb = {value}", f"{_USBFS_MB} or more", "" if enough else mend)


def _speed(camera: Device) -> Check:
    fast = camera.speed_mbit >= _SUPERSPEED
    mend = "" if fast else "a USB 3 port and a cable for it: this link is USB 2"
    level = Level.OK if fast else Level.WRONG
    return Check(f"{camera.name} link", level, f"{camera.speed_mbit} Mbit/s", f"{_SUPERSPEED} or more", mend)


def _permission(machine: Machine, camera: Device) -> Check:
    name = f"{camera.name} permission"
    account, *_ = machine.user()
    try:
        allowed, told = machine.may_write(camera.node)
    except OSError:
        return Check(name, Level.UNKNOWN, f"there is no /{machine.inside(camera.node)}", f"{account} may write it")
    rule = (
        f'echo \'SUBSYSTEM=="usb", ATTR{{idVendor}}=="{camera.vendor}", MODE="0660", GROUP="{account}"\' | '
        "sudo tee /etc/udev/rules.d/90-cameras.rules && sudo udevadm control --reload && sudo udevadm trigger"
    )
    level = Level.OK if allowed else Level.WRONG
    return Check(name, level, f"/{machine.inside(camera.node)} {told}", f"{account} may write", "" if allowed else rule)
