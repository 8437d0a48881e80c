"""Digests: the one way in which this project names bytes.

Pixels are hashed with their shape and dtype so that a reshaped copy is another image; records are hashed over canonical
JSON (RFC 8785's ordering and separators, without its number rules: we store no floats that need them).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def of_bytes(data: bytes) -> str:
    """Return the lower-case hexadecimal SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def of_file(path: Path) -> str:
    """Return the SHA-256 of a file, read in 1 MiB pieces. Raises `OSError` when it can't be read."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def of_array(array: NDArray[Any]) -> str:
    """Return the SHA-256 over dtype, shape and C-ordered little-endian samples of `array`."""
    contiguous = np.ascontiguousarray(array)
    growing = ArrayDigest(contiguous.dtype, contiguous.shape)
    growing.add(contiguous)
    return growing.hexdigest()


class ArrayDigest:
    """:func:`of_array` of an array whose first-axis slices come one after the other."""

    def __init__(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self._dtype = dtype.newbyteorder("<")
        self._hash = hashlib.sha256(f"{self._dtype.str}{shape}".encode())

    def add(self, array: NDArray[Any]) -> None:
        """Take the next slice, or the whole array."""
        little = np.ascontiguousarray(array).astype(self._dtype, copy=False)
        self._hash.update(little.data)

    def hexdigest(self) -> str:
        """Return the digest of all that was added."""
        return self._hash.hexdigest()


def canonical_json(record: object) -> bytes:
    """Return `record` (JSON types only) with sorted keys and no white space, as UTF-8."""
    return json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def of_record(record: object) -> str:
    """Return the SHA-256 of :func:`canonical_json`."""
    return of_bytes(canonical_json(record))
