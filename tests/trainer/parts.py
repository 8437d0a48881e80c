"""A small product for tests: brushed plates, some with a dark pit or a bright scratch, several pictures of a part."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from cell.defects import Sample
from cell.imaging.preprocess import Preprocessing
from trainer.fit import FitConfig, FittedModel, fit
from trainer.network import DetectorConfig
from trainer.samples import Sampling

CLASSES = ("pit", "scratch")
SPEC = Preprocessing(channels=("left", "right"))


def plate(part: int, kind: str = "good", picture: int = 0, size: tuple[int, int] = (90, 110)) -> Sample:
    """Return one picture of one part; `kind` is good, pit or scratch."""
    rng = np.random.default_rng([part, 7])
    height, width = size
    lay = rng.normal(0, 4, (1, width)) + np.zeros((height, 1))
    row, column = int(rng.integers(20, height - 30)), int(rng.integers(20, width - 40))
    labels = np.zeros(size, np.uint8)
    if kind == "pit":
        y, x = np.ogrid[:height, :width]
        labels[(y - row) ** 2 + (x - column) ** 2 <= 30] = 1
    elif kind == "scratch":
        labels[row : row + 3, column : column + 30] = 2
    exposure = 1.0 + 0.3 * picture
    noise = np.random.default_rng([part, picture, 11])
    channels = []
    for gain in (1.0, 0.7):
        image = (90.0 + lay) * gain * exposure + noise.normal(0, 2, size)
        image = np.where(labels == 1, image * 0.45, np.where(labels == 2, image * 1.5, image))
        channels.append(np.clip(np.rint(image), 0, 255).astype(np.uint8))
    return Sample(stack=np.stack(channels), labels=labels, group=f"p{part}", sample_id=f"p{part}_{picture}")


def learning_parts(good: int = 8, bad: int = 3, pictures: int = 2) -> list[Sample]:
    """Return pictures of good parts and of `bad` parts of each class."""
    kinds = ["good"] * good + ["pit"] * bad + ["scratch"] * bad
    return [plate(part, kind, picture) for part, kind in enumerate(kinds) for picture in range(pictures)]


def held_out_parts(good: int = 6, bad: int = 3) -> list[Sample]:
    """Return other parts than :func:`learning_parts`."""
    kinds = ["good"] * good + ["pit"] * bad + ["scratch"] * bad
    return [plate(100 + part, kind) for part, kind in enumerate(kinds)]


#: Seconds instead of minutes: small crops of a small network.
QUICK = FitConfig(
    updates=160,
    batch=8,
    sampling=Sampling(size=64),
    network=DetectorConfig(widths=(8, 12, 16, 24, 24)),
    checkpoint_every=10,
)


@lru_cache(maxsize=1)
def trained() -> FittedModel:
    """Return a model fitted to :func:`learning_parts`, once for all tests of a process."""
    return fit(learning_parts(), SPEC, CLASSES, QUICK)
