"""What moved, and what it is called."""

from __future__ import annotations

import pytest

from cell.imaging.process_features import feature_names, relevant_changes
from cell.process import Cause
from daemon.process.causes import diagnose

CHANNELS = ("left", "right", "top", "ring")
NAMES = feature_names(CHANNELS)
RELEVANT = dict(zip(NAMES, map(float, relevant_changes(CHANNELS)), strict=True))
SPREAD = dict.fromkeys(NAMES, 0.005)


def everywhere(**kinds: float) -> dict[str, float]:
    changes = dict.fromkeys(NAMES, 0.0)
    for kind, value in kinds.items():
        name = kind.replace("_", "-")
        for key in NAMES:
            if key.partition(":")[0] == name:
                changes[key] = value
    return changes


CASES = [
    ({"level": -0.05}, {"balance:left": -0.15, "balance:right": 0.05, "balance:top": 0.05}, Cause.LAMP),
    ({"level": -0.2}, {}, Cause.LAMP),
    ({"level": 0.2, "noise": 0.25}, {}, Cause.CAMERA),
    ({"noise": 0.3}, {}, Cause.CAMERA),
    ({"detail_1": -0.2, "detail_2": -0.15, "detail_4": -0.04}, {}, Cause.LENS),
    ({"detail_1": 0.1, "detail_2": 0.12, "detail_4": 0.13, "detail_8": 0.1, "level": -0.1}, {}, Cause.MATERIAL),
    ({"shift_x": 3.0, "detail_4": 0.05}, {}, Cause.FIXTURE),
    ({"turn": 1.0}, {}, Cause.FIXTURE),
    ({}, {"tilt-x:top": 0.1}, Cause.LAMP),
    ({}, {}, Cause.UNKNOWN),
]


@pytest.mark.parametrize(("kinds", "single", "cause"), CASES)
def test_each_cause_is_called_by_what_it_does(kinds: dict[str, float], single: dict[str, float], cause: Cause) -> None:
    found = diagnose(everywhere(**kinds) | single, RELEVANT, SPREAD)
    assert found.cause is cause
    assert found.evidence
    assert found.sentence


def test_what_the_spread_hides_says_nothing() -> None:
    found = diagnose(everywhere(noise=0.3, shift_x=0.3), RELEVANT, SPREAD | {"shift-x": 5.0})
    assert found.cause is Cause.CAMERA
    assert "noise" in found.sentence


def test_light_that_changed_alike_everywhere_is_the_cameras_until_its_noise_says_otherwise() -> None:
    rough = SPREAD | {name: 0.1 for name in NAMES if name.startswith("noise:")}
    weaker = everywhere(level=-0.05, noise=0.0)
    assert diagnose(weaker, RELEVANT, rough, parts=20).cause is Cause.CAMERA
    assert diagnose(weaker, RELEVANT, rough, parts=400).cause is Cause.LAMP
    alone = {name: value for name, value in weaker.items() if ":" not in name or name.endswith(":left")}
    assert diagnose(alone, RELEVANT, rough, parts=20).cause is Cause.LAMP, "one lamp may well be weaker"
