"""What a product hands to the renderer: height field, materials, solids that lie on it, and where the defect is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.heldout.rigs import STANDARD, Rig

Field = NDArray[np.float64]
Region = NDArray[np.bool_]
#: A Mitsuba BSDF as its nested dictionary; a `Field` stands for a texture over the whole grid.
Material = Mapping[str, Any]
Random = np.random.Generator

#: Pictures are (HEIGHT, WIDTH) pixels of `PIXEL_MM` where the product says nothing else.
HEIGHT, WIDTH = 144, 192
PIXEL_MM = 0.06
#: Grid points per pixel edge, and grid points that go on beyond each edge of the picture (they cast shadows into it).
FINENESS = 3
MARGIN = 36


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the height field's points are: x and y in mm, y upwards in the picture, the origin at its centre.

    The picture that is taken of it has `height` x `width` pixels of `PIXEL_MM`.
    """

    x: Field
    y: Field
    step: float
    height: int = HEIGHT
    width: int = WIDTH

    @property
    def shape(self) -> tuple[int, int]:
        """Return rows and columns."""
        return self.x.shape[0], self.x.shape[1]


def make_grid(fineness: int = FINENESS, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Grid:
    """Return the grid that a product of pictures of `size` (H, W) is modelled on; row 0 is the picture's upper edge."""
    step = PIXEL_MM / fineness
    rows, columns = size[0] * fineness + 2 * MARGIN, size[1] * fineness + 2 * MARGIN
    y, x = np.meshgrid(
        (np.arange(rows) - (rows - 1) / 2)[::-1] * step, (np.arange(columns) - (columns - 1) / 2) * step, indexing="ij"
    )
    return Grid(x, y, step, *size)


@dataclass(frozen=True, slots=True, eq=False)
class Solid:
    """A closed triangle mesh of its own material: vertices (N, 3) in mm, faces (M, 3)."""

    vertices: Field
    faces: NDArray[np.uint32]
    material: Material
    is_defect: bool


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """One part: heights in mm over the grid, material, solids, and the defect's own region of the surface."""

    height: Field
    material: Material
    defect: Region
    solids: tuple[Solid, ...] = ()
    facts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Counts:
    """Parts of a product: seeds and held-out parts of each class, good parts to learn from, held-out good parts."""

    seeds: int = 5
    test: int = 8
    backgrounds: int = 40
    test_good: int = 30


@dataclass(frozen=True, slots=True)
class ProductKind:
    """A product: how its parts are modelled, and the exposure (electrons per unit of radiance) of each light.

    `build(grid, part_rng, defect_class, defect_rng)` returns a part; an empty class is a good one. `samples`: paths a
    pixel of each pass of the rig; `depth`: of a path, in segments from the camera to the light.
    """

    name: str
    defect_classes: tuple[str, ...]
    build: Callable[[Grid, Random, str, Random], Model]
    exposures: tuple[float, ...]
    rig: Rig = STANDARD
    size: tuple[int, int] = (HEIGHT, WIDTH)
    counts: Counts = Counts()
    fineness: int = FINENESS
    samples: int = 64
    depth: int = 4
