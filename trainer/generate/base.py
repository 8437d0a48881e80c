"""The generator contract: what every way of making defects is asked, and what it gives.

::

    seeds -> Look (trainer.generate.looks) -> Arm.fit
    background -> Shape (trainer.generate.plan) -> Arm.appearance -> Appearance -> compose -> Draft

An arm (diffusion, procedural, copypaste, vae, gan) makes the *log contrast* of a defect in a window of the background;
shape, placement and severity come from :mod:`trainer.generate.plan`, and :mod:`cell.imaging.compositor` puts the result
on the background. So all arms differ in the one thing that is compared: what the defect looks like.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cell.calibration import Calibration
from cell.defects import Mask
from cell.errors import DataError
from cell.frames import Stack
from cell.jobs import Progress
from cell.recipes import Recipe
from trainer.generate.control import AS_SEEDS, Control
from trainer.generate.domain import AS_TAKEN, Randomisation

#: Natural logarithm of lit over unlit, (K, h, w) float32: 0 leaves the background as it is.
LogContrast = NDArray[np.float32]

ReportProgress = Callable[[Progress], None]
Cancelled = Callable[[], bool]


@dataclass(frozen=True, slots=True, eq=False)
class SeedSample:
    """A confirmed real defect, in memory: `stack` (K, H, W) uint8 or uint16 DN, `mask` (H, W) bool.

    `psf_px` is each channel's point spread at the defect when the picture was taken, sigma in pixels; empty: as the
    scene's calibration has it there.
    """

    seed_id: str
    part_id: str
    defect_class: str
    stack: Stack
    mask: Mask
    psf_px: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.mask.shape != self.stack.shape[1:]:
            raise DataError(
                f"seed {self.seed_id}: its mask has {self.mask.shape[::-1]} pixels, its picture "
                f"{self.stack.shape[:0:-1]}; confirm it again with a mask of the picture's size"
            )
        if not self.mask.any():
            raise DataError(f"seed {self.seed_id} has an empty mask; confirm it again with the defect marked")


@dataclass(frozen=True, slots=True, eq=False)
class BackgroundSample:
    """A good part, in memory. `allowed` (H, W) bool tells where a defect may lie (part, ROI, no exclusions)."""

    background_id: str
    part_id: str
    stack: Stack
    allowed: Mask


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """What is asked for. Where `control` says nothing about severity, size or uniform share, the ranges here hold."""

    arm: str
    per_class: int
    classes: tuple[str, ...] = ()  # all of the recipe when empty
    #: Contrast relative to the very seed's whose outline it is; drawn log-uniformly.
    severity: tuple[float, float] = (0.6, 1.4)
    #: Size relative to the seed's; drawn log-uniformly.
    size: tuple[float, float] = (0.7, 1.4)
    #: Share of placements that follow no seed's place but the uniform distribution over what is allowed.
    uniform_share: float = 0.3
    random_seed: int = 0
    #: Steps of fitting a class, of which the learning arms take as many, or some for each; denoising steps.
    fit_steps: int = 160
    sampling_steps: int = 20
    #: Adapters that are fitted side by side, each in a process of its own.
    workers: int = 1
    #: What is asked of every class, and what of some beside or instead.
    control: Control = AS_SEEDS
    class_control: Mapping[str, Control] = field(default_factory=dict)
    #: By how much the whole picture is altered afterwards.
    randomise: Randomisation = AS_TAKEN
    #: Recipe whose seeds these are; empty: the scene's own.
    adapters_from: str = ""

    def control_of(self, defect_class: str) -> Control:
        """Return what is asked of a class."""
        special = self.class_control.get(defect_class)
        return special.over(self.control) if special is not None else self.control


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """The support asked of one defect, in a window of the part.

    `soft` (h, w) float32 in [0, 1] is 1 inside and falls to 0 over the feather; `mask` is where it exceeds one half.
    `source` (2, h, w) float32 tells for each pixel the row and column of the first seed's picture it was warped from.
    """

    top: int
    left: int
    soft: NDArray[np.float32]
    source: NDArray[np.float32]
    orientation_deg: float
    seed_ids: tuple[str, ...]
    morphology: dict[str, float] = field(default_factory=dict)

    @property
    def mask(self) -> Mask:
        """Where the defect is, (h, w) bool."""
        return self.soft > 0.5

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the frame."""
        height, width = self.soft.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


@dataclass(frozen=True, slots=True, eq=False)
class Appearance:
    """What an arm makes: the log contrast (K, h, w), and how much of the background's own texture shows through.

    `texture_kept` 1 leaves the background's texture and noise in place, 0 replaces them by what `contrast` carries.
    `noise_share` is the share of the sensor's noise variance that `contrast` carries already. `lay_kept` is how many
    times as strong the streaks of the surface's lay are in the defect, None where nobody knows: they stay as they are.
    """

    contrast: LogContrast
    texture_kept: float
    noise_share: float
    lay_kept: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What all arms and the plan know of the cell."""

    recipe: Recipe
    calibration: Calibration
    seeds: dict[str, tuple[SeedSample, ...]]  # by class
    backgrounds: tuple[BackgroundSample, ...]
