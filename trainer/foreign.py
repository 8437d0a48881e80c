"""Foreign patches: good crops with something in them that belongs elsewhere, so that the unforeseen is a defect too.

Five parts of a class don't show what the sixth will look like. A network that only ever saw those five learns them by
heart and passes over a chipped edge of another outline. So a share of the good crops gets a patch of random outline,
filled from another place or another part, lifted, smoothed or roughened, and is labelled "a defect of no known class":
it teaches where something is wrong, never what. The idea is that of CutPaste (Li et al., CVPR 2021), NSA (Schlüter et
al., ECCV 2022) and DRAEM (Zavrtanik et al., ICCV 2021), here beside real defects.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float32]
Labels = NDArray[np.uint8]

#: Label of a defective pixel whose class nobody knows.
UNKNOWN_CLASS = 255
#: Root mean square change, in units of the network input, below which a patch can't be told from its surroundings.
_VISIBLE = 0.35
_ATTEMPTS = 4


def add_foreign(
    image: Floats, labels: Labels, donor: Floats, rng: np.random.Generator, steps: float = 0.0
) -> tuple[Floats, Labels]:
    """Return a good crop with a foreign patch in it, or unchanged when no visible one was drawn.

    :param image: (K, S, S) float32 network input; `donor`, the same of another good crop.
    :param labels: (S, S) uint8, all 0.
    :param steps: share of patches that are no blob or line but all that lies on one side of a line: a finish that
        changes half-way over a part.
    """
    size = labels.shape[0]
    for _ in range(_ATTEMPTS):
        if steps > 0 and rng.random() < steps:
            outline = _step(size, rng)
        else:
            outline = _line(size, rng) if rng.random() < 0.3 else _blob(size, rng)
        inside = outline > 0.25
        if inside.sum() < 6:
            continue
        # Faint islands would be changed without being labelled.
        outline *= ndimage.binary_dilation(inside, iterations=4)
        change = (_filling(image, donor, rng) - image) * outline
        if math.sqrt(float(np.mean(change[:, inside] ** 2))) < _VISIBLE:
            continue
        return image + change.astype(np.float32), np.where(inside, np.uint8(UNKNOWN_CLASS), labels)
    return image, labels


def _blob(size: int, rng: np.random.Generator) -> Floats:
    """Return a soft-edged mask of one ragged blob, 3 to `size` / 2 pixels across, anywhere, cut by the crop's edges."""
    radius = math.exp(rng.uniform(math.log(1.5), math.log(size / 4)))
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    row, column = rng.uniform(0, size, 2)
    turn, stretch = rng.uniform(0, math.pi), math.exp(rng.uniform(0, 1.2))
    u = (x - column) * math.cos(turn) + (y - row) * math.sin(turn)
    v = (y - row) * math.cos(turn) - (x - column) * math.sin(turn)
    distance = np.hypot(u / stretch, v * stretch) / radius
    nodes = rng.normal(0, 0.35, (max(4, round(size / max(4.0, radius))),) * 2)
    ragged = ndimage.zoom(nodes, size / nodes.shape[0], order=3, grid_mode=True, mode="nearest")
    return _softened((distance + ragged < 1).astype(np.float32), rng)


def _line(size: int, rng: np.random.Generator) -> Floats:
    """Return a soft-edged mask of a wandering line, 8 to `size` pixels long and 1 to 4 wide."""
    steps = int(math.exp(rng.uniform(math.log(8), math.log(size))))
    heading = rng.uniform(0, 2 * math.pi) + np.cumsum(rng.normal(0, rng.uniform(0.0, 0.25), steps))
    path = rng.uniform(0, size, 2)[:, None] + np.cumsum([np.sin(heading), np.cos(heading)], axis=1)
    rows, columns = np.rint(path).astype(int)
    kept = (rows >= 0) & (rows < size) & (columns >= 0) & (columns < size)
    drawn = np.zeros((size, size), np.bool_)
    drawn[rows[kept], columns[kept]] = True
    width = int(rng.integers(0, 3))
    if width:
        drawn = ndimage.binary_dilation(drawn, iterations=width)
    return _softened(drawn.astype(np.float32), rng)


def _step(size: int, rng: np.random.Generator) -> Floats:
    """Return a soft-edged mask of one side of a wavering line, or of the band between two."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size - 0.5
    turn, wave = rng.uniform(0, 2 * math.pi), rng.uniform(0, 2 * math.pi)
    along, across = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
    across = across + rng.uniform(0, 0.03) * np.sin(rng.uniform(2, 12) * along + wave)
    near = rng.uniform(-0.4, 0.4)
    far = near + rng.uniform(0.15, 0.5) if rng.random() < 0.4 else 2.0
    return _softened(((across > near) & (across < far)).astype(np.float32), rng)


def _softened(mask: Floats, rng: np.random.Generator) -> Floats:
    blurred: Floats = ndimage.gaussian_filter(mask, rng.uniform(0.3, 1.0))
    return np.clip(blurred * 1.2, 0, 1)


def _filling(image: Floats, donor: Floats, rng: np.random.Generator) -> Floats:
    """Return what the patch is filled with: another place, or the same place lifted, smoothed or roughened."""
    kind = rng.random()
    if kind < 0.4:
        filling = np.rot90(donor, int(rng.integers(4)), (1, 2))
    elif kind < 0.6:
        filling = ndimage.gaussian_filter(image, (0, 3.0, 3.0))
    else:
        filling = image * np.float32(rng.uniform(0.3, 1.8))
        rough = ndimage.gaussian_filter(rng.normal(0, 1, image.shape[1:]), rng.uniform(0.5, 2.0))
        filling = filling + (rng.uniform(0, 1.0) / max(float(rough.std()), 1e-6)) * rough
    # Defects are darker or brighter; what several lights show of one differs, but rarely all of it.
    lift = rng.normal(0, 1.2) + rng.normal(0, 0.4, (image.shape[0], 1, 1))
    return np.asarray(filling + lift, np.float32)
