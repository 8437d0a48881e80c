"""A trigger or a report tells the part's lot; where the split goes by lot, no lot is on two sides of it."""

from __future__ import annotations

from pathlib import Path

from cell.store.layout import StateDir
from cell.store.learning import LearningStore
from tests.daemon.cells import eventually, running

LOTS, PARTS = 5, 2


def test_a_lot_goes_from_the_wire_to_one_side_of_the_split(tmp_path: Path) -> None:
    with running(tmp_path) as cell:
        with LearningStore(StateDir.create(tmp_path / "state")) as learning:
            learning.split_book.set_plan("plate", "lot", 0.3, "Ada")
        cell.ready()
        for lot in range(LOTS):
            for part in range(PARTS):
                part_id, said = f"good-{lot}-{part}", {"lot": f"L{lot}"}
                on_trigger = lot % 2 == 0
                parameters = said if on_trigger else {}
                reply = cell.client.call("StartSingleJob", {"PartId": part_id, "Parameters": parameters})
                assert reply["Result"]["ResultContent"]["lot"] == parameters.get("lot", "")
                report = {"part_id": part_id, "outcome": "OK", **({} if on_trigger else said)}
                cell.client.call("inspectd.report_part", report)
        assert eventually(lambda: cell.status()["archive"]["waiting"] == 0)
        cell.client.call("inspectd.harvest.run", {"recipe_id": "plate"}, timeout_s=60)
        cell.client.call("StartSingleJob", {"PartId": "late", "Parameters": {"lot": "L0"}})
        cell.client.call("inspectd.report_part", {"part_id": "late", "outcome": "OK", "source": "acceptance"})
        assert eventually(lambda: cell.status()["archive"]["waiting"] == 0)
        cell.client.call("inspectd.harvest.run", {"recipe_id": "plate"}, timeout_s=60)
    with LearningStore(StateDir.create(tmp_path / "state")) as learning:
        kept = learning.backgrounds("plate")
        assert len(kept) == LOTS * PARTS + 1
        sides = {lot: {one.split for one in kept if one.lot == lot} for lot in {one.lot for one in kept}}
        assert sides.keys() == {f"L{lot}" for lot in range(LOTS)}
        assert all(len(side) == 1 for side in sides.values())
        assert len({side for found in sides.values() for side in found}) == 2, "some lots are held out"
        assert learning.split_book.state("plate").lots_on_both_sides == ()
