"""What a plan may ask, how it is shared out, and what is refused in one sentence."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from cell.defects import GeneratorParameters
from cell.errors import DataError, JobError
from cell.jobs import JobKind
from cell.recipes import Rect
from tests.trainer.generate_support import RECIPE
from trainer.generate.control import AS_SEEDS, Control, Histogram, check_plan, order, value_at
from trainer.generate.told import asked_and_made
from trainer.parameters import GenerateParameters, checked

TAIL = Histogram(edges=(0.2, 0.5, 1.5, 3.0), weights=(3, 0, 1))


def test_a_histogram_is_followed_exactly() -> None:
    control = Control(severity=TAIL)
    values = [order(control, (1, 0), number, 40).first.severity for number in range(40)]
    assert np.histogram([value for value in values if value is not None], TAIL.edges)[0].tolist() == [30, 0, 10]


def test_a_range_is_covered_evenly_in_the_logarithm() -> None:
    control = Control(size=(0.5, 2.0))
    values = np.array([order(control, (3, 1), number, 30).first.size for number in range(30)], np.float64)
    assert ((values >= 0.5) & (values <= 2.0)).all()
    assert (values < 1.0).sum() == 15
    assert len({round(value, 6) for value in values.tolist()}) == 30


def test_counts_and_companions_come_as_often_as_asked() -> None:
    control = Control(count=(1, 3), together={"crack": 0.25})
    orders = [order(control, (7, 0), number, 24) for number in range(24)]
    assert [sum(one.count == count for one in orders) for count in (1, 2, 3)] == [8, 8, 8]
    assert sum(one.together == ("crack",) for one in orders) == 6


def test_targets_do_not_go_together() -> None:
    # Severities and sizes are shuffled apart, or every strong defect would be a large one.
    control = Control(severity=(0.5, 2.0), size=(0.5, 2.0))
    drawn = [order(control, (1, 0), number, 200).first for number in range(200)]
    pairs = np.array([(one.severity, one.size) for one in drawn], np.float64)
    assert abs(np.corrcoef(np.log(pairs).T)[0, 1]) < 0.2


def test_branches_are_whole() -> None:
    assert {value_at((0.0, 3.0), "branches", q) for q in np.linspace(0, 1, 41)} == {0.0, 1.0, 2.0, 3.0}
    assert value_at((2.0, 2.0), "branches", 0.7) == 2.0


def test_a_class_overrides_what_is_asked_of_all() -> None:
    general = Control(severity=(0.5, 2.0), count=(2, 3))
    merged = Control(severity=TAIL, uniform_share=1.0).over(general)
    assert (merged.severity, merged.count, merged.uniform_share) == (TAIL, (2, 3), 1.0)
    assert AS_SEEDS.over(general) == general


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"severity": [2.0, 0.5]}, "low, high"),
        ({"severity": [0.0, 1.0]}, "severity must lie between"),
        ({"orientation": [-200, 10]}, "orientation must lie between"),
        ({"orientation": "sideways"}, "as-seeds"),
        ({"size": {"edges": [1, 2], "weights": [1, 1]}}, "need 3 edges"),
        ({"size": {"edges": [2, 1], "weights": [1]}}, "must grow"),
        ({"size": {"edges": [1, 2], "weights": [0]}}, "not all may be 0"),
        ({"count": [0, 2]}, "count must be given"),
        ({"level": [0.5, 0.5]}, "level must be given"),
        ({"colour": [0, 1]}, "extra"),
    ],
)
def test_what_makes_no_sense_is_refused(asked: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Control.model_validate(asked)
    with pytest.raises(JobError, match="generate job can't take control"):
        checked(JobKind.GENERATE, {"per_class": 1, "control": asked})


def test_a_plan_knows_the_recipe() -> None:
    check_plan(Control(together={"crack": 0.5}), {"pit": AS_SEEDS}, RECIPE, None)
    with pytest.raises(DataError, match="names rust, the classes are pit, crack"):
        check_plan(AS_SEEDS, {"rust": AS_SEEDS}, RECIPE, None)
    with pytest.raises(DataError, match="names rust"):
        check_plan(Control(together={"rust": 0.5}), {}, RECIPE, None)
    with pytest.raises(DataError, match="zones reach out of the 150x120 frame"):
        check_plan(Control(zones=(Rect(x=140, y=0, width=20, height=5),)), {}, RECIPE, None)
    with pytest.raises(DataError, match="no pixels per mm"):
        check_plan(Control(size=(1.0, 2.0), size_unit="mm"), {}, RECIPE, None)
    check_plan(Control(size=(1.0, 2.0), size_unit="mm"), {}, RECIPE, 25.0)


def test_severity_is_asked_for_once() -> None:
    with pytest.raises(JobError, match="asked for twice"):
        checked(JobKind.GENERATE, {"per_class": 1, "severity": [0.5, 1], "control": {"severity": [0.5, 1]}})
    parameters = checked(JobKind.GENERATE, {"per_class": 1, "severity": [0.5, 1.0]})
    assert isinstance(parameters, GenerateParameters)
    assert parameters.general() == Control(severity=(0.5, 1.0))


def test_a_row_keeps_what_was_asked_and_reads_it_again() -> None:
    asked = Control(severity=TAIL, zones=(Rect(x=1, y=2, width=3, height=4),), orientation="as-seeds")
    kept = json.loads(json.dumps(asked.model_dump(mode="json", exclude_defaults=True)))
    assert set(kept) == {"severity", "zones", "orientation"}
    read = checked(JobKind.GENERATE, {"per_class": 1, "control": kept, "class_control": {"pit": kept}})
    assert isinstance(read, GenerateParameters)
    assert (read.control, read.class_control) == (asked, {"pit": asked})


def _made(asked: dict[str, float], made: dict[str, float]) -> GeneratorParameters:
    return GeneratorParameters(
        arm="procedural",
        defect_class="pit",
        severity=1.0,
        center_x=1.0,
        center_y=1.0,
        orientation_deg=0.0,
        size_px=3.0,
        random_seed=0,
        asked=asked,
        made=made,
        units={"severity": "seeds"},
    )


def test_the_report_tells_what_missed() -> None:
    control = Control(severity=TAIL, orientation=(-90.0, 90.0))
    rows = [
        _made({"severity": 0.3, "orientation": 88.0}, {"severity": 0.3, "orientation": -89.0}),
        _made({"severity": 2.0, "orientation": 10.0}, {"severity": 4.0, "orientation": 14.0}),
    ]
    severity, orientation = asked_and_made(rows, {"pit": control})
    assert (severity["asked"], severity["made"], severity["above"]) == ([1, 0, 1], [1, 0, 0], 1)
    assert (severity["unit"], severity["off"]) == ("seeds", 0.5)
    # A line at 88 degrees and one at -89 are three degrees apart.
    assert orientation["off"] == pytest.approx(3.5)
    assert asked_and_made(rows, {"pit": AS_SEEDS}) == []
