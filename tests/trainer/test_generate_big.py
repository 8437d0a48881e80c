"""The arm that paints with a local inpainting checkpoint; here with one of a real format that nobody ever trained."""

from __future__ import annotations

import json
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionInpaintPipeline
from safetensors.torch import load, save_file

from cell.defects import Draft
from cell.errors import ConfigurationError, JobCancelled, JobError, ModelError
from cell.frames import Stack
from cell.jobs import Progress
from tests.trainer.checkpoint_support import write_checkpoint
from tests.trainer.generate_support import BIT_DEPTH, CALIBRATION, RECIPE, backgrounds, seeds
from trainer.generate import big_views, inpainter, lora
from trainer.generate.base import GenerateRequest, Scene
from trainer.generate.big import StableDiffusion
from trainer.generate.candidates import make_candidates
from trainer.generate.inpainter import GUIDANCE, Inpainter
from trainer.generate.looks import Look, look_at

BACKGROUNDS, SEEDS = backgrounds(2), seeds(3)
REQUEST = GenerateRequest(
    arm="stable-diffusion", per_class=1, classes=("pit", "crack"), random_seed=1, fit_steps=1, sampling_steps=3
)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture(scope="module")
def painter(folder: Path) -> Inpainter:
    return Inpainter(folder)


def make(workdir: Path, checkpoint: Path | None, **changes: object) -> list[Draft]:
    request = replace(REQUEST, **changes)  # type: ignore[arg-type]
    return list(
        make_candidates(request, SEEDS, BACKGROUNDS, CALIBRATION, RECIPE, workdir=workdir, checkpoint=checkpoint)
    )


def looks(name: str = "pit") -> list[Look]:
    own = tuple(seed for seed in SEEDS if seed.defect_class == name)
    scene = Scene(RECIPE, CALIBRATION, {name: own}, tuple(BACKGROUNDS))
    return [look_at(seed, scene) for seed in own]


def test_candidates_keep_every_promise_and_ask_no_network(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("something asked for a network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    drafts, again = make(tmp_path / "one", folder), make(tmp_path / "two", folder)
    assert [draft.defect_class for draft in drafts] == ["pit", "crack"]
    for draft, same in zip(drafts, again, strict=True):
        before = next(b for b in BACKGROUNDS if b.background_id == draft.provenance.background_id)
        assert draft.stack.dtype == before.stack.dtype
        assert np.array_equal(draft.stack[:, ~draft.support], before.stack[:, ~draft.support])
        assert not np.array_equal(draft.stack, before.stack)
        assert draft.mask.any()
        assert not (draft.mask & ~draft.support).any()
        assert np.array_equal(draft.stack, same.stack)
        assert draft.provenance == same.provenance
        assert draft.provenance.parameters.arm == "stable-diffusion"
        assert draft.provenance.base_digest == Inpainter(folder).digest
        assert len(draft.provenance.adapter_digest) == 64
    # The same adapters on another day: read, not fitted.
    written = {file: file.stat().st_mtime_ns for file in (tmp_path / "one").iterdir()}
    third = make(tmp_path / "one", folder)
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "one").iterdir()} == written
    assert all(np.array_equal(a.stack, b.stack) for a, b in zip(drafts, third, strict=True))


def test_painting_is_what_the_stock_pipeline_computes(folder: Path, painter: Inpainter) -> None:
    """The same begin, noise, mask and prompt through diffusers' own loop give the same latent."""
    stock = StableDiffusionInpaintPipeline.from_pretrained(folder, local_files_only=True, safety_checker=None)
    stock.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(3)
    picture = torch.rand((1, 3, 32, 32), generator=generator) * 2 - 1
    mask = torch.zeros((1, 1, 32, 32))
    mask[..., 8:20, 12:24] = 1
    guide = painter.guide(picture, mask, painter.prompt("a pit"))
    noise = painter.noise(generator)
    steps, start = 10, 0.8
    begin = painter.encode(picture)
    ours = painter.paint(begin, noise, guide, painter.prompt(""), steps=steps, start=start, go_on=lambda *_: None)
    painter.schedule.set_timesteps(steps)
    noisy = painter.schedule.add_noise(begin, noise, painter.schedule.timesteps[2:3])
    theirs = stock(
        "a pit",
        image=(picture + 1) / 2,
        mask_image=mask,
        masked_image_latents=guide.masked,
        strength=start,
        num_inference_steps=steps,
        guidance_scale=GUIDANCE,
        latents=noisy,
        output_type="latent",
    ).images
    assert torch.allclose(ours, theirs, atol=1e-4)
    assert not torch.allclose(ours, begin, atol=0.1)


def test_published_and_newly_written_folders_are_read_alike(painter: Inpainter, tmp_path: Path) -> None:
    newer = Inpainter(write_checkpoint(tmp_path / "newer", published=False))
    assert torch.equal(newer.prompt("a pit"), painter.prompt("a pit"))
    picture = torch.linspace(-1, 1, 3 * 32 * 32).reshape(1, 3, 32, 32)
    assert torch.equal(newer.encode(picture), painter.encode(picture))
    assert newer.digest != painter.digest


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 8])
def test_any_number_of_lights_goes_into_pictures_and_back(channels: int) -> None:
    groups = big_views.groups_of(channels)
    assert all(len(group) == 3 for group in groups)
    assert {channel for group in groups for channel in group} == set(range(channels))
    rng = np.random.default_rng(channels)
    coarse = rng.normal(0, 0.3, (channels, 4, 6)).astype(np.float32)
    log = np.kron(coarse, np.ones((1, 8, 8), np.float32))
    pictures = big_views.pictures_of(log, 1.5, 192)
    assert pictures.shape == (len(groups), 3, 192, 192)
    assert float(pictures.abs().max()) <= 1
    back = big_views.log_from(pictures, log.shape, 1.5)
    assert back.shape == log.shape
    assert np.abs(back - log)[:, 4::8, 4::8].max() < 0.01


def test_thin_outlines_stay_where_wide_windows_shrink() -> None:
    distance = np.full((300, 300), -20.0, np.float32)
    distance[150, 20:280] = 1.0
    assert big_views.mask_of(distance, 32)[0, 0].any(dim=0)[4:28].all()


def test_groups_of_lights_share_outline_render_and_noise(folder: Path, tmp_path: Path) -> None:
    scene = Scene(RECIPE, CALIBRATION, {"pit": tuple(s for s in SEEDS if s.defect_class == "pit")}, tuple(BACKGROUNDS))
    arm = StableDiffusion(scene, REQUEST, tmp_path, folder)
    arm.fit("pit", looks(), lambda _: None, lambda: False)
    rows, columns = np.mgrid[:40, :36]
    distance = (8 - np.hypot(rows - 20, columns - 18)).astype(np.float32)
    window: Stack = np.repeat(BACKGROUNDS[0].stack[:1, 40:80, 40:76], 4, axis=0).astype(np.uint16)
    smooth = np.repeat((-0.3 * (distance > 0)).astype(np.float32)[None], 4, axis=0)
    painted = arm._paint(window, smooth, distance, "pit", np.random.default_rng(0))
    # Where all lights show the same, the fourth, painted apart as all three colours, is the mean of the other three.
    assert np.allclose(painted[:3].mean(axis=0), painted[3], atol=1e-4)
    other = arm._paint(window, smooth, distance, "pit", np.random.default_rng(1))
    assert not np.allclose(other, painted, atol=1e-3)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_fitting_brings_the_loss_down_and_only_the_adapter_learns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prediction: str
) -> None:
    monkeypatch.setattr(big_views, "RATE", 1e-2)
    painter = Inpainter(write_checkpoint(tmp_path / "tiny", prediction=prediction))
    before = {name: value.clone() for name, value in painter.unet.state_dict().items()}
    lora.inject(painter.unet, big_views.TARGETS, big_views.RANK, big_views.ALPHA)
    subject = big_views.subject_of("pit", looks(), BIT_DEPTH, 0)
    lesson = big_views._Lesson(painter, subject, 0)
    first = lesson.check(list(subject.views))
    told: list[Progress] = []
    big_views.learn(painter, subject, 20, 0, told.append, lambda: False)
    assert (told[-1].stage, told[-1].done, told[-1].total) == ("adapter pit", 20, 20)
    assert lesson.check(list(subject.views)) < first
    after = {name.replace(".base_layer", ""): value for name, value in painter.unet.state_dict().items()}
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not painter.unet.training


def test_both_the_fit_and_the_painting_can_be_cancelled(folder: Path, tmp_path: Path) -> None:
    def drafts(after: int) -> list[Draft]:
        asked = iter(range(10_000))
        return list(
            make_candidates(
                replace(REQUEST, fit_steps=2, classes=("pit",)),
                SEEDS,
                BACKGROUNDS,
                CALIBRATION,
                RECIPE,
                workdir=tmp_path,
                checkpoint=folder,
                cancelled=lambda: next(asked) >= after,
            )
        )

    with pytest.raises(JobCancelled, match="adapter pit was stopped"):
        drafts(3)
    assert list(tmp_path.iterdir()) == []
    # Ten steps of the fit, one question before the candidate, then between the steps of its painting.
    with pytest.raises(JobCancelled, match="generation was stopped"):
        drafts(12)
    assert [file.suffix for file in tmp_path.iterdir()] == [".safetensors"]
    assert len(drafts(10_000)) == 1


def test_damaged_and_foreign_adapters_are_refused(folder: Path, tmp_path: Path) -> None:
    make(tmp_path, folder, classes=("pit",))
    file = next(tmp_path.glob("*.safetensors"))
    whole = file.read_bytes()
    state = load(whole)
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="is damaged"):
        make(tmp_path, folder, classes=("pit",))
    save_file(state, file, metadata={"base": "another"})
    with pytest.raises(ModelError, match="belongs to another base"):
        make(tmp_path, folder, classes=("pit",))
    save_file({"x": torch.zeros(1)}, file, metadata={"base": Inpainter(folder).digest})
    with pytest.raises(ModelError, match="not one of this generator"):
        make(tmp_path, folder, classes=("pit",))


def test_without_a_checkpoint_the_setting_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"trainer\.checkpoint_folder"):
        make(tmp_path, None)


def _edited(folder: Path, name: str, **changes: object) -> None:
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def _without(folder: Path, name: str, weight: str) -> None:
    state = load((folder / name).read_bytes())
    save_file({key: value for key, value in state.items() if not key.endswith(weight)}, folder / name)


WRONG = {
    "nothing": (lambda f: shutil.rmtree(f), "model_index.json is missing"),
    "damaged index": (lambda f: (f / "model_index.json").write_text("{"), "model_index.json is missing or damaged"),
    "larger class": (lambda f: _edited(f, "model_index.json", text_encoder_2=[]), "is of another class"),
    "no tokenizer": (lambda f: shutil.rmtree(f / "tokenizer"), "has no folder tokenizer"),
    "no vocabulary": (lambda f: (f / "tokenizer/vocab.json").unlink(), "tokenizer has neither"),
    "damaged vocabulary": (lambda f: (f / "tokenizer/vocab.json").write_text("{"), "tokenizer is damaged"),
    "damaged merges": (lambda f: (f / "tokenizer/merges.txt").write_bytes(b"#\n\xff"), "tokenizer is damaged"),
    "no sampler": (lambda f: (f / "scheduler/scheduler_config.json").unlink(), "scheduler_config.json is missing"),
    "pickled": (lambda f: (f / "vae/diffusion_pytorch_model.safetensors").rename(f / "vae/x.bin"), "no weights as"),
    "half a file": (lambda f: (f / "unet/diffusion_pytorch_model.safetensors").write_bytes(b"1234"), "is damaged"),
    "lacking weights": (lambda f: _without(f, "vae/diffusion_pytorch_model.safetensors", "conv_in.bias"), "lacks"),
    "lacking words": (lambda f: _without(f, "text_encoder/model.safetensors", "final_layer_norm.bias"), "lacks"),
    "another encoder": (lambda f: _edited(f, "text_encoder/config.json", hidden_size=32), "are not of one checkpoint"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_folder_is_told_in_one_sentence(folder: Path, tmp_path: Path, case: str) -> None:
    wrong = tmp_path / "wrong"
    shutil.copytree(folder, wrong)
    spoil, said = WRONG[case]
    spoil(wrong)
    with pytest.raises(ModelError, match=said) as caught:
        Inpainter(wrong)
    assert "\n" not in str(caught.value)
    assert "set trainer.checkpoint_folder" in str(caught.value)


def test_a_checkpoint_that_does_not_inpaint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="takes 4 channels where one that inpaints takes 9"):
        Inpainter(write_checkpoint(tmp_path / "four", in_channels=4))


def test_a_checkpoint_larger_than_memory_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inpainter, "_BYTES_A_WEIGHT", 10**12)
    with pytest.raises(JobError, match="GiB of memory"):
        Inpainter(folder)
