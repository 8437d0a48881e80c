"""Deciding over SSH: inspectctl in a real terminal, and the picture that it draws there."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
from rich.console import Console

from cell.defects import CandidateState, SeedState
from cell.recipes import Rect
from cell.settings import Settings
from cell.store.layout import StateDir
from cell.store.learning import LearningStore
from daemon.ctl import terminal
from tests.web import cells, product

PROGRAM = Path(sys.executable).with_name("inspectctl")


def in_terminal(folder: Path, *words: str) -> tuple[int, str]:
    """Run inspectctl with a terminal as its stdin, stdout and stderr; give exit code and what stands on it."""
    master, slave = pty.openpty()
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache"), "TERM": "xterm-256color", "COLUMNS": "100"}
    command = [str(PROGRAM), "--config", str(folder / "inspectd.toml"), *words]
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment) as process:
        os.close(slave)
        seen = b""
        while True:
            try:
                piece = os.read(master, 65536)
            except OSError:  # the terminal's last user is gone
                break
            if not piece:
                break
            seen += piece
        code = process.wait(30)
    os.close(master)
    return code, seen.decode()


def open_store(settings: Settings) -> LearningStore:
    return LearningStore(StateDir(settings.state_dir))


def test_candidates_are_decided_one_at_a_time_in_a_terminal(tmp_path: Path) -> None:
    folder = tmp_path
    settings = cells.settings_in(folder)
    cells.filled(settings, candidates=3, proposals=2)
    with cells.trainer(settings):
        code, text = in_terminal(folder, "review", "accept", "c000001")
        assert code == 77
        assert text.startswith("inspectctl: "), "nobody was shown anything yet"
        assert in_terminal(folder, "review", "next")[0] == 77, "nothing is shown to nobody"

        code, text = in_terminal(folder, "review", "next", "--as", "Ada Moser")
        assert code == 0
        assert "▀" in text
        assert all(f"{name}, mask" in text for name in product.LIGHTS), "every channel, bare and with the mask"
        assert str(settings.state_dir / "candidates") in text
        assert "planted" not in text
        assert in_terminal(folder, "review", "accept", "c000002")[0] == 77, "that one is not on the screen"
        assert in_terminal(folder, "review", "accept", "c000001")[0] == 0
        assert in_terminal(folder, "review", "accept", "c000001")[0] == 77, "a display is good for one decision"
        # The name is remembered from the display before.
        assert in_terminal(folder, "review", "next")[0] == 0
        assert in_terminal(folder, "review", "reject", "c000002")[0] == 64, "a rejection needs a reason"
        assert in_terminal(folder, "review", "reject", "c000002", "--reason", "seam shows")[0] == 0

        assert in_terminal(folder, "seeds", "confirm", "s000009", "scratch", "--as", "Ada Moser")[0] == 0
        assert in_terminal(folder, "seeds", "refuse", "s000010")[0] == 77, "nobody's"
        assert in_terminal(folder, "seeds", "refuse", "s000010", "--as", "Ada Moser")[0] == 0

    with open_store(settings) as store:
        decided = [(d.candidate_id, str(d.verb), d.reviewer, d.is_person, d.reason) for d in store.gate.decisions()]
        assert decided == [
            ("c000001", "accept", "Ada Moser", True, ""),
            ("c000002", "reject", "Ada Moser", True, "seam shows"),
        ]
        assert store.candidates.get("c000003").state is CandidateState.WAITING
        assert store.seed("s000009").state is SeedState.CONFIRMED
        assert store.seed("s000010").state is SeedState.REFUSED


def test_what_is_on_the_screen_is_kept_from_others(tmp_path: Path) -> None:
    folder = tmp_path
    settings = cells.settings_in(folder)
    cells.filled(settings, candidates=1, proposals=0)
    with cells.trainer(settings):
        assert in_terminal(folder, "review", "next", "--as", "Ada Moser")[0] == 0
    kept = folder / "cache" / "inspectctl" / "review.json"
    assert kept.stat().st_mode & 0o077 == 0


def test_the_picture_in_the_terminal_shows_the_defect() -> None:
    clean = product.part(1)
    relief, mask = product.height_map(900, "scratch", 1.5)
    marked = product.part(1, relief)
    rows, columns = np.nonzero(mask)
    box = Rect(x=int(columns.min()), y=int(rows.min()), width=int(np.ptp(columns)) + 1, height=int(np.ptp(rows)) + 1)
    label = mask.astype(np.uint8) * 255

    def drawn(stack: object) -> list[str]:
        console = Console(width=100, color_system="256", force_terminal=True, file=None)
        with console.capture() as captured:
            for line in terminal.picture(stack, label, box, 100):  # type: ignore[arg-type]
                console.print(line, no_wrap=True, overflow="crop")
        return captured.get().splitlines()

    with_defect, without = drawn(marked), drawn(clean)
    assert len(with_defect) == len(without)
    assert with_defect != without
    assert any("5;214" in line for line in with_defect), "the outline of the mask has a colour of its own"
    console = Console(width=100, file=None)
    assert all(console.measure(line).maximum <= 100 for line in terminal.picture(marked, label, box, 100))
