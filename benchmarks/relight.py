"""Do all lights of one defect agree? ``python -m benchmarks.relight [--product P] [--arm A] [--changes N] [--json F]``.

One height change (a scratch, a dent, a pit) is rendered on several parts, each turned otherwise under the lamps: those
are the seeds. Then it is rendered at a turn that no seed has, which is the truth, and a candidate is made there with
the very outline of the truth. Compared is the light without noise, root mean square in the outline, in units of the
sensor's noise:

- `nothing`: no defect at all; `unlit`: the mean course alone, as if all lamps saw the same; `smooth`: with flanks, as
  the arm renders them; `made`: the candidate with its texture, which by chance is another than the truth's.
- `agree`: correlation, over pixels and lights, of what tells the lights apart (contrast less its mean over the lights).
- `held-out`: each light of the candidate in turn against what its other lights say of it through the photometric model
  (Woodham 1980) with the calibration's directions: is there one surface behind all of them? `limit` is the same of the
  truth's own lights: what the model knows of such a surface. `relit` is the light so predicted against the truth, and
  `stronger` is `held-out` of the same candidate made 1.4 times as strong, as severity asks.

The arm copypaste turns the very seed to where the truth lies: `made` and `relit` then say how far a defect whose shape
is known is off the truth under lamps that the seed never had there, its camera's noise and interpolation included.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.conditioned_cell import FACE
from cell.calibration import Calibration, CalibrationKind, ChannelCalibration, Illumination, LightDirection
from cell.clock import utc_now
from cell.defects import Mask
from cell.imaging import contrast, noise
from cell.recipes import DefectClass
from drivers.sim.defects.site import Generator
from drivers.sim.drift import CellState
from drivers.sim.products.blueprint import Batch
from drivers.sim.products.catalogue import named
from drivers.sim.render.lamps import rig
from drivers.sim.render.lens import Lens
from drivers.sim.render.textures import rough
from drivers.sim.render.workpiece import Canvas, Workpiece, blank
from drivers.sim.studio import EXPOSURE_US, Order, StudioPart, StudioProduct, recipe_for
from trainer.generate.arm import Arm
from trainer.generate.base import GenerateRequest, Scene, SeedSample, Shape
from trainer.generate.copypaste import CopyPaste
from trainer.generate.diffusion import Diffusion
from trainer.generate.flank import flank_of, lit
from trainer.generate.looks import Look, distance_of, look_at, render
from trainer.generate.procedural import Procedural
from trainer.generate.relief import agreed
from trainer.generate.severity import scaled
from trainer.generate.sharpness import fitted, fitting_of

Floats = NDArray[np.float64]

HEIGHT, WIDTH = 256, 320
CLASSES = ("scratch", "dent", "pit")
#: Turns of the seeds and of the truths, degrees: no truth is turned as a seed is.
_SEED_TURNS, _TRUE_TURNS = (0.0, 50.0, 110.0, 160.0), (25.0, 80.0, 135.0)
#: Free places on the products, mm from their middle.
_PLACES = {"moulded": (4.3, 0.2), "matt": (1.0, 0.5), "cast": (2.4, 2.0), "disc": (3.5, 1.0)}
#: By so much a candidate is strengthened to see whether its lights agree then.
_STRONGER = 1.4
#: The aim: root mean square error of a held-out light, in sensor sigmas.
AIM = 2.0


def _level(canvas: Canvas, generator: Generator, batch: Batch) -> Workpiece:
    work = blank(canvas, canvas.full(1e3), albedo=0.45 * batch.tone, specular=0.0, roughness=0.9)
    work.height_um += 0.25 * canvas.carry(rough(generator, canvas.shape, canvas.step_mm, grain_mm=0.4, hurst=0.8))
    return work


def product_of(name: str) -> StudioProduct:
    """Return an emulated product; ``matt-K`` is a matt face under K bars."""
    base, _, lights = name.partition("-")
    if base == "matt":
        face = replace(FACE, name="matt", draw=_level)
        return StudioProduct(face, rig(lights), 1, size=(HEIGHT, WIDTH), lens=Lens(blur_px_per_mm=0.0))
    blueprint, lamps = named(name)
    return StudioProduct(blueprint, lamps, 1, size=(HEIGHT, WIDTH))


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """A defect at one turn: the pictures without noise with and without it, (K, H, W) DN, its true mask, its place."""

    bad: Floats
    good: Floats
    mask: Mask
    canvas: Canvas

    def seen_from(self, other: Truth) -> NDArray[np.float32]:
        """Return where in this picture each pixel of the other one's lies, rows and columns, (2, H, W)."""
        fine = other.canvas.oversampling
        u, v = (_pixels(axis, fine) for axis in (other.canvas.u, other.canvas.v))
        at = np.stack(self.canvas.to_grid(u, v))
        return ((at + 0.5) / self.canvas.oversampling - 0.5).astype(np.float32)


class Bench:
    """One product and its true calibration."""

    def __init__(self, name: str, fit_steps: int = 40) -> None:
        self.product = product_of(name)
        self.fit_steps = fit_steps
        self.name, self.place = name, _PLACES[name.partition("-")[0]]
        self.directions = np.stack([self.product.truth().direction(line) for line in self.product.lines])
        recipe = recipe_for(self.product)
        self.recipe = recipe.model_copy(update={"defect_classes": tuple(DefectClass(name=one) for one in CLASSES)})
        self.calibration = self._calibration()
        self.rng = np.random.default_rng(1)

    def truth(self, kind: str, number: int, turn: float, part: int) -> Truth:
        """Return height change `number` of a class on a part turned by so many degrees."""
        order = Order(kind, severity=1.0, u_mm=self.place[0], v_mm=self.place[1], outward_rad=0.0, seed=number)
        state, part_id = CellState(turn_deg=turn), f"good-{part:06d}"
        bad = self.product.make(part_id, (order,), state)
        good = self.product.make(part_id, (), state)
        return Truth(self._expected(bad), self._expected(good), bad.defects[0].mask, bad.canvas)

    def seed(self, truth: Truth, kind: str, index: int) -> SeedSample:
        """Return what the camera sees of it, as a person marks it."""
        channels = zip(self.calibration.channels, truth.bad, strict=True)
        stack = np.stack([noise.sample(one.noise, mean, self.rng) for one, mean in channels])
        top = self.product.sensor.saturation_dn
        pixels = np.clip(np.rint(stack), 0, top).astype(np.uint8)
        marked = ndimage.binary_dilation(truth.mask, iterations=2)
        return SeedSample(f"s{index}", f"p{index}", kind, pixels, marked)

    def rows(self, kind: str, number: int, arm: str, folder: Path) -> list[dict[str, float]]:
        """Return the figures of one height change at each turn that no seed has."""
        taken = [self.truth(kind, number, turn, 10 * number + index) for index, turn in enumerate(_SEED_TURNS)]
        seeds = [self.seed(one, kind, index) for index, one in enumerate(taken)]
        scene = Scene(self.recipe, self.calibration, {kind: tuple(seeds)}, ())
        looks = [look_at(one, scene) for one in seeds]
        request = GenerateRequest(arm=arm, per_class=1, fit_steps=self.fit_steps)
        painter = _painter(arm, scene, request, folder)
        painter.fit(kind, looks, lambda _: None, lambda: False)
        found = []
        for turn in _TRUE_TURNS:
            truth = self.truth(kind, number, turn, 10 * number + 7)
            found.append(self._compare(truth, kind, taken[0], painter, scene, looks))
        return found

    def _compare(
        self, truth: Truth, kind: str, first: Truth, painter: Arm, scene: Scene, looks: list[Look]
    ) -> dict[str, float]:
        measured = look_at(self.seed(truth, kind, 99), scene)
        shape = _shape(measured, looks[0].seed.seed_id, first.seen_from(truth))
        window = truth.good[:, shape.window[0], shape.window[1]]
        pixels = np.clip(np.rint(window), 0, 255).astype(np.uint8)
        bad = truth.bad[:, shape.window[0], shape.window[1]]
        distance, inside = distance_of(shape), shape.mask
        course = np.mean([look.course for look in looks], axis=0)
        flank = np.mean([flank_of(one.slopes, [o.slopes for o in looks if o is not one]) for one in looks], axis=0)
        unlit = render(course, distance)
        smooth = unlit + lit(flank, distance)
        look = painter.appearance(pixels, shape, 1.0, kind, self.rng)
        how = fitting_of(scene, looks, shape)
        made, soft = fitted(look, shape, np.ones(inside.shape, np.bool_), pixels, scene, how)
        sigma = self._sigma(bad)
        wanted = contrast.of(bad.astype(np.float32), window.astype(np.float32), self.recipe.bit_depth)

        def off(log: NDArray[np.float32]) -> float:
            shown = contrast.apply(window.astype(np.float32), log, self.recipe.bit_depth)
            return _rms(((shown - bad) / sigma)[:, inside])

        own = made.contrast * soft
        row = {"nothing": off(0 * unlit), "unlit": off(unlit), "smooth": off(smooth), "made": off(own)}
        row["agree"] = _agree(own[:, inside], wanted[:, inside])
        row |= self._held_out(window, bad, own, sigma, inside)
        relief = looks[0].relief
        lamps = relief.lamps if relief is not None else None
        strong = agreed(made, scaled(made, _STRONGER), _STRONGER, soft, pixels, lamps).contrast * soft
        row["stronger"] = self._held_out(window, bad, strong, sigma, inside)["held-out"]
        return row

    def _held_out(
        self, good: Floats, bad: Floats, log: NDArray[np.float32], sigma: Floats, inside: Mask
    ) -> dict[str, float]:
        """Predict each light from the others; return how far the prediction is off the own light, and off the truth."""
        offset = self.product.sensor.offset_dn
        shown = contrast.apply(good.astype(np.float32), log, self.recipe.bit_depth)
        errors: dict[str, list[float]] = {"held-out": [], "limit": [], "relit": []}
        for key, pictures in (("held-out", shown), ("limit", bad)):
            ratios = (pictures[:, inside] - offset) / np.maximum(good[:, inside] - offset, 1.0)
            for light in range(len(good)):
                others = [index for index in range(len(good)) if index != light]
                predicted = relit(ratios[others], self.directions[others], self.directions[light])
                dn = offset + predicted * (good[light][inside] - offset)
                errors[key].append(_rms((dn - pictures[light][inside]) / sigma[light][inside]))
                if key == "held-out":
                    errors["relit"].append(_rms((dn - bad[light][inside]) / sigma[light][inside]))
        return {key: float(np.mean(values)) for key, values in errors.items()}

    def _sigma(self, expected: Floats) -> Floats:
        channels = zip(self.calibration.channels, expected, strict=True)
        return np.stack([noise.sigma_dn(one.noise, pixels) for one, pixels in channels])

    def _expected(self, part: StudioPart) -> Floats:
        sensor = self.product.sensor
        rates = np.stack([part.rate(line) * np.float32(EXPOSURE_US) for line in self.product.lines])
        shown = sensor.offset_dn + sensor.gain_dn_per_e * rates
        return np.asarray(np.minimum(shown, sensor.saturation_dn), np.float64)

    def _calibration(self) -> Calibration:
        product = self.product
        return Calibration(
            calibration_id="relight",
            recipe_id=self.recipe.recipe_id,
            kind=CalibrationKind.MEASURED,
            channels=tuple(
                ChannelCalibration(
                    channel=line,
                    noise=product.sensor.noise_model(),
                    illumination=Illumination(grid=((1.0,),), mean_dn=80.0),
                    psf_sigma_px=product.lens.psf_sigma_px(),
                    direction=LightDirection(x=x, y=y, z=z, residual=0.0),
                )
                for line, (x, y, z) in zip(product.lines, self.directions.tolist(), strict=True)
            ),
            frames_used=1,
            created_at=utc_now(),
        )


def relit(ratios: Floats, lights: Floats, light: Floats) -> Floats:
    """Return by what a surface is lit otherwise than when flat under another light, (N,).

    :param ratios: (K, N) light over the flat surface's under K lights; :param lights: their unit vectors (K, 3).
    """
    # A flat face gets the light's z of it: a ratio times that z is the light's product with the scaled normal.
    scaled = np.linalg.lstsq(lights, ratios * lights[:, 2:], rcond=None)[0]
    predicted: Floats = np.maximum(light @ scaled, 0.0) / light[2]
    return predicted


def _painter(arm: str, scene: Scene, request: GenerateRequest, folder: Path) -> Arm:
    if arm == "procedural":
        return Procedural(scene)
    return CopyPaste() if arm == "copypaste" else Diffusion(scene, request, folder)


def _pixels(fine: NDArray[np.float32], each: int) -> Floats:
    """Return the means (H, W) of a fine grid of `each` samples across a pixel."""
    height, width = fine.shape
    means = fine.reshape(height // each, each, width // each, each).mean(axis=(1, 3), dtype=np.float64)
    return np.asarray(means, np.float64)


def _shape(look: Look, seed_id: str, source: NDArray[np.float32]) -> Shape:
    """Return the outline that a look was measured with as a shape at its own place, (2, H, W) where it comes from."""
    inside = look.distance > 0
    soft = np.clip((look.distance - 0.5 * np.sign(look.distance)) / 2.5 + 0.5, 0, 1).astype(np.float32)
    top, left = look.corner
    there = source[:, top : top + inside.shape[0], left : left + inside.shape[1]]
    return Shape(top=top, left=left, soft=soft, source=there, orientation_deg=0.0, seed_ids=(seed_id,))


def _agree(made: NDArray[np.float32], true: NDArray[np.float32]) -> float:
    one, other = made - made.mean(axis=0), true - true.mean(axis=0)
    return float((one * other).sum() / max(float(np.sqrt((one**2).sum() * (other**2).sum())), 1e-12))


def _rms(values: Floats) -> float:
    return float(np.sqrt(np.mean(values**2)))


def run(name: str, arm: str, changes: int, folder: Path, fit_steps: int = 40) -> dict[str, Any]:
    """Return the means over height changes and turns, by class."""
    bench, rows = Bench(name, fit_steps), dict[str, Any]()
    for kind in CLASSES:
        found: Sequence[dict[str, float]] = [
            row for number in range(1, changes + 1) for row in bench.rows(kind, number, arm, folder)
        ]
        rows[kind] = {key: round(float(np.mean([row[key] for row in found])), 3) for key in found[0]}
        told = "  ".join(f"{key} {value:6.2f}" for key, value in rows[kind].items())
        print(f"{name:<12}{kind:<10}{told}", flush=True)
    return rows


def main() -> int:
    """Run the benchmark; return 0 when every held-out light is within the aim."""
    parser = argparse.ArgumentParser(description="Do all lights of one defect agree?")
    parser.add_argument("--product", action="append", help="may be repeated (default matt-4, moulded-8)")
    parser.add_argument("--arm", default="procedural", choices=["procedural", "copypaste", "diffusion"])
    parser.add_argument("--changes", type=int, default=2, help="height changes of each class (default 2)")
    parser.add_argument("--fit-steps", type=int, default=40, help="of the arm diffusion, for each class (default 40)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="relight-") as folder:
        report = {
            name: run(name, options.arm, options.changes, Path(folder), options.fit_steps)
            for name in options.product or ["matt-4", "moulded-8"]
        }
    if options.json:
        options.json.write_text(json.dumps({"arm": options.arm, "products": report}, indent=1) + "\n", encoding="utf-8")
    return 0 if all(row["held-out"] <= AIM for rows in report.values() for row in rows.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
