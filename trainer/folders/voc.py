"""Pascal VOC: ``Annotations/*.xml`` with boxes, ``JPEGImages``, masks in ``SegmentationClass`` by ``labelmap.txt``."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as Xml

import numpy as np
from PIL import Image, UnidentifiedImageError

from cell.errors import DataError
from trainer.folders.base import Entry, Listing, Region, inside, is_picture, read_text
from trainer.folders.shapes import Box, MaskFile, Shape


def is_voc(root: Path) -> bool:
    """Tell whether a folder is laid out as Pascal VOC."""
    return (root / "JPEGImages").is_dir() and any(
        (root / name).is_dir() for name in ("Annotations", "SegmentationClass")
    )


def read_voc(root: Path) -> Listing:
    """Read Pascal VOC. Boxes are narrowed to the masks where there are any."""
    listing = Listing("voc")
    colours, subsets = _colours(root), _subsets(root)
    for file in sorted((root / "Annotations").glob("*.xml")):
        try:
            _read(root, file, colours, subsets, listing)
        except DataError as error:
            listing.misfit(file, str(error))
    labelled = {entry.picture.stem for entry in listing.entries} | {misfit.path.stem for misfit in listing.misfits}
    for picture in sorted(file for file in (root / "JPEGImages").glob("*") if is_picture(file)):
        if picture.stem in labelled:
            continue
        mask = root / "SegmentationClass" / f"{picture.stem}.png"
        if mask.is_file() or picture.stem in subsets:
            _by_mask(picture, mask, colours, subsets, listing)
        else:
            listing.misfit(picture, "it has no file in Annotations; one without objects says that it is good")
    return listing


def _by_mask(picture: Path, mask: Path, colours: dict[str, int], subsets: dict[str, str], listing: Listing) -> None:
    """Read a picture that has no boxes: each colour in its mask is a class; a listed one without a mask is good."""
    regions = []
    try:
        if mask.is_file():
            with Image.open(mask) as opened:
                found = np.unique(np.asarray(opened.convert("RGB")).reshape(-1, 3), axis=0).tolist()
            present = {red << 16 | green << 8 | blue for red, green, blue in found}
            names = {colour: name for name, colour in colours.items()}
            # Black is what belongs to no class, white is the rim that VOC leaves undecided.
            for colour in sorted(present - {0x000000, 0xE0E0C0, 0xFFFFFF}):
                if colour not in names:
                    raise DataError(f"its mask has the colour {colour:06x}, which labelmap.txt does not name")
                regions.append(Region(names[colour], MaskFile(mask, colour, coloured=True)))
    except (DataError, OSError, UnidentifiedImageError) as error:
        listing.misfit(picture, str(error))
        return
    listing.entries.append(Entry(picture, tuple(regions), subsets.get(picture.stem, "")))


def _read(root: Path, file: Path, colours: dict[str, int], subsets: dict[str, str], listing: Listing) -> None:
    text = read_text(file)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DataError("it declares entities, which no label needs; export it again")
    try:
        tree = Xml.fromstring(text)  # noqa: S314 - entities are refused above
    except Xml.ParseError as error:
        raise DataError(f"it is not XML ({error}); export it again") from error
    name = (tree.findtext("filename") or "").strip()
    places = [root / "JPEGImages", root]
    picture = inside(root, name, places) if name else None
    if picture is None:
        picture = next((file_ for file_ in (root / "JPEGImages").glob(f"{file.stem}.*") if is_picture(file_)), None)
    if picture is None:
        raise DataError(f"its picture {name or file.stem} is not in JPEGImages")
    mask = root / "SegmentationClass" / f"{picture.stem}.png"
    regions = []
    for thing in tree.iterfind("object"):
        label = (thing.findtext("name") or "").strip()
        box = _box(thing)
        shape: Shape = box
        if mask.is_file() and label in colours:
            shape = MaskFile(mask, colours[label], coloured=True, within=box)
        regions.append(Region(label, shape))
    listing.entries.append(Entry(picture, tuple(regions), subsets.get(picture.stem, ""), _size(tree)))


def _box(thing: Xml.Element) -> Box:
    try:
        left, top, right, bottom = (
            float(thing.findtext(f"bndbox/{side}") or "nan") for side in ("xmin", "ymin", "xmax", "ymax")
        )
    except ValueError as error:
        raise DataError("a box of it is not made of numbers") from error
    if not (right > left and bottom > top):
        raise DataError("a box of it is empty")
    # VOC counts pixels from 1 and includes both ends.
    return Box((left - 1 + right) / 2, (top - 1 + bottom) / 2, right - left + 1, bottom - top + 1)


def _size(tree: Xml.Element) -> tuple[int, int] | None:
    try:
        size = int(tree.findtext("size/height") or 0), int(tree.findtext("size/width") or 0)
    except ValueError:
        return None
    return size if min(size) > 0 else None


def _colours(root: Path) -> dict[str, int]:
    """Return 0xRRGGBB of each class from ``labelmap.txt`` (lines ``name:r,g,b:parts:actions``, as CVAT writes them).

    A class without a colour has the one that VOC's own palette gives its line.
    """
    file = root / "labelmap.txt"
    found: dict[str, int] = {}
    if not file.is_file():
        return found
    lines = [line for line in read_text(file).splitlines() if line.strip() and not line.startswith("#")]
    for number, line in enumerate(lines):
        name, _, rest = line.partition(":")
        colour = rest.partition(":")[0]
        if not colour:
            found[name] = _palette(number)
            continue
        try:
            red, green, blue = (int(value) for value in colour.split(","))
        except ValueError as error:
            raise DataError(f"{file} gives {name} the colour {colour!r}, which is not r,g,b; correct it") from error
        found[name] = red << 16 | green << 8 | blue
    return found


def _palette(number: int) -> int:
    """Return VOC's colour of a class: its number's bits, three at a time, are the colours' highest bits."""
    red = green = blue = 0
    for bit in range(7, -1, -1):
        red |= (number & 1) << bit
        green |= (number >> 1 & 1) << bit
        blue |= (number >> 2 & 1) << bit
        number >>= 3
    return red << 16 | green << 8 | blue


def _subsets(root: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for folder in ("Main", "Segmentation"):
        for subset in ("train", "val", "test"):
            file = root / "ImageSets" / folder / f"{subset}.txt"
            if file.is_file():
                found |= {words[0]: subset for line in read_text(file).splitlines() if (words := line.split())}
    return found
