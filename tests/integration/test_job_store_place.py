"""A file that is deleted, moved, replaced, locked or made read-only while a store has it open."""

import contextlib
import logging
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine.jobs._sqlite import patience as _patience
from engine.jobs._sqlite.store import SQLiteStore
from engine.jobs.errors import StoreError
from tests.job_stores import PATIENCE, enqueue, holder, ids_in, opened
from tests.support import eventually

GONE = "to stay the file that was opened"


def delete(path: Path) -> None:
    path.unlink()


def move(path: Path) -> None:
    path.rename(path.with_suffix(".away"))


def replace(path: Path) -> None:
    with opened(path.with_suffix(".new")) as other:
        other.write(enqueue).result(PATIENCE)
    path.with_suffix(".new").rename(path)


def delete_wal(path: Path) -> None:
    Path(f"{path}-wal").unlink()


def delete_shared_memory(path: Path) -> None:
    Path(f"{path}-shm").unlink()


@pytest.mark.parametrize("how", [delete, move, replace, delete_wal, delete_shared_memory])
def test_who_writes_to_a_file_that_is_gone_is_told_each_time_and_the_log_once(
    tmp_path: Path, how: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """E144, E186: SQLite itself would go on, and what it answers would be lost; ends of runs are told too."""
    path = tmp_path / "jobs.db"
    with opened(path) as store, caplog.at_level(logging.ERROR, "engine.jobs"):
        store.hold(holder(), lambda: None).result(PATIENCE)
        store.write(enqueue).result(PATIENCE)
        how(path)
        for keep in (False, True, False):
            with pytest.raises(StoreError, match=GONE):
                store.write(enqueue, keep=keep).result(PATIENCE)
        assert len([record for record in caplog.records if GONE in record.message]) == 1
    if how is replace:
        for left in ("-wal", "-shm"):  # SQLite would read the one into the new file
            Path(f"{path}{left}").unlink(missing_ok=True)
        with opened(path) as store:
            assert ids_in(store) == [1]


def test_a_file_that_is_put_back_is_used_on(tmp_path: Path) -> None:
    """E144: what was refused meanwhile was refused; the log would tell of a second time."""
    path = tmp_path / "jobs.db"
    with opened(path) as store:
        first = store.write(enqueue).result(PATIENCE)
        move(path)
        with pytest.raises(StoreError, match=GONE):
            store.write(enqueue).result(PATIENCE)
        path.with_suffix(".away").rename(path)
        last = store.write(enqueue).result(PATIENCE)
        assert {first, last} <= set(ids_in(store))


def test_a_store_that_only_waits_for_work_says_that_its_file_is_gone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """E144: a worker that has nothing to do would wait for ever for what others write elsewhere."""
    path = tmp_path / "jobs.db"
    with opened(path) as store:
        store.listen(lambda: None)
        store.write(enqueue).result(PATIENCE)
        path.unlink()
        eventually(lambda: GONE in caplog.text)


@contextlib.contextmanager
def immutable(path: Path) -> Iterator[None]:
    """Have nobody write to a file, not even root, and not even who has it open."""
    chattr = shutil.which("chattr")
    if chattr is None or subprocess.run([chattr, "+i", str(path)], capture_output=True, check=False).returncode:
        pytest.skip("no file can be made immutable here")
    try:
        with pytest.raises(PermissionError):
            os.utime(path)
        yield
    finally:
        subprocess.run([chattr, "-i", str(path)], check=True)


def test_a_file_that_is_made_read_only_while_it_is_open_is_one_clear_error_until_it_is_not(tmp_path: Path) -> None:
    """Q5: the WAL may not be written any more; reads go on, and so does all when that is over."""
    path = tmp_path / "jobs.db"
    with opened(path) as store:
        first = store.write(enqueue).result(PATIENCE)
        with immutable(Path(f"{path}-wal")):
            for _ in range(2):
                with pytest.raises(StoreError, match=r"to be readable and writable.*permissions"):
                    store.write(enqueue).result(PATIENCE)
            assert ids_in(store) == [first]
        last = store.write(enqueue).result(PATIENCE)
        assert ids_in(store) == [first, last]


def test_a_database_that_is_made_read_only_while_its_wal_is_not_loses_nothing(tmp_path: Path) -> None:
    """Q5: who has it open goes on in the WAL, who opens it is told; a close meanwhile loses nothing."""
    path = tmp_path / "jobs.db"
    with opened(path) as store:
        ids = [store.write(enqueue).result(PATIENCE)]
        assert ids_in(store) == ids
        with immutable(path):
            ids.append(store.write(enqueue).result(PATIENCE))
            assert ids_in(store) == ids
            with pytest.raises(StoreError, match=r"to be readable and writable.*permissions"), opened(path) as other:
                other.open()
            store.close()
            assert Path(f"{path}-wal").stat().st_size > 0
    with opened(path) as store:
        assert ids_in(store) == ids


def test_a_folder_that_is_made_read_only_while_its_file_is_open_is_in_nobodys_way(tmp_path: Path) -> None:
    """Q5: all that is written to is there already."""
    path = tmp_path / "jobs.db"
    with opened(path) as store:
        ids = [store.write(enqueue).result(PATIENCE)]
        with immutable(tmp_path):
            ids.append(store.write(enqueue).result(PATIENCE))
            with opened(path) as other:
                assert ids_in(other) == ids


def test_a_file_that_is_to_be_opened_read_only_by_its_name_is_refused(tmp_path: Path) -> None:
    """Q5: a URI is no path; it is not taken for the name of a file, and none is made."""
    for name in (f"file:{tmp_path}/jobs.db?mode=ro", "file:jobs.db?mode=ro"):
        with pytest.raises(ValueError, match="expected path to be the path of a file"):
            SQLiteStore(name)
    assert not list(tmp_path.iterdir())


def test_a_long_wait_for_somebody_elses_transaction_is_in_the_log_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """E144: how long, what to do, and who it is where the system tells."""
    monkeypatch.setattr(_patience, "LONG_SECONDS", 0.05)
    path = tmp_path / "jobs.db"
    with opened(path) as store, opened(path) as other, ThreadPoolExecutor(1) as somebody_else:
        store.open()
        connection = other.connect()
        for times in (1, 2):
            somebody_else.submit(connection.execute, "BEGIN IMMEDIATE").result(PATIENCE)
            waits = [store.write(enqueue) for _ in range(3)]
            eventually(lambda: len(told(caplog)) == times)  # noqa: B023  # called at once
            with pytest.raises(TimeoutError):
                waits[0].result(0.2)
            connection.execute("COMMIT")
            assert len({reply.result(PATIENCE) for reply in waits}) == 3
        connection.close()
        assert len(told(caplog)) == 2
        if os.path.exists("/proc/locks"):
            assert "by this process, on another connection, and" in told(caplog)[0]


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if "has been locked for" in record.message]
