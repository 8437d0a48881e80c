"""The emulated cell: one part lies in front of the camera, and the lit lines decide what the camera sees of it."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cell.errors import ConfigurationError, DataError
from cell.frames import Pixels
from cell.settings import EmulatedCellSettings
from drivers.sim.folder import FolderProduct
from drivers.sim.plate import PlateProduct
from drivers.sim.scene import Part, Product, place


class EmulatedCell:
    """Feeder, fixture and light in one. Single-threaded: the thread that exposes also presents and switches.

    Repeated exposures of one presentation differ by the sensor's noise; presenting the same part again under the same
    random seed repeats them exactly.
    """

    def __init__(self, product: Product, random_seed: int = 1) -> None:
        self.product = product
        self._random_seed = random_seed
        self._part: Part | None = None
        self._lights: dict[str, float] = {}
        self._generator = np.random.Generator(np.random.SFC64(random_seed))

    def present(self, part_id: str) -> None:
        """Put a part in front of the camera. Raises `DataError` for an unknown part; the place is then empty."""
        self._part = None
        self._part = self.product.part(part_id)
        entropy = [self._random_seed, zlib.crc32(part_id.encode()), 1]
        self._generator = np.random.Generator(np.random.SFC64(np.random.SeedSequence(entropy)))

    def illuminate(self, lights: Mapping[str, float]) -> None:
        """Let exactly these lines shine, at relative intensities in [0, 1]."""
        self._lights = dict(lights)

    def picture(self, height: int, width: int, exposure_us: float, gain_db: float) -> Pixels:
        """Return what a sensor of that size sees now; the bare carrier when no part lies there."""
        carrier = self.product.carrier_dn
        if self._part is None:
            return np.full((height, width), carrier, np.uint8)
        pixels = self._part.expose(self._lights, exposure_us, gain_db, self._generator)
        placed: Pixels = place(pixels, height, width, carrier)
        return placed


def open_product(settings: EmulatedCellSettings) -> Product:
    """Return the configured product. Raises `ConfigurationError`, also for a folder that can't be used."""
    if settings.product == "folder":
        if settings.folder is None:
            raise ConfigurationError("emulated.product is 'folder' but emulated.folder names none; set it to the data")
        return _folder(settings.folder)
    name, _, lights = settings.product.partition("-")
    if name != "plate" or (lights and not (lights.isdigit() and 1 <= int(lights) <= 32)):
        raise ConfigurationError(
            f"there is no emulated product {settings.product!r}; use 'folder', 'plate' or 'plate-K' with K from 1 to "
            "32 lights"
        )
    return PlateProduct(int(lights or 4), settings.random_seed)


def _folder(folder: Path) -> FolderProduct:
    try:
        return FolderProduct(folder)
    except DataError as error:
        raise ConfigurationError(f"emulated.folder can't be used: {error}") from error
