"""Put runs of the few-shot benchmark side by side.

    python -m benchmarks.fewshot_table RUN.json ... [--against real[:SHOTS]] [--tolerance 0.02]

One line an arm and number of shots, ``ARM@SHARE`` where the runs differ in `--ratio`, ``ARM -SHARE [CLASS]`` where real
parts were left out: mean over the random seeds with their spread (smallest to largest), and the differences of macro
AUROC and pixel AP to the arm `--against` (at the same number of shots, or at SHOTS) with their paired 95 % intervals:
parts are drawn, not pictures, and both arms are scored on the same draw, so what is hard for both cancels out. Runs
that are older than the record of their pixels show no difference of the pixel AP.

Below it what each arm is worth: by how much fewer defective pictures pass than with `--against` (at each run's frozen
threshold where all have one, and at FR 5 %, that threshold chosen on the test), at how many real shots the learning
curve of `real` alone reaches its figures (where `real` was run at two numbers of shots or more), and which share of
the distance from the best other arm to `oracle` it closes. Last, which share of the real parts may be left out.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks._worth import Drawn, Floats, Run, interval, ratio, real_shots, share_closed

_COLUMNS = ("auroc", "auroc_macro", "pixel_ap", "pixel_ap_macro", "fa", "fr", "oracle_fa_at_fr5", "oracle_fr_at_fa0")
_REAL, _ORACLE = "real", "oracle"
#: Name of the line and number of shots.
_Key = tuple[str, int]
_Groups = dict[_Key, list[Run]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fewshot_table", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--against", default=_REAL, help="ARM or ARM:SHOTS to compare with")
    parser.add_argument(
        "--tolerance", type=float, default=0.02, help="loss that real parts left out may cost, for the last table"
    )
    options = parser.parse_args(arguments)
    read = [json.loads(path.read_text(encoding="utf-8")) for path in options.runs]
    several = len({run.get("ratio") for run in read} - {None}) > 1
    groups: _Groups = {}
    for run in read:
        groups.setdefault((_name(run, several=several), run["shots"]), []).append(run)
    groups = dict(sorted(groups.items(), key=lambda item: (item[0][1], item[0][0])))
    try:
        table = _Table(groups, options.against, options.tolerance)
        lines = [*table.figures(), *table.worth(), *table.left_out()]
    except ValueError as error:
        print(f"fewshot_table: {error}", file=sys.stderr)
        return 65
    print("\n".join(lines))
    return 0


def _name(run: Run, *, several: bool) -> str:
    """Return the arm, with its share of synthetic crops where the runs differ in it, and what was left out."""
    share, left_out = run.get("ratio"), run.get("left_out")
    name = f"{run['arm']}@{share:g}" if several and share is not None else str(run["arm"])
    return name if not left_out else f"{name} -{left_out['share']:.0%} {left_out['class'] or ''}".rstrip()


class _Table:
    """The lines of all tables; every figure is an array over the same draws of parts."""

    def __init__(self, groups: _Groups, against: str, tolerance: float) -> None:
        self._groups, self._against, self._tolerance = groups, against, tolerance
        arm, _, shots = against.partition(":")
        self._arm, self._shots = arm, int(shots) if shots else None
        self._drawn = Drawn(next(iter(groups.values()))[0])
        self._known: dict[tuple[str, _Key], Floats | None] = {}

    def figures(self) -> list[str]:
        """Return the figures of every arm and the differences."""
        names = [f"{name} - {self._against} [95 % by part]" for name in ("macro AUROC", "pixel AP", "its macro")]
        lines = _heading(["arm", "shots", "seeds", *_COLUMNS, *names])
        for key, runs in self._groups.items():
            cells = [_spread([run[column] for run in runs]) for column in _COLUMNS]
            for name in ("auroc_macro", "pixel_ap", "pixel_ap_macro"):
                ours, theirs = self._values(name, key), self._values(name, self._other(key))
                cells.append("-" if ours is None or theirs is None else _signed(ours - theirs))
            lines.append(_row([key[0], key[1], len(runs), *cells]))
        return lines

    def worth(self) -> list[str]:
        """Return what each arm but `--against` and `oracle` is worth."""
        rows = []
        for key, runs in self._groups.items():
            other = self._other(key)
            if runs[0]["arm"] in {_ORACLE, _REAL} or runs[0].get("left_out"):
                continue
            fewer = []
            for name in ("fa", "fa_at_fr5"):
                ours, theirs = self._values(name, key), self._values(name, other)
                fewer.append("-" if ours is None or theirs is None else _times(ratio(theirs, ours)))
            pair = ("auroc_macro", "pixel_ap_macro")
            rows.append(_row([*key, *fewer, *(self._as_shots(name, key) for name in pair),
                              *(self._closes(name, key) for name in pair)]))  # fmt: skip
        if not rows:
            return []
        real, fr5 = f"FA({self._against})/FA", "at FR 5 %, chosen on the test"
        columns = ["arm", "shots", f"{real} at the frozen threshold [95 % by part]", f"{real} {fr5}",
                   "macro AUROC as of real shots", "pixel AP macro as of real shots",
                   "closes from the best other arm to oracle: macro AUROC", "the same: pixel AP macro"]  # fmt: skip
        return ["", *_heading(columns), *rows]

    def left_out(self) -> list[str]:
        """Return what leaving out real parts costs against `--against` with all of them, and what may be left out."""
        rows, series = [], dict[tuple[str, int, str], dict[float, list[Floats | None]]]()
        for key, runs in self._groups.items():
            told, other = runs[0].get("left_out"), self._other(key)
            if not told or other is None:
                continue
            classes = [told["class"]] if told["class"] else []
            found = []
            for measure in (self._drawn.auroc, self._drawn.pixel_ap_macro):
                ours, theirs = measure(runs, classes), measure(self._groups[other], classes)
                found.append(None if ours is None or theirs is None else ours - theirs)
            arm = key[0].rsplit(" -", 1)[0]
            series.setdefault((arm, key[1], told["class"] or "all"), {})[told["share"]] = found
            cells = ["-" if one is None else _signed(one) for one in found]
            rows.append(_row([arm, key[1], told["class"] or "all", f"{told['share']:.0%}", len(runs), *cells]))
        if not rows:
            return []
        columns = ["arm", "shots", "class", "left out", "seeds", f"AUROC of the class, or macro - {self._against}",
                   f"its pixel AP - {self._against}"]  # fmt: skip
        return ["", *_heading(columns), *rows, "", *self._may_be_left_out(series)]

    def _may_be_left_out(self, series: dict[tuple[str, int, str], dict[float, list[Floats | None]]]) -> list[str]:
        lines = []
        for (arm, shots, name), found in series.items():
            for place, figure in enumerate(("AUROC", "pixel AP")):
                values = [(share, one[place]) for share, one in sorted(found.items())]
                mean = _largest(values, lambda one: bool(one[0] >= 0))
                shown = _largest(values, lambda one: interval(one)[0] >= -self._tolerance)
                lines.append(
                    f"{arm}, {shots} shots, {name}: by {figure}, {mean:.0%} of the real parts may be left out in the "
                    f"mean; {shown:.0%} with the lower bound of the difference above -{self._tolerance:g}"
                )
        return lines

    def _as_shots(self, name: str, key: _Key) -> str:
        curve = {}
        for other, runs in self._groups.items():
            values = self._values(name, other) if runs[0]["arm"] == _REAL and not runs[0].get("left_out") else None
            if values is not None:
                curve[other[1]] = values
        ours = self._values(name, key)
        if ours is None or len(curve) < 2:
            return "-"
        found = real_shots(curve, ours)
        least, most = min(curve), max(curve)

        def told(value: float) -> str:
            return f"<{least}" if value == 0 else f">{most}" if math.isinf(value) else f"{value:.1f}"

        low, high = interval(found)
        words = {0.0: f"less than {least}", math.inf: f"more than {most}"}
        return f"{words.get(float(found[0]), told(float(found[0])))} [{told(low)}, {told(high)}]"

    def _closes(self, name: str, key: _Key) -> str:
        rivals: dict[str, Floats] = {}
        oracle: Floats | None = None
        for other, runs in self._groups.items():
            values = self._values(name, other) if other[1] == key[1] and other != key else None
            if values is None or runs[0].get("left_out"):
                continue
            if runs[0]["arm"] == _ORACLE:
                oracle = values
            elif runs[0]["arm"] != self._groups[key][0]["arm"]:
                rivals[other[0]] = values
        ours = self._values(name, key)
        if ours is None or oracle is None or not rivals:
            return "-"
        best = max(rivals, key=lambda one: float(rivals[one][0]))
        share, bounds = share_closed(ours, rivals[best], oracle)
        if math.isnan(share):
            return f"{best} is not below oracle"
        if bounds is None:
            return f"{share:.0%} from {best} (oracle not shown to be ahead)"
        return f"{share:.0%} [{bounds[0]:.0%}, {bounds[1]:.0%}] from {best}"

    def _values(self, name: str, key: _Key | None) -> Floats | None:
        if key is None or key not in self._groups:
            return None
        runs, drawn = self._groups[key], self._drawn
        if (name, key) not in self._known:
            self._known[name, key] = {
                "auroc_macro": lambda: drawn.auroc(runs),
                "pixel_ap": lambda: drawn.pixel_ap(runs),
                "pixel_ap_macro": lambda: drawn.pixel_ap_macro(runs),
                "fa": lambda: drawn.false_acceptance(runs, frozen=True),
                "fa_at_fr5": lambda: drawn.false_acceptance(runs, frozen=False),
            }[name]()
        return self._known[name, key]

    def _other(self, key: _Key) -> _Key | None:
        other = (self._arm, key[1] if self._shots is None else self._shots)
        return other if other != key and other in self._groups else None


def _largest(values: Sequence[tuple[float, Floats | None]], fits: Callable[[Floats], bool]) -> float:
    """Return the largest share up to which every one that was tried fits; 0 when not even the first does."""
    largest = 0.0
    for share, one in values:
        if one is None or not fits(one):
            break
        largest = share
    return largest


def _heading(columns: Sequence[str]) -> list[str]:
    return [_row(columns), "|" + " --- |" * len(columns)]


def _row(cells: Sequence[object]) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _signed(values: NDArray[np.float64]) -> str:
    low, high = interval(values)
    return f"{values[0]:+.3f} [{low:+.3f}, {high:+.3f}]"


def _times(values: NDArray[np.float64]) -> str:
    first, low, high = (f"{value:.2f}x" if math.isfinite(value) else "none passes" for value in
                        (float(values[0]), *interval(values)))  # fmt: skip
    return f"{first} [{low}, {high}]"


def _spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    return f"{np.mean(known):.3f} ({min(known):.3f}-{max(known):.3f})"


if __name__ == "__main__":
    sys.exit(main())
