"""How visible a defect is on its best channel, in standard deviations: what nobody can see, nobody need propose."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell.defects import Mask
from cell.frames import Stack
from drivers.sim.sensor import Sensor

#: A defect is visible from this many standard deviations on.
VISIBLE = 3.0
#: The most different pixels of a channel that are averaged, after a mean over 3 x 3.
_PIXELS = 5


def by_twin(electrons: NDArray[np.float32], twin: NDArray[np.float32], sensor: Sensor) -> float:
    """Return the contrast to the part's good twin in units of one pixel's temporal noise, on the best channel.

    Both are the expected photo-electrons (K, H, W); the difference is averaged over 3 x 3 pixels, and over the five
    places where it is largest.
    """
    noise = np.sqrt(np.maximum(twin, 0) + sensor.read_noise_e**2)
    contrast = ndimage.uniform_filter(np.abs(electrons - twin) / noise, (0, 3, 3)).reshape(len(twin), -1)
    return float(np.sort(contrast, axis=1)[:, -_PIXELS:].mean(axis=1).max())


def by_good_parts(stack: Stack, truth: Mask, good: Stack) -> float:
    """Return how far a part lies from good ones where its defect is, in their own spread, on the best channel.

    Where there is no twin: mean level and roughness inside the true mask, against the same place on good parts.

    :param stack: (K, H, W); `truth` (H, W) bool; `good` (N, K, H, W), other parts without a defect.
    """
    inside, others = stack[:, truth].astype(np.float64), good[:, :, truth].astype(np.float64)
    found = []
    for own, known in (
        (inside.mean(axis=1), others.mean(axis=2)),
        (np.log(inside.std(axis=1) + 1), np.log(others.std(axis=2) + 1)),
    ):
        middle = np.median(known, axis=0)
        spread = np.maximum(1.4826 * np.median(np.abs(known - middle), axis=0), 1e-3)
        found.append(float((np.abs(own - middle) / spread).max()))
    return max(found)
