"""What a production frame set says of the process, as a few numbers: light, focus, noise, texture, place.

A reference is made of the first parts. Against it every later part gives, for each channel, its light (level, and tilt
and bow over the frame), its noise and its texture at four scales, and, for all channels together, where the part lies.

Light and place come from one linear regression of the log picture, reduced to cells, on the reference: brightness,
its course over the part, and the reference's own derivatives for a shift, a turn and a stretch (Lucas and Kanade,
IJCAI 1981, with the gain and bias of Hager and Belhumeur, PAMI 20, 1998). Noise and texture come from Haar details
(Mallat, PAMI 11, 1989) in a bounded number of tiles, so that the cost hardly grows with the frame.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell.errors import DataError
from cell.frames import Stack
from cell.recipes import Recipe

Vector = NDArray[np.float64]
Maps = NDArray[np.float32]

#: Parts that the reference is made of.
REFERENCE_PARTS = 32
#: Least change that matters: of light in natural log; tilt and bow from the middle to the edge.
_LEVEL, _PROFILE, _NOISE, _TEXTURE = 0.01, 0.01, 0.05, 0.02
#: Of place: px of the frame, degrees, relative size.
_SHIFT, _TURN, _SIZE = 0.15, 0.05, 0.002
SCALES = 4
_CELLS = (64, 80)
#: Added before the logarithm, as a share of full scale: less than the preprocessing's, so that light stays a factor.
BLACK = 0.01
#: Details count up to so many times a tile's middle level: what glitters above it clips sooner or later with the light.
_GLITTER = 1.6
_TILE, _TILES, _BLOCK = 64, 12, 8
#: Prior spread of shift (cells), turn (radians) and size where the reference says little: textures without features.
_PRIOR = (1.0, 1.0, 0.02, 0.02)
_FORMAT = 1


def feature_names(channels: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the features in the order of :meth:`FrameReader.read`; a channel's stand behind a colon."""
    kinds = ("balance", "tilt-x", "tilt-y", "bow", "noise", *(f"detail-{1 << scale}" for scale in range(SCALES)))
    return (
        "level",
        "shift-x",
        "shift-y",
        "turn",
        "size",
        *(f"{kind}:{channel}" for kind in kinds for channel in channels),
    )


def relevant_changes(channels: tuple[str, ...]) -> Vector:
    """Return the least change of each feature that matters, in the feature's own unit."""
    of_kind = (_LEVEL, _PROFILE, _PROFILE, _PROFILE, _NOISE, *(_TEXTURE,) * SCALES)
    each = [value for value in of_kind for _ in channels]
    return np.array([_LEVEL, _SHIFT, _SHIFT, _TURN, _SIZE, *each])


class FrameReader:
    """Reads the features of one recipe's parts. One thread."""

    def __init__(self, recipe: Recipe) -> None:
        self.channels = recipe.channel_names
        self.names = feature_names(self.channels)
        self._full = float((1 << recipe.bit_depth) - 1)
        self._size = (recipe.height, recipe.width)
        self._carrier = recipe.carrier_max_dn
        self._factor = max(1, math.ceil(max(recipe.height / _CELLS[0], recipe.width / _CELLS[1])))
        self._first: list[Maps] = []
        self._reference: Maps | None = None
        self._solve: NDArray[np.float32] = np.zeros((0, 0), np.float32)
        self._tiles: list[tuple[int, int]] = []

    @property
    def ready(self) -> bool:
        """Tell whether the reference is made."""
        return self._reference is not None

    def read(self, stack: Stack) -> Vector | None:
        """Return the features of a part, or None while the reference is being made.

        :param stack: (K, H, W) DN of the recipe's size. Raises `DataError` for another size.
        """
        if stack.shape != (len(self.channels), *self._size):
            raise DataError(f"a frame set of {stack.shape} does not belong to the recipe of {self._size}")
        cells = self._reduced(stack)
        if self._reference is None:
            self._first.append(cells)
            if len(self._first) == REFERENCE_PARTS:
                self._begin(np.mean(self._first, axis=0), self._first)
                self._first.clear()
            return None
        light, place = self._regress(cells)
        level = float(light[:, 0].mean())
        texture = self._texture(stack)
        return np.concatenate([[level], place, light[:, 0] - level, light[:, 1:].T.ravel(), texture.ravel()])

    def _reduced(self, stack: Stack) -> Maps:
        # A cell's mean over at most 8 x 8 of its pixels: more would tell no more about light.
        step = max(1, self._factor // 8)
        group = self._factor // step
        chosen = stack[:, ::step, ::step]
        rows, columns = chosen.shape[1] // group, chosen.shape[2] // group
        shaped = chosen[:, : rows * group, : columns * group].reshape(-1, rows, group, columns, group)
        mean = shaped.mean(axis=(2, 4), dtype=np.float32) / np.float32(self._full)
        log: Maps = np.log(mean + np.float32(BLACK)).astype(np.float32)
        smooth: Maps = ndimage.gaussian_filter(log, (0, 1.0, 1.0), mode="nearest")
        return smooth

    def _begin(self, reference: Maps, firsts: list[Maps]) -> None:
        self._reference = reference
        self._tiles = self._chosen_tiles(reference)
        design = self._design(reference)
        plain = _solver(design, np.zeros(design.shape[1]))
        rest = []
        for cells in firsts[:8]:
            away = (cells - reference).ravel()
            rest.append(float(np.mean((away - design @ (plain @ away)) ** 2)))
        self._set_solver(design, float(np.mean(rest)) if rest else 1e-4)

    def _set_solver(self, design: NDArray[np.float32], noise: float) -> None:
        self._noise = noise
        ridge = np.full(design.shape[1], 1e-6)
        ridge[-4:] = [noise / prior**2 for prior in _PRIOR]
        self._solve = _solver(design, ridge)

    def _on_part(self, reference: Maps) -> NDArray[np.bool_]:
        levels = (np.exp(reference) - BLACK).max(axis=0)
        bound = 0.25 * float(np.quantile(levels, 0.95))
        if self._carrier is not None:
            bound = max(bound, self._carrier / self._full)
        part: NDArray[np.bool_] = levels > bound
        return part

    def _design(self, reference: Maps) -> NDArray[np.float32]:
        """Return the regression's columns, (K h w, 4 K + 4): light of each channel, then the place of all."""
        count, rows, columns = reference.shape
        y, x = np.meshgrid(np.arange(rows) - (rows - 1) / 2, np.arange(columns) - (columns - 1) / 2, indexing="ij")
        part = self._on_part(reference).astype(np.float64)
        across, down = x / (columns / 2), y / (rows / 2)
        bow = across**2 + down**2
        bow -= (bow * part).sum() / max(part.sum(), 1.0)
        shapes = [shape * part for shape in (np.ones_like(x), across, down, bow)]
        design = np.zeros((count, rows, columns, 4 * count + 4), np.float32)
        for channel in range(count):
            for index, shape in enumerate(shapes):
                design[channel, :, :, 4 * channel + index] = shape
            gy, gx = np.gradient(reference[channel].astype(np.float64))
            for index, moved in enumerate((-gx, -gy, gx * y - gy * x, -(gx * x + gy * y))):
                design[channel, :, :, 4 * count + index] = moved
        return design.reshape(-1, 4 * count + 4)

    def _regress(self, cells: Maps) -> tuple[Vector, Vector]:
        assert self._reference is not None  # noqa: S101 - callers look at it first
        found = np.asarray(self._solve @ (cells - self._reference).ravel(), np.float64)
        dx, dy, turn, size = found[-4:]
        place = np.array([dx * self._factor, dy * self._factor, math.degrees(turn), size])
        return found[:-4].reshape(len(self.channels), 4), place

    def _chosen_tiles(self, reference: Maps) -> list[tuple[int, int]]:
        """Return corners of tiles that lie on the part, spread over it; the fullest where none lies wholly on it."""
        height, width = self._size
        side = min(_TILE, height, width)
        part = ndimage.zoom(self._on_part(reference).astype(np.float32), self._factor, order=0)
        step = max(side // 2, 1)
        corners = [
            (float(part[top : top + side, left : left + side].mean()), top, left)
            for top in range(0, height - side + 1, step)
            for left in range(0, width - side + 1, step)
        ]
        fullest = max(share for share, _, _ in corners)
        good = [(top, left) for share, top, left in corners if share >= min(0.98, fullest)]
        chosen = np.unique(np.linspace(0, len(good) - 1, _TILES).round().astype(int))
        return [good[index] for index in chosen]

    def _texture(self, stack: Stack) -> Vector:
        """Return noise and details, (1 + SCALES, K): log noise variance over level, log relative amplitudes."""
        side = min(_TILE, *self._size) // (1 << SCALES) * (1 << SCALES)
        tiles = np.stack([stack[:, top : top + side, left : left + side] for top, left in self._tiles], axis=1)
        pixels = tiles.astype(np.float32)
        level = np.maximum(np.median(pixels, axis=(2, 3)), 1.0).astype(np.float32)  # (K, T)
        current = np.minimum(pixels, _GLITTER * level[..., None, None])
        rows = []
        for scale in range(SCALES):
            a, b = current[..., ::2, ::2], current[..., ::2, 1::2]
            c, d = current[..., 1::2, ::2], current[..., 1::2, 1::2]
            if scale == 0:
                rows.append(_noise(a - b - c + d, (a + b + c + d) / 4))
            energy = ((a - b + c - d) ** 2 + (a + b - c - d) ** 2 + (a - b - c + d) ** 2).mean(axis=(2, 3)) / 12
            # The middle tile speaks: a defect lies in one of them at most.
            rows.append(0.5 * np.log(np.median(energy / level**2, axis=1) + 1e-9))
            current = (a + b + c + d) / 4
        return np.asarray(rows, np.float64)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return what :meth:`restore` needs; empty before the reference is made."""
        if self._reference is None:
            return {}
        return {
            "format": np.array(_FORMAT),
            "channels": np.array(self.channels),
            "reference": self._reference,
            "noise": np.array(self._noise),
            "tiles": np.array(self._tiles),
        }

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """Go on with the reference of :meth:`state`. Raises `DataError` when it is of another recipe."""
        if not state:
            return
        try:
            rows, columns = (length // self._factor for length in self._size)
            same = int(state["format"]) == _FORMAT and tuple(map(str, state["channels"])) == self.channels
            reference = np.array(state["reference"], np.float32)
            tiles = [(int(top), int(left)) for top, left in state["tiles"]]
            noise = float(state["noise"])
        except (KeyError, ValueError, TypeError) as error:
            raise DataError("the process reference can't be read; it is made anew") from error
        if not same or abs(reference.shape[1] - rows) > 1 or abs(reference.shape[2] - columns) > 1 or not tiles:
            raise DataError("the process reference is of another recipe; it is made anew")
        self._reference, self._tiles = reference, tiles
        self._set_solver(self._design(reference), noise)


def _solver(design: NDArray[np.float32], ridge: Vector) -> NDArray[np.float32]:
    """Return the matrix that gives the least-squares coefficients of a picture, columns of nothing getting 0."""
    normal = design.T.astype(np.float64) @ design + np.diag(ridge)
    return (np.linalg.pinv(normal, rcond=1e-10, hermitian=True) @ design.T).astype(np.float32)


def _noise(diagonal: Maps, mean: Maps) -> Vector:
    """Return log of noise variance over level, (K,), from the flattest blocks' diagonal details (K, T, h, w)."""
    count, tiles, rows, columns = diagonal.shape
    block = min(_BLOCK, rows, columns)
    shape = (count, tiles, rows // block, block, columns // block, block)
    cut = (slice(None), slice(None), slice(rows // block * block), slice(columns // block * block))
    variance = (diagonal[cut] ** 2).reshape(shape).mean(axis=(3, 5)).reshape(count, -1) / 4
    level = mean[cut].reshape(shape).mean(axis=(3, 5)).reshape(count, -1)
    flattest: Vector = np.quantile(variance / np.maximum(level, 1.0), 0.25, axis=1).astype(np.float64)
    return np.log(flattest + 1e-6)
