"""What a run's plan asked of its candidates beside what came of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cell.defects import GeneratorParameters
from trainer.generate.control import BOUNDS, Control, Histogram

#: Bins of a range that was asked for.
_BINS = 5


def asked_and_made(made: Iterable[GeneratorParameters], controls: Mapping[str, Control]) -> list[dict[str, Any]]:
    """Return a histogram for each class and target that was asked: how many were asked in each bin, how many came out.

    What came out below the first edge or above the last is in `below` and `above`; `off` is the median distance of
    made from asked, relative, or in degrees for orientation.
    """
    by_class: dict[str, list[GeneratorParameters]] = defaultdict(list)
    for one in made:
        by_class[one.defect_class].append(one)
    told = []
    for defect_class, members in sorted(by_class.items()):
        control = controls.get(defect_class)
        for name in BOUNDS:
            target = getattr(control, name, None)
            pairs = [(one.asked[name], one.made[name]) for one in members if name in one.asked and name in one.made]
            if target is None or not pairs:
                continue
            unit = next((one.units[name] for one in members if name in one.units), "")
            told.append({"defect_class": defect_class, "target": name, "unit": unit} | _counts(name, target, pairs))
    return told


def _counts(name: str, target: Any, pairs: Sequence[tuple[float, float]]) -> dict[str, Any]:
    wanted, found = np.asarray(pairs, np.float64).T
    if isinstance(target, Histogram):
        edges = np.asarray(target.edges)
    else:
        low, high = target if not isinstance(target, str) else (-90.0, 90.0)
        edges = np.linspace(low, high if high > low else low + 1.0, _BINS + 1)
    if name == "orientation":
        # A line and its opposite are one: bring what was made next to what was asked.
        found = wanted + (found - wanted + 90.0) % 180.0 - 90.0
        off = float(np.median(np.abs(found - wanted)))
    else:
        off = float(np.median(np.abs(found - wanted) / np.maximum(np.abs(wanted), 1e-9)))
    return {
        "edges": [round(float(edge), 6) for edge in edges],
        "asked": np.histogram(wanted, edges)[0].tolist(),
        "made": np.histogram(found, edges)[0].tolist(),
        "below": int((found < edges[0]).sum()),
        "above": int((found > edges[-1]).sum()),
        "off": round(off, 4),
    }
