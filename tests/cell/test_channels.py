"""Channels: what is wrong with one is said by name, and good ones are left alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from cell.imaging.channels import LEAST_PARTS, ChannelBook

NAMES = ("ring", "dome", "bar")


def stack(number: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(number)
    rows, columns = np.mgrid[0:48, 0:64] / 64
    shapes = np.stack([60 + 60 * rows, 140 - 50 * columns, 60 + 60 * columns])
    noisy = shapes * (1 + rng.normal(0, 0.01)) + rng.normal(0, 3, shapes.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


@pytest.fixture
def book() -> ChannelBook:
    made = ChannelBook(NAMES, 8)
    for number in range(2 * LEAST_PARTS):
        assert made.fault(stack(number), f"p{number}") == ""
        made.learn(stack(number))
    return made


def test_good_parts_have_no_fault(book: ChannelBook) -> None:
    assert all(book.fault(stack(100 + number), f"q{number}") == "" for number in range(30))


def test_each_fault_is_named(book: ChannelBook) -> None:
    dark, white, swapped = stack(200), stack(201), stack(202)
    dark[1] //= 8
    white[2] = 255
    swapped[[0, 2]] = swapped[[2, 0]]
    assert book.fault(dark, "a") == "channel dome is dark"
    assert book.fault(white, "b") == "channel bar is saturated"
    assert book.fault(swapped, "c") == "channels ring and bar are out of order"
    stuck = stack(203)
    stuck[0] = stack(3)[0]
    assert book.fault(stuck, "d") == "channel ring is frozen"
    assert book.fault(stack(3), "p3") == ""  # the same part again is not


def test_without_any_memory_an_empty_channel_is_dark() -> None:
    empty = stack(1)
    empty[2] = 3
    assert ChannelBook(NAMES, 8).fault(empty, "a") == "channel bar is dark"


def test_what_is_remembered_survives_as_json_and_is_bounded(book: ChannelBook) -> None:
    for number in range(300):
        book.learn(stack(number))
    text = json.dumps(book.state())
    assert len(text) < 200_000
    again = ChannelBook(NAMES, 8)
    again.recall(json.loads(text))
    swapped = stack(202)
    swapped[[0, 2]] = swapped[[2, 0]]
    assert again.fault(swapped, "c") == "channels ring and bar are out of order"
    other = ChannelBook(("one",), 8)
    other.recall(json.loads(text))
    assert not other.levels
