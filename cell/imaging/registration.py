"""Where the part is: on its carrier, and against another picture of its kind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from cell.defects import Mask
from cell.frames import Stack
from cell.recipes import Rect

Picture = NDArray[np.float32]

#: Agreement (correlation of the aligned pictures) below which two pictures do not show the same thing.
LEAST_AGREEMENT = 0.35
#: Agreement at which a search over all turns is not worth its time.
_GOOD_AGREEMENT = 0.6
#: Shorter side of the picture on which turns are searched, pixels; steps of that search, degrees.
_COARSE_PX, _TURN_STEP_DEG = 40, 5.0
_ROUNDS = 8
#: Steps of the fit below which it has arrived, pixels at the picture's edge.
_ARRIVED_PX = 0.02
#: Robust deviations up to which a difference counts in full (Huber).
_HUBER = 1.5


@dataclass(frozen=True, slots=True, eq=False)
class PartPlace:
    """Where a part lies: its pixels (H, W) bool, their box, their share of the frame; whether they touch its edge."""

    mask: Mask
    box: Rect
    share: float
    touches_edge: bool


@dataclass(frozen=True, slots=True)
class Pose:
    """How a picture lies off its reference: turned and scaled around the frame's centre, then shifted.

    What the reference shows at ``c + p`` the picture shows at ``c + shift + scale * R(turn) p``, in rows and columns of
    pixels; a positive turn leads from rows to columns. `agreement` is the correlation of the two, once aligned.
    """

    down: float = 0.0
    across: float = 0.0
    turn_deg: float = 0.0
    scale: float = 1.0
    agreement: float = 1.0

    @property
    def shift_px(self) -> float:
        """How far the centre moved, pixels."""
        return float(np.hypot(self.down, self.across))

    def still(self) -> bool:
        """Tell whether the picture lies where its reference does, to a twentieth of a pixel."""
        return self.shift_px < 0.05 and abs(self.turn_deg) < 0.01 and abs(self.scale - 1) < 1e-4

    def to_reference(self, maps: Picture, order: int = 1) -> Picture:
        """Return the picture (K, H, W) or (H, W) as it would look in the reference's place."""
        return self._warped(maps, self._matrix(), np.array([self.down, self.across]), order)

    def from_reference(self, maps: Picture, order: int = 1) -> Picture:
        """Return what is known in the reference's place, (K, H, W) or (H, W), in the picture's place."""
        inverse: NDArray[np.float64] = np.linalg.inv(self._matrix()).astype(np.float64)
        return self._warped(maps, inverse, -inverse @ np.array([self.down, self.across]), order)

    def covered(self, shape: tuple[int, int]) -> Mask:
        """Return which pixels (H, W) of the picture show what the reference shows too; its edge moved into the rest."""
        if self.still():
            return np.ones(shape, np.bool_)
        inner = np.zeros(shape, np.float32)
        inner[1:-1, 1:-1] = 1.0
        covered: Mask = self.from_reference(inner) > 0.5
        return covered

    def _matrix(self) -> NDArray[np.float64]:
        turn = np.deg2rad(self.turn_deg)
        cosine, sine = np.cos(turn), np.sin(turn)
        matrix: NDArray[np.float64] = self.scale * np.array([[cosine, -sine], [sine, cosine]])
        return matrix

    def _warped(self, maps: Picture, matrix: NDArray[np.float64], shift: NDArray[np.float64], order: int) -> Picture:
        if self.still():
            return maps
        centre = (np.array(maps.shape[-2:], np.float64) - 1) / 2
        offset = centre + shift - matrix @ centre
        if abs(self.turn_deg) < 0.01 and abs(self.scale - 1) < 1e-4:
            matrix = np.diag(matrix)  # a shift alone is separable, and several times faster
        out: Picture = np.empty_like(maps)
        for given, taken in zip(maps.reshape(-1, *maps.shape[-2:]), out.reshape(-1, *maps.shape[-2:]), strict=True):
            ndimage.affine_transform(given, matrix, offset, output=taken, order=order, mode="nearest")
        return out


def locate(stack: Stack, carrier_max_dn: int | None) -> PartPlace | None:
    """Find the part on its carrier; None when there is none.

    A pixel belongs to the part when any channel is brighter than the carrier; specks are dropped, holes are filled.
    Without a carrier level the part fills the frame.

    :param stack: (K, H, W) uint8 or uint16 DN.
    """
    height, width = stack.shape[1:]
    if carrier_max_dn is None:
        return PartPlace(np.ones((height, width), np.bool_), Rect(x=0, y=0, width=width, height=height), 1.0, False)
    lit = ndimage.binary_opening((stack > carrier_max_dn).any(axis=0), iterations=2)
    labels, count = ndimage.label(lit)
    if count == 0:
        return None
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    mask: Mask = ndimage.binary_fill_holes(labels == int(sizes.argmax()))
    rows, columns = np.nonzero(mask)
    top, bottom, left, right = int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())
    return PartPlace(
        mask=mask,
        box=Rect(x=left, y=top, width=right - left + 1, height=bottom - top + 1),
        share=float(mask.mean()),
        touches_edge=top == 0 or left == 0 or bottom == height - 1 or right == width - 1,
    )


def align(reference: Picture, image: Picture, *, any_turn: bool = False) -> Pose:
    """Find shift, turn and scale of `image` against `reference`, both (H, W) float32 of one size.

    A coarse shift by phase correlation (over all turns where the fixture does not hold the part's, and where the
    first look fails), then a robust fit of all four from coarse to fine (inverse compositional: Baker and Matthews,
    "Lucas-Kanade 20 years on", IJCV 56, 2004; Huber's weights, so that a defect does not pull). Pictures that have
    nothing in common come back with a low `agreement`; below `LEAST_AGREEMENT` the pose means nothing.
    """
    # Blurred, because interpolation takes noise away: unblurred, places between pixels would seem to fit better.
    levels = [(_standard(_blurred(reference)), _standard(_blurred(image)))]
    while min(levels[-1][0].shape) >= 2 * _COARSE_PX:
        one, two = (_blurred(picture)[::2, ::2] for picture in levels[-1])
        levels.append((_standard(one), _standard(two)))
    pose = _coarse(*levels[-1], any_turn=any_turn)
    for one, two in reversed(levels):
        pose = _fitted(one, two, pose)
        if one is not levels[0][0]:
            # The coarse grid's centre is not exactly the fine one's, but less than half a pixel off; the fit goes on.
            pose = Pose(2 * pose.down, 2 * pose.across, pose.turn_deg, pose.scale, pose.agreement)
    return pose


def shift(reference: Picture, image: Picture) -> tuple[float, float, float]:
    """Return the rows and columns by which `image` lies off `reference`, and the peak's height in [0, 1].

    Phase correlation (Kuglin and Hines, 1975) with a Hann window and a parabola through the peak. A low peak (below
    about 0.03) means that the pictures don't belong together.

    :param reference: (H, W) float32, as is `image`.
    """
    window = np.outer(np.hanning(reference.shape[0]), np.hanning(reference.shape[1]))
    one = fft.rfft2((reference - reference.mean()) * window)
    two = fft.rfft2((image - image.mean()) * window)
    cross = two * np.conj(one)
    surface = fft.irfft2(cross / np.maximum(np.abs(cross), 1e-9), s=reference.shape)
    row, column = np.unravel_index(int(surface.argmax()), surface.shape)
    return (
        _refined(surface[:, column], int(row)),
        _refined(surface[row, :], int(column)),
        float(surface[row, column]),
    )


def _coarse(reference: Picture, image: Picture, *, any_turn: bool) -> Pose:
    best = max((_shifted(reference, image, 0.0), _agreed(reference, image, Pose())), key=lambda pose: pose.agreement)
    if any_turn or best.agreement < _GOOD_AGREEMENT:
        turns = np.arange(_TURN_STEP_DEG, 360.0, _TURN_STEP_DEG)
        best = max((best, *(_shifted(reference, image, float(t)) for t in turns)), key=lambda pose: pose.agreement)
    return best


def _shifted(reference: Picture, image: Picture, turn_deg: float) -> Pose:
    """Return the pose of that turn whose shift fits best."""
    turned = Pose(turn_deg=turn_deg).from_reference(reference) if turn_deg else reference
    down, across, _ = shift(turned, image)
    if max(abs(down) / reference.shape[0], abs(across) / reference.shape[1]) > 0.3:
        down = across = 0.0
    return _agreed(reference, image, Pose(down, across, (turn_deg + 180) % 360 - 180))


def _agreed(reference: Picture, image: Picture, pose: Pose) -> Pose:
    moved = _standard(pose.to_reference(image))
    agreement = float((moved * reference).mean())
    return Pose(pose.down, pose.across, pose.turn_deg, pose.scale, agreement)


def _fitted(reference: Picture, image: Picture, pose: Pose) -> Pose:
    height, width = reference.shape
    rows = (np.arange(height, dtype=np.float32) - (height - 1) / 2)[:, None]
    columns = (np.arange(width, dtype=np.float32) - (width - 1) / 2)[None, :]
    down, across = np.gradient(ndimage.gaussian_filter(reference, 0.7, mode="nearest"))
    # Columns of the Jacobian: shift down, shift across, turn, scale, and the level and gain that both may differ by.
    moves = [down, across, across * rows - down * columns, down * rows + across * columns]
    slopes = [*moves, np.ones_like(reference), reference]
    inner = (slice(height // 16, -(height // 16) or None), slice(width // 16, -(width // 16) or None))
    jacobian = np.stack([slope[inner].ravel() for slope in slopes], axis=1).astype(np.float64)
    reach = float(np.hypot(height, width) / 2)
    best, least = pose, np.inf
    for _ in range(_ROUNDS):
        error = (_standard(pose.to_reference(image)) - reference)[inner].ravel().astype(np.float64)
        error -= np.median(error)
        sigma = 1.4826 * float(np.median(np.abs(error))) + 1e-6
        # By the median, not by the correlation: that one would follow a large defect.
        if sigma < least:
            best, least = pose, sigma
        weight = np.minimum(1.0, _HUBER * sigma / np.maximum(np.abs(error), 1e-9))
        weighted = jacobian * weight[:, None]
        normal = weighted.T @ jacobian
        step = np.linalg.solve(normal + 1e-6 * np.eye(len(slopes)), weighted.T @ error)
        moved = max(abs(step[0]), abs(step[1]), reach * abs(step[2]), reach * abs(step[3]))
        pose = _composed(pose, *(-float(value) for value in step[:4]))
        if moved < _ARRIVED_PX or not (0.8 < pose.scale < 1.25) or pose.shift_px > reach:
            break
    return _agreed(reference, image, best)


def _composed(pose: Pose, down: float, across: float, turn: float, growth: float) -> Pose:
    """Return the pose after a small step taken in the reference's place: turn in radians, growth relative."""
    angle = np.deg2rad(pose.turn_deg)
    cosine, sine = float(pose.scale * np.cos(angle)), float(pose.scale * np.sin(angle))
    return Pose(
        pose.down + cosine * down - sine * across,
        pose.across + sine * down + cosine * across,
        pose.turn_deg + float(np.rad2deg(turn)),
        pose.scale * (1 + growth),
        pose.agreement,
    )


def _blurred(picture: Picture) -> Picture:
    blurred: Picture = ndimage.gaussian_filter(picture, 1.0, mode="nearest")
    return blurred


def _standard(picture: Picture) -> Picture:
    standard: Picture = ((picture - picture.mean()) / np.float32(max(float(picture.std()), 1e-6))).astype(np.float32)
    return standard


def _refined(line: NDArray[np.float64], peak: int) -> float:
    length = len(line)
    before, at, after = line[peak - 1], line[peak], line[(peak + 1) % length]
    bend = before - 2 * at + after
    offset = 0.5 * (before - after) / bend if bend < 0 else 0.0
    position = peak + float(offset)
    return float(position - length if position > length / 2 else position)
