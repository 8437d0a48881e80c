"""A new product of the same process: own backgrounds and calibration, another recipe's seeds and adapters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cell import settings
from cell.calibration import Calibration
from cell.clock import utc_now
from cell.defects import ReviewVerb, Split
from cell.errors import DataError, NotFound
from cell.jobs import JobKind
from cell.models import SampleKind
from cell.recipes import Recipe
from tests.trainer.service_support import (
    RECIPE,
    add_backgrounds,
    add_calibration,
    add_seeds,
    defective,
    open_store,
    picture,
    write_config,
)
from trainer.context import JobContext
from trainer.job_generate import generate

VARIANT = RECIPE.model_copy(update={"recipe_id": "disc-b", "product": "disc-b"})


class Cell:
    """Two recipes of one cell: `disc` has seeds, `disc-b` has backgrounds and a calibration of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = settings.load(write_config(folder))
        self.store = open_store(folder)
        self.add_recipe(VARIANT)
        add_backgrounds(self.store, 2)
        add_seeds(self.store, 3)
        add_calibration(self.store)
        for index in range(2):
            self.store.add_background("disc-b", f"b-{index}", picture(40 + index), Split.LEARN)
        own = self.store.calibration("disc").model_dump() | {"calibration_id": "cal-b", "recipe_id": "disc-b"}
        self.store.add_calibration(Calibration.model_validate(own | {"created_at": utc_now()}))

    def add_recipe(self, recipe: Recipe) -> None:
        (self.folder / "recipes" / f"{recipe.recipe_id}.json").write_text(recipe.model_dump_json())

    def run(self, **parameters: Any) -> str:
        job = self.store.jobs.create(JobKind.GENERATE, "disc-b", {"arm": "procedural", "per_class": 2, **parameters})
        context = JobContext(self.settings, self.store, job, VARIANT, self.folder, lambda _: None, lambda: False)
        generate(context)
        return job.job_id


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[Cell]:
    made = Cell(tmp_path)
    yield made
    made.store.close()


def test_a_variant_uses_the_seeds_of_its_relative_and_says_so(cell: Cell) -> None:
    with pytest.raises(DataError, match="no seed of disc-b"):
        cell.run()
    rows = cell.store.candidates.list("disc-b", job_id=cell.run(adapters_from="disc"))
    assert len(rows) == 4
    seeds = {seed.seed_id for seed in cell.store.seeds("disc")}
    own = {background.background_id for background in cell.store.backgrounds("disc-b")}
    for row in rows:
        provenance = row.candidate.provenance
        assert provenance.adapters_from == "disc"
        assert set(provenance.seed_ids) <= seeds
        assert provenance.background_id in own
        assert provenance.calibration_digest == cell.store.calibration("disc-b").record_digest()


def test_accepted_ones_are_trained_on_beside_the_variants_own_seeds(cell: Cell) -> None:
    cell.run(adapters_from="disc")
    gate, made = cell.store.gate, [row.candidate.candidate_id for row in cell.store.candidates.list("disc-b")]
    for candidate in made:
        token = gate.displayed(candidate, "Ada")
        gate.decide(candidate, ReviewVerb.ACCEPT, reviewer="Ada", is_person=True, token=token)
    for kind in VARIANT.class_names:
        for index in range(3):
            stack, mask = defective(2000 + index, kind)
            seed = cell.store.propose_seed("disc-b", f"{kind}-b{index}", stack, mask, kind, Split.LEARN)
            cell.store.confirm_seed(seed.seed_id, kind, mask, "Ada")
    items = gate.issue_training_set(VARIANT).items
    assert {item.item_id for item in items if item.kind is SampleKind.SYNTHETIC} == set(made)
    # The relative's seeds are pictures of another product: they are not learned from themselves.
    real = {item.item_id for item in items if item.kind is SampleKind.SEED}
    assert not real & {seed.seed_id for seed in cell.store.seeds("disc")}


def test_another_cells_adapters_are_refused_with_what_differs(cell: Cell) -> None:
    cell.add_recipe(RECIPE.model_copy(update={"recipe_id": "wide", "width": 120}))
    with pytest.raises(DataError, match=r"the adapters of wide are for left, right at 120x64 and 8 bits, disc-b has"):
        cell.run(adapters_from="wide")
    with pytest.raises(DataError, match="can't take adapters from itself"):
        cell.run(adapters_from="disc-b")
    with pytest.raises(NotFound, match="no recipe nowhere"):
        cell.run(adapters_from="nowhere")
    other = tuple(one.model_copy(update={"name": f"other-{one.name}"}) for one in RECIPE.defect_classes)
    cell.add_recipe(RECIPE.model_copy(update={"recipe_id": "odd", "defect_classes": other}))
    with pytest.raises(DataError, match="none of the defect classes"):
        cell.run(adapters_from="odd")
