"""Models loaded beside, checked, promoted between two parts, rolled back; refused when anything does not fit."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import packages
from cell import digest
from cell.errors import DataError, GateError, ModelError, NotFound, StateError
from cell.imaging.preprocess import Preprocessing
from cell.models import ModelManifest
from cell.recipes import Rect
from cell.store.images import read_stack, write_stack
from cell.wire.client import Client
from tests.daemon.cells import Cell, contrast_model, eventually, running
from tests.daemon.rigs import picture_of, recipe


def _package(folder: Path, manifest: ModelManifest) -> Path:
    return folder / "state" / "models" / manifest.onnx_digest


def _edit(package: Path, **changes: Any) -> None:
    file = package / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_every_verdict_under_load_is_reproduced_by_the_model_it_names(tmp_path: Path) -> None:
    models = {m.onnx_digest: m for m in (contrast_model(tmp_path, 1.0), contrast_model(tmp_path, 1.7))}
    names = [manifest.model_id for manifest in models.values()]
    with running(tmp_path) as cell:
        cell.ready()
        cell.client.call("inspectd.deploy", {"model": names[0], "promote": True})
        done = threading.Event()
        problems: list[str] = []

        def swap() -> None:
            with Client(cell.daemon.server.commands, timeout_s=10) as client:
                for number in range(1, 9):
                    reply = client.call("inspectd.deploy", {"model": names[number % 2], "promote": True})
                    if not reply["promoted"]:
                        problems.append(str(reply))
            done.set()

        swapping = threading.Thread(target=swap, name="swaps")
        swapping.start()
        verdicts: list[dict[str, Any]] = []
        while not done.is_set() or len(verdicts) < 60:
            verdicts.append(cell.trigger(f"{'bad' if len(verdicts) % 3 == 0 else 'good'}-{len(verdicts)}"))
        swapping.join(5)
        assert problems == []
        assert {verdict["model_digest"] for verdict in verdicts} == set(models)
        assert eventually(lambda: cell.status()["archive"]["written"] == len(verdicts))
        listed = cell.client.call("GetResultListFiltered", {"MaxResults": 1000})["Results"]
        assert len(listed) == len(verdicts)
        paths = {
            verdict["job_id"]: cell.client.call("GetResultComponentsById", {"ResultId": verdict["job_id"]})
            for verdict in verdicts
        }
    networks = {name: (_package(tmp_path, m) / m.onnx_file).read_bytes() for name, m in models.items()}
    for name, network in networks.items():
        mine = [verdict for verdict in verdicts if verdict["model_digest"] == name]
        pictures = [read_stack(tmp_path / "state" / paths[v["job_id"]]["Components"][0]["Path"]) for v in mine]
        scores = packages.score(network, Preprocessing.for_recipe(recipe()), pictures, tmp_path)
        other = next(bytes_ for key, bytes_ in networks.items() if key != name)
        wrong = packages.score(other, Preprocessing.for_recipe(recipe()), pictures, tmp_path)
        given = np.array([verdict["score"] for verdict in mine])
        np.testing.assert_allclose(given, [max(each) for each in scores], atol=1e-6)
        assert np.abs(given - [max(each) for each in wrong]).min() > 1e-3, "the models can't be told apart"


def test_roll_back_and_forth_and_after_a_restart(tmp_path: Path) -> None:
    first, second = contrast_model(tmp_path, 1.0), contrast_model(tmp_path, 1.7)
    with running(tmp_path) as cell:
        cell.ready()
        with pytest.raises(StateError, match="no model before"):
            cell.client.call("inspectd.rollback")
        for manifest in (first, second):
            assert cell.client.call("inspectd.deploy", {"model": manifest.model_id})["promoted"] is False
            assert cell.status()["standby"]["model_id"] == manifest.model_id
            cell.client.call("inspectd.promote", {"by": "jo"})
        assert cell.trigger("p")["model_digest"] == second.onnx_digest
        back = cell.client.call("inspectd.rollback", {"by": "jo"})
        assert (back["model_digest"], back["previous_digest"]) == (first.onnx_digest, second.onnx_digest)
        assert cell.trigger("p")["model_digest"] == first.onnx_digest
        assert cell.status()["previous"]["model_id"] == second.model_id
    with running(tmp_path) as cell:
        assert eventually(lambda: cell.status()["model"] is not None)
        assert cell.trigger("p")["model_digest"] == first.onnx_digest
        listed = {entry["model_id"]: entry["active"] for entry in cell.client.call("inspectd.models")["models"]}
        assert listed == {first.model_id: True, second.model_id: False}


def _refused(cell: Cell, model: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        cell.client.call("inspectd.deploy", {"model": model, "promote": True})
    assert "\n" not in str(caught.value)


def test_what_does_not_fit_is_refused_and_the_running_model_goes_on(tmp_path: Path) -> None:
    good = contrast_model(tmp_path, 1.0)
    with running(tmp_path) as cell:
        cell.ready()
        cell.client.call("inspectd.deploy", {"model": good.model_id, "promote": True})

        tampered = contrast_model(tmp_path, 2.0)
        onnx = _package(tmp_path, tampered) / "model.onnx"
        onnx.write_bytes(onnx.read_bytes() + b"x")
        _refused(cell, tampered.model_id, ModelError, "digest")

        drifted = contrast_model(tmp_path, 2.1)
        golden = [item | {"scores": [0.123]} for item in json.loads(drifted.model_dump_json())["golden"]]
        _edit(_package(tmp_path, drifted), golden=golden)
        _refused(cell, drifted.model_id, ModelError, "golden")

        exchanged = contrast_model(tmp_path, 2.2)
        write_stack(_package(tmp_path, exchanged) / exchanged.golden[0].image_path, picture_of("another"))
        _refused(cell, exchanged.model_id, ModelError, "golden image")

        bare = contrast_model(tmp_path, 2.3)
        _edit(_package(tmp_path, bare), golden=[])
        _refused(cell, bare.model_id, ModelError, "no golden images")

        unvouched = contrast_model(tmp_path, 2.4)
        _edit(_package(tmp_path, unvouched), training_set_digest="0" * 64)
        _refused(cell, unvouched.model_id, GateError, "training set")

        outside = contrast_model(tmp_path, 2.5)
        golden = json.loads(outside.model_dump_json())["golden"]
        golden[0]["image_path"] = "../../../etc/passwd"
        _edit(_package(tmp_path, outside), golden=golden)
        _refused(cell, outside.model_id, ModelError, "outside the package")

        gone = contrast_model(tmp_path, 2.6)
        shutil.rmtree(_package(tmp_path, gone))
        _refused(cell, gone.model_id, ModelError, "no model package")

        broken = contrast_model(tmp_path, 2.7)
        (_package(tmp_path, broken) / "manifest.json").write_text("{}")
        _refused(cell, broken.model_id, ModelError, "manifest")

        _refused(cell, "no-such-model", NotFound, "no model")
        _refused(cell, "some/where", DataError, "absolute")
        assert cell.trigger("good-1")["model_digest"] == good.onnx_digest
        assert cell.status()["standby"] is None


def test_a_network_that_is_none_or_answers_nonsense_is_refused(tmp_path: Path) -> None:
    network = packages.contrast_onnx(2, 1, 1.0, 1.5)
    manifest = contrast_model(tmp_path, 1.0)
    with running(tmp_path) as cell:
        cell.ready()
        for number, data in enumerate(
            (b"not a network", network[: len(network) // 2], packages.contrast_onnx(3, 1, 1, 1))
        ):
            package = tmp_path / f"package-{number}"
            shutil.copytree(_package(tmp_path, manifest), package)
            (package / "model.onnx").write_bytes(data)
            _edit(package, onnx_digest=digest.of_bytes(data), model_id=f"odd-{number}")
            with pytest.raises((ModelError, Exception)) as caught:
                cell.client.call("inspectd.deploy", {"model": str(package), "promote": True})
            assert type(caught.value).__name__ in {"EngineError", "ModelError"}
        assert cell.trigger("good-1")["outcome"] == "FAULT"


def test_a_package_is_taken_in_from_a_folder(tmp_path: Path) -> None:
    manifest = contrast_model(tmp_path)
    elsewhere = tmp_path / "usb-stick"
    shutil.move(_package(tmp_path, manifest), elsewhere)
    with running(tmp_path) as cell:
        cell.ready()
        cell.client.call("inspectd.deploy", {"model": str(elsewhere), "promote": True})
        assert cell.trigger("good-1")["model_digest"] == manifest.onnx_digest


def test_a_real_cell_refuses_what_was_learned_on_an_emulated_one(tmp_path: Path) -> None:
    manifest = contrast_model(tmp_path)
    with running(tmp_path, emulated=False) as cell:
        cell.ready()
        _refused(cell, manifest.model_id, ModelError, "may not judge real parts")
        # Editing the manifest does not help: the sealed training set says it too.
        _edit(_package(tmp_path, manifest), emulated=False, reviewed_by_people=True)
        _refused(cell, manifest.model_id, ModelError, "may not judge real parts")
        assert cell.trigger("good-1")["outcome"] == "FAULT"


def test_a_model_for_another_region_of_interest_is_refused(tmp_path: Path) -> None:
    manifest = contrast_model(tmp_path)
    changed = recipe(version=2, roi=Rect(x=0, y=0, width=64, height=64))
    with running(tmp_path, recipes=(changed,)) as cell:
        cell.ready()
        _refused(cell, manifest.model_id, ModelError, "another roi")


def test_a_recipe_whose_model_can_not_be_loaded_is_not_prepared(tmp_path: Path) -> None:
    first, second = contrast_model(tmp_path, 1.0), contrast_model(tmp_path, 1.7)
    with running(tmp_path) as cell:
        cell.ready()
        for manifest in (first, second):
            cell.client.call("inspectd.deploy", {"model": manifest.model_id, "promote": True})
    (_package(tmp_path, second) / "model.onnx").write_bytes(b"rot")
    with running(tmp_path) as cell:
        assert eventually(lambda: [c["name"] for c in cell.status()["conditions"]] == ["resume"])
        with pytest.raises(ModelError, match="digest"):
            cell.client.call("PrepareRecipe", {"RecipeId": "plate"})
        with pytest.raises(StateError):
            cell.trigger("good-1")
        # The way out: the model before.
        cell.client.call("inspectd.rollback", {"recipe_id": "plate"})
        cell.client.call("PrepareRecipe", {"RecipeId": "plate"})
        assert cell.trigger("good-1")["model_digest"] == first.onnx_digest
