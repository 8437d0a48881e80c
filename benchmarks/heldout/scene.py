"""Path tracing of a part under its rig's lights with Mitsuba 3, and the render of its defect's id.

Everything is monochrome: all lights are 625 nm LEDs, metals carry their tabulated complex index at that wavelength. The
renderer's colour channels are used for two or three lights at once: materials are grey, so light that starts red
arrives red, and one pass of Mitsuba's own path integrator yields a picture a light.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.heldout.model import PIXEL_MM, Field, Grid, Material, Model, Region
from benchmarks.heldout.rigs import STANDARD, Rig

VARIANT = "llvm_ad_rgb"
#: Rays a pixel in one call of the renderer: bounds its memory; a power of four, as the low-discrepancy sampler needs.
CHUNK = 64
#: A pixel belongs to the defect when at least this share of its rays meets it.
COVERED = 0.4
_RADIUS_MM = 80.0


@dataclass(frozen=True, slots=True)
class Renderer:
    """Mitsuba, loaded and set to one thread, so that equal seeds give equal pictures."""

    mi: Any
    dr: Any
    rig: Rig = STANDARD
    depth: int = 4

    @classmethod
    def load(cls, rig: Rig = STANDARD) -> Renderer:
        """Load the renderer. Raises `ImportError` without the extra `heldout`, `RuntimeError` without LLVM."""
        mi, dr = importlib.import_module("mitsuba"), importlib.import_module("drjit")
        mi.set_variant(VARIANT)
        dr.set_thread_count(1)
        mi.set_log_level(mi.LogLevel.Error)
        return cls(mi, dr, rig)

    @property
    def version(self) -> str:
        """Return the versions that a picture depends on."""
        return f"mitsuba {self.mi.__version__}, drjit {self.dr.__version__}, {VARIANT}"

    def place(self, grid: Grid, model: Model) -> tuple[Any, Region]:
        """Return the part's scene and its defect's mask (H, W)."""
        scene = self.mi.load_dict(self._scene(grid, model))
        return scene, self._mask(scene, grid, model)

    def radiance(self, scene: Any, samples: int, seed: int) -> Field:
        """Return the expected radiance (K, H, W) under each light of the rig.

        :param samples: paths a pixel of each pass: a power of four, or a multiple of `CHUNK`.
        """
        parameters = self.mi.traverse(scene)
        pictures: dict[str, Field] = {}
        for number, lights in enumerate(self.rig.passes):
            self._switch(parameters, lights)
            chunks = max(samples // CHUNK, 1)
            total: Field | float = 0.0
            for chunk in range(chunks):
                seed_here = (seed * 64 + number * 32 + chunk) % 2**31
                picture = self.mi.render(scene, spp=min(samples, CHUNK), seed=seed_here)
                total = total + np.asarray(picture, np.float64)[..., :3]
            for channel, light in enumerate(lights):
                pictures[light] = np.asarray(total)[..., channel] / chunks
        return np.stack([pictures[light] for light in self.rig.lights])

    def _switch(self, parameters: Any, lit: tuple[str, ...]) -> None:
        for light in self.rig.lights:
            colour = [0.0, 0.0, 0.0]
            if light in lit:
                colour[lit.index(light)] = 1.0
            parameters[f"light_{light}.emitter.radiance.value"] = self.mi.Color3f(*colour)
            parameters[f"light_{light}.emitter.sampling_weight"] = 1.0 if light in lit else 0.0
        parameters.update()

    def _scene(self, grid: Grid, model: Model) -> dict[str, Any]:
        transform = self.mi.ScalarTransform4f
        scene: dict[str, Any] = {
            "type": "scene",
            "integrator": {"type": "path", "max_depth": self.depth, "rr_depth": 100},
            "sensor": {
                "type": "orthographic",
                "to_world": transform().look_at(origin=[0, 0, 30], target=[0, 0, 0], up=[0, 1, 0])
                @ transform().scale([grid.width * PIXEL_MM / 2, grid.width * PIXEL_MM / 2, 1]),
                "film": {
                    "type": "hdrfilm",
                    "width": grid.width,
                    "height": grid.height,
                    "rfilter": {"type": "box"},
                    "pixel_format": "rgb",
                    "component_format": "float32",
                },
                "sampler": {"type": "ldsampler", "sample_count": CHUNK},
            },
            "surface": self._mesh("surface", *_surface(grid, model.height), material=model.material),
        }
        for index, solid in enumerate(model.solids):
            scene[_solid_name(index)] = self._mesh(
                _solid_name(index), solid.vertices, solid.faces, material=solid.material
            )
        for light in self.rig.lights:
            vertices, faces = _zone(*self.rig.zones[light])
            emitter = {"type": "area", "radiance": {"type": "rgb", "value": [1.0, 1.0, 1.0]}}
            scene[f"light_{light}"] = self._mesh(f"light_{light}", vertices, faces, emitter=emitter)
        return scene

    def _mesh(
        self,
        name: str,
        vertices: Field,
        faces: NDArray[np.uint32],
        texture: Field | None = None,
        *,
        material: Material | None = None,
        emitter: Mapping[str, Any] | None = None,
    ) -> Any:
        properties = self.mi.Properties()
        black = {"type": "diffuse", "reflectance": {"type": "rgb", "value": 0.0}}
        properties["bsdf"] = self.mi.load_dict(self._bsdf(material or black))
        if emitter is not None:
            properties["emitter"] = self.mi.load_dict(dict(emitter))
        mesh = self.mi.Mesh(
            name,
            vertex_count=len(vertices),
            face_count=len(faces),
            has_vertex_texcoords=texture is not None,
            props=properties,
        )
        parameters = self.mi.traverse(mesh)
        parameters["vertex_positions"] = self.mi.Float(vertices.astype(np.float32).ravel())
        parameters["faces"] = self.mi.UInt32(faces.astype(np.uint32).ravel())
        if texture is not None:
            parameters["vertex_texcoords"] = self.mi.Float(texture.astype(np.float32).ravel())
        parameters.update()
        return mesh

    def _bsdf(self, material: Material) -> dict[str, Any]:
        """Replace fields by textures, in Mitsuba's own dictionary."""
        built: dict[str, Any] = {}
        for key, value in material.items():
            if isinstance(value, np.ndarray):
                bitmap = self.mi.Bitmap(np.ascontiguousarray(value[..., None], np.float32))
                built[key] = {"type": "bitmap", "bitmap": bitmap, "raw": True, "wrap_mode": "clamp"}
            elif isinstance(value, Mapping):
                built[key] = self._bsdf(value)
            else:
                built[key] = value
        return built

    def _mask(self, scene: Any, grid: Grid, model: Model) -> Region:
        """Cast 16 rays a pixel down the camera's axis and ask each what it met: the defect's id, not its looks."""
        if not model.defect.any() and not any(solid.is_defect for solid in model.solids):
            return np.zeros((grid.height, grid.width), np.bool_)
        fine = 4
        rows, columns = grid.height * fine, grid.width * fine
        step = PIXEL_MM / fine
        y, x = np.meshgrid(
            (np.arange(rows) - (rows - 1) / 2)[::-1] * step,
            (np.arange(columns) - (columns - 1) / 2) * step,
            indexing="ij",
        )
        origin = self.mi.Point3f(x.ravel().astype(np.float32), y.ravel().astype(np.float32), 30.0)
        hit = scene.ray_intersect(self.mi.Ray3f(origin, self.mi.Vector3f(0, 0, -1)))
        met = np.zeros(rows * columns, np.bool_)
        on_solid = np.zeros(rows * columns, np.bool_)
        shapes = {shape.id(): shape for shape in scene.shapes()}
        for index, solid in enumerate(model.solids):
            this = np.asarray(hit.shape == self.mi.ShapePtr(shapes[_solid_name(index)])).astype(np.bool_)
            on_solid |= this
            if solid.is_defect:
                met |= this
        row = np.clip(np.round((grid.y[0, 0] - y.ravel()) / grid.step).astype(int), 0, grid.shape[0] - 1)
        column = np.clip(np.round((x.ravel() - grid.x[0, 0]) / grid.step).astype(int), 0, grid.shape[1] - 1)
        met |= ~on_solid & model.defect[row, column]
        share = met.reshape(grid.height, fine, grid.width, fine).mean(axis=(1, 3))
        covered: Region = share >= COVERED
        return covered


def _solid_name(index: int) -> str:
    return f"solid_{index:02d}"


def _surface(grid: Grid, height: Field) -> tuple[Field, NDArray[np.uint32], Field]:
    """Return the height field as vertices, faces that look up, and texture coordinates."""
    rows, columns = grid.shape
    vertices = np.stack([grid.x, grid.y, height], axis=-1).reshape(-1, 3)
    index = np.arange(rows * columns, dtype=np.uint32).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1].ravel(), index[:-1, 1:].ravel(), index[1:, 1:].ravel(), index[1:, :-1].ravel()
    faces = np.concatenate([np.stack([a, d, b], axis=1), np.stack([b, d, c], axis=1)])
    v, u = np.meshgrid((np.arange(rows) + 0.5) / rows, (np.arange(columns) + 0.5) / columns, indexing="ij")
    return vertices, faces, np.stack([u, v], axis=-1).reshape(-1, 2)


def _zone(polar: tuple[float, float], azimuth: tuple[float, float]) -> tuple[Field, NDArray[np.uint32]]:
    """Return a zone of the sphere as a mesh that looks inwards."""
    rings, sectors = 8, max(int((azimuth[1] - azimuth[0]) / 5), 4)
    theta = np.deg2rad(np.linspace(*polar, rings + 1))[:, None]
    phi = np.deg2rad(np.linspace(*azimuth, sectors + 1))[None, :]
    vertices = _RADIUS_MM * np.stack(
        [np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta) * np.ones_like(phi)], axis=-1
    )
    index = np.arange((rings + 1) * (sectors + 1), dtype=np.uint32).reshape(rings + 1, sectors + 1)
    a, b, c, d = index[:-1, :-1].ravel(), index[:-1, 1:].ravel(), index[1:, 1:].ravel(), index[1:, :-1].ravel()
    faces = np.concatenate([np.stack([a, b, d], axis=1), np.stack([b, c, d], axis=1)])
    return vertices.reshape(-1, 3), faces
