"""The few-shot benchmark's arms beside the generators: augmented copies, balanced classes, one share for all."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import _arms, fewshot, fewshot_table
from benchmarks._arms import synthesise
from benchmarks._classic import balanced
from benchmarks._layout import Product
from cell.defects import PASTED_FROM
from cell.imaging.preprocess import Preprocessing
from cell.jobs import Progress
from tests.trainer.parts import plate
from trainer.fit import FitConfig
from trainer.generate.base import GenerateRequest
from trainer.samples import CropSampler, Sampling

_KINDS = (("pit", 0), ("pit", 1), ("scratch", 2), ("scratch", 3))


@pytest.fixture(scope="module")
def plates() -> Product:
    seeds = [plate(part, kind, picture) for kind, part in _KINDS for picture in range(2)]
    good = [plate(part) for part in range(10, 14)]
    return Product("plates", ("pit", "scratch"), 8, tuple(seeds), tuple(good), (), ("left", "right"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The same kind of product in files, one light."""
    root = tmp_path / "plates"
    kinds = [*(("seeds", *one) for one in _KINDS), *(("backgrounds", "good", part) for part in range(10, 14))]
    kinds += [("test", "pit", 20), ("test", "scratch", 21), ("test", "good", 22), ("test", "good", 23)]
    for where, kind, part in kinds:
        (root / where / kind).mkdir(parents=True, exist_ok=True)
        one = plate(part, kind)
        Image.fromarray(one.stack[0]).save(root / where / kind / f"t{part:03d}_e1.png")
        if one.labels.any():
            mask = Image.fromarray(np.where(one.labels > 0, 255, 0).astype(np.uint8))
            mask.save(root / where / kind / f"t{part:03d}_e1_mask.png")
    return root


def test_augmented_copies_are_of_a_real_part_and_keep_its_defect(plates: Product) -> None:
    made = synthesise("augment", plates, 4, 1, _ignore)
    again = synthesise("augment", plates, 4, 1, _ignore)
    assert made.seeds_can_be_held_out
    assert [int(sample.labels.max()) for sample in made.samples] == [1] * 4 + [2] * 4
    for sample, same in zip(made.samples, again.samples, strict=True):
        assert np.array_equal(sample.stack, same.stack)
        own = [seed for seed in plates.seeds if seed.group == sample.group]
        # A fold that holds the part out leaves its copies out as well.
        assert sample.tags[PASTED_FROM] == sample.group
        assert sample.synthetic
        assert sample.stack.dtype == np.uint8
        assert sample.stack.shape[1:] == sample.labels.shape
        assert all(not np.array_equal(sample.stack, seed.stack) for seed in own)
        area = (sample.labels > 0).sum() / (own[0].labels > 0).sum()
        assert 0.3 <= area < 2.0
        # The labels went where the pixels went: the defect is still darker, or brighter, than what is around it.
        inside, around = (np.median(sample.stack[0][where]) for where in (sample.labels > 0, sample.labels == 0))
        assert (inside < 0.8 * around) if sample.labels.max() == 1 else (inside > 1.15 * around)
    assert any(sample.stack.shape != plates.seeds[0].stack.shape for sample in made.samples)  # quarter turns


def test_balanced_adds_nothing_but_weighs_good_as_one_class(plates: Product) -> None:
    assert synthesise("balanced", plates, 4, 1, _ignore).samples == ()
    changed = balanced(Sampling(synthetic_share=0.3), plates.classes)
    assert changed.defect_share == pytest.approx(2 / 3)
    assert not changed.mining
    assert changed.synthetic_share == 0.3
    samples = [*plates.seeds, *plates.backgrounds]
    spec = Preprocessing(channels=plates.channels, bit_depth=8, multiple_of=32)
    sampler = CropSampler(samples, spec, replace(changed, size=64), 0)
    marked = [bool(((one > 0) & (one < 255)).any()) for one in sampler.draw(60).labels]
    assert np.mean(marked) > 0.6  # half of them in the arm `real`, and some more by chance


@pytest.mark.parametrize("arm", ["vae", "gan"])
def test_learning_arms_make_images_of_each_class(plates: Product, arm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(_arms, "GenerateRequest", partial(GenerateRequest, fit_steps=1))
    made = synthesise(arm, plates, 1, 1, _ignore)
    assert not made.seeds_can_be_held_out
    assert [int(sample.labels.max()) for sample in made.samples] == [1, 2]
    backgrounds = {sample.group: sample.stack for sample in plates.backgrounds}
    for sample in made.samples:
        assert ((sample.stack != backgrounds[sample.group]).any(axis=0))[sample.labels > 0].mean() > 0.5


def test_one_share_of_synthetic_crops_is_taken_recorded_and_told_apart(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shares, usual = [], Sampling().synthetic_share

    def noted(config: FitConfig) -> str:
        shares.append(config.sampling.synthetic_share)
        return repr(config)

    monkeypatch.setattr(FitConfig, "record", noted)
    runs = []
    for number, (arm, *more) in enumerate((["augment", "--ratio", "0.75"], ["augment"], ["balanced"])):
        runs.append(str(tmp_path / f"{number}.json"))
        arguments = ["--data", str(folder), "--arm", arm, "--updates", "2", "--batch", "2", "--folds", "0", "--quiet"]
        work = ["--work", str(tmp_path / f"work-{number}")]
        assert fewshot.main([*arguments, *work, *more, "--per-class", "2", "--json", runs[-1]]) == 0
    assert [json.loads(Path(run).read_text())["ratio"] for run in runs] == [0.75, usual, None]
    assert {0.75, usual} <= set(shares)
    capsys.readouterr()
    assert fewshot_table.main([*runs, "--against", "balanced"]) == 0
    rows = [row.split("|")[1].strip() for row in capsys.readouterr().out.split("\n\n")[0].splitlines()[2:]]
    assert rows == [f"augment@{usual:g}", "augment@0.75", "balanced"]
    with pytest.raises(SystemExit):
        fewshot.main(["--data", str(folder), "--ratio", "1.5"])
    assert "between 0 and 1" in capsys.readouterr().err


def _ignore(_: Progress) -> None:
    """Nobody listens."""
