"""The weights a judge starts from, and how they were made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from cell.errors import ConfigurationError, DataError
from drivers.sim.collection import KINDS, SHARD, Pair, file_of
from trainer.base import detector, train_detector
from trainer.network import DetectorConfig, DetectorNetwork

SMALL = DetectorConfig(widths=(4, 4, 8, 8, 8), dropout=0.0)


def spoiled(channels: int, classes: int, config: DetectorConfig | None = None) -> DetectorNetwork:
    """Return a network whose every weight is its own."""
    torch.manual_seed(3)
    network = DetectorNetwork(channels, classes, config)
    with torch.no_grad():
        for value in network.state_dict().values():
            if value.dtype.is_floating_point:
                value.add_(torch.rand_like(value) * 0.1)
    return network.eval()


def test_lights_that_see_the_same_say_what_one_says_alone(tmp_path: Path) -> None:
    base, file = spoiled(1, 12, SMALL), tmp_path / "base.safetensors"
    detector.write(base, file, {"updates": "1"})
    cell = DetectorNetwork(3, 2, SMALL)
    own_kinds = cell.kinds.weight.clone()
    detector.begin_from(cell, file)
    alone = torch.randn(1, 1, 64, 96)
    with torch.inference_mode():
        said = base.logits(alone)[0]
        together = cell.eval().logits(alone.expand(-1, 3, -1, -1))[0]
    assert torch.allclose(said, together, atol=0.02), "half precision is all that may differ"
    assert float(said.std()) > 0.02, "a network that says the same everywhere proves nothing"
    assert torch.equal(cell.kinds.weight, own_kinds), "classes are the cell's own"


def test_a_base_of_other_widths_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "base.safetensors"
    detector.write(spoiled(1, 12, SMALL), file, {})
    with pytest.raises(ConfigurationError, match="another shape"):
        detector.begin_from(DetectorNetwork(1, 2), file)
    (tmp_path / "torn").write_bytes(file.read_bytes()[:500])
    with pytest.raises(ConfigurationError, match="can't be read"):
        detector.begin_from(DetectorNetwork(1, 2, SMALL), tmp_path / "torn")


def test_what_ships_fits_the_default_network_and_sees_what_it_never_saw() -> None:
    network = DetectorNetwork(1, 3)
    detector.begin_from(network)
    drawn = np.random.default_rng(5)
    surface = drawn.normal(0, 0.3, (8, 1, 128, 128)).astype(np.float32)
    scratched = surface.copy()
    for picture in scratched:
        at = int(drawn.integers(30, 90))
        picture[0, at : at + 3, 20:100] -= 2.5
    with torch.inference_mode():
        quiet, loud = (network.eval()(torch.from_numpy(batch))[1].amax(1) for batch in (surface, scratched))
    assert float(loud.min()) > float(quiet.max())
    assert detector.SHIPPED.stat().st_size < 4_000_000
    with safe_open(detector.SHIPPED, framework="pt") as held:
        assert {"updates", "seed", "pictures", "seconds", "losses"} <= set(held.metadata())


def test_training_reads_a_collection_and_writes_what_a_cell_can_begin_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"drivers\.sim\.collection"):
        train_detector.samples_in(tmp_path)
    pairs = [scratched_pair(number) for number in range(4)]
    arrays = {name: np.stack([getattr(one, name) for one in pairs]) for name in ("bad", "good", "labels")}
    np.savez(file_of(tmp_path, 0), **arrays)  # type: ignore[arg-type]
    samples = train_detector.samples_in(tmp_path)
    # The second lamp does not show the scratch: no defective picture of it.
    assert len(samples) == 4 * (2 + 1)
    assert len({sample.group for sample in samples if not sample.labels.any()}) == 4
    monkeypatch.setattr(train_detector, "SAMPLING", train_detector.SAMPLING.__class__(size=32))
    output = tmp_path / "base.safetensors"
    chosen = [str(tmp_path), "--output", str(output), "--updates", "3", "--batch", "4", "--threads", "1"]
    assert train_detector.main(chosen) == 0
    detector.begin_from(DetectorNetwork(2, 2), output)
    assert len(KINDS) == train_detector.KINDS
    assert SHARD > 0


def scratched_pair(number: int) -> Pair:
    """Return a pair under two lamps, only the first of which shows the scratch."""
    drawn = np.random.default_rng(number)
    good = drawn.integers(90, 110, (2, 64, 64)).astype(np.uint8)
    bad, labels = good.copy(), np.zeros_like(good)
    bad[0, 30:33, 10:50] = 30
    labels[0, 30:33, 10:50] = 1
    return Pair(bad, good, labels)
