"""The demo's own parts: what it shows, what its reviewer says, what it refuses to call a success."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from rich.console import Console

from benchmarks.demo import scenario
from benchmarks.demo.pictures import crop_box
from benchmarks.demo.plc import Answer, lost
from benchmarks.demo.processes import Processes
from benchmarks.demo.results import DemoReport, LineSummary, ReviewSummary
from benchmarks.demo.workshop import workshop
from cell.errors import DataError, InspectdError, StoreInUse
from cell.imaging.folders import physical_part
from cell.store.layout import StateLock


def _picture(path: Path, level: int, size: tuple[int, int] = (40, 48)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(level).integers(0, 20, size)
    Image.fromarray((noise + level).astype(np.uint8)).save(path)


def _product(folder: Path) -> Path:
    for part in range(3):
        for exposure in range(1, 7):
            name = f"t{part:03d}_e{exposure}"
            _picture(folder / "backgrounds" / "good" / f"{name}.png", 100 + part)
            _picture(folder / "seeds" / "pit" / f"s{name}.png", 90 + part)
            mask = np.zeros((40, 48), np.uint8)
            mask[5:9, 6:12] = 255
            Image.fromarray(mask).save(folder / "seeds" / "pit" / f"s{name}_mask.png")
            _picture(folder / "test" / "good" / f"h{name}.png", 100 + part)
            _picture(folder / "test" / "pit" / f"d{name}.png", 95 + part)
    return folder


def test_a_folder_becomes_parts_by_use_and_no_part_is_on_both_sides(tmp_path: Path) -> None:
    shown = scenario.of_folder(_product(tmp_path))
    assert all(part.startswith("test/") for part in shown.held_out)
    assert all(part.startswith(("seeds/", "backgrounds/")) for part in shown.learning)
    learned, held_out = ({physical_part(part) for part in parts} for parts in (shown.learning, shown.held_out))
    assert not learned & held_out
    assert len(learned) == len(held_out) == 6, "every physical part is shown"
    assert shown.recipe.archive.ok_share == 1.0
    defect, mask = shown.truth("seeds/pit/st000_e1")
    assert defect == "pit"
    assert mask.shape == (shown.recipe.height, shown.recipe.width)
    assert mask.sum() == 24


def test_the_simulated_product_needs_no_data() -> None:
    shown = scenario.of_plates()
    assert len(shown.recipe.channels) == 4
    for name in shown.recipe.class_names:
        assert sum(shown.product.defect_class(part) == name for part in shown.learning) >= 3


def test_a_folder_without_held_out_parts_is_refused(tmp_path: Path) -> None:
    _picture(tmp_path / "seeds" / "pit" / "a.png", 90)
    with pytest.raises(DataError, match="test/"):
        scenario.of_folder(tmp_path)


def test_the_named_folder_must_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSPECTD_DEMO_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="nowhere"):
        scenario.choose()


def test_a_crop_stays_inside_the_picture_and_holds_the_mask() -> None:
    mask = np.zeros((60, 90), np.bool_)
    mask[0:4, 80:90] = True
    rows, columns = crop_box(mask)
    assert mask[rows, columns].sum() == mask.sum()
    assert 0 <= rows.start < rows.stop <= 60
    assert 0 <= columns.start < columns.stop <= 90


def _report(**line: int) -> DemoReport:
    counts = {"lost": 0, "late": 0, "fault": 0, "mixed_models": 0, "offline_differences": 0} | line
    return DemoReport(
        product="p",
        source="s",
        camera="c",
        recipe_id="demo",
        channels=("grey",),
        classes=("pit",),
        backgrounds=1,
        refused={},
        seeds={"pit": 3},
        calibration_kind="degraded",
        calibration_findings=(),
        candidates={"pit": 3},
        review=ReviewSummary(
            accepted=2, rejected=1, planted=1, planted_rejected=1, reviewers=("x",), by_people=False, reasons={}
        ),
        models=(),
        line=LineSummary(parts=9, promoted_at_part=4, p50_ms=1, p99_ms=2, max_ms=3, judged=(), **counts),
        seconds=1.0,
        peak_mb=1.0,
    )


def test_no_failure_on_the_line_is_called_a_success() -> None:
    assert _report().failures() == []
    for what in ("lost", "fault", "mixed_models", "offline_differences"):
        assert len(_report(**{what: 2}).failures()) == 1, what
    never = _report().line.model_copy(update={"promoted_at_part": None})
    assert _report().model_copy(update={"line": never}).failures() == ["the second model judged no part"]
    accepted = _report().model_copy(update={"review": _report().review.model_copy(update={"planted_rejected": 0})})
    assert any("known-bad" in failure for failure in accepted.failures())


def test_a_trigger_without_a_verdict_is_lost() -> None:
    assert lost([Answer("a", None, 2000.0, "no answer")]) == 1


@pytest.mark.parametrize("owner", ["demo.lock", "state/daemon.lock", "state/trainer.lock"])
def test_a_cell_that_runs_is_not_emptied_by_a_second_demo(tmp_path: Path, owner: str) -> None:
    (tmp_path / "state").mkdir()
    kept = tmp_path / "state" / "line.db"
    kept.write_bytes(b"verdicts")
    with (
        StateLock(tmp_path / owner, "demo"),
        pytest.raises(StoreInUse, match="stop it or choose another --folder"),
        workshop(tmp_path, scenario.of_plates(), Console(), 1),
    ):
        pytest.fail("two cells in one folder")
    assert kept.read_bytes() == b"verdicts"
    with workshop(tmp_path, scenario.of_plates(), Console(), 1):
        assert not kept.exists(), "its own folder is emptied"


def test_a_program_that_ended_ends_the_demo_with_what_it_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pages.py").write_text("import sys\nsys.exit('pages: the address is taken; set another')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Processes(Path("none"), tmp_path / "logs") as processes:
        processes.launch("pages")
        processes.children["pages"].wait(20)
        with pytest.raises(InspectdError, match="ended with status 1: pages: the address is taken; set another"):
            processes.check()


_DEMO = """
import sys, time
from pathlib import Path
from benchmarks.demo.processes import Processes
with Processes(Path("none"), Path(sys.argv[1])) as processes:
    log = processes.launch("service")
    while not log.read_text():
        time.sleep(0.05)
    print(processes.children["service"].pid, flush=True)
    time.sleep(60)
"""


def test_a_killed_demo_leaves_no_service_behind(tmp_path: Path) -> None:
    (tmp_path / "service.py").write_text("import time\nprint('up', flush=True)\ntime.sleep(60)\n")
    path = f"{tmp_path}:{Path(__file__).parents[2]}"
    demo = subprocess.Popen(
        [sys.executable, "-c", _DEMO, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
    )
    with demo:
        assert demo.stdout is not None
        service = psutil.Process(int(demo.stdout.readline()))
        demo.kill()
    until, pause = time.monotonic() + 20, threading.Event()
    while service.is_running() and service.status() != psutil.STATUS_ZOMBIE and time.monotonic() < until:
        pause.wait(0.05)
    assert not service.is_running() or service.status() == psutil.STATUS_ZOMBIE
