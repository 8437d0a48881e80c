"""Processors that sleep lightly while a recipe is prepared, so that a trigger, a frame and an answer wake them at once.

A part's way through the daemon is a dozen hand-overs between threads and processes, and each may first have to wake a
processor. How deep those may sleep is asked of Linux through ``/dev/cpu_dma_latency``: four bytes, the longest wake-up
in microseconds that is borne, in force as long as the file stays open and so at most as long as this process
(Documentation/power/pm_qos_interface.rst). It costs power, which is why it is asked for in production only.
"""

from __future__ import annotations

import contextlib
import logging
import os
import struct
from pathlib import Path

_LOG = logging.getLogger(__name__)

DEVICE = Path("/dev/cpu_dma_latency")


class LightSleep:
    """Asks for light sleep, or no longer. A machine that does not offer it, or not to this user, runs without.

    For one thread at a time.
    """

    def __init__(self, device: Path = DEVICE) -> None:
        self._device = device
        self._descriptor: int | None = None
        self._told = False

    @property
    def held(self) -> bool:
        """Tell whether it is asked for now."""
        return self._descriptor is not None

    def follow(self, wanted: bool) -> None:
        """Ask for it, or let it go. Never raises."""
        if not wanted:
            self.close()
        elif self._descriptor is None:
            self._open()

    def close(self) -> None:
        """Let the processors sleep as deep as they like. May be called again."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _open(self) -> None:
        try:
            descriptor = os.open(self._device, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(descriptor, struct.pack("=i", 0))
            except OSError:
                os.close(descriptor)
                raise
        except OSError as error:
            if not self._told:
                self._told = True
                _LOG.info(
                    "processors sleep as deep as they like (%s: %s): a part takes some milliseconds longer; "
                    "systemd/tmpfiles.d/inspectd.conf gives the group inspectd that file",
                    self._device,
                    error.strerror,
                )
            return
        self._descriptor = descriptor
