"""How visible a defect is on its best channel, in standard deviations: what nobody can see, nobody need propose.

The contrast of the defect is averaged over 3 x 3 pixels and over the five places where it is largest. It is told in
standard deviations of what a pixel shows around there anyway: sensor noise and the surface's own texture together.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell.defects import Mask
from cell.frames import Stack
from drivers.sim.sensor import Sensor

#: A defect is visible from this many standard deviations on.
VISIBLE = 3.0
#: The most different places of a channel that are averaged.
_PLACES = 5
#: Pixels over which the surface's own variation is measured.
_AROUND = 15

Maps = NDArray[np.float32]


def by_twin(electrons: Maps, twin: Maps, sensor: Sensor) -> tuple[float, float]:
    """Return the contrast to the part's good twin, over the surface and the noise, and over the noise alone.

    :param electrons: (K, H, W), expected photo-electrons; `twin` those of the same part without its defect.
    """
    noise = np.maximum(twin, 0) + sensor.read_noise_e**2
    mean = ndimage.uniform_filter(twin, (0, _AROUND, _AROUND))
    around = ndimage.uniform_filter((twin - mean) ** 2, (0, _AROUND, _AROUND))
    contrast = ndimage.uniform_filter(np.abs(electrons - twin), (0, 3, 3))
    return _best(contrast / np.sqrt(noise + around)), _best(contrast / np.sqrt(noise))


def by_good_parts(stack: Stack, truth: Mask, good: Stack) -> float:
    """Return the contrast to other good parts where the defect is, in the spread of their pixels there.

    :param stack: (K, H, W); `truth` (H, W) bool; `good` (N, K, H, W), other parts without a defect.
    """
    middle = np.median(good, axis=0)
    spread = np.maximum(1.4826 * np.median(np.abs(good - middle), axis=0), 1.0)
    contrast = np.abs(ndimage.uniform_filter(stack - middle, (0, 3, 3))) / ndimage.uniform_filter(spread, (0, 3, 3))
    return _best(np.where(truth, contrast, 0))


def _best(contrast: Maps) -> float:
    return float(np.sort(contrast.reshape(len(contrast), -1), axis=1)[:, -_PLACES:].mean(axis=1).max())
