"""Rendered pairs to learn from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from drivers.sim import collection


def test_a_pair_differs_where_it_is_labelled_and_nowhere_else() -> None:
    for number in range(3):
        pair = collection.pair(number, random_seed=7)
        assert pair.bad.shape == pair.good.shape == pair.labels.shape
        assert pair.labels.max() <= len(collection.KINDS)
        change = np.abs(pair.bad.astype(float) - pair.good)
        for lamp in range(len(pair.bad)):
            seen = pair.labels[lamp] > 0
            if seen.sum() > 20:
                assert change[lamp][seen].mean() > 2 * change[lamp][~seen].mean()
    assert any(collection.pair(number, 7).labels.any() for number in range(3))


def test_a_number_is_a_part_and_a_collection_that_was_cut_off_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collection, "SHARD", 1)
    collection.write_shard(tmp_path, 3, 1)
    written = collection.file_of(tmp_path, 1).stat().st_mtime_ns
    collection.write_shard(tmp_path, 3, 1)
    assert collection.file_of(tmp_path, 1).stat().st_mtime_ns == written
    with np.load(collection.file_of(tmp_path, 1)) as held:
        assert np.array_equal(held["bad"][0], collection.pair(1, 3).bad)
        assert not np.array_equal(held["bad"][0], collection.pair(1, 4).bad)
