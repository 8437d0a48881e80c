"""The model package: a folder named by the digest of its ONNX file, complete or not there at all.

::

    models/<SHA-256 of model.onnx>/
        model.onnx          the network
        manifest.json       cell.models.ModelManifest: all that must be known to let it judge
        training-set.json   cell.models.TrainingSet, sealed: what it learned from and who accepted it
        golden/NN.tif       real frames with known scores: the self-test at every load
        report.json         evaluation, parity, course of the training
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cell import digest
from cell.errors import ModelError
from cell.frames import StoredStack
from cell.models import GoldenImage, ModelManifest, TrainingSet
from cell.store.files import disk_errors, sync_folder, write_bytes
from cell.store.images import write_stack
from cell.store.layout import StateDir

ONNX_FILE = "model.onnx"
MANIFEST_FILE = "manifest.json"
TRAINING_SET_FILE = "training-set.json"
REPORT_FILE = "report.json"


@dataclass(frozen=True, slots=True, eq=False)
class Golden:
    """A real frame set and its scores (D,) by the exported model."""

    stack: StoredStack
    scores: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """What goes into a package beside its manifest."""

    onnx: bytes
    training_set: TrainingSet
    golden: Sequence[Golden]
    report: Mapping[str, Any]


def golden_images(golden: Sequence[Golden]) -> tuple[GoldenImage, ...]:
    """Return the manifest's list of golden images, as :func:`write_package` will name their files."""
    return tuple(
        GoldenImage(image_path=_golden_path(index), image_digest=digest.of_array(item.stack.pixels), scores=item.scores)
        for index, item in enumerate(golden)
    )


def write_package(state: StateDir, contents: Contents, manifest: ModelManifest) -> Path:
    """Write a package durably and return its folder; the same model that is there already is left as it is.

    :raises ModelError: the manifest does not describe these contents.
    :raises DiskFull, StoreError: it can't be written; nothing is left of it then.
    """
    _check(contents, manifest)
    folder = state.model_folder(manifest.onnx_digest)
    if _is_whole(folder):
        return folder
    part = folder.with_name(f".{folder.name}.part")
    try:
        with disk_errors(folder):
            # What a killed training left, here or under the final name, was never registered.
            shutil.rmtree(part, ignore_errors=True)
            shutil.rmtree(folder, ignore_errors=True)
        _fill(part, contents, manifest)
        with disk_errors(folder):
            part.rename(folder)
            sync_folder(folder.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def read_manifest(folder: Path) -> ModelManifest:
    """Read and check a package's manifest and the digest of its ONNX file. Raises `ModelError`."""
    try:
        manifest = ModelManifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
        onnx_digest = digest.of_file(folder / manifest.onnx_file)
    except (OSError, ValidationError) as error:
        raise ModelError(f"{folder} is not a whole model package; train again") from error
    if onnx_digest != manifest.onnx_digest or folder.name != onnx_digest:
        raise ModelError(f"the network in {folder} is not the one its manifest names; it was changed, train again")
    return manifest


def _check(contents: Contents, manifest: ModelManifest) -> None:
    if manifest.onnx_digest != digest.of_bytes(contents.onnx) or manifest.onnx_file != ONNX_FILE:
        raise ModelError("the manifest names another network than the one to be packed; export it again")
    if manifest.training_set_digest != contents.training_set.content_digest():
        raise ModelError("the manifest names another training set than the one to be packed; train again")
    if manifest.golden != golden_images(contents.golden) or not manifest.golden:
        raise ModelError("the manifest names other golden images than those to be packed; export it again")


def _is_whole(folder: Path) -> bool:
    try:
        read_manifest(folder)
    except ModelError:
        return False
    return True


def _fill(part: Path, contents: Contents, manifest: ModelManifest) -> None:
    write_bytes(part / ONNX_FILE, contents.onnx)
    for index, item in enumerate(contents.golden):
        write_stack(part / _golden_path(index), item.stack)
    write_bytes(part / TRAINING_SET_FILE, contents.training_set.model_dump_json(indent=1).encode())
    write_bytes(part / REPORT_FILE, json.dumps(contents.report, indent=1, sort_keys=True, allow_nan=False).encode())
    # Last, as everywhere: who finds a manifest finds all that it names.
    write_bytes(part / MANIFEST_FILE, manifest.model_dump_json(indent=1).encode())


def _golden_path(index: int) -> str:
    return f"golden/{index:02d}.tif"
