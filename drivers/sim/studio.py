"""Rendered products: parts of a blueprint under a rig of lamps, through a lens, on a sensor.

A part is its id. ``good-000012`` has no defect, ``scratch-000003`` has one, ``scratch+stain-000004`` has two, and
``flat-000000``, ``target-000000`` and ``ball-000000`` are calibration targets; every number of six digits is another
part. Under one random seed an id is the same part on every machine: same texture, place in the fixture and defects.
Only the sensor's temporal noise is drawn anew for each exposure.
"""

from __future__ import annotations

import re
import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from cell.defects import Mask
from cell.errors import DataError
from cell.frames import Pixels
from cell.recipes import Channel, DefectClass, Recipe
from drivers.sim.defects.catalogue import DEFECTS
from drivers.sim.defects.site import Site, changed
from drivers.sim.drift import AS_SET_UP, CellState
from drivers.sim.products.blueprint import Batch, Blueprint
from drivers.sim.products.targets import TARGETS
from drivers.sim.render.lamps import Lamp
from drivers.sim.render.lens import Lens
from drivers.sim.render.reflection import Optics, prepare, radiance
from drivers.sim.render.shadow import Relief, by_blocks
from drivers.sim.render.workpiece import Canvas, FloatMap, Placement, Workpiece
from drivers.sim.sensor import Sensor
from drivers.sim.truth import CellTruth, DefectTruth, PartTruth, flat_radiance, part_truth

GOOD = "good"
HEIGHT, WIDTH = 256, 320
EXPOSURE_US = 1000.0
_PART_ID = re.compile(r"([a-z]+(?:\+[a-z]+)*)-(\d{6})")
_REFERENCE = "good-000000"
_KEPT_PIXELS = 12_000_000  # of rendered lines: 48 MB


@dataclass(frozen=True, slots=True)
class Order:
    """A defect that is asked for: its class, how severe, and where; drawn by the part's own chance where None.

    `u_mm`, `v_mm` are on the part, from its centre. A rim's defect wants `outward_rad` with them. `seed` decides on all
    that is left open, so the same order gives the same defect on another part.
    """

    defect_class: str
    severity: float | None = None
    u_mm: float | None = None
    v_mm: float | None = None
    outward_rad: float | None = None
    seed: int | None = None


@dataclass(slots=True, eq=False)
class StudioPart:
    """A part in front of the camera: rendered for a line when that line first shines."""

    sensor: Sensor
    lens: Lens
    lamps: dict[str, Lamp]
    power: Mapping[str, float]
    canvas: Canvas
    work: Workpiece
    optics: Optics
    defects: tuple[DefectTruth, ...]
    response: FloatMap  # relative, of each pixel
    dark: FloatMap  # electrons, of each pixel
    _rates: dict[str, FloatMap] = field(default_factory=dict)
    _heights: FloatMap | None = None

    def rate(self, line: str) -> FloatMap:
        """Return the expected photo-electrons per microsecond (H, W) float32 under one line at full intensity."""
        if line not in self._rates:
            lamp, canvas = self.lamps[line], self.canvas
            if self._heights is None:
                self._heights = _heights(self.work, canvas.oversampling)
            picture = self.lens.form(radiance(self.optics, lamp), canvas.oversampling, self._heights)
            # The cone is so wide that it may as well be put on the pixels.
            pixels = Canvas.make(canvas.height, canvas.width, canvas.pitch_mm, 1, Placement())
            picture *= lamp.profile(pixels.u, pixels.v)
            picture *= np.float32(self.power[line])
            self._rates[line] = picture
        return self._rates[line]

    def expose(
        self,
        lights: Mapping[str, float],
        exposure_us: float,
        gain_db: float,
        generator: np.random.Generator,
        sensor: Sensor | None = None,
    ) -> Pixels:
        """Return what the sensor gives for the sum of all lit lines; lines that the cell has not stay dark."""
        electrons = np.zeros_like(self.dark)
        for line, intensity in lights.items():
            if intensity > 0 and line in self.lamps:
                electrons += np.float32(intensity * exposure_us) * self.rate(line)
        electrons *= self.response
        chosen = sensor or self.sensor
        electrons += self.dark + np.float32(chosen.dark_current_e_per_s * exposure_us * 1e-6)
        return chosen.digitise(electrons, gain_db, generator)


def _heights(work: Workpiece, size: int) -> FloatMap:
    """Return the part's mean height in each pixel (H, W) float32, um; 0 where the part is not."""
    there = (work.cover > 0.5).astype(np.float32)
    share = np.maximum(by_blocks(there, size), np.float32(1 / (size * size)))
    return np.asarray(by_blocks(work.height_um * there, size) / share, np.float32)


class StudioProduct:
    """See the module. Implements `drivers.sim.scene.Product`."""

    def __init__(
        self,
        blueprint: Blueprint,
        lamps: Sequence[Lamp],
        random_seed: int = 1,
        *,
        size: tuple[int, int] = (HEIGHT, WIDTH),
        sensor: Sensor | None = None,
        lens: Lens | None = None,
        oversampling: int = 2,
    ) -> None:
        """Set up the cell. `size` is (height, width) in px of a picture as wide as the blueprint's field."""
        self.blueprint = blueprint
        self.lamps = {lamp.name: lamp for lamp in lamps}
        self.lines: tuple[str, ...] = tuple(self.lamps)
        self.height, self.width = size
        self.pitch_mm = blueprint.field_mm[0] / self.width
        self.sensor = sensor or Sensor()
        self.lens = lens or Lens(focus_um=blueprint.focus_um)
        self.carrier_dn = round(self.sensor.offset_dn)
        self._seed = random_seed
        self._oversampling = oversampling
        self._response, self._dark = self.sensor.fixed_pattern(self.height, self.width)
        self._parts: OrderedDict[tuple[object, ...], StudioPart] = OrderedDict()

    @property
    def bit_depth(self) -> int:
        """Significant bits of the pictures."""
        return self.sensor.bit_depth

    def list_parts(self, good: int = 200, each: int = 20) -> tuple[str, ...]:
        """Ids of a representative set; any other number of six digits is a part too."""
        names = [f"{GOOD}-{index:06d}" for index in range(good)]
        return (*names, *(f"{name}-{index:06d}" for name in self.blueprint.defects for index in range(each)))

    def part(self, part_id: str, state: CellState = AS_SET_UP) -> StudioPart:
        """Return a part as it lies in a cell of that state. Raises `DataError` for an unknown id."""
        key = (part_id, *state.rendering())
        if key in self._parts:
            self._parts.move_to_end(key)
            return self._parts[key]
        part = self.make(part_id, self._orders(part_id), state)
        self._parts[key] = part
        most = max(2, _KEPT_PIXELS // (self.height * self.width * max(len(self.lines), 1)))
        while len(self._parts) > most:
            self._parts.popitem(last=False)
        return part

    def make(self, part_id: str, orders: Sequence[Order] = (), state: CellState = AS_SET_UP) -> StudioPart:
        """Return a part with exactly these defects: `part_id` decides on its texture and place alone.

        With no orders it is the good twin of a bad part. Raises `DataError` for an unknown id or class.
        """
        self._names(part_id)
        canvas = Canvas.make(
            self.height, self.width, self.pitch_mm, self._oversampling, self._placement(part_id, state)
        )
        work = self._blank(part_id, canvas, state)
        truths = tuple(self._apply(order, index, part_id, canvas, work) for index, order in enumerate(orders))
        return StudioPart(
            sensor=self.sensor,
            lens=replace(self.lens, defocus_px=self.lens.defocus_px + state.defocus_px),
            lamps=self.lamps,
            power=self._power,
            canvas=canvas,
            work=work,
            optics=prepare(work, Relief(work, self._oversampling)),
            defects=truths,
            response=self._response,
            dark=self._dark,
        )

    def defect_class(self, part_id: str) -> str | None:
        """Return the class of the part's first defect; None for a good part. Raises `DataError` for an unknown id."""
        names = self._names(part_id)
        return names[0] if names else None

    def defects(self, part_id: str) -> tuple[DefectTruth, ...]:
        """Return every defect of a part: class, mask, severity and parameters."""
        return self.part(part_id).defects

    def place_mask(self, part_id: str) -> Mask:
        """Return the true mask (H, W) of all the part's defects together."""
        mask: Mask = np.zeros((self.height, self.width), np.bool_)
        for defect in self.defects(part_id):
            mask |= defect.mask
        return mask

    def truth(self) -> CellTruth:
        """Return the true values of camera, lens and lamps."""
        return CellTruth(1 / self.pitch_mm, self.sensor, self.lens, dict(self.lamps), dict(self._power))

    def part_truth(self, part_id: str) -> PartTruth:
        """Return the true surface of a part."""
        part = self.part(part_id)
        return part_truth(part.work, part.canvas, part.defects)

    def _names(self, part_id: str) -> tuple[str, ...]:
        match = _PART_ID.fullmatch(part_id)
        names = match[1].split("+") if match else [""]
        if names == [GOOD] or (len(names) == 1 and names[0] in TARGETS):
            return ()
        if not all(name in self.blueprint.defects for name in names):
            raise DataError(
                f"there is no part {part_id}; parts of {self.blueprint.name} are called {GOOD}-000001 or by "
                f"their defects, "
                f"{self.blueprint.defects[0]}-000001, which are {', '.join(self.blueprint.defects)}"
            )
        return tuple(names)

    def _orders(self, part_id: str) -> tuple[Order, ...]:
        return tuple(Order(name) for name in self._names(part_id))

    def _generator(self, *entropy: int | str) -> np.random.Generator:
        words = [zlib.crc32(word.encode()) if isinstance(word, str) else word for word in entropy]
        return np.random.Generator(np.random.SFC64(np.random.SeedSequence([self._seed, *words])))

    def _placement(self, part_id: str, state: CellState) -> Placement:
        if part_id.partition("-")[0] in TARGETS:
            return Placement(*state.shift_mm, state.turn_deg)
        drawn = self._generator(part_id, 2)
        x, y = drawn.normal(0, self.blueprint.jitter_mm, 2) + np.array(state.shift_mm)
        turn = drawn.uniform(-180, 180) if self.blueprint.any_turn else drawn.normal(0, self.blueprint.jitter_deg)
        return Placement(float(x), float(y), float(turn) + state.turn_deg)

    def _blank(self, part_id: str, canvas: Canvas, state: CellState) -> Workpiece:
        target = TARGETS.get(part_id.partition("-")[0])
        if target is not None:
            return target(canvas, self._tile_albedo)
        generator = self._generator(part_id, 3)
        batch = Batch.number(state.batch)
        # Within a batch parts differ a little too.
        batch = replace(batch, tone=batch.tone * float(np.exp(generator.normal(0, 0.012))))
        return self.blueprint.draw(canvas, generator, batch)

    def _apply(self, order: Order, index: int, part_id: str, canvas: Canvas, work: Workpiece) -> DefectTruth:
        if order.defect_class not in DEFECTS:
            raise DataError(f"there is no defect {order.defect_class}; known are {', '.join(DEFECTS)}")
        kind = DEFECTS[order.defect_class]
        words: tuple[int | str, ...] = (part_id, 4, index) if order.seed is None else ("order", order.seed)
        generator = self._generator(*words, order.defect_class)
        drawn = float(np.exp(generator.normal(0, 0.3)))
        severity = drawn if order.severity is None else order.severity
        if kind.on_rim:
            rim = self.blueprint.rim(generator)
            u, v, outward = rim.u, rim.v, rim.outward_rad
        else:
            u, v = self.blueprint.face(generator)
            outward = float(generator.uniform(-np.pi, np.pi))
        site = Site(
            work=work,
            canvas=canvas,
            u=u if order.u_mm is None else order.u_mm,
            v=v if order.v_mm is None else order.v_mm,
            outward_rad=outward if order.outward_rad is None else order.outward_rad,
            beneath=self.blueprint.beneath,
        )
        before = work.copy()
        parameters = kind.make(site, generator, severity)
        parameters |= {"u_mm": site.u, "v_mm": site.v}
        mask = changed(before, work, self._oversampling)
        return DefectTruth(order.defect_class, mask, severity, parameters)

    @cached_property
    def _power(self) -> dict[str, float]:
        """Each lamp's strength, set so that a good part is well exposed: electrons a microsecond for unit radiance."""
        pitch = self.blueprint.field_mm[0] / WIDTH
        canvas = Canvas.make(HEIGHT, WIDTH, pitch, 1, Placement())
        work = self.blueprint.draw(canvas, self._generator(_REFERENCE, 3), Batch())
        optics = prepare(work, Relief(work, 1))
        face = (work.cover > 0.9) & (work.inside_mm > 0.4)
        powers = {}
        for name, lamp in self.lamps.items():
            shown = (radiance(optics, lamp) * lamp.profile(canvas.u, canvas.v))[face]
            mean, high = float(shown.mean()), float(np.percentile(shown, 97))
            # Highlights must not clip over much of the face, but one glossy spot must not darken all of it.
            level = max(min(self.blueprint.exposure_level, 0.85 * mean / high), 0.3 * self.blueprint.exposure_level)
            powers[name] = level * self.sensor.full_scale_e / EXPOSURE_US / mean
        return powers

    @cached_property
    def _tile_albedo(self) -> float:
        """Reflectance of the targets: half of full scale under the brightest lamp."""
        brightest = max(
            float(flat_radiance(lamp, self.lens, 32, 40, self.blueprint.field_mm[0] / 40).max()) * self._power[name]
            for name, lamp in self.lamps.items()
        )
        return min(0.9, 0.55 * self.sensor.full_scale_e / EXPOSURE_US / brightest)


def recipe_for(product: StudioProduct, recipe_id: str | None = None) -> Recipe:
    """Return a recipe with one channel for each lamp of a rendered product."""
    name = recipe_id or product.blueprint.name
    return Recipe(
        recipe_id=name,
        product=product.blueprint.name,
        height=product.height,
        width=product.width,
        bit_depth=product.bit_depth,
        channels=tuple(Channel(name=line, exposure_us=EXPOSURE_US, lights={line: 1.0}) for line in product.lines),
        defect_classes=tuple(DefectClass(name=name) for name in product.blueprint.defects),
    )
