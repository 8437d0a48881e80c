"""Fingerprints of the learning store's real pictures, to find two pictures of one part under two names.

A fingerprint lies in ``prints/<recipe>/<digest>.npy``. It follows from the picture's pixels: a lost one is made again.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa

from cell.defects import ImageRef, Split
from cell.errors import DataError, StoreError
from cell.frames import Stack
from cell.imaging import twins
from cell.imaging.twins import Fingerprint, Sketch
from cell.store.database import Database
from cell.store.files import read_bytes, write_bytes
from cell.store.pictures import Pictures
from cell.store.tables import backgrounds, seeds

#: Pictures of an older store whose fingerprints are made at one call; the others wait for the next.
_MADE_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Known:
    """A picture of the store and the part that it shows."""

    digest: str
    path: str
    part_id: str


@dataclass(frozen=True, slots=True)
class Likeness:
    """A picture that shows the same part as the one asked about."""

    picture: Known
    correlation: float
    next: float  # of the next part's picture


@dataclass(frozen=True, slots=True, eq=False)
class Newcomer:
    """A picture that is about to enter the store: its digest, its part, that part's side, its fingerprint."""

    digest: str
    part_id: str
    side: Split
    print_: Fingerprint


class Prints:
    """Keeps and compares fingerprints. Safe for threads; memory is bounded by the pictures kept (some 100 KB each)."""

    def __init__(self, database: Database, pictures: Pictures) -> None:
        self._database = database
        self._pictures = pictures
        self._lock = threading.Lock()
        self._held: dict[tuple[str, str], Fingerprint] = {}
        self._sketches: dict[tuple[str, str], Sketch] = {}
        #: The last new picture's: it is asked about before it is kept.
        self._last: tuple[str, Fingerprint] | None = None

    def keep(self, recipe_id: str, image_digest: str, pixels: Stack) -> None:
        """Make and write the fingerprint of a picture that enters the store. Raises `DiskFull` or `StoreError`."""
        self._write(recipe_id, image_digest, self._own(recipe_id, image_digest, pixels))

    def likeness(self, recipe_id: str, image_digest: str, pixels: Stack, *, part_id: str) -> Likeness | None:
        """Return the picture under another part's name that shows this part, or None.

        :param pixels: (K, H, W) DN; :param part_id: whose pictures are left out.
        """
        return self._likeness(recipe_id, self._own(recipe_id, image_digest, pixels), part_id)

    def likeness_of(self, recipe_id: str, image_digest: str, *, part_id: str) -> Likeness | None:
        """Return :meth:`likeness` of a picture that the store has; None when its fingerprint can't be made."""
        own = next((known for known in self._known(recipe_id) if known.digest == image_digest), None)
        made = None if own is None else self._prints(recipe_id, [own])[0][1]
        return None if made is None else self._likeness(recipe_id, made, part_id)

    def _likeness(self, recipe_id: str, own: Fingerprint, part_id: str) -> Likeness | None:
        others = [
            (known, print_)
            for known, print_ in self._made_prints(recipe_id, self._known(recipe_id))
            if known.part_id != part_id
        ]
        return self._nearest(recipe_id, own, others)

    def _nearest(self, recipe_id: str, own: Fingerprint, others: list[tuple[Known, Fingerprint]]) -> Likeness | None:
        if not others:
            return None
        fine = twins.texture(own)
        ranks = twins.rank(twins.sketch(fine), [self._sketch(recipe_id, *other) for other in others])
        closest = [others[int(at)] for at in np.argsort(-ranks)[: twins.CLOSELY]]
        found = [twins.correlation(fine, twins.texture(print_)) for _, print_ in closest]
        best = twins.judged(found, [known.part_id for known, _ in closest])
        return None if best is None else Likeness(closest[best.index][0], best.correlation, best.next)

    def apart(
        self, recipe_id: str, newcomers: Sequence[Newcomer], sides: Mapping[str, Split]
    ) -> list[tuple[Newcomer, Likeness]]:
        """Return the newcomers that show a part which stands on the other side, among themselves or in the store.

        :param sides: side of each part of the store.
        """
        known = [(k, p) for k, p in self._made_prints(recipe_id, self._known(recipe_id)) if k.part_id in sides]
        fresh = [(Known(one.digest, "", one.part_id), one.print_) for one in newcomers]
        side_of = dict(sides) | {one.part_id: one.side for one in newcomers}
        found = []
        for one in newcomers:
            others = [
                (k, p) for k, p in (*known, *fresh) if k.part_id != one.part_id and side_of[k.part_id] is not one.side
            ]
            near = self._nearest(recipe_id, one.print_, others)
            if near is not None:
                found.append((one, near))
        return found

    def across(self, recipe_id: str, sides: dict[str, Any]) -> list[tuple[Known, Known, float]]:
        """Return pairs of pictures of one part whose names stand on two sides, each with its correlation.

        :param sides: side of each part.
        """
        pairs = self._made_prints(recipe_id, self._known(recipe_id))
        found: dict[frozenset[str], tuple[Known, Known, float]] = {}
        for known, print_ in pairs:
            near = self._nearest(recipe_id, print_, [pair for pair in pairs if pair[0].part_id != known.part_id])
            if near is not None and sides.get(known.part_id) != sides.get(near.picture.part_id):
                pair = (known, near.picture, near.correlation)
                found.setdefault(frozenset((known.digest, near.picture.digest)), pair)
        return list(found.values())

    def _sketch(self, recipe_id: str, known: Known, print_: Fingerprint) -> Sketch:
        key = (recipe_id, known.digest)
        if key not in self._sketches:
            self._sketches[key] = twins.sketch(twins.texture(print_))
        return self._sketches[key]

    def _made_prints(self, recipe_id: str, wanted: list[Known]) -> list[tuple[Known, Fingerprint]]:
        return [(known, print_) for known, print_ in self._prints(recipe_id, wanted) if print_ is not None]

    def _own(self, recipe_id: str, image_digest: str, pixels: Stack) -> Fingerprint:
        held, last = self._held.get((recipe_id, image_digest)), self._last
        if held is not None:
            return held
        if last is None or last[0] != image_digest:
            last = self._last = (image_digest, twins.fingerprint(pixels))
        return last[1]

    def _known(self, recipe_id: str) -> list[Known]:
        found: dict[str, Known] = {}
        with self._database.read() as connection:
            for table in (backgrounds, seeds):
                image = [sa.func.json_extract(table.c.record, f"$.image.{key}") for key in ("digest", "path")]
                statement = sa.select(image[0], image[1], table.c.part_id).where(table.c.recipe_id == recipe_id)
                for image_digest, path, part_id in connection.execute(statement):
                    found.setdefault(image_digest, Known(image_digest, path, part_id))
        return list(found.values())

    def _prints(self, recipe_id: str, wanted: list[Known]) -> list[tuple[Known, Fingerprint | None]]:
        made = 0
        found: list[tuple[Known, Fingerprint | None]] = []
        for known in wanted:
            print_ = self._held.get((recipe_id, known.digest))
            if print_ is None:
                print_ = self._read(recipe_id, known.digest)
            if print_ is None and made < _MADE_AT_ONCE:
                made += 1
                print_ = self._made(recipe_id, known)
            found.append((known, print_))
        return found

    def _read(self, recipe_id: str, image_digest: str) -> Fingerprint | None:
        path = self._pictures.resolve(_path(recipe_id, image_digest))
        if not path.is_file():
            return None
        try:
            print_ = np.load(io.BytesIO(read_bytes(path)), allow_pickle=False)
        except (DataError, StoreError, ValueError, EOFError, OSError):
            return None  # damaged: it is made again
        if print_.dtype != np.uint8 or print_.ndim != 3:
            return None
        with self._lock:
            self._held[recipe_id, image_digest] = print_
        return np.asarray(print_)

    def _made(self, recipe_id: str, known: Known) -> Fingerprint | None:
        try:
            stack = self._pictures.read_image(ImageRef(path=known.path, digest=known.digest))
        except (DataError, StoreError):
            return None  # told by whoever needs the picture itself
        return self._write(recipe_id, known.digest, twins.fingerprint(stack.pixels))

    def _write(self, recipe_id: str, image_digest: str, print_: Fingerprint) -> Fingerprint:
        buffer = io.BytesIO()
        np.save(buffer, print_, allow_pickle=False)
        write_bytes(self._pictures.resolve(_path(recipe_id, image_digest)), buffer.getvalue())
        with self._lock:
            self._held[recipe_id, image_digest] = print_
        return print_


def _path(recipe_id: str, image_digest: str) -> str:
    return f"prints/{recipe_id}/{image_digest[:32]}.npy"
