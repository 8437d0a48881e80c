"""What a job's body is given, whatever it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cell.errors import JobCancelled
from cell.jobs import Job, Progress
from cell.recipes import Recipe
from cell.settings import Settings
from cell.store.learning import LearningStore


@dataclass(frozen=True, slots=True)
class JobContext:
    """One job at work, in its own process.

    `work` is a folder of the job's own that outlives an interruption: checkpoints go there. `progress` may be called
    often; `cancelled` tells whether to stop, and a body asks it at least once a second where it can.
    """

    settings: Settings
    store: LearningStore
    job: Job
    recipe: Recipe
    work: Path
    progress: Callable[[Progress], None]
    cancelled: Callable[[], bool]

    def go_on(self) -> None:
        """Raise `JobCancelled` when the job was asked to stop, `DiskFull` when there is too little room to go on."""
        if self.cancelled():
            raise JobCancelled(f"job {self.job.job_id} was stopped; resume it to go on")
        self.store.state.require_free(self.settings.minimum_free_mb)
