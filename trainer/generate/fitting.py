"""The updates of a fit: a step that warms up and falls, gradients held in bounds, a word after each, an end at any."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from cell.errors import JobCancelled
from cell.jobs import Progress
from trainer.generate.base import Cancelled, ReportProgress

_MOST_GRADIENT = 1.0
_WARM_UP = 10


def descend(
    parameters: Sequence[nn.Parameter],
    loss: Callable[[], Tensor],
    *,
    steps: int,
    rate: float,
    stage: str,
    progress: ReportProgress,
    cancelled: Cancelled,
    after: Callable[[int], None] = lambda _done: None,
) -> None:
    """Fit parameters in place by AdamW.

    :param loss: draws a batch and returns its loss, once a step; :param after: is told how many steps are done.
    :raises JobCancelled: between two steps.
    """
    optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
    for step in range(steps):
        stop_if(cancelled, stage)
        for group in optimiser.param_groups:
            group["lr"] = rate_at(rate, step, steps)
        value = loss()
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(parameters, _MOST_GRADIENT)
        optimiser.step()
        after(step + 1)
        progress(Progress(stage=stage, done=step + 1, total=steps))


def rate_at(rate: float, step: int, steps: int) -> float:
    """Return the learning rate of a step: up over the first ten, then down to a tenth."""
    return rate * min(1.0, (step + 1) / _WARM_UP) * (1 - 0.9 * step / steps)


def stop_if(cancelled: Cancelled, stage: str) -> None:
    """Raise `JobCancelled` when the job is to stop."""
    if cancelled():
        raise JobCancelled(f"{stage} was stopped; resume the job to go on")
