"""An inpainting checkpoint of the Stable Diffusion class (Rombach et al. 2022) from a local folder, ready to paint.

The folder has diffusers' layout: ``model_index.json``, ``unet`` (9 input channels: noisy latent, mask, latent of the
masked picture), ``vae``, ``text_encoder``, ``tokenizer``, ``scheduler``; weights as safetensors, nothing is unpickled
and nothing is asked of a network. Pictures are (B, 3, side, side) float32 in [-1, 1], masks (B, 1, side, side) 0 or 1.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from cell import digest
from cell.errors import JobError, ModelError

#: What is told apart in such a checkpoint's folder; every part but the safety checker, which judges photographs.
PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
#: Weight of the prompt against the empty prompt (Ho and Salimans 2022).
GUIDANCE = 2.0
#: Bytes of memory for each weight: it is held in single precision, and activations come on top.
_BYTES_A_WEIGHT = 7


@dataclass(frozen=True, slots=True, eq=False)
class Guide:
    """What the network is told beside the noisy latent, on its device.

    `mask` (B, 1, s, s), `masked` (B, 4, s, s) the latent of the picture without what is masked, `prompt` (B, T, C).
    """

    mask: Tensor
    masked: Tensor
    prompt: Tensor


class Inpainter:
    """A loaded checkpoint. `side` is the length of the pictures that it paints, pixels; `digest` that of its files.

    :raises ModelError: when the folder is not such a checkpoint, naming what is wrong with it.
    :raises JobError: when it needs more memory than is free.
    """

    def __init__(self, folder: Path) -> None:
        _check(folder)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        # Bars are for terminals; a job's log is none.
        transformers_logging.disable_progress_bar()
        # A damaged file shows itself in many ways, none of which these libraries have given a class of its own.
        try:
            unet = _weights(UNet2DConditionModel, folder / "unet")
            vae = _weights(AutoencoderKL, folder / "vae")
            text = _weights(CLIPTextModel, folder / "text_encoder")
            self.digest = _digest(folder)
            # The folder may name any sampler; its noise schedule is what the network was trained with.
            facts = _json(folder, "scheduler/scheduler_config.json")
            self.schedule = DDIMScheduler.from_config(facts, clip_sample=False, set_alpha_to_one=False)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise _unusable(folder, (str(error).splitlines() or [type(error).__name__])[0]) from error
        self._tokenizer = _tokenizer(folder)
        self.unet: nn.Module = unet.to(self.device).eval()
        self._vae: Any = vae.to(self.device).eval()
        self._text: Any = text.to(self.device).eval()
        for network in (self.unet, self._vae, self._text):
            network.requires_grad_(False)
        # Activations are computed again in the backward pass: a fit needs little more memory than painting.
        unet.enable_gradient_checkpointing()
        self._scale = float(vae.config.scaling_factor)
        self._latents = int(unet.config.sample_size)
        self.side = self._latents * 2 ** (len(vae.config.block_out_channels) - 1)

    @torch.no_grad()
    def prompt(self, words: str) -> Tensor:
        """Return the text encoder's (1, T, C) for a prompt; what exceeds its length is left out."""
        longest = min(self._tokenizer.model_max_length, self._text.config.max_position_embeddings)
        ids = self._tokenizer(words, padding="max_length", max_length=longest, truncation=True, return_tensors="pt")
        encoded: Tensor = self._text(ids.input_ids.to(self.device)).last_hidden_state
        return encoded.float()

    @torch.no_grad()
    def encode(self, pictures: Tensor) -> Tensor:
        """Return the latents (B, 4, s, s) of pictures."""
        with self._precision():
            latents: Tensor = self._vae.encode(pictures.to(self.device)).latent_dist.mode()
        return latents.float() * self._scale

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Return the pictures of latents, in the machine's own memory."""
        with self._precision():
            pictures: Tensor = self._vae.decode(latents / self._scale).sample
        return pictures.float().clamp(-1, 1).cpu()

    def guide(self, pictures: Tensor, mask: Tensor, prompt: Tensor) -> Guide:
        """Return what the network is told: the picture without what `mask` covers, the mask, the prompt."""
        small = nn.functional.interpolate(mask, (self._latents, self._latents)).to(self.device)
        masked = self.encode(pictures * (mask < 0.5))
        return Guide(small.expand(len(pictures), -1, -1, -1), masked, prompt.expand(len(pictures), -1, -1))

    def predict(self, latents: Tensor, steps: Tensor, guide: Guide) -> Tensor:
        """Return the network's prediction (B, 4, s, s), noise or velocity as the schedule says; `steps` (B,)."""
        told = torch.cat([latents, guide.mask, guide.masked], dim=1)
        with self._precision():
            prediction: Tensor = self.unet(told, steps, encoder_hidden_states=guide.prompt).sample
        return prediction.float()

    def target(self, latents: Tensor, noise: Tensor, steps: Tensor) -> Tensor:
        """Return what :meth:`predict` should say about `latents` under `noise`."""
        kind = self.schedule.config.prediction_type
        if kind == "epsilon":
            return noise
        wanted: Tensor = self.schedule.get_velocity(latents, noise, steps) if kind == "v_prediction" else latents
        return wanted

    def noise(self, generator: torch.Generator) -> Tensor:
        """Return unit noise (1, 4, s, s); drawn on the processor, so that it is the same on every device."""
        return torch.randn((1, 4, self._latents, self._latents), generator=generator).to(self.device)

    @torch.no_grad()
    def paint(
        self,
        begin: Tensor,
        noise: Tensor,
        guide: Guide,
        empty: Tensor,
        *,
        steps: int,
        start: float,
        go_on: Callable[[int, int], None],
    ) -> Tensor:
        """Return the latent (1, 4, s, s) that the network makes of `begin` under `noise`; DDIM, no fresh noise.

        :param empty: the empty prompt's encoding, from which guidance leads away.
        :param steps: of the whole schedule; the last `start` of them (share in (0, 1]) are taken.
        :param go_on: is called before each step with its number and theirs; what it raises ends the painting.
        """
        self.schedule.set_timesteps(steps)
        remaining = self.schedule.timesteps[steps - max(1, int(steps * start)) :].to(self.device)
        latents = noise if start >= 1 else self.schedule.add_noise(begin, noise, remaining[:1])
        both = Guide(guide.mask.repeat(2, 1, 1, 1), guide.masked.repeat(2, 1, 1, 1), torch.cat([empty, guide.prompt]))
        for number, step in enumerate(remaining):
            go_on(number, len(remaining))
            without, told = self.predict(latents.repeat(2, 1, 1, 1), step.repeat(2), both).chunk(2)
            latents = self.schedule.step(without + GUIDANCE * (told - without), step, latents).prev_sample
        return latents

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")


def _unusable(folder: Path, what: str) -> ModelError:
    return ModelError(
        f"the checkpoint {folder} can't be used: {what}; set trainer.checkpoint_folder to a Stable Diffusion 1 or 2 "
        "inpainting checkpoint in diffusers' layout with its weights as safetensors"
    )


def _check(folder: Path) -> None:
    """Raise unless the folder holds what its parts' configurations promise, before anything large is read."""
    index = _json(folder, "model_index.json")
    if "transformer" in index or "text_encoder_2" in index:
        raise _unusable(folder, f"it is of another class ({index.get('_class_name', 'no name')})")
    for part in PARTS:
        if not (folder / part).is_dir():
            raise _unusable(folder, f"it has no folder {part}")
    if not _vocabulary(folder):
        raise _unusable(folder, "its tokenizer has neither tokenizer.json nor vocab.json with merges.txt")
    unet, vae, text = (_json(folder, f"{part}/config.json") for part in PARTS[:3])
    _json(folder, "scheduler/scheduler_config.json")
    channels = unet.get("in_channels")
    if channels != 9:
        raise _unusable(folder, f"its network takes {channels} channels where one that inpaints takes 9")
    if vae.get("latent_channels") != 4 or unet.get("out_channels") != 4:
        raise _unusable(folder, "network and autoencoder don't both work on latents of 4 channels")
    if not isinstance(unet.get("sample_size"), int):
        raise _unusable(folder, "its network's configuration names no square sample_size")
    if unet.get("cross_attention_dim") != text.get("hidden_size"):
        raise _unusable(folder, "network and text encoder are not of one checkpoint: their widths differ")
    _check_memory(folder, sum(_weight_count(folder, part) for part in PARTS[:3]))


def _json(folder: Path, name: str) -> dict[str, Any]:
    try:
        values = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise _unusable(folder, f"{name} is missing or damaged") from error
    if not isinstance(values, dict):
        raise _unusable(folder, f"{name} is damaged")
    return values


def _vocabulary(folder: Path) -> list[Path]:
    """Return the tokenizer's files: the two that checkpoints were published with, or the one that replaced them."""
    for names in (("vocab.json", "merges.txt"), ("tokenizer.json",)):
        files = [folder / "tokenizer" / name for name in names]
        if all(file.is_file() for file in files):
            return files
    return []


def _files(folder: Path) -> Sequence[Path]:
    """Return a part's weights: those in single precision, or else in half."""
    every = sorted(folder.glob("*.safetensors"))
    whole = [file for file in every if ".fp16" not in file.name]
    return whole or every


def _weight_count(folder: Path, part: str) -> int:
    files = _files(folder / part)
    if not files:
        raise _unusable(folder, f"{part} has no weights as safetensors")
    count = 0
    for file in files:
        try:
            with safe_open(file, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118 (the opened file is no mapping)
                    count += torch.Size(opened.get_slice(name).get_shape()).numel()
        except (OSError, SafetensorError) as error:
            raise _unusable(folder, f"{part}/{file.name} is damaged ({error})") from error
    return count


def _check_memory(folder: Path, weights: int) -> None:
    free = _free_memory()
    needed = weights * _BYTES_A_WEIGHT
    if needed > free:
        raise JobError(
            f"the checkpoint {folder} needs about {needed / 2**30:.1f} GiB of memory and {free / 2**30:.1f} are free; "
            "end other programs or take the arm diffusion"
        )


def _free_memory() -> int:
    """Return the bytes that this process may still take: what is free, or less where its control group is limited."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    groups = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    own = next((line[3:].strip("/") for line in groups if line.startswith("0::")), "")
    root = Path("/sys/fs/cgroup")
    for group in (root / own, *(root / own).parents):
        limit = group / "memory.max"
        if (
            group.is_relative_to(root)
            and limit.is_file()
            and (said := limit.read_text(encoding="ascii").strip()) != "max"
        ):
            free = min(free, int(said))
    return free


def _digest(folder: Path) -> str:
    """Return the digest over all that decides what is painted: configurations, vocabulary, weights."""
    files = [folder / "model_index.json", folder / "scheduler/scheduler_config.json", *_vocabulary(folder)]
    files += [folder / part / "config.json" for part in PARTS[:3]]
    files += [file for part in PARTS[:3] for file in _files(folder / part)]
    return digest.of_record({str(file.relative_to(folder)): digest.of_file(file) for file in files})


def _tokenizer(folder: Path) -> Any:
    try:
        return CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    except Exception as error:
        raise _unusable(folder, f"its tokenizer is damaged ({(str(error).splitlines() or [''])[0]})") from error


def _weights(kind: Any, folder: Path) -> Any:
    """Return a network with its weights from a folder, in single precision; a missing weight is an error."""
    variant = "fp16" if ".fp16" in _files(folder)[0].name else None
    network, report = kind.from_pretrained(
        folder,
        local_files_only=True,
        use_safetensors=True,
        variant=variant,
        output_loading_info=True,
    )
    wrong = [*report["missing_keys"], *report["mismatched_keys"]]
    if wrong:
        raise ValueError(f"{folder.name} lacks {len(wrong)} of its weights, such as {wrong[0]}")
    return network.float()
