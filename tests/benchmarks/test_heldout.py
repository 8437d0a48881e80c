"""The held-out set is what its manifests say, loads as any product does, and shares nothing with the emulator."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
from collections import Counter
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from benchmarks import _layout, fewshot
from benchmarks.heldout.fields import ball_mesh
from benchmarks.heldout.model import HEIGHT, PIXEL_MM, WIDTH, Model, Solid, make_grid
from benchmarks.heldout.plan import COMMITTED, PRODUCTS, plan
from benchmarks.heldout.render import committed_manifest
from benchmarks.heldout.rigs import RING, STANDARD, Rig
from benchmarks.heldout.scene import Renderer
from benchmarks.heldout.stacks import stack_parts
from cell.defects import Sample
from cell.errors import DataError
from cell.imaging.folders import read_folder

ROOT = Path(__file__).parents[2] / "benchmarks" / "heldout"
DATA = ROOT / "data"
NAMES = sorted(COMMITTED)
#: Their pictures are too many to commit; their manifests are.
RENDERED = sorted(set(PRODUCTS) - set(COMMITTED))
LIGHTS = STANDARD.lights
#: Parts that a committed product has at least; the plan's last ones may still have to be rendered.
LEAST_BACKGROUNDS, LEAST_TEST_GOOD, LEAST_TEST = 40, 30, 8


@cache
def manifest(product: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(committed_manifest(product).read_text(encoding="utf-8"))
    return content


@cache
def parts(product: str) -> dict[str, list[Sample]]:
    loaded = _layout.load(DATA / product, 99)
    return {
        "seeds": stack_parts(loaded.seeds),
        "backgrounds": stack_parts(loaded.backgrounds),
        "test": stack_parts(loaded.test),
    }


@pytest.mark.parametrize("product", NAMES)
def test_files_are_those_of_the_manifest(product: str) -> None:
    listed = {name: digest for part in manifest(product)["parts"] for name, digest in part["files"].items()}
    present = {str(path.relative_to(DATA / product)): path for path in (DATA / product).rglob("*.png")}
    assert set(present) == set(listed)
    wrong = [name for name, path in present.items() if hashlib.sha256(path.read_bytes()).hexdigest() != listed[name]]
    assert not wrong


@pytest.mark.parametrize("product", [*NAMES, *RENDERED])
def test_manifest_follows_the_plan(product: str) -> None:
    rendered = {part["part"]: (part["folder"], part["class"], part["path_seed"]) for part in manifest(product)["parts"]}
    wanted = {part.name: (part.folder, part.defect_class, part.path_seed) for part in plan((product,))}
    assert rendered.items() <= wanted.items()
    head = manifest(product)
    assert head["renderer"].startswith("mitsuba 3.")
    assert tuple(head["lights"].values()) == PRODUCTS[product].rig.lights
    assert len(head["exposures"]) == len(head["lights"])
    assert head["classes"] == list(PRODUCTS[product].defect_classes)
    assert all(part["seconds"] > 0 and part["pixels"] for part in head["parts"])


@pytest.mark.parametrize("product", NAMES)
def test_loads_with_every_part_and_nothing_left_out(product: str) -> None:
    folder = read_folder(DATA / product)
    assert folder.misfits == ()
    assert folder.classes == PRODUCTS[product].defect_classes
    loaded, counts = parts(product), PRODUCTS[product].counts
    classes = len(folder.classes)
    assert len(loaded["seeds"]) == counts.seeds * classes
    assert LEAST_BACKGROUNDS <= len(loaded["backgrounds"]) <= counts.backgrounds
    good = sum(not sample.labels.any() for sample in loaded["test"])
    assert LEAST_TEST_GOOD <= good <= counts.test_good
    assert LEAST_TEST * classes <= len(loaded["test"]) - good <= counts.test * classes
    for sample in (*loaded["seeds"], *loaded["backgrounds"], *loaded["test"]):
        assert sample.stack.shape == (len(LIGHTS), HEIGHT, WIDTH)
        assert sample.stack.dtype == np.uint8


@pytest.mark.parametrize("product", NAMES)
def test_lights_show_different_things_and_are_well_exposed(product: str) -> None:
    good = np.stack([sample.stack for sample in parts(product)["backgrounds"]]).astype(float)
    clipped = (good >= 255).mean(axis=(0, 2, 3))
    assert clipped.max() < 0.05
    assert (good.std(axis=(0, 2, 3)) > 4).all()
    own = (good - good.mean(axis=0)).swapaxes(0, 1).reshape(len(LIGHTS), -1)  # what all parts share is mostly outline
    assert (np.abs(np.corrcoef(own)[np.triu_indices(len(LIGHTS), 1)]) < 0.97).all()


@pytest.mark.parametrize("product", NAMES)
def test_no_part_came_twice(product: str) -> None:
    """Parts are compared without what all share: their mean and the ten main variations, which are mostly placement."""
    samples = [sample for group in parts(product).values() for sample in group]
    noise = np.random.default_rng(1).normal(0, 2, samples[0].stack.shape)
    twin = np.clip(samples[0].stack * 1.02 + noise, 0, 255)
    looks = np.stack([fingerprint(stack) for stack in (*(sample.stack for sample in samples), twin)])
    looks -= looks[:-1].mean(axis=0)
    shared = np.linalg.svd(looks[:-1], full_matrices=False)[2][:10]
    looks -= looks @ shared.T @ shared
    looks /= np.linalg.norm(looks, axis=1, keepdims=True)
    likeness = looks @ looks.T
    assert likeness[-1].argsort()[-2] == 0
    assert likeness[-1, 0] > 0.95, "a part with fresh noise and a brighter lamp would not be recognised"
    np.fill_diagonal(likeness, -1)
    most = np.unravel_index(likeness[:-1, :-1].argmax(), (len(samples), len(samples)))
    assert likeness[most] < 0.9, [samples[int(at)].group for at in most]


def fingerprint(stack: NDArray[Any]) -> NDArray[np.float64]:
    """A part under all lights, at half size."""
    pixels = stack.astype(np.float64).reshape(len(LIGHTS), HEIGHT // 2, 2, WIDTH // 2, 2).mean(axis=(2, 4))
    return (pixels - pixels.mean(axis=(1, 2), keepdims=True)).ravel()


@pytest.mark.parametrize("product", NAMES)
def test_masks_are_where_the_part_differs_from_good_ones(product: str) -> None:
    """Over all defective parts, pixels in the mask leave the good parts' range far more often than the others do."""
    loaded = parts(product)
    good = np.stack([sample.stack for sample in loaded["backgrounds"]]).astype(float)
    low, high = good.min(axis=0) - 6, good.max(axis=0) + 6
    inside, outside = [], []
    for sample in (*loaded["seeds"], *(sample for sample in loaded["test"] if sample.labels.any())):
        strange = ((sample.stack < low) | (sample.stack > high)).any(axis=0)
        marked = sample.labels > 0
        inside.append(strange[marked].mean())
        outside.append(strange[~marked].mean())
    assert np.mean(inside) > 4 * np.mean(outside)


@pytest.mark.parametrize("product", RENDERED)
def test_products_that_are_rendered_where_needed_are_whole_in_their_manifest(product: str) -> None:
    """Every part of the plan is in it once, with a picture a light, and its defects are as varied as they should be."""
    kind, rendered = PRODUCTS[product], manifest(product)["parts"]
    assert sorted(part["part"] for part in rendered) == sorted(part.name for part in plan((product,)))
    assert len({part["pixels"] for part in rendered}) == len(rendered)
    for part in rendered:
        assert len(part["files"]) == len(kind.rig.lights) * (2 if part["class"] else 1)
    for defect_class in kind.defect_classes:
        sizes = np.array([part["mask_px"] for part in rendered if part["class"] == defect_class])
        assert sizes.min() >= 10
        assert np.quantile(sizes, 0.9) > 2.5 * np.quantile(sizes, 0.1), (defect_class, sorted(sizes))


def test_the_set_is_small() -> None:
    assert sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file()) < 25e6


#: Parts of each folder and class that the benchmark is run on here.
FEW = {"seeds": 1, "backgrounds": 3, "test": 2}


def few_of(product: str, folder: Path) -> Path:
    """Copy the first parts of each folder and class of a product."""
    taken: Counter[str] = Counter()
    for part in manifest(product)["parts"]:
        taken[part["folder"]] += 1
        if taken[part["folder"]] <= FEW[part["folder"].split("/")[0]]:
            for name in part["files"]:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(DATA / product / name, folder / name)
    return folder


def test_the_benchmark_runs_on_it(tmp_path: Path) -> None:
    """On a few parts of each kind: the whole set takes minutes, and what it holds is looked at above."""
    out = tmp_path / "gear.json"
    data = few_of("gear", tmp_path / "gear")
    arguments = ["--data", str(data), "--shots", "1", "--updates", "2", "--batch", "2", "--folds", "0", "--quiet"]
    assert fewshot.main([*arguments, "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    classes = PRODUCTS["gear"].defect_classes
    assert len(result["scores"]) == len(LIGHTS) * FEW["test"] * (len(classes) + 1)
    assert {truth for truth, *_ in result["scores"].values()} == {"good", *classes}
    assert set(result["auroc_by_class"]) == set(classes)


def test_nothing_is_shared_with_the_emulated_cell() -> None:
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not [name for name in names if name.split(".")[0] in {"drivers", "daemon", "trainer"}], path
    code = "import sys, benchmarks.heldout.render; sys.exit(any(m.split('.')[0] == 'drivers' for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT.parents[1], check=False).returncode == 0


@pytest.mark.parametrize("product", sorted(PRODUCTS))
def test_models_are_equal_for_equal_seeds_and_differ_between_parts(product: str) -> None:
    kind = PRODUCTS[product]
    grid = make_grid(2, kind.size)
    for defect_class in kind.defect_classes:
        first, second = [part for part in plan((product,)) if part.defect_class == defect_class][:2]
        one, again, other = (
            kind.build(grid, part.random("part"), defect_class, part.random("defect"))
            for part in (first, first, second)
        )
        assert np.array_equal(one.height, again.height)
        assert np.array_equal(one.defect, again.defect)
        assert not np.array_equal(one.height, other.height)
        assert one.defect.any() or any(solid.is_defect for solid in one.solids)


def test_stacks_refuse_parts_with_unequal_lights() -> None:
    def sample(part: str, light: int, width: int = 8) -> Sample:
        stack = np.full((1, 8, width), light, np.uint8)
        return Sample(stack, np.zeros((8, width), np.uint8), part, sample_id=f"{part}_e{light}")

    stacked = stack_parts([sample("a", 2), sample("a", 1), sample("b", 1), sample("b", 2)])
    assert [one.sample_id for one in stacked] == ["a", "b"]
    assert stacked[0].stack[:, 0, 0].tolist() == [1, 2]
    with pytest.raises(DataError, match="parts have 1 to 2 pictures"):
        stack_parts([sample("a", 1), sample("b", 1), sample("b", 2)])
    with pytest.raises(DataError, match="differ in size"):
        stack_parts([sample("a", 1), sample("a", 2, 9)])


def test_a_random_stream_depends_on_the_part_and_its_use_alone() -> None:
    parts = [part for pilot in (False, True) for part in plan(tuple(PRODUCTS), pilot=pilot)]
    streams = [part.random(use).integers(2**62) for part in parts for use in ("part", "defect", "sensor")]
    assert len(set(streams)) == len(streams)
    assert all(one.path_seed != other.path_seed for one, other in combinations(plan(("gear",)), 2))


RENDERS = pytest.mark.skipif(importlib.util.find_spec("mitsuba") is None, reason="the extra 'heldout' is not installed")


@pytest.mark.slow
@RENDERS
@pytest.mark.parametrize("rig", [STANDARD, RING], ids=["four", "eight"])
def test_a_matt_plane_is_as_bright_as_the_lights_subtend(rig: Rig) -> None:
    """Lambert: reflectance times the light's share of the projected hemisphere, at the picture's centre."""
    grid = make_grid(1)
    plane = Model(np.zeros(grid.shape), {"type": "diffuse", "reflectance": 0.5}, np.zeros(grid.shape, np.bool_))
    renderer = Renderer.load(rig)
    radiance = renderer.radiance(renderer.place(grid, plane)[0], 64, 1)
    centre = radiance[:, HEIGHT // 2 - 10 : HEIGHT // 2 + 10, WIDTH // 2 - 10 : WIDTH // 2 + 10].mean(axis=(1, 2))
    polar = np.deg2rad([zone[0] for zone in rig.zones.values()])
    turn = np.array([(zone[1][1] - zone[1][0]) / 360 for zone in rig.zones.values()])
    expected = 0.5 * (np.sin(polar[:, 1]) ** 2 - np.sin(polar[:, 0]) ** 2) * turn
    assert centre == pytest.approx(expected, rel=0.005)


@pytest.mark.slow
@RENDERS
def test_the_mask_is_what_the_camera_sees_of_the_defect() -> None:
    """A defect right of and above the centre, half of it under a lid, is marked there and not where the lid is."""
    grid = make_grid(2)
    region = (grid.x > 1) & (grid.x < 3) & (grid.y > 1) & (grid.y < 2)
    vertices, faces = ball_mesh(1)
    lid = np.where(np.abs(vertices) < 1e-9, 0, np.sign(vertices)) * [0.5, 1.0, 0.05] + [2.5, 1.5, 1.0]
    grey = {"type": "diffuse", "reflectance": 0.5}
    solids = (Solid(lid, faces, grey, is_defect=False),)
    mask = Renderer.load().place(grid, Model(np.zeros(grid.shape), grey, region, solids))[1]
    rows, columns = np.nonzero(mask)
    x, y = (columns + 0.5 - WIDTH / 2) * PIXEL_MM, (HEIGHT / 2 - rows - 0.5) * PIXEL_MM
    assert 0.98 < x.min() < 1.08
    assert x.max() < 2.1
    assert 0.98 < y.min() < 1.08
    assert 1.92 < y.max() < 2.02


@pytest.mark.slow
@RENDERS
def test_rendering_again_gives_the_committed_pixels(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.heldout.render", "--out", str(tmp_path), "--part", "p000"]
    subprocess.run(command, cwd=ROOT.parents[1], check=True, timeout=400)
    for product in (*NAMES, *RENDERED):
        again = json.loads((tmp_path / product / "manifest.json").read_text())
        known = next(part for part in manifest(product)["parts"] if part["part"] == "p000")
        if again["renderer"] != manifest(product)["renderer"]:
            pytest.skip("another version of the renderer is installed")
        assert again["parts"][0]["pixels"] == known["pixels"]
        if product in RENDERED:
            continue
        picture = next(iter(known["files"]))
        rendered = np.asarray(Image.open(tmp_path / product / picture))
        assert np.array_equal(rendered, np.asarray(Image.open(DATA / product / picture)))
