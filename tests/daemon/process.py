"""The daemon as a process of its own, with hardware on a string: ``python -m tests.daemon.process CONFIG``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cell.errors import PeerTimeout
from cell.settings import Settings
from cell.wire.client import Client
from daemon.main import serve
from drivers.registry import Rig
from tests.daemon.cells import eventually, settings_in
from tests.daemon.rigs import recipe, string_rig

ROOT = Path(__file__).parents[2]


class Process:
    """A daemon's process and a client of it."""

    def __init__(self, popen: subprocess.Popen[str], client: Client) -> None:
        self.popen = popen
        self.client = client

    def kill(self) -> None:
        """End it as a power cut of the process would."""
        self.popen.send_signal(signal.SIGKILL)
        self.popen.wait(10)

    def terminate(self) -> int:
        """Ask it to end and return its exit code."""
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(30)


def write_config(folder: Path) -> Path:
    """Write settings and the recipe ``plate`` into `folder`; return the settings' file."""
    settings = settings_in(folder)
    settings.recipes_dir.mkdir(parents=True, exist_ok=True)
    (settings.recipes_dir / "plate.json").write_text(recipe(deadline_ms=700.0).model_dump_json())
    config = folder / "inspectd.toml"
    config.write_text(
        f'state_dir = "{settings.state_dir}"\nrecipes_dir = "{settings.recipes_dir}"\nminimum_free_mb = 0\n'
        f'[wire]\ncommands = "{settings.wire.commands}"\nevents = "{settings.wire.events}"\n'
    )
    return config


def start(config: Path, module: str = "tests.daemon.process", **environment: str) -> subprocess.Popen[str]:
    """Start the process without waiting for it."""
    return subprocess.Popen(
        [sys.executable, "-m", module, str(config)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def process(folder: Path, **environment: str) -> Iterator[Process]:
    """Run a daemon's process until the block ends, and wait until it answers."""
    config = folder / "inspectd.toml"
    popen = start(config if config.exists() else write_config(folder), **environment)
    with Client(settings_in(folder).wire.commands, timeout_s=10) as client:

        def answers() -> bool:
            try:
                return bool(client.call("inspectd.ping", timeout_s=0.5))
            except PeerTimeout:
                return False

        try:
            assert eventually(answers, 20), "the daemon does not answer"
            yield Process(popen, client)
        finally:
            popen.kill()
            popen.wait(10)
            assert popen.stderr is not None
            popen.stderr.close()


def _rig_of(_: Settings) -> Rig:
    return string_rig()[0]


if __name__ == "__main__":
    serve(Path(sys.argv[1]), _rig_of)
