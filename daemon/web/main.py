"""``inspectd-web``: serve the pages of one cell on loopback."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
from pathlib import Path

import sdnotify
import uvicorn

from cell import settings
from cell.errors import ConfigurationError, InspectdError
from daemon.web.app import create_app
from daemon.web.security import check_host

_BACKLOG = 64


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code; each error is one line on stderr."""
    parser = argparse.ArgumentParser(prog="inspectd-web", description="Review, seed, job and live pages of one cell.")
    parser.add_argument("--config", type=Path, help="settings file (default: INSPECTD_CONFIG or /etc/inspectd)")
    parser.add_argument("--port", type=int, help="instead of web.port; 0 takes a free one")
    options = parser.parse_args(arguments)
    try:
        serve(options.config, options.port)
    except InspectdError as error:
        sys.stderr.write(f"inspectd-web: {error}\n")
        return error.exit_code
    return 0


def serve(config: Path | None, port: int | None = None) -> None:
    """Serve until told to stop. Raises `ConfigurationError` when settings are wrong or the port is in use."""
    loaded = settings.load(config)
    check_host(loaded)
    app = create_app(loaded)
    listener = listen(loaded.web.host, loaded.web.port if port is None else port)
    host = f"[{loaded.web.host}]" if ":" in loaded.web.host else loaded.web.host
    sys.stdout.write(f"inspectd-web: http://{host}:{listener.getsockname()[1]}/review\n")
    sys.stdout.flush()
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            ws="none",
            timeout_keep_alive=30,
            timeout_graceful_shutdown=3,
        )
    )
    # uvicorn stops in good order at these signals and then raises them again, for handlers set before: being told to
    # stop is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    sdnotify.SystemdNotifier().notify("READY=1")
    server.run(sockets=[listener])


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises `ConfigurationError` when the address is taken or can't be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise ConfigurationError(
            f"can't serve at {host}:{port}: {reason.lower()}; stop what listens there or set web.port"
        ) from error
    return listener


if __name__ == "__main__":
    sys.exit(main())
