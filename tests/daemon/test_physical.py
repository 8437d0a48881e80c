"""A trigger or a report says which physical part its id speaks of; views of one part stay on one side of a split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cell.defects import Split
from cell.errors import ProtocolError
from cell.store.layout import StateDir
from cell.store.learning import LearningStore
from tests.daemon.cells import Cell, eventually, running


def test_views_of_one_part_stay_together_from_the_wire_to_the_store(tmp_path: Path) -> None:
    with running(tmp_path) as cell:
        cell.ready()
        for part in range(6):
            for view in ("top", "side"):
                part_id = f"good-{part}-{view}"
                said = {"physical_part": f"A-{part}"} if part < 3 else {}
                verdict = _trigger(cell, part_id, said)
                assert verdict["physical_part"] == said.get("physical_part", "")
                report = {"part_id": part_id, "outcome": "OK", "source": "acceptance" if part % 2 else "plc"}
                if part in (3, 4):
                    report["physical_part"] = f"A-{part}"
                cell.client.call("inspectd.report_part", report)
        assert eventually(lambda: cell.status()["archive"]["waiting"] == 0)
        assert cell.client.call("inspectd.harvest.run", {"recipe_id": "plate"})["harvest"]["backgrounds"] == 12
        with pytest.raises(ProtocolError, match="physical_prat"):
            cell.client.call("StartSingleJob", {"PartId": "p", "Parameters": {"physical_prat": "A"}})
    with LearningStore(StateDir.create(tmp_path / "state")) as learning:
        kept = learning.backgrounds("plate")
        sides = {name: {one.split for one in kept if one.part_id == name} for name in {one.part_id for one in kept}}
    # Nobody said more of the last part's two views: each counts as a part of its own.
    assert sides.keys() == {*(f"A-{part}" for part in range(5)), "good-5-top", "good-5-side"}
    for name, side in sides.items():
        assert side == {Split.HELD_OUT if int(name.split("-")[1]) % 2 else Split.LEARN}


def _trigger(cell: Cell, part_id: str, parameters: dict[str, str]) -> dict[str, Any]:
    reply = cell.client.call("StartSingleJob", {"PartId": part_id, "Parameters": parameters})
    content: dict[str, Any] = reply["Result"]["ResultContent"]
    return content
