"""Recipes: what to inspect for a product, and how (OPC 40100-1's sense of the word)."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from cell import digest
from cell.base import Record

#: A name that is safe in file names, on the wire and in tables.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class Rect(Record):
    """An axis-parallel rectangle in pixels of the camera frame; `x`, `y` is the upper left corner."""

    x: int = Field(ge=0)
    y: int = Field(ge=0)
    width: int = Field(gt=0)
    height: int = Field(gt=0)

    def inside(self, height: int, width: int) -> bool:
        """Tell whether the rectangle lies wholly in an image of that size."""
        return self.x + self.width <= width and self.y + self.height <= height


class Face(Record):
    """A face of the part that does not lie at the height of the calibration's target: higher, lower or tilted.

    What stands above or below the best focus is blurred as the calibration's depth of field says.
    """

    area: Rect
    height_mm: float  # of its middle above the target's face
    rise_x_mm: float = 0.0  # by how much its right edge lies above its left one
    rise_y_mm: float = 0.0  # and its lower edge above its upper one


class SensorSetup(Record):
    """Which pixels the camera reads out and how it sends them; the frame's size is the recipe's, after binning."""

    offset_x: int = Field(default=0, ge=0)
    offset_y: int = Field(default=0, ge=0)
    binning: int = Field(default=1, ge=1, le=8)  # both ways
    #: PFNC name such as Mono12p or BayerRG8; None: the monochrome format of the recipe's bit depth.
    pixel_format: Name | None = None


class Channel(Record):
    """One illumination channel: a light setting and the exposure taken under it."""

    name: Name
    exposure_us: float = Field(gt=0)
    gain_db: float = Field(default=0.0, ge=0)
    #: Relative intensity of each light line that is on during the exposure; the others are off.
    lights: dict[Name, Fraction] = Field(min_length=1)
    #: Pulse width of the strobed lines; None: they shine as long as the exposure lasts, or continuously.
    strobe_us: float | None = Field(default=None, gt=0)
    #: Which camera takes it, by its name in the settings; all frames of a recipe have one size.
    camera: Name = "camera"
    #: Colour plane of an RGB or Bayer camera; consecutive channels that differ in nothing else share one exposure.
    plane: Literal["mono", "red", "green", "blue"] = "mono"


class DefectClass(Record):
    """One kind of defect, by the name that the quality department uses."""

    name: Name
    description: str = ""
    #: Subsurface or three-dimensional defects can't be learned from synthetic images alone.
    subsurface: bool = False
    #: Regions smaller than this many pixels are not reported.
    min_area_px: int = Field(default=1, ge=1)


class ArchiveRule(Record):
    """Which parts keep their pixels. NG and FAULT always do."""

    ok_share: Fraction = 0.05
    ring: int = Field(default=200, ge=0)  # the last N parts, whatever their verdict


class Recipe(Record):
    """What to inspect for one product."""

    recipe_id: Name
    version: int = Field(default=1, ge=1)
    product: Name
    #: Frame size in pixels and significant bits, which every frame must have.
    height: int = Field(gt=0)
    width: int = Field(gt=0)
    bit_depth: int = Field(default=8, ge=8, le=16)
    sensor: SensorSetup = SensorSetup()
    channels: tuple[Channel, ...] = Field(min_length=1, max_length=32)
    roi: Rect | None = None  # the whole frame when absent
    exclusions: tuple[Rect, ...] = ()
    #: Where they overlap the last one counts.
    faces: tuple[Face, ...] = ()
    #: DN at or below which a pixel belongs to the empty carrier; None when the part fills the frame.
    carrier_max_dn: int | None = Field(default=None, ge=0)
    defect_classes: tuple[DefectClass, ...] = Field(min_length=1)
    deadline_ms: float = Field(default=500.0, gt=0)
    #: True: the verdict's row is durable before the reply; False: after it.
    traceable: bool = True
    archive: ArchiveRule = ArchiveRule()
    #: Overrides the model's decision threshold; the operator owns it.
    threshold: Fraction | None = None

    @field_validator("channels")
    @classmethod
    def _unique_channels(cls, channels: tuple[Channel, ...]) -> tuple[Channel, ...]:
        names = [channel.name for channel in channels]
        if len(set(names)) != len(names):
            raise ValueError(f"channel names must be unique, got {names}")
        return channels

    @model_validator(mode="after")
    def _regions_fit(self) -> Self:
        regions = ((self.roi,) if self.roi else ()) + self.exclusions + tuple(face.area for face in self.faces)
        for region in regions:
            if not region.inside(self.height, self.width):
                raise ValueError(f"region {region} lies outside the {self.width}x{self.height} frame")
        names = [defect.name for defect in self.defect_classes]
        if len(set(names)) != len(names):
            raise ValueError(f"defect class names must be unique, got {names}")
        return self

    def record_digest(self) -> str:
        """Return the digest of :meth:`Record.record_digest`; fields that came later count where they say something."""
        return digest.of_record(self.model_dump(mode="json", exclude=None if self.faces else {"faces"}))

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names of the channels in stack order."""
        return tuple(channel.name for channel in self.channels)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the defect classes; index i is label value i + 1 in a label map."""
        return tuple(defect.name for defect in self.defect_classes)
