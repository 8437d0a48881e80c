"""The arms that are fitted to a class alone: an interpolating autoencoder and a generator against a critic."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from cell import digest
from cell.defects import Draft
from cell.errors import JobCancelled, ModelError
from cell.jobs import Progress
from tests.trainer.generate_support import CALIBRATION, RECIPE, backgrounds, seeds
from trainer.generate import gan, lora, vae, weights
from trainer.generate.alignment import aligned
from trainer.generate.base import GenerateRequest, Scene, Shape
from trainer.generate.candidates import make_candidates
from trainer.generate.convolutions import inside_of, rest_of, told_of
from trainer.generate.copypaste import CopyPaste
from trainer.generate.lessons import Lesson, crops, lesson
from trainer.generate.looks import Look, look_at
from trainer.generate.outlines import signed_distance
from trainer.generate.plan import draw

BACKGROUNDS, SEEDS = backgrounds(2), seeds(3)
ARMS = ("vae", "gan")
REQUEST = GenerateRequest(arm="vae", per_class=2, classes=("pit",), random_seed=1, fit_steps=1)
SCENE = Scene(RECIPE, CALIBRATION, {"pit": tuple(s for s in SEEDS if s.defect_class == "pit")}, tuple(BACKGROUNDS))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def make(folder: Path, arm: str, request: GenerateRequest = REQUEST) -> list[Draft]:
    asked = replace(request, arm=arm)
    return list(make_candidates(asked, SEEDS, BACKGROUNDS, CALIBRATION, RECIPE, workdir=folder))


@pytest.fixture(scope="module")
def looks() -> list[Look]:
    return [look_at(seed, SCENE) for seed in SCENE.seeds["pit"]]


@pytest.fixture(scope="module")
def lessons(looks: list[Look]) -> list[Lesson]:
    return [lesson(look) for look in looks]


@pytest.mark.parametrize("arm", ARMS)
def test_candidates_are_identical_outside_visible_and_repeatable(arm: str, tmp_path: Path) -> None:
    drafts, again = make(tmp_path / "one", arm), make(tmp_path / "two", arm)
    for draft, same in zip(drafts, again, strict=True):
        before = next(b.stack for b in BACKGROUNDS if b.background_id == draft.provenance.background_id)
        assert np.array_equal(draft.stack[:, ~draft.support], before[:, ~draft.support])
        assert draft.stack.dtype == before.dtype
        changed = before[:, draft.mask].astype(float) - draft.stack[:, draft.mask]
        assert (changed.mean(axis=1) > 100).all()  # pits are dark under both lights
        assert np.array_equal(draft.stack, same.stack)
        assert draft.provenance == same.provenance
        assert draft.provenance.parameters.arm == arm
        assert len(draft.provenance.adapter_digest) == 64
    assert not np.array_equal(drafts[0].stack, drafts[1].stack)


@pytest.mark.parametrize("arm", [vae.Vae, gan.Gan])
def test_what_is_painted_varies_and_is_no_copy_of_a_seed(
    arm: type[vae.Vae] | type[gan.Gan], looks: list[Look], tmp_path: Path
) -> None:
    # The toy's pits have no texture of their own; give each seed its own, as real ones have.
    rough = [_roughened(look, number) for number, look in enumerate(looks)]
    painter, paste = arm(SCENE, replace(REQUEST, arm=arm.name), tmp_path), CopyPaste()
    painter.fit("pit", rough, _ignore, _never)
    paste.fit("pit", rough, _ignore, _never)
    shape = _shape(rough)
    window = BACKGROUNDS[0].stack[:, shape.window[0], shape.window[1]]
    one, other = (
        painter.appearance(window, shape, 1.0, "pit", np.random.default_rng(n)).contrast[:, shape.mask] for n in (1, 2)
    )
    pasted = paste.appearance(window, shape, 1.0, "pit", np.random.default_rng(1)).contrast[:, shape.mask]
    assert np.corrcoef(one.ravel(), pasted.ravel())[0, 1] < 0.9
    assert np.abs(one - other).std() > 0.02
    assert one.shape == other.shape == pasted.shape


@pytest.mark.parametrize("arm", ARMS)
def test_weights_are_found_again_and_wrong_files_refused(arm: str, tmp_path: Path) -> None:
    make(tmp_path, arm)
    (file,) = tmp_path.glob("*.safetensors")
    written, whole = file.stat().st_mtime_ns, file.read_bytes()
    make(tmp_path, arm)
    assert file.stat().st_mtime_ns == written
    other = make(tmp_path / "other", "gan" if arm == "vae" else "vae")
    assert other
    (foreign,) = (tmp_path / "other").glob("*.safetensors")
    assert foreign.name != file.name
    file.write_bytes(foreign.read_bytes())
    with pytest.raises(ModelError, match="belongs to another base"):
        make(tmp_path, arm)
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="is damaged"):
        make(tmp_path, arm)
    weights.save({"x": torch.zeros(1)}, file, vae.DESIGN if arm == "vae" else gan.DESIGN)
    with pytest.raises(ModelError, match="not one of this generator"):
        make(tmp_path, arm)


@pytest.mark.parametrize("arm", ARMS)
def test_a_fit_can_be_cancelled_between_two_steps_and_leaves_nothing_half(arm: str, tmp_path: Path) -> None:
    steps = []

    def stop_after_two(progress: Progress) -> None:
        steps.append(progress.done)

    drafts = make_candidates(
        replace(REQUEST, arm=arm, fit_steps=2),
        SEEDS,
        BACKGROUNDS,
        CALIBRATION,
        RECIPE,
        workdir=tmp_path,
        progress=stop_after_two,
        cancelled=lambda: len(steps) >= 2,
    )
    with pytest.raises(JobCancelled, match="resume"):
        next(drafts)
    assert steps == [1, 2]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arm", [vae.Vae, gan.Gan])
def test_a_fit_in_another_process_gives_the_same_file(
    arm: type[vae.Vae] | type[gan.Gan], lessons: list[Lesson], tmp_path: Path
) -> None:
    painter = arm(SCENE, replace(REQUEST, arm=arm.name, fit_steps=1), tmp_path)
    sent = pickle.loads(pickle.dumps(painter._chore("pit", lessons, tmp_path / "sent.safetensors")))
    sent(_ignore, _never)
    painter._chore("pit", lessons, tmp_path / "own.safetensors")(_ignore, _never)
    assert digest.of_file(tmp_path / "sent.safetensors") == digest.of_file(tmp_path / "own.safetensors")


def test_the_autoencoder_learns_what_the_render_lacks() -> None:
    target, condition = crops(_blots(), 6, np.random.default_rng(3))
    before, after = (
        vae.unexplained(vae.fit(_blots(), steps, 0, _ignore, _never, stage="autoencoder"), target, condition)
        for steps in (1, 25)
    )
    assert after < 0.9 * before


def test_what_does_not_help_a_part_that_was_left_out_is_not_kept() -> None:
    # Three parts that have nothing in common: whatever is learned of two is wrong of the third, or no better.
    alone = [replace(one, target=one.condition[:, 1] + factor * (one.target - one.condition[:, 1]))
             for one, factor in zip(_blots(), (1.0, 1.0, 1e-3), strict=True)]  # fmt: skip
    held = lora.left_out((one.part_id for one in alone), 2)
    (other,) = (one for one in alone if one.part_id == held)
    network = vae.fit(alone, 20, 2, _ignore, _never, stage="autoencoder")
    fresh = vae.fit(alone, 1, 2, _ignore, _never, stage="autoencoder")
    checked = crops([other], 4, np.random.default_rng(0))
    assert vae.unexplained(network, *checked) <= 1.05 * vae.unexplained(fresh, *checked)


def test_the_critic_tells_seeds_from_drawn_ones() -> None:
    contest = gan._Contest(_blots(), 0)
    for _ in range(6):
        contest.step(1e-3)
    target, condition = crops(_blots(), 8, np.random.default_rng(3))
    told = told_of(condition)
    with torch.no_grad():
        drawn = contest.generator(told, gan.noise_for(told, torch.Generator().manual_seed(0)))
        real, made = (contest.critic(one / contest.generator.unit, told) for one in (rest_of(target, told), drawn))
    assert real.mean() > made.mean()
    # Nothing is drawn outside of an outline.
    assert float(drawn[(inside_of(told) == 0).expand_as(drawn)].abs().max()) == 0.0


@pytest.mark.parametrize("channels", [1, 8])
def test_any_number_of_channels_is_painted_jointly(channels: int) -> None:
    condition = torch.zeros(1, channels, 3, 16, 24)
    condition[:, :, 2, 4:12, 4:20] = 0.5
    told = told_of(condition)
    autoencoder, generator = vae.Autoencoder(channels).eval(), gan.Generator(channels).eval()
    with torch.no_grad():
        mean, log_variance = autoencoder.encode(torch.zeros(1, channels, 16, 24), told)
        drawn = generator(told, gan.noise_for(told, torch.Generator().manual_seed(0)))
        assert autoencoder.decode(mean, told).shape == drawn.shape == (1, channels, 16, 24)
        assert gan.Critic(channels)(drawn, told).shape == (1,)
    assert mean.shape == log_variance.shape == (1, vae.LATENTS, 4, 6)


def test_a_seed_is_laid_along_another_outline() -> None:
    rows, columns = np.mgrid[:60, :60]
    lying = signed_distance(np.hypot((rows - 30) / 5, (columns - 28) / 20) < 1)
    standing = signed_distance(np.hypot((rows - 33) / 20, (columns - 30) / 5) < 1)
    dark = np.where(lying > 0, -1.0, 0.0)[None].astype(np.float32)
    moved = aligned(dark, lying, standing, np.random.default_rng(0))
    assert moved[0, standing > 1].mean() < -0.95
    assert np.abs(moved[0, standing < -2]).mean() < 0.02


def _ignore(_: Progress) -> None:
    """Nobody listens."""


def _never() -> bool:
    return False


def _roughened(look: Look, number: int) -> Look:
    rng = np.random.default_rng([number, 9])
    soft = ndimage.gaussian_filter(rng.normal(0, 1.2, look.contrast.shape[1:]), 1.5)
    grain = soft.astype(np.float32) * (look.distance > 0)
    texton = np.stack([rng.normal(0, 0.04, (6, 6)).astype(np.float32)] * 2)
    return replace(look, contrast=look.contrast + grain, texton=texton)


def _blots() -> list[Lesson]:
    """Three round defects of one channel with a soft grain of their own, each of another part."""
    rows, columns = np.mgrid[:64, :64]
    distance = ((24 - np.hypot(rows - 32, columns - 32)) / 16).clip(-1, 1)
    found = []
    for part in range(3):
        grain = ndimage.gaussian_filter(np.random.default_rng([part, 8]).normal(0, 4.0, (64, 64)), 4.0)
        smooth = np.where(distance > 0, -0.5, 0.0)
        condition = np.stack([0 * smooth, smooth, distance])[None].astype(np.float32)
        target = (smooth + grain * (distance > 0))[None].astype(np.float32)
        found.append(Lesson(f"p{part}", target, condition))
    return found


def _shape(looks: list[Look]) -> Shape:
    shape = draw([look.outline for look in looks], BACKGROUNDS[0], REQUEST, np.random.default_rng(4))
    assert shape is not None
    return shape
