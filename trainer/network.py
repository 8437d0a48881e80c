"""The segmentation network: small, fully convolutional, any number of channels and any size.

::

    stack (N, K, H, W) --stem, stride 2--> 1/2 --> 1/4 --> 1/8 --> 1/16 --> 1/32        residual encoder
                                            ^ add    ^        ^        |
                                            '--------'--------'--------'                 decoder, nearest x2
    1/2: evidence (1): is there a defect?   kinds (D): which class would it be?
    probability = sigmoid(evidence) * share of the class relative to the likeliest one
    score       = the same for the whole image, from its strongest places

"Is there something" is learned from all classes together, since five parts a class are few; which class it is only
shares that out. The highest class probability of a pixel is therefore the probability of any defect there, and the
highest class score that of the image. The receptive field (about 400 pixels) covers a part's width, so that a change of
texture between two halves can be seen; that nothing is computed above half resolution is what keeps it fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own usage)
from torch import Tensor, nn

#: Heights and widths must be multiples of this.
STRIDE = 32
#: Places of half resolution that make an image's score.
_STRONGEST = 16
_MOMENTUM = 0.05


@dataclass(frozen=True, slots=True)
class DetectorConfig:
    """Widths of the five levels (1/2 to 1/32) and the dropout at the bottom."""

    widths: tuple[int, int, int, int, int] = (12, 24, 48, 64, 96)
    dropout: float = 0.1


class _Convolution(nn.Sequential):
    """3 x 3 convolution, batch normalisation (folded into it when exported) and ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs, momentum=_MOMENTUM),
            nn.ReLU(inplace=True),
        )


class _Residual(nn.Module):
    """x + two convolutions; starts as the identity, so that depth costs nothing at the beginning."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _Convolution(width, width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width, momentum=_MOMENTUM)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm(self.second(self.first(x))))


class DetectorNetwork(nn.Module):
    """See the module's drawing. In evaluation mode the outputs are those of the exported model."""

    def __init__(self, channels: int, classes: int, config: DetectorConfig | None = None) -> None:
        super().__init__()
        config = config or DetectorConfig()
        widths = config.widths
        self.channels, self.classes, self.config = channels, classes, config
        # Six pixels wide at stride 2: every output sees its 2 x 2 pixels and two around them.
        self.stem = nn.Conv2d(channels, widths[0], 6, 2, 2, bias=False)
        self.stem_norm = nn.BatchNorm2d(widths[0], momentum=_MOMENTUM)
        self.down = nn.ModuleList(_Convolution(a, b, 2) for a, b in pairwise(widths))
        self.encode = nn.ModuleList(
            nn.Sequential(*[_Residual(width) for _ in range(2 if width_index == len(widths) - 2 else 1)])
            for width_index, width in enumerate(widths[1:])
        )
        self.bottom = nn.Dropout2d(config.dropout)
        self.lateral = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(widths))
        self.decode = nn.ModuleList([_Convolution(widths[0], widths[0]), *[_Residual(width) for width in widths[1:-1]]])
        self.evidence = nn.Conv2d(widths[0], 1, 1)
        self.kinds = nn.Conv2d(widths[0], classes, 1)
        # Good pixels are the rule.
        self.evidence.bias = nn.Parameter(torch.full((1,), -3.0))

    def channels_last(self) -> None:
        """Lay the weights out as the convolutions of oneDNN like them: about a quarter faster on a CPU."""
        for parameter in self.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)

    def logits(self, stack: Tensor) -> tuple[Tensor, Tensor]:
        """Return evidence (N, 1, H/2, W/2) and kinds (N, D, H/2, W/2) of inputs (N, K, H, W)."""
        x = F.relu(self.stem_norm(self.stem(stack)))
        levels = [x]
        for down, encode in zip(self.down, self.encode, strict=True):
            x = encode(down(x))
            levels.append(x)
        x = self.bottom(x)
        for level in range(len(self.decode) - 1, -1, -1):
            up = F.interpolate(self.lateral[level](x), scale_factor=2.0, mode="nearest")
            x = self.decode[level](up + levels[level])
        return self.evidence(x), self.kinds(x)

    def forward(self, stack: Tensor) -> tuple[Tensor, Tensor]:
        """Judge.

        :param stack: (N, K, H, W) float32 network input, H and W multiples of 32.
        :returns: probability (N, D, H, W) and score (N, D), both in [0, 1].
        """
        evidence, kinds = self.logits(stack)
        share = torch.exp(kinds - kinds.amax(1, keepdim=True))
        probability = torch.sigmoid(evidence) * share
        image = torch.sigmoid(strongest_evidence(evidence))
        strongest = F.avg_pool2d(probability, 3, 1, 1, count_include_pad=False).amax((2, 3))
        score = image * strongest / strongest.amax(1, keepdim=True).clamp(min=1e-12)
        return F.interpolate(probability, scale_factor=2.0, mode="bilinear", align_corners=False), score


def strongest_evidence(evidence: Tensor) -> Tensor:
    """Return the mean of the 16 strongest 3 x 3 means of an evidence map: logit (N, 1) that the image shows a defect.

    16 places at half resolution are 64 pixels: a defect of that size anywhere counts in full, a single hot pixel
    doesn't, and the size of the image doesn't matter. A maximum, shares of the image and a learned head over several
    of them ordered held-out parts less well (docs/notes/detector.md).

    :param evidence: (N, 1, h, w) logits, h * w >= 16.
    """
    smooth = F.avg_pool2d(evidence, 3, 1, 1, count_include_pad=False).flatten(1)
    return smooth.topk(_STRONGEST, 1)[0].mean(1, keepdim=True)
