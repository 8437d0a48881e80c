"""What the tests of the trainer service share: a small product, a store with real parts in it, children that obey."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from cell.calibration import Calibration, CalibrationKind, ChannelCalibration, Illumination, NoiseModel
from cell.clock import utc_now
from cell.defects import Background, Draft, GeneratorParameters, Provenance, Seed, Split
from cell.frames import StoredStack
from cell.recipes import Channel, DefectClass, Recipe
from cell.store.layout import StateDir
from cell.store.learning import LearningStore

HEIGHT, WIDTH = 64, 96

RECIPE = Recipe(
    recipe_id="disc",
    product="disc",
    height=HEIGHT,
    width=WIDTH,
    channels=(
        Channel(name="left", exposure_us=500, lights={"a": 1.0}),
        Channel(name="right", exposure_us=500, lights={"b": 1.0}),
    ),
    defect_classes=(DefectClass(name="pit"), DefectClass(name="scratch")),
)


def until(condition: Callable[[], bool], turn: Callable[[], object] = lambda: None, seconds: float = 30.0) -> None:
    """Turn until the condition holds; fail after `seconds`."""
    pause, deadline = threading.Event(), time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        turn()
        pause.wait(0.01)


def write_config(folder: Path, **changes: object) -> Path:
    """Write recipes and a settings file for a cell below `folder`."""
    recipes = folder / "recipes"
    recipes.mkdir(parents=True, exist_ok=True)
    (recipes / "disc.json").write_text(RECIPE.model_dump_json())
    wire = {
        name: f"ipc://{folder}/{name}.sock" for name in ("commands", "events", "trainer_commands", "trainer_events")
    }
    values: dict[str, object] = {
        "state_dir": str(folder / "state"),
        "recipes_dir": str(recipes),
        "minimum_free_mb": 1,
        **changes,
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    lines += ["[wire]", *(f"{key} = {json.dumps(value)}" for key, value in wire.items())]
    lines += ["[trainer]", "threads = 1"]
    file = folder / "inspectd.toml"
    file.write_text("\n".join(lines) + "\n")
    return file


def picture(seed: int, *, emulated: bool = True) -> StoredStack:
    """A good part: a smooth surface with the sensor's noise, under two lights."""
    rng = np.random.default_rng(seed)
    shade = np.linspace(-8, 8, WIDTH)
    pixels = np.stack([120 + shade, 120 - shade])[:, None, :] + rng.normal(0, 2, (2, HEIGHT, WIDTH))
    return StoredStack(
        pixels=np.clip(pixels.round(), 0, 255).astype(np.uint8),
        channels=RECIPE.channel_names,
        bit_depth=8,
        exposure_us=(500.0, 500.0),
        gain_db=(0.0, 0.0),
        metadata={"emulated": emulated},
    )


def defect_mask(seed: int, kind: str) -> np.ndarray:
    """Where a defect lies: a spot or a line."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    y, x = int(rng.integers(12, HEIGHT - 12)), int(rng.integers(20, WIDTH - 20))
    if kind == "pit":
        mask[y - 3 : y + 4, x - 3 : x + 4] = True
    else:
        mask[y : y + 2, x - 10 : x + 10] = True
    return mask


def defective(seed: int, kind: str) -> tuple[StoredStack, np.ndarray]:
    """A part with a dark defect, and its mask."""
    stack, mask = picture(seed), defect_mask(seed, kind)
    stack.pixels[:, mask] //= 3
    return stack, mask


def add_backgrounds(store: LearningStore, learn: int, held_out: int = 0) -> list[Background]:
    """Add good parts."""
    return [
        store.add_background("disc", f"good-{index}", picture(index), Split.LEARN if index < learn else Split.HELD_OUT)
        for index in range(learn + held_out)
    ]


def add_seeds(store: LearningStore, learn: int, held_out: int = 0) -> list[Seed]:
    """Add confirmed defects of both classes, `learn` and `held_out` of each."""
    seeds = []
    for kind in RECIPE.class_names:
        for index in range(learn + held_out):
            stack, mask = defective(1000 + index, kind)
            split = Split.LEARN if index < learn else Split.HELD_OUT
            proposed = store.propose_seed("disc", f"{kind}-{index}", stack, mask, kind, split)
            seeds.append(store.confirm_seed(proposed.seed_id, kind, mask, "Ada"))
    return seeds


def add_calibration(store: LearningStore, calibration_id: str = "cal-1") -> str:
    flat = Illumination(grid=((1.0, 1.0), (1.0, 1.0)), mean_dn=120)
    noise = NoiseModel(gain_dn_per_e=0, read_noise_dn=2, offset_dn=0, saturation_dn=255, lag1_correlation=0)
    channels = tuple(
        ChannelCalibration(channel=name, noise=noise, illumination=flat, psf_sigma_px=0.7)
        for name in RECIPE.channel_names
    )
    return store.add_calibration(
        Calibration(
            calibration_id=calibration_id,
            recipe_id="disc",
            kind=CalibrationKind.DEGRADED,
            channels=channels,
            frames_used=4,
            created_at=utc_now(),
        )
    )


def add_candidates(
    store: LearningStore,
    per_class: int,
    kinds: Sequence[str] = ("pit",),
    *,
    planted: int = 0,
    doubts: Sequence[float] = (),
) -> list[str]:
    """Add candidates on the first background, as a generator would; the first `planted` of a class are planted."""
    background = store.backgrounds("disc")[0]
    base = store.read_image(background.image).pixels
    made = []
    for kind in kinds:
        seed = store.seeds("disc", defect_class=kind)[0]
        for index in range(per_class):
            mask = defect_mask(50 + index, kind)
            stack = base.copy()
            stack[:, mask] //= 3
            parameters = GeneratorParameters(
                arm="procedural",
                defect_class=kind,
                severity=5,
                center_x=1,
                center_y=1,
                orientation_deg=0,
                size_px=7,
                random_seed=index,
            )
            provenance = Provenance(
                background_id=background.background_id,
                seed_ids=(seed.seed_id,),
                base_digest="",
                adapter_digest="",
                calibration_digest="0" * 64,
                parameters=parameters,
                generator_version="test",
            )
            scores = {"visibility": 1.0} | ({"doubt": doubts[index]} if doubts else {})
            draft = Draft(stack, mask, mask, kind, 5.0, scores, provenance, planted_bad=index < planted)
            made.append(store.candidates.add("t00001", "disc", draft).candidate_id)
    return made


def open_store(config_folder: Path) -> LearningStore:
    """Open the learning store of the cell that :func:`write_config` described."""
    return LearningStore(StateDir.create(config_folder / "state"))


#: A child that speaks the reports' language; its script stands in the job's parameters' place.
_PREAMBLE = """
import json, os, signal, subprocess, sys, time
pipe = int(sys.argv[-1])
def say(**report): os.write(pipe, json.dumps(report).encode() + b"\\n")
def progress(done, total=10, stage="work"):
    say(kind="progress", progress={"stage": stage, "done": done, "total": total})
def hang():
    while True: signal.pause()  # until a handler ends the process, or it is killed
"""


def child(script: str) -> Callable[[str], tuple[str, ...]]:
    """Return a command that runs `script` with ``say``, ``progress``, ``hang`` and the job's id in ``sys.argv[1]``."""
    return lambda job_id: (sys.executable, "-c", _PREAMBLE + script, job_id)
