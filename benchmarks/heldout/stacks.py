"""A product's parts as stacks of K channels: what a cell with K lights hands over, from pictures one light each.

On disk a part is K pictures ``NAME_e1.png`` to ``NAME_eK.png``, one a light, as docs/data-layout.md has it for several
exposures of one part; here they are one :class:`cell.defects.Sample` again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from cell.defects import Sample
from cell.errors import DataError


def stack_parts(samples: Iterable[Sample]) -> list[Sample]:
    """Return one sample a part: `stack` (K, H, W) in the order of the pictures' names, `labels` what any of them marks.

    :raises DataError: when parts differ in how many pictures they have, or one part's pictures in size.
    """
    parts: dict[str, list[Sample]] = {}
    for sample in samples:
        parts.setdefault(sample.group, []).append(sample)
    counts = {len(members) for members in parts.values()}
    if len(counts) > 1:
        raise DataError(f"parts have {min(counts)} to {max(counts)} pictures; give each the same lights")
    return [_stack(part, members) for part, members in parts.items()]


def _stack(part: str, members: list[Sample]) -> Sample:
    ordered = sorted(members, key=lambda sample: sample.sample_id)
    if len({sample.stack.shape for sample in ordered}) > 1:
        raise DataError(f"the pictures of part {part} differ in size; a stack needs registered frames")
    labels = np.maximum.reduce([sample.labels for sample in ordered])
    stack = np.concatenate([sample.stack for sample in ordered])
    return replace(ordered[0], stack=stack, labels=labels, sample_id=part)
