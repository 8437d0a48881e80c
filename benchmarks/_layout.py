"""A product for the few-shot benchmark: :mod:`cell.imaging.folders`, but nothing may be missing or left out silently.

Every picture is a part's image of its own, one channel; pictures of one physical part share its group. Or a part's
pictures are its lights, and it is one stack of as many channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.heldout.stacks import stack_parts
from cell.defects import Sample
from cell.errors import DataError
from cell.imaging.folders import FolderDataset, Misfit, physical_part, read_folder, read_picture

_BIT_DEPTH = {"uint8": 8, "uint16": 16}


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """All that a benchmark may use; `test` only to report."""

    name: str
    classes: tuple[str, ...]
    bit_depth: int
    seeds: tuple[Sample, ...]
    backgrounds: tuple[Sample, ...]
    test: tuple[Sample, ...]
    channels: tuple[str, ...] = ("grey",)


def load(root: Path, shots: int, *, lights: bool = False) -> Product:
    """Read a product with the first `shots` parts of every seed class.

    With `lights` the pictures of a part are the lights of one stack.

    A defective test picture whose mask marks nothing stays in: its folder tells the class, this exposure only does not
    show where. Anything else that does not fit stops the benchmark, so that two runs never compare different sets.

    :raises DataError: naming the file or folder that is missing, unreadable or does not fit.
    """
    dataset = read_folder(root)
    unmarked = []
    for misfit in dataset.misfits:
        sample = _unmarked(dataset, misfit)
        if sample is None:
            raise DataError(str(misfit))
        unmarked.append(sample)
    seeds = dataset.load_all(dataset.shots(shots))
    backgrounds = dataset.load_all(dataset.backgrounds)
    test = sorted([*dataset.load_all(dataset.test), *unmarked], key=lambda sample: sample.sample_id)
    if not any(not sample.labels.any() for sample in test):
        raise DataError(f"{root / 'test' / 'good'} holds no usable picture; held-out good parts are needed to score")
    everything = _with_short_names((*seeds, *backgrounds, *test))
    dtypes = {sample.stack.dtype.name for sample in everything}
    if len(dtypes) != 1:
        raise DataError(f"{root} mixes bit depths ({', '.join(sorted(dtypes))}); convert the images to one")
    ends = len(seeds), len(seeds) + len(backgrounds)
    product = Product(
        name=root.name,
        classes=dataset.classes,
        bit_depth=_BIT_DEPTH[dtypes.pop()],
        seeds=tuple(everything[: ends[0]]),
        backgrounds=tuple(everything[ends[0] : ends[1]]),
        test=tuple(everything[ends[1] :]),
    )
    return _stacked(product) if lights else product


def _stacked(product: Product) -> Product:
    seeds, backgrounds, test = (
        tuple(stack_parts(samples)) for samples in (product.seeds, product.backgrounds, product.test)
    )
    counts = {len(sample.stack) for sample in (*seeds, *backgrounds, *test)}
    if len(counts) > 1:
        raise DataError(
            f"parts of {product.name} have {min(counts)} to {max(counts)} pictures; give each the same lights"
        )
    channels = tuple(f"light{number + 1}" for number in range(counts.pop()))
    return replace(product, seeds=seeds, backgrounds=backgrounds, test=test, channels=channels)


def _unmarked(dataset: FolderDataset, misfit: Misfit) -> Sample | None:
    """Return the test picture that was left out because its mask is whole but empty; None for any other misfit."""
    picture = misfit.path
    defect_class = picture.parent.name
    mask = picture.with_name(f"{picture.stem}_mask.png")
    if picture.parent.parent != dataset.root / "test" or defect_class not in dataset.classes or not mask.is_file():
        return None
    try:
        pixels, marked = read_picture(picture), read_picture(mask)
    except DataError:
        return None
    if marked.any() or marked.shape != pixels.shape:
        return None
    labels = np.zeros(pixels.shape, np.uint8)
    name = f"{defect_class}/{picture.stem}"
    return Sample(pixels[np.newaxis], labels, physical_part(picture.stem), sample_id=name, tags={"class": defect_class})


def _with_short_names(samples: Sequence[Sample]) -> list[Sample]:
    """Drop the folder from the names where they stay unique."""
    short = [sample.sample_id.rsplit("/", 1)[-1] for sample in samples]
    if len(set(short)) != len(short):
        return list(samples)
    return [replace(sample, sample_id=name) for sample, name in zip(samples, short, strict=True)]
