"""Large canvases: tiles cover them, show no seam, never grow, and leave out what the outline does not reach."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trainer.generate import denoiser, tiles
from trainer.generate.outlines import signed_distance

HEIGHT, WIDTH = 128, 400


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return denoiser.load(denoiser.SHIPPED).eval()


def canvas(mask: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return noise and condition of an even surface with an outline."""
    flat = np.zeros((1, *mask.shape), np.float32)
    distance = signed_distance(mask)
    render = np.where(mask, np.float32(-0.3), np.float32(0))[None]
    condition = torch.from_numpy(denoiser.condition_of(flat, render, distance))[None]
    return denoiser.joint_noise((1, 1, *mask.shape), torch.Generator().manual_seed(3)), condition


def test_tiles_cover_everything_and_overlap() -> None:
    for height, width in ((97, 300), (96, 96), (500, 132), (40, 700)):
        seen = np.zeros((height, width), int)
        weight = np.zeros((height, width))
        for rows, columns in tiles.tiles(height, width):
            assert rows.start >= 0
            assert columns.start >= 0
            seen[rows, columns] += 1
            ramps = [tiles._ramp(one, length).numpy() for one, length in ((rows, height), (columns, width))]
            weight[rows, columns] += np.outer(*ramps)
        assert seen.min() >= 1
        assert weight.min() > 0.01


@torch.no_grad()
def test_small_canvases_are_predicted_whole(network: nn.Module) -> None:
    mask = np.zeros((64, 80), np.bool_)
    mask[28:36, 10:70] = True
    noisy, condition = canvas(mask)
    step = torch.tensor([300])
    assert torch.equal(
        tiles.predict(network, noisy, condition, step), denoiser.predict(network, noisy, condition, step)
    )


@torch.no_grad()
def test_there_is_no_seam_where_tiles_join(network: nn.Module) -> None:
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[40:88, 10:-10] = True
    noisy, condition = canvas(mask)
    painted = tiles.predict(network, noisy, condition, torch.tensor([400]))[0, 0].numpy()
    inside = painted[44:84]
    # How far neighbouring columns differ, at the borders of tiles and elsewhere.
    steps = np.sqrt((np.diff(inside, axis=1) ** 2).mean(axis=0))
    borders = {edge for _, columns in tiles.tiles(HEIGHT, WIDTH) for edge in (columns.start, columns.stop)}
    joins = sorted({at + near for at in borders for near in (-1, 0) if 30 < at < WIDTH - 30})
    others = [at for at in range(30, WIDTH - 30) if at not in joins]
    assert len(joins) >= 8
    assert steps[joins].mean() / steps[others].mean() == pytest.approx(1.0, abs=0.15)
    # And the level is one: no tile is brighter than its neighbours by more than the texture varies.
    level = inside.mean(axis=0)
    assert np.ptp(level[40:-40]) < 3 * inside.std()


@torch.no_grad()
def test_memory_is_that_of_a_tile_and_a_scratch_costs_its_length(network: nn.Module) -> None:
    rows, columns = np.mgrid[:600, :600]
    mask = np.abs(rows - columns) < 4
    noisy, condition = canvas(mask)
    sizes: list[int] = []
    hook = network.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].shape[-1] * inputs[0].shape[-2]))
    try:
        painted = tiles.predict(network, noisy, condition, torch.tensor([400]))
    finally:
        hook.remove()
    assert max(sizes) <= tiles.SIDE**2
    everything = sum(1 for _ in tiles.tiles(600, 600))
    assert len(sizes) < 0.5 * everything
    # Beyond the tiles nothing is added to the render.
    assert torch.equal(painted[0, 0, :100, -100:], condition[0, 0, 1, :100, -100:])
    assert not torch.equal(painted[0, 0, 295:305, 295:305], condition[0, 0, 1, 295:305, 295:305])
