"""All defects by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from drivers.sim.defects.matter import discolouration, fibre, inclusion, stain
from drivers.sim.defects.outline import bend, burr, chip, warp
from drivers.sim.defects.relief import blowhole, crack, dent, pit, scratch
from drivers.sim.defects.site import Generator, Parameters, Site


@dataclass(frozen=True, slots=True)
class DefectKind:
    """A kind of defect: how it is made, and whether it sits on a rim or on a face."""

    make: Callable[[Site, Generator, float], Parameters]
    on_rim: bool = False


DEFECTS: dict[str, DefectKind] = {
    "scratch": DefectKind(scratch),
    "dent": DefectKind(dent),
    "crack": DefectKind(crack),
    "pit": DefectKind(pit),
    "blowhole": DefectKind(blowhole),
    "chip": DefectKind(chip, on_rim=True),
    "inclusion": DefectKind(inclusion),
    "stain": DefectKind(stain),
    "burr": DefectKind(burr, on_rim=True),
    "fibre": DefectKind(fibre),
    "discolouration": DefectKind(discolouration),
    "bend": DefectKind(bend, on_rim=True),
    "warp": DefectKind(warp, on_rim=True),
}
