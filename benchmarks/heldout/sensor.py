"""From expected radiance to 8-bit grey values: lens blur, photons, read noise, fixed pattern, quantisation.

The renderer gives an expectation; all randomness of the camera is added here, in electrons:
``n = Poisson(Q * L) * (1 + prnu) + Normal(0, read) + dsnu``, ``DN = round(n / e_per_DN + black)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.heldout.model import Field


@dataclass(frozen=True, slots=True)
class Sensor:
    """One camera with its lens; the fixed pattern is the camera's and the same in all its pictures."""

    blur_px: float = 0.75
    full_well_e: float = 16000.0
    read_noise_e: float = 9.0
    prnu: float = 0.006
    dsnu_e: float = 4.0
    black_dn: float = 4.0
    corner_loss: float = 0.06
    camera_seed: int = 20

    def expose(self, radiance: Field, exposure: float, random: np.random.Generator) -> NDArray[np.uint8]:
        """Return the picture (H, W) uint8 of a radiance (H, W) at `exposure` electrons per unit of radiance."""
        rows, columns = radiance.shape
        sharp = np.maximum(radiance, 0)
        image = ndimage.gaussian_filter(sharp, self.blur_px, mode="nearest")
        y, x = np.mgrid[0:rows, 0:columns]
        corner = np.hypot((y - rows / 2) / (rows / 2), (x - columns / 2) / (columns / 2)) / np.sqrt(2)
        expected = image * exposure * (1 - self.corner_loss * corner**2)
        camera = np.random.default_rng(self.camera_seed)
        gain = 1 + self.prnu * camera.standard_normal((rows, columns))
        offset = self.dsnu_e * camera.standard_normal((rows, columns))
        electrons = random.poisson(np.minimum(expected, 50 * self.full_well_e)) * gain + offset
        electrons += self.read_noise_e * random.standard_normal((rows, columns))
        per_dn = self.full_well_e / (255 - self.black_dn)
        grey: NDArray[np.uint8] = np.clip(np.round(electrons / per_dn + self.black_dn), 0, 255).astype(np.uint8)
        return grey
