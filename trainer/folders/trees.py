"""Layouts that say by folders alone what a picture shows: MVTec AD's tree, and the project's own.

::

    MVTec   train/good/*, test/good/*, test/<class>/*, ground_truth/<class>/NAME_mask.png (or NAME.png)
    own     backgrounds/good/*, seeds/<class>/NAME + NAME_mask.png, test/<class>/... (docs/data-layout.md)
"""

from __future__ import annotations

from pathlib import Path

from trainer.folders.base import Entry, Listing, Region, is_picture, pictures_in
from trainer.folders.shapes import MaskFile

_GOOD = "good"


def is_mvtec(root: Path) -> bool:
    """Tell whether a folder is laid out as MVTec AD's products are."""
    return (root / "train" / _GOOD).is_dir() and not (root / "annotations").is_dir()


def is_own(root: Path) -> bool:
    """Tell whether a folder is laid out as the project's own."""
    return (root / "seeds").is_dir() and (root / "backgrounds" / _GOOD).is_dir()


def read_mvtec(root: Path) -> Listing:
    """Read MVTec AD's tree."""
    listing = Listing("mvtec")
    for subset in ("train", "validation", "test"):
        for folder in _folders(root / subset):
            for picture in _pictures(listing, folder):
                if folder.name == _GOOD:
                    listing.entries.append(Entry(picture, subset=subset))
                    continue
                truth = root / "ground_truth" / folder.name
                tries = [truth / f"{picture.stem}{mark}{end}" for mark in ("_mask", "") for end in (".png", ".bmp")]
                _labelled(listing, picture, folder.name, subset, tries)
    _orphans(listing, root / "ground_truth")
    return listing


def read_own(root: Path) -> Listing:
    """Read the project's own layout."""
    listing = Listing("folder")
    for top, subset in (("backgrounds", ""), ("seeds", ""), ("test", "test")):
        for folder in _folders(root / top):
            for picture in _pictures(listing, folder):
                if picture.stem.endswith("_mask"):
                    continue
                if folder.name == _GOOD:
                    listing.entries.append(Entry(picture, subset=subset))
                else:
                    mask = picture.with_name(f"{picture.stem}_mask.png")
                    _labelled(listing, picture, folder.name, subset, [mask])
    return listing


def _labelled(listing: Listing, picture: Path, label: str, subset: str, tries: list[Path]) -> None:
    mask = next((file for file in tries if file.is_file()), None)
    if mask is None:
        listing.misfit(picture, f"its mask {tries[0].name} is missing")
    else:
        listing.entries.append(Entry(picture, (Region(label, MaskFile(mask)),), subset))


def _pictures(listing: Listing, folder: Path) -> list[Path]:
    for file in sorted(folder.iterdir()):
        if file.is_file() and not is_picture(file) and not file.name.startswith("."):
            listing.misfit(file, "not a picture")
    return pictures_in(folder)


def _folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []


def _orphans(listing: Listing, truth: Path) -> None:
    used = {
        shape.path
        for entry in listing.entries
        for region in entry.regions
        if isinstance(shape := region.shape, MaskFile)
    }
    for folder in _folders(truth):
        for mask in pictures_in(folder):
            if mask not in used:
                listing.misfit(mask, "a mask without its picture")
