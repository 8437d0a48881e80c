"""Fitting: it learns, it repeats itself, it can be stopped anywhere and goes on as if it had not been."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cell.errors import ConfigurationError, DataError, JobCancelled
from cell.imaging.preprocess import Preprocessing
from cell.jobs import Progress
from tests.trainer.parts import CLASSES, QUICK, SPEC, held_out_parts, learning_parts, plate, trained
from trainer.fit import FittedModel, fit, go_on, lengthened

SHORT = replace(QUICK, updates=24)


def weights(model: FittedModel) -> dict[str, torch.Tensor]:
    return dict(model.network.state_dict())


def same(one: FittedModel, other: FittedModel) -> bool:
    return all(torch.equal(value, weights(other)[name]) for name, value in weights(one).items())


def test_a_few_parts_are_enough_to_find_the_defects_of_others() -> None:
    model = trained()
    for sample in held_out_parts():
        probability, score = model.predict(sample.stack)
        assert probability.shape == (2, *sample.labels.shape)
        assert probability.dtype == np.float32
        assert 0 <= probability.min() <= probability.max() <= 1
        defective = sample.labels > 0
        if defective.any():
            value = int(sample.labels.max())
            assert score.argmax() == value - 1
            assert score.max() > 0.5
            assert probability[value - 1][defective].mean() > 0.4
        else:
            assert score.max() < 0.5
    assert model.losses[-1] < 0.5 * model.losses[0]
    assert len(model.losses) == 10


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    first = fit(learning_parts(), SPEC, CLASSES, SHORT)
    torch.rand(7)  # what else the process draws must not matter
    assert same(first, fit(learning_parts(), SPEC, CLASSES, SHORT))
    assert not same(first, fit(learning_parts(), SPEC, CLASSES, replace(SHORT, seed=1)))


def test_cancelled_and_resumed_equals_never_stopped(tmp_path: Path) -> None:
    checkpoint = tmp_path / "run.safetensors"
    seen: list[Progress] = []
    calls = iter(range(1000))
    with pytest.raises(JobCancelled, match="13 of 24"):
        fit(learning_parts(), SPEC, CLASSES, SHORT, cancelled=lambda: next(calls) >= 13, checkpoint=checkpoint)
    assert checkpoint.exists()
    resumed = fit(learning_parts(), SPEC, CLASSES, SHORT, progress=seen.append, checkpoint=checkpoint)
    assert same(resumed, fit(learning_parts(), SPEC, CLASSES, SHORT))
    assert not checkpoint.exists()
    assert [one.done for one in seen] == [20, 24]
    assert seen[-1].total == 24
    assert seen[-1].seconds_left == 0


def test_going_on_starts_from_the_weights_and_leaves_them_alone() -> None:
    start = fit(learning_parts(), SPEC, CLASSES, SHORT)
    before = {name: value.clone() for name, value in weights(start).items()}
    further = go_on(start, learning_parts(), replace(SHORT, updates=2, learning_rate=1e-5))
    assert same(further, go_on(start, learning_parts(), replace(SHORT, updates=2, learning_rate=1e-5)))
    assert all(torch.equal(value, before[name]) for name, value in weights(start).items())
    moved = [(value.detach() - before[name]).abs().max() for name, value in further.network.named_parameters()]
    assert 0 < float(max(moved)) < 1e-3
    assert further.classes == start.classes


def test_many_defective_parts_are_learned_for_longer() -> None:
    few, many = learning_parts(bad=2), learning_parts(bad=30, pictures=1)
    short = replace(QUICK, updates=600)
    assert lengthened(short, few).updates == 600
    assert lengthened(short, many).updates == 60 * 139
    synthetic = [replace(sample, synthetic=True) for sample in many]
    assert lengthened(short, [*few, *synthetic]).updates == 600


def test_a_checkpoint_of_other_parts_or_broken_is_not_resumed(tmp_path: Path) -> None:
    checkpoint = tmp_path / "run.safetensors"
    with pytest.raises(JobCancelled):
        fit(learning_parts(bad=2), SPEC, CLASSES, SHORT, cancelled=_after(11), checkpoint=checkpoint)
    plain = fit(learning_parts(), SPEC, CLASSES, SHORT)
    assert same(plain, fit(learning_parts(), SPEC, CLASSES, SHORT, checkpoint=checkpoint))
    checkpoint.write_bytes(b"cut short")
    assert same(plain, fit(learning_parts(), SPEC, CLASSES, SHORT, checkpoint=checkpoint))


def test_synthetic_images_take_their_share_and_no_more() -> None:
    synthetic = [replace(plate(200 + n, "pit"), synthetic=True) for n in range(4)]
    model = fit([*learning_parts(), *synthetic], SPEC, CLASSES, SHORT)
    assert not same(model, fit(learning_parts(), SPEC, CLASSES, SHORT))


def test_what_can_not_be_learned_from_is_refused() -> None:
    good = [plate(n) for n in range(3)]
    with pytest.raises(DataError, match="shows a defect"):
        fit(good, SPEC, CLASSES, SHORT)
    with pytest.raises(DataError, match="is a good part"):
        fit([plate(1, "pit")], SPEC, CLASSES, SHORT)
    with pytest.raises(DataError, match="label map"):
        fit([*good, replace(plate(9, "pit"), labels=np.ones((5, 5), np.uint8))], SPEC, CLASSES, SHORT)
    with pytest.raises(ConfigurationError, match="crop size"):
        fit(learning_parts(), Preprocessing(channels=("left", "right"), multiple_of=48), CLASSES, SHORT)


def _after(count: int):  # type: ignore[no-untyped-def]
    calls = iter(range(10_000))
    return lambda: next(calls) >= count
