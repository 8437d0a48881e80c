"""What a product hands to the renderer: height field, materials, solids that lie on it, and where the defect is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float64]
Region = NDArray[np.bool_]
#: A Mitsuba BSDF as its nested dictionary; a `Field` stands for a texture over the whole grid.
Material = Mapping[str, Any]
Random = np.random.Generator

#: Pictures are (HEIGHT, WIDTH) pixels of `PIXEL_MM`.
HEIGHT, WIDTH = 144, 192
PIXEL_MM = 0.06
#: Grid points per pixel edge, and grid points that go on beyond each edge of the picture (they cast shadows into it).
FINENESS = 3
MARGIN = 36


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the height field's points are: x and y in mm, y upwards in the picture, the origin at its centre."""

    x: Field
    y: Field
    step: float

    @property
    def shape(self) -> tuple[int, int]:
        """Return rows and columns."""
        return self.x.shape[0], self.x.shape[1]


def make_grid(fineness: int = FINENESS) -> Grid:
    """Return the grid that every product is modelled on; row 0 is the picture's upper edge."""
    step = PIXEL_MM / fineness
    rows, columns = HEIGHT * fineness + 2 * MARGIN, WIDTH * fineness + 2 * MARGIN
    y, x = np.meshgrid(
        (np.arange(rows) - (rows - 1) / 2)[::-1] * step, (np.arange(columns) - (columns - 1) / 2) * step, indexing="ij"
    )
    return Grid(x, y, step)


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
class ProductKind:
    """A product: how its parts are modelled, and the exposure (electrons per unit of radiance) of each light.

    `build(grid, part_rng, defect_class, defect_rng)` returns a part; an empty class is a good one.
    """

    name: str
    defect_classes: tuple[str, ...]
    build: Callable[[Grid, Random, str, Random], Model]
    exposures: tuple[float, float, float, float]
