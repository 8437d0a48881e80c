"""The loss: small defects count like large ones, and silence is never the cheapest answer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own usage)
from torch import Tensor

from trainer.foreign import UNKNOWN_CLASS
from trainer.network import strongest_evidence


@dataclass(frozen=True, slots=True)
class LossWeights:
    """Weights of the terms of :func:`segmentation_loss`."""

    small_area: float = 150.0  # half-resolution pixels that a defect in a crop counts for at least
    largest_weight: float = 60.0  # of one pixel of a tiny defect
    overlap: float = 0.5  # soft Dice of the crops with a defect
    ghosts: float = 0.3  # the worst 0.5 % of the good pixels
    kind: float = 0.1  # cross-entropy between the classes inside defects
    image: float = 0.3  # whether the crop holds a defect, by its strongest pixels


def segmentation_loss(evidence: Tensor, kinds: Tensor, labels: Tensor, weights: LossWeights) -> tuple[Tensor, Tensor]:
    """Return the loss of a batch and, for every crop, how strong its ghosts are.

    :param evidence: (N, 1, h, w) logits of "there is a defect", at half the resolution of the labels.
    :param kinds: (N, D, h, w) logits of the defect class.
    :param labels: (N, 2h, 2w) uint8, 0 good, 1..D defect class, 255 defective without a class.
    :returns: scalar loss, and (N,) detached mean loss of the worst 0.5 % good pixels, which steers the sampler.

    A pixel of half resolution is defective when any of its four pixels is, and has the highest class among them.
    An unweighted loss settles on "nothing anywhere", since 99 % of the pixels are good: the defect's pixels are
    weighted up to `small_area`, and the Dice term counts every defect once, whatever its size. Pixels within 3 of a
    mask are no ghosts: masks are drawn by hand.
    """
    evidence = evidence[:, 0]
    value = F.max_pool2d(labels.float()[:, None], 2)[:, 0]
    present = value > 0
    pixels = present[0].numel()
    loss = F.binary_cross_entropy_with_logits(evidence, present.float(), reduction="none")
    area = present.flatten(1).sum(1).clamp(min=1).float()
    weight = (weights.small_area / area).clamp(1.0, weights.largest_weight)[:, None, None]
    pixel_term = (loss * torch.where(present, weight, torch.ones_like(weight))).sum((1, 2)).mean() / pixels

    near = F.max_pool2d(present.float()[:, None], 7, 1, 3)[:, 0] > 0
    ghosts = (loss * ~near).flatten(1).topk(max(1, pixels // 200), 1)[0].mean(1)

    has_defect = present.flatten(1).any(1)
    probability = torch.sigmoid(evidence)
    overlap = (probability * present).flatten(1).sum(1)
    dice = 1 - (2 * overlap + 5) / (probability.flatten(1).sum(1) + area + 5)
    overlap_term = (dice * has_defect).sum() / has_defect.sum().clamp(min=1)

    image_term = F.binary_cross_entropy_with_logits(strongest_evidence(evidence[:, None])[:, 0], has_defect.float())

    total = (
        pixel_term
        + weights.overlap * overlap_term
        + weights.ghosts * ghosts.mean()
        + weights.kind * _kind_term(kinds, value, present, area, has_defect)
        + weights.image * image_term
    )
    return total, ghosts.detach()


def _kind_term(kinds: Tensor, value: Tensor, present: Tensor, area: Tensor, has_defect: Tensor) -> Tensor:
    if not bool(has_defect.any()):
        return kinds.sum() * 0
    known = present & (value != UNKNOWN_CLASS)
    if not bool(known.any()):
        return kinds.sum() * 0
    entropy = F.cross_entropy(kinds, torch.where(known, value.long() - 1, 0), reduction="none")
    return ((entropy * known).flatten(1).sum(1) / area)[known.flatten(1).any(1)].mean()
