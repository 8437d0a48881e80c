"""A contact sheet of what harvest took and refused, for a person to look over in a minute."""

from __future__ import annotations

import io
from collections import deque
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from cell.defects import Mask
from cell.frames import Stack
from cell.store.files import write_bytes

_TILE, _CAPTION, _COLUMNS = 150, 14, 8
_COLOURS = {"background": (60, 150, 60), "seed": (200, 60, 60)}


class ContactSheet:
    """Keeps the last 32 thumbnails of each kind ("background", "seed", "refused: why"); memory is bounded."""

    MOST = 32

    def __init__(self) -> None:
        self._kinds: dict[str, deque[NDArray[np.uint8]]] = {}

    def add(self, stack: Stack, kind: str, mask: Mask | None = None) -> None:
        """Keep a thumbnail of the stack's channel mean, (K, H, W), with the outline of `mask` (H, W) in red."""
        step = max(1, -(-max(stack.shape[1:]) // _TILE))
        small = stack[:, ::step, ::step].mean(axis=0)
        top = max(float(np.quantile(small, 0.995)), 1.0)
        grey = np.clip(small / top * 230, 0, 255).astype(np.uint8)
        picture = np.stack([grey] * 3, axis=-1)
        if mask is not None:
            coarse = ndimage.maximum_filter(mask, size=step)[::step, ::step]
            picture[coarse & ~ndimage.binary_erosion(coarse)] = (255, 40, 40)
        self._kinds.setdefault(kind, deque(maxlen=self.MOST)).append(picture)

    def save(self, path: Path) -> None:
        """Write the sheet as PNG, atomically; nothing when it is empty. Raises `StoreError` when it can't."""
        if not self._kinds:
            return
        heights = {kind: max(len(picture) for picture in pictures) + 4 for kind, pictures in self._kinds.items()}
        height = sum(
            _CAPTION + 6 - (-len(pictures) // _COLUMNS) * heights[kind] for kind, pictures in self._kinds.items()
        )
        sheet = Image.new("RGB", (_COLUMNS * (_TILE + 4), height), (245, 245, 245))
        draw = ImageDraw.Draw(sheet)
        y = 0
        for kind in sorted(self._kinds):
            pictures = self._kinds[kind]
            draw.text((4, y + 2), f"{kind} (last {len(pictures)})", fill=_COLOURS.get(kind, (90, 90, 90)))
            y += _CAPTION + 6
            for index, picture in enumerate(pictures):
                row, column = divmod(index, _COLUMNS)
                sheet.paste(Image.fromarray(picture), (column * (_TILE + 4) + 2, y + row * heights[kind]))
            y -= (-len(pictures) // _COLUMNS) * heights[kind]
        buffer = io.BytesIO()
        sheet.save(buffer, format="PNG")
        write_bytes(path, buffer.getvalue())
