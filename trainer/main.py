"""``inspectd-trainer``: the trainer service of one cell.

Ends with status 0 on SIGTERM and SIGINT, and with the error's own status (see :mod:`cell.errors`) when it can't start.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import sdnotify

from cell import settings
from cell.clock import monotonic
from cell.errors import InspectdError
from trainer.service import TrainerService

_LOG = logging.getLogger("inspectd-trainer")


class Watchdog:
    """Tells systemd that the service is up and, as often as it asks for, that its loop still turns."""

    def __init__(self) -> None:
        self._notifier = sdnotify.SystemdNotifier()
        # A third of the time-out: one late turn of the loop is no reason to be killed.
        self._every_s = int(os.environ.get("WATCHDOG_USEC", "0")) / 3e6
        self._due = 0.0

    def tell(self, state: str) -> None:
        """Send a state such as ``READY=1``; does nothing outside systemd."""
        self._notifier.notify(state)

    def feed(self) -> None:
        """Tell that the loop turned, when it is time to."""
        if self._every_s and monotonic() >= self._due:
            self._due = monotonic() + self._every_s
            self.tell("WATCHDOG=1")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal; return the exit status."""
    parser = argparse.ArgumentParser(prog="inspectd-trainer", description="The trainer service of one inspection cell.")
    parser.add_argument(
        "--config", type=Path, help="settings file (default: $INSPECTD_CONFIG, /etc/inspectd/inspectd.toml)"
    )
    parser.add_argument("--verbose", action="store_true", help="log what is done, not only what went wrong")
    options = parser.parse_args(arguments)
    # Times stand in the journal; a line that starts with its name can be found there.
    logging.basicConfig(
        level=logging.INFO if options.verbose else logging.WARNING, format="%(name)s: %(levelname)s: %(message)s"
    )
    config: Path | None = options.config.absolute() if options.config is not None else None
    try:
        return _serve(config)
    except InspectdError as error:
        sys.stderr.write(f"inspectd-trainer: {error}\n")
        return error.exit_code


def _serve(config: Path | None) -> int:
    watchdog = Watchdog()
    service = TrainerService(settings.load(config), config)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: service.stop())
    watchdog.tell("READY=1")
    sys.stderr.write(f"inspectd-trainer: listening at {service.server.commands}\n")
    service.run(watchdog.feed)
    watchdog.tell("STOPPING=1")
    return 0


if __name__ == "__main__":
    sys.exit(main())
