"""Settings for a fake Gardasoft controller, and patience."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from cell.settings import LightSettings
from drivers.lights.link import TextLink
from drivers.sim.fake_gardasoft import FakeGardasoft


def wiring(fake: FakeGardasoft, **changes: Any) -> LightSettings:
    values: dict[str, Any] = {
        "driver": "gardasoft",
        "host": fake.host,
        "port": fake.port,
        "reply_timeout_s": 0.4,
        "settle_ms": 0,
        "outputs": {"ring": {"channel": 1}, "bar": {"channel": 2}},
    }
    return LightSettings.model_validate(values | changes)


def eventually(condition: Callable[[], object], within_s: float = 5.0) -> bool:
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def talk(fake: FakeGardasoft, line: bytes) -> str:
    link = TextLink(fake.host, fake.port, 1.0)
    link.connect()
    try:
        return link.ask(line, b">")
    finally:
        link.close()
