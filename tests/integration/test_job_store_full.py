"""A disk that is full, in each way that one can be: nothing is half done, and what is to be kept is kept."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.jobs._book import Book
from engine.jobs._moment import Moment
from engine.jobs._records import NewJob
from engine.jobs._sqlite.store import SQLiteStore
from engine.jobs.errors import StoreFull
from tests.integration.exits import environment
from tests.job_stores import PATIENCE, enqueue, ids_in, opened

LARGE = NewJob(queue="q", name="job", args='{"a": "' + "x" * 100_000 + '"}')


def enqueue_large(book: Book, now: Moment) -> int:
    return book.enqueue([LARGE], now)[0]


def fill(store: SQLiteStore, at_most: int = 200) -> list[int]:
    """Enqueue until there is no room; return what was acknowledged."""
    acknowledged = []
    for _ in range(at_most):
        try:
            acknowledged.append(store.write(enqueue_large).result(PATIENCE))
        except StoreFull:
            return acknowledged
    raise AssertionError("it is never full")


def integrity(store: SQLiteStore) -> Any:
    return store.query("PRAGMA integrity_check").result(PATIENCE)


def test_a_file_at_its_bound_is_full_and_stays_whole(tmp_path: Path) -> None:
    """Q4: PRAGMA max_page_count."""
    with opened(tmp_path / "jobs.db", max_bytes=2 << 20) as store:
        acknowledged = fill(store)
        assert ids_in(store) == acknowledged
        assert len(acknowledged) > 10
        assert integrity(store) == [{"integrity_check": "ok"}]


def test_one_transaction_that_finds_no_room_has_done_nothing(tmp_path: Path) -> None:
    """Q4: many jobs at once, the last of which do not fit."""

    def many(book: Book, now: Moment) -> Any:
        return book.enqueue_many(LARGE, [LARGE.args] * 50, now)

    with opened(tmp_path / "jobs.db", max_bytes=2 << 20) as store:
        first = store.write(enqueue).result(PATIENCE)
        with pytest.raises(StoreFull):
            store.write(many).result(PATIENCE)
        assert ids_in(store) == [first]


def test_what_is_to_be_kept_waits_for_room_and_is_then_recorded(tmp_path: Path) -> None:
    """Q4: the end of a run that meets a full disk is recorded when there is room, by itself."""
    with opened(tmp_path / "jobs.db", max_bytes=2 << 20) as store:
        acknowledged = fill(store)
        kept = store.write(enqueue_large, keep=True)
        with pytest.raises(StoreFull):
            store.write(enqueue_large).result(PATIENCE)  # tried together with it, and answered
        assert not kept.done()
        connection = store.connect()
        with connection:
            connection.execute("DELETE FROM jobs WHERE id <= ?", (acknowledged[2],))
        connection.close()
        assert kept.result(PATIENCE) == ids_in(store)[-1]


def test_close_on_a_full_disk_ends_in_its_time_and_says_what_was_not_recorded(tmp_path: Path) -> None:
    """Q4: what is kept cannot be kept for ever."""
    with opened(tmp_path / "jobs.db", max_bytes=2 << 20, close_seconds=0.1) as store:
        acknowledged = fill(store)
        kept = store.write(enqueue_large, keep=True)
        store.close()
        with pytest.raises(StoreFull):
            kept.result(PATIENCE)
    with opened(tmp_path / "jobs.db") as store:
        assert ids_in(store) == acknowledged


PROGRAM = """
import resource, sys, time
from engine.jobs.errors import StoreFull
from tests.integration.test_job_store_full import enqueue_large, fill, ids_in, integrity
from tests.job_stores import PATIENCE, opened

soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
with opened(sys.argv[1]) as store:
    store.open()
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, hard))
    acknowledged = fill(store)
    assert len(acknowledged) > 5, acknowledged
    assert ids_in(store) == acknowledged
    kept = store.write(enqueue_large, keep=True)
    try:
        store.write(enqueue_large).result(PATIENCE)
    except StoreFull as error:
        assert "EFBIG" in str(error), error
    assert not kept.done()
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    acknowledged.append(kept.result(PATIENCE))
    assert ids_in(store) == acknowledged
    assert integrity(store) == [{"integrity_check": "ok"}]
print("whole")
"""


def test_a_limit_on_file_sizes_is_a_full_disk(tmp_path: Path) -> None:
    """Q4: RLIMIT_FSIZE, in a process of its own, lowered and lifted."""
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "jobs.db")]
    done = subprocess.run(command, env=environment("store"), capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "whole\n", done.stderr


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a disk of 2 MB, or skip the test where that is not allowed."""
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=2m", "engine-test", str(folder)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no disk may be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], capture_output=True, check=True)


def test_a_disk_without_room_is_full_until_there_is_some(tmp_path: Path) -> None:
    """Q4: a file system of 2 MB, with somebody else's file on it, which goes."""
    with small_disk(tmp_path / "disk") as disk:
        ballast = disk / "ballast"
        with opened(disk / "jobs.db") as store:
            store.open()
            ballast.write_bytes(b"x" * (700 << 10))
            acknowledged = fill(store)
            assert ids_in(store) == acknowledged
            kept = store.write(enqueue_large, keep=True)
            with pytest.raises(StoreFull):
                store.write(enqueue_large).result(PATIENCE)
            assert not kept.done()
            os.unlink(ballast)
            acknowledged.append(kept.result(PATIENCE))
            assert ids_in(store) == acknowledged
            assert integrity(store) == [{"integrity_check": "ok"}]


def test_a_file_that_cannot_be_made_for_want_of_room_says_so(tmp_path: Path) -> None:
    """Q4: there is no room for the first page."""
    with small_disk(tmp_path / "disk") as disk:
        with contextlib.suppress(OSError), open(disk / "ballast", "wb") as file:
            file.write(b"x" * (4 << 20))
        with opened(disk / "jobs.db") as store, pytest.raises(StoreFull):
            store.open()
        (disk / "ballast").unlink()
        with opened(disk / "jobs.db") as store:
            store.write(enqueue).result(PATIENCE)
