"""The state machine against the standard's table, written here a second time from OPC 40100-1."""

from __future__ import annotations

import pytest

from cell.errors import StateError
from daemon.states import Cause, Snapshot, State, StateMachine

S, C = State, Cause

#: How each state is reached from the start.
ROUTES: dict[State, tuple[Cause, ...]] = {
    S.PREOPERATIONAL: (),
    S.HALTED: (C.HALT,),
    S.ERROR: (C.ERROR,),
    S.INITIALIZED: (C.SELECT_MODE_AUTOMATIC,),
    S.READY: (C.SELECT_MODE_AUTOMATIC, C.PREPARE_RECIPE),
    S.SINGLE_EXECUTION: (C.SELECT_MODE_AUTOMATIC, C.PREPARE_RECIPE, C.START_SINGLE_JOB),
    S.CONTINUOUS_EXECUTION: (C.SELECT_MODE_AUTOMATIC, C.PREPARE_RECIPE, C.START_CONTINUOUS),
}

#: The standard: what leads where; everything else is refused.
ALLOWED: dict[State, dict[Cause, State]] = {
    S.PREOPERATIONAL: {
        C.SELECT_MODE_AUTOMATIC: S.INITIALIZED,
        C.HALT: S.HALTED,
        C.RESET: S.PREOPERATIONAL,
        C.ERROR: S.ERROR,
    },
    S.HALTED: {C.RESET: S.PREOPERATIONAL},
    S.ERROR: {C.RESET: S.PREOPERATIONAL, C.HALT: S.HALTED, C.ERROR_RESOLVED: S.INITIALIZED},
    S.INITIALIZED: {C.PREPARE_RECIPE: S.READY, C.HALT: S.HALTED, C.RESET: S.PREOPERATIONAL, C.ERROR: S.ERROR},
    S.READY: {
        C.PREPARE_RECIPE: S.READY,
        C.UNPREPARE_RECIPE: S.INITIALIZED,
        C.START_SINGLE_JOB: S.SINGLE_EXECUTION,
        C.START_CONTINUOUS: S.CONTINUOUS_EXECUTION,
        C.HALT: S.HALTED,
        C.RESET: S.PREOPERATIONAL,
        C.ERROR: S.ERROR,
    },
    **{
        execution: {
            C.DONE: S.READY,
            C.STOP: S.READY,
            C.ABORT: S.READY,
            C.HALT: S.HALTED,
            C.RESET: S.PREOPERATIONAL,
            C.ERROR: S.ERROR,
        }
        for execution in (S.SINGLE_EXECUTION, S.CONTINUOUS_EXECUTION)
    },
}


def machine_in(state: State) -> tuple[StateMachine, list[tuple[Snapshot, Snapshot, str]]]:
    moves: list[tuple[Snapshot, Snapshot, str]] = []
    machine = StateMachine(lambda before, after, cause, _: moves.append((before, after, cause)))
    for cause in ROUTES[state]:
        machine.fire(cause, recipe_id="r" if cause is C.PREPARE_RECIPE else "")
    assert machine.now.state is state
    moves.clear()
    return machine, moves


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("cause", list(Cause))
def test_every_cause_in_every_state(state: State, cause: Cause) -> None:
    machine, moves = machine_in(state)
    wanted = ALLOWED[state].get(cause)
    if wanted is None:
        with pytest.raises(StateError, match=state.title):
            machine.fire(cause)
        assert not machine.fire_if_allowed(cause)
        assert machine.now.state is state
        assert moves == []
        return
    before = machine.now
    after = machine.fire(cause, recipe_id="r2" if cause is C.PREPARE_RECIPE else "")
    assert after.state is wanted
    assert moves == ([(before, after, str(cause))] if after != before else [])


def test_an_error_in_production_leads_back_to_the_prepared_recipe() -> None:
    machine, _ = machine_in(S.SINGLE_EXECUTION)
    machine.fire(C.ERROR)
    assert machine.now == Snapshot(S.ERROR, "r")
    machine.fire(C.ERROR_RESOLVED)
    assert machine.now == Snapshot(S.READY, "r")


@pytest.mark.parametrize("cause", [C.HALT, C.RESET])
def test_halt_and_reset_forget_the_recipe(cause: Cause) -> None:
    machine, _ = machine_in(S.READY)
    assert not machine.fire(cause).prepared


def test_titles_are_the_standards() -> None:
    assert S.SINGLE_EXECUTION.title == "Operational/SingleExecution"
    assert S.PREOPERATIONAL.title == "Preoperational"
