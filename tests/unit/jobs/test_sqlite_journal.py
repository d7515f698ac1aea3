"""Which journal a file is given: a WAL where it is safe and possible, else a rollback journal, or a clear refusal."""

import logging
from pathlib import Path
from typing import Any

import pytest

from engine.jobs._sqlite import guard as _guard
from engine.jobs._sqlite.connection import Database
from engine.jobs._sqlite.library import is_wal_safe, version
from engine.jobs.errors import StoreError
from tests.job_stores import PATIENCE, enqueue, ids_in, opened

VERSIONS = [
    ("3.51.3", True), ("3.51.2", False), ("3.54.1", True), ("3.53.0", True), ("4.0.0", True), ("3.40.1", False),
    ("3.50.7", True), ("3.50.6", False), ("3.44.6", True), ("3.44.5", False), ("3.45.9", False), ("3.7.0", False),
]  # fmt: skip


@pytest.mark.parametrize(("text", "is_safe"), VERSIONS)
def test_a_version_with_the_bug_is_known(text: str, is_safe: bool) -> None:
    """Q11: which versions of SQLite may lose what was committed to a WAL."""
    assert is_wal_safe(version(text)) is is_safe


def database(path: Path, **options: Any) -> Database:
    path.touch(0o600)
    return Database(str(path), _guard.key_of(str(path)), **options)


def journal_of(database: Database) -> str:
    connection = database.connect()
    try:
        return str(connection.pragma("journal_mode"))
    finally:
        database.close(connection)


def test_a_version_with_the_bug_gets_no_wal_and_the_log_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Q11: without a WAL there is no reset of it, whoever checkpoints."""
    old = database(tmp_path / "jobs.db", sqlite="3.40.1")
    with caplog.at_level(logging.WARNING, "engine.jobs"):
        assert journal_of(old) == "delete"
    assert "SQLite 3.40.1 can lose what was committed to a WAL; apsw with SQLite 3.51.3 or later cannot" in caplog.text


def test_a_wal_that_others_use_is_not_joined_by_a_version_with_the_bug(tmp_path: Path) -> None:
    """Q11: several processes, one of them with an old SQLite: that one is refused."""
    path = tmp_path / "jobs.db"
    with opened(path) as store:
        store.write(enqueue).result(PATIENCE)
        with pytest.raises(StoreError, match=r"to do without a WAL.*got one that others use; stop them"):
            database(path, sqlite="3.40.1").connect()
        assert len(ids_in(store)) == 1
    assert journal_of(database(path, sqlite="3.40.1")) == "delete"
    assert journal_of(database(path)) == "wal"


#: One of SQLite's own file systems: it locks with a directory beside the file, and has no xShmMap.
NO_SHARING = "unix-dotfile"


def test_a_file_system_without_shared_memory_gets_a_rollback_journal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Q12: two stores work on the file."""
    path = tmp_path / "jobs.db"
    with (
        caplog.at_level(logging.WARNING, "engine.jobs"),
        opened(path, vfs=NO_SHARING) as store,
        opened(path, vfs=NO_SHARING) as other,
    ):
        ids = [each.write(enqueue).result(PATIENCE) for each in (store, other, store, other)]
        assert ids_in(store) == ids_in(other) == ids
        assert not (tmp_path / "jobs.db-wal").exists()
    assert "rollback journal, which is slower than a WAL: its file system cannot share memory" in caplog.text


def test_shared_memory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """Q12: the -shm cannot be made, because a directory is in its place."""
    (tmp_path / "jobs.db-shm").mkdir()
    with opened(tmp_path / "jobs.db") as store, pytest.raises(StoreError, match=r"expected .* readable and writable"):
        store.open()


def test_a_file_that_has_a_wal_is_read_where_memory_cannot_be_shared(tmp_path: Path) -> None:
    """Q12: a file that was made elsewhere, and moved with what is in its WAL."""
    path = tmp_path / "jobs.db"
    with opened(path) as store:
        job_id = store.write(enqueue).result(PATIENCE)
        moved = tmp_path / "moved"
        moved.mkdir()
        for name in ("jobs.db", "jobs.db-wal"):
            (moved / name).write_bytes((tmp_path / name).read_bytes())
    with opened(moved / "jobs.db", vfs=NO_SHARING) as store:
        assert ids_in(store) == [job_id]
        store.write(enqueue).result(PATIENCE)


@pytest.mark.parametrize(
    ("synchronous", "journal", "expected"),
    [("full", "wal", 2), ("normal", "wal", 1), ("full", "delete", 3), ("normal", "delete", 2)],
)
def test_each_journal_is_synchronised_as_was_asked(
    tmp_path: Path, synchronous: str, journal: str, expected: int
) -> None:
    """Q3: what FULL and NORMAL mean; a deleted journal needs EXTRA to stay deleted."""
    options = {"sqlite": "3.51.3" if journal == "wal" else "3.40.1", "synchronous": synchronous}
    chosen = database(tmp_path / "jobs.db", **options)
    connection = chosen.connect()
    assert connection.pragma("journal_mode") == journal
    assert connection.pragma("synchronous") == expected
    assert connection.pragma("mmap_size") in (0, None)
    chosen.close(connection)
