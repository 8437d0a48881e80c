"""How near a calibration comes to the truth: on emulated cells, from production frames alone, and on bad input.

    python -m benchmarks.calibration --json FILE

The emulated cells' true values are known (`drivers.sim.truth`): each figure's error is told. The held-out stacks have a
camera that nothing here was tuned on (`benchmarks.heldout.sensor`); the magnetic tiles have no truth, and show that a
folder claims nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy import ndimage

from benchmarks.calibration_faults import bad_inputs, processed
from benchmarks.heldout.sensor import Sensor as HeldoutSensor
from benchmarks.heldout.stacks import stack_parts
from benchmarks.still_cell import StillCell
from cell.errors import InspectdError
from cell.imaging.folders import read_folder
from cell.recipes import Channel, DefectClass, Recipe
from cell.settings import DriftSettings
from drivers.sim.cell import EmulatedCell
from drivers.sim.render.lens import Lens
from trainer.calibrate import Evidence, calibrate
from trainer.calibrate_light import normals_of
from trainer.calibrate_noise import noises_of
from trainer.calibration_series import Level

Depth = Literal[8, 10, 12]

HELDOUT = Path(__file__).parent / "heldout" / "data"
CELLS: tuple[tuple[str, Depth], ...] = (
    ("cast-4", 8),
    ("cast-4", 12),
    ("disc-4", 8),
    ("moulded-8", 10),
    ("cast-4+ring+coax+dome", 12),
)
MOVING: tuple[tuple[str, Depth], ...] = (("cast-4", 8), ("disc-4", 8), ("label-4", 8), ("moulded-4", 10))
#: Largest error that is aimed at; shares.
AIMS = {"gain": 0.03, "read_noise": 0.05, "flat_field_rms": 0.01, "mtf50": 0.05}
#: A time that no figure depends on.
_NOW = datetime(2026, 1, 1, tzinfo=UTC)


def emulated(name: str, bit_depth: Depth, repeats: int) -> dict[str, Any]:
    """Calibrate one emulated cell from its series and hold every figure against the truth."""
    began = time.perf_counter()
    cell = StillCell.open(name, bit_depth)
    levels, parts = cell.levels(repeats), cell.parts(12)
    taken = time.perf_counter()
    made = calibrate(cell.recipe, Evidence(parts, levels), calibration_id="benchmark", now=_NOW)
    errors = cell.errors(made)
    worst = {
        figure: max(abs(row[figure]) for row in errors.values() if figure in row)
        for figure in dict.fromkeys(key for row in errors.values() for key in row)
    }
    return {
        "cell": name,
        "bits": bit_depth,
        "kind": made.kind.value,
        "errors": errors,
        "worst": worst,
        "aims_met": {figure: worst.get(figure, np.inf) <= limit for figure, limit in AIMS.items()},
        "normals_deg": _normals(cell, made.channels, levels),
        "findings": list(made.findings),
        "seconds_taking": round(taken - began, 1),
        "seconds_calibrating": round(time.perf_counter() - taken, 1),
    }


def production(name: str, bit_depth: Depth, parts: int) -> dict[str, Any]:
    """Calibrate the same cell from moving good parts alone."""
    cell = StillCell.open(name, bit_depth)
    made = calibrate(cell.recipe, Evidence(cell.parts(parts)), calibration_id="benchmark", now=_NOW)
    truth = cell.product.sensor.noise_model()
    level = 0.5 * truth.saturation_dn
    sigma = np.sqrt(truth.read_noise_dn**2 + truth.gain_dn_per_e * (level - truth.offset_dn))
    rows = {}
    for channel in made.channels:
        model = channel.noise
        found = np.sqrt(model.read_noise_dn**2 + model.gain_dn_per_e * (level - model.offset_dn))
        rows[channel.channel] = {
            "source": channel.transfer.source.value,
            "gain_error": model.gain_dn_per_e / truth.gain_dn_per_e - 1 if model.gain_dn_per_e else None,
            "sigma_error_at_half": float(found / sigma - 1),
        }
    return {"cell": name, "bits": bit_depth, "parts": parts, "kind": made.kind.value, "channels": rows}


def depth_of_field() -> dict[str, float]:
    """Lift the target through the focus, and return how far off the depth of field is: mm, and a share."""
    blur, focus = 1.2, 0.25
    levels = []
    for height in (-1.0, -0.5, 0.0, 0.5, 1.0):
        cell = StillCell.open("cast-2", 12)
        cell.product.lens = Lens(blur_px_per_mm=blur, defocus_px=blur * (height - focus))
        levels.append(cell.level("target", 8, height_mm=height))
    made = calibrate(cell.recipe, Evidence(cell.parts(1), levels), calibration_id="benchmark", now=_NOW)
    if made.depth is None:
        return {}
    return {
        "focus_error_mm": made.depth.focus_mm - focus,
        "blur_error": made.depth.blur_px_per_mm / blur - 1,
        "range_mm": made.depth.range_mm,
    }


def ageing_lamp(parts: int = 60, lost: float = 0.2) -> dict[str, float | None]:
    """Let one lamp lose light over many good parts, and return what the calibration says of each lamp, a day."""
    cell = StillCell.open("cast-2", 8)
    ageing = DriftSettings(kind="lamp", line=cell.recipe.channel_names[0], start_part=0, over_parts=parts, amount=lost)
    scene = EmulatedCell(cell.product, drift=(ageing,))
    stacks, times = [], []
    for index in range(parts):
        scene.present(f"good-{index:06d}")
        stacks.append(cell.frame_set(scene))
        times.append(_NOW - timedelta(hours=12 * (parts - index)))
    made = calibrate(cell.recipe, Evidence(stacks, taken_at=times), calibration_id="benchmark", now=_NOW)
    days = parts / 2
    found = {one.channel: one.illumination.drift_per_day for one in made.channels}
    return {"true_a_day": -lost / days / (1 - lost / 2), **found}


def folder(root: Path, *, camera: HeldoutSensor | None) -> dict[str, Any]:
    """Calibrate from a folder of good parts, which has no repeats; with a known camera, hold its noise against it."""
    dataset = read_folder(root)
    samples = dataset.load_all(dataset.backgrounds[:200])
    stacked = stack_parts(samples) if camera is not None else list(samples)
    # Pictures of a folder may differ in size; a calibration is of one.
    shape = Counter(sample.stack.shape for sample in stacked).most_common(1)[0][0]
    stacks = [sample.stack for sample in stacked if sample.stack.shape == shape]
    recipe = _recipe(root.name, shape)
    made = calibrate(recipe, Evidence(stacks, from_folder=camera is None), calibration_id="benchmark", now=_NOW)
    report: dict[str, Any] = {
        "folder": root.name,
        "parts": len(stacks),
        "kind": made.kind.value,
        "sources": [channel.transfer.source.value for channel in made.channels],
        "claims_a_gain": [channel.noise.gain_dn_per_e > 0 for channel in made.channels],
        "findings": list(made.findings),
    }
    if camera is not None:
        gain = (255 - camera.black_dn) / camera.full_well_e
        level = 100.0
        sigma = np.sqrt((gain * camera.read_noise_e) ** 2 + gain * (level - camera.black_dn))
        report["gain_error"] = [
            channel.noise.gain_dn_per_e / gain - 1 if channel.noise.gain_dn_per_e else None for channel in made.channels
        ]
        report["sigma_error_at_100_dn"] = [
            float(
                np.sqrt(
                    channel.noise.read_noise_dn**2
                    + channel.noise.gain_dn_per_e * max(level - channel.noise.offset_dn, 0.0)
                )
                / sigma
                - 1
            )
            for channel in made.channels
        ]
    return report


def _normals(cell: StillCell, channels: Sequence[Any], levels: Sequence[Level]) -> dict[str, float] | None:
    """Return the angle between true and measured normals of the still part, degrees."""
    noises = noises_of(cell.recipe, [], levels, from_folder=False)
    solved = normals_of(
        cell.recipe, levels, noises, [one.illumination for one in channels], [one.direction for one in channels]
    )
    if solved is None:
        return None
    unit, albedo, _ = solved
    true = np.moveaxis(cell.product.part_truth("good-000001").normals, 2, 0)
    seen = np.isfinite(true).all(axis=0) & (albedo > 0.1 * np.percentile(albedo, 95))
    seen = ndimage.binary_erosion(seen, iterations=3)
    angle = np.degrees(np.arccos(np.clip((unit * true).sum(axis=0)[seen], -1, 1)))
    return {"median": float(np.median(angle)), "p90": float(np.percentile(angle, 90))}


def _recipe(name: str, shape: tuple[int, ...]) -> Recipe:
    channels = tuple(
        Channel(name=f"light{index + 1}", exposure_us=1000.0, lights={f"light{index + 1}": 1.0})
        for index in range(shape[0])
    )
    return Recipe(
        recipe_id=name,
        product=name,
        height=shape[1],
        width=shape[2],
        channels=channels,
        defect_classes=(DefectClass(name="any"),),
    )


def main() -> int:
    """Run the benchmark; return 0 when everything reached what it must."""
    parser = argparse.ArgumentParser(description="How near a calibration comes to the truth.")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--repeats", type=int, default=16)
    parser.add_argument("--cells", type=int, default=len(CELLS), help="how many of the emulated cells")
    parser.add_argument("--data", type=Path, help="folder of good parts without repeats, such as the magnetic tiles")
    arguments = parser.parse_args()
    report: dict[str, Any] = {"aims": AIMS, "repeats": arguments.repeats, "emulated": []}
    for name, depth in CELLS[: arguments.cells]:
        report["emulated"].append(emulated(name, depth, arguments.repeats))
        _show(report["emulated"][-1])
    report["production"] = [production(name, depth, 40) for name, depth in MOVING]
    report["depth"], report["drift"] = depth_of_field(), ageing_lamp()
    report["bad_input"], report["processed"] = bad_inputs(), processed()
    roots = sorted(HELDOUT.iterdir())
    report["folders"] = [folder(root, camera=HeldoutSensor()) for root in roots]
    if arguments.data is not None:
        report["folders"].append(folder(arguments.data, camera=None))
    report["passed"] = passed(report)
    _show_others(report)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0 if report["passed"] else 1


def _show(one: dict[str, Any]) -> None:
    print(f"\n{one['cell']}, {one['bits']} bit: {one['kind']}, {one['seconds_calibrating']} s; worst of all channels")
    for figure, value in one["worst"].items():
        shown = f"{value:8.2f}°" if figure.endswith("_deg") else f"{100 * value:8.2f} %"
        aim = (
            ""
            if figure not in AIMS
            else f"   aim {100 * AIMS[figure]:g} %: {'met' if value <= AIMS[figure] else 'MISSED'}"
        )
        print(f"  {figure:<16}{shown}{aim}")
    if one["normals_deg"] is not None:
        print(f"  {'normals':<16}{one['normals_deg']['median']:8.2f}°   median, p90 {one['normals_deg']['p90']:.1f}°")
    sys.stdout.flush()


def _show_others(report: dict[str, Any]) -> None:
    print("\nfrom production frames alone")
    for one in report["production"]:
        for name, row in one["channels"].items():
            gain = "no gain claimed" if row["gain_error"] is None else f"gain {100 * row['gain_error']:+.1f} %"
            level = 100 * row["sigma_error_at_half"]
            print(f"  {one['cell']:<12}{one['bits']:>3} bit {name:<8}{row['source']:<12}{gain:<18}sigma {level:+.1f} %")
    depth, drift = report["depth"], report["drift"]
    focus = "not found"
    if depth:
        focus = (
            f"focus off by {depth['focus_error_mm']:+.3f} mm, growth of the blur by {100 * depth['blur_error']:+.1f} %"
        )
    print(f"\ndepth of field: {focus}")
    told = ", ".join(f"{name} {100 * (share or 0):+.2f} %" for name, share in drift.items() if name != "true_a_day")
    print(f"a lamp that loses {-100 * drift['true_a_day']:.2f} % a day: told {told}\n\nbad input")
    for one in report["bad_input"]:
        print(f"  {'clear ' if one['clear'] else 'MISSED'} {one['input']}: {one['told']}")
    print("\npixels that the camera computed")
    for one in report["processed"]:
        octaves = ", ".join(f"{power:.2f}" for power in one["spectrum"])
        print(f"  {'named ' if one['named'] else 'MISSED'} {one['pixels']}: lag 1 {one['lag1']:+.2f}; {one['told']}")
        print(f"         noise power by octave, from the finest down: {octaves} (white: 1)")
    print("\nfolders without repeats")
    for one in report["folders"]:
        print(f"  {one['folder']}: {one['parts']} parts, {one['kind']}, from {', '.join(one['sources'])}")
        if "gain_error" in one:
            noise = _percent(one["sigma_error_at_100_dn"])
            print(f"    gain off by {_percent(one['gain_error'])}; noise at 100 DN by {noise}")
        else:
            print(f"    claims a gain: {'yes' if any(one['claims_a_gain']) else 'no'}")
    print("\npassed" if report["passed"] else "\nNOT passed")


def _percent(errors: Sequence[float | None]) -> str:
    return ", ".join("none claimed" if error is None else f"{100 * error:+.1f} %" for error in errors)


def passed(report: dict[str, Any]) -> bool:
    """Tell whether every aim was met, every bad input told and everything computed named."""
    return (
        bool(report["depth"])
        and all(met for one in report["emulated"] for met in one["aims_met"].values())
        and all(one["clear"] for one in report["bad_input"])
        and all(one["named"] for one in report["processed"])
        and not any(any(one["claims_a_gain"]) for one in report["folders"] if "gain_error" not in one)
    )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InspectdError as error:
        sys.exit(str(error))
