"""Put runs of the few-shot benchmark side by side.

    python -m benchmarks.fewshot_table RUN.json ... [--against real[:SHOTS]]

One line an arm and number of shots, and ``ARM@SHARE`` where the runs differ in `--ratio`: mean over the random seeds
with their spread (smallest to largest), and the differences of macro AUROC and pixel AP to the arm `--against` (at the
same number of shots, or at SHOTS) with their paired 95 % intervals: parts are drawn, not pictures, and both arms are
scored on the same draw, so what is hard for both cancels out. Runs that are older than the record of their pixels show
no difference of the pixel AP.
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
from benchmarks._pixels import average_precisions, draw_parts
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
    parser.add_argument("--against", default="real", help="ARM or ARM:SHOTS to compare with")
    options = parser.parse_args(arguments)
    read = [json.loads(path.read_text(encoding="utf-8")) for path in options.runs]
    several = len({run.get("ratio") for run in read} - {None}) > 1
    runs: dict[tuple[str, int], list[Run]] = {}
    for run in read:
        runs.setdefault((_name(run, several=several), run["shots"]), []).append(run)
    arm_against, _, shots_against = options.against.partition(":")
    differences = [f"{name} - {options.against} [95 % by part]" for name in ("macro AUROC", "pixel AP", "its macro")]
    print(f"| arm | shots | seeds | {' | '.join([*_COLUMNS, *differences])} |")
    print("|" + " --- |" * (3 + len(_COLUMNS) + len(differences)))
    for (arm, shots), group in sorted(runs.items(), key=lambda item: (item[0][1], item[0][0])):
        cells = [_spread([run[column] for run in group]) for column in _COLUMNS]
        against = (arm_against, int(shots_against or shots))
        other = runs.get(against) if against != (arm, shots) else None
        cells += ["-"] * 3 if other is None else [paired_difference(group, other), *paired_pixels(group, other)]
        print(f"| {arm} | {shots} | {len(group)} | {' | '.join(cells)} |")
    return 0


def _name(run: Run, *, several: bool) -> str:
    """Return the arm, with its share of synthetic crops where the runs differ in it."""
    share = run.get("ratio")
    return f"{run['arm']}@{share:g}" if several and share is not None else str(run["arm"])


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


def paired_pixels(runs: Sequence[Run], others: Sequence[Run]) -> list[str]:
    """Return the differences of pixel AP, pooled and macro, each with its paired interval by part."""
    records, other_records = ([run["pixels"] for run in side if run.get("pixels")] for side in (runs, others))
    if not records or not other_records:
        return ["-", "-"]
    keys = sorted(records[0])
    draws = np.vstack([np.ones((1, len(keys)), np.intp), draw_parts(keys, DRAWS)])
    found = []
    for classes in (None, sorted({key.rsplit("|", 1)[1] for key in keys} - {GOOD})):
        values = average_precisions(records, draws, classes) - average_precisions(other_records, draws, classes)
        low, high = np.percentile(values[1:], [2.5, 97.5])
        found.append(f"{values[0]:+.3f} [{low:+.3f}, {high:+.3f}]")
    return found


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
