"""A folder whose pictures were lit otherwise than the good parts that the cell gathered does not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cell.defects import Split
from cell.frames import StoredStack
from cell.store.learning import LearningStore
from tests.store.helpers import open_state
from tests.trainer.layouts import RECIPE, grey, own, save
from trainer.importing import FolderImport, Wishes


def test_pictures_under_other_light_are_told_one_by_one(tmp_path: Path) -> None:
    root = tmp_path / "folder"
    own(root)
    save(root / "backgrounds/good/dim.png", (grey(20) * 0.6).astype(np.uint8))
    save(root / "seeds/pit/p1.png", (grey(21) * 1.3).astype(np.uint8))
    mask = np.zeros((40, 56), np.uint8)
    mask[4:9, 4:9] = 255
    save(root / "seeds/pit/p1_mask.png", mask)
    with LearningStore(open_state(tmp_path)) as store:
        assert FolderImport(store, RECIPE, root, Wishes()).survey().misfits == [], "nobody knows the cell's light yet"
        for number in range(8):
            stack = StoredStack(grey(100 + number)[np.newaxis], ("grey",), 8, (1000.0,), (0.0,), {})
            store.add_background("tile", f"harvested-{number}", stack, Split.LEARN)
        found = FolderImport(store, RECIPE, root, Wishes()).survey()
        reasons = {misfit.path.name: misfit.reason for misfit in found.misfits}
    assert reasons.keys() == {"dim.png", "p1.png"}
    assert "grey is 40% darker than on good parts" in reasons["dim.png"]
    assert "brighter than on good parts" in reasons["p1.png"]
