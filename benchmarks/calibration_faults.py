"""What a calibration must not take without a word: spoilt series, and pixels that the camera computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from benchmarks.still_cell import StillCell
from cell.errors import CalibrationError
from cell.frames import Stack
from cell.imaging.photon_transfer import fit_photon_transfer
from trainer.calibrate import Evidence, calibrate
from trainer.calibration_series import Level, reduce

_NOW = datetime(2026, 1, 1, tzinfo=UTC)


def bad_inputs() -> list[dict[str, Any]]:
    """Hand in what must not pass, and return what was said of it."""
    cell = StillCell.open("cast-4", 8)
    still = cell.frames("good-000001", 16)
    good, names = cell.parts(8), cell.recipe.channel_names
    moved = still.copy()
    moved[9:] = np.roll(still[9:], 3, axis=3)
    cases: dict[str, tuple[Stack, str]] = {}
    for what, spoil in _SPOILT.items():
        spoilt = still.copy()
        spoil(spoilt)
        cases[what] = (spoilt, names[1])
    cases["camera moved half-way"] = (moved, "moved")
    cases["too few repeats"] = (still[:5], "at least 8")
    told = []
    for what, (pixels, wanted) in cases.items():
        sentence = _told(cell, [reduce(pixels, cell.recipe, "repeats")], good)
        told.append({"input": what, "told": sentence, "clear": wanted in sentence})
    swapped = still[:, [1, 0, 2, 3]]
    sentence = _told(cell, [reduce(swapped, cell.recipe, "repeats")], good)
    told.append({"input": "channels plugged in otherwise", "told": sentence, "clear": "looks like" in sentence})
    sentence = _told(cell, [], [])
    told.append({"input": "nothing at all", "told": sentence, "clear": "harvest" in sentence})
    return told


def processed() -> list[dict[str, Any]]:
    """Let the camera compute before it sends, and return what was named."""
    cell = StillCell.open("cast-4", 10)
    raw = cell.frames("good-000001", 16)[:, 0]
    dark = cell.frames("good-000001", 16, lit=False)[:, 0]
    rows = []
    for what, (change, wanted) in _PROCESSED.items():
        fitted = fit_photon_transfer(change(raw), bit_depth=10, dark=change(dark))
        said = [one for one in fitted.findings if "correlates" in one or "JPEG" in one]
        rows.append(
            {
                "pixels": what,
                "told": "; ".join(said),
                "named": (wanted in " ".join(said)) if wanted else not said,
                "lag1": fitted.model.lag1_correlation,
                "coloured": bool(fitted.model.autocorrelation),
                "spectrum": fitted.transfer.spectrum,
            }
        )
    return rows


def _told(cell: StillCell, levels: Sequence[Level], parts: Sequence[Stack]) -> str:
    try:
        made = calibrate(cell.recipe, Evidence(parts, levels), calibration_id="benchmark", now=_NOW)
    except CalibrationError as error:
        return f"refused: {error}"
    usual = ("no dark frames", "no flat target", "no target was shown")
    return "; ".join(one for one in made.findings if not any(each in one for each in usual))


def _dark(series: Stack) -> None:
    series[:, 1] = np.random.default_rng(0).normal(4, 0.4, series[:, 1].shape).round().clip(0)


def _saturated(series: Stack) -> None:
    series[:, 1] = 255


def _frozen(series: Stack) -> None:
    series[:, 1] = series[0, 1]


def _out_of_order(series: Stack) -> None:
    series[5, [1, 2]] = series[5, [2, 1]]


_SPOILT: dict[str, Callable[[Stack], None]] = {
    "dark channel": _dark,
    "saturated channel": _saturated,
    "frozen channel": _frozen,
    "channel out of order in one repeat": _out_of_order,
}


def _debayered(frames: Stack) -> Stack:
    """Keep one pixel of four and fill the others in between, as a camera does that makes grey of a colour pattern."""
    kernel = np.array([[0.25, 0.5, 0.25], [0.5, 1.0, 0.5], [0.25, 0.5, 0.25]])
    sparse = np.zeros(frames.shape)
    sparse[:, ::2, ::2] = frames[:, ::2, ::2]
    filled = np.stack([np.rint(ndimage.convolve(one, kernel, mode="mirror")) for one in sparse])
    return filled.astype(np.uint16)


def _sharpened(frames: Stack) -> Stack:
    soft = ndimage.gaussian_filter(frames.astype(np.float64), (0, 1, 1))
    return np.clip(np.rint(frames + 0.8 * (frames - soft)), 0, 1023).astype(np.uint16)


def _smoothed(frames: Stack) -> Stack:
    return np.rint(ndimage.gaussian_filter(frames.astype(np.float64), (0, 0.7, 0.7))).astype(np.uint16)


def _jpeg(frames: Stack) -> Stack:
    coded = []
    for frame in frames:
        buffer = BytesIO()
        Image.fromarray((frame >> 2).astype(np.uint8)).save(buffer, "JPEG", quality=85)
        coded.append(np.asarray(Image.open(buffer)))
    return np.stack(coded)


_PROCESSED: dict[str, tuple[Callable[[NDArray[Any]], NDArray[Any]], str]] = {
    "raw": (lambda frames: frames, ""),
    "debayered": (_debayered, "debayered"),
    "sharpened": (_sharpened, "sharpened"),
    "smoothed": (_smoothed, "filtered"),
    "JPEG, quality 85": (_jpeg, "JPEG"),
}
