"""An image sensor after EMVA 1288 (release 4.0), with parameters that a calibration can be held against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cell.calibration import NoiseModel
from cell.frames import Pixels


@dataclass(frozen=True, slots=True)
class Sensor:
    """A linear camera: grey value = offset + K (photo-electrons + dark signal + noise), quantised and clipped."""

    gain_dn_per_e: float = 0.0255  # K at 0 dB: 10,000 electrons fill 8 bits
    read_noise_e: float = 14.0
    offset_dn: float = 4.0
    prnu: float = 0.004  # standard deviation of the pixels' relative response
    dsnu_e: float = 4.0  # standard deviation of the pixels' dark signal
    bit_depth: int = 8
    dark_current_e_per_s: float = 0.0
    pattern_seed: int = 20_031  # the sensor's own: its fixed pattern is the same in every frame

    @classmethod
    def of_depth(cls, bit_depth: int) -> Sensor:
        """Return a machine-vision sensor with that many bits.

        With 8 the noise is that of an older sensor, so that it stands above the quantisation; above that it is that of
        a current global-shutter CMOS sensor (10,500 electrons full well, 2.4 electrons read noise).
        """
        if bit_depth <= 8:
            return cls()
        return cls(
            gain_dn_per_e=((1 << bit_depth) - 1) / 10_500,
            read_noise_e=2.4,
            offset_dn=(1 << bit_depth) / 64,
            prnu=0.004,
            dsnu_e=0.8,
            bit_depth=bit_depth,
            dark_current_e_per_s=3.0,
        )

    def at_depth(self, bit_depth: int) -> tuple[Sensor, int]:
        """Return the sensor that gives a camera's pixel format, and by how many bits its values are shifted down.

        Fewer bits than the sensor has are its highest ones, as cameras do it. More than it has come from one that has
        them: its steps, and its finer noise, are those of that depth, not this one's spread out.
        """
        if bit_depth <= self.bit_depth:
            return self, self.bit_depth - bit_depth
        return Sensor.of_depth(bit_depth), 0

    @property
    def full_scale_e(self) -> float:
        """Electrons that reach the largest grey value at 0 dB."""
        return (self.saturation_dn - self.offset_dn) / self.gain_dn_per_e

    @property
    def saturation_dn(self) -> int:
        """Largest grey value."""
        return (1 << self.bit_depth) - 1

    def noise_model(self, gain_db: float = 0.0) -> NoiseModel:
        """Return the true temporal noise at an analogue gain."""
        gain = self._gain(gain_db)
        return NoiseModel(
            gain_dn_per_e=gain,
            read_noise_dn=gain * self.read_noise_e,
            offset_dn=self.offset_dn,
            saturation_dn=self.saturation_dn,
            lag1_correlation=0.0,
        )

    def fixed_pattern(self, height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return (relative response, dark signal in electrons), each (H, W) float32."""
        generator = np.random.Generator(np.random.SFC64(self.pattern_seed))
        response = 1 + self.prnu * generator.standard_normal((height, width), np.float32)
        dark = self.dsnu_e * generator.standard_normal((height, width), np.float32)
        return response.astype(np.float32), dark.astype(np.float32)

    def digitise(self, electrons: NDArray[np.float32], gain_db: float, generator: np.random.Generator) -> Pixels:
        """Return the grey values of one exposure.

        :param electrons: (H, W) float32, expected photo-electrons and dark signal of each pixel.

        Photon noise is drawn as a normal distribution of variance `electrons`, which a Poisson distribution is
        indistinguishable from at the hundreds of electrons a lit pixel holds, at a tenth of the time.
        """
        variance = np.maximum(electrons, 0)
        variance += np.float32(self.read_noise_e**2)
        values = generator.standard_normal(electrons.shape, np.float32)
        values *= np.sqrt(variance, out=variance)
        values += electrons
        values *= np.float32(self._gain(gain_db))
        values += np.float32(self.offset_dn)
        np.rint(values, out=values)
        np.clip(values, 0, self.saturation_dn, out=values)
        return values.astype(np.uint8) if self.bit_depth <= 8 else values.astype(np.uint16)

    def _gain(self, gain_db: float) -> float:
        return float(self.gain_dn_per_e * 10 ** (gain_db / 20))
