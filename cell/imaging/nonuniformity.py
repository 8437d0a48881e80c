"""How a sensor's pixels differ from each other, and how straight its answer to light is (EMVA 1288 release 4.0)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell.calibration import NoiseModel
from cell.imaging import noise
from cell.imaging.photon_transfer import Still

Floats = NDArray[np.float64]

#: Side of the square mean that is taken off, pixels: what varies more slowly is the light's.
_BOX = 11
#: Levels outside these shares of full scale don't count for linearity (EMVA 1288, section 6.7).
_LOWEST, _HIGHEST = 0.05, 0.95


def prnu(flat: Still, model: NoiseModel, dark: Still | None = None) -> float | None:
    """Return the standard deviation of the pixels' relative response; None when the repeats don't suffice.

    Of an even, matt target's mean picture the dark picture is taken off and the light's slow shading divided out; what
    the mean still holds of temporal noise, which `model` tells, is subtracted. A target's own texture counts as the
    sensor's.
    """
    dark = None if dark is None or dark.mean.shape != flat.mean.shape else dark
    saturation_dn = model.saturation_dn
    net = flat.mean.astype(np.float64) - (model.offset_dn if dark is None else dark.mean)
    smooth = ndimage.uniform_filter(net, _BOX, mode="nearest")
    usable = (flat.mean < _HIGHEST * saturation_dn) & (smooth > _LOWEST * saturation_dn)
    if usable.sum() < 1000:
        return None
    relative = (net[usable] / smooth[usable] - 1.0) / np.sqrt(1.0 - 1.0 / _BOX**2)
    leftover = noise.sigma_dn(model, flat.mean) ** 2 / flat.repeats
    if dark is not None:
        leftover = leftover + dark.over_all.temporal / dark.repeats
    temporal = float(np.mean(leftover[usable] / smooth[usable] ** 2))
    # Edges of the target and specks of dust on it are not the sensor's.
    middle = float(np.median(np.abs(relative))) / 0.6745
    honest = np.abs(relative) < 5.0 * middle
    total = float(np.mean(relative[honest] ** 2))
    if total - temporal < 0.1 * temporal:
        return None
    return float(np.sqrt(total - temporal))


def linearity_error(series: Sequence[Still], offsets_dn: Sequence[float], saturation_dn: float) -> float | None:
    """Return the mean deviation, relative, of the light measured from a straight line through the dark level.

    :param series: one channel's series of one scene under the same light at different exposures. None for fewer than
        three that lie between 5 and 95 % of full scale.
    :param offsets_dn: the dark level of each.
    """
    if len({one.exposure_us for one in series}) < 3:
        return None
    brightest = np.max([one.mean for one in series], axis=0)
    usable = (brightest < _HIGHEST * saturation_dn) & (brightest > 0.3 * saturation_dn)
    if usable.sum() < 100:
        return None
    levels = [float(one.mean[usable].mean()) for one in series]
    answers = np.array([level - offset for level, offset in zip(levels, offsets_dn, strict=True)])
    exposures = np.array([one.exposure_us for one in series])
    inside = answers > _LOWEST * saturation_dn
    if inside.sum() < 3:
        return None
    ratio = answers[inside] / exposures[inside]
    return float(np.mean(np.abs(ratio / ratio.mean() - 1.0)))
