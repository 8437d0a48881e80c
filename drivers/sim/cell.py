"""The emulated cell: one part lies in front of the camera, and the lit lines decide what the camera sees of it."""

from __future__ import annotations

import math
import zlib
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

import numpy as np

from cell.errors import ConfigurationError, DataError
from cell.frames import Pixels
from cell.settings import DriftSettings, EmulatedCellSettings
from drivers.sim.drift import AS_SET_UP, state_at
from drivers.sim.folder import FolderProduct
from drivers.sim.plate import PlateProduct
from drivers.sim.products.catalogue import PRODUCTS, named
from drivers.sim.scene import Part, Product, place
from drivers.sim.sensor import Sensor
from drivers.sim.studio import WIDTH, StudioProduct


class EmulatedCell:
    """Feeder, fixture and light in one. Single-threaded: the thread that exposes also presents and switches.

    Repeated exposures of one presentation differ by the sensor's noise; presenting the same part again under the same
    random seed repeats them exactly, unless the cell has drifted since. Drift goes by :attr:`presented`, the parts
    presented so far.
    """

    def __init__(self, product: Product, random_seed: int = 1, drift: Sequence[DriftSettings] = ()) -> None:
        self.product = product
        self.drift = tuple(drift)
        self.presented = 0
        self.state = AS_SET_UP
        self._random_seed = random_seed
        self._part_id: str | None = None
        self._part: Part | None = None
        self._lights: dict[str, float] = {}
        self._generator = np.random.Generator(np.random.SFC64(random_seed))

    def present(self, part_id: str) -> None:
        """Put a part in front of the camera. Raises `DataError` for an unknown part; the place is then empty."""
        self.pass_by(part_id)
        self.look()

    def pass_by(self, part_id: str) -> None:
        """Put a part there that may not be looked at: as :meth:`present`, but nothing is drawn before it must be."""
        self._part_id, self._part = None, None
        state = state_at(self.presented, self.drift)
        if isinstance(self.product, FolderProduct):
            self._part = self.product.part(part_id)
        else:
            self.product.defect_class(part_id)
        self._part_id = part_id
        self.state = state
        self.presented += 1
        entropy = [self._random_seed, zlib.crc32(part_id.encode()), 1]
        self._generator = np.random.Generator(np.random.SFC64(np.random.SeedSequence(entropy)))

    def look(self) -> None:
        """Draw the part that lies there, unless that is done: takes time that no exposure should wait for."""
        if self._part is None and self._part_id is not None:
            if isinstance(self.product, StudioProduct):
                self._part = self.product.part(self._part_id, self.state)
            else:
                self._part = self.product.part(self._part_id)

    @property
    def condition(self) -> Hashable:
        """What has drifted until now; pictures taken in one condition go on being true in it."""
        return (*sorted(self.state.lamps.items()), self.state.gain, *self.state.rendering())

    def illuminate(self, lights: Mapping[str, float]) -> None:
        """Let exactly these lines shine, at relative intensities in [0, 1]."""
        self._lights = dict(lights)

    def picture(
        self, height: int, width: int, exposure_us: float, gain_db: float, bit_depth: int | None = None
    ) -> Pixels:
        """Return what a sensor of that size sees now; the bare carrier when no part lies there.

        uint8, or uint16 for more than 8 bits: of the product's sensor where it has them (all, if `bit_depth` is None),
        else of one that has. The pictures of a folder have 8 bits, and come as they are.
        """
        product = self.product
        sensor, down = None, 0
        carrier = product.carrier_dn
        if isinstance(product, StudioProduct | PlateProduct):
            sensor, down = product.sensor.at_depth(bit_depth or product.sensor.bit_depth)
            carrier = carrier if sensor is product.sensor or not carrier else round(sensor.offset_dn)
        pixels = self._exposed(exposure_us, gain_db, sensor)
        if pixels is None:
            deep = sensor is not None and sensor.bit_depth - down > 8
            empty = carrier >> down
            pixels = np.full((1, 1), empty, np.uint16) if deep else np.full((1, 1), empty, np.uint8)
        elif down:
            deeper: Pixels = np.right_shift(pixels, np.uint16(down), dtype=np.uint16)
            pixels = deeper.astype(np.uint8) if bit_depth == 8 else deeper
        placed: Pixels = place(pixels, height, width, carrier >> down)
        return placed

    def _exposed(self, exposure_us: float, gain_db: float, sensor: Sensor | None) -> Pixels | None:
        """Return the picture of the part under the drifted lamps at the drifted gain; None where no part lies."""
        self.look()
        if self._part is None:
            return None
        state, product = self.state, self.product
        # A lamp that the product has not lights nothing, as a wire that leads nowhere.
        lights = {
            line: level * state.brightness(line)
            for line, level in self._lights.items()
            if product.lines is None or line in product.lines
        }
        if isinstance(product, FolderProduct):  # whose pictures know no exposure: brightness is all that can change
            lights = {line: level * state.gain for line, level in lights.items()}
        drifted_db = gain_db if state.gain == 1 else gain_db + 20 * math.log10(state.gain)
        return self._part.expose(lights, exposure_us, drifted_db, self._generator, sensor)


def open_cell(settings: EmulatedCellSettings) -> EmulatedCell:
    """Return the configured cell with its drift. Raises `ConfigurationError`."""
    product = open_product(settings)
    if not isinstance(product, StudioProduct):
        impossible = {drift.kind for drift in settings.drift} - {"lamp", "gain"}
        if impossible:
            raise ConfigurationError(
                f"the emulated product {settings.product!r} can't drift in {', '.join(sorted(impossible))}; use a "
                f"rendered product such as {next(iter(PRODUCTS))}-4, or drift in lamp and gain"
            )
    for drift in settings.drift:
        if drift.line is not None and product.lines is not None and drift.line not in product.lines:
            raise ConfigurationError(
                f"emulated.drift names the line {drift.line}; the product has {', '.join(product.lines)}"
            )
    return EmulatedCell(product, settings.random_seed, settings.drift)


def open_product(settings: EmulatedCellSettings) -> Product:
    """Return the configured product. Raises `ConfigurationError`, also for a folder that can't be used."""
    name, _, lights = settings.product.partition("-")
    sized = settings.height is not None or settings.width is not None
    if settings.product == "folder" or name == "plate":
        if sized:
            raise ConfigurationError(
                f"the emulated product {settings.product!r} has a size of its own; leave emulated.height and width out"
            )
        return _pictures(settings) if name == "folder" else _plate(settings, lights)
    blueprint, lamps = named(settings.product)
    width = settings.width or WIDTH
    height = settings.height or round(width * blueprint.field_mm[1] / blueprint.field_mm[0])
    return StudioProduct(
        blueprint, lamps, settings.random_seed, size=(height, width), sensor=Sensor.of_depth(settings.bit_depth)
    )


def _plate(settings: EmulatedCellSettings, lights: str) -> PlateProduct:
    if lights and not (lights.isdigit() and 1 <= int(lights) <= 32):
        raise ConfigurationError(
            f"there is no emulated product {settings.product!r}; plates are plate or plate-K with K from 1 to 32 lights"
        )
    sensor = None if settings.bit_depth == 8 else Sensor.of_depth(settings.bit_depth)
    return PlateProduct(int(lights or 4), settings.random_seed, sensor)


def _pictures(settings: EmulatedCellSettings) -> FolderProduct:
    if settings.folder is None:
        raise ConfigurationError("emulated.product is 'folder' but emulated.folder names none; set it to the data")
    if settings.bit_depth != 8:
        raise ConfigurationError("the pictures of emulated.folder have 8 bits; set emulated.bit_depth to 8")
    return _folder(settings.folder)


def _folder(folder: Path) -> FolderProduct:
    try:
        return FolderProduct(folder)
    except DataError as error:
        raise ConfigurationError(f"emulated.folder can't be used: {error}") from error
