"""Texture of rendered parts beside that of photographs, in figures.

    python -m benchmarks.scene [--photographs DIR] [--json FILE]

`DIR` is a folder in the layout of docs/data-layout.md, of which the good backgrounds are read and nothing else. All
figures are of a detrended window on the part's face, so that neither level nor lamp fall-off counts:

- contrast: standard deviation over mean;
- skew and excess kurtosis of the grey levels, share of pixels 3 standard deviations above the mean (highlights);
- lag-1 and lag-4 correlation along and across the lay;
- spectral slope, the exponent of power over frequency from 0.04 to 0.3 cycles a pixel: of the radial mean of the
  two-dimensional spectrum, and of the mean one-dimensional spectrum across the lay;
- power across over along: of the two-dimensional spectrum in sectors of 45 degrees. A matt relief lit from one side
  shows the slopes that face the lamp, so that power goes as the squared cosine between (P. Kube and A. Pentland, On the
  imaging of fractal surfaces, IEEE PAMI 10, 1988); under even light it shows none of that.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from drivers.sim.products.catalogue import named
from drivers.sim.studio import EXPOSURE_US, StudioProduct

Grey = NDArray[np.float64]  # (H, W)

_LOW, _HIGH, _BANDS = 0.04, 0.3, 14
#: (product, light, window x, y, width, height, whether the lay runs down) on a good part's face.
_WINDOWS = (
    ("brushed", "az090", 24, 64, 192, 144, False),
    ("brushed", "az000", 24, 64, 192, 144, False),
    ("brushed", "coax", 24, 64, 192, 144, False),
    ("brushed", "ring", 24, 64, 192, 144, False),
    ("disc", "az270", 136, 196, 48, 32, False),
    ("disc", "coax", 136, 196, 48, 32, False),
    ("cast", "az090", 136, 196, 48, 30, False),
    ("cast", "ring", 136, 196, 48, 30, False),
    ("moulded", "az000", 212, 82, 64, 92, False),
    ("moulded", "az090", 212, 82, 64, 92, False),
    ("moulded", "dome", 212, 82, 64, 92, False),
    ("foil", "az090", 16, 40, 170, 176, False),
    ("foil", "az000", 216, 40, 60, 176, True),
    ("label", "az000", 142, 112, 60, 28, False),
)


@dataclass(frozen=True, slots=True)
class Texture:
    """See the module."""

    contrast: float
    skew: float
    kurtosis: float
    highlights: float
    lag1_along: float
    lag1_across: float
    lag4_along: float
    lag4_across: float
    slope: float
    slope_across: float
    across_over_along: float


def texture(picture: Grey, *, lay_down: bool) -> Texture:
    """Return the figures of a window (H, W), its lay across or down the picture."""
    turned = picture.T if lay_down else picture
    flat = _detrended(turned)
    spread = flat.std()
    scaled = flat / spread
    return Texture(
        contrast=float(spread / turned.mean()),
        skew=float((scaled**3).mean()),
        kurtosis=float((scaled**4).mean() - 3),
        highlights=float((scaled > 3).mean()),
        lag1_along=_correlation(scaled, 1, 1),
        lag1_across=_correlation(scaled, 1, 0),
        lag4_along=_correlation(scaled, 4, 1),
        lag4_across=_correlation(scaled, 4, 0),
        slope=radial_slope(scaled),
        slope_across=_line_slope(scaled),
        across_over_along=_directed(scaled),
    )


def radial_slope(picture: Grey) -> float:
    """Return the exponent of the radial mean of the two-dimensional power spectrum."""
    windowed = picture * np.outer(np.hanning(picture.shape[0]), np.hanning(picture.shape[1]))
    power = np.abs(np.fft.fft2(windowed)) ** 2
    rows, columns = (np.fft.fftfreq(size) for size in picture.shape)
    return _exponent(np.hypot(rows[:, None], columns[None, :]).ravel(), np.asarray(power, np.float64).ravel())


def _directed(picture: Grey) -> float:
    size = min(picture.shape)
    windowed = picture[:size, :size] * np.outer(np.hanning(size), np.hanning(size))
    power = np.abs(np.fft.fft2(windowed)) ** 2
    rows, columns = np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size), indexing="ij")
    radius, steep = np.hypot(rows, columns), np.arctan2(np.abs(rows), np.abs(columns))
    band = (radius > _LOW) & (radius < _HIGH)
    across, along = power[band & (steep > 3 * np.pi / 8)], power[band & (steep < np.pi / 8)]
    return float(across.mean() / along.mean())


def _line_slope(picture: Grey) -> float:
    power = (np.abs(np.fft.rfft(picture * np.hanning(picture.shape[0])[:, None], axis=0)) ** 2).mean(axis=1)
    return _exponent(np.asarray(np.fft.rfftfreq(picture.shape[0]), np.float64), np.asarray(power, np.float64))


def _exponent(frequency: Grey, power: Grey) -> float:
    edges = np.geomspace(_LOW, _HIGH, _BANDS + 1)
    place = np.digitize(frequency, edges) - 1
    found = [
        (np.log(frequency[place == b].mean()), np.log(power[place == b].mean()))
        for b in range(_BANDS)
        if (place == b).any()
    ]
    x, y = np.array(found).T
    return float(np.polyfit(x, y, 1)[0])


def _detrended(picture: Grey) -> Grey:
    """Take a polynomial of second degree away: the lamp's fall-off and a curved face."""
    y, x = np.mgrid[-1 : 1 : picture.shape[0] * 1j, -1 : 1 : picture.shape[1] * 1j]
    terms = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], axis=-1).reshape(-1, 6)
    fit, *_ = np.linalg.lstsq(terms, picture.ravel(), rcond=None)
    flat: Grey = picture - (terms @ fit).reshape(picture.shape)
    return flat


def _correlation(scaled: Grey, lag: int, axis: int) -> float:
    moved = np.moveaxis(scaled, axis, 0)
    return float((moved[lag:] * moved[:-lag]).mean())


def photographs(folder: Path) -> Iterator[Grey]:
    """Yield the middle of each good background: its edges show the part's side."""
    for file in sorted((folder / "backgrounds" / "good").iterdir()):
        with Image.open(file) as opened:
            grey = np.asarray(opened.convert("L"), np.float64)
        height, width = grey.shape
        yield grey[height // 6 : -height // 6, width // 5 : -width // 5]


def rendered(name: str, light: str, window: tuple[int, int, int, int], parts: int) -> Iterator[Grey]:
    """Yield the window (x, y, width, height) on good parts of a product under one light."""
    blueprint, lamps = named(f"{name}-4+ring+coax+dome")
    product = StudioProduct(blueprint, [lamp for lamp in lamps if lamp.name == light], 1)
    x, y, width, height = window
    for index in range(parts):
        picture = product.part(f"good-{index:06d}").expose(
            {light: 1.0}, EXPOSURE_US, 0.0, np.random.Generator(np.random.SFC64(index))
        )
        yield picture[y : y + height, x : x + width].astype(np.float64)


def main(arguments: list[str] | None = None) -> int:
    """Print the table; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scene", description=__doc__)
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--parts", type=int, default=4)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--product", help="this one alone")
    chosen = parser.parse_args(arguments)
    found: dict[str, list[Texture]] = {}
    if chosen.photographs:
        found["photographs"] = [texture(grey, lay_down=True) for grey in photographs(chosen.photographs)]
    for name, light, x, y, width, height, down in _WINDOWS:
        if chosen.product not in (None, name):
            continue
        pictures = rendered(name, light, (x, y, width, height), chosen.parts)
        found[f"{name} {light}"] = [texture(picture, lay_down=down) for picture in pictures]
    rows = {
        name: {
            key: [float(v) for v in np.percentile([asdict(t)[key] for t in all_], [10, 50, 90])]
            for key in asdict(all_[0])
        }
        for name, all_ in found.items()
    }
    write(rows)
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


def write(rows: dict[str, dict[str, list[float]]]) -> None:
    """Write medians, and 10th and 90th percentiles of the photographs."""
    keys = list(next(iter(rows.values())))
    lines = ["".join(f"{word:>18}" for word in ("", *keys))]
    for name, figures in rows.items():
        lines.append(f"{name:>18}" + "".join(f"{figures[key][1]:18.3f}" for key in keys))
        if name == "photographs":
            lines += [
                f"{tag:>18}" + "".join(f"{figures[key][i]:18.3f}" for key in keys)
                for tag, i in (("10 %", 0), ("90 %", 2))
            ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
