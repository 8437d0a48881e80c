"""The renderer's physics: facts that hold for light, lenses, shadows and defects whatever the product looks like."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy import ndimage

from cell.errors import ConfigurationError, DataError
from cell.settings import DriftSettings, EmulatedCellSettings
from drivers.sim.cell import open_cell
from drivers.sim.defects.catalogue import DEFECTS
from drivers.sim.drift import state_at
from drivers.sim.products.catalogue import PRODUCTS, named
from drivers.sim.render.lamps import rig
from drivers.sim.render.lens import Lens
from drivers.sim.render.reflection import prepare, radiance
from drivers.sim.render.shadow import Relief
from drivers.sim.render.workpiece import Canvas, Placement, Workpiece, blank
from drivers.sim.sensor import Sensor
from drivers.sim.studio import Order, StudioProduct, recipe_for

FIELD = Canvas.make(64, 80, 0.05, 1, Placement())


def _flat(**material: float) -> Workpiece:
    chosen = {"albedo": 0.5, "specular": 0.04, "roughness": 0.3, **material}
    return blank(FIELD, FIELD.full(1e3), **chosen)


def _shown(work: Workpiece, lights: str) -> dict[str, np.ndarray]:
    optics = prepare(work, Relief(work, 1))
    return {lamp.name: radiance(optics, lamp) for lamp in rig(lights)}


@cache
def _product(description: str) -> StudioProduct:
    return StudioProduct(*named(description))


def test_opposite_lights_see_a_symmetric_face_mirrored() -> None:
    work = _flat()
    work.height_um += 40 * np.exp(-(FIELD.u**2 + FIELD.v**2) / 0.3)
    shown = _shown(work, "4")
    np.testing.assert_allclose(shown["az000"], shown["az180"][:, ::-1], rtol=2e-3)
    np.testing.assert_allclose(shown["az090"], shown["az270"][::-1], rtol=2e-3)


@pytest.mark.parametrize("lights", ["4", "4low", "ring", "coax", "dome"])
@pytest.mark.parametrize("roughness", [0.1, 0.3, 0.6])
def test_no_surface_gives_back_more_light_than_it_gets(lights: str, roughness: float) -> None:
    """In an even dome of unit radiance nothing looks brighter than the dome; what is white and matt shows n.l / pi."""
    matt = blank(FIELD, FIELD.full(1e3), albedo=1.0, specular=0.0, roughness=0.5)
    for lamp in rig(lights):
        expected = sum(source.weight * source.toward[2] for source in lamp.sources()) / np.pi
        middle = radiance(prepare(matt, Relief(matt, 1)), lamp, lobe=False)[30:34, 38:42].mean()
        assert middle == pytest.approx(expected, rel=0.01)
    middle = (slice(30, 34), slice(38, 42))
    mirror = _shown(_flat(albedo=1.0, specular=1.0, roughness=roughness), "dome")["dome"][middle].mean()
    full = sum(source.weight * source.toward[2] for source in rig("dome")[0].sources()) / np.pi
    # The smooth one sees the dome's hole, the rough one loses what its facets throw at each other; neither wins light.
    assert 0.25 * full < mirror < 1.02 * full
    dull = _shown(_flat(albedo=1.0, specular=0.0, roughness=roughness), lights)
    for lamp in rig(lights):
        expected = sum(source.weight * source.toward[2] for source in lamp.sources()) / np.pi
        assert dull[lamp.name][middle].mean() < 1.6 * expected, "Fresnel's share of a black gloss at grazing light"


def test_a_step_throws_its_shadow_away_from_the_lamp() -> None:
    work = _flat()
    work.height_um[:, 40:44] += 500  # a wall across the field
    shown = _shown(work, "2")
    left, right = slice(30, 38), slice(46, 54)
    assert shown["az000"][32, left].max() < 0.05 * shown["az000"][32, right].min(), "light from the right"
    assert shown["az180"][32, right].max() < 0.05 * shown["az180"][32, left].min()
    reach = int((shown["az000"][32, :40] < 0.3 * shown["az000"][32, 10]).sum())
    assert reach == pytest.approx(0.5 / np.tan(np.deg2rad(35)) / 0.05, abs=2), "0.5 mm at 35 degrees"


def test_brushed_metal_shines_across_its_lay_and_not_along_it() -> None:
    work = _flat(albedo=0.0, specular=0.6, roughness=0.1)
    work.across[:] = 0.35
    work.lay_rad = FIELD.full(0.0)
    shown = _shown(work, "4")
    assert shown["az090"].mean() > 5 * shown["az000"].mean()


def test_the_lens_blurs_as_its_transfer_function_says() -> None:
    lens = Lens(sigma_px=0.7, defocus_px=0.8, stray=0.0, vignetting=0.0)
    size, fine = 256, 4
    x = (np.arange(size * fine) + 0.5) / fine
    for frequency in (0.125, 0.25):
        wave = np.tile((1 + np.cos(2 * np.pi * frequency * x)).astype(np.float32), (32 * fine, 1))
        # Adding up `fine` point samples falls a little short of a whole pixel's square.
        added = np.sin(np.pi * frequency) / (fine * np.sin(np.pi * frequency / fine))
        square = np.sinc(frequency) / added
        row = lens.form(wave, fine)[16, 32:-32]
        amplitude = 2 * abs(np.fft.rfft(row)[round(frequency * len(row))]) / len(row)
        assert amplitude * square == pytest.approx(float(lens.mtf(frequency)), rel=0.03)


@pytest.mark.parametrize("bit_depth", [8, 10, 12])
def test_the_photon_transfer_of_a_rendered_tile_has_the_sensors_slope(bit_depth: int) -> None:
    cell = open_cell(EmulatedCellSettings(product="cast-1", bit_depth=bit_depth))  # type: ignore[arg-type]
    cell.present("flat-000000")
    cell.illuminate({"az000": 1.0})
    means, variances = [], []
    for exposure in np.linspace(100, 1500, 8):
        pair = [cell.picture(256, 320, float(exposure), 0.0).astype(float) for _ in range(2)]
        assert pair[0].max() < (1 << bit_depth) - 1
        means.append((pair[0] + pair[1]).mean() / 2)
        variances.append((pair[0] - pair[1]).var() / 2)
    slope = np.polyfit(means, variances, 1)[0]
    assert slope == pytest.approx(Sensor.of_depth(bit_depth).gain_dn_per_e, rel=0.03)
    assert cell.picture(256, 320, 100.0, 0.0).dtype == (np.uint8 if bit_depth == 8 else np.uint16)


def test_the_tile_shows_the_flat_field_that_the_truth_tells() -> None:
    product = _product("cast-2+ring")
    part, truth = product.part("flat-000000"), product.truth()
    for line in product.lines:
        seen = part.rate(line) / part.rate(line).mean()
        difference = seen / truth.flat_field(line, product.height, product.width) - 1
        assert np.abs(difference).max() < 0.03  # the tile's own gloss at grazing light is not in a matt face


def test_lights_add_up() -> None:
    product = _product("disc-4")
    part = product.part("good-000003")
    quiet = np.random.default_rng(1)
    single = [part.expose({line: 0.2}, 500.0, 0.0, quiet).astype(float).mean() - 4 for line in product.lines]
    every = part.expose(dict.fromkeys(product.lines, 0.2), 500.0, 0.0, quiet).astype(float).mean() - 4
    assert every == pytest.approx(sum(single), rel=0.02)


@pytest.mark.parametrize("name", sorted(PRODUCTS))
def test_good_parts_are_well_exposed_and_told_apart_by_their_ids(name: str) -> None:
    product = _product(f"{name}-2")
    first, second = product.part("good-000001"), product.part("good-000002")
    generator = np.random.default_rng(1)
    face = (product.part_truth("good-000001").albedo >= 0) & (product.part_truth("good-000001").height_um > -60)
    for line in product.lines:
        pixels = first.expose({line: 1.0}, 1000.0, 0.0, generator)
        assert 20 < pixels[face].mean() < 140
        assert (pixels == 255).mean() < 0.03
        assert np.abs(first.rate(line) - second.rate(line)).mean() > 0.01 * first.rate(line).mean()
    again = StudioProduct(*named(f"{name}-2")).part("good-000001")
    assert np.array_equal(again.rate("az000"), first.rate("az000"))
    assert recipe_for(product).channel_names == ("az000", "az180")


@pytest.mark.parametrize("kind", sorted(DEFECTS))
def test_what_a_defect_changes_lies_in_its_mask(kind: str) -> None:
    """Seen against the same part without it, at three sigma of the noise; shadows reach a bit further."""
    name = next(name for name in ("brushed", "moulded", "disc", "cast") if kind in PRODUCTS[name].defects)
    product = _product(f"{name}-4")
    sigma_e = np.sqrt(product.sensor.full_scale_e * 0.3 + product.sensor.read_noise_e**2)
    seen = 0
    for index in range(3):
        part_id = f"{kind}-{index:06d}"
        bad, good = product.part(part_id), product.make(part_id)
        change = np.max([np.abs(bad.rate(line) - good.rate(line)) for line in product.lines], axis=0) * 1000
        mask = product.place_mask(part_id)
        assert product.defect_class(part_id) == kind
        assert 2 < mask.sum() < mask.size / 4
        visible = change > 3 * sigma_e
        near = ndimage.binary_dilation(mask, iterations=6)
        strength = np.where(visible, change, 0)
        assert strength[~near].sum() <= 0.12 * strength.sum(), f"{part_id} changes what is not marked"
        seen += bool(visible[mask].any())
    assert seen >= 2


def test_a_dent_is_a_pair_that_flips_with_the_light_and_a_stain_is_not() -> None:
    product = _product("moulded-4")
    at = Order("dent", 1.5, u_mm=3.2, v_mm=0.0, seed=5)
    good = product.make("good-000004")

    def side(order: Order, line: str) -> float:
        bad = product.make("good-000004", (order,))
        change = (bad.rate(line) - good.rate(line)) / good.rate(line)
        _, columns = np.nonzero(bad.defects[0].mask)
        middle = round(columns.mean())
        mask = bad.defects[0].mask
        left, right = mask.copy(), mask.copy()
        left[:, middle:], right[:, :middle] = False, False
        return float(change[left].mean() - change[right].mean())

    assert side(at, "az000") > 0.03, "the far wall of a hollow faces the light"
    assert side(at, "az180") < -0.03
    stain = Order("stain", 1.0, u_mm=3.2, v_mm=0.0, seed=5)
    changes = []
    for line in product.lines:
        bad = product.make("good-000004", (stain,))
        core = ndimage.binary_erosion(bad.defects[0].mask, iterations=4)
        changes.append(float((bad.rate(line) / good.rate(line))[core].mean() - 1))
    assert max(changes) < -0.03
    assert max(changes) - min(changes) < 0.06


def test_the_depth_of_field_blurs_what_lies_off_the_focus() -> None:
    lens = Lens(sigma_px=0.6, blur_px_per_mm=0.7, stray=0.0, vignetting=0.0)
    size, fine = 64, 4
    radiance = np.zeros((size * fine, 2 * size * fine), np.float32)
    heights = np.zeros((size, 2 * size), np.float32)
    heights[:, size:] = 2000.0
    for column in (32, 96):  # a line of one sample on each step
        radiance[:, column * fine] = fine * 100
    picture = lens.form(radiance, fine, heights)
    for column, height in ((32, 0.0), (96, 2000.0)):
        row = picture[32, column - 16 : column + 17].astype(float)
        place = np.arange(33)
        middle = (row * place).sum() / row.sum()
        sigma = np.sqrt((row * (place - middle) ** 2).sum() / row.sum())
        assert sigma == pytest.approx(lens.psf_sigma_px(height), rel=0.04)
    assert picture[32, 90:102].sum() == pytest.approx(picture[32, 26:38].sum(), rel=0.02), "light was lost"


def test_severity_is_monotone_and_several_defects_are_told_apart() -> None:
    product = _product("cast-4")
    good = product.make("good-000001")
    contrasts, depths = [], []
    for severity in (0.4, 0.8, 1.6):
        bad = product.make("good-000001", (Order("dent", severity, u_mm=0.5, v_mm=-4.4, seed=2),))
        contrasts.append(float(np.abs(bad.rate("az000") - good.rate("az000"))[bad.defects[0].mask].mean()))
        depths.append(bad.defects[0].parameters["depth_um"])
    assert contrasts == sorted(contrasts)
    assert depths[2] == pytest.approx(4 * depths[0])
    both = product.defects("scratch+stain-000003")
    assert [defect.defect_class for defect in both] == ["scratch", "stain"]
    assert product.defect_class("scratch+stain-000003") == "scratch"
    assert np.array_equal(product.place_mask("scratch+stain-000003"), both[0].mask | both[1].mask)
    with pytest.raises(DataError, match="no part bend-000001"):
        product.part("bend-000001")


def test_drift_follows_its_schedule() -> None:
    drifts = (
        DriftSettings(kind="lamp", line="az000", start_part=10, over_parts=20, amount=0.4),
        DriftSettings(kind="fixture", start_part=5, amount=0.5, turn_deg=1.0),
        DriftSettings(kind="defocus", start_part=0, over_parts=10, amount=2.0),
        DriftSettings(kind="material", start_part=30, amount=3),
    )
    assert state_at(4, drifts).shift_mm == (0.0, 0.0)
    assert state_at(20, drifts).brightness("az000") == pytest.approx(0.8)
    assert state_at(20, drifts).brightness("az180") == 1.0
    late = state_at(100, drifts)
    assert (late.shift_mm, late.turn_deg, late.defocus_px, late.batch) == ((0.5, 0.0), 1.0, 2.0, 3)
    product = _product("cast-2")
    was, moved = product.part("good-000001"), product.part("good-000001", state_at(6, drifts[1:2]))
    assert moved.canvas.placement.x_mm - was.canvas.placement.x_mm == pytest.approx(0.5)
    soft = product.part("good-000001", late)
    assert np.abs(np.diff(soft.rate("az000"))).mean() < 0.7 * np.abs(np.diff(was.rate("az000"))).mean()


def test_a_cell_with_drift_gets_darker_and_refuses_what_it_can_not_do() -> None:
    lamp = DriftSettings(kind="lamp", start_part=1, amount=0.5)
    cell = open_cell(EmulatedCellSettings(product="foil-2", drift=(lamp,)))
    cell.illuminate({"az000": 1.0})
    levels = []
    for _ in range(2):
        cell.present("good-000001")
        levels.append(cell.picture(256, 320, 300.0, 0.0).mean() - 4)  # no highlight clips
    assert levels[1] == pytest.approx(levels[0] / 2, rel=0.02)
    for wrong, why in (
        ({"product": "spoon-4"}, "no emulated product 'spoon-4'"),
        ({"product": "disc-4+moon"}, "describes no lights"),
        ({"product": "plate-4", "height": 512}, "size of its own"),
        ({"product": "plate-4", "drift": (DriftSettings(kind="defocus", amount=1.0),)}, "can't drift in defocus"),
        ({"product": "disc-2", "drift": (lamp.model_copy(update={"line": "az090"}),)}, "names the line az090"),
    ):
        with pytest.raises(ConfigurationError, match=why):
            open_cell(EmulatedCellSettings.model_validate(wrong))
