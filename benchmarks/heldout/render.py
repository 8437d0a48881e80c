"""Render the held-out set, or what is missing of it.

    python -m benchmarks.heldout.render --out DIR [--product P] [--part NAME] [--samples N] [--resume]

Each product gets a folder in the layout of docs/data-layout.md and a ``manifest.json`` with every file's hash. Needs
the extra ``heldout`` and LLVM 19; DRJIT_LIBLLVM_PATH names its library when the loader does not find it. On
one core a part takes about five seconds (two and a half of the hard products). Equal versions give equal pixels, in any
order and after any interruption; the exit status is 1 when a part has other pixels than the committed manifest says.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.heldout.model import PIXEL_MM, Field, Grid, Region, make_grid
from benchmarks.heldout.plan import COMMITTED, PRODUCTS, Planned, plan
from benchmarks.heldout.scene import Renderer
from benchmarks.heldout.sensor import Sensor

MANIFEST = "manifest.json"
#: A defect that shows in fewer pixels is drawn again: hidden behind a body, or out of the picture.
_LEAST_AREA, _MOST_SHARE = 10, 5
_ATTEMPTS = 30
_LAMP_SPREAD = 0.015


def main(arguments: Sequence[str] | None = None) -> int:
    """Render; return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        renderer = Renderer.load()
    except (ImportError, RuntimeError) as error:
        print(f"heldout: {error}; install the extra 'heldout' and LLVM 19 (libllvm19)", file=sys.stderr)
        return 69
    products = tuple(options.product or PRODUCTS)
    samples = {product: options.samples or PRODUCTS[product].samples for product in products}
    renderers = {
        product: replace(renderer, rig=PRODUCTS[product].rig, depth=PRODUCTS[product].depth) for product in products
    }
    manifests = {product: _Manifest(options.out / product, renderer, samples[product]) for product in products}
    grids = {product: make_grid(PRODUCTS[product].fineness, PRODUCTS[product].size) for product in products}
    for number, part in enumerate(parts := plan(products, pilot=options.pilot)):
        manifest = manifests[part.product]
        if (options.part and part.name not in options.part) or (options.resume and manifest.has(part)):
            continue
        started = time.monotonic()
        record, files = render_part(renderers[part.product], grids[part.product], part, samples[part.product])
        record["seconds"] = round(time.monotonic() - started, 1)
        manifest.add(record, files)
        print(f"{number + 1}/{len(parts)} {part.product} {part.folder} {part.name} {record['seconds']} s", flush=True)
    differing = [] if options.pilot else [line for name in products for line in _differing(name, manifests[name])]
    print("\n".join(differing), end="\n" if differing else "", file=sys.stderr)
    return 1 if differing else 0


def committed_manifest(product: str) -> Path:
    """Return where the manifest of a product is committed."""
    here = Path(__file__).parent
    return here / "data" / product / MANIFEST if product in COMMITTED else here / "manifests" / f"{product}.json"


def _differing(product: str, manifest: _Manifest) -> list[str]:
    """Say which parts have other pixels than the committed manifest has, when it was made with the same settings."""
    if not committed_manifest(product).is_file():
        return []
    known = json.loads(committed_manifest(product).read_text(encoding="utf-8"))
    other = manifest.other_pixels(known)
    return [f"heldout: {product} {', '.join(other)} differ from {committed_manifest(product)}"] if other else []


def render_part(
    renderer: Renderer, grid: Grid, part: Planned, samples: int
) -> tuple[dict[str, Any], dict[str, NDArray[np.uint8]]]:
    """Return one part's record and its pictures by path: one a light, and its mask beside each when it has a defect."""
    kind = PRODUCTS[part.product]
    for attempt in range(_ATTEMPTS):
        model = kind.build(grid, part.random("part"), part.defect_class, part.random("defect", attempt))
        scene, mask = renderer.place(grid, model)
        if not part.defect_class or _LEAST_AREA <= mask.sum() <= mask.size // _MOST_SHARE:
            break
    else:
        raise RuntimeError(f"no {part.defect_class} of {part.product} {part.name} shows in the picture")
    radiance = renderer.radiance(scene, samples, part.path_seed)
    pictures = _expose(radiance, part, kind.exposures)
    files = {f"{part.folder}/{part.name}_e{light + 1}.png": picture for light, picture in enumerate(pictures)}
    if part.defect_class:
        grey = np.where(mask, 255, 0).astype(np.uint8)
        files |= {f"{part.folder}/{part.name}_e{light + 1}_mask.png": grey for light in range(len(pictures))}
    record = {
        "part": part.name,
        "folder": part.folder,
        "class": part.defect_class,
        "attempt": attempt,
        "path_seed": part.path_seed,
        "mask_px": int(mask.sum()) if part.defect_class else 0,
        "facts": {name: round(value, 4) for name, value in model.facts.items()},
        "pixels": _pixel_hash(pictures, mask if part.defect_class else np.zeros_like(mask)),
    }
    return record, files


def _expose(radiance: Field, part: Planned, exposures: tuple[float, ...]) -> list[NDArray[np.uint8]]:
    """Take one picture a light; a lamp is a little brighter or darker from part to part."""
    random, sensor = part.random("sensor"), Sensor()
    lamps = 1 + _LAMP_SPREAD * random.standard_normal(len(exposures))
    return [sensor.expose(one, exposures[light] * lamps[light], random) for light, one in enumerate(radiance)]


def _pixel_hash(pictures: list[NDArray[np.uint8]], mask: Region) -> str:
    digest = hashlib.sha256(np.stack(pictures).tobytes())
    digest.update(mask.astype(np.uint8).tobytes())
    return digest.hexdigest()


class _Manifest:
    """A product's manifest on disk: a part is in it once all its files are."""

    def __init__(self, root: Path, renderer: Renderer, samples: int) -> None:
        self._root = root
        kind = PRODUCTS[root.name]
        self._head: dict[str, Any] = {
            "product": root.name,
            "renderer": renderer.version,
            "samples": samples,
            "lights": {f"e{index + 1}": light for index, light in enumerate(kind.rig.lights)},
            "exposures": list(kind.exposures),
            "classes": list(kind.defect_classes),
            "pixel_mm": PIXEL_MM,
            "sensor": asdict(Sensor()),
        }
        self._parts: dict[str, dict[str, Any]] = {}
        if (root / MANIFEST).is_file():
            known = json.loads((root / MANIFEST).read_text(encoding="utf-8"))
            same = all(known.get(key) == value for key, value in self._head.items())
            self._parts = {record["part"]: record for record in known["parts"]} if same else {}

    def has(self, part: Planned) -> bool:
        """Return whether the part was rendered with these very versions and settings."""
        record = self._parts.get(part.name)
        return record is not None and all((self._root / name).is_file() for name in record["files"])

    def other_pixels(self, known: dict[str, Any]) -> list[str]:
        """Return the parts that a manifest of equal versions and settings knows with other pixels."""
        if any(known.get(key) != value for key, value in self._head.items()):
            return []
        pixels = {record["part"]: record["pixels"] for record in known["parts"]}
        return [name for name, record in sorted(self._parts.items()) if pixels.get(name) != record["pixels"]]

    def add(self, record: dict[str, Any], files: dict[str, NDArray[np.uint8]]) -> None:
        """Write a part's files, then the manifest."""
        record["files"] = {name: self._write(name, pixels) for name, pixels in files.items()}
        self._parts[record["part"]] = record
        parts = [self._parts[name] for name in sorted(self._parts)]
        lines = ",\n".join(json.dumps(part) for part in parts)
        head = json.dumps(self._head, indent=1)[:-2]
        _replace(self._root / MANIFEST, f'{head},\n "parts": [\n{lines}\n]}}\n'.encode())

    def _write(self, name: str, pixels: NDArray[np.uint8]) -> str:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=9)
        _replace(self._root / name, buffer.getvalue())
        return hashlib.sha256(buffer.getvalue()).hexdigest()


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)  # noqa: PTH105  (the same file system: atomic)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.heldout.render", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write; each product gets a folder in it")
    parser.add_argument("--product", action="append", choices=sorted(PRODUCTS), help="this one alone; may be repeated")
    parser.add_argument("--part", action="append", help="this part alone (as p017); may be repeated")
    parser.add_argument("--samples", type=int, help="paths a pixel, a power of four or a multiple of 64")
    parser.add_argument("--pilot", action="store_true", help="a few parts of another draw, to choose parameters with")
    parser.add_argument("--resume", action="store_true", help="leave what the manifest already has")
    return parser


if __name__ == "__main__":
    sys.exit(main())
