"""What can be asked of domain randomisation; see :mod:`trainer.generate.randomise`."""

from __future__ import annotations

from pydantic import Field

from cell.base import Record


class Randomisation(Record):
    """By how much whole pictures are altered; all 0 leaves everything outside a defect as it is, bit for bit."""

    #: Standard deviation of each light's level and of its profile, 1: as from one good part to the next.
    light: float = Field(default=0.0, ge=0, le=50)
    profile: float = Field(default=0.0, ge=0, le=50)
    #: Noise variance that is added at most, relative to the camera's.
    noise: float = Field(default=0.0, ge=0, le=10)
    #: Blur that is added at most, sigma in pixels.
    focus_px: float = Field(default=0.0, ge=0, le=5)

    def __bool__(self) -> bool:
        """Tell whether anything is asked."""
        return any((self.light, self.profile, self.noise, self.focus_px))


#: Nothing is altered.
AS_TAKEN = Randomisation()
