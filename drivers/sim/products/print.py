"""The artwork of the printed label: type, a bar code, a matrix code, rules and a ring, as coverage with ink.

Drawn from rectangles and circles alone, so that it looks the same on every machine, whatever fonts that has.
"""

from __future__ import annotations

import numpy as np

from drivers.sim.render.workpiece import FloatMap

#: 5 x 7 type, a row of five bits a line from the top, in hexadecimal.
_GLYPHS = {
    "0": "0E11131519110E",
    "1": "040C040404040E",
    "2": "0E11010204081F",
    "3": "1F02040201110E",
    "4": "02060A121F0202",
    "5": "1F101E0101110E",
    "6": "0608101E11110E",
    "7": "1F010204080808",
    "8": "0E11110E11110E",
    "9": "0E11110F01020C",
    "A": "0E11111F111111",
    "C": "0E11101010110E",
    "E": "1F10101E10101F",
    "I": "0E04040404040E",
    "L": "1010101010101F",
    "M": "111B1515111111",
    "N": "11191513111111",
    "O": "0E11111111110E",
    "R": "1E11111E141211",
    "S": "0F10100E01011E",
    "T": "1F040404040404",
    "V": "11111111110A04",
    "X": "11110A040A1111",
    "-": "0000001F000000",
    ".": "00000000000C0C",
    " ": "00000000000000",
}
_BARS = "11010010000110100111011001101100110110011101001100101110011011001110100110001110101100011101011"
_MATRIX_SEED, _MATRIX = 97, 14


def artwork(u: FloatMap, v: FloatMap, step_mm: float) -> FloatMap:
    """Return the share of each sample (H', W') that ink covers; `u`, `v` in mm from the label's centre."""
    ink = np.zeros(u.shape, np.float32)
    soft = np.float32(1 / step_mm)
    _rectangles(ink, u, v, soft, _text("VALVE", -6.2, -4.2, 0.22), _text("SERIE 40-1", -6.2, -2.1, 0.11))
    _rectangles(ink, u, v, soft, _text("MAX 16.5 ", -6.2, -0.9, 0.075), _text("LOT 20398 ", -6.2, -0.1, 0.075))
    bars = [(-6.2 + 0.068 * i, 1.4, 0.068, 2.5) for i, bit in enumerate(_BARS) if bit == "1"]
    _rectangles(ink, u, v, soft, bars, _text("4 012345 678901", -6.0, 4.1, 0.062))
    _rectangles(ink, u, v, soft, _matrix(2.6, 0.9, 0.25), [(-6.2, -1.2, 8.0, 0.06), (-6.2, 0.75, 8.0, 0.06)])
    for radius, width in ((1.55, 0.28), (0.75, 0.75)):
        away = np.hypot(u - np.float32(4.4), v - np.float32(-2.6)) - np.float32(radius)
        np.maximum(ink, np.clip(np.float32(width / 2) * soft - np.abs(away) * soft + 0.5, 0, 1), out=ink)
    return ink


Rectangle = tuple[float, float, float, float]


def _rectangles(ink: FloatMap, u: FloatMap, v: FloatMap, soft: np.float32, *groups: list[Rectangle]) -> None:
    """Print rectangles (left, top, width, height), each only where it lies."""
    for group in groups:
        left, top = min(r[0] for r in group), min(r[1] for r in group)
        right, bottom = max(r[0] + r[2] for r in group), max(r[1] + r[3] for r in group)
        near = np.argwhere((u > left - 0.1) & (u < right + 0.1) & (v > top - 0.1) & (v < bottom + 0.1))
        if not len(near):
            continue
        window = tuple(slice(low, high + 1) for low, high in zip(near.min(axis=0), near.max(axis=0), strict=True))
        x, y, patch = u[window], v[window], ink[window]
        columns: dict[tuple[float, float], FloatMap] = {}
        for x0, y0, width, height in group:
            if (x0, width) not in columns:
                columns[x0, width] = _covered(x, x0, width, soft)
            np.maximum(patch, columns[x0, width] * _covered(y, y0, height, soft), out=patch)


def _covered(axis: FloatMap, start: float, length: float, soft: np.float32) -> FloatMap:
    inside = np.float32(length / 2) - np.abs(axis - np.float32(start + length / 2))
    return np.clip(inside * soft + np.float32(0.5), 0, 1)


def _text(text: str, left: float, top: float, dot: float) -> list[Rectangle]:
    """Return runs of dots for a line of type."""
    found = []
    for place, letter in enumerate(text):
        rows = bytes.fromhex(_GLYPHS[letter])
        for line, bits in enumerate(rows):
            pattern = f"{bits:05b}0"
            start = None
            for column, bit in enumerate(pattern):
                if bit == "1" and start is None:
                    start = column
                if bit == "0" and start is not None:
                    x = left + (place * 6 + start) * dot
                    found.append((x, top + line * dot, (column - start) * dot, dot))
                    start = None
    return found


def _matrix(left: float, top: float, cell: float) -> list[Rectangle]:
    """Return a matrix code: solid on two sides, broken on the other two, data between."""
    data = np.random.Generator(np.random.PCG64(_MATRIX_SEED)).random((_MATRIX, _MATRIX)) < 0.5
    data[:, 0] = data[-1, :] = True
    data[0, :] = np.arange(_MATRIX) % 2 == 0
    data[:, -1] = np.arange(_MATRIX) % 2 == 1
    data[-1, :] = True
    return [(left + x * cell, top + y * cell, cell, cell) for y, x in np.argwhere(data)]
