"""The light that falls on a part's middle is not taken for a wide defect's own."""

from __future__ import annotations

import numpy as np

from tests.trainer.generate_support import BIT_DEPTH, CALIBRATION, HEIGHT, RECIPE, WIDTH, plate
from trainer.generate.base import BackgroundSample, Scene, SeedSample
from trainer.generate.candidates import allowed_places
from trainer.generate.looks import look_at
from trainer.generate.usual_light import usual_light

ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]
#: A lamp that leaves a third of its light at the part's edges.
LAMP = np.exp(-1.1 * ((ROWS / HEIGHT - 0.5) ** 2 + (COLUMNS / WIDTH - 0.5) ** 2) / 0.25)
STAIN = np.hypot(ROWS - 60, COLUMNS - 72) < 36


def _good(count: int) -> tuple[BackgroundSample, ...]:
    stacks = [plate(part, LAMP) for part in range(count)]
    return tuple(
        BackgroundSample(f"b{part}", f"g{part}", stack, allowed_places(RECIPE, stack))
        for part, stack in enumerate(stacks)
    )


def _course(backgrounds: tuple[BackgroundSample, ...]) -> np.ndarray:
    seed = SeedSample("s", "bad", "pit", plate(50, LAMP * np.where(STAIN, np.exp(-0.2), 1.0)), STAIN)
    return look_at(seed, Scene(RECIPE, CALIBRATION, {}, backgrounds)).course


def test_a_wide_stain_is_as_dark_in_its_middle_as_at_its_rim() -> None:
    without, told = _course(()), _course(_good(5))
    wrong, right = (np.abs(course[:, 1:] + 0.2).max() for course in (without, told))
    assert right < 0.08
    assert wrong > 2 * right  # the lamp's own course


def test_too_few_parts_tell_nothing_of_the_light() -> None:
    assert usual_light(_good(2), BIT_DEPTH) is None
    field = usual_light(_good(5), BIT_DEPTH)
    assert field is not None
    assert field.shape == (2, 24, 24)
    assert field[0, 12, 12] - field[0, 0, 0] > 0.5
