"""What a network painted, brought to the seed's measure: its phases, with the power spectrum of the seed's texture.

Where things lie is in the phases, how rough they are at each scale is in the magnitudes (Oppenheim and Lim, Proc. IEEE
69, 1981). A small network paints plausible phases, but its texture has the spectrum of what it learned from; the seed
tells the right one, and random phases (spot noise, Galerne et al. 2011) fill what the painting lacks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from cell.defects import Mask
from cell.imaging.contrast import Maps
from trainer.generate.looks import COARSEST, Look, without_structure

Powers = NDArray[np.float64]

#: Standard deviation of the smoothing of power spectra, in cycles a window: a single draw's spectrum is speckled.
_SMOOTHING = 1.5
#: What is painted at a frequency is turned up by this factor at most; the rest comes with random phases.
_MOST_GAIN = 2.0


#: Fewer pixels than that have no spectrum.
_FEWEST = 12


def as_the_seeds(
    look: Look, smooth: Maps, added: Maps, distance: NDArray[np.float32], rng: np.random.Generator, scale: float = 1.0
) -> Maps:
    """Return a render with what a network added to it, both (K, h, w), as rough and as uneven as the seed is.

    Texture gets the seed's power spectrum. What is coarser keeps its shape and is turned down to the seed's spread; an
    outline that was painted at a coarser `scale` has none: the network does not see across it.

    :param distance: (h, w) float32 pixels to the outline, positive inside.
    """
    inside, soft = distance > 0, np.clip(distance + 0.5, 0, 1)
    if inside.sum() < _FEWEST:
        return smooth + added * soft
    if look.relief is not None:
        added = look.relief.parts(smooth + added) - look.relief.parts(smooth)
    texture = without_structure(added, inside, COARSEST)[0]
    structure = added - texture
    made = structure[:, inside].std(axis=1)
    share = np.minimum(1.0, look.structure / np.maximum(made, 1e-9)) if scale >= 1.0 else np.zeros_like(made)
    measured: Maps = (share[:, None, None] * structure + equalised(texture, inside, look.texton, rng)).astype(
        np.float32
    )
    return look.textured(smooth, measured * soft)


def equalised(texture: Maps, inside: Mask, texton: Maps, rng: np.random.Generator) -> Maps:
    """Return texture (K, h, w) with the phases of `texture` and the power spectrum of `texton`, 0 outside the mask.

    :param texture: (K, h, w) float32, of zero mean; only what is `inside` (h, w) counts.
    :param texton: (K, a, b) float32; white noise of unit variance convolved with it has the wanted spectrum.
    """
    height, width = inside.shape
    # Twice the size: no wrapping round from edge to edge.
    shape = fft.next_fast_len(max(2 * height, texton.shape[1])), fft.next_fast_len(max(2 * width, texton.shape[2]))
    painted = fft.fft2(texture * inside, shape, axes=(1, 2))
    made = _smoothed(np.abs(painted) ** 2 / max(int(inside.sum()), 1))
    wanted = _smoothed(np.abs(fft.fft2(texton, shape, axes=(1, 2))) ** 2)
    gain = np.minimum(np.sqrt(wanted / np.maximum(made, 1e-12)), _MOST_GAIN)
    missing = np.sqrt(np.maximum(wanted - gain**2 * made, 0.0))
    # One white noise for all channels: what is filled in belongs to one defect, too.
    white = fft.fft2(rng.standard_normal(shape))
    filled = fft.ifft2(gain * painted + missing * white, axes=(1, 2)).real[:, :height, :width]
    result: Maps = (filled * inside).astype(np.float32)
    return result


def _smoothed(power: Powers) -> Powers:
    """Return power spectra (K, H, W) with neighbouring frequencies averaged; periodic, as spectra are."""
    spread: Powers = ndimage.gaussian_filter(power, (0, _SMOOTHING, _SMOOTHING), mode="wrap")
    return spread
