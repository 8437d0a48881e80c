"""``python -m trainer.base.train_detector PAIRS``: train the base of the judge on rendered pairs; goes on where it was.

PAIRS is a folder of ``python -m drivers.sim.collection``. The network sees one lamp at a time: each lamp's picture of
each part is an image of its own, and the part's good twin under the same lamp is one of a good part. Beside the
rendered defects, good crops get patches that belong elsewhere (:mod:`trainer.foreign`), so that no defect has to be of
a kind that the renderer knows.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cell.defects import Sample
from cell.errors import DataError
from cell.imaging.preprocess import Preprocessing
from cell.jobs import Progress
from trainer.base import detector
from trainer.fit import FitConfig, fit
from trainer.samples import Augmentation, Sampling

#: Kinds of defects in a collection; the map of kinds is not taken over by a cell's network.
KINDS = 12
#: Surfaces have no preferred direction here, and scale is free.
AUGMENTATION = Augmentation(quarter_turns=True, rotation_deg=20.0, log_zoom=0.4, gain=0.15, shading=0.15, noise=0.25)
SAMPLING = Sampling(foreign_share=0.4, mining=False, augmentation=AUGMENTATION, cache_bytes=6 << 30)
#: Smaller defects are not taught: four pixels of one lamp are noise as often as not.
_FEWEST_PIXELS = 6


def samples_in(folder: Path) -> list[Sample]:
    """Return the pictures of a collection. Raises `DataError` when the folder holds none."""
    found = [sample for file in sorted(folder.glob("pairs-*.npz")) for sample in _of_file(file)]
    if not found:
        raise DataError(f"{folder} holds no rendered pairs; make some with python -m drivers.sim.collection {folder}")
    return found


def _of_file(file: Path) -> Iterator[Sample]:
    shard = int(file.stem.rpartition("-")[2])
    with np.load(file) as held:
        bad, good, labels = held["bad"], held["good"], held["labels"]
    for index in range(len(bad)):
        group = f"part-{shard * len(bad) + index}"
        for lamp in range(bad.shape[1]):
            label: NDArray[np.uint8] = labels[index, lamp]
            name = f"{group}-{lamp}"
            if np.count_nonzero(label) >= _FEWEST_PIXELS:
                yield Sample(bad[index, lamp][None], label, group, sample_id=name)
            yield Sample(good[index, lamp][None], np.zeros_like(label), f"{group}-good", sample_id=f"{name}-good")


def main(arguments: list[str] | None = None) -> int:
    """Train, and write the base when all updates are done; return the exit status."""
    options = _parser().parse_args(arguments)
    samples = samples_in(options.pairs)
    config = FitConfig(
        updates=options.updates,
        batch=options.batch,
        average=0.998,
        seed=options.seed,
        threads=options.threads,
        checkpoint_every=250,
        sampling=SAMPLING,
        start="random",
    )
    started = time.monotonic()

    def report(progress: Progress) -> None:
        if progress.done % 100 == 0:
            left = f"{progress.seconds_left:.0f} s left"
            sys.stdout.write(f"{progress.done} of {progress.total}, {progress.note}, {left}\n")
            sys.stdout.flush()

    preprocessing = Preprocessing(channels=("any",))
    kinds = [f"kind-{index}" for index in range(KINDS)]
    checkpoint = options.output.with_suffix(".checkpoint")
    model = fit(samples, preprocessing, kinds, config, progress=report, checkpoint=checkpoint)
    facts = {
        "updates": str(config.updates),
        "batch": str(config.batch),
        "seed": str(config.seed),
        "pictures": str(len(samples)),
        "seconds": f"{time.monotonic() - started:.0f}",
        "losses": " ".join(f"{loss:.3f}" for loss in model.losses),
    }
    detector.write(model.network, options.output, facts)
    sys.stdout.write(f"{options.output}: {facts}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trainer.base.train_detector", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--output", type=Path, default=detector.SHIPPED)
    parser.add_argument("--updates", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    return parser


if __name__ == "__main__":
    sys.exit(main())
