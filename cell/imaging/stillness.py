"""Whether repeats are what they should be: one part that lies still, lit in turn, every channel in its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

from cell.frames import Stack

Floats = NDArray[np.float64]
Series = NDArray[np.uint8] | NDArray[np.uint16]

#: Side of the blocks that frames are compared by, pixels.
_BLOCK = 8
#: A step from frame to frame that is this many times the usual one is a movement, not noise.
_MOVED = 1.5
#: A frame is another channel's when it differs from its own by this share of the light, and by twice as much as from
#: the other.
_DISTINCT = 0.05
#: A channel counts as dark when its brightest pixels have no more light than this, and as saturated above the share.
_DARK_SHARE, _SATURATED_SHARE = 0.004, 0.5
#: Where the dark level is not known: so dark, as a share of full scale, and so even against its noise, is no scene.
_BLACK_SHARE, _EVEN = 0.08, 4.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with one channel (or with all: `channel` empty), as a sentence, and whether it can't be used."""

    channel: str
    sentence: str
    unusable: bool


@dataclass(frozen=True, slots=True)
class Checked:
    """Repeats that serve (their numbers, in order), and what was found."""

    repeats: tuple[int, ...]
    findings: tuple[Finding, ...]

    @property
    def unusable(self) -> frozenset[str]:
        """Channels that can't be measured on."""
        return frozenset(one.channel for one in self.findings if one.unusable and one.channel)


def check(
    series: Series, names: Sequence[str], bit_depth: int, *, dark_dn: float = 0.0, expect_light: bool = True
) -> Checked:
    """Look at repeats (R, K, H, W) of a still part.

    :param dark_dn: grey value without light. :param expect_light: False for frames with the lights off.

    Frozen, dark and saturated channels are named and left out; after a movement the longer still run is kept; repeats
    with a channel in another's place are left out.
    """
    full_scale = float((1 << bit_depth) - 1)
    findings = []
    for index, name in enumerate(names):
        findings += _channel(series[:, index], name, full_scale, dark_dn, expect_light=expect_light)
    left_out = {one.channel for one in findings if one.unusable}
    live = [index for index, name in enumerate(names) if name not in left_out]
    kept = tuple(range(series.shape[0]))
    if live and expect_light and len(kept) >= 3:
        coarse = _coarse(series[:, live])
        lit = [names[index] for index in live]
        swapped = _swapped(coarse, lit)
        findings += [one for _, one in swapped]
        wrong = {repeat for repeat, _ in swapped}
        kept = tuple(repeat for repeat in kept if repeat not in wrong)
        kept, moved = _still(series[:, live], kept, dark_dn)
        findings += moved
    return Checked(kept, tuple(_merged(findings)))


def against_parts(series: Series, parts: Sequence[Stack], names: Sequence[str]) -> tuple[Finding, ...]:
    """Compare the channels of repeats with those of production frames: a light that was plugged in elsewhere shows.

    :param series: (R, K, H, W) of a good part. :param parts: (K, H, W) each.
    """
    if len(names) < 2 or not parts:
        return ()
    one = _coarse(series[:1])[0]
    other = np.mean([_coarse(part[None])[0] for part in parts], axis=0)
    alike = np.array([[_correlation(a, b) for b in other] for a in one])
    straight = float(np.trace(alike))
    rows, columns = optimize.linear_sum_assignment(-alike)
    best = float(alike[rows, columns].sum())
    if best - straight < 0.1 * len(names):
        return ()
    pairs = [f"{names[a]} looks like {names[b]}" for a, b in zip(rows, columns, strict=True) if a != b]
    return (
        Finding(
            "",
            f"the channels of the repeats are not in the order of production: {', '.join(pairs)}; check the lights' "
            "plugs and the recipe's channels",
            True,
        ),
    )


def _channel(
    frames: NDArray[np.generic], name: str, full_scale: float, dark_dn: float, *, expect_light: bool
) -> list[Finding]:
    same = sum(bool(np.array_equal(frames[index], frames[index + 1])) for index in range(len(frames) - 1))
    saturated = float((frames[0] >= full_scale).mean())
    if saturated > _SATURATED_SHARE:
        sentence = f"channel {name} is saturated over {100 * saturated:.0f} % of the frame; shorten its exposure"
        return [Finding(name, sentence, True)]
    found = []
    if same and same >= 0.5 * (len(frames) - 1):
        sentence = (
            f"channel {name} is frozen: {same} of {len(frames) - 1} frames are those before them, pixel by pixel; "
            "check the camera and its driver"
        )
        found.append(Finding(name, sentence, True))
    elif same:
        sentence = f"channel {name}: {same} frames came twice, pixel by pixel; check the camera and its driver"
        found.append(Finding(name, sentence, False))
    bright = float(np.percentile(frames[0], 99)) - dark_dn
    if expect_light and (bright <= max(_DARK_SHARE * full_scale, 3.0) or _unlit(frames, full_scale)):
        sentence = (
            f"channel {name} is dark: no light reaches the sensor; check its lamp, its cable and the recipe's lights"
        )
        found.append(Finding(name, sentence, True))
    if not expect_light and bright > 0.1 * full_scale:
        sentence = f"channel {name} is not dark with the lights off; keep other light from the cell"
        found.append(Finding(name, sentence, True))
    return found


def _unlit(frames: NDArray[np.generic], full_scale: float) -> bool:
    """Tell whether frames (R, H, W) are dark and show nothing but noise."""
    mean = frames[:8].mean(axis=0, dtype=np.float64)
    low, high = np.percentile(mean, (1, 99))
    if high > _BLACK_SHARE * full_scale:
        return False
    noise = float(np.std(frames[1].astype(np.float64) - frames[0])) / np.sqrt(2)
    return bool(high - low < _EVEN * noise + 0.5)


def _coarse(stacks: NDArray[np.generic]) -> Floats:
    """Return block means (R, K, h, w)."""
    rows, columns = (side // _BLOCK * _BLOCK for side in stacks.shape[-2:])
    cut = stacks[..., :rows, :columns].astype(np.float32)
    blocks = cut.reshape(*stacks.shape[:2], rows // _BLOCK, _BLOCK, columns // _BLOCK, _BLOCK)
    return np.asarray(blocks.mean(axis=(3, 5)), np.float64)


def _swapped(coarse: Floats, names: Sequence[str]) -> list[tuple[int, Finding]]:
    usual = np.median(coarse, axis=0)
    light = float(usual.mean())
    found = []
    for repeat, stack in enumerate(coarse):
        away = np.sqrt(((stack[:, None] - usual[None]) ** 2).mean(axis=(2, 3)))
        for channel, name in enumerate(names):
            nearest = int(away[channel].argmin())
            if nearest != channel and away[channel, channel] > max(_DISTINCT * light, 2 * away[channel, nearest]):
                sentence = (
                    f"channel {name} is out of order: in some repeats it shows the frame of {names[nearest]}; check "
                    "the light sequence against the trigger"
                )
                found.append((repeat, Finding("", sentence, False)))
    return found


def _still(series: Series, kept: tuple[int, ...], dark_dn: float) -> tuple[tuple[int, ...], list[Finding]]:
    if len(kept) < 4:
        return kept, []
    steps = []
    for before, after in pairwise(kept):
        one, two = series[before].astype(np.float32) - dark_dn, series[after].astype(np.float32) - dark_dn
        factor = two.mean(axis=(1, 2)) / np.maximum(one.mean(axis=(1, 2)), 1e-6)
        steps.append(((two - factor[:, None, None] * one) ** 2).mean(axis=(1, 2)))
    usual = np.median(steps, axis=0)
    jump = np.median(np.asarray(steps) / np.maximum(usual, 1e-9), axis=1)
    breaks = [index + 1 for index, size in enumerate(jump) if size > _MOVED]
    if not breaks:
        return kept, []
    edges = [0, *breaks, len(kept)]
    start, end = max(pairwise(edges), key=lambda run: run[1] - run[0])
    first = breaks[0]
    picture = [series[list(part)].mean(axis=(0, 1)) for part in (kept[:first], kept[first:])]
    down, across = _movement(picture[0], picture[1])
    sentence = (
        f"camera or part moved between repeat {kept[first - 1] + 1} and {kept[first] + 1} (by about {across:+.1f} px "
        f"across, {down:+.1f} px down); {end - start} repeats that lie still were used; fasten "
        "both and take the repeats again"
    )
    return kept[start:end], [Finding("", sentence, False)]


def _movement(before: Floats, after: Floats) -> tuple[float, float]:
    """Return the rows and columns by which a picture moved (Lucas and Kanade, from coarse to fine)."""
    at = np.zeros(2)
    for sigma in (6.0, 6.0, 3.0, 3.0, 1.5, 1.5):
        one = ndimage.gaussian_filter(before, sigma)
        two = ndimage.shift(ndimage.gaussian_filter(after, sigma), -at, order=1, mode="nearest")
        rim = int(np.ceil(4 + np.abs(at).max()))
        inside = (slice(rim, -rim), slice(rim, -rim))
        slopes = np.stack([slope[inside].ravel() for slope in np.gradient(one)], axis=1)
        if slopes.shape[0] < 100:
            break
        at = at - np.linalg.lstsq(slopes, (two - one)[inside].ravel(), rcond=None)[0]
    return float(at[0]), float(at[1])


def _correlation(one: Floats, other: Floats) -> float:
    a, b = one - one.mean(), other - other.mean()
    return float((a * b).sum() / max(float(np.sqrt((a * a).sum() * (b * b).sum())), 1e-9))


def _merged(findings: Sequence[Finding]) -> list[Finding]:
    return list(dict.fromkeys(findings))
