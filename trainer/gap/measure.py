"""The gap report: every measure in one table, each with its interval and a plain sentence.

::

    real crops, synthetic crops -> classifier in the mask and around it, kernel distance, noise
    backgrounds, calibration    -> null edit: does the noise that is put back look like the camera's
    real crops alone            -> real against real (what no gap looks like), crude paste (what a gap looks like)

Without enough physical parts, or when even a crude paste is not found, the report says that it can't tell: a small
AUROC of a weak test is no evidence (Lopez-Paz and Oquab 2017 on power).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cell.base import Record
from cell.calibration import Calibration
from cell.errors import DataError
from trainer.gap import null
from trainer.gap.crops import Crop, crude_paste, parts_of
from trainer.gap.looks import OCTAVES, Codebook, Table, figures
from trainer.gap.texture import learn_textures
from trainer.gap.two_samples import Told, distance, edits_told, told_apart

#: Upper 95 % bound of the AUROC up to which two sets count as alike, and what a crude paste must reach.
ALIKE, CONTROL = 0.65, 0.90
#: Below this p a difference counts as shown.
_SHOWN = 0.01
#: With fewer real or synthetic parts even an AUROC of 0.5 would have an upper bound above `ALIKE`.
LEAST_PARTS = 20
#: Ratios of noise that count as alike.
NOISE_ALIKE = (0.9, 1.1)
NULL_ALIKE = (0.45, 0.55)
_MOST_SYNTHETIC = 4  # for each real crop
_HALVES = 8
_NULL_WINDOWS = 1024


class Finding(StrEnum):
    """What a measure says."""

    ALIKE = "alike"
    DIFFERENT = "different"
    UNKNOWN = "can't tell"


class Measure(Record):
    """One row of the table."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    finding: Finding
    sentence: str


class GapReport(Record):
    """All measures, and what they say together."""

    measures: tuple[Measure, ...]
    real_crops: int = Field(ge=0)
    real_parts: int = Field(ge=0)
    synthetic_crops: int = Field(ge=0)
    synthetic_parts: int = Field(ge=0)
    conclusion: Finding
    sentence: str
    #: Ids of the synthetic windows, the most recognisable first, and how recognisable each is.
    ranking: tuple[tuple[str, float], ...] = ()

    def measure(self, name: str) -> Measure:
        """Return one row. Raises `KeyError`."""
        return {one.name: one for one in self.measures}[name]


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What is compared. `plain` are windows of untouched good frames, several of each part."""

    real: Sequence[Crop]
    synthetic: Sequence[Crop]
    plain: Sequence[Crop]
    calibration: Calibration
    bit_depth: int
    #: Whole good frames, (K, H, W) float32 each, with their part's name: where the crude paste goes.
    frames: Sequence[tuple[str, NDArray[np.float32]]] = field(default_factory=tuple)


def measure_gap(evidence: Evidence, seed: int = 0, on_step: Callable[[str], None] = lambda _: None) -> GapReport:
    """Return the report. Raises `DataError` without real or synthetic crops, or with differing channels."""
    _check(evidence)
    rng = np.random.default_rng(seed)
    real, synthetic = list(evidence.real), _thinned(evidence.synthetic, len(evidence.real), rng)
    on_step("learning what windows look like")
    codebook = Codebook.learn([*evidence.plain] or real, seed)
    rows: list[Measure] = []
    on_step("comparing defects")
    inside = _Side(codebook, surroundings=False)
    told = inside.compare(real, synthetic, seed)
    power = _controls(evidence, inside, real, rng, seed)
    known = len(parts_of(real)) >= LEAST_PARTS and len(parts_of(synthetic)) >= LEAST_PARTS and power.strong
    rows.append(_c2st("defects", told, known, power))
    rows += power.rows
    on_step("comparing surroundings")
    around = _Side(codebook, surroundings=True).compare(real, synthetic, seed)
    rows.append(_c2st("surroundings", around, known, power))
    on_step("kernel distance")
    rows.append(_distance(inside, real, synthetic, known, seed))
    on_step("noise")
    rows += _noise("defects", real, synthetic, known)
    on_step("null edit")
    rows += _null(evidence, codebook, rng, seed)
    order = np.argsort(-told.scores[len(real) :])
    return _report(evidence, rows, [(synthetic[i].name, float(told.scores[len(real) + i])) for i in order])


def recognisability(
    real: Sequence[Crop], synthetic: Sequence[Crop], plain: Sequence[Crop] = (), seed: int = 0
) -> NDArray[np.float64]:
    """Return how recognisable each synthetic window is, (N,) in (0, 1): its rank, by a judge that never saw its part.

    For sorting doubtful candidates to the front; with few real windows it is rough. Raises `DataError` without any.
    """
    if not real or not synthetic:
        raise DataError("there is nothing to recognise synthetic defects by; confirm seeds first")
    codebook = Codebook.learn([*plain] or [*real], seed)
    told = _Side(codebook, surroundings=False).compare(real, synthetic, seed, permutations=1)
    return told.scores[len(real) :]


def _check(evidence: Evidence) -> None:
    if not evidence.real or not evidence.synthetic:
        raise DataError("a gap needs real and synthetic defects; confirm seeds and generate candidates first")
    channels = {len(crop.pixels) for crop in (*evidence.real, *evidence.synthetic, *evidence.plain)}
    if channels != {len(evidence.calibration.channels)}:
        raise DataError(
            f"pictures of {sorted(channels)} channels can't be compared with a calibration of "
            f"{len(evidence.calibration.channels)}; calibrate again"
        )


def _thinned(crops: Sequence[Crop], real: int, rng: np.random.Generator) -> list[Crop]:
    most = max(_MOST_SYNTHETIC * real, 200)
    if len(crops) <= most:
        return list(crops)
    return [crops[index] for index in sorted(rng.choice(len(crops), most, replace=False))]


@dataclass(frozen=True, slots=True)
class _Side:
    """Compares windows in the mask, or around it."""

    codebook: Codebook
    surroundings: bool
    together: bool = True

    def tables(self, crops: Sequence[Crop]) -> tuple[Table, Table]:
        return (
            figures(crops, surroundings=self.surroundings, together=self.together),
            self.codebook.features(crops, surroundings=self.surroundings),
        )

    def compare(self, real: Sequence[Crop], synthetic: Sequence[Crop], seed: int, permutations: int = 200) -> Told:
        labels = np.arange(len(real) + len(synthetic)) >= len(real)
        both = [*real, *synthetic]
        return told_apart(self.tables(both), labels, [crop.part for crop in both], seed, permutations=permutations)


@dataclass(frozen=True, slots=True)
class _Power:
    """Whether this test could have found a gap, from the same number of real crops."""

    strong: bool
    rows: tuple[Measure, ...]


def _controls(evidence: Evidence, side: _Side, real: list[Crop], rng: np.random.Generator, seed: int) -> _Power:
    parts = parts_of(real)
    rows = [_real_against_real(side, real, parts, rng, seed)]
    frames = [frame for frame in evidence.frames if frame[0] not in set(parts)] or list(evidence.frames)
    if not frames:
        return _Power(False, tuple(rows))
    pasted = []
    for index, source in enumerate(real):
        part, target = frames[index % len(frames)]
        height, width = source.inside.shape
        if target.shape[1] >= height and target.shape[2] >= width:
            pasted.append(crude_paste(source, target, rng, f"paste on {part}"))
    told = side.compare(real, pasted, seed, permutations=50)
    found = told.auroc >= CONTROL
    rows.append(
        Measure(
            name="crude paste",
            value=told.auroc,
            low=told.low,
            high=told.high,
            p=told.p,
            finding=Finding.DIFFERENT if found else Finding.UNKNOWN,
            sentence=f"a crude paste is recognised with an AUROC of {told.auroc:.2f}"
            + ("" if found else f", below {CONTROL:.2f}: the test is too weak here to show anything"),
        )
    )
    return _Power(found, tuple(rows))


def _real_against_real(
    side: _Side, real: list[Crop], parts: tuple[str, ...], rng: np.random.Generator, seed: int
) -> Measure:
    if len(parts) < 10:
        return Measure(
            name="real against real",
            value=None,
            finding=Finding.UNKNOWN,
            sentence=f"{len(parts)} parts are too few to set half of them against the others",
        )
    tables = side.tables(real)
    values = []
    for half in range(_HALVES):
        called = set(rng.permutation(parts)[: len(parts) // 2])
        labels = np.array([crop.part in called for crop in real])
        names = [crop.part for crop in real]
        told = told_apart(tables, labels, names, seed + half, permutations=0, resamples=0)
        values.append(told.auroc)
    mean = float(np.mean(values))
    return Measure(
        name="real against real",
        value=mean,
        low=float(min(values)),
        high=float(max(values)),
        finding=Finding.ALIKE if mean <= 0.6 else Finding.UNKNOWN,
        sentence=f"real defects set against real ones give {mean:.2f} ({min(values):.2f} to {max(values):.2f}): what "
        "no gap looks like here",
    )


def _c2st(name: str, told: Told, known: bool, power: _Power) -> Measure:
    if told.p <= _SHOWN and told.low > 0.5:
        finding = Finding.DIFFERENT
        sentence = f"{name}: synthetic ones are recognised with an AUROC of {told.auroc:.2f}"
    elif not known:
        finding = Finding.UNKNOWN
        reason = "too few real crops to tell" if power.strong else "too few real crops to tell, or too weak a test"
        sentence = f"{name}: {reason}"
    elif told.high <= ALIKE:
        finding = Finding.ALIKE
        sentence = f"{name}: no classifier tells them apart by more than an AUROC of {told.high:.2f}"
    else:
        finding = Finding.UNKNOWN
        sentence = f"{name}: nothing was shown, but an AUROC of up to {told.high:.2f} can't be excluded"
    return Measure(
        name=name, value=told.auroc, low=told.low, high=told.high, p=told.p, finding=finding, sentence=sentence
    )


def _distance(side: _Side, real: list[Crop], synthetic: list[Crop], known: bool, seed: int) -> Measure:
    one, two = (side.codebook.features(crops, surroundings=False) for crops in (real, synthetic))
    found = distance(one, two, [crop.part for crop in real], [crop.part for crop in synthetic], seed)
    different = found.p <= _SHOWN
    finding = Finding.DIFFERENT if different else (Finding.ALIKE if known else Finding.UNKNOWN)
    told = "beyond" if different else "within"
    return Measure(
        name="kernel distance",
        value=found.value,
        low=found.low,
        high=found.high,
        p=found.p,
        finding=finding,
        sentence=f"kernel distance of learned features {found.value:.3f}, {told} what chance gives "
        f"({found.null_95:.3f} in 95 of 100 cases)",
    )


def _noise(where: str, real: Sequence[Crop], synthetic: Sequence[Crop], known: bool) -> list[Measure]:
    value, low, high = null.compare(null.NoiseTally(real), null.NoiseTally(synthetic))
    rows = [_worst(f"{where}: noise slope", value.slope, low.slope, high.slope, known, NOISE_ALIKE)]
    for octave in range(OCTAVES):
        name = f"{where}: power of octave {octave + 1}"
        rows.append(
            _worst(name, value.octaves[:, octave], low.octaves[:, octave], high.octaves[:, octave], known, NOISE_ALIKE)
        )
    rows.append(_worst(f"{where}: lag-1 correlation", value.lag1, low.lag1, high.lag1, known, (-0.1, 0.1)))
    return rows


def _worst(
    name: str,
    values: NDArray[np.float64],
    lows: NDArray[np.float64],
    highs: NDArray[np.float64],
    known: bool,
    alike: tuple[float, float],
) -> Measure:
    """Return the row of the channel that is furthest from alike."""
    middle = (alike[0] + alike[1]) / 2
    worst = int(np.argmax(np.abs(values - middle)))
    value, low, high = float(values[worst]), float(lows[worst]), float(highs[worst])
    if low > alike[1] or high < alike[0]:
        finding = Finding.DIFFERENT
    elif known and alike[0] <= low and high <= alike[1]:
        finding = Finding.ALIKE
    else:
        finding = Finding.UNKNOWN
    kind = "difference" if alike[0] < 0 else "ratio"
    return Measure(
        name=name,
        value=value,
        low=low,
        high=high,
        finding=finding,
        sentence=f"{name}: {kind} {value:.2f} on the channel that differs most (number {worst + 1}); alike is "
        f"{alike[0]:g} to {alike[1]:g}",
    )


def _null(evidence: Evidence, codebook: Codebook, rng: np.random.Generator, seed: int) -> list[Measure]:
    even = null.even(evidence.plain)
    parts = parts_of(even)
    if len(parts) < 2 * LEAST_PARTS:
        return [
            Measure(
                name="null edit",
                value=None,
                finding=Finding.UNKNOWN,
                sentence=f"null edit: {len(parts)} good parts are too few, it needs {2 * LEAST_PARTS}",
            )
        ]
    windows = even[:_NULL_WINDOWS]
    textures = learn_textures(evidence.plain[: 2 * _NULL_WINDOWS], evidence.calibration, seed)
    edited = [null.null_edit(crop, textures, evidence.calibration, evidence.bit_depth, rng) for crop in windows]
    # How the lights agree is a matter of texture, of which nothing is asked here.
    side = _Side(codebook, surroundings=False, together=False)
    told = edits_told(side.tables(windows), side.tables(edited), [crop.part for crop in windows], seed)
    if told.p <= _SHOWN and told.low > NULL_ALIKE[1]:
        finding, words = Finding.DIFFERENT, "the noise that is put back is not the camera's: calibrate again"
    elif NULL_ALIKE[0] <= told.auroc <= NULL_ALIKE[1]:
        finding, words = Finding.ALIKE, "the noise that is put back can't be told from the camera's"
    else:
        finding, words = Finding.UNKNOWN, "nothing was shown either way; more good parts would tell"
    row = Measure(
        name="null edit",
        value=told.auroc,
        low=told.low,
        high=told.high,
        p=told.p,
        finding=finding,
        sentence=f"null edit: {words} (AUROC {told.auroc:.2f})",
    )
    # Against the same windows before: texture is the same on both sides, and only the noise can differ.
    return [row, *_noise("null edit", windows, edited, known=True)]


def _report(evidence: Evidence, rows: list[Measure], ranking: list[tuple[str, float]]) -> GapReport:
    different = [row for row in rows if row.finding is Finding.DIFFERENT and row.name != "crude paste"]
    main = [row for row in rows if row.name in {"defects", "surroundings", "null edit"}]
    if different:
        conclusion, sentence = Finding.DIFFERENT, f"a gap was found by {', '.join(row.name for row in different)}"
    elif all(row.finding is Finding.ALIKE for row in main):
        conclusion, sentence = Finding.ALIKE, "no measure tells synthetic from real"
    else:
        conclusion = Finding.UNKNOWN
        first = next(row for row in main if row.finding is Finding.UNKNOWN)
        sentence = f"no gap was found, but that is not shown: {first.sentence}"
    return GapReport(
        measures=tuple(rows),
        real_crops=len(evidence.real),
        real_parts=len(parts_of(evidence.real)),
        synthetic_crops=len(evidence.synthetic),
        synthetic_parts=len(parts_of(evidence.synthetic)),
        conclusion=conclusion,
        sentence=sentence,
        ranking=tuple(ranking),
    )
