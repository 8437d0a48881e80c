"""Durable files: a file appears under its name complete or not at all.

It is written to a temporary name in the same folder, synchronised, renamed, and the folder is synchronised, so that a
row that names it may be committed afterwards.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from cell.errors import DataError, DiskFull, StoreError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
#: How temporary names end; :func:`sweep` removes what a killed process left of them.
_TEMPORARY = ".tmp"


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` of writing `path` into `DiskFull` or `StoreError`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull(f"no room to write {path.name} in {path.parent}; free space on that disk") from error
        raise StoreError(f"can't write {path}: {error.strerror}; check the disk and its permissions") from error


def write_bytes(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write `data` to `path` atomically and durably, replacing what was there; the folder is made if it is missing.

    Raises `DiskFull` when there is no room and `StoreError` for any other reason; then `path` is as it was before.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_TEMPORARY}")
    with disk_errors(path):
        make_folder(path.parent)
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def create_exclusively(path: Path, data: bytes, *, mode: int) -> bool:
    """Write a file that must not exist yet, complete and durable; tell whether this call made it.

    Of several processes that try at once exactly one succeeds, and no one ever sees an incomplete file. Raises
    `DiskFull` or `StoreError`.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_TEMPORARY}")
    write_bytes(temporary, data, mode=mode)
    with disk_errors(path):
        try:
            os.link(temporary, path)  # fails when the name is taken, which a rename would not
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
            sync_folder(path.parent)
    return True


def read_bytes(path: Path) -> bytes:
    """Read a file of the store. Raises `DataError` when it is missing and `StoreError` when the disk fails."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"the file {path} is missing; restore it from the backup") from error
    except OSError as error:
        raise StoreError(f"can't read {path}: {error.strerror}; check the disk and its permissions") from error


def remove(paths: Iterable[Path]) -> None:
    """Remove files durably; those that are gone already are passed over. Raises `StoreError`."""
    folders: set[Path] = set()
    for path in paths:
        with disk_errors(path):
            path.unlink(missing_ok=True)
        folders.add(path.parent)
    for folder in folders:
        if folder.is_dir():
            with disk_errors(folder):
                sync_folder(folder)


def make_folder(folder: Path, mode: int = 0o755) -> None:
    """Make `folder` and its parents; each new entry is durable. Raises `OSError`."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=mode, exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and removals in `folder` durable. Raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(folder: Path, older_than_s: float = 600.0) -> int:
    """Remove temporary files under `folder` that a killed process left; return how many.

    Younger ones are kept: another process may be writing them. Raises `StoreError`.
    """
    with disk_errors(folder):
        limit = time.time() - older_than_s
        left = [path for path in folder.rglob(f".*{_TEMPORARY}") if path.is_file() and path.stat().st_mtime <= limit]
    remove(left)
    return len(left)
