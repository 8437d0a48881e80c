"""One suite for every camera driver: behaviour and safety, faults included.

It speaks to the contract (`drivers.cameras.base.Camera`) alone, so that it runs on an emulator, on a camera in a
process of its own and on the camera on somebody's desk. The camera must be open and not configured yet, and is closed
when the suite is over. What can't be brought about on a device is skipped, with the reason.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from cell.clock import Monotonic, monotonic
from cell.recipes import Channel, DefectClass, Recipe
from drivers.cameras.base import Camera
from drivers.conformance import camera_faults, camera_frames, camera_lines, camera_setup
from drivers.conformance.camera_bench import Bench, EmulatedFault, Finding, Trigger
from drivers.conformance.report import Report, Skip, run_checks

__all__ = ["CHECKS", "CameraCheck", "EmulatedFault", "recipe_for", "run_camera"]

RecipeFactory = Callable[[], Recipe]


@dataclass(frozen=True, slots=True)
class CameraCheck:
    """One promise. `triggers` are the kinds of trigger that it is for; `prepared`: it starts with the recipe set up."""

    promise: str
    run: Callable[[Bench], Iterable[Finding]]
    triggers: tuple[Trigger, ...] = ("software", "line")
    prepared: bool = True


_SOFTWARE: tuple[Trigger, ...] = ("software",)
_LINE: tuple[Trigger, ...] = ("line",)

#: All checks in the order in which they are run.
CHECKS: tuple[CameraCheck, ...] = (
    CameraCheck("gives no frame before it is configured", camera_setup.opens_idle, prepared=False),
    CameraCheck("says what it is", camera_setup.identity, prepared=False),
    CameraCheck("has size, binning and format of the recipe when read back", camera_setup.set_up_reads_back),
    CameraCheck("lists its features, reads them and writes them with a read-back", camera_setup.features_work),
    CameraCheck("names both values when one is clipped", camera_setup.clipped_feature),
    CameraCheck("refuses a frame that does not fit, and gives none then", camera_setup.too_large),
    CameraCheck("refuses depth, format and plane that do not fit each other", camera_setup.misfit_format),
    CameraCheck("gives frames of the recipe's size, depth and channel", camera_frames.frame_fits, _SOFTWARE),
    CameraCheck("tells exposure and gain as the camera has them", camera_frames.exposure_as_read, _SOFTWARE),
    CameraCheck("gives one frame a trigger, and ids and times move on", camera_frames.one_each, _SOFTWARE),
    CameraCheck("lets its caller work while it exposes", camera_frames.work_meanwhile, _SOFTWARE),
    CameraCheck("leaves a frame that is kept as it is", camera_frames.kept_frames, _SOFTWARE),
    CameraCheck("takes colour planes from one exposure, once each", camera_frames.shared_planes, _SOFTWARE),
    CameraCheck(
        "refuses an exposure that it would clip, and takes the next", camera_frames.clipped_exposure, _SOFTWARE
    ),
    CameraCheck("refuses a gain that it would clip, and takes the next", camera_frames.clipped_gain, _SOFTWARE),
    CameraCheck("is exposed or awaited, as it is triggered", camera_setup.wrong_way),
    CameraCheck("passes a frame that comes too late for no other", camera_faults.late_frame, _SOFTWARE),
    CameraCheck("names every fault in time and works again", camera_faults.named_faults, _SOFTWARE),
    CameraCheck("gives no frame without a trigger, in time", camera_lines.no_trigger, _LINE),
    CameraCheck("gives each channel's frame of a trigger once, in order", camera_lines.line_order, _LINE),
    CameraCheck("keeps frames in order until they are taken", camera_lines.line_queue, _LINE),
    CameraCheck("names a fault on the line or leaves a gap in the ids", camera_lines.line_faults, _LINE),
    CameraCheck("leaves nothing of one set-up to the next", camera_setup.many_set_ups),
    CameraCheck("restores every setting when it recovers, and ids move on", camera_setup.recover_restores),
    CameraCheck("stays closed and says so, and may be closed again", camera_setup.closed_for_good),
)


def run_camera(
    camera: Camera,
    recipe_factory: RecipeFactory,
    *,
    trigger: Trigger = "software",
    fire: Callable[[], None] | None = None,
    frame_timeout_s: float = 2.0,
    emulated_faults: Sequence[EmulatedFault] = (),
    clock: Monotonic = monotonic,
) -> Report:
    """Run every check on a camera and close it. Never raises for what the driver does.

    :param camera: opened and not configured.
    :param recipe_factory: gives a recipe that the camera can do, of one channel or more and all of this camera.
    :param trigger: how the camera's settings say that it is triggered.
    :param fire: gives the trigger line one edge; None where nobody can, then what needs it is skipped.
    :param frame_timeout_s: of the camera's settings.
    :param emulated_faults: what can be made to go wrong, by which the next exposure fails.
    """
    bench = Bench(camera, recipe_factory(), trigger, fire, frame_timeout_s, tuple(emulated_faults), clock)
    checks = [(check.promise, partial(_carry_out, check, bench)) for check in CHECKS if trigger in check.triggers]
    try:
        return run_checks(f"camera {camera.name}", checks)
    finally:
        with contextlib.suppress(Exception):  # a driver that raises here has been found by the last check
            camera.close()


def _carry_out(check: CameraCheck, bench: Bench) -> str | Skip:
    """Return what a check found, or why it could not go on when nothing was wrong until there."""
    wrong: list[str] = []
    if check.prepared:
        bench.camera.configure(bench.recipe)
    for finding in check.run(bench):
        if isinstance(finding, Skip):
            return finding if not wrong else "; ".join(wrong)
        wrong.append(finding)
    return "; ".join(wrong)


def recipe_for(camera: Camera, *, exposure_us: float = 1000.0, light: str = "light") -> Recipe:
    """Return a recipe of one 8-bit channel under `light` in the size that the camera now has. Raises `CameraError`."""
    return Recipe(
        recipe_id="conformance",
        product="conformance",
        height=int(camera.features.read("Height")),
        width=int(camera.features.read("Width")),
        channels=(Channel(name="light", exposure_us=exposure_us, lights={light: 1.0}),),
        defect_classes=(DefectClass(name="defect"),),
    )
