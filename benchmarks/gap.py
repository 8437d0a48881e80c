"""Does the gap report catch a wrong calibration? ``python -m benchmarks.gap [--crops N] [--product P] [--json F]``.

An ideal generator makes defects on parts of the emulated cell: it knows the true surface, and takes from the
calibration what a generator takes: the noise that it puts back, the sharpness of what it adds, the strength of each
light. Under the right calibration no measure may tell its crops from real ones; under a wrong one (gain x 1.5, blur +
1 px, one light 20 % weaker) the report must say so. Outside of the defect its crops are the frame's own pixels.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell.calibration import Calibration, CalibrationKind, ChannelCalibration, Illumination
from cell.defects import Mask
from cell.imaging import noise
from cell.settings import EmulatedCellSettings
from drivers.sim.cell import open_cell
from drivers.sim.studio import EXPOSURE_US, Order, StudioPart, StudioProduct
from trainer.gap.crops import Crop, crop_of, plain_corners, plain_crop
from trainer.gap.measure import Evidence, Finding, GapReport, measure_gap

Floats = NDArray[np.float64]

#: The calibrations that are tried, and the measure that must find a gap; none may where it is empty.
CALIBRATIONS = {
    "right": "",
    "gain x 1.5": "null edit",
    "blur + 1 px": "defects",
    "one light 20 % weaker": "defects",
}
_WINDOWS, _SUPPORT_PX = 4, 2
_LEAST_MASK = 12


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """One defect as it is expected, and its part without it: DN, (K, H, W)."""

    part_id: str
    expected: Floats
    good: Floats
    mask: Mask
    on_part: Mask


class GapBench:
    """A product of the emulated cell, with its true calibration."""

    def __init__(self, product: str, size: tuple[int, int], seed: int = 1) -> None:
        settings = EmulatedCellSettings(product=product, height=size[0], width=size[1], random_seed=seed)
        found = open_cell(settings).product
        assert isinstance(found, StudioProduct)
        self.product = found
        self.rng = np.random.default_rng(seed)
        self.classes = tuple(name for name in found.blueprint.defects if name not in {"bend", "warp", "chip", "burr"})
        self.calibration = self._calibration(1.0)

    def subjects(self, count: int, first: int) -> list[Subject]:
        """Return defects of all classes in turn, each on a part of its own."""
        made: list[Subject] = []
        number = first
        while len(made) < count:
            part_id, name = f"good-{number:06d}", self.classes[number % len(self.classes)]
            bad = self.product.make(part_id, (Order(name, seed=number),))
            number += 1
            mask = bad.defects[0].mask
            if mask.sum() < _LEAST_MASK:
                continue
            good = self._expected(self.product.make(part_id))
            offset = self.product.sensor.offset_dn
            on_part: Mask = np.any(good > offset + 8, axis=0)
            made.append(Subject(part_id, self._expected(bad), good, mask, on_part))
        return made

    def real(self, subject: Subject) -> Crop:
        """Return what the camera sees of the defect."""
        return crop_of(self._seen(subject.expected), subject.mask, subject.part_id, name=subject.part_id)

    def synthetic(self, subject: Subject, calibration: str) -> Crop:
        """Return what the ideal generator makes of it under a calibration."""
        contrast = np.log((subject.expected + 1) / (subject.good + 1))
        if calibration == "blur + 1 px":
            contrast = ndimage.gaussian_filter(contrast, (0, 1.0, 1.0), mode="nearest")
        mean = (subject.good + 1) * np.exp(contrast) - 1
        if calibration == "one light 20 % weaker":
            offset = self.product.sensor.offset_dn
            mean[1] = offset + 0.8 * (mean[1] - offset)
        model = self._calibration(1.5 if calibration == "gain x 1.5" else 1.0)
        made = np.stack([noise.sample(c.noise, m, self.rng) for c, m in zip(model.channels, mean, strict=True)])
        support = ndimage.binary_dilation(subject.mask, iterations=_SUPPORT_PX)
        # Shadows that a defect throws outside of its mask are real on both sides.
        frame = np.where(support, np.rint(made), self._seen(subject.expected))
        return crop_of(self._clip(frame), subject.mask, subject.part_id, name=subject.part_id)

    def plain(self, subjects: Sequence[Subject]) -> tuple[list[Crop], list[tuple[str, NDArray[np.float32]]]]:
        """Return windows of good frames, and whole ones."""
        crops: list[Crop] = []
        frames = []
        for subject in subjects:
            frame = self._seen(subject.good)
            frames.append((f"twin of {subject.part_id}", frame.astype(np.float32)))
            for top, left in plain_corners(subject.on_part, _WINDOWS, self.rng, least_share=0.98):
                crops.append(plain_crop(frame, top, left, subject.part_id))
        return crops, frames

    def wrong(self, calibration: str) -> Calibration:
        """Return what the generator believes of the camera."""
        return self._calibration(1.5 if calibration == "gain x 1.5" else 1.0)

    def _expected(self, part: StudioPart) -> Floats:
        sensor = self.product.sensor
        channels = [
            part.rate(line) * np.float32(EXPOSURE_US) * part.response + part.dark for line in self.product.lines
        ]
        return np.asarray(sensor.offset_dn + sensor.gain_dn_per_e * np.stack(channels), np.float64)

    def _seen(self, expected: Floats) -> NDArray[np.uint16]:
        model = self.product.sensor.noise_model()
        return self._clip(np.rint(noise.sample(model, expected, self.rng)))

    def _clip(self, frame: Floats) -> NDArray[np.uint16]:
        return np.clip(frame, 0, self.product.sensor.saturation_dn).astype(np.uint16)

    def _calibration(self, gain: float) -> Calibration:
        model = self.product.sensor.noise_model()
        wrong = model.model_copy(update={"gain_dn_per_e": gain * model.gain_dn_per_e})
        return Calibration(
            calibration_id="bench",
            recipe_id=self.product.blueprint.name,
            kind=CalibrationKind.MEASURED,
            channels=tuple(
                ChannelCalibration(
                    channel=line,
                    noise=wrong,
                    illumination=Illumination(grid=((1.0,),), mean_dn=80.0),
                    psf_sigma_px=0.0,
                )
                for line in self.product.lines
            ),
            frames_used=1,
            created_at=datetime.now(UTC),
        )


def run(product: str, crops: int, size: tuple[int, int], seed: int = 1) -> dict[str, Any]:
    """Return every calibration's report."""
    begun = time.perf_counter()
    bench = GapBench(product, size, seed)
    real_subjects, made_subjects = bench.subjects(crops, 0), bench.subjects(crops, 100_000)
    real = [bench.real(subject) for subject in real_subjects]
    plain, frames = bench.plain(made_subjects)
    print(
        f"{product}: {crops} real and {crops} synthetic defects, {len(plain)} good windows, "
        f"{time.perf_counter() - begun:.0f} s to render"
    )
    rows: dict[str, Any] = {}
    for name, must_find in CALIBRATIONS.items():
        synthetic = [bench.synthetic(subject, name) for subject in made_subjects]
        # Real defects lie on parts of their own; the frames for the crude paste are good twins of the others.
        evidence = Evidence(real, synthetic, plain, bench.wrong(name), bench.product.bit_depth, frames)
        report = measure_gap(evidence, seed)
        if must_find:
            passed = report.measure(must_find).finding is Finding.DIFFERENT
        else:
            passed = report.conclusion is not Finding.DIFFERENT
        rows[name] = {
            "must_find": must_find,
            "passed": passed,
            "conclusion": report.conclusion.value,
            "sentence": report.sentence,
            "measures": [measure.model_dump(mode="json") for measure in report.measures],
        }
        _show(name, report, passed=passed)
    return {"crops": crops, "seconds": round(time.perf_counter() - begun, 1), "calibrations": rows}


def _show(name: str, report: GapReport, *, passed: bool) -> None:
    print(f"\n{name}: {report.sentence} [{'passed' if passed else 'NOT passed'}]")
    for one in report.measures:
        interval = "" if one.low is None else f"{one.low:.3f} to {one.high:.3f}"
        p = "" if one.p is None else f"p {one.p:.3f}"
        value = "-" if one.value is None else f"{one.value:.3f}"
        print(f"  {one.name:<34}{value:>8}  {interval:<18}{p:<9}{one.finding}", flush=True)


def main() -> int:
    """Run the benchmark; return 0 when the right calibration passes and every wrong one is caught."""
    parser = argparse.ArgumentParser(description="Does the gap report catch a wrong calibration?")
    parser.add_argument("--crops", type=int, default=256, help="real defects, and as many synthetic ones")
    parser.add_argument("--product", action="append", help="emulated product; may be repeated (default moulded-4)")
    parser.add_argument("--height", type=int, default=160)
    parser.add_argument("--width", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report = {
        product: run(product, options.crops, (options.height, options.width), options.seed)
        for product in options.product or ["moulded-4"]
    }
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    good = all(row["passed"] for one in report.values() for row in one["calibrations"].values())
    print("\npassed" if good else "\nNOT passed")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
