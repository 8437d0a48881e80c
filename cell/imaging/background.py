"""What good parts look like: a streaming, bounded model that says how unlike them a picture is.

Two layers, both learned from good parts alone. Where parts have a picture in common (they lie in a fixture, or can be
turned to lie as one another), the *golden* layer keeps the robust mean and spread of every pixel's log contrast and
takes them out; the first parts show whether it helps, and where it doesn't (textures, parts of many sizes) it is left
out. On what remains, :mod:`cell.imaging.surprise` says how rare each neighbourhood is. Memory is bounded by the frame
and the channels, however many parts went by.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell.defects import Mask
from cell.errors import DataError
from cell.frames import Stack
from cell.imaging import extremes, golden, regions, surprise
from cell.imaging.contrast import BLACK_OFFSET
from cell.imaging.golden import Golden
from cell.imaging.registration import LEAST_AGREEMENT, Pose
from cell.imaging.surprise import Maps
from cell.store.files import write_bytes

#: Good parts that are needed before anything is called unlike them.
LEAST_PARTS = 8
#: Good parts at which the model is made anew from all that it saw, with ever better medians.
_ANEW = (LEAST_PARTS, 2 * LEAST_PARTS, 4 * LEAST_PARTS)
#: Memory that the first parts may take, bytes.
_FIRST_BYTES = 256 << 20
#: Contrast in natural log that counts as 1, as in the one preprocessing.
_SCALE = 0.3
#: Never reached above the black offset's own logarithm; what is cut off would seem to vary less than it does.
_LIMIT = 12.0
_SCORES = 256
#: A score grows by this factor (natural logarithm) with each robust deviation.
_PER_DEVIATION = 0.1
#: The first parts are looked at by golden layers of the others, so many of them.
_FOLDS = 4
#: Over how many pixels the usual surprise is smoothed, and its least value as a share of the median place's.
_USUAL_PX, _LEAST_USUAL = 3.0, 0.5
_FORMAT = 5


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A picture as the model sees it.

    `log` and `residual` (K, H, W) float32: normalised log contrast, and what is left of it without what good parts have
    in common; `anomaly` (H, W) float32: 1 is a good part's typical peak, 0 is outside of the part.
    """

    part: Mask
    pose: Pose
    log: Maps
    residual: Maps
    anomaly: NDArray[np.float32]
    #: Robust deviations above good parts, and the same as a score: 1 is a typical good part, 1.5 a suspicious one.
    deviations: float
    score: float
    #: What they come from: the peak of the surprise, and the oddest filter's deviation.
    raw: tuple[float, float]
    look: surprise.Look
    surprise: Maps
    extremes: extremes.Extremes


@dataclass(slots=True)
class BackgroundModel:
    """See the module. Good parts enter by :meth:`add`; bad ones are to be kept out by the caller."""

    channels: int
    bit_depth: int
    seen: int = 0
    counts: surprise.Counts = field(init=False)
    golden: Golden | None = None
    #: How surprising each place usually is, (H, W), in the reference's place: edges and glints more than faces.
    usual: Maps | None = None
    #: Extreme filter responses of the last good parts.
    known: deque[extremes.Extremes] = field(default_factory=lambda: deque(maxlen=_SCORES))
    #: Peak of the surprise and oddest filter of the last parts, each by a model that did not know that part.
    scores: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=_SCORES))
    _first: list[tuple[Stack, Mask]] = field(default_factory=list)
    _table: Maps | None = None
    _usual: tuple[extremes.Extremes, extremes.Extremes] | None = None

    def __post_init__(self) -> None:
        self.counts = surprise.empty_counts(self.channels)

    @property
    def ready(self) -> bool:
        """True when enough good parts were seen."""
        return self.seen >= LEAST_PARTS

    @property
    def aligns(self) -> bool:
        """True where parts have a picture in common, so that a part's place is known."""
        return self.golden is not None

    def begin(self, parts: Sequence[tuple[Stack, Mask]]) -> list[float]:
        """Forget everything and learn these good parts, at least `LEAST_PARTS` (K, H, W) DN with (H, W) bool.

        Golden layer by medians: a few bad ones among many do little harm. Returns the score of each part by what the
        others alone say, in robust deviations.
        """
        logs = [self._log(stack, part) for stack, part in parts]
        looks, poses = self._first_looks(logs, [part for _, part in parts])
        self.counts = surprise.empty_counts(self.channels)
        self.scores.clear()
        self.seen = len(parts)
        for look in looks:
            surprise.count(self.counts, look)
        maps = [self._map_without(look) for look in looks]
        self.usual = None
        if self.golden is not None:
            placed = [pose.to_reference(found) for found, pose in zip(maps, poses, strict=True)]
            total = np.sum(placed, axis=0)
            self.usual = (total / len(placed)).astype(np.float32)
            # Each by what is usual on the others.
            maps = [
                found / self._usually(((total - own) / max(len(placed) - 1, 1)).astype(np.float32), pose)
                for found, own, pose in zip(maps, placed, poses, strict=True)
            ]
        peaks = [_peak(found, part) for found, (_, part) in zip(maps, parts, strict=True)]
        self.known.clear()
        self.known.extend(extremes.of(look) for look in looks)
        self._usual = self._table = None
        self.scores.extend(zip(peaks, self._oddest_of_known(), strict=True))
        return [self._deviations(raw) for raw in list(self.scores)]

    def note(self, view: View) -> None:
        """Remember how odd a part was that teaches nothing: what is usual is known from all parts, not the best."""
        self.scores.append(view.raw)

    def add(self, stack: Stack, part: Mask, view: View | None = None) -> None:
        """Take a good part in: `stack` (K, H, W) DN, `part` (H, W) bool; its `view` when that was noted already."""
        if self.seen == len(self._first) and self.seen < _ANEW[-1]:
            self._first.append((stack.copy(), part))
            if len(self._first) in _ANEW:
                self.begin(self._first)
                return
            if sum(one.nbytes for one, _ in self._first) > _FIRST_BYTES and self.ready:
                self._first.clear()
        if self.ready:
            if view is None:
                view = self.view(stack, part)
                self.note(view)
            surprise.count(self.counts, view.look)
            self.known.append(view.extremes)
            if self.golden is not None:
                self._learn_usual(view)
                self.golden.add(view.log, view.pose, self.seen)
            self._usual = self._table = None
        self.seen += 1
        if self.seen >= _ANEW[-1]:
            self._first.clear()

    def view(self, stack: Stack, part: Mask) -> View:
        """Look at a picture. Raises `DataError` before enough good parts were seen, or for other channels."""
        if not self.ready:
            raise DataError(f"the background model has seen {self.seen} good parts; it needs {LEAST_PARTS}")
        log = self._log(stack, part)
        residual, pose = self._residual(log)
        look = surprise.look(residual, part)
        found = surprise.surprise_map(self._surprises(), look)
        raw = found if self.usual is None else found / self._usually(self.usual, pose)
        own = extremes.of(look)
        both = (_peak(raw, part), extremes.deviation(own, *self._extremes()))
        typical = self._typical()
        anomaly: NDArray[np.float32] = (raw / np.float32(typical[0])).astype(np.float32)
        if self.golden is not None:
            odd = extremes.deviation_map(look, *self._extremes()) / np.float32(typical[1])
            np.maximum(anomaly, odd, out=anomaly)
        anomaly[~part] = 0
        deviations = self._deviations(both)
        score = float(np.exp(_PER_DEVIATION * deviations))
        return View(part, pose, log, residual, anomaly, deviations, score, both, look, found, own)

    def anomaly_map(self, stack: Stack, part: Mask) -> NDArray[np.float32]:
        """Return how unlike good parts each pixel is, (H, W) float32: 1 is a good part's typical peak, 0 is outside.

        Raises as :meth:`view` does.
        """
        return self.view(stack, part).anomaly

    def score(self, stack: Stack, part: Mask) -> float:
        """Return the anomaly of a picture, about 1 for a good part."""
        return self.view(stack, part).score

    def is_typical(self, score: float, spread: float = 4.0) -> bool:
        """Tell whether a score lies within `spread` robust deviations of the good parts' scores."""
        return float(np.log(max(score, 1e-6))) <= spread * _PER_DEVIATION

    def propose_mask(self, stack: Stack, part: Mask) -> Mask:
        """Return the most suspicious regions, (H, W) bool; never empty as long as the part is not."""
        return self.mask_of(self.view(stack, part))

    def mask_of(self, view: View) -> Mask:
        """Return the most suspicious regions of a picture, (H, W) bool; never empty as long as the part is not.

        A faint defect gets a mask too, since somebody said that there is one: the threshold is a share of the
        picture's own peak.
        """
        return regions.propose(view.anomaly, view.residual, view.part)

    def save(self, path: Path) -> None:
        """Write the model as ``.npz``, atomically. Raises `StoreError` when it can't be written."""
        facts = {"format": _FORMAT, "channels": self.channels, "bit_depth": self.bit_depth, "seen": self.seen}
        arrays: dict[str, NDArray[np.generic]] = {
            "counts": self.counts,
            "scores": np.asarray(self.scores),
            "known": np.stack(self.known),
        }
        if self.golden is not None:
            arrays |= {"mean": self.golden.mean, "variance": self.golden.variance}
        if self.usual is not None:
            arrays["usual"] = self.usual
        buffer = io.BytesIO()
        np.savez_compressed(buffer, facts=np.array(json.dumps(facts)), **arrays)  # type: ignore[arg-type]
        write_bytes(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> BackgroundModel:
        """Read a model back. Raises `DataError` when the file is not one, or has too few parts to go on from."""
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as data:
                facts = json.loads(str(data["facts"]))
                if facts["format"] != _FORMAT or facts["seen"] < LEAST_PARTS:
                    raise DataError(f"{path} is of another version; it is made again from the backgrounds")
                model = cls(int(facts["channels"]), int(facts["bit_depth"]), int(facts["seen"]))
                if data["counts"].shape != model.counts.shape:
                    raise DataError(f"{path} does not fit its own description; it is made again from the backgrounds")
                model.counts = data["counts"]
                model.scores.extend((float(peak), float(odd)) for peak, odd in data["scores"])
                model.known.extend(data["known"])
                if "mean" in data:
                    model.golden = Golden(data["mean"], data["variance"])
                if "usual" in data:
                    model.usual = data["usual"]
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"{path} is not a background model; it is made again from the backgrounds") from error
        return model

    def _first_looks(self, logs: list[Maps], parts: list[Mask]) -> tuple[list[surprise.Look], Sequence[Pose]]:
        """Make the golden layer, and look at each part with one that does not know it, as at every later part."""
        common = golden.together(logs, parts)
        self.golden = None if common is None else common.golden()
        if common is None:
            return [surprise.look(log, part) for log, part in zip(logs, parts, strict=True)], [Pose()] * len(logs)
        looks: dict[int, surprise.Look] = {}
        folds = _FOLDS if len(logs) >= _FOLDS * 4 else 1
        for fold in range(folds):
            own = slice(fold, None, folds)
            layer = common.golden(without=own) if folds > 1 else common.golden()
            for index in range(len(logs))[own]:
                residual = layer.residual(logs[index], common.poses[index])
                looks[index] = surprise.look(residual, parts[index])
        return [looks[index] for index in range(len(logs))], common.poses

    def _map_without(self, look: surprise.Look) -> Maps:
        alone = surprise.empty_counts(self.channels)
        surprise.count(alone, look)
        return surprise.surprise_map(surprise.tables(self.counts - alone), look)

    def _usually(self, usual: Maps, pose: Pose) -> Maps:
        """Return what to divide a part's surprise by: 1 where it is usual, more at places that always surprise."""
        smooth = ndimage.gaussian_filter(usual, _USUAL_PX, mode="nearest")
        middle = max(float(np.median(smooth)), 1e-3)
        if pose.agreement < LEAST_AGREEMENT:
            pose = Pose()
        placed: Maps = pose.from_reference(np.maximum(smooth / np.float32(middle), np.float32(_LEAST_USUAL)))
        return placed

    def _learn_usual(self, view: View) -> None:
        if self.usual is None or view.surprise.shape != self.usual.shape or view.pose.agreement < LEAST_AGREEMENT:
            return
        most = 3 * self.usual + np.median(self.usual)
        placed = np.minimum(view.pose.to_reference(view.surprise), most)
        self.usual += np.float32(1.0 / min(self.seen + 1, _SCORES)) * (placed - self.usual)

    def _typical(self) -> NDArray[np.float64]:
        """Return the median peak of the surprise and the median oddest filter of the last parts."""
        if not self.scores:
            return np.ones(2)
        typical: NDArray[np.float64] = np.maximum(np.median(self._recent(), axis=0), (1e-3, 0.5))
        return typical

    def _deviations(self, raw: tuple[float, float]) -> float:
        """Return by how many robust deviations (of logarithms) a part lies above the last ones.

        By the odder of the two where parts look alike. On a texture single filters run wild on good parts too, each
        part in its own way; there the sum decides.
        """
        known = np.log(np.maximum(self._recent(), (1e-3, 0.5)))
        middle = np.median(known, axis=0)
        spread = np.maximum(1.4826 * np.median(np.abs(known - middle), axis=0), (0.03, 0.1))
        found = (np.log(np.maximum(raw, (1e-3, 0.5))) - middle) / spread
        return float(found.max() if self.golden is not None else found[0])

    def _oddest_of_known(self) -> list[float]:
        """Return the oddest filter of each known part, by the others."""
        known = list(self.known)
        if len(known) < LEAST_PARTS // 2:
            return [1.0] * len(known)
        return [
            extremes.deviation(own, *extremes.usual(known[:index] + known[index + 1 :]))
            for index, own in enumerate(known)
        ]

    def _extremes(self) -> tuple[extremes.Extremes, extremes.Extremes]:
        if self._usual is None:
            self._usual = extremes.usual(self.known)
        return self._usual

    def _recent(self) -> NDArray[np.float64]:
        # Scores fall while the model learns what there is: the older half was given by a model that knew less.
        known = np.asarray(self.scores, np.float64)
        return known[len(known) // 2 :] if len(known) >= 2 * LEAST_PARTS and self.seen > _ANEW[-1] else known

    def _surprises(self) -> Maps:
        if self._table is None:
            self._table = surprise.tables(self.counts)
        return self._table

    def _residual(self, log: Maps) -> tuple[Maps, Pose]:
        if self.golden is None:
            return log, Pose()
        if self.golden.mean.shape != log.shape:
            return log, Pose(agreement=0.0)
        pose = self.golden.pose(log)
        if pose.agreement < LEAST_AGREEMENT:
            return self.golden.residual(log, Pose()), Pose(agreement=pose.agreement)
        return self.golden.residual(log, pose), pose

    def _log(self, stack: Stack, part: Mask) -> Maps:
        """Return the log contrast against the part's own median, (K, H, W) float32; carrier takes the nearest part
        pixel's."""
        if stack.shape[0] != self.channels:
            raise DataError(f"the background model has {self.channels} channels, the picture {stack.shape[0]}")
        levels = stack.astype(np.float32) / np.float32((1 << self.bit_depth) - 1)
        log: Maps = np.log(levels + np.float32(BLACK_OFFSET)).astype(np.float32)
        inside = part if part.any() else np.ones_like(part)
        log -= np.median(log[:, inside], axis=1)[:, None, None]
        np.clip(log / np.float32(_SCALE), -_LIMIT, _LIMIT, out=log)
        if inside.all():
            return log
        nearest = ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True)
        filled: Maps = log[:, nearest[0], nearest[1]]
        return filled


def _peak(anomaly: NDArray[np.float32], part: Mask) -> float:
    values = anomaly[part] if part.any() else anomaly.ravel()
    # A share of the picture, so that texture averages out, but never more than a small defect's area.
    kept = int(min(max(5, 0.002 * values.size), 200, values.size))
    return float(np.partition(values, values.size - kept)[-kept:].mean())
