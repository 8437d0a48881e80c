"""Which cameras the vendors' libraries find, opened or not: what a person needs before `camera.device` can be set."""

from __future__ import annotations

import contextlib
from typing import Any

from cell.errors import CameraError, InspectdError
from cell.settings import CameraSettings, Settings
from drivers.cameras import genicam, pylon
from drivers.cameras.gentl import list_devices, require_producers

Facts = dict[str, Any]

#: What pylon tells of a device that it did not open; not every transport has all.
_OF_PYLON = {
    "name": "GetSerialNumber",
    "user_id": "GetUserDefinedName",
    "vendor": "GetVendorName",
    "model": "GetModelName",
    "transport": "GetDeviceClass",
    "address": "GetIpAddress",
    "interface": "GetInterface",
}


def discover(settings: Settings) -> tuple[list[Facts], list[str]]:
    """Return the cameras that the settings' drivers find, and a sentence for each driver that could not look.

    Looks on every network and bus, which takes a second or two. The simulated driver finds nothing.
    """
    found: list[Facts] = []
    problems: list[str] = []
    cameras = (settings.camera, *settings.cameras.values())
    try:
        if any(camera.driver == "pylon" for camera in cameras):
            found += _by_pylon()
    except InspectdError as error:
        problems.append(str(error))
    # Several cameras may share their producers, which are asked once.
    asked: set[tuple[str, ...]] = set()
    for camera in cameras:
        key = tuple(str(file) for file in camera.producers)
        if camera.driver != "genicam" or key in asked:
            continue
        asked.add(key)
        try:
            found += _by_gentl(camera)
        except InspectdError as error:
            problems.append(str(error))
    return found, problems


def _by_pylon() -> list[Facts]:
    library = pylon.sdk()
    try:
        devices = library.TlFactory.GetInstance().EnumerateDevices()
        return [{"driver": "pylon", **_told(device, library.GenericException)} for device in devices]
    except library.GenericException as error:
        raise CameraError(f"pylon can't look for cameras: {' '.join(str(error).split())}") from error


def _told(device: Any, error: type[Exception]) -> Facts:
    facts: Facts = dict.fromkeys(_OF_PYLON, "")
    for key, method in _OF_PYLON.items():
        with contextlib.suppress(error, AttributeError):
            facts[key] = str(getattr(device, method)())
    # pylon says N/A for what a transport has not.
    return {key: "" if value == "N/A" else value for key, value in facts.items()}


def _by_gentl(settings: CameraSettings) -> list[Facts]:
    core, gentl, genapi_error, _ = genicam.sdk()
    errors = (gentl.GenericException, genapi_error, RuntimeError, AttributeError)
    producers = require_producers(settings)
    harvester = core.Harvester()
    try:
        for producer in producers:
            harvester.add_file(str(producer), check_existence=True, check_validity=True)
        harvester.update()
        devices = list_devices(harvester.device_info_list, errors)
    except (*errors, OSError) as error:
        raise CameraError(f"the GenTL producers can't look for cameras: {' '.join(str(error).split())}") from error
    finally:
        with contextlib.suppress(*errors):
            harvester.reset()
    return [
        {
            "driver": "genicam",
            "name": device.name,
            "user_id": "",
            "vendor": device.vendor,
            "model": next((name for name in sorted(device.names) if name != device.name), ""),
            "transport": "",
            "address": "",
            "interface": "",
        }
        for device in devices
    ]
