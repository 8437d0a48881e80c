"""What each illumination channel of a product usually looks like, and what is wrong with one that does not.

A lamp that failed, an exposure that was turned up, a buffer that came again and two lines that were swapped all give
frames of the right size with the right names. The book remembers, for the last parts, how bright each channel was and
what its picture looked like in coarse; memory is bounded by the channels.
"""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from cell.frames import Stack

Floats = NDArray[np.float64]

#: Parts that must be known before a channel is compared with what it used to be, and how many are remembered.
LEAST_PARTS = 8
_MEMORY = 64
_FROZEN_MEMORY = 32
#: A channel is dark below this share of its usual level, saturated above this share of clipped pixels.
_DARK_SHARE, MOST_CLIPPED = 0.25, 0.2
#: A channel that was never seen before is dark when it has neither level nor structure, shares of full scale.
_NO_LEVEL, _NO_STRUCTURE = 0.05, 0.01
#: Cells of the coarse picture, rows and columns.
_COARSE = (12, 16)
#: Least spread of a channel's log level and of its likeness to its own mean picture.
_LEVEL_SPREAD, _LIKENESS_SPREAD = 0.03, 0.03
#: Squared deviations by which another order must fit better, for each channel that it moves.
_SWAP_MARGIN = 16.0
_MOST_DEVIATIONS = 8.0


@dataclass(slots=True)
class ChannelBook:
    """See the module. Names are the channels', in stack order."""

    names: tuple[str, ...]
    bit_depth: int
    #: Of the last good parts: log level of each channel (K,) and coarse standardised picture (K, cells).
    levels: deque[Floats] = field(default_factory=lambda: deque(maxlen=_MEMORY))
    pictures: deque[Floats] = field(default_factory=lambda: deque(maxlen=_MEMORY))
    #: Digest of each channel's pixels and the part it showed.
    _shown: dict[str, str] = field(default_factory=dict)

    def fault(self, stack: Stack, part_id: str) -> str:
        """Return what is wrong with a channel of (K, H, W), in a few words that name it; empty when nothing is."""
        top = float((1 << self.bit_depth) - 1)
        for name, pixels in zip(self.names, stack, strict=True):
            if float((pixels >= top).mean()) > MOST_CLIPPED:
                return f"channel {name} is saturated"
        level, picture = _look(stack)
        if len(self.levels) < LEAST_PARTS:
            for name, pixels in zip(self.names, stack, strict=True):
                if float(pixels.mean()) < _NO_LEVEL * top and float(pixels.std()) < _NO_STRUCTURE * top:
                    return f"channel {name} is dark"
        else:
            usual = np.median(np.stack(self.levels), axis=0)
            for name, now, before in zip(self.names, level, usual, strict=True):
                if now < before + np.log(_DARK_SHARE):
                    return f"channel {name} is dark"
        return self._frozen(stack, part_id) or self._swapped(level, picture)

    def learn(self, stack: Stack) -> None:
        """Remember a good part."""
        level, picture = _look(stack)
        self.levels.append(level)
        self.pictures.append(picture)

    def state(self) -> dict[str, Any]:
        """Return what is remembered, as JSON has it."""
        return {
            "levels": [np.round(one, 5).tolist() for one in self.levels],
            "pictures": [np.round(one, 3).tolist() for one in list(self.pictures)[-2 * LEAST_PARTS :]],
        }

    def recall(self, state: dict[str, Any]) -> None:
        """Take in what :meth:`state` gave; what does not fit the channels is left out."""
        shape = (len(self.names), _COARSE[0] * _COARSE[1])
        self.levels.extend(one for one in map(np.asarray, state.get("levels", [])) if one.shape == shape[:1])
        self.pictures.extend(one for one in map(np.asarray, state.get("pictures", [])) if one.shape == shape)

    def _frozen(self, stack: Stack, part_id: str) -> str:
        found = ""
        for name, pixels in zip(self.names, stack, strict=True):
            mark = f"{name} {hashlib.blake2b(pixels.tobytes(), digest_size=16).hexdigest()}"
            if self._shown.setdefault(mark, part_id) != part_id and not found:
                found = f"channel {name} is frozen"
        while len(self._shown) > _FROZEN_MEMORY * len(self.names):
            del self._shown[next(iter(self._shown))]
        return found

    def _swapped(self, level: Floats, picture: Floats) -> str:
        """Compare every channel with what every other one used to be: the best order should be the recipe's."""
        if len(self.names) < 2 or len(self.pictures) < LEAST_PARTS:
            return ""
        levels, pictures = np.stack(self.levels), np.stack(self.pictures)
        mean = pictures.mean(axis=0)
        mean /= np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-9)
        usual, own = np.median(levels, axis=0), np.einsum("nkc,kc->nk", pictures, mean)
        spread = np.maximum(_spread(levels), _LEVEL_SPREAD)
        likeness, vary = np.median(own, axis=0), np.maximum(_spread(own), _LIKENESS_SPREAD)
        off = np.minimum(np.abs(level[:, None] - usual) / spread, _MOST_DEVIATIONS) ** 2
        unlike = np.clip((likeness - picture @ mean.T) / vary, 0, _MOST_DEVIATIONS) ** 2
        cost = off + unlike  # of channel i being in truth channel j
        rows, columns = optimize.linear_sum_assignment(cost)
        moved = rows[rows != columns]
        if moved.size and float(np.trace(cost) - cost[rows, columns].sum()) > _SWAP_MARGIN * moved.size:
            return f"channels {' and '.join(self.names[int(index)] for index in moved)} are out of order"
        return ""


def _look(stack: Stack) -> tuple[Floats, Floats]:
    """Return the log mean level of each channel (K,) and its coarse log picture, of norm 1, (K, cells)."""
    rows, columns = (
        np.array_split(np.arange(length), cells) for length, cells in zip(stack.shape[1:], _COARSE, strict=True)
    )
    starts = [part[0] for part in rows if part.size], [part[0] for part in columns if part.size]
    sums = np.add.reduceat(np.add.reduceat(stack.astype(np.float64), starts[0], axis=1), starts[1], axis=2)
    counts = np.diff([*starts[0], stack.shape[1]])[:, None] * np.diff([*starts[1], stack.shape[2]])[None, :]
    coarse = np.log(sums / counts + 1.0).reshape(len(stack), -1)
    if coarse.shape[1] < _COARSE[0] * _COARSE[1]:
        coarse = np.pad(coarse, ((0, 0), (0, _COARSE[0] * _COARSE[1] - coarse.shape[1])), mode="edge")
    level = np.log(stack.mean(axis=(1, 2), dtype=np.float64) + 1.0)
    coarse -= coarse.mean(axis=1, keepdims=True)
    return level, coarse / np.maximum(np.linalg.norm(coarse, axis=1, keepdims=True), 1e-9)


def _spread(values: Floats) -> Floats:
    spread: Floats = 1.4826 * np.median(np.abs(values - np.median(values, axis=0)), axis=0)
    return spread
