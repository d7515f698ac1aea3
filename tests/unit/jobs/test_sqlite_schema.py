"""Versions of the tables: made, brought forward, refused; whoever is killed, and however many do it at once."""

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from engine.jobs._sqlite import schema as _schema
from engine.jobs._sqlite.schema import migrate, steady_offset, version_of
from engine.jobs.errors import CorruptStore, StoreError

from . import sqlite_children as children
from .sqlite_files import open_file, run_children, schema_of

NEWEST = len(children.MIGRATIONS)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give the path of a file that is not there yet."""
    return tmp_path / "jobs.db"


@pytest.fixture
def connection(path: Path) -> Iterator[apsw.Connection]:
    """Give a connection to it."""
    connection = children.connect(path)
    yield connection
    connection.close()


def rows_with_version(path: Path) -> tuple[int, int]:
    connection = children.connect(path)
    has_jobs = connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'jobs'").get
    rows = connection.execute("SELECT count(*) FROM jobs").get if has_jobs else 0
    found = version_of(connection), rows
    connection.close()
    return found


# -- made and brought forward


def test_an_empty_file_gets_the_newest_tables_and_is_ours(connection: apsw.Connection) -> None:
    """Q14: a new file."""
    migrate(connection, "jobs.db")
    assert version_of(connection) == len(_schema.MIGRATIONS)
    assert connection.pragma("application_id") == _schema.APPLICATION_ID
    assert connection.pragma("integrity_check") == "ok"


def test_what_is_new_already_is_only_looked_at(connection: apsw.Connection) -> None:
    """Q14: the newest version."""
    migrate(connection, "jobs.db")
    before = connection.total_changes(), connection.pragma("data_version")
    statements: list[str] = []
    connection.exec_trace = lambda cursor, sql, bindings: not statements.append(sql)  # type: ignore[func-returns-value]  # append gives None, the hook True
    migrate(connection, "jobs.db")
    connection.exec_trace = None
    assert (connection.total_changes(), connection.pragma("data_version")) == before
    assert not [sql for sql in statements if "IMMEDIATE" in sql]


def test_an_older_file_keeps_its_rows_on_the_way_forward(path: Path, connection: apsw.Connection) -> None:
    """Q14: an older schema."""
    children.fill_rows(path)
    migrate(connection, str(path), children.MIGRATIONS)
    assert version_of(connection) == NEWEST
    regions = connection.execute("SELECT region, count(*) FROM jobs GROUP BY region ORDER BY region").fetchall()
    assert regions == [("north", children.ROWS // 2), ("south", children.ROWS // 2)]


def test_a_migration_that_raises_leaves_the_version_before(path: Path, connection: apsw.Connection) -> None:
    """Q14: a migration that fails half way."""

    def half(connection: apsw.Connection) -> None:
        children.add_and_fill(connection)
        raise OSError("disk on fire")

    children.fill_rows(path)
    before = schema_of(connection)
    with pytest.raises(OSError, match="disk on fire"):
        migrate(connection, str(path), (*_schema.MIGRATIONS, half))
    assert version_of(connection) == 1
    assert schema_of(connection) == before
    assert not connection.in_transaction


# -- refused


def test_a_newer_file_is_refused_and_stays_as_it_is(path: Path, connection: apsw.Connection) -> None:
    """Q14: a newer schema."""
    migrate(connection, str(path))
    connection.pragma("user_version", 99)
    before = schema_of(connection), connection.total_changes()
    with pytest.raises(
        StoreError, match=r"to be of version 1 or older, got version 99; use the version of engine"
    ) as e:
        migrate(connection, str(path))
    assert e.value.path == str(path)
    assert str(path) in str(e.value)
    assert (schema_of(connection), connection.total_changes()) == before


@pytest.mark.parametrize(
    "statement", ["CREATE TABLE theirs (x)", "PRAGMA application_id = 1196444487", "PRAGMA user_version = 7"]
)
def test_the_file_of_another_application_is_refused_and_stays_as_it_is(
    path: Path, connection: apsw.Connection, statement: str
) -> None:
    """Q14: a database that is somebody else's."""
    connection.execute(statement)
    before = schema_of(connection)
    with pytest.raises(StoreError, match="a database of another application; give the jobs a file of their own"):
        migrate(connection, str(path))
    assert schema_of(connection) == before


# -- killed, and at once


@pytest.mark.parametrize(
    ("what", "first", "rows"), [("kill_migrations", 0, 0), ("kill_migrations_of_rows", 1, children.ROWS)]
)
def test_a_migration_that_is_killed_at_any_statement_leaves_a_whole_version(
    tmp_path: Path, what: str, first: int, rows: int
) -> None:
    """Q14: kill -9 before each statement of it."""
    count = int(run_children(what, tmp_path))
    files = sorted(tmp_path.glob("*.db"))
    assert len(files) == count + 1 > 8
    versions = []
    for file in files:
        version, found = rows_with_version(file)
        versions.append(version)
        assert found == (rows if version else 0)
        again = children.connect(file)
        migrate(again, str(file), children.MIGRATIONS)
        assert version_of(again) == NEWEST
        assert again.execute("SELECT count(*) FROM jobs WHERE region IS NULL").get == 0
        assert again.pragma("integrity_check") == "ok"
        again.close()
    assert versions == sorted(versions)  # each statement later, not less is done
    assert set(versions) == set(range(first, NEWEST + 1))


def test_of_four_processes_that_migrate_one_file_at_once_one_does_it(tmp_path: Path) -> None:
    """Q14: two children."""
    run_children("migrate_at_once", tmp_path)
    ran = [file.read_text().splitlines() for file in sorted(tmp_path.glob("*.ran"))]
    assert len(ran) == 10
    assert {len(pids) for pids in ran} == {1}
    assert {rows_with_version(file)[0] for file in tmp_path.glob("*.db")} == {NEWEST}


# -- the steady clock of a boot


def test_the_first_of_a_boot_says_the_offset_and_the_others_read_it(connection: apsw.Connection) -> None:
    """T1: whoever opens later, with the wall's clock set, has the same steady clock."""
    migrate(connection, "jobs.db")
    assert steady_offset(connection, "boot 1", 1000.25) == 1000.25
    assert steady_offset(connection, "boot 1", 5.0) == 1000.25
    assert steady_offset(connection, "boot 2", 5.0) == 5.0
    assert steady_offset(connection, "boot 1", 7.0) == 1000.25


@pytest.mark.parametrize("version", [-1, 0, -(1 << 31)])
def test_a_version_that_cannot_be_is_damage(tmp_path: Path, version: int) -> None:
    """E143: four bytes of the header; the tables are not made again, and not counted from the end."""
    with open_file(tmp_path / "jobs.db") as connection:
        connection.pragma("user_version", version)
        before = schema_of(connection)
        with pytest.raises(CorruptStore, match=f"tables of version {version}"):
            migrate(connection, "jobs.db")
        assert schema_of(connection) == before
