"""The compositor: a generated defect on a real background, bit-identical outside its support.

Inside, the signal is ``s = D(B) * exp(contrast)`` with the smoothed background D(B). The background's fine texture and
noise ``B - D(B)`` come back in the share that the defect leaves of them, dimmed with the light where the defect is
darker and scaled by the noise law ``sqrt(var(s) / var(D(B)))`` where it is brighter, so that they never carry more
noise than the sensor gives at that level; fresh sensor noise fills what is then missing of ``var(s)``. The feather
weighs the contrast and those shares, not two pictures: a blend of two noises would be quieter than either.
``out = where(support, synthetic, background)`` in the camera's own dtype.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell.calibration import Calibration
from cell.defects import Mask
from cell.errors import DataError
from cell.frames import Stack
from cell.imaging import contrast as log_contrast
from cell.imaging import noise
from cell.imaging.contrast import Maps

#: Standard deviation, pixels, of the smoothing that parts background from its fine texture.
_FINE_SIGMA = 2.0
#: Changes count as seen above this many standard deviations of the noise.
VISIBLE_SIGMA = 2.0
_SEEN_SMOOTHING = 1.0
#: Pixels are counted over this share of the support's radius, when that is above a pixel.
_SEEN_SHARE = 1 / 6


@dataclass(frozen=True, slots=True, eq=False)
class Composite:
    """The result, of the window's size: pixels (K, h, w) in the background's dtype, what changed, and how strongly."""

    pixels: Stack
    mask: Mask
    support: Mask
    d_prime: float  # root of the summed squared change in units of the noise sigma
    clipped_share: float  # of the mask's pixels, on any channel


def compose(  # noqa: PLR0913 (all of it makes one picture)
    background: Stack,
    contrast: Maps,
    soft: NDArray[np.float32],
    calibration: Calibration,
    bit_depth: int,
    rng: np.random.Generator,
    *,
    texture_kept: float,
    noise_share: float,
    surface: Maps | None = None,
) -> Composite:
    """Put a defect on a window of a background.

    :param background: (K, h, w) uint8 or uint16 DN.
    :param contrast: (K, h, w) float32 log contrast.
    :param soft: (h, w) float32 in [0, 1]; the support is where it is above 0.
    :param texture_kept: share in [0, 1] of the background's fine texture that shows through the defect.
    :param noise_share: share in [0, 1] of the noise variance that `contrast` itself carries.
    :param surface: (K, h, w) float32 DN, what the defect lies on where that is not `background` as it is (its lay ends
        at a chip); only what is inside the support counts.
    :raises DataError: when the shapes do not belong together or the support is empty.
    """
    _check(background, contrast, soft, calibration)
    support = soft > 0
    original = background.astype(np.float32) if surface is None else surface
    fine = log_contrast.fine_texture(original, _FINE_SIGMA)
    smooth = original - fine
    signal = log_contrast.apply(smooth, contrast * soft, bit_depth)
    kept = 1.0 - soft * np.float32(1.0 - texture_kept)
    synthetic, textures = np.empty_like(signal), np.empty_like(signal)
    for index, channel in enumerate(calibration.channels):
        variance = noise.sigma_dn(channel.noise, signal[index]) ** 2
        law = np.sqrt(variance / noise.sigma_dn(channel.noise, smooth[index]) ** 2)
        share = kept * np.minimum(np.exp(contrast[index] * soft), law)
        brought = noise_share * soft**2
        missing = np.sqrt(np.clip(1.0 - (share / law) ** 2 - brought, 0.0, 1.0))
        # Noise coarser than the fine texture came with the smooth background, whatever was kept of the fine one.
        coarse = np.sqrt(np.clip(1.0 - (np.exp(contrast[index] * soft) / law) ** 2 - brought, 0.0, 1.0))
        mean = np.clip(signal[index], 0, channel.noise.saturation_dn)
        fresh = noise.sample(channel.noise, mean, rng) - mean
        low = ndimage.gaussian_filter(fresh, np.sqrt(2) * _FINE_SIGMA, mode="reflect")
        textures[index] = share * fine[index]
        synthetic[index] = signal[index] + textures[index] + missing * fresh - (missing - coarse) * low
    top = float((1 << bit_depth) - 1)
    rounded = np.rint(np.clip(synthetic, 0, top)).astype(background.dtype)
    pixels = np.where(support, rounded, background)
    mask = changed(_expected(background, signal, textures), support, background, calibration)
    return _measured(background, pixels, synthetic, support, mask, calibration, top)


def _expected(background: Stack, signal: Maps, textures: Maps) -> Maps:
    """Return by how much a defect changes the pixels, (K, h, w) DN, without the fresh noise.

    Texture that a defect takes away has the background's own noise in it, and is smoothed first, which lowers
    independent noise by the factor 1 / (2 sigma sqrt(pi)); what the light does is free of noise as it is, and smoothed
    it would be a pixel wider than it is.
    """
    original = background.astype(np.float32)
    fine = log_contrast.fine_texture(original, _FINE_SIGMA)
    smoothing = (0, _SEEN_SMOOTHING, _SEEN_SMOOTHING)
    change: Maps = signal - (original - fine) + ndimage.gaussian_filter(textures - fine, smoothing, mode="nearest")
    return change


def _measured(
    background: Stack,
    pixels: Stack,
    synthetic: Maps,
    support: Mask,
    mask: Mask,
    calibration: Calibration,
    top: float,
) -> Composite:
    change = pixels.astype(np.float32) - background.astype(np.float32)
    sigma = _sigma(background, calibration)
    clipped: Mask = ((synthetic < -0.5) | (synthetic > top + 0.5)).any(axis=0)  # type: ignore[assignment]
    return Composite(
        pixels=pixels,
        mask=mask,
        support=support,
        d_prime=float(np.sqrt(((change / sigma)[:, mask] ** 2).sum())) if mask.any() else 0.0,
        clipped_share=float(clipped[mask].mean()) if mask.any() else 0.0,
    )


def _sigma(background: Stack, calibration: Calibration) -> Maps:
    sigmas = [noise.sigma_dn(one.noise, pixels) for one, pixels in zip(calibration.channels, background, strict=True)]
    return np.stack(sigmas).astype(np.float32)


def changed(change: Maps, support: Mask, background: Stack, calibration: Calibration) -> Mask:
    """Return where a change would stand out of the sensor's noise, (h, w) bool, inside `support`.

    Holes are filled and specks below a tenth of the largest region dropped. In a wide support what most of its
    neighbourhood does counts too: a texture that replaces another passes through it now and then, and is no less a
    change there.

    :param change: (K, h, w) float32 DN, without noise.
    """
    strength = np.sqrt(((change / _sigma(background, calibration)) ** 2).mean(axis=0))
    seen = ndimage.binary_closing(strength > VISIBLE_SIGMA, iterations=2) & support
    seen |= _mostly(seen, support)
    seen = ndimage.binary_fill_holes(seen) & support
    labels, count = ndimage.label(seen, structure=np.ones((3, 3)))
    if count == 0:
        return np.zeros(support.shape, np.bool_)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    kept: Mask = np.isin(labels, np.flatnonzero(sizes >= max(3, 0.1 * sizes.max())))
    return kept


def _mostly(seen: Mask, support: Mask) -> Mask:
    """Return where most of the neighbourhood in a wide support is `seen`, (h, w) bool; nowhere in a narrow one."""
    reach = _SEEN_SHARE * float(ndimage.distance_transform_edt(np.pad(support, 1)).max())
    if reach <= 1:
        return np.zeros_like(seen)
    inside, all_of_it = (
        ndimage.gaussian_filter(mask.astype(np.float32), reach, mode="constant") for mask in (seen, support)
    )
    most: Mask = support & (inside > 0.5 * all_of_it)
    return most


def _check(background: Stack, contrast: Maps, soft: NDArray[np.float32], calibration: Calibration) -> None:
    if background.shape != contrast.shape or soft.shape != background.shape[1:]:
        raise DataError(
            f"background {background.shape}, contrast {contrast.shape} and support {soft.shape} don't belong together; "
            "make the candidate on a background of the recipe"
        )
    if len(calibration.channels) != background.shape[0]:
        raise DataError(
            f"the calibration has {len(calibration.channels)} channels, the background {background.shape[0]}; "
            "calibrate again"
        )
    if not (soft > 0).any():
        raise DataError("the defect's support is empty; ask for a larger defect")
