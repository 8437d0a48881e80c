"""Which light a frame was taken under, told from its contents: the only way to see that channels are swapped.

Numbers and clocks of a camera say nothing of the lamps. What each channel looks like is therefore learned from the sets
of a recipe that passed all other checks. A set is reduced to block means f_k of its K channels, over the set's mean;
what the part itself contributes to all channels alike, c, is left out by comparing differences to the mean of the K
channels only. With the learned looks T_k, r_k = (f_k - T_k) less its mean over k is what is strange about a set. Were
channel k really taken under light j, or k and j exchanged, r would be the difference d of the looks. So for each such
hypothesis, with blocks weighted by their spread and the usual variations of good sets projected out (a matched filter),

    t = <r, d> / <d, d>        0 on average for a good set, 1 for the swapped one

and the hypothesis is taken that leaves least of r, when its t reaches 0.5. A hypothesis whose t scatters so much on
good sets that 0.5 is not beyond doubt is not asked at all: those channels look alike, and :attr:`Signatures.alike`
names them. Nothing is found before 64 sets were learned from, nor in a recipe of one channel; lamps exchanged before
the first part is ever shown are learned as they are.

A set without any light is told from the first part on, a channel whose lamp is out once the looks are learned: it has
next to nothing of the part that it usually has in the set's light.

The looks follow slow changes (ageing lamps) by one percent of each good set. Figures: docs/notes/triggering.md.
"""

from __future__ import annotations

import io
import logging
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cell import digest
from cell.errors import StoreError
from cell.frames import AcquisitionFault, Frame
from cell.recipes import Recipe
from cell.store.files import write_bytes
from daemon.evidence import Doubt

_LOG = logging.getLogger(__name__)

#: Blocks that a frame is reduced to, and the pixels looked at in each direction.
_ROWS, _COLUMNS = 16, 20
_PIXELS = 8
#: Sets that looks and variations are learned from, and further ones that the scatter of t is measured on.
LEARNED, MEASURED = 32, 32
_VARIATIONS = 8
_THRESHOLD = 0.5
#: A hypothesis is asked when its threshold lies so many standard deviations of t from 0.
_BEYOND_DOUBT = 5.0
_FOLLOW = 0.01
_REFIT = 64
#: A set whose brightest block is darker than this share of full scale shows nothing.
_DARK = 0.01
#: A channel with less than this share of its usual part of a set's light has lost its lamp.
_OUT = 0.15
_FORMAT = 1

_Maps = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Swap:
    """What a set looks like: `channel` was taken under the light of `other`, and the other way round if `both`."""

    channel: str
    other: str
    both: bool
    t: float

    def doubt(self) -> Doubt:
        """Return it as a reason for FAULT."""
        how = "and the other way round " if self.both else ""
        detail = (
            f"channel {self.channel} looks as if taken under the light of {self.other} {how}"
            f"(t = {self.t:.2f}); check lamps, their cables and the light sequence"
        )
        return Doubt(AcquisitionFault.SWAPPED, detail, (self.channel, self.other))


@dataclass(frozen=True, slots=True)
class Dark:
    """A set, or one channel of it, in which nothing was lit: no verdict can rest on it.

    `share` is of full scale for a set, and of what the channel usually is among the others for a channel.
    """

    channel: str | None
    share: float

    def doubt(self) -> Doubt:
        """Return it as a reason for FAULT."""
        advice = "see to the lamps, their cables and their controller"
        if self.channel is None:
            detail = f"all channels are dark ({self.share:.2%} of full scale at most); {advice}, and to the lens cap"
            return Doubt(AcquisitionFault.LIGHT, detail)
        detail = f"channel {self.channel} has {self.share:.0%} of its usual light among the others; {advice}"
        return Doubt(AcquisitionFault.LIGHT, detail, (self.channel,))


class Signatures:
    """The looks of one recipe's channels. For one thread."""

    def __init__(self, channels: Sequence[str]) -> None:
        self.channels = tuple(channels)
        count = len(self.channels)
        self._pairs = [(k, j, False) for k in range(count) for j in range(count) if k != j]
        self._pairs += [(k, j, True) for k in range(count) for j in range(k + 1, count)]
        self._learning: list[_Maps] = []
        self._measuring: list[NDArray[np.float64]] = []
        self._looks: _Maps | None = None  # (K, blocks)
        self._weights: _Maps | None = None  # (blocks,)
        self._usual: _Maps | None = None  # (variations, K * blocks), orthonormal
        self._filters: _Maps | None = None  # (hypotheses, K * blocks)
        self._energies: NDArray[np.float64] | None = None
        self._asked: NDArray[np.bool_] | None = None
        self._scatter: NDArray[np.float64] | None = None
        self._since_fit = 0

    @property
    def ready(self) -> bool:
        """Tell whether enough sets were seen to name a swapped one."""
        return self._asked is not None

    @property
    def alike(self) -> tuple[tuple[str, str], ...]:
        """Pairs of channels whose exchange, or one for the other, can't be seen; empty before it is ready."""
        if self._asked is None:
            return ()
        blind = {frozenset((k, j)) for (k, j, _), asked in zip(self._pairs, self._asked, strict=True) if not asked}
        return tuple(sorted((self.channels[min(pair)], self.channels[max(pair)]) for pair in blind))

    def judge(self, frames: Sequence[Frame], means: Sequence[NDArray[np.float32]] = ()) -> Swap | Dark | None:
        """Return how a complete set's channels are swapped, that it is dark, or None; a good set is learned from.

        :param frames: in the order of :attr:`channels`, all of one size.
        :param means: their :func:`block_means`, where they were taken already.
        """
        maps: _Maps = np.stack(means or [block_means(frame) for frame in frames])
        # The brightest place counts: a small part on a black carrier leaves most of its frames black.
        share = float(maps.max()) / ((1 << frames[0].bit_depth) - 1)
        if share < _DARK:
            return Dark(None, share)
        if len(self.channels) < 2:
            return None
        maps *= 100 / float(maps.mean())
        if self._looks is None:
            self._learning.append(maps)
            if len(self._learning) == LEARNED:
                self._learn()
            return None
        left = maps.mean(axis=1) / np.maximum(self._looks.mean(axis=1), 1e-6)
        lamp = int(left.argmin())
        if left[lamp] < _OUT:
            return Dark(self.channels[lamp], float(left[lamp]))
        t = self._measure(maps)
        if self._asked is None:
            self._measuring.append(t)
            if len(self._measuring) == MEASURED:
                self._decide()
            return None
        swap = self._found(t)
        if swap is None:
            self._follow(maps)
        return swap

    def dump(self) -> bytes:
        """Return what was learned, for :meth:`load`; empty before it is ready."""
        if self._asked is None or self._looks is None or self._weights is None or self._usual is None:
            return b""
        file = io.BytesIO()
        np.savez(
            file,
            format=_FORMAT,
            channels=np.array(self.channels),
            looks=self._looks,
            weights=self._weights,
            usual=self._usual,
            scatter=self._scatter,  # type: ignore[arg-type]
        )
        return file.getvalue()

    def load(self, data: bytes) -> bool:
        """Take over what another process learned; tell whether it fits these channels."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as stored:
                count, blocks = len(self.channels), _ROWS * _COLUMNS
                fits = (
                    int(stored["format"]) == _FORMAT
                    and tuple(stored["channels"].tolist()) == self.channels
                    and stored["looks"].shape[0] == count
                    and stored["looks"].shape[1] <= blocks
                    and stored["weights"].shape == stored["looks"].shape[1:]
                    and stored["usual"].shape[1:] == (stored["looks"].size,)
                    and stored["scatter"].shape == (len(self._pairs),)
                )
                if not fits:
                    return False
                self._looks, self._weights, self._usual = stored["looks"], stored["weights"], stored["usual"]
                self._scatter = stored["scatter"]
        except (ValueError, KeyError, OSError, zipfile.BadZipFile):
            return False
        self._fit()
        self._choose()
        return True

    def _learn(self) -> None:
        sets = np.stack(self._learning)
        self._looks = np.median(sets, axis=0).astype(np.float32)
        strange = _centred(sets - self._looks)
        self._weights = (1 / np.sqrt((strange**2).mean(axis=(0, 1)) + 0.05)).astype(np.float32)
        weighted = (strange * self._weights).reshape(len(sets), -1)
        self._usual = np.linalg.svd(weighted, full_matrices=False)[2][:_VARIATIONS].astype(np.float32)
        self._learning.clear()
        self._fit()

    def _fit(self) -> None:
        looks, usual = self._looks, self._usual
        if looks is None or usual is None or self._weights is None:
            return
        filters = np.empty((len(self._pairs), looks.size), np.float32)
        for index, (k, j, both) in enumerate(self._pairs):
            swapped = looks.copy()
            swapped[k] = looks[j]
            if both:
                swapped[j] = looks[k]
            filters[index] = (_centred(swapped - looks) * self._weights).ravel()
        filters -= (filters @ usual.T) @ usual
        self._filters = filters
        self._energies = np.maximum((filters.astype(np.float64) ** 2).sum(axis=1), 1e-9)
        self._since_fit = 0

    def _measure(self, maps: _Maps) -> NDArray[np.float64]:
        if self._looks is None or self._weights is None or self._filters is None or self._energies is None:
            return np.zeros(len(self._pairs))
        strange = (_centred(maps - self._looks) * self._weights).ravel()
        t: NDArray[np.float64] = (self._filters @ strange).astype(np.float64) / self._energies
        return t

    def _decide(self) -> None:
        measured = np.stack(self._measuring)
        # Around 0, not around their mean: what is learned wrong counts as scatter too. Robust against a few odd parts.
        self._scatter = np.median(np.abs(measured), axis=0) * 1.4826
        self._measuring.clear()
        self._choose()

    def _choose(self) -> None:
        if self._scatter is not None:
            self._asked = self._scatter * _BEYOND_DOUBT <= _THRESHOLD

    def _found(self, t: NDArray[np.float64]) -> Swap | None:
        if self._asked is None or self._energies is None:
            return None
        # What a hypothesis explains of r: 2 <r, d> - <d, d>.
        explained = np.where(self._asked, self._energies * (2 * t - 1), -np.inf)
        best = int(explained.argmax())
        if not self._asked[best] or t[best] < _THRESHOLD:
            return None
        k, j, both = self._pairs[best]
        return Swap(self.channels[k], self.channels[j], both, float(t[best]))

    def _follow(self, maps: _Maps) -> None:
        if self._looks is None:
            return
        self._looks += _FOLLOW * (maps - self._looks)
        self._since_fit += 1
        if self._since_fit >= _REFIT:
            self._fit()


class SignatureBook:
    """What was learned of each recipe, kept over restarts: so that cables exchanged while the cell was off are seen.

    :param folder: one file a recipe's content; None keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._file: Path | None = None
        self._kept = False

    def open(self, recipe: Recipe) -> Signatures:
        """Return the recipe's signatures, as they were learned or to be learned. A recipe changed in how its frames
        are taken begins anew; so does one whose file was removed, after its lamps were moved on purpose."""
        signatures = Signatures(recipe.channel_names)
        self._file, self._kept = None, False
        if self._folder is None or len(recipe.channels) < 2:
            return signatures
        taken = recipe.model_dump_json(include={"height", "width", "bit_depth", "sensor", "channels"})
        name = f"{recipe.recipe_id}-{digest.of_bytes(taken.encode())[:16]}.npz"
        self._file = self._folder / name
        try:
            self._kept = signatures.load(self._file.read_bytes())
        except FileNotFoundError:
            pass
        except OSError as error:
            _LOG.warning("the signatures %s can't be read and are learned anew: %s", self._file, error.strerror)
        return signatures

    def keep(self, signatures: Signatures) -> None:
        """Write what was learned, once; costs a few milliseconds then and nothing otherwise."""
        if self._kept or self._file is None or not signatures.ready:
            return
        self._kept = True
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(self._file, signatures.dump())
        except (OSError, StoreError) as error:
            _LOG.warning("the signatures %s can't be kept: %s", self._file, error)


def block_means(frame: Frame) -> NDArray[np.float32]:
    """Return the means of a frame's blocks, (blocks,) float32, of a few pixels each."""
    height, width = frame.shape
    rows, columns = min(_ROWS, height), min(_COLUMNS, width)
    # A few pixels of each block tell enough, and cost the same for any sensor.
    tall, wide = min(_PIXELS, height // rows), min(_PIXELS, width // columns)
    down, right = height // (rows * tall), width // (columns * wide)
    chosen = frame.pixels[: rows * tall * down : down, : columns * wide * right : right].astype(np.float32)
    means: NDArray[np.float32] = chosen.reshape(rows, tall, columns, wide).mean(axis=(1, 3)).ravel()
    return means


def _centred(maps: _Maps) -> _Maps:
    """Return (..., K, blocks) less its mean over the channels."""
    centred: _Maps = maps - maps.mean(axis=-2, keepdims=True)
    return centred
