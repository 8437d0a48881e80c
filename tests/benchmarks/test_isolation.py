"""The isolation benchmark in small: a camera that goes and returns ten times, and what its process costs."""

from __future__ import annotations

import pytest

from benchmarks.isolation import Driver, How, cost, reconnects

pytestmark = pytest.mark.timeout(120, method="thread")


@pytest.mark.parametrize(("driver", "how"), [("simulated", "removal"), ("simulated", "crash"), ("pylon", "removal")])
def test_a_camera_comes_back_and_leaves_nothing_behind(driver: Driver, how: How) -> None:
    back = reconnects(driver, how, times=10 if how == "removal" else 4)
    # A crash needs a new process, whose imports take what a loaded machine makes of them.
    assert back.worst_s < (5 if how == "removal" else 20)
    assert back.answered_late == 0, "a part was whole while its camera was away"
    assert back.growth_daemon_mb < 1
    assert back.left_descriptors <= 0
    assert back.process_restarts == (0 if how == "removal" else 5)  # one of them warms up


def test_the_cost_is_measured_against_the_same_driver_in_this_process() -> None:
    measured = cost("simulated", frames=20, height=256, width=320)
    assert measured.here_p50_ms > 1.0, "the simulated camera exposes for a millisecond"
    assert measured.isolated_p50_ms > measured.here_p50_ms
    assert measured.added_ms < 20
