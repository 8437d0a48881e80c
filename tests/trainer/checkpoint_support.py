"""An inpainting checkpoint in diffusers' layout, tiny and never trained: its format is real, its pictures are noise."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionInpaintPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

WIDTH, WORDS = 16, 24  # of the text encoder; its longest prompt


def write_checkpoint(
    folder: Path, *, in_channels: int = 9, prediction: str = "epsilon", published: bool = True
) -> Path:
    """Write the checkpoint into `folder` and return it; pictures of 32 pixels, latents of 16.

    :param published: with the names and files that such checkpoints were published with; else those of today.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        pipeline = StableDiffusionInpaintPipeline(
            vae=AutoencoderKL(
                down_block_types=("DownEncoderBlock2D",) * 2,
                up_block_types=("UpDecoderBlock2D",) * 2,
                block_out_channels=(8, 8),
                norm_num_groups=4,
                sample_size=32,
            ),
            unet=UNet2DConditionModel(
                sample_size=16,
                in_channels=in_channels,
                down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
                up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
                block_out_channels=(8, 16),
                layers_per_block=1,
                norm_num_groups=4,
                attention_head_dim=2,
                cross_attention_dim=WIDTH,
            ),
            text_encoder=_text_encoder(),
            tokenizer=_tokenizer(folder),
            scheduler=DDIMScheduler(
                beta_start=0.00085,
                beta_end=0.012,
                beta_schedule="scaled_linear",
                clip_sample=False,
                set_alpha_to_one=False,
                steps_offset=1,
                prediction_type=prediction,
            ),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipeline.save_pretrained(folder, safe_serialization=True)
    if published:
        _as_published(folder)
    return folder


def _text_encoder() -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=64,
        hidden_size=WIDTH,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=WORDS,
        bos_token_id=62,
        eos_token_id=63,
    )
    return CLIPTextModel(config)


def _tokenizer(folder: Path) -> CLIPTokenizer:
    folder.mkdir(parents=True, exist_ok=True)
    return CLIPTokenizer(*(str(file) for file in _write_vocabulary(folder)), model_max_length=WORDS)


def _write_vocabulary(folder: Path) -> tuple[Path, Path]:
    """Write the two files of a tokenizer that knows single letters."""
    letters = [chr(ord("a") + index) for index in range(26)] + ["-", "'"]
    words = letters + [f"{letter}</w>" for letter in letters]
    vocabulary = {word: index for index, word in enumerate(words)} | {"<|startoftext|>": 62, "<|endoftext|>": 63}
    files = folder / "vocab.json", folder / "merges.txt"
    files[0].write_text(json.dumps(vocabulary), encoding="utf-8")
    files[1].write_text("#version: 0.2\n", encoding="utf-8")
    return files


def _as_published(folder: Path) -> None:
    """Bring the folder from today's habits to those that published checkpoints were written with."""
    (folder / "tokenizer/tokenizer.json").unlink()
    for file in (folder / "vocab.json", folder / "merges.txt"):
        file.rename(folder / "tokenizer" / file.name)
    weights = folder / "text_encoder/model.safetensors"
    state = {f"text_model.{name}": value for name, value in load_file(weights).items()}
    state["text_model.embeddings.position_ids"] = torch.arange(WORDS)[None]
    save_file(state, weights, metadata={"format": "pt"})
    weights = folder / "vae/diffusion_pytorch_model.safetensors"
    state = load_file(weights)
    for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
        state = {name.replace(f".{new}.", f".{old}."): value for name, value in state.items()}
    save_file(state, weights, metadata={"format": "pt"})
