"""The state machine of OPC 40100-1: the main machine and, inside Operational, the automatic mode.

::

                  SelectModeAutomatic        .------------- Operational (4) --------------.
    Preoperational (1) --------------------> |               PrepareRecipe                |
      ^    |      ^                          |  Initialized (5) ----------> Ready (6)      |
      |    |      |  Reset                   |        ^  UnprepareRecipe   |  ^  ^  |       |
      |    |Halt  '------------------------- |        '--------------------'  |  |  |       |
      |    v                                 |        StartSingleJob |  done,  |  | | StartContinuous
      | Halted (2) <-----------------------  |                       v  Stop,  |  | v       |
      |    |             Halt                |   SingleExecution (7) --Abort---'  ContinuousExecution (8)
      '----' Reset                           '--------------------------------------------'
                                                   | error               ^ error resolved
    Reset, Halt lead out of Error too              v                     |
                                               Error (3) ----------------'

Entry to Error and the way back are automatic, never a command. There is no way from Halted to Operational but through
Reset. Error resolved leads to Ready when a recipe is prepared, to Initialized otherwise; an execution that the error
interrupted has had its verdict by then.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from cell.errors import StateError


class State(IntEnum):
    """States by the standard's numbers. Operational (4) is always in one of the four that follow it."""

    PREOPERATIONAL = 1
    HALTED = 2
    ERROR = 3
    INITIALIZED = 5
    READY = 6
    SINGLE_EXECUTION = 7
    CONTINUOUS_EXECUTION = 8

    @property
    def title(self) -> str:
        """The standard's spelling; inside Operational as ``Operational/Ready``."""
        name = "".join(word.capitalize() for word in self.name.split("_"))
        return f"Operational/{name}" if self >= State.INITIALIZED else name


OPERATIONAL = frozenset({State.INITIALIZED, State.READY, State.SINGLE_EXECUTION, State.CONTINUOUS_EXECUTION})
EXECUTING = frozenset({State.SINGLE_EXECUTION, State.CONTINUOUS_EXECUTION})


class Cause(StrEnum):
    """What moves the machine: the standard's methods, and what it calls automatic."""

    SELECT_MODE_AUTOMATIC = "SelectModeAutomatic"
    HALT = "Halt"
    RESET = "Reset"
    PREPARE_RECIPE = "PrepareRecipe"
    UNPREPARE_RECIPE = "UnprepareRecipe"
    START_SINGLE_JOB = "StartSingleJob"
    START_CONTINUOUS = "StartContinuous"
    STOP = "Stop"
    ABORT = "Abort"
    DONE = "execution done"
    ERROR = "error"
    ERROR_RESOLVED = "error resolved"


_S, _C = State, Cause

TRANSITIONS: dict[tuple[State, Cause], State] = {
    (_S.PREOPERATIONAL, _C.SELECT_MODE_AUTOMATIC): _S.INITIALIZED,
    (_S.INITIALIZED, _C.PREPARE_RECIPE): _S.READY,
    (_S.READY, _C.PREPARE_RECIPE): _S.READY,  # another recipe, or the same anew
    (_S.READY, _C.UNPREPARE_RECIPE): _S.INITIALIZED,
    (_S.READY, _C.START_SINGLE_JOB): _S.SINGLE_EXECUTION,
    (_S.READY, _C.START_CONTINUOUS): _S.CONTINUOUS_EXECUTION,
    **{(state, cause): _S.READY for state in EXECUTING for cause in (_C.DONE, _C.STOP, _C.ABORT)},
    **{(state, _C.HALT): _S.HALTED for state in (_S.PREOPERATIONAL, _S.ERROR, *sorted(OPERATIONAL))},
    **{(state, _C.RESET): _S.PREOPERATIONAL for state in _S},
    **{(state, _C.ERROR): _S.ERROR for state in (_S.PREOPERATIONAL, *sorted(OPERATIONAL))},
    (_S.ERROR, _C.ERROR_RESOLVED): _S.INITIALIZED,  # READY when a recipe is prepared
}

#: What to do from each state to get to where jobs are taken.
_WAY_OUT: dict[State, str] = {
    _S.PREOPERATIONAL: "SelectModeAutomatic first",
    _S.HALTED: "Reset, then SelectModeAutomatic",
    _S.ERROR: "mend what the conditions name, or Reset",
    _S.INITIALIZED: "PrepareRecipe first",
    _S.READY: "start a job, or UnprepareRecipe",
    _S.SINGLE_EXECUTION: "wait for its result, or Abort",
    _S.CONTINUOUS_EXECUTION: "Stop it first",
}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The machine at one instant. `recipe_id` is empty while none is prepared."""

    state: State
    recipe_id: str = ""

    @property
    def prepared(self) -> bool:
        """Tell whether a recipe is prepared."""
        return bool(self.recipe_id)


@dataclass(frozen=True, slots=True)
class Origin:
    """What a move comes from, for those who are told of it: a request, a job, and a sentence instead of the cause."""

    request_id: str = ""
    job_id: str = ""
    detail: str = ""


NOBODY = Origin()

#: Told of every move: before, after, cause, origin. Runs inside the machine's lock, so that moves are told in order.
OnChange = Callable[[Snapshot, Snapshot, str, Origin], None]


class StateMachine:
    """Thread-safe; starts in Preoperational."""

    def __init__(self, on_change: OnChange) -> None:
        self._on_change = on_change
        self._lock = threading.RLock()
        self._now = Snapshot(State.PREOPERATIONAL)

    @property
    def now(self) -> Snapshot:
        """The present snapshot."""
        return self._now

    def check(self, cause: Cause) -> None:
        """Raise `StateError`, which names the state and the way out, when `cause` is not allowed at present."""
        if (self._now.state, cause) not in TRANSITIONS:
            state = self._now.state
            raise StateError(f"{cause} is not allowed in state {state.title}; {_WAY_OUT[state]}")

    def fire(self, cause: Cause, origin: Origin = NOBODY, *, recipe_id: str = "") -> Snapshot:
        """Move. `recipe_id` goes with `PREPARE_RECIPE`; `origin` is told to watchers. Raises `StateError`."""
        with self._lock:
            self.check(cause)
            before = self._now
            after = _after(before, cause, recipe_id)
            self._now = after
            if after != before:
                self._on_change(before, after, origin.detail or str(cause), origin)
            return after

    def fire_if_allowed(self, cause: Cause, origin: Origin = NOBODY) -> bool:
        """Move when the present state allows it: for automatic causes, which may have lost a race with a command."""
        with self._lock:
            if (self._now.state, cause) not in TRANSITIONS:
                return False
            self.fire(cause, origin)
            return True


def _after(before: Snapshot, cause: Cause, recipe_id: str) -> Snapshot:
    state = TRANSITIONS[before.state, cause]
    if cause is Cause.PREPARE_RECIPE:
        return Snapshot(state, recipe_id)
    if cause is Cause.ERROR_RESOLVED and before.prepared:
        return Snapshot(State.READY, before.recipe_id)
    keeps_recipe = state in EXECUTING or state in {State.READY, State.ERROR}
    return Snapshot(state, before.recipe_id if keeps_recipe else "")
