"""What a conformance suite finds: one named result a check, readable by people and programs.

A check is a function that returns a sentence when the device breaks the contract, and an empty text when it keeps it.
It returns a `Skip` when the device can't be asked. An error that a driver raises where the contract
allows none is a failure, too, and never ends the suite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Skip:
    """Returned by a check that can't be made on this device; `reason` is a sentence for the report."""

    reason: str


#: Returns what is wrong, an empty text, or why it can't be told.
Check = Callable[[], "str | Skip"]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check: its name, how it ended, and what was wrong or why it was skipped."""

    name: str
    outcome: Outcome
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All results for one device."""

    device: str
    results: tuple[CheckResult, ...]

    @property
    def passed(self) -> bool:
        """True when no check failed; skipped ones are named in the text."""
        return not self.failures

    @property
    def failures(self) -> tuple[CheckResult, ...]:
        """The checks that failed."""
        return tuple(result for result in self.results if result.outcome is Outcome.FAILED)

    def text(self) -> str:
        """Return one line a check, worst first, under a line that sums up."""
        order = {Outcome.FAILED: 0, Outcome.SKIPPED: 1, Outcome.PASSED: 2}
        verdict = "conforms" if self.passed else f"breaks {len(self.failures)} of {len(self.results)} rules"
        lines = [f"{self.device} {verdict}"]
        for result in sorted(self.results, key=lambda result: order[result.outcome]):
            lines.append(f"  {result.outcome:8}{result.name}" + (f": {result.detail}" if result.detail else ""))
        return "\n".join(lines)


def run_checks(device: str, checks: Iterable[tuple[str, Check]]) -> Report:
    """Run every check, whatever the ones before found."""
    return Report(device, tuple(_run(name, check) for name, check in checks))


def _run(name: str, check: Check) -> CheckResult:
    try:
        found = check()
    except Exception as error:  # noqa: BLE001 (the device under test may raise anything; that is a result, too)
        return CheckResult(name, Outcome.FAILED, f"{type(error).__name__}: {error}")
    if isinstance(found, Skip):
        return CheckResult(name, Outcome.SKIPPED, found.reason)
    return CheckResult(name, Outcome.FAILED if found else Outcome.PASSED, found)
