"""What is known of a cell's physics; a *configuration* in OPC 40100-1's sense."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from cell import digest
from cell.base import Record
from cell.errors import CalibrationError
from cell.recipes import Name, Recipe


class CalibrationKind(StrEnum):
    """A degraded calibration is estimated from textures of imported folders and claims no photon transfer."""

    MEASURED = "measured"  # from repeats of a still part
    DEGRADED = "degraded"  # from folders without repeats


class NoiseSource(StrEnum):
    """Where a channel's noise model comes from, the best first."""

    REPEATS = "repeats"  # photon transfer of the channel's own repeats
    SENSOR = "sensor"  # photon transfer of the same camera's other channels at the same gain
    PRODUCTION = "production"  # slope found in many different good parts, where the lens passes no texture
    TEXTURE = "texture"  # a level from single frames, an upper bound; no slope


class LightSource(StrEnum):
    """Where an illumination profile comes from."""

    FLAT = "flat"  # an even, matt target
    PARTS = "parts"  # the mean of many good parts: it holds the shading that they have in common


class SeriesKind(StrEnum):
    """Series of a still scene that a calibration is measured from: what lies before the camera."""

    REPEATS = "repeats"  # a good part, lit as in production
    DARK = "dark"  # the lights off
    FLAT = "flat"  # an even, matt target
    TARGET = "target"  # slanted edges, and dots at a known pitch
    BALL = "ball"  # a matt ball of known radius on the flat target


class NoiseModel(Record):
    """Temporal noise of one channel, EMVA 1288: variance(mu) = read_noise_dn^2 + 1/12 + gain_dn_per_e * (mu -
    offset_dn).

    All in DN of the camera's native bit depth. `gain_dn_per_e` 0 means signal-independent noise (degraded).
    """

    gain_dn_per_e: float = Field(ge=0)
    read_noise_dn: float = Field(ge=0)
    offset_dn: float
    saturation_dn: float = Field(gt=0)
    #: Correlation of neighbouring pixels' noise; above about 0.1 the image was debayered, sharpened or JPEG-coded.
    lag1_correlation: float = Field(ge=-1, le=1)
    #: Photon-transfer curve the model was fitted to: mean DN and variance DN^2 of each bin.
    curve_mean_dn: tuple[float, ...] = ()
    curve_variance_dn2: tuple[float, ...] = ()
    #: Autocorrelation of the noise at lags -m..m down and across, 1 in the middle; empty while the noise is white.
    autocorrelation: tuple[tuple[float, ...], ...] = ()


class PhotonTransfer(Record):
    """What stands behind a noise model. Shares and errors are relative; None is not known, never 0."""

    source: NoiseSource = NoiseSource.TEXTURE
    repeats: int = Field(default=0, ge=0)
    levels: int = Field(default=0, ge=0)  # exposures or light levels that the repeats were taken at
    gain_error: float | None = None  # one standard error
    read_noise_error: float | None = None
    dark_current_dn_per_s: float | None = None
    prnu: float | None = None  # standard deviation of the pixels' relative response
    dsnu_dn: float | None = None  # standard deviation of the pixels' dark level
    saturation_e: float | None = None  # electrons that fill a pixel, as far as the grey values go
    linearity_error: float | None = None  # mean deviation from the line through all exposures
    lag1_across: float | None = None
    lag1_down: float | None = None
    #: Noise power by octave of frequency, the highest first (Nyquist to a half of it, and so on); white noise has 1.
    spectrum: tuple[float, ...] = ()


class Illumination(Record):
    """Relative illumination of one channel on a coarse grid (rows of equal length), mean 1; interpolate bilinearly.

    The values are those of the cells' middles: :func:`cell.imaging.illumination.field` gives the whole frame.
    """

    grid: tuple[tuple[float, ...], ...]
    mean_dn: float
    source: LightSource = LightSource.PARTS
    relative_intensity: float | None = None  # light for the same exposure, against the brightest channel
    falloff: float | None = None  # share of the light that the darkest place lacks against the brightest
    flicker: float | None = None  # relative standard deviation from frame to frame
    drift_per_hour: float | None = None  # relative, within the repeats
    drift_per_day: float | None = None  # relative, over the good parts' dates


class Sharpness(Record):
    """Modulation transfer from slanted edges (ISO 12233), lens and pixel together."""

    mtf50: float = Field(gt=0)  # cycles per pixel
    #: Frequencies (cycles per pixel) and transfer, for the curve.
    frequency: tuple[float, ...] = ()
    mtf: tuple[float, ...] = ()
    edges: int = Field(default=0, ge=0)
    source: str = ""  # the series whose edges were taken


class LightDirection(Record):
    """Unit vector from the field's centre to the light: x right, y down, z to the camera."""

    x: float
    y: float
    z: float
    residual: float = Field(ge=0)  # what is left of the ball's light, relative

    @property
    def vector(self) -> tuple[float, float, float]:
        """(x, y, z)."""
        return self.x, self.y, self.z


class ChannelCalibration(Record):
    """One channel's physics."""

    channel: Name
    noise: NoiseModel
    illumination: Illumination
    psf_sigma_px: float = Field(ge=0)  # Gaussian equivalent of the point spread; 0 when unknown
    transfer: PhotonTransfer = PhotonTransfer()
    sharpness: Sharpness | None = None
    direction: LightDirection | None = None


class Depth(Record):
    """How far from the best focus a face may lie: the blur grows by `blur_px_per_mm` in radius with each mm."""

    focus_mm: float  # height of the best focus above the target's own face
    blur_px_per_mm: float = Field(ge=0)
    range_mm: float = Field(gt=0)  # over which MTF50 keeps four fifths of its best


class Picture(Record):
    """A picture that belongs to a calibration, below the state directory."""

    name: Name
    path: str
    digest: str


class Calibration(Record):
    """Versioned and hashed; :meth:`cell.base.Record.record_digest` names it in every candidate made with it."""

    calibration_id: Name
    recipe_id: Name
    #: Counts the calibrations of a recipe from 1.
    version: int = Field(default=1, ge=1)
    kind: CalibrationKind
    channels: tuple[ChannelCalibration, ...]
    px_per_mm: float | None = Field(default=None, gt=0)
    px_per_mm_source: str = ""
    depth: Depth | None = None
    #: Median angle, degrees, by which a Lambert surface's light under one direction departs from what the others say.
    normals_residual: float | None = None
    frames_used: int = Field(ge=1)
    findings: tuple[str, ...] = ()  # plain sentences: what could not be known and why
    created_at: datetime
    valid_until: datetime | None = None
    #: Of what the frames were taken with, see :func:`setup_digest`; empty in calibrations of before.
    setup_digest: str = ""
    pictures: tuple[Picture, ...] = ()
    emulated: bool | None = None


def setup_digest(recipe: Recipe) -> str:
    """Return the SHA-256 over all of a recipe that a calibration rests on: frame, sensor, exposures, gains, lights."""
    return digest.of_record(
        recipe.model_dump(mode="json", include={"height", "width", "bit_depth", "sensor", "channels"})
    )


def outdated(calibration: Calibration, recipe: Recipe | None, now: datetime) -> str:
    """Return why a calibration holds no longer, as the end of a sentence; empty while it holds.

    `recipe` None: only its age counts.
    """
    if calibration.valid_until is not None and calibration.valid_until <= now:
        return f"it is outdated since {calibration.valid_until:%Y-%m-%d %H:%M}"
    if recipe is None:
        return ""
    names = tuple(channel.channel for channel in calibration.channels)
    if names != recipe.channel_names:
        return f"it knows the channels {', '.join(names)}, the recipe has {', '.join(recipe.channel_names)}"
    if calibration.setup_digest not in {"", setup_digest(recipe)}:
        return "the recipe's frame, exposures, gains or lights were changed since"
    return ""


def require_current(calibration: Calibration, recipe: Recipe, now: datetime) -> Calibration:
    """Return a calibration that holds for the recipe as it is now. Raises `CalibrationError`."""
    if reason := outdated(calibration, recipe, now):
        raise CalibrationError(
            f"the calibration {calibration.calibration_id} of {recipe.recipe_id} can't be used: {reason}; "
            "run inspectctl calibrate"
        )
    return calibration
