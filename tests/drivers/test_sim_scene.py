"""What a person in the trade would hold against the pictures: texture like that of photographs, print that reads."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest

from benchmarks.scene import rendered, texture
from drivers.sim.products.catalogue import named
from drivers.sim.products.print import artwork
from drivers.sim.render.lamps import LampKind, rig
from drivers.sim.render.shadow import Relief
from drivers.sim.render.textures import grooves, rough
from drivers.sim.render.workpiece import Canvas, Placement, blank
from drivers.sim.studio import StudioProduct

#: Tenth and ninetieth percentiles of 360 photographs of ground magnetic tiles, `python -m benchmarks.scene`.
PHOTOGRAPHS = {
    "contrast": (0.073, 0.126),
    "skew": (0.13, 1.38),
    "kurtosis": (0.47, 6.5),
    "highlights": (0.003, 0.013),
    "lag1_across": (0.39, 0.81),
    "lag4_across": (0.19, 0.60),
    "slope": (-2.08, -1.01),
    "slope_across": (-1.18, -0.23),
}
#: Widths of bars and spaces of a digit, ISO/IEC 15420, set A; set B is its mirror.
EAN = ("3211", "2221", "2122", "1411", "1132", "1231", "1114", "1312", "1213", "3112")
PARITY = ("000000", "001011", "001101", "001110", "010011", "011001", "011100", "010101", "010110", "011010")


def test_a_brushed_sheet_has_the_texture_of_photographs() -> None:
    """Lines of all widths, some of which flash: not soft bands of one width, which are Gaussian and blurred."""
    found = [texture(grey, lay_down=False) for grey in rendered("brushed", "az090", (24, 64, 192, 144), 2)]
    for name, (low, high) in PHOTOGRAPHS.items():
        mean = float(np.mean([getattr(one, name) for one in found]))
        assert low <= mean <= high, f"{name} is {mean:.3f}, of photographs {low} to {high}"


@pytest.mark.parametrize("hurst", [0.5, 0.85])
def test_surfaces_have_the_spectrum_that_they_are_asked_for(hurst: float) -> None:
    """Self-affine: power falls as f^-(2 + 2H) over an isotropic surface, as f^-(1 + 2H) across grooves."""
    generator = np.random.Generator(np.random.SFC64(5))
    shape, step = (512, 512), 0.025
    frequency = np.fft.rfftfreq(512, step)
    band = (frequency > 2.0) & (frequency < 12.0)

    def exponent(field: np.ndarray, more: float) -> float:
        # A profile of an isotropic surface has one power of f less than the surface.
        power = (np.abs(np.fft.rfft(field, axis=0)) ** 2).mean(axis=1)
        return float(np.polyfit(np.log(frequency[band]), np.log(power[band]), 1)[0]) - more

    isotropic = rough(generator, shape, step, grain_mm=4.0, hurst=hurst)
    assert exponent(isotropic, 1) == pytest.approx(-2 - 2 * hurst, abs=0.25)
    ground = grooves(generator, shape, step, along_mm=1.0, coarsest_mm=4.0, hurst=hurst)
    assert exponent(ground, 0) == pytest.approx(-1 - 2 * hurst, abs=0.25)


def test_a_lamp_shows_the_slopes_that_face_it() -> None:
    """The directional filter of Kube and Pentland (1988): a matt relief lit from the right shows what runs down."""

    def directed(light: str) -> float:
        pictures = rendered("moulded", light, (212, 82, 64, 92), 1)
        return texture(next(pictures), lay_down=False).across_over_along

    assert directed("az000") < 1 / 4
    assert directed("az090") > 4
    assert 0.4 < directed("dome") < 2.5


def test_the_shadow_of_a_bar_is_soft_to_both_sides() -> None:
    """A bar 60 mm long throws half shadows beside a block's corners, without steps."""
    canvas = Canvas.make(128, 128, 0.05, 1, Placement())
    inside = np.asarray(0.6 - np.maximum(np.abs(canvas.u), np.abs(canvas.v)), np.float32)
    work = blank(canvas, inside, albedo=0.5, specular=0.04, roughness=0.4)
    work.thickness_um = 1500.0
    (bar,) = (lamp for lamp in rig("4") if lamp.name == "az000")
    assert bar.kind is LampKind.BAR
    relief = Relief(work, 1)
    shares = [relief.lit(source) for source in bar.sources()]
    lit = np.mean([share for share in shares if share is not None], axis=0)
    row = lit[:, 64 - 12 - 24]  # a column beyond the block, away from the lamp
    steps = np.unique(np.round(row, 2))
    assert row.min() == 0, "the middle sees nothing of the bar"
    assert len(steps) >= 7, f"half shadow in steps: {steps}"
    assert np.abs(np.diff(row)).max() < 0.3


def test_a_mirror_edge_does_not_show_the_points_of_a_dome() -> None:
    """The chamfer of a turned bore mirrors the dome's rim: even all round, not scalloped."""
    blueprint, lamps = named("disc-dome")
    product = StudioProduct(blueprint, lamps, 1)
    rate = product.part("good-000000").rate("dome")
    placement = product.part("good-000000").canvas.placement
    middle = np.array([128 + placement.y_mm / 0.05, 160 + placement.x_mm / 0.05]) - 0.5
    angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    ring = []
    for radius in np.arange(28.0, 30.5, 0.5):
        rows = np.round(middle[0] + radius * np.sin(angle)).astype(int)
        columns = np.round(middle[1] + radius * np.cos(angle)).astype(int)
        ring.append(rate[rows, columns])
    around = np.mean(ring, axis=0)
    spectrum = np.abs(np.fft.rfft(around / around.mean())) / len(around)
    assert spectrum[10] < 0.04, "ten points of the lowest ring can be told apart"


def test_the_bar_code_of_a_label_can_be_read() -> None:
    straight = Canvas.make(700, 880, 0.02, 1, Placement())
    row = artwork(straight.u, straight.v, 0.02)[460:480, 100:480].mean(axis=0)
    runs = [(bool(value), len(list(group))) for value, group in groupby(row > 0.5)]
    while not runs[0][0]:
        runs.pop(0)
    while not runs[-1][0]:
        runs.pop()
    module = sum(length for _, length in runs) / 95
    widths = [max(1, round(length / module)) for _, length in runs]
    assert len(widths) == 59
    left = [widths[3 + 4 * i : 7 + 4 * i] for i in range(6)]
    right = [widths[32 + 4 * i : 36 + 4 * i] for i in range(6)]
    digits, parity = "", ""
    for group in left:
        word = "".join(map(str, group))
        parity += "0" if word in EAN else "1"
        digits += str(EAN.index(word if word in EAN else word[::-1]))
    digits = str(PARITY.index(parity)) + digits + "".join(str(EAN.index("".join(map(str, group)))) for group in right)
    assert digits == "4012345678901"
    weights = [1, 3] * 6
    assert (10 - sum(int(d) * w for d, w in zip(digits, weights, strict=False)) % 10) % 10 == int(digits[-1])
