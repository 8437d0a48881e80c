"""Changes of the process, and what rests on the state before them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import sqlalchemy as sa

from cell.calibration import Calibration
from cell.clock import WallClock
from cell.defects import Background, Seed, SeedState
from cell.errors import NotFound, StateError
from cell.models import ModelManifest, SampleKind, TrainingSet
from cell.process import RENEWS, Cause, ChangeState, ProcessChange, Rests, Standing, asks_for
from cell.store import tables
from cell.store.counters import reserve
from cell.store.database import Database
from cell.store.layout import StateDir

#: Who stands behind a suspected change.
MONITOR = "monitor"
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class ProcessChanges:
    """Suspected and declared changes; append-only. Safe for threads and for several processes."""

    def __init__(self, database: Database, state: StateDir, clock: WallClock) -> None:
        self._database = database
        self._state = state
        self._clock = clock

    def suspect(
        self, recipe_id: str, what: Cause, since: datetime, sentence: str, evidence: Mapping[str, float]
    ) -> ProcessChange:
        """Record what the monitor saw."""
        return self._add(
            ProcessChange(
                change_id=self._new_id(),
                recipe_id=recipe_id,
                state=ChangeState.SUSPECTED,
                what=what,
                since=since,
                at=self._clock(),
                by=MONITOR,
                sentence=sentence,
                evidence=dict(evidence),
            )
        )

    def declare(self, recipe_id: str, what: Cause, by: str, note: str = "") -> ProcessChange:
        """Record that a person says what changed: what the monitor suspects is settled by it, else it begins now."""
        suspected = self.suspected(recipe_id)
        at = self._clock()
        if suspected is not None:
            changes = {"state": ChangeState.DECLARED, "what": what, "by": by, "note": note, "at": at}
            return self._add(suspected.model_copy(update=changes))
        return self._add(
            ProcessChange(
                change_id=self._new_id(),
                recipe_id=recipe_id,
                state=ChangeState.DECLARED,
                what=what,
                since=at,
                at=at,
                by=by,
                note=note,
            )
        )

    def withdraw(self, recipe_id: str, by: str, note: str = "") -> ProcessChange:
        """Record that a person says of a suspected change that it is ordinary. Raises `StateError` when there is
        none."""
        suspected = self.suspected(recipe_id)
        if suspected is None:
            raise StateError(f"no change of {recipe_id} is suspected; inspectctl process shows how it stands")
        changes = {"state": ChangeState.WITHDRAWN, "by": by, "note": note, "at": self._clock()}
        return self._add(suspected.model_copy(update=changes))

    def suspected(self, recipe_id: str) -> ProcessChange | None:
        """Return the newest change that nobody has settled yet, or None."""
        open_ones = [change for change in self.list(recipe_id) if change.state is ChangeState.SUSPECTED]
        return open_ones[-1] if open_ones else None

    def list(self, recipe_id: str) -> tuple[ProcessChange, ...]:
        """Return every change of a recipe as it stands now, oldest first, withdrawn ones too."""
        table = tables.process_changes
        statement = sa.select(table.c.record).where(table.c.recipe_id == recipe_id).order_by(table.c.number)
        with self._database.read() as connection:
            rows = [ProcessChange.model_validate_json(text) for text in connection.scalars(statement)]
        return tuple({row.change_id: row for row in rows}.values())

    def get(self, change_id: str) -> ProcessChange:
        """Return a change as it stands now. Raises `NotFound`."""
        table = tables.process_changes
        with self._database.read() as connection:
            texts = connection.scalars(sa.select(table.c.record).order_by(table.c.number)).all()
        found = [change for text in texts if (change := ProcessChange.model_validate_json(text)).change_id == change_id]
        if not found:
            raise NotFound(f"there is no process change {change_id!r}; inspectctl process lists them")
        return found[-1]

    def standing(self, recipe_id: str) -> Standing:
        """Return what of a recipe rests on a state that is over, and what has to be done about it."""
        changes = tuple(change for change in self.list(recipe_id) if change.state is not ChangeState.WITHDRAWN)
        since = {
            kind: max((change.since for change in changes if kind in RENEWS[change.what]), default=_LONG_AGO)
            for kind in Rests
        }
        taken = self._taken(recipe_id, since[Rests.BACKGROUNDS])
        stale = {
            kind: tuple(name for name, at in taken[kind].items() if at < since[kind])
            for kind in Rests
            if any(at < since[kind] for at in taken[kind].values())
        }
        fresh = {kind: sum(at >= since[kind] for at in taken[kind].values()) for kind in Rests}
        return Standing(recipe_id=recipe_id, changes=changes, stale=stale, fresh=fresh, asks=asks_for(stale, fresh))

    def _taken(self, recipe_id: str, backgrounds_since: datetime) -> dict[Rests, dict[str, datetime]]:
        """Return the age of everything of a recipe: a model is no younger than the backgrounds it learned from."""
        with self._database.read() as connection:

            def records(table: sa.Table) -> Iterable[str]:
                return connection.scalars(sa.select(table.c.record).where(table.c.recipe_id == recipe_id)).all()

            backgrounds = [Background.model_validate_json(text) for text in records(tables.backgrounds)]
            seeds = [Seed.model_validate_json(text) for text in records(tables.seeds)]
            calibrations = [Calibration.model_validate_json(text) for text in records(tables.calibrations)]
            models = [ModelManifest.model_validate_json(text) for text in records(tables.models)]
            digests = tables.training_sets.c.content_digest
            sets = {
                row.content_digest: TrainingSet.model_validate_json(row.record)
                for row in connection.execute(
                    sa.select(digests, tables.training_sets.c.record).where(
                        digests.in_([model.training_set_digest for model in models])
                    )
                )
            }
        of_background = {background.background_id: background.taken_at for background in backgrounds}
        folder = self._state.adapters / recipe_id
        adapters = {
            file.stem: datetime.fromtimestamp(file.stat().st_mtime, UTC)
            for file in sorted(folder.glob("*.safetensors"))
        }
        return {
            Rests.BACKGROUNDS: of_background,
            Rests.SEEDS: {seed.seed_id: seed.taken_at for seed in seeds if seed.state is SeedState.CONFIRMED},
            Rests.CALIBRATION: {one.calibration_id: one.created_at for one in calibrations},
            Rests.ADAPTERS: adapters,
            Rests.MODELS: {
                model.model_id: _age(model, sets.get(model.training_set_digest), of_background, backgrounds_since)
                for model in models
            },
        }

    def _new_id(self) -> str:
        with self._database.write_direct() as connection:
            return f"pc{reserve(connection, 'process-change', 1):05d}"

    def _add(self, change: ProcessChange) -> ProcessChange:
        with self._database.write() as connection:
            connection.execute(
                sa.insert(tables.process_changes).values(recipe_id=change.recipe_id, record=change.model_dump_json())
            )
        return change


def _age(
    model: ModelManifest, learned: TrainingSet | None, backgrounds: Mapping[str, datetime], since: datetime
) -> datetime:
    if learned is None:
        return model.created_at
    known = [
        backgrounds[item.item_id]
        for item in learned.items
        if item.kind is SampleKind.BACKGROUND and item.item_id in backgrounds
    ]
    # Trained later, but on good parts of before alone.
    return min(model.created_at, max(known)) if known and max(known) < since else model.created_at
