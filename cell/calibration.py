"""What is known of a cell's physics; a *configuration* in OPC 40100-1's sense."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from cell.base import Record
from cell.recipes import Name


class CalibrationKind(StrEnum):
    """A degraded calibration is estimated from textures of imported folders and claims no photon transfer."""

    MEASURED = "measured"  # from repeats of a still part
    DEGRADED = "degraded"  # from folders without repeats


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


class Illumination(Record):
    """Relative illumination of one channel on a coarse grid (rows of equal length), mean 1; interpolate bilinearly."""

    grid: tuple[tuple[float, ...], ...]
    mean_dn: float


class ChannelCalibration(Record):
    """One channel's physics."""

    channel: Name
    noise: NoiseModel
    illumination: Illumination
    psf_sigma_px: float = Field(ge=0)  # Gaussian equivalent of the point spread; 0 when unknown


class Calibration(Record):
    """Versioned and hashed; :meth:`cell.base.Record.record_digest` names it in every candidate made with it."""

    calibration_id: Name
    recipe_id: Name
    kind: CalibrationKind
    channels: tuple[ChannelCalibration, ...]
    px_per_mm: float | None = Field(default=None, gt=0)
    frames_used: int = Field(ge=1)
    findings: tuple[str, ...] = ()  # plain sentences: what could not be known and why
    created_at: datetime
    valid_until: datetime | None = None
