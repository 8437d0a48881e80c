"""Pictures of the learning store: written durably, read only with their digest verified."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from cell.defects import ImageRef, LabelMap, Mask
from cell.errors import DataError
from cell.frames import StoredStack
from cell.recipes import Rect
from cell.store.files import remove
from cell.store.images import mask_to_label, read_label, read_stack, write_label, write_stack
from cell.store.layout import StateDir


class Pictures:
    """Writes and reads pictures by :class:`cell.defects.ImageRef`."""

    def __init__(self, state: StateDir) -> None:
        self._state = state

    def resolve(self, relative: str) -> Path:
        """Return where a stored path lies. Raises `StoreError` when it leads out of the store."""
        return self._state.resolve(relative)

    def remove(self, references: Iterable[ImageRef]) -> None:
        """Remove pictures that no row names, after a change that was not carried through. Raises `StoreError`."""
        remove(self._state.resolve(reference.path) for reference in references)

    def write_image(self, relative: str, stack: StoredStack) -> ImageRef:
        """Write a stack to `relative` (a TIFF), durably. Raises `DataError`, `DiskFull` or `StoreError`."""
        return ImageRef(path=relative, digest=write_stack(self._state.resolve(relative), stack))

    def write_mask(self, relative: str, mask: Mask) -> ImageRef:
        """Write a mask (H, W) bool to `relative` (a PNG), durably. Raises as :meth:`write_image`."""
        return ImageRef(path=relative, digest=write_label(self._state.resolve(relative), mask_to_label(mask)))

    def write_label(self, relative: str, labels: LabelMap) -> ImageRef:
        """Write a label map (H, W) uint8 to `relative` (a PNG), durably. Raises as :meth:`write_image`."""
        return ImageRef(path=relative, digest=write_label(self._state.resolve(relative), labels))

    def read_labels(self, mask: ImageRef) -> LabelMap:
        """Read a label map (H, W) uint8; it is that of the reference's digest, or `DataError` is raised."""
        return read_label(self._state.resolve(mask.path), mask.digest)

    def read_image(self, image: ImageRef) -> StoredStack:
        """Read a stack; its pixels are those of the reference's digest, or `DataError` is raised."""
        return read_stack(self._state.resolve(image.path), image.digest)

    def read_mask(self, mask: ImageRef) -> Mask:
        """Read a mask (H, W) bool; it is that of the reference's digest, or `DataError` is raised."""
        inside: Mask = read_label(self._state.resolve(mask.path), mask.digest) > 0
        return inside


def check_mask(mask: Mask, stack: StoredStack) -> Rect:
    """Return the box around a mask that fits the stack.

    Raises `DataError` when it has another size or dtype, or is empty.
    """
    size = stack.pixels.shape[1:]
    if mask.shape != size or mask.dtype != np.bool_:
        raise DataError(f"the mask is {mask.shape} {mask.dtype}, its picture needs {size} bool; draw it again")
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        raise DataError("the mask is empty; mark the defect's pixels")
    y, x = int(rows[0]), int(columns[0])
    return Rect(x=x, y=y, width=int(columns[-1]) - x + 1, height=int(rows[-1]) - y + 1)
