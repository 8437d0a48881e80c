"""The picture of a gap report: what is recognised most, what least, and real defects beside them."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from trainer.gap.crops import Crop
from trainer.gap.measure import GapReport

_SIDE, _ACROSS, _LABEL = 72, 12, 16


def contact_sheet(report: GapReport, real: Sequence[Crop], synthetic: Sequence[Crop]) -> bytes:
    """Return a PNG: rows of windows, the channel under which each defect shows most, all at one brightness scale."""
    by_name = {crop.name: crop for crop in synthetic}
    ranked = [by_name[name] for name, _ in report.ranking if name in by_name]
    rows = (
        ("synthetic, most recognisable", ranked[:_ACROSS]),
        ("synthetic, least recognisable", ranked[-_ACROSS:]),
        ("real", list(real[:_ACROSS])),
    )
    sheet = Image.new("L", (_ACROSS * (_SIDE + 4) + 4, len(rows) * (_SIDE + _LABEL + 4) + 4), 255)
    draw = ImageDraw.Draw(sheet)
    for row, (label, crops) in enumerate(rows):
        top = 4 + row * (_SIDE + _LABEL + 4)
        draw.text((4, top), label, fill=0)
        for index, crop in enumerate(crops):
            sheet.paste(_tile(crop), (4 + index * (_SIDE + 4), top + _LABEL))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def _tile(crop: Crop) -> Image.Image:
    outside = crop.around if crop.around.any() else ~crop.inside
    base = crop.pixels[:, outside].mean(axis=1) if outside.any() else crop.pixels.mean(axis=(1, 2))
    shown = int(np.argmax(np.abs(crop.pixels[:, crop.inside].mean(axis=1) / np.maximum(base, 1.0) - 1)))
    grey: NDArray[np.float32] = crop.pixels[shown] / max(float(base[shown]), 1.0) * 110
    image = Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))
    image.thumbnail((_SIDE, _SIDE))
    if max(image.size) < _SIDE:
        factor = _SIDE / max(image.size)
        image = image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.NEAREST)
    return image
