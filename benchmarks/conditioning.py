"""Do candidates follow the cell? ``python -m benchmarks.conditioning [--count N] [--arm A] [--json F]``.

Seeds come from one emulated cell. With them, and the same random seed, candidates are made for cells that differ from
it in one thing each (:mod:`benchmarks.conditioned_cell`), and measured as real defects of those cells are: the width of
their edges, the noise inside, the share of the light that they take, and the blur where the face leaves the focus.
Beside each figure stands what comes of not being told of the difference. Ends with 1 when a bound is not kept.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.conditioned_cell import HEIGHT, SETUPS, WIDTH, Cell, generate
from cell.calibration import Calibration
from cell.defects import Draft, Mask
from cell.imaging import noise
from trainer.generate.base import BackgroundSample, SeedSample

Floats = NDArray[np.float64]

_REACH = 26  # pixels about a defect's middle that are looked at
_SIGMAS = np.arange(0.4, 3.6, 0.05)
_BLURS = np.arange(0.0, 3.4, 0.05)
_FINER = 4
_SAME_PX = 2.0
_NINETY = 2.563  # a Gaussian edge rises from 10 to 90 % over so many standard deviations
#: Bounds: error of an edge's sigma and of the added blur, pixels; of the noise, relative; of the exponent with which
#: the light that a defect takes goes with the light that falls, which is 1.
EDGE_PX, NOISE, EXPONENT = 0.25, 0.1, 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """A defect, real or made: `pixels` and the good twin without noise, (K, h, w) DN; where it is, and its place."""

    pixels: Floats
    twin: Floats
    inside: Mask
    place: tuple[float, float]
    offset: float

    @property
    def share(self) -> Floats:
        """Return the share of the light that it takes, (K, h, w)."""
        return np.asarray(1 - (self.pixels - self.offset) / np.maximum(self.twin - self.offset, 1.0), np.float64)


def seen(cell: Cell, stack: NDArray[Any], twin: Floats, mask: Mask) -> Seen:
    """Cut a defect out. Where it is counts from half of its height on, for real ones and made ones alike."""
    rows, columns = np.nonzero(mask)
    place = float(rows.mean()), float(columns.mean())
    row, column = round(place[0]), round(place[1])
    window = (
        slice(max(0, row - _REACH), min(HEIGHT, row + _REACH)),
        slice(max(0, column - _REACH), min(WIDTH, column + _REACH)),
    )
    cut = Seen(
        stack[(slice(None), *window)].astype(np.float64),
        twin[(slice(None), *window)],
        mask[window],
        place,
        cell.sensor.offset_dn,
    )
    return replace(cut, inside=_half(ndimage.gaussian_filter(cut.share.mean(axis=0), 0.7), mask[window]))


def _half(share: Floats, near: Mask) -> Mask:
    """Return where a smooth share (h, w) is above half of its height, of what lies about `near`."""
    about = ndimage.binary_dilation(near, iterations=3)
    whole = ndimage.binary_fill_holes(share > 0.5 * float(np.quantile(share[about], 0.8)))
    labels = ndimage.label(whole)[0]
    own = labels[about & (labels > 0)]
    half: Mask = labels == np.bincount(own).argmax() if own.size else near
    return half


def edge_sigma(one: Seen) -> float:
    """Return the sigma of the Gaussian that makes the picture out of its own outline at half height, pixels."""
    share = one.share.mean(axis=0)
    inside = ndimage.binary_erosion(one.inside, iterations=4)
    if inside.sum() < 6:
        return float("nan")
    top = float(np.median(share[inside]))
    fine = ndimage.zoom(ndimage.gaussian_filter(share, 0.7), _FINER, order=1, mode="nearest", grid_mode=True)
    whole = _half(fine / top, np.kron(inside, np.ones((_FINER, _FINER))) > 0).astype(np.float64)
    outline = whole.reshape(share.shape[0], _FINER, share.shape[1], _FINER).mean(axis=(1, 3))
    near = ndimage.binary_dilation(one.inside, iterations=5)
    left = [((share - top * ndimage.gaussian_filter(outline, s))[near] ** 2).sum() for s in _SIGMAS]
    # The outline was gathered by pixels, which has blurred it already.
    return float(np.hypot(_SIGMAS[int(np.argmin(left))], np.sqrt(1 / 12)))


def same_place(one: Seen, other: Seen) -> bool:
    """Return whether two are of one place: where a cell refuses a candidate, the next attempt lies elsewhere."""
    return one.pixels.shape == other.pixels.shape and float(np.hypot(*np.subtract(one.place, other.place))) < _SAME_PX


def added_blur(one: Seen, other: Seen) -> float:
    """Return the blur that makes the second of the first, pixels; both have the same outline at the same place."""
    if not same_place(one, other):
        return float("nan")
    near = ndimage.binary_dilation(one.inside | other.inside, iterations=6)
    first, second = one.share.mean(axis=0), other.share.mean(axis=0)
    first = np.where(ndimage.binary_dilation(one.inside, iterations=4), first, 0)
    left = [((second - (ndimage.gaussian_filter(first, s) if s else first))[near] ** 2).sum() for s in _BLURS]
    return float(_BLURS[int(np.argmin(left))])


def noise_law(ones: Sequence[Seen], calibration: Calibration) -> tuple[float, float]:
    """Return the variance inside over the calibration's at that light, and its slope over light against the gain."""
    kernel = np.array([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]]) / 6
    means, variances, expected = [], [], []
    for one in ones:
        inside = ndimage.binary_erosion(one.inside, iterations=4)
        for pixels, channel in zip(one.pixels, calibration.channels, strict=True):
            high, low = ndimage.convolve(pixels, kernel), ndimage.uniform_filter(pixels, 3)
            means.append(low[inside])
            variances.append(high[inside] ** 2)
            expected.append(noise.sigma_dn(channel.noise, low[inside]) ** 2)
    mean, variance, law = (np.concatenate(part) for part in (means, variances, expected))
    edges = np.quantile(mean, np.linspace(0, 1, 7))
    index = np.clip(np.searchsorted(edges, mean, side="right") - 1, 0, 5)
    levels, found = (np.array([of[index == i].mean() for i in range(6)]) for of in (mean, variance))
    slope = float(np.polyfit(levels, found, 1)[0])
    return float(variance.mean() / law.mean()), slope / calibration.channels[0].noise.gain_dn_per_e


def light_exponent(ones: Sequence[Seen], light: Floats, like: Sequence[Seen]) -> tuple[float, tuple[float, float]]:
    """Return the exponent with which the light that a defect takes goes with the light there; and that light's range.

    `like` are the same defects under even light, which says how strong each of them is.
    """
    taken, falling = [], []
    for one, even in zip(ones, like, strict=True):
        if not same_place(one, even):
            continue
        inside = ndimage.binary_erosion(one.inside & even.inside, iterations=3)
        if inside.sum() < 6:
            continue
        row, column = (round(value) for value in one.place)
        for channel in range(len(light)):
            own = float(np.median(one.share[channel][inside]))
            usual = float(np.median(even.share[:, inside].mean(axis=0)))
            taken.append(np.log(max(own, 0.01) / max(usual, 0.01)))
            falling.append(np.log(light[channel, row, column]))
    exponent = float(np.polyfit(falling, taken, 1)[0])
    return 1 + exponent, (float(np.exp(min(falling))), float(np.exp(max(falling))))


class Bench:
    """Cells, seeds and backgrounds; candidates are made once for each cell and calibration."""

    def __init__(self, count: int, real: int, arm: str, folder: Path) -> None:
        self.cells = {name: Cell(name) for name in SETUPS}
        self.base = self.cells["base"]
        self._count, self._arm, self._folder = count, arm, folder
        self.seeds: list[SeedSample] = self.base.seeds(6)
        self.backgrounds: dict[str, list[BackgroundSample]] = {n: c.backgrounds() for n, c in self.cells.items()}
        self.real = {name: self._real(cell, real) for name, cell in self.cells.items()}
        self.told = {name: self._made(name, cell.calibration) for name, cell in self.cells.items()}
        self.untold = {name: self._made(name, self.base.calibration) for name in SETUPS if name != "base"}

    def _made(self, name: str, calibration: Calibration) -> list[Seen]:
        cell, backgrounds = self.cells[name], self.backgrounds[name]
        drafts = generate(cell, calibration, self.seeds, backgrounds, self._count, self._arm, self._folder)
        parts = {one.background_id: one for one in backgrounds}
        for draft in drafts:
            before = parts[draft.provenance.background_id].stack
            assert np.array_equal(draft.stack[:, ~draft.support], before[:, ~draft.support])
        return [self._cut(cell, draft, parts[draft.provenance.background_id].part_id) for draft in drafts]

    @staticmethod
    def _cut(cell: Cell, draft: Draft, part_id: str) -> Seen:
        rows, columns = np.nonzero(draft.support)  # the middle of which is the same in every cell
        place = np.zeros_like(draft.mask)
        place[round(float(rows.mean())), round(float(columns.mean()))] = True
        return seen(cell, draft.stack, cell.twin(part_id), place)

    def _real(self, cell: Cell, count: int) -> list[Seen]:
        specks = [cell.speck(100 + number) for number in range(count)]
        return [seen(cell, one.stack, one.twin, one.mask) for one in specks]

    def report(self) -> dict[str, Any]:
        """Return every figure with its bound."""
        rows: dict[str, Any] = {}
        for name in ("base", "lens"):
            rows[f"edge, {name}"] = self._edge(name)
        rows["blur added, lens"] = self._blur("lens")
        rows["blur added, depth"] = self._depth()
        for name in ("base", "noise", "light"):
            rows[f"noise, {name}"] = self._noise(name)
        rows["light, light"] = self._light()
        return rows

    def _edge(self, name: str) -> dict[str, Any]:
        def width(ones: Sequence[Seen]) -> float:
            return round(float(np.nanmedian([edge_sigma(one) for one in ones])), 3)

        real, told = width(self.real[name]), width(self.told[name])
        untold = width(self.untold[name]) if name in self.untold else None
        row = {"unit": "px, sigma", "lens": round(self.cells[name].spread(WIDTH / 2), 3), "real": real, "made": told}
        row |= {"made_10_90_px": round(_NINETY * told, 2), "untold": untold, "bound": EDGE_PX}
        return row | {"passed": abs(told - real) <= EDGE_PX}

    def _blur(self, name: str) -> dict[str, Any]:
        base, other = self.base.calibration, self.cells[name].calibration
        true = float(np.sqrt(other.channels[0].psf_sigma_px ** 2 - base.channels[0].psf_sigma_px ** 2))
        told, untold = (
            float(np.nanmedian([added_blur(*pair) for pair in zip(self.told["base"], made, strict=True)]))
            for made in (self.told[name], self.untold[name])
        )
        row = {"unit": "px, sigma", "true": round(true, 3), "made": round(told, 3), "untold": round(untold, 3)}
        return row | {"bound": EDGE_PX, "passed": abs(told - true) <= EDGE_PX}

    def _depth(self) -> dict[str, Any]:
        """Compare blur with height over the tilted face, candidate by candidate."""
        cell, pairs = self.cells["depth"], list(zip(self.told["base"], self.told["depth"], strict=True))
        true = [np.sqrt(max(0.0, cell.spread(one.place[1]) ** 2 - self.base.spread(0.0) ** 2)) for one, _ in pairs]
        made = [added_blur(*pair) for pair in pairs]
        blind = [added_blur(*pair) for pair in zip(self.told["base"], self.untold["depth"], strict=True)]
        known = np.isfinite(made)
        wanted, found = np.asarray(true)[known], np.asarray(made)[known]
        slope = float(np.polyfit(wanted, found, 1)[0])
        off = float(np.sqrt(np.mean((found - wanted) ** 2)))
        row: dict[str, Any] = {
            "unit": "px, sigma",
            "true": [round(float(np.min(true)), 2), round(float(np.max(true)), 2)],
        }
        row |= {"slope": round(slope, 3), "made_rms_off": round(off, 3), "untold": round(float(np.nanmedian(blind)), 3)}
        return row | {"bound": EDGE_PX, "passed": off <= EDGE_PX and abs(slope - 1) <= 0.15}

    def _noise(self, name: str) -> dict[str, Any]:
        calibration = self.cells[name].calibration
        # Real specks of one strength under even light span no range of light that a slope could be had from; a dozen
        # under narrow lamps tell it to a third (two dozen: 0.98), so that it is held against the calibration's own.
        figures = 2 if name == "light" else 1
        ones = {"real": self.real[name], "made": self.told[name], "untold": self.untold.get(name)}
        row: dict[str, Any] = {"unit": "variance (and slope) over the calibration's"}
        for key, value in ones.items():
            row[key] = [round(one, 3) for one in noise_law(value, calibration)[:figures]] if value else None
        row["made_over_real"] = round(row["made"][0] / row["real"][0], 3)
        kept = [row["made_over_real"], *row["made"][1:]]
        return row | {"bound": NOISE, "passed": all(abs(one - 1) <= NOISE for one in kept)}

    def _light(self) -> dict[str, Any]:
        exponent, between = light_exponent(self.told["light"], self.cells["light"].light(), self.told["base"])
        row: dict[str, Any] = {"unit": "exponent of the light taken", "light": [round(x, 2) for x in between]}
        row |= {"true": 1.0, "made": round(exponent, 3), "bound": EXPONENT}
        return row | {"passed": abs(exponent - 1) <= EXPONENT}


def main() -> int:
    """Run the benchmark; return 0 when every bound is kept."""
    parser = argparse.ArgumentParser(description="Do candidates follow the cell's noise, lens, light and focus?")
    parser.add_argument("--count", type=int, default=60, help="candidates for each cell")
    parser.add_argument("--real", type=int, default=12, help="real defects of each cell")
    parser.add_argument("--arm", default="procedural")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="conditioning-") as folder:
        rows = Bench(options.count, options.real, options.arm, Path(folder)).report()
    for name, row in rows.items():
        told = ", ".join(f"{key} {value}" for key, value in row.items() if key not in {"unit", "passed"})
        print(f"{name:<18} {told} [{'passed' if row['passed'] else 'NOT passed'}]")
    if options.json:
        options.json.write_text(json.dumps({"arm": options.arm, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    return 0 if all(row["passed"] for row in rows.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
