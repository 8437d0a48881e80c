"""Which layout a folder has, and how to read it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from cell.errors import DataError
from trainer.folders import coco, datumaro, label_studio, trees, voc, yolo
from trainer.folders.base import Listing

Layout = Literal["auto", "folder", "mvtec", "coco", "yolo", "voc", "label-studio", "datumaro"]

#: In this order: the more a layout says of itself, the earlier.
_LAYOUTS: tuple[tuple[str, Callable[[Path], object], Callable[[Path], Listing]], ...] = (
    ("folder", trees.is_own, trees.read_own),
    ("datumaro", datumaro.documents, datumaro.read_datumaro),
    ("coco", coco.documents, coco.read_coco),
    ("label-studio", label_studio.documents, label_studio.read_label_studio),
    ("voc", voc.is_voc, voc.read_voc),
    ("yolo", yolo.is_yolo, yolo.read_yolo),
    ("mvtec", trees.is_mvtec, trees.read_mvtec),
)


def read(root: Path, layout: Layout = "auto") -> Listing:
    """Read what the labels of a folder say; pictures are not opened.

    :raises DataError: when there is no such folder, it can't be read, or nothing in it is of a known layout.
    """
    try:
        if not root.is_dir():
            raise DataError(f"there is no folder {root} that the trainer can see; name it in full, or copy it there")
        if layout in ("auto", "datumaro") and datumaro.is_project(root):
            return _project(root)
        for name, fits, reader in _LAYOUTS:
            if layout == name or (layout == "auto" and fits(root)):
                return _whole(root, reader(root))
    except OSError as error:
        raise DataError(f"can't read {root}: {error.strerror}; let the trainer's account read it") from error
    raise DataError(
        f"{root} is of no known layout ({', '.join(name for name, _, _ in _LAYOUTS)}); name it with --layout, or see "
        "docs/import.md"
    )


def _project(root: Path) -> Listing:
    whole = Listing("datumaro project")
    for source in datumaro.sources(root):
        try:
            listing = read(source)
        except DataError as error:
            whole.misfit(source, str(error))
            continue
        whole.entries += listing.entries
        whole.misfits += listing.misfits
    return _whole(root, whole)


def _whole(root: Path, listing: Listing) -> Listing:
    if not listing.entries and not listing.misfits:
        raise DataError(f"{root} holds no picture that its labels ({listing.layout}) name; is it the right folder?")
    return listing
