"""The artwork of the printed label: type, an EAN-13 code, a matrix code, rules and a ring, as coverage with ink.

Type is drawn with a pen along strokes, the lot's number in dots as an ink jet sets it; the same on every machine,
whatever fonts that has.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from drivers.sim.render.workpiece import FloatMap

Stroke = tuple[tuple[float, float], ...]

#: Strokes of letters one unit high, x to the right and y down.
_STROKES: dict[str, tuple[Stroke, ...]] = {
    "A": (((0, 1), (0.31, 0), (0.62, 1)), ((0.11, 0.66), (0.51, 0.66))),
    "E": (((0.54, 0), (0, 0), (0, 1), (0.54, 1)), ((0, 0.48), (0.46, 0.48))),
    "I": (((0.1, 0), (0.1, 1)),),
    "L": (((0, 0), (0, 1), (0.52, 1)),),
    "M": (((0, 1), (0, 0), (0.34, 0.72), (0.68, 0), (0.68, 1)),),
    "R": (
        ((0, 1), (0, 0), (0.32, 0), (0.48, 0.06), (0.55, 0.25), (0.48, 0.45), (0.32, 0.52), (0, 0.52)),
        ((0.3, 0.52), (0.58, 1)),
    ),
    "S": (
        (
            *((0.54, 0.17), (0.45, 0.04), (0.29, 0), (0.12, 0.05), (0.03, 0.2), (0.09, 0.37), (0.29, 0.47)),
            *((0.5, 0.58), (0.57, 0.76), (0.49, 0.94), (0.29, 1), (0.1, 0.95), (0.01, 0.81)),
        ),
    ),
    "V": (((0, 0), (0.31, 1), (0.62, 0)),),
    "X": (((0, 0), (0.6, 1)), ((0.6, 0), (0, 1))),
    "0": (
        (
            *((0.28, 0), (0.12, 0.06), (0.02, 0.27), (0, 0.5), (0.02, 0.73), (0.12, 0.94), (0.28, 1)),
            *((0.44, 0.94), (0.54, 0.73), (0.56, 0.5), (0.54, 0.27), (0.44, 0.06), (0.28, 0)),
        ),
    ),
    "1": (((0.08, 0.2), (0.34, 0), (0.34, 1)),),
    "2": (((0.03, 0.22), (0.11, 0.06), (0.28, 0), (0.46, 0.06), (0.53, 0.23), (0.47, 0.42), (0.01, 1), (0.56, 1)),),
    "3": (
        ((0.03, 0.15), (0.14, 0.03), (0.3, 0), (0.47, 0.07), (0.53, 0.24), (0.45, 0.42), (0.24, 0.47)),
        ((0.24, 0.47), (0.48, 0.55), (0.56, 0.74), (0.48, 0.93), (0.28, 1), (0.11, 0.96), (0.01, 0.83)),
    ),
    "4": (((0.44, 1), (0.44, 0), (0, 0.7), (0.58, 0.7)),),
    "5": (
        (
            *((0.51, 0), (0.1, 0), (0.05, 0.45), (0.27, 0.37), (0.47, 0.44), (0.56, 0.67), (0.48, 0.91)),
            *((0.27, 1), (0.1, 0.96), (0.01, 0.84)),
        ),
    ),
    "6": (
        (
            *((0.48, 0.04), (0.27, 0.13), (0.08, 0.38), (0.01, 0.68), (0.1, 0.93), (0.29, 1), (0.48, 0.92)),
            *((0.55, 0.69), (0.47, 0.46), (0.29, 0.39), (0.1, 0.47), (0.01, 0.68)),
        ),
    ),
    "7": (((0, 0), (0.56, 0), (0.2, 1)),),
    "8": (
        (
            *((0.28, 0.46), (0.1, 0.37), (0.05, 0.22), (0.12, 0.06), (0.28, 0), (0.44, 0.06), (0.51, 0.22)),
            *((0.46, 0.37), (0.28, 0.46), (0.07, 0.56), (0, 0.75), (0.09, 0.94), (0.28, 1), (0.47, 0.94)),
            *((0.56, 0.75), (0.49, 0.56), (0.28, 0.46)),
        ),
    ),
    "9": (
        (
            *((0.55, 0.32), (0.46, 0.53), (0.27, 0.61), (0.08, 0.54), (0.01, 0.31), (0.08, 0.08), (0.27, 0)),
            *((0.46, 0.07), (0.55, 0.32), (0.48, 0.62), (0.29, 0.87), (0.08, 0.96)),
        ),
    ),
    "-": (((0.06, 0.54), (0.46, 0.54)),),
    ".": (((0.1, 0.97), (0.1, 1)),),
    " ": (),
}
_NARROW = {"I": 0.2, ".": 0.2, " ": 0.4, "M": 0.68}
_WIDE, _SPACING = 0.58, 0.24

#: 5 x 7 dots, a row of five bits a line from the top, in hexadecimal.
_DOTS = {
    "0": "0E11131519110E",
    "2": "0E11010204081F",
    "3": "1F02040201110E",
    "8": "0E11110E11110E",
    "9": "0E11110F01020C",
    "L": "1010101010101F",
    "O": "0E11111111110E",
    "T": "1F040404040404",
    " ": "00000000000000",
}
_ARTICLE = "4012345678901"
_MATRIX_SEED, _MATRIX = 97, 14

#: EAN-13 (ISO/IEC 15420): the left digits in set A, in B its mirrored complement where the first digit says so.
_SET_A = ("0001101", "0011001", "0010011", "0111101", "0100011", "0110001", "0101111", "0111011", "0110111", "0001011")
_PARITY = ("AAAAAA", "AABABB", "AABBAB", "AABBBA", "ABAABB", "ABBAAB", "ABBBAA", "ABABAB", "ABABBA", "ABBABA")


def artwork(u: FloatMap, v: FloatMap, step_mm: float) -> FloatMap:
    """Return the share of each sample (H', W') that ink covers; `u`, `v` in mm from the label's centre."""
    ink = np.zeros(u.shape, np.float32)
    soft = np.float32(1 / step_mm)
    for text, left, top, height, pen in (
        ("VALVE", -6.1, -4.15, 1.5, 0.27),
        ("SERIE 40-1", -6.15, -2.2, 0.78, 0.12),
        ("MAX 16.5", -6.15, -0.88, 0.52, 0.085),
        (f"{_ARTICLE[0]}  {_ARTICLE[1:7]}  {_ARTICLE[7:]}", -6.0, 4.2, 0.4, 0.06),
    ):
        _write(ink, u, v, soft, text, (left, top, height, pen))
    _rectangles(ink, u, v, soft, _jetted("LOT 20398", -6.2, -0.08, 0.085))
    bars = [
        # The guards in the middle and at both ends are longer.
        (-6.2 + 0.068 * i, 1.4, 0.068, 2.7 if i < 3 or 45 <= i < 50 or i >= 92 else 2.45)
        for i, bit in enumerate(ean13(_ARTICLE))
        if bit == "1"
    ]
    _rectangles(ink, u, v, soft, bars)
    _rectangles(ink, u, v, soft, _matrix(2.6, 0.9, 0.25), [(-6.2, -1.2, 8.0, 0.06), (-6.2, 0.85, 8.0, 0.06)])
    for radius, width in ((1.55, 0.28), (0.75, 0.75)):
        away = np.hypot(u - np.float32(4.4), v - np.float32(-2.6)) - np.float32(radius)
        np.maximum(ink, np.clip(np.float32(width / 2) * soft - np.abs(away) * soft + 0.5, 0, 1), out=ink)
    return ink


def ean13(number: str) -> str:
    """Return the 95 modules of an article's number, 1 for a bar."""
    digits = [int(digit) for digit in number]
    left = ""
    for digit, kind in zip(digits[1:7], _PARITY[digits[0]], strict=True):
        left += _SET_A[digit] if kind == "A" else _turned_over(_SET_A[digit])[::-1]
    right = "".join(_turned_over(_SET_A[digit]) for digit in digits[7:])
    return f"101{left}01010{right}101"


def _turned_over(modules: str) -> str:
    return modules.translate(str.maketrans("01", "10"))


def _write(
    ink: FloatMap, u: FloatMap, v: FloatMap, soft: np.float32, text: str, at: tuple[float, float, float, float]
) -> None:
    """Write a line of type: (left, top, height, width of the pen) in mm."""
    left, top, height, pen = at
    for letter in text:
        width = _NARROW.get(letter, _WIDE)
        margin = pen / 2 + 2 / float(soft)
        window = _window(u, v, (left - margin, top - margin, left + 0.7 * height + margin, top + height + margin))
        if _STROKES[letter] and window is not None:
            x, y = (u[window] - np.float32(left)) / height, (v[window] - np.float32(top)) / height
            away = np.float32(height) * _distance(x, y, _STROKES[letter])
            patch = ink[window]
            np.maximum(patch, np.clip((np.float32(pen / 2) - away) * soft + np.float32(0.5), 0, 1), out=patch)
        left += (width + _SPACING) * height


def _distance(x: FloatMap, y: FloatMap, strokes: tuple[Stroke, ...]) -> FloatMap:
    """Return how far each place is from the nearest stroke."""
    nearest = np.full(x.shape, np.inf, np.float32)
    for stroke in strokes:
        for (x0, y0), (x1, y1) in pairwise(stroke):
            dx, dy = x1 - x0, y1 - y0
            along = np.clip(((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy), 0, 1)
            np.minimum(nearest, np.hypot(x - x0 - along * dx, y - y0 - along * dy), out=nearest)
    return nearest


def _window(u: FloatMap, v: FloatMap, bounds: tuple[float, float, float, float]) -> tuple[slice, ...] | None:
    """Return the part of the grid with what lies within (left, top, right, bottom) in mm; None when nothing does."""
    left, top, right, bottom = bounds
    near = np.argwhere((u > left) & (u < right) & (v > top) & (v < bottom))
    if not len(near):
        return None
    return tuple(slice(low, high + 1) for low, high in zip(near.min(axis=0), near.max(axis=0), strict=True))


Rectangle = tuple[float, float, float, float]


def _rectangles(ink: FloatMap, u: FloatMap, v: FloatMap, soft: np.float32, *groups: list[Rectangle]) -> None:
    """Print rectangles (left, top, width, height), each only where it lies."""
    for group in groups:
        left, top = min(r[0] for r in group), min(r[1] for r in group)
        right, bottom = max(r[0] + r[2] for r in group), max(r[1] + r[3] for r in group)
        window = _window(u, v, (left - 0.1, top - 0.1, right + 0.1, bottom + 0.1))
        if window is None:
            continue
        x, y, patch = u[window], v[window], ink[window]
        columns: dict[tuple[float, float], FloatMap] = {}
        for x0, y0, width, height in group:
            if (x0, width) not in columns:
                columns[x0, width] = _covered(x, x0, width, soft)
            # The sum, not the larger: of two that touch each covers half of the samples between them.
            patch += columns[x0, width] * _covered(y, y0, height, soft)
        np.minimum(patch, 1, out=patch)


def _covered(axis: FloatMap, start: float, length: float, soft: np.float32) -> FloatMap:
    inside = np.float32(length / 2) - np.abs(axis - np.float32(start + length / 2))
    return np.clip(inside * soft + np.float32(0.5), 0, 1)


def _jetted(text: str, left: float, top: float, dot: float) -> list[Rectangle]:
    """Return the dots of a line of type; they do not touch."""
    return [
        (left + (6 * place + column) * dot, top + line * dot, 0.85 * dot, 0.85 * dot)
        for place, letter in enumerate(text)
        for line, bits in enumerate(bytes.fromhex(_DOTS[letter]))
        for column, bit in enumerate(f"{bits:05b}")
        if bit == "1"
    ]


def _matrix(left: float, top: float, cell: float) -> list[Rectangle]:
    """Return a matrix code: solid on two sides, broken on the other two, data between."""
    data = np.random.Generator(np.random.PCG64(_MATRIX_SEED)).random((_MATRIX, _MATRIX)) < 0.5
    data[:, 0] = data[-1, :] = True
    data[0, :] = np.arange(_MATRIX) % 2 == 0
    data[:, -1] = np.arange(_MATRIX) % 2 == 1
    data[-1, :] = True
    return [(left + x * cell, top + y * cell, cell, cell) for y, x in np.argwhere(data)]
