"""The diffusion arm: its base, its adapters, and what happens to wrong files. A few steps of an untrained base do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from cell import digest
from cell.defects import Draft
from cell.errors import JobCancelled, ModelError
from tests.trainer.generate_support import CALIBRATION, RECIPE, backgrounds, seeds
from trainer.base import train
from trainer.base.surfaces import example
from trainer.generate import adapter, denoiser
from trainer.generate.base import GenerateRequest, Scene
from trainer.generate.candidates import make_candidates
from trainer.generate.lessons import Lesson, lesson
from trainer.generate.looks import look_at

BACKGROUNDS, SEEDS = backgrounds(2), seeds(3)
REQUEST = GenerateRequest(arm="diffusion", per_class=2, classes=("pit",), random_seed=1, fit_steps=3, sampling_steps=3)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained base whose last layer is not zero, so that adapters have something to change."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("base") / "denoiser.safetensors"
    denoiser.save(denoiser.build(), path)
    return path


def make(folder: Path, base: Path, request: GenerateRequest = REQUEST, **changes: object) -> list[Draft]:
    return list(
        make_candidates(
            replace(request, **changes),  # type: ignore[arg-type]
            SEEDS,
            BACKGROUNDS,
            CALIBRATION,
            RECIPE,
            workdir=folder,
            base=base,
        )
    )


def lessons() -> list[Lesson]:
    scene = Scene(RECIPE, CALIBRATION, {"pit": tuple(SEEDS)}, tuple(BACKGROUNDS))
    return [lesson(look_at(seed, scene)) for seed in SEEDS if seed.defect_class == "pit"]


def fitted(network: nn.Module, steps: int = 3) -> nn.Module:
    return adapter.fit(network, lessons(), steps, 0, lambda _: None, lambda: False, stage="adapter pit")


def painted(network: nn.Module) -> torch.Tensor:
    one = lessons()[0]
    noise = denoiser.joint_noise((1, 2, 32, 32), torch.Generator().manual_seed(0))
    condition = torch.from_numpy(one.condition[None, :, :, :32, :32])
    with torch.no_grad():
        return denoiser.predict(network, noise[..., : condition.shape[-2], : condition.shape[-1]], condition, _STEP)


_STEP = torch.tensor([400])


def test_candidates_are_identical_outside_and_repeatable(base: Path, tmp_path: Path) -> None:
    drafts, again = make(tmp_path / "one", base), make(tmp_path / "two", base)
    for draft, same in zip(drafts, again, strict=True):
        before = next(b for b in BACKGROUNDS if b.background_id == draft.provenance.background_id)
        assert np.array_equal(draft.stack[:, ~draft.support], before.stack[:, ~draft.support])
        assert np.array_equal(draft.stack, same.stack)
        assert draft.provenance == same.provenance
        assert draft.provenance.base_digest == denoiser.digest(denoiser.load(base))
        assert len(draft.provenance.adapter_digest) == 64


def test_only_the_adapter_learns_and_it_changes_what_is_painted(base: Path) -> None:
    network = denoiser.load(base).eval()
    before = denoiser.digest(network)
    adapted = fitted(network)
    assert denoiser.digest(network) == before
    trainable = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert trainable
    assert all("lora_" in name for name in trainable)
    share = sum(p.numel() for p in adapted.parameters() if p.requires_grad) / sum(
        p.numel() for p in network.parameters()
    )
    assert 0.05 < share < 0.6
    frozen = {n.replace(".base_layer", ""): p for n, p in adapted.named_parameters() if "lora_" not in n}
    assert all(torch.equal(frozen[name], value) for name, value in network.named_parameters())


def test_an_adapter_begins_as_nothing_and_a_learned_one_does_something(base: Path) -> None:
    network = denoiser.load(base).eval()
    assert torch.allclose(painted(network), painted(adapter.attach(network).eval()), atol=1e-6)
    # Two parts: none is left out, so the last step counts.
    two = [one for one in lessons() if one.part_id != "p0"]
    learned = adapter.fit(network, two, 4, 0, lambda _: None, lambda: False, stage="adapter pit")
    assert not torch.allclose(painted(network), painted(learned), atol=1e-4)


def test_fitting_brings_the_loss_on_the_seeds_down(base: Path) -> None:
    network = denoiser.load(base).eval()
    checked = adapter._checks(lessons(), np.random.default_rng(0))
    before = adapter._check(network, checked)
    assert adapter._check(fitted(network, 25), checked) < 0.9 * before


def test_a_saved_adapter_is_found_again(base: Path, tmp_path: Path) -> None:
    first = make(tmp_path, base)
    files = list(tmp_path.glob("*.safetensors"))
    assert len(files) == 1
    written = files[0].stat().st_mtime_ns
    again = make(tmp_path, base)
    assert files[0].stat().st_mtime_ns == written
    assert all(np.array_equal(a.stack, b.stack) for a, b in zip(first, again, strict=True))
    # Another seed set, number of steps or random seed is another adapter.
    make(tmp_path, base, fit_steps=4)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def test_adapters_fitted_side_by_side_are_the_same(base: Path, tmp_path: Path) -> None:
    both = replace(REQUEST, classes=("pit", "crack"), per_class=1)
    alone = make(tmp_path / "one", base, both)
    together = make(tmp_path / "two", base, both, workers=2)
    assert [draft.provenance for draft in together] == [draft.provenance for draft in alone]
    assert all(np.array_equal(a.stack, b.stack) for a, b in zip(alone, together, strict=True))


def test_damaged_and_foreign_adapters_are_refused(base: Path, tmp_path: Path) -> None:
    make(tmp_path, base)
    file = next(tmp_path.glob("*.safetensors"))
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="is damaged"):
        make(tmp_path, base)
    state = load_file_of(whole, tmp_path)
    save_file(state, file, metadata={"base": "another"})
    with pytest.raises(ModelError, match="belongs to another base"):
        make(tmp_path, base)
    good = denoiser.digest(denoiser.load(base))
    save_file(dict(list(state.items())[1:]), file, metadata={"base": good})
    with pytest.raises(ModelError, match="not one of this generator"):
        make(tmp_path, base)


def load_file_of(data: bytes, folder: Path) -> dict[str, torch.Tensor]:
    path = folder / "copy.bin"
    path.write_bytes(data)
    return load_file(path)


def test_a_wrong_base_is_refused(tmp_path: Path) -> None:
    for content in (b"no weights", b""):
        path = tmp_path / "denoiser.safetensors"
        path.write_bytes(content)
        with pytest.raises(ModelError, match=r"trainer\.base\.train"):
            make(tmp_path, path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match=r"trainer\.base\.train"):
        make(tmp_path, path)


def test_fitting_can_be_cancelled_and_leaves_nothing_half(base: Path, tmp_path: Path) -> None:
    drafts = make_candidates(
        REQUEST, SEEDS, BACKGROUNDS, CALIBRATION, RECIPE, workdir=tmp_path, base=base, cancelled=lambda: True
    )
    with pytest.raises(JobCancelled, match="resume"):
        next(drafts)
    assert list(tmp_path.iterdir()) == []


def test_the_base_that_ships_is_the_one_of_its_card() -> None:
    denoiser.load(denoiser.SHIPPED)
    assert denoiser.SHIPPED.stat().st_size < 5_000_000
    assert digest.of_file(denoiser.SHIPPED) in denoiser.SHIPPED.with_name("README.md").read_text()


def test_the_base_that_ships_adds_what_the_render_lacks() -> None:
    network = denoiser.load(denoiser.SHIPPED).eval()
    rng = np.random.default_rng(5)
    target, condition = train.batch_of([example(48, 2, rng) for _ in range(8)])
    noise = denoiser.joint_noise(target.shape, torch.Generator().manual_seed(5))
    steps = torch.full((8,), 200)
    noisy = denoiser.scheduler().add_noise(target, noise, steps)
    with torch.no_grad():
        predicted = denoiser.predict(network, noisy, condition, steps)
    distance = condition[:, :, 2]
    assert denoiser.loss(predicted, target, distance) < 0.7 * denoiser.loss(condition[:, :, 1], target, distance)


@pytest.mark.parametrize("channels", [1, 3, 8])
def test_one_network_serves_any_number_of_channels(base: Path, channels: int) -> None:
    network = denoiser.load(base).eval()
    one = example(24, channels, np.random.default_rng(1))
    target, condition = train.batch_of([one])
    noise = denoiser.joint_noise(target.shape, torch.Generator().manual_seed(1))
    with torch.no_grad():
        both = denoiser.predict(network, noise, condition, _STEP)
        order = torch.arange(channels).flip(0)
        turned = denoiser.predict(network, noise[:, order], condition[:, order], _STEP)
    assert both.shape == (1, channels, 24, 24)
    # Channels have no rank: in another order they come out in that order.
    assert torch.allclose(both[:, order], turned, atol=1e-5)


def test_rendered_examples_are_what_the_condition_says() -> None:
    rng = np.random.default_rng(2)
    for _ in range(8):
        one = example(48, 4, rng)
        inside = one.distance > 0
        assert 4 <= inside.sum() <= 0.8 * 48 * 48
        # Far outside of the outline nothing happens, and one physical thing is seen alike by all lights.
        assert np.abs(one.contrast[:, one.distance < -6]).max(initial=0.0) < 1e-3
        assert np.isfinite(one.contrast).all()
        means = one.render[:, inside].mean(axis=1)
        assert (np.sign(means) == np.sign(means[0])).all()


def test_the_base_trains_and_goes_on_from_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train, "_POOL", 6)
    output = tmp_path / "denoiser.safetensors"

    def run(steps: int) -> int:
        command = ["train", "--output", str(output), "--steps", str(steps), "--batch", "4", "--threads", "1"]
        monkeypatch.setattr("sys.argv", command)
        train.main()
        return int(torch.load(output.with_suffix(".checkpoint.pt"), weights_only=True)["step"])

    assert run(2) == 2
    first = denoiser.digest(denoiser.load(output))
    assert run(2) == 2
    assert denoiser.digest(denoiser.load(output)) == first
    assert run(4) == 4
    assert denoiser.digest(denoiser.load(output)) != first
