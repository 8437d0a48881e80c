"""The cell that the line's benchmark runs on: settings, recipe, two models that can be told apart, a daemon process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks import packages
from cell.clock import utc_now
from cell.errors import InspectdError, PeerTimeout
from cell.frames import FrameSet, StoredStack
from cell.imaging.preprocess import Preprocessing
from cell.models import ModelManifest
from cell.recipes import ArchiveRule, Recipe
from cell.settings import CameraSettings, EmulatedCellSettings, LightSettings, Settings, WireSettings
from cell.store.images import stored
from cell.store.layout import StateDir
from cell.store.learning import LearningStore
from cell.wire.client import Client
from drivers.engines.base import Engine
from drivers.registry import Rig, load_engine, open_rig
from drivers.sim.plate import recipe_for_plate

# pylon offers its emulated camera when this is set before it is first asked; the daemon's process inherits it.
os.environ["PYLON_CAMEMU"] = "1"

Camera = Literal["pylon", "simulated"]
EngineKind = Literal["shipped", "null"]
ENGINES: tuple[EngineKind, ...] = ("shipped", "null")
_GOLDEN = ("good-900001", "pit-900001", "good-900002")
_START_S = 60.0


class BenchCell:
    """An emulated cell in a folder of its own, with two deployed-to-be models of one kind of engine.

    Each channel is exposed for `exposure_ms`; its light is dimmed so far that the frames look the same at any.
    """

    def __init__(
        self,
        folder: Path,
        camera: Camera,
        engine: EngineKind,
        channels: int,
        *,
        deadline_ms: float = 500.0,
        exposure_ms: float = 10.0,
    ) -> None:
        self.folder = folder
        self.scratch = folder / "scratch"
        self.scratch.mkdir()
        self.recipe = _recipe(channels, deadline_ms, exposure_ms)
        self.settings = Settings(
            cell_name="benchmark",
            state_dir=folder / "state",
            recipes_dir=folder / "recipes",
            minimum_free_mb=0,
            camera=CameraSettings(driver=camera),
            light=LightSettings(lines=tuple(line for channel in self.recipe.channels for line in channel.lights)),
            emulated=EmulatedCellSettings(product=f"plate-{channels}"),
            wire=WireSettings(commands=f"ipc://{folder}/commands", events=f"ipc://{folder}/events"),
        )
        self.state = StateDir.create(self.settings.state_dir)
        self.settings.recipes_dir.mkdir()
        (self.settings.recipes_dir / "recipe.json").write_text(self.recipe.model_dump_json())
        self._networks = [_network(engine, self.recipe, number, self.scratch) for number in range(2)]
        pictures = self._pictures()
        with LearningStore(self.state) as learning:
            self.manifests = [
                packages.pack(
                    self.state,
                    learning,
                    self.recipe,
                    network,
                    pictures,
                    model_id=f"{engine}-{number}",
                    scratch=self.scratch,
                )
                for number, network in enumerate(self._networks)
            ]
        self._tensor = Preprocessing.for_recipe(self.recipe).apply(pictures[0].pixels)

    def models(self) -> Iterator[tuple[ModelManifest, bytes]]:
        """Give the manifest and the ONNX file of each model."""
        yield from zip(self.manifests, self._networks, strict=True)

    def open_rig(self) -> Rig:
        """Open the cell's hardware in this process, the camera too, which the daemon gives one of its own."""
        camera = self.settings.camera.model_copy(update={"isolated": False})
        return open_rig(self.settings.model_copy(update={"camera": camera}))

    def bare_engine(self) -> tuple[Engine, NDArray[np.float32]]:
        """Return the first model loaded in this process, and an input for it."""
        file = self.state.model_folder(self.manifests[0].onnx_digest) / self.manifests[0].onnx_file
        channels, height, width = self._tensor.shape
        return load_engine(self.settings.engine, file, (channels, height, width)), self._tensor

    @contextmanager
    def daemon(self) -> Iterator[str]:
        """Run ``inspectd`` in a process of its own and give its command address. Raises `InspectdError`."""
        config = self.folder / "inspectd.toml"
        config.write_text(_toml(self.settings), encoding="utf-8")
        log = self.folder / "daemon.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "daemon.main", "--config", str(config)], stdout=stream, stderr=stream
            )
        try:
            _wait_until_it_answers(self.settings.wire.commands, process, log)
            yield self.settings.wire.commands
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _pictures(self) -> list[StoredStack]:
        rig = self.open_rig()
        try:
            rig.camera.configure(self.recipe)
            return [self._picture(rig, part_id, number) for number, part_id in enumerate(_GOLDEN)]
        finally:
            rig.close()

    def _picture(self, rig: Rig, part_id: str, number: int) -> StoredStack:
        rig.present(part_id)
        frames = []
        for channel in self.recipe.channels:
            rig.light.apply(channel.lights)
            frames.append(rig.camera.expose(channel))
        rig.light.off()
        frame_set = FrameSet(number, part_id, self.recipe.recipe_id, utc_now(), tuple(frames), rig.emulated)
        return stored(frame_set)


def _recipe(channels: int, deadline_ms: float, exposure_ms: float) -> Recipe:
    plate = recipe_for_plate(channels)
    dimmed = tuple(
        channel.model_copy(
            update={
                "exposure_us": 1e3 * exposure_ms,
                "lights": {line: min(1.0, channel.exposure_us / (1e3 * exposure_ms)) for line in channel.lights},
            }
        )
        for channel in plate.channels
    )
    changes = {"deadline_ms": deadline_ms, "archive": ArchiveRule(ok_share=1.0, ring=0), "channels": dimmed}
    return plate.model_copy(update=changes)


def _network(engine: EngineKind, recipe: Recipe, number: int, scratch: Path) -> bytes:
    classes = recipe.class_names
    if engine == "null":
        return packages.contrast_onnx(len(recipe.channels), len(classes), 1.0 + 0.5 * number, 3.0)
    # Here, because torch takes seconds to import and the null engine needs none of it.
    import torch

    from trainer.export import export_onnx
    from trainer.fit import FitConfig, FittedModel
    from trainer.network import DetectorNetwork

    torch.manual_seed(number)
    network = DetectorNetwork(len(recipe.channels), len(classes)).eval()
    # An untrained network finds little; of the two, one finds more than the other.
    network.evidence.bias = torch.nn.Parameter(torch.full((1,), -3.0 + 2.0 * number))
    model = FittedModel(network, Preprocessing.for_recipe(recipe), classes, FitConfig(), ())
    path = scratch / f"shipped-{number}.onnx"
    export_onnx(model, path)
    return path.read_bytes()


def _toml(settings: Settings) -> str:
    lines = ", ".join(f'"{line}"' for line in settings.light.lines)
    return "\n".join(
        (
            f'cell_name = "{settings.cell_name}"',
            f'state_dir = "{settings.state_dir}"',
            f'recipes_dir = "{settings.recipes_dir}"',
            "minimum_free_mb = 0",
            f'[camera]\ndriver = "{settings.camera.driver}"',
            f"[light]\nlines = [{lines}]",
            f'[emulated]\nproduct = "{settings.emulated.product}"',
            f'[wire]\ncommands = "{settings.wire.commands}"\nevents = "{settings.wire.events}"\n',
        )
    )


def _wait_until_it_answers(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    with Client(address, timeout_s=0.5) as client:
        while time.monotonic() < deadline and process.poll() is None:
            try:
                client.call("inspectd.ping")
            except PeerTimeout:
                continue
            return
    lines = log.read_text(errors="replace").strip().splitlines() or ["its log is empty"]
    raise InspectdError(f"the daemon did not start: {lines[-1]}")
