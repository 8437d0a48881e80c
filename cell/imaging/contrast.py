"""Log contrast: a defect as a factor on the light, so that it can move to another background and exposure.

``contrast = log((I + c) / (B + c))`` with the local background B and a black offset c, the logarithm that the one
preprocessing takes too: a pit that swallows half of the light does so at every exposure.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell.defects import Mask
from cell.frames import Stack

Maps = NDArray[np.float32]

#: Added before the logarithm, as a share of full scale; the preprocessing's default.
BLACK_OFFSET = 0.03
#: Standard deviations of the Gaussians with which holes are filled, pixels, from fine to coarse.
_FILL_SIGMAS = (2.0, 5.0, 12.0, 30.0, 80.0)
#: Least share of known pixels under a Gaussian for its value to be believed.
_KNOWN_SHARE = 0.15


def black_offset_dn(bit_depth: int) -> float:
    """Return the black offset c in DN."""
    return BLACK_OFFSET * float((1 << bit_depth) - 1)


def fill(pixels: Maps, known: Mask) -> Maps:
    """Return a smooth local mean of the known pixels everywhere.

    Normalised convolution (Knutsson and Westin, CVPR 1993) with the finest Gaussian that sees enough known pixels.

    :param pixels: (K, h, w) float32; :param known: (h, w) bool, at least one pixel True.
    :returns: (K, h, w) float32.
    """
    weight = known.astype(np.float32)
    mean = pixels[:, known].mean(axis=1, dtype=np.float64).astype(np.float32)
    result = np.broadcast_to(mean[:, None, None], pixels.shape).copy()
    for sigma in reversed(_FILL_SIGMAS):
        share = ndimage.gaussian_filter(weight, sigma, mode="nearest")
        smooth = ndimage.gaussian_filter(pixels * weight, (0, sigma, sigma), mode="nearest") / np.maximum(share, 1e-6)
        # A soft step between scales: a hard one would draw the mask's outline into the background.
        trust = np.clip(share / _KNOWN_SHARE - 1.0, 0.0, 1.0)
        result += trust * (smooth - result)
    filled: Maps = result.astype(np.float32)
    return filled


def local_background(stack: Stack | Maps, mask: Mask, known: Mask | None = None) -> Maps:
    """Return what a part would look like without its defect: smooth, from the surroundings of `mask`; (K, h, w) DN.

    :param known: (h, w) bool, pixels that belong to the part; the others (carrier) tell nothing.
    """
    usable = ~ndimage.binary_dilation(mask, iterations=2)
    if known is not None:
        usable &= known
    if not usable.any():
        usable = np.ones(mask.shape, np.bool_)
    return fill(stack.astype(np.float32), usable)


def of(stack: Stack | Maps, background: Maps, bit_depth: int) -> Maps:
    """Return the log contrast of `stack` against `background`, (K, h, w) float32."""
    offset = np.float32(black_offset_dn(bit_depth))
    ratio = (stack.astype(np.float32) + offset) / (background + offset)
    contrast: Maps = np.log(np.maximum(ratio, 1e-3)).astype(np.float32)
    return contrast


def apply(background: Maps, contrast: Maps, bit_depth: int) -> Maps:
    """Return the pixels, DN float32, of a background under a log contrast: the inverse of :func:`of`."""
    offset = np.float32(black_offset_dn(bit_depth))
    pixels: Maps = (background + offset) * np.exp(contrast) - offset
    return pixels


def fine_texture(pixels: Maps, sigma: float = 2.0) -> Maps:
    """Return what a Gaussian of `sigma` pixels takes away, (K, h, w) float32."""
    texture: Maps = pixels - ndimage.gaussian_filter(pixels, (0, sigma, sigma), mode="nearest")
    return texture
