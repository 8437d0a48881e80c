"""The hardware without a daemon: the one module of the faces that imports `drivers`.

While it has the devices open it holds the daemon's lock on the state directory, where there is one and this account may
write it: two programs must not drive one camera.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cell.clock import utc_now
from cell.errors import ConfigurationError, StoreError, StoreInUse
from cell.recipes import Recipe, Rect
from cell.settings import CameraSettings, Settings
from cell.store.layout import StateLock
from drivers import bench, registry
from drivers.bench import Facts, Wanted
from drivers.cameras.base import Camera
from drivers.cameras.isolated import IsolatedCamera
from drivers.cameras.pylon import PylonCamera
from drivers.cameras.simulated import SimulatedCamera
from drivers.conformance.camera import recipe_for, run_camera
from drivers.conformance.lights import LightBench, run_light
from drivers.conformance.report import Report
from drivers.discovery import discover
from drivers.lights.base import Light

#: Frames of one call: short enough that a display stays alive.
_BUDGET_S = 0.5
#: Light that nobody tends may take so much longer than its setting to go off.
_LATE_S = 3.0


@contextlib.contextmanager
def opened(settings: Settings) -> Iterator[DirectBench]:
    """Open the cell's cameras and light, by software trigger; dark and released afterwards.

    Raises `StoreInUse` when a daemon has them, `SdkMissing`, `ConfigurationError`, `CameraError`, `LightError`.
    """
    with owned(settings), bench.opened(_by_software(settings), registry.open_rig) as hardware:
        yield DirectBench(settings, hardware)


@contextlib.contextmanager
def owned(settings: Settings) -> Iterator[None]:
    """Hold the daemon's lock. Raises `StoreInUse` when a daemon has it."""
    file = settings.state_dir / "daemon.lock"
    try:
        lock = StateLock(file, "daemon") if file.exists() else None
    except StoreInUse as error:
        raise StoreInUse(f"inspectd has the cameras and does not answer: {error}") from error
    except StoreError:
        lock = (
            None  # not ours to write: then the daemon's account is another, and the vendor's library keeps them apart
        )
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


class DirectBench:
    """See `daemon.ctl.bench.Bench`."""

    through_daemon = False

    def __init__(self, settings: Settings, hardware: bench.Bench) -> None:
        self._settings = settings
        self._hardware = hardware
        self._recipe: Recipe | None = None
        self._set_up_for: tuple[Any, ...] = ()

    def cameras(self) -> list[Facts]:
        """See `Bench`."""
        return [facts | {"state": "well", "recoveries": 0} for facts in self._hardware.cameras()]

    def info(self, camera: str) -> Facts:
        """See `Bench`."""
        names = self._hardware.feature_names(camera)
        return self._hardware.identity(camera) | {"features": self._hardware.features(camera, names)}

    def take(self, asked: Facts, folder: Path | None = None) -> Facts:
        """See `Bench`."""
        role = self._hardware.role(self._hardware.camera(asked.get("camera", "")))
        recipe = self._set_up(role, asked)
        self._hardware.present(asked.get("part_id", ""))
        wanted = Wanted(
            channels=tuple(asked.get("channels", ())),
            count=int(asked.get("count", 1)),
            lights=asked.get("lights"),
            budget_s=_BUDGET_S,
        )
        taken = self._hardware.take(role, recipe, wanted)
        if not taken.frames and taken.errors:
            raise taken.errors[-1]
        region = Rect.model_validate(asked["region"]) if asked.get("region") else None
        paths = []
        if folder is not None:
            stacked, emulated = asked.get("save") == "stack", self._hardware.emulated
            paths = bench.save_frames(taken.frames, recipe, folder, utc_now(), stacked=stacked, emulated=emulated)
        return {
            "recipe_id": recipe.recipe_id,
            "frames": [bench.figures_of(frame, region) for frame in taken.frames],
            "failures": taken.failures,
            "lost": taken.lost,
            "seconds": round(taken.seconds, 4),
            "paths": [str(path) for path in paths],
        }

    def lights(self) -> Facts:
        """See `Bench`."""
        return self._hardware.lights()

    def shine(self, lights: dict[str, float]) -> Facts:
        """See `Bench`."""
        return self._hardware.shine(lights)

    def _set_up(self, role: str, asked: Facts) -> Recipe:
        key = (role, asked.get("recipe_id"), asked.get("exposure_us"), asked.get("gain_db"))
        if self._recipe is None or self._set_up_for != key:
            recipe = _recipe_of(self._settings, role, key[1]) or self._hardware.own_recipe(role)
            self._recipe = bench.adjusted(recipe, key[2], key[3])
            self._hardware.set_up(self._recipe)
            self._set_up_for = key
        return self._recipe


def reachable(settings: Settings) -> tuple[list[Facts], list[str]]:
    """Return every camera that the settings' drivers find, and what kept a driver from looking."""
    with owned(settings):
        return discover(settings)


def camera_conformance(settings: Settings, name: str, recipe_id: str | None) -> Report:
    """Run the camera suite on one camera, as its settings say it is triggered. Raises what opening it raises."""
    with owned(settings), contextlib.ExitStack() as stack:
        rig = registry.open_rig(settings)
        stack.callback(rig.close)
        hardware = bench.Bench(settings, rig)
        camera = hardware.camera(name)
        role = hardware.role(camera)
        hardware.present()
        recipe = _recipe_of(settings, role, recipe_id)
        own = settings.camera if camera is rig.camera else settings.cameras[role]

        def recipe_of_camera() -> Recipe:
            if recipe is None:
                return recipe_for(camera, light=rig.light.lines[0])
            return recipe.model_copy(update={"channels": tuple(c for c in recipe.channels if c.camera == role)})

        # What an emulated camera shall see; a real one sees what there is.
        rig.light.apply({rig.light.lines[0]: 1.0})
        return run_camera(
            camera,
            recipe_of_camera,
            trigger="software" if own.trigger == "software" else "line",
            fire=_edge_of(camera, own),
            frame_timeout_s=own.frame_timeout_s,
        )


def _edge_of(camera: Camera, settings: CameraSettings) -> Callable[[], None] | None:
    """Return what gives an emulated camera an edge of its line; None where nobody here can."""
    if not camera.emulated or settings.driver == "genicam":
        return None
    if isinstance(camera, IsolatedCamera):
        return partial(camera.emulate, "fire")
    return camera.fire if isinstance(camera, PylonCamera | SimulatedCamera) else None


def light_conformance(settings: Settings) -> Report:
    """Run the light suite on the cell's light; its lamps flash. Raises what opening it raises."""
    with owned(settings), contextlib.ExitStack() as stack:
        # Its promises are about what the host switches; no camera steps through its lines meanwhile.
        settings = _by_software(settings)
        if settings.light.driver == "gardasoft":
            settings = _without_wires(settings)
        if settings.light.driver == "camera_lines":
            # The lamps hang on a camera, which stays open meanwhile.
            rig = registry.open_rig(settings)
            stack.callback(rig.close)
            rig.light.close()
            around = registry.Surroundings(rig.cameras, None, _nothing)
        else:
            around = registry.Surroundings({}, None, _nothing)

        def open_light() -> Light:
            return registry.LIGHTS[settings.light.driver](settings, around)

        # Strobed light needs no tending: without a trigger it is dark.
        tended = settings.light.mode == "continuous" and settings.light.driver != "simulated"
        stall_s = settings.light.dark_after_s + _LATE_S if tended else None
        return run_light(LightBench(open=open_light, stall_s=stall_s), f"light {settings.light.driver}")


def _recipe_of(settings: Settings, role: str, named: str | None) -> Recipe | None:
    """Return the recipe that is meant: the named one, or the only one with channels of that camera."""
    known = {}
    for file in sorted(settings.recipes_dir.glob("*.json")):
        try:
            recipe = Recipe.model_validate_json(file.read_bytes())
        except (OSError, ValueError) as error:
            if named == file.stem:
                raise ConfigurationError(f"the recipe {file} can't be used; inspectctl recipe add tells why") from error
            continue
        known[recipe.recipe_id] = recipe
    if named is not None:
        if named not in known:
            raise ConfigurationError(f"there is no recipe {named} in {settings.recipes_dir}")
        return known[named]
    fitting = [recipe for recipe in known.values() if any(channel.camera == role for channel in recipe.channels)]
    if len(fitting) > 1:
        names = ", ".join(recipe.recipe_id for recipe in fitting)
        raise ConfigurationError(f"name the recipe with --recipe; there are {names}")
    return fitting[0] if fitting else None


def _by_software(settings: Settings) -> Settings:
    """Return the settings with every camera triggered by software: no part is under way that could trigger it."""
    by_hand = {"trigger": "software"}
    return settings.model_copy(
        update={
            "camera": settings.camera.model_copy(update=by_hand),
            "cameras": {name: camera.model_copy(update=by_hand) for name, camera in settings.cameras.items()},
        }
    )


def _without_wires(settings: Settings) -> Settings:
    """Return the settings with no wire from a camera to the light: the controller is asked alone."""
    outputs = {line: output.model_copy(update={"camera_line": ""}) for line, output in settings.light.outputs.items()}
    light = settings.light.model_copy(update={"exposure_line": "", "outputs": outputs})
    return settings.model_copy(update={"light": light})


def _nothing(lights: Mapping[str, float]) -> None:
    """Show the light to no camera: the suite asks the driver what shines."""
    del lights


def product_sheet(
    file: Path, products: Sequence[str], lights: str, each: int, seed: int, on_part: Callable[[str, int, int], None]
) -> int:
    """Draw the emulated cell's contact sheet; see `drivers.sim.contact.product_sheet`."""
    # Not above: who looks through a camera need not wait for the renderer.
    from drivers.sim import contact

    return contact.product_sheet(file, products, lights, each, seed, on_part)
