"""A small product for the generator's tests: a brushed plate on a dark carrier under two lights, pits and cracks."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from cell.calibration import Calibration, CalibrationKind, ChannelCalibration, Illumination, NoiseModel
from cell.frames import Stack
from cell.imaging import noise
from cell.recipes import Channel, DefectClass, Recipe, Rect
from trainer.generate.base import BackgroundSample, SeedSample
from trainer.generate.candidates import allowed_places

HEIGHT, WIDTH, CARRIER = 120, 150, 10  # the carrier is a frame of that width
LIGHTS = ("left", "right")
EXCLUSION = Rect(x=100, y=20, width=20, height=30)
BIT_DEPTH = 12
NOISE = NoiseModel(gain_dn_per_e=0.3, read_noise_dn=4.0, offset_dn=40.0, saturation_dn=4095, lag1_correlation=0.0)

RECIPE = Recipe(
    recipe_id="plate",
    product="plate",
    height=HEIGHT,
    width=WIDTH,
    bit_depth=BIT_DEPTH,
    channels=tuple(Channel(name=name, exposure_us=500, lights={name: 1.0}) for name in LIGHTS),
    roi=Rect(x=4, y=4, width=WIDTH - 8, height=HEIGHT - 8),
    exclusions=(EXCLUSION,),
    carrier_max_dn=200,
    defect_classes=(DefectClass(name="pit"), DefectClass(name="crack")),
)

CALIBRATION = Calibration(
    calibration_id="c1",
    recipe_id="plate",
    kind=CalibrationKind.MEASURED,
    channels=tuple(
        ChannelCalibration(
            channel=name, noise=NOISE, illumination=Illumination(grid=((1.0,),), mean_dn=1500.0), psf_sigma_px=1.0
        )
        for name in LIGHTS
    ),
    frames_used=16,
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
)


def plate(part: int, factor: np.ndarray | float = 1.0) -> Stack:
    """Return one part, (2, H, W) uint16; `factor` (H, W) dims or brightens the light."""
    rng = np.random.default_rng([part, 3])
    lay = rng.normal(0, 25, (1, WIDTH)) + np.linspace(-60, 60, HEIGHT)[:, None]
    mean = np.stack([(1600 + lay) * factor, (1100 + lay) * factor])
    for side in (slice(0, CARRIER), slice(-CARRIER, None)):
        mean[:, side] = mean[:, :, side] = 100
    return np.clip(np.rint(noise.sample(NOISE, mean, rng)), 0, 4095).astype(np.uint16)


def backgrounds(count: int = 4) -> list[BackgroundSample]:
    """Return good parts."""
    stacks = [plate(100 + index) for index in range(count)]
    return [BackgroundSample(f"b{i}", f"p{100 + i}", s, allowed_places(RECIPE, s)) for i, s in enumerate(stacks)]


def seeds(parts: int = 4) -> list[SeedSample]:
    """Return one dark pit and one thin dark crack that starts at the upper edge on each part; masks are generous."""
    found = []
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    for part in range(parts):
        rng = np.random.default_rng([part, 5])
        row, column = rng.integers(50, 80), rng.integers(40, 90)
        distance = np.hypot(rows - row, (columns - column) / 1.4)
        pit = plate(part, 1 - 0.6 * np.clip(5.0 - distance, 0, 1))
        found.append(SeedSample(f"pit{part}", f"p{part}", "pit", pit, distance < 8))
        across = np.abs(columns - (60 + 5 * part) - 4 * np.sin(rows / 9.0 + part))
        long = rows < 60 + 4 * part
        crack = plate(50 + part, 1 - 0.5 * np.clip(1.8 - across, 0, 1) * long)
        mask = (across < 6) & long & (rows >= CARRIER)
        found.append(SeedSample(f"crack{part}", f"p{50 + part}", "crack", crack, mask))
    return found
