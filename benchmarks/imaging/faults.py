"""Injected faults by the ten thousand: in blocks that are shared out over processes and kept as soon as they end.

A block is one kind of fault on one kind of trigger, or clean sets; `benchmarks.injected_faults` takes its sets, on a
clock that jumps. Finished blocks are lines of a checkpoint, so that a run that was cut off goes on where it was.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import injected_faults
from benchmarks.imaging.load import Note
from benchmarks.injected_faults import Taker, Tally
from drivers.cameras.simulated_faults import Fault

CLEAN = "clean"
TRIGGERS = ("software", "line")
_CHANNELS = 4
#: Faults of one block: some seconds of work.
_BLOCK = 2500


@dataclass(frozen=True, slots=True)
class Block:
    """Work for one process: `sets` injected faults of a kind, or as many clean sets."""

    kind: str
    trigger: str
    number: int
    sets: int

    @property
    def key(self) -> str:
        """What tells a block from all others, also from one of another length."""
        return f"{self.trigger}/{self.kind}/{self.number}/{self.sets}"


def plan(faults: int, clean: int) -> list[Block]:
    """Return the blocks for `faults` of every kind and `clean` sets, with either trigger; clean sets in one go."""
    blocks = []
    for trigger in TRIGGERS:
        if clean:
            blocks.append(Block(CLEAN, trigger, 0, clean))
        for kind in Fault if faults else ():
            starts = range(0, faults, _BLOCK)
            blocks += [Block(kind, trigger, at, min(_BLOCK, faults - start)) for at, start in enumerate(starts)]
    return blocks


def run(block: Block) -> Tally:
    """Take the sets of a block."""
    taker: Taker
    if block.trigger == "software":
        taker = injected_faults.SoftwareTriggered(_CHANNELS)
    else:
        taker = injected_faults.LineTriggered(_CHANNELS)
    if block.kind == CLEAN:
        return injected_faults.clean(taker, block.sets, block.trigger)
    return injected_faults.faulty(taker, Fault(block.kind), block.sets, _CHANNELS, block.trigger)


def all_of(blocks: Sequence[Block], jobs: int, checkpoint: Path | None, note: Note) -> list[dict[str, Any]]:
    """Carry the blocks out in `jobs` processes, those that `checkpoint` holds already left out.

    Returns a row for each kind and trigger.
    """
    tallies = _kept(checkpoint, blocks)
    missing = [block for block in blocks if block.key not in tallies]
    note("injected faults", len(tallies), len(blocks))
    # Started anew and not forked: this process may have threads and open devices.
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        waiting = {pool.submit(run, block): block for block in missing}
        for future in as_completed(waiting):
            block = waiting[future]
            tallies[block.key] = future.result()
            _keep(checkpoint, block, tallies[block.key])
            note(f"{block.kind}, {block.trigger} trigger", len(tallies), len(blocks))
    return [asdict(row) for row in _joined(tallies[block.key] for block in blocks)]


def _kept(checkpoint: Path | None, blocks: Iterable[Block]) -> dict[str, Tally]:
    if checkpoint is None or not checkpoint.exists():
        return {}
    wanted = {block.key for block in blocks}
    text = checkpoint.read_text(encoding="utf-8")
    if not text.endswith("\n"):  # cut off while it was written
        text = text[: text.rfind("\n") + 1]
        checkpoint.write_text(text, encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    return {line["block"]: Tally(**line["tally"]) for line in lines if line["block"] in wanted}


def _keep(checkpoint: Path | None, block: Block, tally: Tally) -> None:
    if checkpoint is not None:
        with checkpoint.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"block": block.key, "tally": asdict(tally)}) + "\n")


def _joined(tallies: Iterable[Tally]) -> list[Tally]:
    rows: dict[tuple[str, str], Tally] = {}
    for tally in tallies:
        row = rows.setdefault((tally.trigger, tally.kind), Tally(tally.kind, tally.trigger))
        for name in Tally.COUNTS:
            setattr(row, name, getattr(row, name) + getattr(tally, name))
        for name, count in tally.names.items():
            row.names[name] = row.names.get(name, 0) + count
    return list(rows.values())
