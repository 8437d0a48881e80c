"""Defects of the emulated cell: a person would see them, they fade with their severity, and they stay in their mask."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy import ndimage

from drivers.sim.defects.catalogue import DEFECTS
from drivers.sim.products.catalogue import PRODUCTS, named
from drivers.sim.studio import Order, StudioPart, StudioProduct

EXPOSURE_US = 1000.0


@cache
def _product(name: str) -> StudioProduct:
    return StudioProduct(*named(f"{name}-2+ring+coax"))


@cache
def _good(name: str) -> StudioPart:
    return _product(name).make("good-000003")


@cache
def _without(name: str) -> tuple[np.ndarray, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Return where the good part is, and by line its electrons and what they differ from their median filter."""
    shown = {}
    for line in _good(name).lamps:
        electrons = _good(name).rate(line) * EXPOSURE_US
        shown[line] = (electrons, np.abs(electrons - ndimage.median_filter(electrons, 5)))
    return _product(name).part_truth("good-000003").albedo > 0, shown


def _signal(name: str, bad: StudioPart) -> tuple[float, float]:
    """Return (strongest contrast, whole contrast) of a defect over the lights, in units of noise and texture together.

    Texture is the median deviation from its own median filter in the surroundings: what the eye passes over.
    """
    mask = bad.defects[0].mask
    there, shown = _without(name)
    strongest, whole = 0.0, 0.0
    if not mask.any():
        return strongest, whole
    about = ndimage.binary_dilation(mask, iterations=10) & there
    for line, (without, fine) in shown.items():
        noise = np.sqrt((1.48 * np.median(fine[about])) ** 2 + without + bad.sensor.read_noise_e**2)
        change = (bad.rate(line) * EXPOSURE_US - without) / noise
        strongest = max(strongest, float(np.percentile(np.abs(ndimage.uniform_filter(change, 3))[mask], 95)))
        whole = max(whole, float(np.abs(change)[mask].sum()))
    return strongest, whole


@pytest.mark.parametrize("kind", sorted(DEFECTS))
def test_a_defect_is_seen_by_a_person_and_fades_with_its_severity(kind: str) -> None:
    """Three times noise and texture over 3 x 3 pixels is plain to the eye; a seventh of the severity must fade."""
    name = next(name for name in ("cast", "moulded", "disc", "brushed") if kind in PRODUCTS[name].defects)
    for seed in (1, 2):
        strongest: list[float] = []
        whole: list[float] = []
        for severity in (0.15, 0.5, 1.0):
            bad = _product(name).make("good-000003", (Order(kind, severity, seed=seed),))
            for got, into in zip(_signal(name, bad), (strongest, whole), strict=True):
                into.append(got)
        assert strongest[2] > 3, f"{kind} of severity 1 on {name} is hidden: {strongest}"
        assert whole == sorted(whole), f"{kind} does not grow with its severity: {whole}"
        assert whole[0] < 0.45 * whole[2], f"{kind} does not fade: {whole}"


@pytest.mark.parametrize("name", sorted(PRODUCTS))
def test_a_product_has_the_look_of_its_own_material(name: str) -> None:
    """Outlines and grey values: no two products are the same plate in another finish."""
    own = np.nan_to_num(_product(name).part_truth("good-000003").albedo) > 0
    for other in set(PRODUCTS) - {name}:
        theirs = np.nan_to_num(_product(other).part_truth("good-000003").albedo) > 0
        assert (own & theirs).sum() / (own | theirs).sum() < 0.93, f"{name} and {other} share an outline"


def test_a_bend_leaves_the_hole_beside_it_alone() -> None:
    product = _product("brushed")
    order = Order("bend", 1.0, u_mm=4.6, v_mm=-4.9, outward_rad=-np.pi / 2, seed=3)
    good, bad = product.make("good-000003"), product.make("good-000003", (order,))
    moved = np.abs(bad.work.height_um - good.work.height_um)
    assert moved.max() > 50
    below = good.canvas.v > -1.9  # the far half of the hole, 1.15 mm about (4.6, -1.9)
    assert moved[below & (good.work.cover > 0)].max() < 0.01 * moved.max()


def test_a_burr_grows_out_of_the_edge_and_does_not_float() -> None:
    product = _product("moulded")  # its rounded edge lies 0.7 mm below its face
    order = Order("burr", 1.0, u_mm=7.1, v_mm=0.0, outward_rad=0.0, seed=3)
    good, bad = product.make("good-000003"), product.make("good-000003", (order,))
    grown = (bad.work.cover > 0.5) & (good.work.cover < 0.5)
    assert grown.sum() > 10
    edge = (good.work.inside_mm > 0) & (good.work.inside_mm < 0.08) & ndimage.binary_dilation(grown, iterations=6)
    step = bad.work.height_um[grown].mean() - good.work.height_um[edge].mean()
    assert -60 < step < 250, "the burr begins elsewhere than where the edge ends"
