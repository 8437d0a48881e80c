"""The lights that parts are seen under: zones of a sphere of 80 mm around the part that do not overlap.

None is ever in another's way, so the lights of one pass may be lit together. `STANDARD` has four of different kinds:

    e1  coaxial    0 to  9 degrees from the camera's axis, as seen over a beam splitter
    e2  dome      12 to 40 degrees all around
    e3  ring      66 to 82 degrees all around: dark field
    e4  bar       43 to 63 degrees, a sector of 80 degrees on one side

`RING` has eight of one kind: sectors of 36 degrees of a ring at 42 to 60 degrees, as a photometric-stereo head has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

#: Polar angles (degrees from the camera's axis), azimuth range (degrees from the picture's right, against the clock).
Zone = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Rig:
    """Lights by name, in the order of the pictures, and which of them share a pass of the renderer (at most three)."""

    zones: Mapping[str, Zone]
    passes: tuple[tuple[str, ...], ...]

    @property
    def lights(self) -> tuple[str, ...]:
        """Return the lights in the order of the pictures."""
        return tuple(self.zones)


STANDARD = Rig(
    MappingProxyType(
        {
            "coaxial": ((0.0, 9.0), (0.0, 360.0)),
            "dome": ((12.0, 40.0), (0.0, 360.0)),
            "ring": ((66.0, 82.0), (0.0, 360.0)),
            "bar": ((43.0, 63.0), (-40.0, 40.0)),
        }
    ),
    (("coaxial", "dome"), ("ring", "bar")),
)
RING = Rig(
    MappingProxyType({f"sector{turn:03d}": ((42.0, 60.0), (turn - 18.0, turn + 18.0)) for turn in range(0, 360, 45)}),
    tuple((f"sector{turn:03d}",) for turn in range(0, 360, 45)),
)
