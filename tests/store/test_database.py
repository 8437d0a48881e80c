from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from cell.errors import DiskFull, GateError, StoreError
from cell.store import database, tables
from cell.store.database import Database
from cell.store.layout import StateDir
from cell.store.line import LineStore
from tests.store.helpers import RECIPE, raw


@pytest.mark.parametrize(("schema", "metadata"), [("line", tables.LINE), ("learning", tables.LEARNING)])
def test_the_migrations_make_what_the_code_expects(schema: str, metadata: sa.MetaData, tmp_path: Path) -> None:
    store = Database(tmp_path / "a.db", "line" if schema == "line" else "learning")
    with store.read() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar_one() == 1
    store.close()
    assert differences == []


def test_a_transaction_stands_wholly_or_not_at_all(tmp_path: Path) -> None:
    store = Database(tmp_path / "a.db", "line")
    insert = "INSERT INTO counters VALUES ('a', 1)"

    def half_written() -> None:
        with store.write() as connection:
            connection.exec_driver_sql(insert)
            raise KeyError

    def half_written_directly() -> None:
        with store.write_direct() as direct:
            direct.execute(insert)
            raise KeyError

    for attempt in (half_written, half_written_directly):
        with pytest.raises(KeyError):
            attempt()
    with store.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM counters").scalar_one() == 0
    with store.write() as connection:
        connection.exec_driver_sql(insert)
    with pytest.raises(StoreError, match="refused a statement"), store.write_direct() as direct:
        direct.execute(insert)
    with pytest.raises(StoreError, match="can't write or read"), store.read() as connection:
        connection.exec_driver_sql("DELETE FROM counters")
    store.close()
    store.close()
    for use in (store.read, store.write, store.write_direct):
        with pytest.raises(StoreError, match="is closed"), use():
            pass


def test_a_relaxed_commit_never_weakens_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.05)
    store = Database(tmp_path / "a.db", "line")
    with raw(store.path) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="was locked"), store.write_direct(durable=False):
            pass
    with store.write_direct(durable=False) as relaxed:
        relaxed.execute("INSERT INTO counters VALUES ('a', 1)")
        assert relaxed.execute("PRAGMA synchronous").fetchone() == (1,)
    with store.write_direct() as direct:
        assert direct.execute("PRAGMA synchronous").fetchone() == (2,)
        assert direct.execute("SELECT high FROM counters").fetchone() == (1,)
    store.checkpoint()
    assert store.path.with_name("a.db-wal").stat().st_size > 0
    store.close()
    with raw(store.path) as connection:
        assert connection.execute("SELECT high FROM counters").fetchone() == (1,)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:6000])


def _scribble(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    path.write_bytes(data)


def _replace(path: Path) -> None:
    path.write_text("this is not a database, it is a text file that somebody saved here" * 100)


@pytest.mark.parametrize("damage", [_cut, _scribble, _replace])
def test_a_damaged_file_is_one_clear_line(damage: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    Database(path, "learning").close()
    damage(path)
    with pytest.raises(StoreError, match="damaged") as caught:
        Database(path, "learning")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "backup" in str(caught.value)


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    Database(path, "line").close()
    with raw(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'line_9999'")
    with pytest.raises(StoreError, match="line_9999, which this inspectd does not know"):
        Database(path, "line")
    with raw(path) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("line_9999",)


def test_a_migration_that_fails_changes_nothing_and_is_never_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.db"
    Database(path, "line").close()
    (head,) = _at(path)
    scripts = _scripts(tmp_path / "migrations", "*.py")
    (scripts / "line" / "versions" / "9999_bad.py").write_text(
        "from alembic import op\n"
        f"revision, down_revision, branch_labels, depends_on = 'line_9999', '{head}', None, None\n"
        "def upgrade():\n"
        "    op.execute('CREATE TABLE half (a)')\n"
        "    op.execute('INSERT INTO nowhere VALUES (1)')\n"
    )
    monkeypatch.setattr(database, "_MIGRATIONS", scripts)
    with pytest.raises(StoreError, match="nowhere"):
        Database(path, "line")
    assert _at(path) == (head,)
    with raw(path) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'half'").fetchone() == (0,)
    monkeypatch.undo()
    Database(path, "line").close()


def test_a_store_of_the_first_version_is_brought_up_with_what_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(database, "_MIGRATIONS", _scripts(tmp_path / "migrations", "0001_*.py"))
        Database(tmp_path / "line.db", "line").close()
    assert _at(tmp_path / "line.db") == ("line_0001",)
    with raw(tmp_path / "line.db") as connection:
        # As an inspectd wrote it that knew nothing of `sensor`.
        record = RECIPE.model_dump_json(exclude={"sensor"})
        connection.execute(
            "INSERT INTO recipes (recipe_id, version, digest, record) VALUES ('plate', 1, 'of-then', ?)", (record,)
        )
        connection.commit()
    with LineStore(StateDir.create(tmp_path)) as store:
        assert store.recipes.list() == (RECIPE,)
        assert store.recipes.add(RECIPE) == "of-then"  # the unchanged file is not another content


def _scripts(folder: Path, pattern: str) -> Path:
    """Copy the line's migrations whose files match; return the folder."""
    packaged = Path(database.__file__).with_name("migrations")
    (folder / "line" / "versions").mkdir(parents=True)
    for source in (packaged / "env.py", *(packaged / "line" / "versions").glob(pattern)):
        (folder / source.relative_to(packaged)).write_text(source.read_text())
    return folder


def _at(path: Path) -> tuple[str]:
    with raw(path) as connection:
        found: tuple[str] = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return found


def test_a_writer_that_does_not_let_go_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.2)
    path = tmp_path / "a.db"
    store = Database(path, "line")
    with raw(path) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="was locked"), store.write():
            pass
        with pytest.raises(StoreError, match="was locked"), store.write_direct():
            pass
        with store.read() as connection:  # readers are not held up
            assert connection.exec_driver_sql("SELECT count(*) FROM counters").scalar_one() == 0
    store.close()


def test_a_full_disk_is_named_and_the_store_goes_on_afterwards(tmp_path: Path) -> None:
    store = Database(tmp_path / "a.db", "line")
    with store.write_direct() as direct:
        pages = direct.execute("PRAGMA page_count").fetchone()[0]
    direct.execute(f"PRAGMA max_page_count = {pages + 4}")

    def fill_up() -> None:
        for number in range(1000):
            with store.write_direct() as connection:
                connection.execute("INSERT INTO events VALUES (?, ?)", (number, "x" * 2000))

    with pytest.raises(DiskFull, match=r"no room to write a\.db"):
        fill_up()
    with store.read() as reader:
        stored = reader.exec_driver_sql("SELECT count(*) FROM events").scalar_one()
    assert 0 < stored < 1000
    direct.execute("PRAGMA max_page_count = 100000")
    with store.write_direct() as connection:
        connection.execute("INSERT INTO events VALUES (5000, 'x')")
    store.close()


def test_append_only_tables_refuse_to_be_changed(tmp_path: Path) -> None:
    store = Database(tmp_path / "a.db", "learning")
    row = "(1, 'split', 'plate/p', '{}', '', '')"
    with store.write() as connection:
        connection.exec_driver_sql(f"INSERT INTO ledger VALUES {row}")
    for statement in (
        "UPDATE ledger SET payload = '{}'",
        "DELETE FROM ledger",
        f"INSERT OR REPLACE INTO ledger VALUES {row}",
    ):
        with pytest.raises(GateError, match="append-only"), store.write() as connection:
            connection.exec_driver_sql(statement)
    store.close()


OPEN = """
import sys
from pathlib import Path
from cell.store.database import Database
Database(Path(sys.argv[1]), "learning").close()
"""


def test_many_may_open_a_new_store_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    others = [subprocess.Popen([sys.executable, "-c", OPEN, path], stderr=subprocess.PIPE) for _ in range(4)]
    errors = [other.communicate(timeout=60)[1].decode() for other in others]
    assert errors == [""] * 4
    assert [other.returncode for other in others] == [0] * 4


def test_threads_share_one_store(tmp_path: Path) -> None:
    store = Database(tmp_path / "a.db", "line")

    def work(name: str) -> None:
        for _ in range(50):
            with store.write_direct() as connection:
                connection.execute(
                    "INSERT INTO counters VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET high = high + 1", (name,)
                )
            with store.read() as reader:
                reader.exec_driver_sql("SELECT * FROM counters").all()

    workers = [threading.Thread(target=work, args=(f"t{i % 2}",), name=f"worker-{i}") for i in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    with store.read() as connection:
        counted = connection.exec_driver_sql("SELECT name, high FROM counters ORDER BY name").all()
    store.close()
    assert [tuple(row) for row in counted] == [("t0", 150), ("t1", 150)]
