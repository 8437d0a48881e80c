"""Pixel formats: bits in, bits out, against a packer written the slow way from the standard's tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cell.errors import CameraError
from cell.frames import AcquisitionFault
from cell.recipes import Channel, DefectClass, Recipe, SensorSetup
from drivers.cameras.base import fault_of
from drivers.cameras.formats import Plane, format_of, formats_for, read_plane, require_size

Numbers = NDArray[np.uint16]


def _bit_stream(values: Numbers, bits: int) -> NDArray[np.uint8]:
    """PFNC 'p': bits of one pixel after the other, least significant first, bytes filled from their lowest bit."""
    stream = [(int(value) >> bit) & 1 for value in values.ravel() for bit in range(bits)]
    stream += [0] * (-len(stream) % 8)
    return np.array(
        [sum(bit << place for place, bit in enumerate(stream[at : at + 8])) for at in range(0, len(stream), 8)],
        np.uint8,
    )


def _gige_packed(values: Numbers, bits: int) -> NDArray[np.uint8]:
    """GigE Vision 1.x: high bits of two pixels in the outer bytes, low bits of both in the one between."""
    low = bits - 8
    flat = [int(value) for value in values.ravel()] + [0] * (values.size % 2)
    out: list[int] = []
    for first, second in zip(flat[::2], flat[1::2], strict=True):
        mask = (1 << low) - 1
        out += [first >> low, first & mask | (second & mask) << 4, second >> low]
    return np.array(out, np.uint8)


def _read(data: Any, name: str, shape: tuple[int, int], plane: Plane = "mono", padding: int = 0) -> NDArray[Any]:
    pixel_format = format_of(name)
    out = np.full(shape, 99, pixel_format.dtype)
    read_plane(np.frombuffer(bytes(data), np.uint8), pixel_format, plane, out, padding)
    return out


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 11)),
    bits=st.sampled_from([10, 12]),
    packing=st.sampled_from(["p", "Packed"]),
    seed=st.integers(0, 1000),
)
def test_packed_pixels_come_out_as_they_went_in(shape: tuple[int, int], bits: int, packing: str, seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 1 << bits, shape).astype(np.uint16)
    data = _bit_stream(values, bits) if packing == "p" else _gige_packed(values, bits)
    assert np.array_equal(_read(data, f"Mono{bits}{packing}", shape), values)


@pytest.mark.parametrize(("name", "bits"), [("Mono10p", 10), ("Mono12p", 12), ("Mono12Packed", 12)])
def test_many_rows_are_unpacked_in_strips_and_rows_may_be_padded(name: str, bits: int) -> None:
    values = np.random.default_rng(1).integers(0, 1 << bits, (200, 24)).astype(np.uint16)
    pack = _bit_stream if name.endswith("p") else _gige_packed
    assert np.array_equal(_read(pack(values, bits), name, values.shape), values)
    padded = b"".join(bytes(pack(row, bits)) + b"\xff\xff\xff" for row in values)
    assert np.array_equal(_read(padded, name, values.shape, padding=3), values)


@pytest.mark.parametrize(("name", "bits"), [("Mono8", 8), ("Mono10", 10), ("Mono12", 12), ("Mono16", 16)])
def test_whole_bytes_stay_as_they_are(name: str, bits: int) -> None:
    kind = np.uint8 if bits == 8 else np.dtype("<u2")
    values = np.random.default_rng(2).integers(0, 1 << bits, (70, 31)).astype(kind)
    read = _read(values.tobytes(), name, (70, 31))
    assert np.array_equal(read, values)
    assert int(read.max()) < 1 << bits


def _mosaic(planes: NDArray[Any], pattern: str) -> NDArray[Any]:
    """Sample (3, H, W) red, green and blue as a sensor of that pattern does."""
    height, width = planes.shape[1:]
    second = {"RG": "GB", "GR": "BG", "GB": "RG", "BG": "GR"}[pattern]
    mosaic = np.empty((height, width), planes.dtype)
    for y in range(height):
        for x in range(width):
            mosaic[y, x] = planes["RGB".index((pattern if y % 2 == 0 else second)[x % 2]), y, x]
    return mosaic


@pytest.mark.parametrize("pattern", ["RG", "GR", "GB", "BG"])
@pytest.mark.parametrize("suffix", ["8", "12", "12p", "12Packed", "16"])
def test_bayer_planes_keep_their_photosites_and_are_exact_on_ramps(pattern: str, suffix: str) -> None:
    bits = int(suffix.removesuffix("p").removesuffix("Packed"))
    y, x = np.mgrid[:70, :40]
    kind = np.uint8 if bits == 8 else np.uint16
    planes = np.stack([10 + y + x, 60 + 2 * x, 200 - y]).astype(kind)
    mosaic = _mosaic(planes, pattern)
    packed = {"p": lambda: _bit_stream(mosaic, bits), "d": lambda: _gige_packed(mosaic, bits)}
    data = packed.get(suffix[-1], lambda: mosaic.astype(kind).tobytes())()
    for index, plane in enumerate(("red", "green", "blue")):
        read = _read(data, f"Bayer{pattern}{suffix}", (70, 40), plane)  # type: ignore[arg-type]
        # Mirrored edges bend a ramp, so only the inside is exact; a photosite keeps its value everywhere.
        assert np.array_equal(read[2:-2, 2:-2], planes[index, 2:-2, 2:-2])
        own = _mosaic(np.stack([np.full((70, 40), number, np.uint8) for number in range(3)]), pattern) == index
        assert np.array_equal(read[own], mosaic[own])


def test_bilinear_means_are_rounded_half_up_and_mirrored_at_the_edge() -> None:
    mosaic = np.array([[10, 0, 21, 0], [0, 0, 0, 0], [40, 0, 50, 0], [0, 0, 0, 0]], np.uint8)
    red = _read(mosaic.tobytes(), "BayerRG8", (4, 4), "red")
    assert red[0].tolist() == [10, 16, 21, 21]
    assert red[1].tolist() == [25, 30, 36, 36]
    assert red[3].tolist() == [40, 45, 50, 50]


@pytest.mark.parametrize("name", ["RGB8", "RGB8Packed", "BGR8", "RGBa8", "BGRA8Packed", "RGB12", "BGR16"])
def test_interleaved_colours_are_told_apart(name: str) -> None:
    pixel_format = format_of(name)
    pixels = np.random.default_rng(3).integers(0, 1 << pixel_format.bits, (5, 7, len(pixel_format.colour)))
    data = pixels.astype(pixel_format.dtype).tobytes()
    for plane in ("red", "green", "blue"):
        expected = pixels[:, :, pixel_format.colour.index(plane[0].upper())]
        assert np.array_equal(_read(data, name, (5, 7), plane), expected)


def test_a_short_buffer_is_incomplete() -> None:
    pixel_format = format_of("Mono12p")
    require_size(np.zeros(96, np.uint8), pixel_format, (8, 8))
    with pytest.raises(CameraError, match="95 of its 96 bytes") as caught:
        require_size(np.zeros(95, np.uint8), pixel_format, (8, 8))
    assert fault_of(caught.value) is AcquisitionFault.INCOMPLETE


def test_reading_makes_no_second_copy() -> None:
    data = np.arange(64, dtype=np.uint8)
    out = np.empty((8, 8), np.uint8)
    read_plane(data, format_of("Mono8"), "mono", out)
    data[:] = 0
    assert out[0, 1] == 1


def _recipe(bits: int, name: str | None, plane: str) -> Recipe:
    return Recipe(
        recipe_id="r",
        product="p",
        height=8,
        width=8,
        bit_depth=bits,
        sensor=SensorSetup(pixel_format=name),
        channels=(Channel.model_validate({"name": "c", "exposure_us": 10, "lights": {"l": 1.0}, "plane": plane}),),
        defect_classes=(DefectClass(name="d"),),
    )


def test_a_recipe_without_a_format_takes_what_serves_its_depth() -> None:
    assert [f.name for f in formats_for(_recipe(12, None, "mono"))] == ["Mono12", "Mono12p", "Mono12Packed"]
    assert [f.name for f in formats_for(_recipe(10, "BayerGB10p", "blue"))] == ["BayerGB10p"]


@pytest.mark.parametrize(
    ("bits", "name", "plane", "sentence"),
    [
        (8, "BayerRG8", "mono", r"channel c wants a mono frame of BayerRG8"),
        (8, "Mono8", "red", r"channel c wants the red plane of Mono8, which has none"),
        (8, None, "red", r"channel c wants the red plane of Mono8"),
        (8, "Mono12p", "mono", r"wants 8 bit in the pixel format Mono12p; set bit_depth to 12"),
        (9, None, "mono", r"wants 9 bit, cameras have 8, 10, 12 or 16"),
        (8, "YUV422_8", "mono", r"pixel format YUV422_8 can't be read"),
        (16, "Mono16p", "mono", r"packed ones are of 10 or 12 bits"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(bits: int, name: str | None, plane: str, sentence: str) -> None:
    with pytest.raises(CameraError, match=sentence) as caught:
        formats_for(_recipe(bits, name, plane))
    assert "\n" not in str(caught.value)
