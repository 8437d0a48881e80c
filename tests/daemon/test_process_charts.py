"""The charts: rarely a false alarm, soon a true one, and the same after a restart."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal

from cell.errors import DataError
from daemon.process.charts import DELAY, LEAST, MOST, Charts, limit_for

FEATURES = 12


def charts(features: int = FEATURES, relevant: float = 1e-6) -> Charts:
    return Charts([f"f{index}" for index in range(features)], np.full(features, relevant))


def first_alarm(of: Charts, values: np.ndarray) -> int | None:
    return next((part for part, row in enumerate(values) if of.update(row) is not None), None)


def quiet(parts: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((parts, FEATURES))


def test_the_limit_grows_with_what_is_asked_and_is_siegmunds() -> None:
    assert limit_for(2, 1e4) < limit_for(80, 1e4) < limit_for(80, 1e6)
    # Simulated: one two-sided chart with this limit runs as long as was asked, within the formula's error.
    rng, limit, runs = np.random.default_rng(3), limit_for(2, 400, 0.5), []
    for _ in range(60):
        upper = lower = parts = 0.0
        while max(upper, lower) < limit:
            value = rng.standard_normal()
            upper, lower, parts = max(0, upper + value - 0.5), max(0, lower - value - 0.5), parts + 1
        runs.append(parts)
    assert 250 < np.mean(runs) < 650


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.95])
def test_ordinary_variation_gives_no_alarm(correlation: float) -> None:
    shocks = quiet(12_000)
    values = signal.lfilter([np.sqrt(1 - correlation**2)], [1, -correlation], shocks, axis=0)
    assert first_alarm(charts(), values) is None


def test_a_sudden_shift_is_found_within_parts_and_dated() -> None:
    values = quiet(3000)
    values[2500:, 4] += 4
    of = charts()
    found = first_alarm(of, values)
    assert found is not None
    assert 2500 < found < 2530
    assert of.alarm is not None
    assert of.alarm.crossed[0] == "f4"
    assert abs(of.alarm.since - 2500) <= 5
    assert of.since(2501)[4] - of.baseline[4] == pytest.approx(4, abs=1)


def test_a_slow_drift_is_found_although_the_charts_go_on_learning() -> None:
    values = quiet(6000)
    values[700:, 2] += np.arange(5300) / 400
    found = first_alarm(charts(), values)
    assert found is not None
    assert found < 700 + 5 * 400


def test_one_wild_part_is_no_change() -> None:
    values = quiet(4000)
    values[::50] += 30
    assert first_alarm(charts(), values) is None


def test_what_cannot_be_overlooked_is_found_with_the_fifth_part() -> None:
    values = quiet(3000)
    values[2200:2204] += 20  # four parts of another product
    values[2500:, 4] -= 20
    of = charts()
    assert first_alarm(of, values) == 2504
    assert of.alarm is not None
    assert of.alarm.crossed == ("f4",)
    assert of.alarm.since == 2501


def test_what_does_not_matter_is_never_told() -> None:
    values = 0.01 * quiet(4000)
    values[2500:, 0] += 0.2  # twenty deviations, but a fifth of what matters
    assert first_alarm(charts(relevant=1.0), values) is None
    values[3000:, 0] += 0.8
    assert first_alarm(charts(relevant=1.0), values) is not None


def test_after_an_alarm_it_waits_for_a_restart() -> None:
    values = quiet(4000)
    values[1500:, 0] += 8
    of = charts()
    assert first_alarm(of, values[:2000]) is not None
    assert first_alarm(of, values[2000:]) is None
    of.restart()
    assert not of.watching
    assert first_alarm(of, values[2000:]) is None, "the new state is what it learned"
    assert of.watching


@pytest.mark.parametrize("cut", [30, LEAST, LEAST + DELAY + 37, MOST + DELAY + 500])
def test_a_restart_of_the_process_changes_nothing(cut: int) -> None:
    values = quiet(2600, seed=7)
    values[2300:, 1] += 3
    one, two = charts(), charts()
    expected = first_alarm(one, values)
    assert first_alarm(two, values[:cut]) is None
    three = charts()
    three.restore(two.state())
    found = first_alarm(three, values[cut:])
    assert expected is not None
    assert found is not None
    assert found + cut == expected
    assert three.alarm == one.alarm


def test_a_state_of_other_features_is_refused() -> None:
    with pytest.raises(DataError, match="learn anew"):
        charts(3).restore(charts(4).state())
    with pytest.raises(DataError, match="learn anew"):
        charts(3).restore({"format": np.array(1)})
