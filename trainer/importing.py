"""Folders of labelled pictures into the store: first everything is looked at, then everything is taken in, or nothing.

::

    folder --trainer/folders--> entries --a part's channels--> frame sets --store.folders--> backgrounds, proposed seeds

Defects come in as proposals: a person confirms class and mask of each. Which part a picture shows is said by the
labels, by a pattern, or by its name up to ``_e<digit>``; all pictures of a part stand on one side of the split.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell import digest
from cell.defects import Mask, Split
from cell.errors import DataError, StateError
from cell.frames import StoredStack
from cell.imaging import production
from cell.imaging.folders import Misfit, physical_part, read_picture
from cell.imaging.twins import Fingerprint, fingerprint
from cell.recipes import Recipe
from cell.store.learning import LearningStore
from cell.store.prints import Newcomer
from cell.store.taking_in import Incoming
from trainer.folders.base import Entry
from trainer.folders.detect import Layout, read

#: Share of the picture above which a mask is taken for its opposite.
_INVERTED_SHARE = 0.9
#: Misfits that are told one by one; the count says of the others.
MOST_TOLD = 500


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the person who imports says about a folder."""

    layout: Layout = "auto"
    #: Subsets whose parts are held out, all others are learned from; where none of them is there the recipe's plan
    #: decides. None: `test`, but not of MVTec's tree, which has all its defects there.
    held_out: tuple[str, ...] | None = None
    classes: dict[str, str] = field(default_factory=dict)  # the folder's name of a class -> the recipe's
    part_pattern: str = ""  # its first group, searched in the picture's path below the folder, names the part
    lot_pattern: str = ""
    #: The pictures come from a real camera. Without a person who says so they count as emulated.
    vouched_by: str = ""
    skip_misfits: bool = False


@dataclass(slots=True)
class FrameFiles:
    """The pictures of one frame set: a file for each channel of the recipe, or one for all."""

    name: str
    part: str
    lot: str
    subset: str
    entries: list[Entry]
    files: tuple[Path, ...] = ()
    digest: str = ""


@dataclass(slots=True)
class Survey:
    """What a dry run finds."""

    layout: str
    fitting: list[FrameFiles] = field(default_factory=list)
    sides: dict[str, Split] = field(default_factory=dict)
    misfits: list[Misfit] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    good: int = 0
    regions: dict[str, int] = field(default_factory=dict)
    rough: int = 0

    def told(self, root: Path) -> dict[str, Any]:
        """Return it as JSON types, paths below the folder."""
        listed = [{"file": _below(root, misfit.path), "reason": misfit.reason} for misfit in self.misfits[:MOST_TOLD]]
        return {
            "layout": self.layout,
            "good": self.good,
            "defective": len(self.fitting) - self.good,
            "regions": dict(sorted(self.regions.items())),
            "boxes": self.rough,
            "parts": len(self.sides),
            "held_out_parts": sum(side is Split.HELD_OUT for side in self.sides.values()),
            "misfits": listed,
            "misfit_count": len(self.misfits),
            "remarks": self.remarks,
        }


class FolderImport:
    """One folder, looked at for one recipe."""

    def __init__(
        self,
        store: LearningStore,
        recipe: Recipe,
        root: Path,
        wishes: Wishes,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store = store
        self._recipe = recipe
        self._root = root
        self._wishes = wishes
        self._cancelled = cancelled
        self._held_out = wishes.held_out or ()
        self._part = _pattern(wishes.part_pattern, "part")
        self._lot = _pattern(wishes.lot_pattern, "lot")

    def survey(self) -> Survey:
        """Open every picture and mask and say what fits. Raises `DataError` when the folder can't be read at all."""
        listing = read(self._root, self._wishes.layout)
        survey = Survey(listing.layout, misfits=list(listing.misfits))
        if self._wishes.held_out is None:
            self._held_out = () if listing.layout == "mvtec" else ("test",)
        unknown = sorted(set(self._wishes.classes.values()) - set(self._recipe.class_names))
        if unknown:
            raise DataError(f"{self._recipe.recipe_id} has no class {', '.join(unknown)}; {self._known_classes()}")
        references = self._store.checks.references(self._recipe.recipe_id)
        seen: dict[str, FrameFiles] = {}
        prints: dict[str, Fingerprint] = {}
        for frames in self._grouped(listing.entries, survey):
            self._go_on()
            try:
                stack, regions = self._load(frames)
                self._check_light(stack, regions, references)
            except DataError as error:
                survey.misfits.append(Misfit(frames.entries[0].picture, str(error)))
                continue
            twin = seen.setdefault(digest.of_array(stack.pixels), frames)
            labels = sorted({label for label, _ in regions})
            if twin is not frames:
                survey.misfits.append(Misfit(frames.entries[0].picture, self._again(frames, twin)))
                continue
            frames.digest = digest.of_array(stack.pixels)
            prints[frames.digest] = fingerprint(stack.pixels)
            survey.fitting.append(frames)
            survey.rough += any(region.shape.rough for entry in frames.entries for region in entry.regions)
            for label in labels:
                survey.regions[label] = survey.regions.get(label, 0) + 1
        self._divide(survey)
        self._keep_twins_together(survey, prints)
        survey.good = sum(not any(entry.regions for entry in frames.entries) for frames in survey.fitting)
        self._remark(survey)
        return survey

    def take(self, survey: Survey) -> dict[str, Any]:
        """Take in what fits. Raises `DataError` when something does not fit and it was not said to leave that out."""
        if survey.misfits and not self._wishes.skip_misfits:
            first = survey.misfits[0]
            raise DataError(
                f"{len(survey.misfits)} things of {self._root} don't fit (first {_below(self._root, first.path)}: "
                f"{first.reason}); nothing was taken in: correct them, or leave them out with --skip-misfits"
            )
        if not survey.fitting:
            raise DataError(f"nothing of {self._root} fits {self._recipe.recipe_id}; the dry run says why")
        taken = self._store.folders.take_in(self._recipe.recipe_id, self._incoming(survey))
        return {"backgrounds": len(taken.backgrounds), "seeds": len(taken.seeds)}

    def _incoming(self, survey: Survey) -> Iterator[Incoming]:
        for frames in survey.fitting:
            self._go_on()
            stack, regions = self._load(frames)
            yield Incoming(frames.part, stack, survey.sides[frames.part], frames.lot, tuple(regions), "import")

    def _go_on(self) -> None:
        if self._cancelled():
            raise StateError("the trainer stops; import again when it is up, nothing was taken in")

    # ---- pictures to frame sets

    def _grouped(self, entries: list[Entry], survey: Survey) -> list[FrameFiles]:
        """Put the pictures of a part's channels together: ``NAME_<channel>`` for each channel of the recipe."""
        channels = self._recipe.channel_names
        groups: dict[tuple[Path, str], dict[str, Entry]] = {}
        whole: list[FrameFiles] = []
        for entry in entries:
            stem = entry.picture.stem
            channel = next((name for name in channels if re.search(rf"[_.-]{re.escape(name)}$", stem)), "")
            if len(channels) == 1 or not channel:
                whole.append(self._frames(stem, [entry], (entry.picture,)))
            else:
                groups.setdefault((entry.picture.parent, stem[: -len(channel) - 1]), {})[channel] = entry
        for (_, stem), members in groups.items():
            missing = [name for name in channels if name not in members]
            if missing:
                first = next(iter(members.values())).picture
                survey.misfits.append(Misfit(first, f"the pictures of {stem} under {', '.join(missing)} are missing"))
                continue
            ordered = [members[name] for name in channels]
            whole.append(self._frames(stem, ordered, tuple(entry.picture for entry in ordered)))
        return whole

    def _frames(self, stem: str, entries: list[Entry], files: tuple[Path, ...]) -> FrameFiles:
        first = entries[0]
        path = _below(self._root, first.picture)
        part = first.part or _found(self._part, path) or physical_part(stem)
        return FrameFiles(stem, part, first.lot or _found(self._lot, path), first.subset, entries, files)

    def _load(self, frames: FrameFiles) -> tuple[StoredStack, list[tuple[str, Mask]]]:
        """Read a frame set and its regions, one for each class. Raises `DataError` for what does not fit."""
        recipe = self._recipe
        pixels = _read(frames.files, len(recipe.channels))
        shape = (int(pixels.shape[1]), int(pixels.shape[2]))
        for entry in frames.entries:
            if entry.size is not None and entry.size != shape:
                raise DataError(
                    f"its labels are for {entry.size[1]}x{entry.size[0]} pixels, it has {shape[1]}x{shape[0]}; "
                    "label it again in its own size"
                )
        if shape != (recipe.height, recipe.width):
            raise DataError(f"it has {shape[1]}x{shape[0]} pixels, the recipe {recipe.width}x{recipe.height}")
        wanted = np.uint8 if recipe.bit_depth == 8 else np.uint16
        if pixels.dtype != wanted or int(pixels.max()) >= 1 << recipe.bit_depth:
            held = "8" if pixels.dtype == np.uint8 else f"{max(9, int(pixels.max()).bit_length())} to 16"
            raise DataError(f"it has {held} bits, the recipe {recipe.bit_depth}")
        stack = StoredStack(
            pixels=pixels,
            channels=recipe.channel_names,
            bit_depth=recipe.bit_depth,
            exposure_us=(0.0,) * len(recipe.channels),
            gain_db=(0.0,) * len(recipe.channels),
            metadata=self._metadata(frames),
        )
        return stack, self._regions(frames, shape)

    def _check_light(
        self, stack: StoredStack, regions: list[tuple[str, Mask]], references: Sequence[Sequence[float]]
    ) -> None:
        """Raise `DataError` for a picture whose channels are not as bright as on the good parts that are there.

        Nothing else is known of how a folder's pictures were lit; with few good parts nothing is said.
        """
        defect = np.any([mask for _, mask in regions], axis=0) if regions else None
        found = production.levels(stack.pixels, defect)
        unlike = production.lit_otherwise(found, references, self._recipe.channel_names)
        if unlike:
            raise DataError(f"it was not lit as production is: {'; '.join(unlike)}")

    def _metadata(self, frames: FrameFiles) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "part_id": frames.part,
            "recipe_id": self._recipe.recipe_id,
            "source": "folder",
            "file": _below(self._root, frames.files[0]),
            "emulated": not self._wishes.vouched_by,
        }
        return facts | ({"vouched_by": self._wishes.vouched_by} if self._wishes.vouched_by else {})

    def _regions(self, frames: FrameFiles, shape: tuple[int, int]) -> list[tuple[str, Mask]]:
        found: dict[str, Mask] = {}
        for entry in frames.entries:
            for region in entry.regions:
                label = self._wishes.classes.get(region.label, region.label)
                if label not in self._recipe.class_names:
                    raise DataError(f"its class {region.label!r} is none of the recipe's; {self._known_classes()}")
                mask = region.shape.mask(shape)
                found[label] = found[label] | mask if label in found else mask
        for label, mask in found.items():
            if not mask.any():
                raise DataError(f"its mask of {label} marks nothing")
            if mask.mean() > _INVERTED_SHARE:
                raise DataError(f"its mask of {label} covers {mask.mean():.0%} of the picture; is it inverted?")
        return sorted(found.items())

    def _known_classes(self) -> str:
        return f"it has {', '.join(self._recipe.class_names)}; say which one is meant with --class FOLDERS=RECIPES"

    def _again(self, frames: FrameFiles, twin: FrameFiles) -> str:
        other = _below(self._root, twin.files[0])
        labels = [{region.label for entry in one.entries for region in entry.regions} for one in (frames, twin)]
        if labels[0] != labels[1]:
            said = [", ".join(sorted(names)) or "good" for names in labels]
            return (
                f"the same picture as {other}, but labelled {said[0]} instead of {said[1]}; one of them is mislabelled"
            )
        return f"the same picture as {other}"

    # ---- sides of the split

    def _divide(self, survey: Survey) -> None:
        """Give each part its side; a part whose pictures are on both by their subsets does not fit."""
        subsets: dict[str, set[bool]] = {}
        for frames in survey.fitting:
            subsets.setdefault(frames.part, set()).add(frames.subset in self._held_out)
        torn = {part for part, sides in subsets.items() if len(sides) > 1}
        kept = []
        for frames in survey.fitting:
            if frames.part in torn:
                reason = f"part {frames.part} is in {' and '.join(sorted(self._held_out))} and elsewhere"
                survey.misfits.append(Misfit(frames.files[0], f"{reason}: results would lie"))
            else:
                kept.append(frames)
        survey.fitting = kept
        separate = any(True in sides for sides in subsets.values())
        recipe_id, lots = self._recipe.recipe_id, dict[str, Split]()
        known, book = self._store.splits(recipe_id), self._store.split_book
        by_lot = book.plan(recipe_id).by == "lot"
        for frames in kept:
            if frames.part in survey.sides:
                continue
            wanted: Split | None = None
            if separate:
                wanted = Split.HELD_OUT if frames.subset in self._held_out else Split.LEARN
            if by_lot and frames.lot:
                wanted = lots.setdefault(frames.lot, wanted or book.choose(recipe_id, frames.part, frames.lot))
            standing = known.get(frames.part)
            side = wanted or standing or book.choose(recipe_id, frames.part, frames.lot)
            if standing is not None and standing is not side:
                reason = f"part {frames.part} stands as {standing.value!r} in the store already"
                survey.misfits.append(Misfit(frames.files[0], reason))
            survey.sides[frames.part] = standing or side

    def _keep_twins_together(self, survey: Survey, prints: dict[str, Fingerprint]) -> None:
        """Leave out the learning side's pictures of parts that are held out under another name."""
        newcomers = [
            Newcomer(one.digest, one.part, survey.sides[one.part], prints[one.digest]) for one in survey.fitting
        ]
        names = {one.digest: _below(self._root, one.files[0]) for one in survey.fitting}
        twins = {
            one.digest: near
            for one, near in self._store.twins_apart(self._recipe.recipe_id, newcomers)
            if one.side is Split.LEARN or near.picture.digest not in names
        }
        kept = []
        for frames in survey.fitting:
            near = twins.get(frames.digest)
            if near is None:
                kept.append(frames)
                continue
            other = names.get(near.picture.digest, f"part {near.picture.part_id} of the store")
            reason = (
                f"it shows the part of {other} again (correlation {near.correlation:.2f}), which is on the other side"
            )
            survey.misfits.append(Misfit(frames.files[0], f"{reason}: results would lie"))
        survey.fitting = kept
        survey.sides = {part: side for part, side in survey.sides.items() if any(f.part == part for f in kept)}

    def _remark(self, survey: Survey) -> None:
        if survey.layout == "mvtec" and self._wishes.held_out is None:
            survey.remarks.append(
                "MVTec has every defect in test, so the plan divides the parts; --held-out test holds them out"
            )
        if survey.rough:
            survey.remarks.append(
                f"{survey.rough} pictures have boxes or ellipses instead of masks: correct each when confirming it"
            )
        if survey.fitting:
            survey.remarks.append(
                "how they were exposed is not known; only their brightness is compared with the line's"
            )
        if not self._wishes.vouched_by:
            survey.remarks.append("nobody said that a real camera took them: they count as emulated (--real says it)")


def _read(files: tuple[Path, ...], channels: int) -> NDArray[Any]:
    if len(files) == 1 and channels > 1:
        raise DataError(f"it is one picture, the recipe has {channels} channels; name the files NAME_<channel>")
    pictures = [read_picture(file) for file in files]
    if len({(picture.shape, picture.dtype) for picture in pictures}) != 1:
        raise DataError("its channels differ in size or depth")
    stack: NDArray[Any] = np.stack(pictures)
    return stack


def _pattern(text: str, what: str) -> re.Pattern[str] | None:
    if not text:
        return None
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise DataError(f"the pattern of the {what} is wrong: {error}") from error
    if pattern.groups < 1:
        raise DataError(f"the pattern of the {what} needs a group (...) around the {what}")
    return pattern


def _found(pattern: re.Pattern[str] | None, path: str) -> str:
    match = None if pattern is None else pattern.search(path)
    return "" if match is None else match.group(1) or ""


def _below(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
