"""A cell whose emulated camera sees what the fake controller does: the real driver, the real socket, and every trouble.

What shines reaches the camera only through the fake's outputs, so a frame shows whether its light was right.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime

import numpy as np

from cell.frames import AcquisitionFault, FailedAcquisition, FrameSet, Pixels
from cell.recipes import Channel, DefectClass, Recipe
from cell.settings import LightSettings
from daemon.acquire import Acquirer
from daemon.parts import Part
from drivers.cameras.simulated import SimulatedCamera
from drivers.lights.gardasoft import GardasoftLight
from drivers.registry import Rig
from drivers.sim.fake_gardasoft import FakeGardasoft, Trouble

LINES = {"ring": 1, "bar": 2, "dome": 3}
#: What a camera sees of each line at full intensity, so that every sum tells which lines it is of.
SHINE = {"ring": 20.0, "bar": 60.0, "dome": 110.0}
SCHEMES = ({"ring": 1.0}, {"bar": 1.0}, {"ring": 0.5, "dome": 1.0})
RECIPE = Recipe(
    recipe_id="r",
    product="p",
    height=16,
    width=24,
    channels=tuple(Channel(name=f"c{n}", exposure_us=300, lights=lights) for n, lights in enumerate(SCHEMES)),
    defect_classes=(DefectClass(name="d"),),
)


class Stage:
    """An even surface under whatever shines."""

    def __init__(self) -> None:
        self.part_id = ""
        self.lights: Mapping[str, float] = {}
        self._generator = np.random.default_rng(3)

    def present(self, part_id: str) -> None:
        self.part_id = part_id

    def illuminate(self, lights: Mapping[str, float]) -> None:
        self.lights = dict(lights)

    def picture(
        self, height: int, width: int, exposure_us: float, gain_db: float, bit_depth: int | None = None
    ) -> Pixels:
        level = sum(SHINE[line] * share for line, share in self.lights.items())
        return (level + self._generator.integers(0, 3, (height, width))).astype(np.uint8)


def part(number: int) -> Part:
    return Part(f"j{number}", number, f"p{number}", RECIPE, 0.0, datetime(2026, 1, 1, tzinfo=UTC))


def test_no_frame_set_is_ever_complete_under_the_wrong_light() -> None:
    chance = random.Random(11)
    camera = SimulatedCamera(Stage())
    fake = FakeGardasoft(
        slow_s=0.01,
        on_change=lambda armed: camera.stage.illuminate({line: armed[number] / 100 for line, number in LINES.items()}),
    )
    light = GardasoftLight(
        LightSettings.model_validate(
            {
                "driver": "gardasoft",
                "host": fake.host,
                "port": fake.port,
                "reply_timeout_s": 0.05,
                "settle_ms": 0,
                "outputs": {line: {"channel": number} for line, number in LINES.items()},
            }
        )
    )
    acquirer = Acquirer(Rig(camera=camera, light=light, present=camera.stage.present, emulated=True))
    faults: Counter[AcquisitionFault] = Counter()
    whole = 0
    try:
        acquirer.configure(RECIPE)
        for number in range(1, 81):
            if chance.random() < 0.5:
                fake.trouble.extend([None] * chance.randrange(4))
                fake.trouble.append(chance.choice(list(Trouble)))
            acquired = acquirer.take(part(number))
            if isinstance(acquired, FailedAcquisition):
                faults[acquired.fault] += 1
                continue
            assert isinstance(acquired, FrameSet)
            whole += 1
            for frame, lights in zip(acquired.frames, SCHEMES, strict=True):
                seen = float(frame.pixels.mean()) - 1.0
                assert abs(seen - sum(SHINE[line] * share for line, share in lights.items())) < 1.0
        fake.trouble.clear()
        assert isinstance(acquirer.take(part(100)), FrameSet), "it does not come back"
        assert not any(light.levels().values())
        assert set(faults) == {AcquisitionFault.LIGHT}
        assert acquirer.light_faults == faults[AcquisitionFault.LIGHT]
        assert whole > 30
        assert faults[AcquisitionFault.LIGHT] > 10
    finally:
        light.close()
        camera.close()
        fake.close()
