"""Which frame sets are archived, and which were given up: rows of the line's database, files beside it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from cell.errors import NotFound
from cell.store.database import Database
from cell.store.files import remove
from cell.store.layout import StateDir
from cell.store.line_records import ArchivedPart
from cell.verdicts import Outcome


class ArchiveIndex:
    """Which pictures are archived."""

    def __init__(self, database: Database, state: StateDir) -> None:
        self._database = database
        self._state = state

    def add(self, part: ArchivedPart) -> None:
        """Record a picture whose file is durable already. Raises `StoreError` when the job has one."""
        values = (part.job_id, part.part_id, part.recipe_id, part.outcome.value, part.model_dump_json())
        with self._database.write() as connection:
            connection.exec_driver_sql(
                "INSERT INTO archived (job_id, part_id, recipe_id, outcome, record) VALUES (?, ?, ?, ?, ?)", values
            )

    def get(self, job_id: str) -> ArchivedPart:
        """Return the picture of a job; `removed_at` says that its file was given up. Raises `NotFound`."""
        with self._database.read() as connection:
            row = connection.exec_driver_sql("SELECT record FROM archived WHERE job_id = ?", (job_id,)).first()
        if row is None:
            raise NotFound(f"no picture of the job {job_id!r} is archived; the recipe's archive rule decides which are")
        return ArchivedPart.model_validate_json(row[0])

    def list(
        self,
        *,
        recipe_id: str = "",
        part_id: str = "",
        outcome: Outcome | None = None,
        after_job: str = "",
        limit: int = 1000,
    ) -> tuple[ArchivedPart, ...]:
        """Return pictures whose files are there, in the order they were archived.

        `after_job` goes on behind the last one of a page.
        """
        conditions = {
            "recipe_id = ?": recipe_id,
            "part_id = ?": part_id,
            "outcome = ?": outcome.value if outcome else "",
            "number > (SELECT number FROM archived WHERE job_id = ?)": after_job,
        }
        asked = {clause: value for clause, value in conditions.items() if value}
        where = " AND ".join(("pixels = 1", *asked))
        statement = f"SELECT record FROM archived WHERE {where} ORDER BY number LIMIT ?"  # noqa: S608 (fixed clauses)
        with self._database.read() as connection:
            rows = connection.exec_driver_sql(statement, (*asked.values(), limit)).all()
        return tuple(ArchivedPart.model_validate_json(row[0]) for row in rows)

    def beyond(
        self, recipe_id: str, outcome: Outcome, keep: int, *, after_job: str = "", limit: int = 100
    ) -> tuple[ArchivedPart, ...]:
        """Return the oldest pictures of a recipe and outcome that the last `keep` ones push out, at most `limit`.

        `after_job` goes on behind the last one of a page.
        """
        statement = (
            "SELECT record FROM archived WHERE pixels = 1 AND recipe_id = ? AND outcome = ? AND number <= "
            "(SELECT number FROM archived WHERE pixels = 1 AND recipe_id = ? AND outcome = ? "
            "ORDER BY number DESC LIMIT 1 OFFSET ?) "
            "AND number > coalesce((SELECT number FROM archived WHERE job_id = ?), 0) ORDER BY number LIMIT ?"
        )
        values = (recipe_id, outcome.value, recipe_id, outcome.value, keep, after_job, limit)
        with self._database.read() as connection:
            rows = connection.exec_driver_sql(statement, values).all()
        return tuple(ArchivedPart.model_validate_json(row[0]) for row in rows)

    def recipes(self) -> tuple[str, ...]:
        """Return the ids of the recipes that pictures are there of."""
        with self._database.read() as connection:
            rows = connection.exec_driver_sql("SELECT DISTINCT recipe_id FROM archived WHERE pixels = 1").all()
        return tuple(sorted(row[0] for row in rows))

    def size_bytes(self) -> int:
        """Return how much room all pictures take that are there."""
        statement = "SELECT coalesce(sum(json_extract(record, '$.size_bytes')), 0) FROM archived WHERE pixels = 1"
        with self._database.read() as connection:
            return int(connection.exec_driver_sql(statement).scalar_one())

    def give_up(self, parts: Sequence[ArchivedPart], at: datetime, because: str) -> int:
        """Remove the files of pictures, and then note in their rows when and why; return the bytes given free.

        That order works on a full disk too, where SQLite can commit nothing before files are gone. When the process
        dies in between, rows without a file are left, and giving them up again mends it.
        """
        remove(self._state.resolve(part.path) for part in parts)
        gone = (part.model_copy(update={"removed_at": at, "removed_because": because}) for part in parts)
        with self._database.write() as connection:
            for part in gone:
                connection.exec_driver_sql(
                    "UPDATE archived SET pixels = 0, record = ? WHERE job_id = ?",
                    (part.model_dump_json(), part.job_id),
                )
        return sum(part.size_bytes for part in parts)

    def delete(self, parts: Sequence[ArchivedPart]) -> int:
        """Remove pictures with their rows, the files first as :meth:`give_up` does; return the bytes given free."""
        remove(self._state.resolve(part.path) for part in parts)
        with self._database.write() as connection:
            for part in parts:
                connection.exec_driver_sql("DELETE FROM archived WHERE job_id = ?", (part.job_id,))
        return sum(part.size_bytes for part in parts)
