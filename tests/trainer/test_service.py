"""The trainer service on its real sockets: what it answers, what it refuses, and that it does each thing once."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cell import settings
from cell.defects import Split
from cell.errors import InspectdError, StoreInUse
from cell.events import JobChanged
from cell.jobs import JobState
from cell.wire.client import Client, Subscriber
from tests.trainer.service_support import (
    HEIGHT,
    RECIPE,
    WIDTH,
    add_backgrounds,
    add_calibration,
    add_candidates,
    add_seeds,
    child,
    defect_mask,
    defective,
    open_store,
    until,
    write_config,
)
from trainer.folders.yolo import read_yolo
from trainer.process import child_command
from trainer.service import TrainerService


class Cell:
    """A running trainer service and a client of it."""

    def __init__(self, folder: Path, command: Callable[[str], Sequence[str]]) -> None:
        self.folder = folder
        self.config = write_config(folder)
        self.store = open_store(folder)
        self.service = TrainerService(settings.load(self.config), self.config, command=command)
        self.thread = threading.Thread(target=self.service.run, name="service under test")
        self.thread.start()
        self.client = Client(self.service.server.commands, timeout_s=20)

    def ask(self, command: str, request_id: str | None = None, **arguments: Any) -> dict[str, Any]:
        return self.client.call(command, arguments, request_id=request_id)

    def close(self) -> None:
        self.client.close()
        self.service.stop()
        self.thread.join()
        self.store.close()


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[Callable[..., Cell]]:
    cells: list[Cell] = []

    def make(script: str = "say(kind='finished', result={'made': 1})") -> Cell:
        cells.append(Cell(tmp_path, child(script)))
        return cells[-1]

    yield make
    for one in cells:
        one.close()


def refused(call: Callable[[], object], code: int, words: str) -> None:
    with pytest.raises(InspectdError) as caught:
        call()
    assert words in str(caught.value)
    assert caught.value.code == code
    assert "\n" not in str(caught.value)


def test_what_is_not_understood_is_refused_in_one_line(cell: Callable[..., Cell]) -> None:
    c = cell()
    refused(lambda: c.ask("inspectd.dance"), -51, "knows no command inspectd.dance")
    refused(lambda: c.ask("inspectd.calibrate"), -51, "recipe_id")
    refused(lambda: c.ask("inspectd.calibrate", recipe_id="disc", force=True), -51, "force")
    refused(lambda: c.ask("inspectd.calibrate", recipe_id="../disc"), -51, "recipe_id")
    refused(lambda: c.ask("inspectd.generate", recipe_id="disc", per_class="many"), -51, "per_class")
    refused(lambda: c.ask("inspectd.calibrate", recipe_id="cube"), -33, "no recipe cube")
    refused(lambda: c.ask("inspectd.job", job_id="t99999"), -33, "t99999")


def test_jobs_are_refused_before_they_are_queued_when_something_is_missing(cell: Callable[..., Cell]) -> None:
    c = cell()
    refused(lambda: c.ask("inspectd.calibrate", recipe_id="disc"), -12, "no backgrounds")
    refused(lambda: c.ask("inspectd.generate", recipe_id="disc", per_class=1), -12, "no backgrounds")
    add_backgrounds(c.store, 3)
    refused(lambda: c.ask("inspectd.generate", recipe_id="disc", per_class=1), -12, "no seed of pit, scratch")
    add_seeds(c.store, 1)
    refused(lambda: c.ask("inspectd.generate", recipe_id="disc", per_class=1, classes=["rust"]), -12, "no defect class")
    refused(lambda: c.ask("inspectd.generate", recipe_id="disc", per_class=1), -42, "calibrat")
    add_calibration(c.store)
    refused(lambda: c.ask("inspectd.generate", recipe_id="disc", per_class=1), -12, "pit has 1 confirmed seeds")
    refused(lambda: c.ask("inspectd.train", recipe_id="disc"), -40, "")
    assert c.ask("inspectd.jobs")["jobs"] == []


def test_a_job_is_queued_run_and_told_to_watchers(cell: Callable[..., Cell]) -> None:
    c = cell("progress(4); say(kind='finished', result={'made': 1})")
    add_backgrounds(c.store, 2)
    with Subscriber(c.service.server.events) as watcher:
        # A watcher that is slow to join hears nothing of what came before: wait for the first sign of its connection.
        states: list[JobState] = []

        def run_one() -> bool:
            job_id = c.ask("inspectd.calibrate", recipe_id="disc")["job_id"]
            until(lambda: c.ask("inspectd.job", job_id=job_id)["job"]["state"] == "done")
            while (event := watcher.next(0.3)) is not None:
                assert isinstance(event, JobChanged)
                if event.job.job_id == job_id:
                    states.append(event.job.state)
            return JobState.DONE in states

        until(run_one)
    assert states[0] is JobState.QUEUED
    assert states[-1] is JobState.DONE
    jobs = c.ask("inspectd.jobs", limit=1)["jobs"]
    assert jobs[0]["result"] == {"made": 1}
    status = c.ask("inspectd.trainer.status")
    assert (status["running"], status["queued"]) == (None, [])


def test_the_same_request_queues_one_job_also_after_a_restart(cell: Callable[..., Cell], tmp_path: Path) -> None:
    c = cell()
    add_backgrounds(c.store, 2)
    first = c.ask("inspectd.calibrate", "r-1", recipe_id="disc")
    assert c.ask("inspectd.calibrate", "r-1", recipe_id="disc") == first
    c.close()
    again = cell()
    assert again.ask("inspectd.calibrate", "r-1", recipe_id="disc") == first
    assert len(again.ask("inspectd.jobs")["jobs"]) == 1
    refused(lambda: again.ask("inspectd.generate", "r-1", recipe_id="disc", per_class=1), -51, "r-1")


def test_a_running_job_is_shown_cancelled_and_resumed(cell: Callable[..., Cell]) -> None:
    c = cell("progress(1, stage='ready'); hang()")
    add_backgrounds(c.store, 2)
    job_id = c.ask("inspectd.calibrate", recipe_id="disc")["job_id"]
    waiting = c.ask("inspectd.calibrate", recipe_id="disc")["job_id"]
    until(lambda: ((c.ask("inspectd.trainer.status")["running"] or {}).get("progress") or {}).get("stage") == "ready")
    assert c.ask("inspectd.trainer.status")["queued"] == [waiting]
    c.ask("inspectd.job.cancel", job_id=job_id)
    until(lambda: c.ask("inspectd.job", job_id=job_id)["job"]["state"] == "cancelled")
    assert c.ask("inspectd.job.resume", job_id=job_id) == {"job_id": job_id, "state": "queued"}
    refused(lambda: c.ask("inspectd.job.resume", job_id=job_id), -50, "queued")


def test_a_paused_job_waits_for_its_resumption_across_a_restart(cell: Callable[..., Cell]) -> None:
    c = cell("progress(1, stage='ready'); hang()")
    add_backgrounds(c.store, 2)
    job_id = c.ask("inspectd.calibrate", recipe_id="disc")["job_id"]
    until(lambda: ((c.ask("inspectd.trainer.status")["running"] or {}).get("progress") or {}).get("stage") == "ready")
    c.ask("inspectd.job.pause", job_id=job_id)
    until(lambda: c.ask("inspectd.job", job_id=job_id)["job"]["state"] == "paused")
    c.close()
    again = cell("say(kind='finished', result={})")
    behind = again.ask("inspectd.calibrate", recipe_id="disc")["job_id"]
    until(lambda: again.ask("inspectd.job", job_id=behind)["job"]["state"] == "done")
    assert again.ask("inspectd.job", job_id=job_id)["job"]["state"] == "paused"
    again.ask("inspectd.job.resume", job_id=job_id)
    until(lambda: again.ask("inspectd.job", job_id=job_id)["job"]["state"] == "done")


def test_one_trainer_a_cell(cell: Callable[..., Cell]) -> None:
    c = cell()
    with pytest.raises(StoreInUse, match="trainer"):
        TrainerService(settings.load(c.config), c.config)
    # The one that was refused took nothing from the one that serves.
    assert c.ask("inspectd.jobs") == {"jobs": []}


def png(mask: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_a_person_confirms_a_seed_with_a_mask_of_their_own(cell: Callable[..., Cell]) -> None:
    c = cell()
    add_backgrounds(c.store, 1)
    stack, mask = defective(5, "pit")
    ids = [c.store.propose_seed("disc", f"part-{index}", stack, mask, "pit", Split.LEARN).seed_id for index in range(2)]
    assert [seed["seed_id"] for seed in c.ask("inspectd.seeds", recipe_id="disc", state="proposed")["seeds"]] == ids
    drawn = defect_mask(9, "scratch")
    whole: dict[str, Any] = {"seed_id": ids[0], "defect_class": "scratch", "reviewer": "Ada", "is_person": True}
    wrong = {
        "no PNG": "AAAA",
        "another size": png(drawn[:-1]),
        "empty": png(np.zeros((HEIGHT, WIDTH), np.bool_)),
        "truncated": png(drawn)[:60],
        "no base64": "%%%",
    }
    for text in wrong.values():
        refused(lambda text=text: c.ask("inspectd.seed.confirm", **whole, mask_png_base64=text), -12, "mask")  # type: ignore[misc]
    refused(lambda: c.ask("inspectd.seed.confirm", **{**whole, "is_person": "yes"}), -51, "is_person")
    refused(lambda: c.ask("inspectd.seed.confirm", **{**whole, "reviewer": " "}), -51, "reviewer")
    seed = c.ask("inspectd.seed.confirm", **whole, mask_png_base64=png(drawn))["seed"]
    assert (seed["state"], seed["defect_class"], seed["confirmed_by"]) == ("confirmed", "scratch", "Ada")
    kept = c.store.seed(ids[0])
    assert np.array_equal(c.store.read_mask(kept.mask), drawn)
    c.ask("inspectd.seed.refuse", seed_id=ids[1], reviewer="Ada", reason="a fibre")
    assert c.ask("inspectd.seeds", recipe_id="disc", state="proposed")["seeds"] == []


def review(c: Cell, candidate_id: str, verb: str, reviewer: str = "Ada", **more: Any) -> dict[str, Any]:
    token = c.ask("inspectd.review.displayed", candidate_id=candidate_id, reviewer=reviewer)["token"]
    values = {"is_person": True, "reason": "" if verb == "accept" else "blurred", **more}
    return c.ask(
        "inspectd.review.decide", candidate_id=candidate_id, verb=verb, reviewer=reviewer, token=token, **values
    )


def test_every_candidate_is_shown_and_decided_by_itself(cell: Callable[..., Cell]) -> None:
    c = cell()
    add_backgrounds(c.store, 2)
    add_seeds(c.store, 1)
    ids = add_candidates(c.store, 3, planted=1)
    first = c.ask("inspectd.review.next", recipe_id="disc", reviewer="Ada")
    assert (first["candidate"]["candidate_id"], first["waiting"]) == (ids[0], 3)
    assert first["background"]["background_id"] == first["candidate"]["provenance"]["background_id"]
    # The reviewer is not told which ones were planted, neither here nor by the summary.
    assert "planted_bad" not in json.dumps(first)
    assert "planted" not in c.ask("inspectd.review.summary", recipe_id="disc")
    after = c.ask("inspectd.review.next", recipe_id="disc", reviewer="Ada", after=ids[0])
    assert after["candidate"]["candidate_id"] == ids[1]
    review(c, ids[0], "reject")
    review(c, ids[1], "accept")
    review(c, ids[2], "accept", reviewer="Bo")
    assert c.ask("inspectd.review.next", recipe_id="disc", reviewer="Ada")["candidate"] is None
    summary = c.ask("inspectd.review.summary", recipe_id="disc")
    assert (summary["waiting"], summary["accepted"], summary["rejected"]) == (0, 2, 1)
    assert summary["reviewers"] == {"Ada": 2, "Bo": 1}
    assert summary["planted"] == {"shown": 1, "rejected": 1}
    decisions = c.ask("inspectd.review.history", recipe_id="disc", limit=2)["decisions"]
    assert [decision["candidate_id"] for decision in decisions] == [ids[2], ids[1]]


def test_the_command_can_not_get_around_the_gate(cell: Callable[..., Cell]) -> None:
    c = cell()
    add_backgrounds(c.store, 2)
    add_seeds(c.store, 1)
    one, two = add_candidates(c.store, 2)
    whole: dict[str, Any] = {"verb": "accept", "reviewer": "Ada", "is_person": True}
    refused(lambda: c.ask("inspectd.review.decide", candidate_id=one, token="made up", **whole), -40, "")
    token = c.ask("inspectd.review.displayed", candidate_id=one, reviewer="Ada")["token"]
    # Another candidate, another reviewer, several at once, no token, a second use.
    refused(lambda: c.ask("inspectd.review.decide", candidate_id=two, token=token, **whole), -40, "")
    refused(
        lambda: c.ask("inspectd.review.decide", candidate_id=one, token=token, **{**whole, "reviewer": "Eve"}), -40, ""
    )
    refused(lambda: c.ask("inspectd.review.decide", candidate_id=[one, two], token=token, **whole), -51, "candidate_id")
    refused(lambda: c.ask("inspectd.review.decide", candidate_id="*", token=token, **whole), -51, "candidate_id")
    refused(lambda: c.ask("inspectd.review.decide", candidate_id=one, **whole), -51, "token")
    assert c.ask("inspectd.review.summary", recipe_id="disc")["accepted"] == 0
    token = c.ask("inspectd.review.displayed", candidate_id=one, reviewer="Ada")["token"]
    c.ask("inspectd.review.decide", candidate_id=one, token=token, **whole)
    refused(lambda: c.ask("inspectd.review.decide", candidate_id=one, token=token, **whole), -40, "")
    for name in ("inspectd.review.decide_all", "inspectd.review.accept", "inspectd.train.folder"):
        refused(lambda name=name: c.ask(name, recipe_id="disc"), -51, "knows no command")  # type: ignore[misc]


@pytest.mark.parametrize(
    "extra", [{"manifest": {}}, {"folder": "/tmp"}, {"items": []}, {"manifest_id": "m1"}, {"people_only": False}]
)
def test_a_training_takes_nothing_but_what_the_store_issues(cell: Callable[..., Cell], extra: dict[str, Any]) -> None:
    c = cell()
    refused(lambda: c.ask("inspectd.train", recipe_id="disc", **extra), -51, next(iter(extra)))


def test_accepted_candidates_are_exported_whole_for_other_tools(cell: Callable[..., Cell], tmp_path: Path) -> None:
    c = cell()
    add_backgrounds(c.store, 2)
    add_seeds(c.store, 1)
    ids = add_candidates(c.store, 3, planted=1)
    refused(
        lambda: c.ask("inspectd.export", recipe_id="disc", format="mvtec", directory=str(tmp_path / "none")), -12, ""
    )
    assert not (tmp_path / "none").exists()
    for candidate in ids[:2]:
        review(c, candidate, "accept")
    out = tmp_path / "mvtec"
    answer = c.ask("inspectd.export", recipe_id="disc", format="mvtec", directory=str(out))
    found = {path.relative_to(out).as_posix() for path in out.rglob("*.png")}
    assert answer["files"] == len(found)
    # The planted one was accepted by mistake, the third one waits: neither goes out.
    assert {name for name in found if name.startswith("test/")} == {
        f"test/pit/{ids[1]}_{channel}.png" for channel in RECIPE.channel_names
    }
    stored = c.store.candidates.get(ids[1]).candidate
    with Image.open(out / f"test/pit/{ids[1]}_right.png") as image:
        assert np.array_equal(np.asarray(image), c.store.read_image(stored.image).pixels[1])
    refused(lambda: c.ask("inspectd.export", recipe_id="disc", format="coco", directory=str(out)), -12, "exists")

    answer = c.ask("inspectd.export", recipe_id="disc", format="coco", directory="for-yolo")
    document = json.loads((Path(answer["directory"]) / "annotations.json").read_text())
    assert Path(answer["directory"]).is_relative_to(tmp_path / "state")
    mask = c.store.read_mask(stored.mask)
    annotation = document["annotations"][0]
    assert annotation["area"] == mask.sum()
    runs = np.cumsum([0, *annotation["segmentation"]["counts"]])
    flat = np.zeros(mask.size, np.bool_)
    for start, stop in zip(runs[1::2], runs[2::2], strict=False):
        flat[start:stop] = True
    assert np.array_equal(flat.reshape(mask.shape, order="F"), mask)

    c.ask("inspectd.export", recipe_id="disc", format="yolo", directory=str(tmp_path / "yolo"))
    listing = read_yolo(tmp_path / "yolo")
    assert (len(listing.entries), listing.misfits) == (2 * (len(c.store.backgrounds("disc", Split.LEARN)) + 1), [])
    (marked,) = (entry for entry in listing.entries if entry.picture.stem == f"{ids[1]}_right")
    assert [region.label for region in marked.regions] == ["pit"]
    assert np.array_equal(marked.regions[0].shape.mask(mask.shape), mask)
    assert list(tmp_path.glob(".*.part")) == []


def test_the_whole_way_from_seeds_to_a_model(tmp_path: Path) -> None:
    c = Cell(tmp_path, child_command)
    try:
        add_backgrounds(c.store, 4, 1)
        add_seeds(c.store, 3, 1)

        def done(job_id: str) -> dict[str, Any]:
            until(
                lambda: c.ask("inspectd.job", job_id=job_id)["job"]["state"] not in {"queued", "running"}, seconds=120
            )
            answer = c.ask("inspectd.job", job_id=job_id)
            assert answer["job"]["state"] == "done", answer["job"]["error"] + answer["log"]
            result: dict[str, Any] = answer["job"]["result"]
            return result

        done(c.ask("inspectd.calibrate", recipe_id="disc")["job_id"])
        asked: dict[str, Any] = {"recipe_id": "disc", "per_class": 1, "arm": "procedural", "severity": [0.9, 1.1]}
        assert done(c.ask("inspectd.generate", **asked)["job_id"])["candidates"] == 2
        while (following := c.ask("inspectd.review.next", recipe_id="disc", reviewer="Ada"))["candidate"]:
            review(c, following["candidate"]["candidate_id"], "accept")
        result = done(c.ask("inspectd.train", recipe_id="disc", synthetic_ratio=1.0, updates=1)["job_id"])
        models = c.ask("inspectd.models", recipe_id="disc")["models"]
        assert [model["onnx_digest"] for model in models] == [result["onnx_digest"]]
    finally:
        c.close()


def test_who_asks_for_a_subsurface_class_is_warned(cell: Callable[..., Cell]) -> None:
    c = cell("say(kind='finished', result={})")
    marked = [one.model_copy(update={"subsurface": one.name == "pit"}) for one in RECIPE.defect_classes]
    recipe = RECIPE.model_copy(update={"defect_classes": tuple(marked)})
    (c.config.parent / "recipes" / "disc.json").write_text(recipe.model_dump_json())
    add_backgrounds(c.store, 2)
    add_seeds(c.store, 3)
    add_calibration(c.store)
    (warning,) = c.ask("inspectd.generate", recipe_id="disc", per_class=1)["warnings"]
    assert warning.startswith("pit is marked subsurface")
    assert "warnings" not in c.ask("inspectd.generate", recipe_id="disc", per_class=1, classes=["scratch"])


def test_a_reviewer_meets_doubtful_ones_earlier_and_is_shown_ranks(cell: Callable[..., Cell]) -> None:
    c = cell()
    add_backgrounds(c.store, 1)
    add_seeds(c.store, 3)
    # The last quarter is doubtful.
    names = add_candidates(c.store, 20, doubts=[0.01 * index + 0.7 * (index >= 15) for index in range(20)])
    asked: dict[str, Any] = {"recipe_id": "disc", "reviewer": "Ada", "doubtful_first": True}
    met: list[dict[str, Any]] = [c.ask("inspectd.review.next", **asked)["candidate"]]
    while len(met) < 20:
        met.append(c.ask("inspectd.review.next", **asked, after=met[-1]["candidate_id"])["candidate"])
    order = [one["candidate_id"] for one in met]
    assert sorted(order) == sorted(names)
    places = [order.index(name) for name in names[15:]]
    assert sum(places) / 5 < 7, "by chance their mean place is 9.5"
    shares = {one["candidate_id"]: one["scores"] for one in met}
    assert set(shares[names[0]]) == {"doubt", "visibility"}
    assert [shares[name]["doubt"] for name in names] == [index / 20 for index in range(20)]
    assert "planted_bad" not in met[0]
    assert c.ask("inspectd.review.next", recipe_id="disc", reviewer="Ada")["candidate"]["candidate_id"] == names[0]
