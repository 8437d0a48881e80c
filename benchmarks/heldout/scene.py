"""Path tracing of a part under four lights with Mitsuba 3, and the render of its defect's id.

Everything is monochrome: all lights are 625 nm LEDs, metals carry their tabulated complex index at that wavelength. The
renderer's colour channels are used for two lights at once: materials are grey, so light that starts red arrives red,
and one pass of Mitsuba's own path integrator yields two pictures.

The lights are zones of a sphere of 80 mm around the part that do not overlap, so none is ever in another's way:

    e1  coaxial    0 to  9 degrees from the camera's axis, as seen over a beam splitter
    e2  dome      12 to 40 degrees all around
    e3  ring      66 to 82 degrees all around: dark field
    e4  bar       43 to 63 degrees, a sector of 80 degrees on one side
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.heldout.model import HEIGHT, PIXEL_MM, WIDTH, Field, Grid, Material, Model, Region

LIGHTS = ("coaxial", "dome", "ring", "bar")
VARIANT = "llvm_ad_rgb"
MAX_DEPTH = 4
#: Rays a pixel in one call of the renderer: bounds its memory; a power of four, as the low-discrepancy sampler needs.
CHUNK = 64
#: A pixel belongs to the defect when at least this share of its rays meets it.
COVERED = 0.4
_RADIUS_MM = 80.0
#: Light: polar angles (degrees from the camera's axis), azimuth range (degrees).
ZONES = {
    "coaxial": ((0.0, 9.0), (0.0, 360.0)),
    "dome": ((12.0, 40.0), (0.0, 360.0)),
    "ring": ((66.0, 82.0), (0.0, 360.0)),
    "bar": ((43.0, 63.0), (-40.0, 40.0)),
}
#: Lights of one pass, in the order red, green.
_PASSES = (("coaxial", "dome"), ("ring", "bar"))


@dataclass(frozen=True, slots=True)
class Renderer:
    """Mitsuba, loaded and set to one thread, so that equal seeds give equal pictures."""

    mi: Any
    dr: Any

    @classmethod
    def load(cls) -> Renderer:
        """Load the renderer. Raises `ImportError` without the extra `heldout`, `RuntimeError` without LLVM."""
        mi, dr = importlib.import_module("mitsuba"), importlib.import_module("drjit")
        mi.set_variant(VARIANT)
        dr.set_thread_count(1)
        mi.set_log_level(mi.LogLevel.Error)
        return cls(mi, dr)

    @property
    def version(self) -> str:
        """Return the versions that a picture depends on."""
        return f"mitsuba {self.mi.__version__}, drjit {self.dr.__version__}, {VARIANT}"

    def place(self, grid: Grid, model: Model) -> tuple[Any, Region]:
        """Return the part's scene and its defect's mask (H, W)."""
        scene = self.mi.load_dict(self._scene(grid, model))
        return scene, self._mask(scene, grid, model)

    def radiance(self, scene: Any, samples: int, seed: int) -> Field:
        """Return the expected radiance (4, H, W) under each light.

        :param samples: paths a pixel of each pass, a multiple of `CHUNK`.
        """
        parameters = self.mi.traverse(scene)
        pictures: dict[str, Field] = {}
        for number, lights in enumerate(_PASSES):
            self._switch(parameters, lights)
            chunks = max(samples // CHUNK, 1)
            total = np.zeros((HEIGHT, WIDTH, 3))
            for chunk in range(chunks):
                picture = self.mi.render(scene, spp=CHUNK, seed=(seed * 64 + number * 32 + chunk) % 2**31)
                total += np.asarray(picture, np.float64)[..., :3]
            for channel, light in enumerate(lights):
                pictures[light] = total[..., channel] / chunks
        return np.stack([pictures[light] for light in LIGHTS])

    def _switch(self, parameters: Any, lit: tuple[str, ...]) -> None:
        for light in LIGHTS:
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
            "integrator": {"type": "path", "max_depth": MAX_DEPTH, "rr_depth": 100},
            "sensor": {
                "type": "orthographic",
                "to_world": transform().look_at(origin=[0, 0, 30], target=[0, 0, 0], up=[0, 1, 0])
                @ transform().scale([WIDTH * PIXEL_MM / 2, WIDTH * PIXEL_MM / 2, 1]),
                "film": {
                    "type": "hdrfilm",
                    "width": WIDTH,
                    "height": HEIGHT,
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
        for light in LIGHTS:
            vertices, faces = _zone(*ZONES[light])
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
        fine = 4
        rows, columns = HEIGHT * fine, WIDTH * fine
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
        share = met.reshape(HEIGHT, fine, WIDTH, fine).mean(axis=(1, 3))
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
