"""What the account that opens the cameras may do: real-time priority for the receiver, and nodes on the USB."""

from __future__ import annotations

import re

from daemon.ctl.doctor.machine import Check, Level, Machine

_UNITS = ("etc/systemd/system/inspectd.service", "lib/systemd/system/inspectd.service")
_RULES = ("etc/udev/rules.d", "run/udev/rules.d", "usr/lib/udev/rules.d", "lib/udev/rules.d")
#: USB vendor ids of camera makers, from the public list of linux-usb.org.
_MAKERS = {
    "2676": "Basler",
    "1ab2": "Allied Vision",
    "1e10": "Teledyne FLIR",
    "1409": "IDS",
    "2825": "Baumer",
    "199e": "The Imaging Source",
    "2ba2": "Daheng",
    "2bdf": "Hikrobot",
    "164c": "Matrix Vision",
}
#: What the unit grants: enough for pylon's receiver.
_PRIORITY = 50


def priority(machine: Machine) -> Check:
    """Return whether a camera's receiver may run before everything else: a loaded box drops GigE packets otherwise."""
    account, *_ = machine.user()
    name, wanted = "real-time permission", f"{account} may set real-time priority"
    for unit in _UNITS:
        granted = re.search(r"^LimitRTPRIO=(\d+)", machine.text(unit) or "", re.MULTILINE)
        if granted and int(granted[1]):
            return Check(name, Level.OK, f"LimitRTPRIO={granted[1]} in /{unit}", wanted)
    limit = machine.priority_limit()
    if limit:
        return Check(name, Level.OK, f"up to priority {limit}", wanted)
    mend = (
        f"run inspectd by its unit, which grants it; else echo '{account} - rtprio {_PRIORITY}' | "
        "sudo tee /etc/security/limits.d/90-cameras.conf, and log in anew"
    )
    return Check(name, Level.ADVICE, "none: a loaded machine drops GigE packets", wanted, mend)


def usb_rules(machine: Machine) -> Check:
    """Return whether a USB3 Vision camera could be opened once it is plugged in, by the rules for its maker."""
    account, *_ = machine.user()
    name, wanted = "USB permission", f"a udev rule, so that {account} may open the camera"
    files = [file for folder in _RULES for file in machine.entries(folder) if file.suffix == ".rules"]
    makers: dict[str, str] = {}
    for file in files:
        text = (machine.text(machine.inside(file)) or "").lower()
        found = {number for number in re.findall(r'idvendor\}=="([0-9a-f]{4})"', text) if number in _MAKERS}
        # A rule that only names a device opens nothing.
        if re.search(r"\b(mode|group|tag)\s*\+?:?=", text):
            makers |= {_MAKERS[number]: file.name for number in found}
    if makers:
        told = ", ".join(f"{maker} ({file})" for maker, file in sorted(makers.items()))
        return Check(name, Level.OK, f"no camera is plugged in; rules for {told}", wanted)
    mend = "for a USB3 camera: install its maker's udev rules, plug it in, and run this again for the exact rule"
    return Check(name, Level.ADVICE, "no camera is plugged in, and no rule for one", wanted, mend)
