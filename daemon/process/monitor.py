"""One recipe's monitor: reference, charts, and what they say; kept on disk, so that a restart forgets nothing."""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell.errors import DataError
from cell.frames import Stack
from cell.imaging.process_features import FrameReader, relevant_changes
from cell.process import Cause
from cell.recipes import Recipe
from cell.store.files import write_bytes
from daemon.process.causes import Diagnosis, diagnose
from daemon.process.charts import LEAST, Alarm, Charts

#: Least change of the anomaly score that matters, in logits.
_SCORE = 0.2
#: The score has a chart of its own: the alarms of all charts together are shared out between the two banks.
_SHARE = 2.0
#: Times of parts are kept each so many parts.
_TIME_EVERY, _TIMES = 8, 4096
#: The latest parts, which speak for the cause.
_LOOK_ON = 48
_SCORE_LIMIT = 8.0
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Finding:
    """A change that was found: since when, what it likely is."""

    since: datetime
    part: int
    diagnosis: Diagnosis


class Monitor:
    """See the module. One thread at a time.

    :param parts_a_false_alarm: parts that shall pass between two false alarms.
    """

    def __init__(self, recipe: Recipe, parts_a_false_alarm: float = 50_000) -> None:
        self.recipe = recipe
        self._parts = parts_a_false_alarm
        self._reset()

    def _reset(self) -> None:
        self.reader = FrameReader(self.recipe)
        relevant = relevant_changes(self.reader.channels)
        self.charts = Charts(self.reader.names, relevant, self._parts * _SHARE)
        self.scores = Charts(("score",), (_SCORE,), self._parts * _SHARE)
        self.model_digest = ""
        self.parts = 0
        self.started: datetime | None = None
        self._relevant = dict(zip((*self.reader.names, "score"), (*relevant, _SCORE), strict=True))
        self._times: deque[tuple[int, int, str]] = deque(maxlen=_TIMES)  # parts of either bank, and when

    def restart(self) -> None:
        """Learn the present state anew."""
        self._reset()

    def take(self, stack: Stack, at: datetime, score: float | None, model_digest: str) -> Finding | None:
        """Look at one part; return the finding when this one gives it.

        :param stack: (K, H, W) DN; :param score: of the model in [0, 1], None when none judged.
        Raises `DataError` for a frame set that is not of the recipe's size.
        """
        values = self.reader.read(stack)
        return self.chart(values, at, score, model_digest)

    def chart(
        self, values: NDArray[np.float64] | None, at: datetime, score: float | None, model_digest: str
    ) -> Finding | None:
        """Chart features that were read before; None while the reference is being made."""
        self.parts += 1
        self.started = self.started or at
        if self.parts % _TIME_EVERY == 1:
            self._times.append((self.charts.seen, self.scores.seen, at.isoformat()))
        alarm = None if values is None else self.charts.update(values)
        by_score = self._chart_score(score, model_digest)
        if alarm is not None:
            return self._found(alarm, 0, at)
        if by_score is not None and self.charts.alarm is None:
            return self._found(by_score, 1, at)
        return None

    def _chart_score(self, score: float | None, model_digest: str) -> Alarm | None:
        if score is None:
            return None
        if model_digest != self.model_digest:
            # Another model's scores are another scale.
            self.model_digest = model_digest
            self.scores.restart()
        inside = min(max(score, 1e-9), 1 - 1e-9)
        logit = math.log(inside / (1 - inside))
        return self.scores.update(np.array([min(max(logit, -_SCORE_LIMIT), _SCORE_LIMIT)]))

    def _found(self, alarm: Alarm, bank: int, at: datetime) -> Finding:
        since = at
        for images, scores, then in self._times:
            if (scores if bank else images) <= alarm.since:
                since = datetime.fromisoformat(then)
        # The two banks count parts of their own.
        return Finding(since, self.parts, self.diagnosis(alarm.since if bank == 0 else None))

    @property
    def alarmed(self) -> bool:
        """Tell whether a change was found that nobody has settled."""
        return self.charts.alarm is not None or self.scores.alarm is not None

    def diagnosis(self, since: int | None = None) -> Diagnosis:
        """Return what the parts since a change say of its cause, all parts up to now counted."""
        alarm = self.charts.alarm
        begin = since if since is not None else (alarm.since if alarm is not None else self.charts.seen - _LOOK_ON)
        changes: dict[str, float] = {}
        spread: dict[str, float] = {}
        if self.charts.watching:
            # A change that came slowly is seen best in the latest parts.
            begin = max(begin, self.charts.seen - _LOOK_ON)
            moved = self.charts.since(begin) - self.charts.baseline
            changes |= dict(zip(self.charts.names, map(float, moved), strict=True))
            spread |= dict(zip(self.charts.names, map(float, self.charts.deviation), strict=True))
        if self.scores.watching and self.scores.alarm is not None:
            changes["score"] = float(self.scores.since(self.scores.alarm.since)[0] - self.scores.baseline[0])
            spread["score"] = float(self.scores.deviation[0])
        if not changes:
            return Diagnosis(Cause.UNKNOWN, "nothing was learned yet", {})
        return diagnose(changes, self._relevant, spread, max(1, self.charts.seen - begin))

    def report(self) -> dict[str, Any]:
        """Return how the monitor stands, for people."""
        charts = self.charts
        if not self.reader.ready:
            state = "making its reference"
        elif self.alarmed:
            state = "change found"
        else:
            state = "watching" if charts.watching else "learning"
        likely = self.diagnosis() if self.alarmed else None
        nearest = [int(index) for index in np.argsort(-charts.levels)[:5]] if charts.watching else []
        return {
            "recipe_id": self.recipe.recipe_id,
            "state": state,
            "parts": self.parts,
            "learned": min(charts.learned, LEAST),
            "to_learn": LEAST,
            "since": self.started.isoformat() if self.started else None,
            "likely": None if likely is None else {"cause": likely.cause.value, "sentence": likely.sentence},
            "score_watched": self.scores.watching,
            "charts": len(charts.names) + 1,
            "nearest": [
                {
                    "feature": charts.names[index],
                    "level": round(float(charts.levels[index]), 3),
                    "change": float(charts.since(charts.seen - 16)[index] - charts.baseline[index]),
                    "deviation": float(charts.deviation[index]),
                }
                for index in nearest
            ],
        }

    def save(self, path: Path) -> None:
        """Write the monitor as ``.npz``, atomically. Raises `StoreError` when it can't be written."""
        facts = {
            "format": _FORMAT,
            "recipe": setup_digest(self.recipe),
            "parts": self.parts,
            "model": self.model_digest,
            "started": self.started.isoformat() if self.started else None,
            "times": list(self._times),
        }
        arrays: dict[str, NDArray[Any]] = {"facts": np.array(json.dumps(facts))}
        for prefix, state in (("r", self.reader.state()), ("c", self.charts.state()), ("s", self.scores.state())):
            arrays |= {f"{prefix}.{key}": value for key, value in state.items()}
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        write_bytes(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path, recipe: Recipe, parts_a_false_alarm: float = 50_000) -> Monitor:
        """Read a monitor back. Raises `DataError` when the file is none, or is of another set-up of the recipe."""
        monitor = cls(recipe, parts_a_false_alarm)
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as data:
                facts = json.loads(str(data["facts"]))
                if facts["format"] != _FORMAT or facts["recipe"] != setup_digest(recipe):
                    raise DataError(f"{path.name} is of another set-up of {recipe.recipe_id}; the monitor learns anew")
                parts = {
                    prefix: {key[2:]: data[key] for key in data.files if key.startswith(f"{prefix}.")}
                    for prefix in "rcs"
                }
            monitor.reader.restore(parts["r"])
            if monitor.reader.ready:
                monitor.charts.restore(parts["c"])
            monitor.scores.restore(parts["s"])
            monitor.parts, monitor.model_digest = int(facts["parts"]), str(facts["model"])
            monitor.started = datetime.fromisoformat(facts["started"]) if facts["started"] else None
            monitor._times.extend((int(a), int(b), str(at)) for a, b, at in facts["times"])
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"{path.name} is not a process monitor; it learns anew") from error
        return monitor


def setup_digest(recipe: Recipe) -> str:
    """Return what the features depend on of a recipe: a new threshold does not make the monitor learn anew."""
    kept = recipe.model_copy(
        update={"version": 1, "threshold": None, "defect_classes": recipe.defect_classes[:1], "deadline_ms": 1.0}
    )
    return kept.record_digest()
