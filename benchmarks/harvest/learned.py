"""What harvest goes by on textures: background model, the network learned from good parts, and the mean of both.

No defect is seen and no weights come from elsewhere. The network looks at every picture by itself; a part's evidence is
the mean of its pictures', as harvest takes it. Inside the learning folders two folds over physical parts: every good
part is scored by models that never saw it, every seed by both folds', and the spread of good evidence is that of the
good parts that are asked. ``test/`` is opened to report, once: the network learns from three quarters of
``backgrounds/`` and the last quarter says what good parts score, as the oddity job has it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from safetensors.torch import load_file, save_file

from benchmarks.harvest.tile import Row, model_of, outline, rows_of, table
from cell.defects import Sample
from cell.imaging import oddity
from cell.imaging.background import BackgroundModel
from cell.imaging.folders import FolderDataset, read_folder
from cell.imaging.preprocess import Preprocessing
from cell.jobs import Progress
from trainer.checkpoints import identity
from trainer.fit import FitConfig, FittedModel
from trainer.network import DetectorNetwork
from trainer.oddity import CONFIG, divided, learn, maps_of

_FOLDS = 2
#: The tables of one number of channels.
NETWORK, BACKGROUND, BOTH = "network", "background model", "mean of both"


@dataclass(frozen=True, slots=True)
class Learning:
    """How networks are fitted, and where they are kept to be used again; None: nowhere."""

    updates: int | None = None
    networks: Path | None = None

    @property
    def config(self) -> FitConfig:
        """The trainer's, but for what was asked otherwise."""
        return CONFIG if self.updates is None else replace(CONFIG, updates=self.updates)

    def fitted(self, good: Sequence[Sample], spec: Preprocessing) -> FittedModel:
        """Return the network of these good parts: a kept one when there is one, else a fresh one."""
        if self.networks is None:
            return learn(good, spec, self.config, progress=_telling())
        self.networks.mkdir(parents=True, exist_ok=True)
        name = identity(good, spec, (oddity.CLASS,), self.config.record())[:16]
        file = self.networks / f"{name}.safetensors"
        if file.exists():
            network = DetectorNetwork(1, 1, self.config.network)
            network.load_state_dict(load_file(file))
            network.channels_last()
            return FittedModel(network.eval(), spec, (oddity.CLASS,), self.config, ())
        model = learn(good, spec, self.config, progress=_telling(), checkpoint=self.networks / f"{name}.part")
        save_file({key: value.contiguous() for key, value in model.network.state_dict().items()}, file)
        return model


@dataclass(slots=True)
class _Scored:
    """A row and what was said of it, in robust deviations of good parts."""

    row: Row
    network: float = 0.0
    background: float = 0.0


def measure(root: Path, channels: Sequence[int], *, with_test: bool, learning: Learning) -> dict[str, Any]:
    """Return the figures of a folder for each number of channels. Raises `DataError` when it can't be read."""
    dataset = read_folder(root)
    return {"test": _test(dataset, channels, learning)} if with_test else {"inner": _inner(dataset, channels, learning)}


def _test(dataset: FolderDataset, channels: Sequence[int], learning: Learning) -> dict[str, Any]:
    good, asked = (rows_of(dataset, items, 1) for items in (dataset.backgrounds, dataset.test))
    learned, aside = divided(_samples(good))
    model = learning.fitted(learned, _spec(good))
    parts = {sample.group for sample in aside}
    left_out = [row for row in good if row.part in parts]
    usual_evidence, evidence = (_evidence(model, rows) for rows in (left_out, asked))
    found = {}
    for count in channels:
        rows = [_Scored(row) for row in rows_of(dataset, dataset.test, count)]
        usual = oddity.usual(np.asarray(_of_parts(left_out, usual_evidence, count)))
        background = model_of(rows_of(dataset, dataset.backgrounds, count))
        _judge(rows, _of_parts(asked, evidence, count), usual, background)
        found[str(count)] = _tables(rows)
    return found


def _inner(dataset: FolderDataset, channels: Sequence[int], learning: Learning) -> dict[str, Any]:
    items = (*dataset.backgrounds, *dataset.seeds)
    pictures = rows_of(dataset, items, 1)
    scored = {count: [_Scored(row) for row in rows_of(dataset, items, count)] for count in channels}
    parts = sorted({row.part for row in pictures if not row.defect_class})
    for left_out in range(_FOLDS):
        aside = set(parts[left_out::_FOLDS])
        good = [row for row in pictures if not row.defect_class and row.part not in aside]
        model = learning.fitted(_samples(good), _spec(good))
        asked = [row for row in pictures if row.defect_class or row.part in aside]
        evidence = _evidence(model, asked)
        for count in channels:
            rows = [one for one in scored[count] if one.row.defect_class or one.row.part in aside]
            values = _of_parts(asked, evidence, count)
            good_ones = [value for value, one in zip(values, rows, strict=True) if not one.row.defect_class]
            usual = oddity.usual(np.asarray(good_ones))
            others = [one.row for one in scored[count] if not one.row.defect_class and one.row.part not in aside]
            _judge(rows, values, usual, model_of(others), share=1 / _FOLDS)
    return {str(count): _tables(rows) for count, rows in scored.items()}


def _judge(
    rows: Sequence[_Scored],
    evidence: Sequence[float],
    usual: tuple[float, float],
    background: BackgroundModel,
    share: float = 1.0,
) -> None:
    """Add what both say; a defective part's counts by its `share`: it is asked in every fold."""
    middle, spread = usual
    for one, value in zip(rows, evidence, strict=True):
        weight = share if one.row.defect_class else 1.0
        view = background.view(one.row.stack, one.row.whole)
        one.network += weight * (value - middle) / spread
        one.background += weight * view.deviations
        if one.row.truth.any():
            outline(one.row, background.mask_of(view))


def _samples(rows: Sequence[Row]) -> list[Sample]:
    return [
        Sample(stack=row.stack, labels=np.zeros(row.truth.shape, np.uint8), group=row.part, sample_id=str(index))
        for index, row in enumerate(rows)
    ]


def _spec(rows: Sequence[Row]) -> Preprocessing:
    return Preprocessing(channels=(oddity.CHANNEL,), bit_depth=8 if rows[0].stack.dtype == np.uint8 else 16)


def _evidence(model: FittedModel, pictures: Sequence[Row]) -> NDArray[np.float64]:
    return np.asarray([oddity.evidence(maps_of(model, row.stack)) for row in pictures])


def _of_parts(pictures: Sequence[Row], evidence: NDArray[np.float64], channels: int) -> list[float]:
    """Return the evidence of each row that :func:`rows_of` makes of the same pictures at that many channels."""
    if channels == 1:
        return [float(value) for value in evidence]
    of: dict[tuple[str, str], list[float]] = {}
    for row, value in zip(pictures, evidence, strict=True):
        of.setdefault((row.defect_class, row.part), []).append(float(value))
    return [float(np.mean(values[:channels])) for values in of.values() if len(values) >= channels]


def _tables(rows: Sequence[_Scored]) -> dict[str, Any]:
    said = {
        BACKGROUND: [one.background for one in rows],
        NETWORK: [one.network for one in rows],
        BOTH: [(one.network + one.background) / 2 for one in rows],
    }
    return {
        name: table([replace(one.row, score=score) for one, score in zip(rows, scores, strict=True)])
        for name, scores in said.items()
    }


def _telling() -> Callable[[Progress], None]:
    console = Console(stderr=True)

    def tell(progress: Progress) -> None:
        if progress.done % 100 == 0:
            console.print(f"{progress.stage}: {json.dumps([progress.done, progress.total])} {progress.note}")

    return tell
