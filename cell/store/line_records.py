"""The line database's other tables: reports about parts, recipes, deployments, conditions."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from cell.base import Record
from cell.clock import WallClock
from cell.errors import NotFound, StateError, StoreError
from cell.recipes import Recipe
from cell.store.database import Database
from cell.verdicts import Outcome


class ArchivedPart(Record):
    """Where the frame set of a part lies. The outcome is the cell's own verdict."""

    job_id: str
    part_id: str
    recipe_id: str
    path: str  # relative to the state directory
    digest: str  # of the pixels
    outcome: Outcome
    size_bytes: int = Field(ge=0)
    emulated: bool
    at: datetime
    physical_part: str = ""  # as the trigger said
    lot: str = ""  # as the trigger said
    #: When and why the file was given up; the row stays.
    removed_at: datetime | None = None
    removed_because: str = ""


class PartReport(Record):
    """What somebody else says of a part: the PLC, a gauge downstream, an operator. Ground truth for harvest."""

    part_id: str = Field(min_length=1)
    outcome: Outcome
    defect_class: str = ""
    source: str = Field(min_length=1)
    at: datetime
    physical_part: str = ""  # empty: not said
    lot: str = ""  # empty: not said


class Deployment(Record):
    """Which model judges a recipe. `active` and `previous` are ONNX digests; `previous` is empty for the first."""

    recipe_id: str
    active: str
    previous: str = ""
    by: str
    rollback: bool = False
    at: datetime


class Condition(Record):
    """Something that a person must know; open until it is resolved and confirmed."""

    name: str
    message: str
    raised_at: datetime
    resolved_at: datetime | None = None
    confirmed_at: datetime | None = None
    comment: str = ""


class PartReports:
    """Verdicts of others about parts; append-only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def report_part(self, report: PartReport) -> None:
        """Record a report."""
        with self._database.write() as connection:
            connection.exec_driver_sql(
                "INSERT INTO part_reports (part_id, record) VALUES (?, ?)", (report.part_id, report.model_dump_json())
            )

    def of_part(self, part_id: str) -> tuple[PartReport, ...]:
        """Return all reports about a part, oldest first."""
        with self._database.read() as connection:
            rows = connection.exec_driver_sql(
                "SELECT record FROM part_reports WHERE part_id = ? ORDER BY number", (part_id,)
            ).all()
        return tuple(PartReport.model_validate_json(row[0]) for row in rows)

    def bad(self) -> tuple[PartReport, ...]:
        """Return the last report about each part that was called bad in it, oldest first; reads all reports."""
        statement = (
            "SELECT record FROM part_reports WHERE number IN (SELECT max(number) FROM part_reports GROUP BY part_id) "
            "AND json_extract(record, '$.outcome') = ? ORDER BY number"
        )
        with self._database.read() as connection:
            rows = connection.exec_driver_sql(statement, (Outcome.NG.value,)).all()
        return tuple(PartReport.model_validate_json(row[0]) for row in rows)


class RecipeBook:
    """Every recipe version that was ever loaded, with its hash; those that were removed are only there for results."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, recipe: Recipe) -> str:
        """Record a recipe version and return the digest it was recorded with; one that was removed is back.

        Raises `StoreError` when the same version was recorded with another content: results could not be told apart.
        """
        digest, key = recipe.record_digest(), (recipe.recipe_id, recipe.version)
        with self._database.write() as connection:
            known = connection.exec_driver_sql(
                "SELECT digest, record FROM recipes WHERE recipe_id = ? AND version = ?", key
            ).first()
            if known is None:
                connection.exec_driver_sql(
                    "INSERT INTO recipes (recipe_id, version, digest, record) VALUES (?, ?, ?, ?)",
                    (*key, digest, recipe.model_dump_json()),
                )
                return digest
            # By content and not by digest: a later inspectd has fields that the digest of then did not count.
            if Recipe.model_validate_json(known.record) != recipe:
                raise StoreError(
                    f"version {recipe.version} of the recipe {recipe.recipe_id} is known with another content; "
                    f"give the changed recipe version {recipe.version + 1}"
                )
            connection.exec_driver_sql("UPDATE recipes SET removed = 0 WHERE recipe_id = ? AND version = ?", key)
        return str(known.digest)

    def get(self, recipe_id: str, version: int | None = None) -> Recipe:
        """Return a version of a recipe, removed ones too, or by default the highest that was not removed.

        Raises `NotFound`.
        """
        with self._database.read() as connection:
            row = connection.exec_driver_sql(
                "SELECT record FROM recipes WHERE recipe_id = ? AND CASE WHEN ? IS NULL THEN removed = 0 "
                "ELSE version = ? END ORDER BY version DESC LIMIT 1",
                (recipe_id, version, version),
            ).first()
        if row is None:
            wanted = recipe_id if version is None else f"{recipe_id} version {version}"
            raise NotFound(f"there is no recipe {wanted}; `inspectctl recipe list` shows what there is")
        return Recipe.model_validate_json(row[0])

    def list(self) -> tuple[Recipe, ...]:
        """Return the highest version of each recipe that was not removed, by name."""
        with self._database.read() as connection:
            rows = connection.exec_driver_sql(
                "SELECT record, max(version) FROM recipes WHERE removed = 0 GROUP BY recipe_id ORDER BY recipe_id"
            ).all()
        return tuple(Recipe.model_validate_json(row[0]) for row in rows)

    def remove(self, recipe_id: str) -> int:
        """Offer a recipe no longer; its versions can still be asked for by number. Return the highest of them.

        Raises `NotFound` when there is none, or when it was removed before.
        """
        version = self.get(recipe_id).version
        with self._database.write() as connection:
            connection.exec_driver_sql("UPDATE recipes SET removed = 1 WHERE recipe_id = ?", (recipe_id,))
        return version


class DeploymentLog:
    """Which model judges a recipe, and which did before; append-only."""

    def __init__(self, database: Database, clock: WallClock) -> None:
        self._database = database
        self._clock = clock

    def deploy(self, recipe_id: str, model_digest: str, by: str) -> Deployment:
        """Record that a model judges from now on; deploying the active one again changes nothing."""
        current = self.current(recipe_id)
        if current is not None and current.active == model_digest:
            return current
        previous = current.active if current else ""
        return self._add(
            Deployment(recipe_id=recipe_id, active=model_digest, previous=previous, by=by, at=self._clock())
        )

    def roll_back(self, recipe_id: str, by: str) -> Deployment:
        """Record that the previous model judges again. Raises `StateError` when there is none."""
        current = self.current(recipe_id)
        if current is None or not current.previous:
            raise StateError(f"the recipe {recipe_id} has no previous model to go back to; deploy one instead")
        return self._add(
            Deployment(
                recipe_id=recipe_id,
                active=current.previous,
                previous=current.active,
                by=by,
                rollback=True,
                at=self._clock(),
            )
        )

    def current(self, recipe_id: str) -> Deployment | None:
        """Return the deployment in force, or None when the recipe never had a model."""
        history = self.history(recipe_id)
        return history[-1] if history else None

    def history(self, recipe_id: str) -> tuple[Deployment, ...]:
        """Return all deployments of a recipe, oldest first."""
        with self._database.read() as connection:
            rows = connection.exec_driver_sql(
                "SELECT record FROM deployments WHERE recipe_id = ? ORDER BY number", (recipe_id,)
            ).all()
        return tuple(Deployment.model_validate_json(row[0]) for row in rows)

    def _add(self, deployment: Deployment) -> Deployment:
        with self._database.write() as connection:
            connection.exec_driver_sql(
                "INSERT INTO deployments (recipe_id, record) VALUES (?, ?)",
                (deployment.recipe_id, deployment.model_dump_json()),
            )
        return deployment


class ConditionBook:
    """Conditions that outlive a restart."""

    def __init__(self, database: Database, clock: WallClock) -> None:
        self._database = database
        self._clock = clock

    def raise_condition(self, name: str, message: str) -> Condition:
        """Record that a condition holds; one that is open and unresolved keeps its first time."""
        known = {condition.name: condition for condition in self.open()}.get(name)
        if known is not None and known.resolved_at is None:
            return self._put(known.model_copy(update={"message": message}))
        return self._put(Condition(name=name, message=message, raised_at=self._clock()))

    def resolve(self, name: str) -> Condition | None:
        """Record that a condition is over; return it, or None when it did not hold."""
        known = {condition.name: condition for condition in self.open()}.get(name)
        if known is None or known.resolved_at is not None:
            return None
        return self._put(known.model_copy(update={"resolved_at": self._clock()}))

    def confirm_all(self, comment: str) -> int:
        """Record that a person has seen all open conditions; return how many there were."""
        now = self._clock()
        waiting = [condition for condition in self.open() if condition.confirmed_at is None]
        for condition in waiting:
            self._put(condition.model_copy(update={"confirmed_at": now, "comment": comment}))
        return len(waiting)

    def open(self) -> tuple[Condition, ...]:
        """Return the conditions that are not both resolved and confirmed, by name."""
        with self._database.read() as connection:
            rows = connection.exec_driver_sql("SELECT record FROM conditions WHERE open = 1 ORDER BY name").all()
        return tuple(Condition.model_validate_json(row[0]) for row in rows)

    def _put(self, condition: Condition) -> Condition:
        still = condition.resolved_at is None or condition.confirmed_at is None
        with self._database.write() as connection:
            connection.exec_driver_sql(
                "INSERT INTO conditions (name, open, record) VALUES (?, ?, ?) "
                "ON CONFLICT (name) DO UPDATE SET open = excluded.open, record = excluded.record",
                (condition.name, int(still), condition.model_dump_json()),
            )
        return condition
