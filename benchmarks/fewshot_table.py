"""Put runs of the few-shot benchmark side by side.

    python -m benchmarks.fewshot_table RUN.json ... [--against real]

One line an arm and number of shots: mean over the random seeds with their spread (smallest to largest), and the
difference of the macro AUROC to the arm `--against` with its paired 95 % interval: parts are drawn, not pictures, and
both arms are scored on the same draw, so what is hard for both cancels out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._figures import DRAWS, macro_auroc
from trainer.evaluate import GOOD
from trainer.metrics import bootstrap_by_group

_COLUMNS = ("auroc", "auroc_macro", "pixel_ap", "pixel_ap_macro", "fa", "fr", "oracle_fa_at_fr5", "oracle_fr_at_fa0")
Run = dict[str, Any]
#: Score and fold of every picture.
_Said = tuple[NDArray[np.float64], NDArray[np.intp]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fewshot_table", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--against", default="real", help="arm to compare with, at the same number of shots")
    options = parser.parse_args(arguments)
    runs: dict[tuple[str, int], list[Run]] = {}
    for path in options.runs:
        run = json.loads(path.read_text(encoding="utf-8"))
        runs.setdefault((run["arm"], run["shots"]), []).append(run)
    print(f"| arm | shots | seeds | {' | '.join(_COLUMNS)} | macro AUROC - {options.against} [95 % by part] |")
    print("|" + " --- |" * (4 + len(_COLUMNS)))
    for (arm, shots), group in sorted(runs.items(), key=lambda item: (item[0][1], item[0][0])):
        cells = [_spread([run[column] for run in group]) for column in _COLUMNS]
        other = runs.get((options.against, shots))
        difference = "-" if other is None or arm == options.against else paired_difference(group, other)
        print(f"| {arm} | {shots} | {len(group)} | {' | '.join(cells)} | {difference} |")
    return 0


def paired_difference(runs: Sequence[Run], others: Sequence[Run]) -> str:
    """Return mean macro AUROC over `runs` minus that over `others`, with its paired interval by part."""
    names = sorted(set(runs[0]["scores"]) & set(others[0]["scores"]))
    truths = np.array([runs[0]["scores"][name][0] for name in names])
    groups = [runs[0]["scores"][name][1] for name in names]
    classes = sorted(set(truths.tolist()) - {GOOD})
    ours, theirs = ([_said(run, names) for run in side] for side in (runs, others))

    def difference(rows: NDArray[np.intp]) -> float:
        return _mean_macro(ours, rows, truths, classes) - _mean_macro(theirs, rows, truths, classes)

    interval = bootstrap_by_group(groups, truths.tolist(), difference, DRAWS)
    value = difference(np.arange(len(names)))
    return f"{value:+.3f}" + (f" [{interval[0]:+.3f}, {interval[1]:+.3f}]" if interval else "")


def _said(run: Run, names: Sequence[str]) -> _Said:
    rows = [run["scores"][name] for name in names]
    return np.array([row[2] for row in rows]), np.array([row[3] for row in rows], np.intp)


def _mean_macro(
    said: Sequence[_Said], rows: NDArray[np.intp], truths: NDArray[np.str_], classes: Sequence[str]
) -> float:
    values = [macro_auroc(scores[rows], truths[rows], folds[rows], classes) for scores, folds in said]
    return float(np.mean([value for value in values if value is not None]))


def _spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    return f"{np.mean(known):.3f} ({min(known):.3f}-{max(known):.3f})"


if __name__ == "__main__":
    sys.exit(main())
