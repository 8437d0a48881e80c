"""What the gate's ledger seals of a real picture besides its record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from cell.defects import Mask, Seed
from cell.frames import StoredStack
from cell.imaging import production
from cell.store.ledger import LedgerWriter
from cell.store.tables import seeds


def facts_of(stack: StoredStack, defect: Mask | None = None) -> dict[str, Any]:
    """Return what is sealed of a picture; `levels` are each channel's mean outside the defect, DN."""
    return {
        "emulated": stack.metadata.get("emulated") is not False,
        "levels": list(production.levels(stack.pixels, defect)),
        **production.Taking.of(stack).facts(),
    }


def insert_seed(writer: LedgerWriter, seed: Seed, facts: Mapping[str, Any]) -> None:
    """Add a seed's row and seal it."""
    row = {"seed_id": seed.seed_id, "recipe_id": seed.recipe_id, "part_id": seed.part_id}
    writer.connection.execute(sa.insert(seeds).values(**row, record=seed.model_dump_json()))
    seal_seed(writer, seed, facts)


def seal_seed(writer: LedgerWriter, seed: Seed, facts: Mapping[str, Any]) -> None:
    """Seal what a seed is now."""
    writer.append("seed", seed.seed_id, {"record": seed.record_digest(), "state": seed.state.value, **facts})
