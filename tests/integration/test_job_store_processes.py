"""Several processes on one file: claims, forks, ends of interpreters, leases."""

import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.jobs._records import Rescued
from engine.jobs._sqlite.store import SQLiteStore
from engine.jobs.errors import StoreError
from tests.integration.exits import environment
from tests.job_stores import JOB, PATIENCE, claim_all, enqueue, hold_still, holder, ids_in, opened
from tests.support import eventually

STUCK = 60.0


def started(what: str, path: Path, *rest: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-W",
        "ignore::DeprecationWarning",
        "-m",
        "tests.integration.store_programs",
        what,
        str(path),
        *rest,
    ]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment("store"), stdin=pipe, stdout=pipe, stderr=pipe, text=True)


@contextlib.contextmanager
def running(what: str, path: Path, *rest: str) -> Iterator[subprocess.Popen[str]]:
    program = started(what, path, *rest)
    try:
        yield program
    finally:
        if program.poll() is None:
            program.kill()
        program.communicate()


def test_four_processes_claim_thousands_of_jobs_each_once(tmp_path: Path) -> None:
    """Q8: claims and ends of four processes on one file; none of them ever hears that it is busy."""
    path = tmp_path / "jobs.db"
    with opened(path) as store:
        ids = store.write(lambda book, now: book.enqueue_many(JOB, ["{}"] * 4000, now)).result(PATIENCE)
        programs = [started("claim_until_empty", path) for _ in range(4)]
        ended = [program.communicate(timeout=STUCK) for program in programs]
        assert [error for _, error in ended] == [""] * 4
        claimed = [int(word) for output, _ in ended for word in output.split()]
        assert sorted(claimed) == list(ids)
        assert store.query("PRAGMA integrity_check").result(PATIENCE) == [{"integrity_check": "ok"}]


def test_forks_in_the_middle_of_writes_harm_neither_parent_nor_child(tmp_path: Path) -> None:
    """Q13: the child's store opens anew with locks of its own; the parent's goes on."""
    path = tmp_path / "jobs.db"
    with running("fork", path, "10") as program:
        output, error = program.communicate(timeout=STUCK)
        assert (program.returncode, error) == (0, "")
    with opened(path) as store:
        assert len(ids_in(store)) == int(output) + 10 * 5
        assert store.query("PRAGMA integrity_check").result(PATIENCE) == [{"integrity_check": "ok"}]


def in_a_fork(do: object) -> int:
    assert callable(do)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork with threads, which is what this is about
        pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if do() else 1)
        except BaseException:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_forked_child_has_locks_of_its_own_on_the_file(tmp_path: Path) -> None:
    """Q13: SQLite in the child must not believe that it has its parent's locks, which the system gave to it alone."""
    path = tmp_path / "jobs.db"

    def has_locks() -> bool:
        store.write(enqueue).result(PATIENCE)
        mine = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        files = {str(os.stat(entry).st_ino) for entry in (path, f"{path}-shm")}
        locked = {line[5].rpartition(":")[2] for line in mine if line[4] == str(os.getpid())}
        return locked == files

    with opened(path) as store:
        store.write(enqueue).result(PATIENCE)
        assert in_a_fork(has_locks) == 0
        assert len(ids_in(store)) == 2


def test_a_child_of_a_process_with_a_callers_connection_is_refused(tmp_path: Path) -> None:
    """Q13: a connection that only its user can close was open at the fork."""

    def is_refused() -> bool:
        with pytest.raises(StoreError, match="not forked while it was in use"):
            store.write(enqueue)
        return True

    with opened(tmp_path / "jobs.db") as store:
        connection = store.connect()
        assert in_a_fork(is_refused) == 0
        with connection:
            store.write_in(connection, enqueue)
        connection.close()
        assert in_a_fork(lambda: store.write(enqueue).result(PATIENCE) == 2) == 0
        assert len(ids_in(store)) == 2


def test_no_store_of_a_child_uses_a_file_on_which_a_callers_connection_was_open(tmp_path: Path) -> None:
    """E205: it would have none of the locks that it believes to have: another store, a new one, a dropped one."""
    path = tmp_path / "jobs.db"

    def is_refused() -> bool:
        for each in (second, SQLiteStore(path)):
            with pytest.raises(StoreError, match="not forked while it was in use"):
                each.write(enqueue)
        return other.write(enqueue).result(PATIENCE) > 0  # a file that was not in use is none the worse

    with opened(path) as second, opened(tmp_path / "other.db") as other:
        first = SQLiteStore(path)
        connection = first.connect()
        second.open()
        assert in_a_fork(is_refused) == 0
        first.close()
        del first
        assert in_a_fork(is_refused) == 0
        connection.close()
        assert in_a_fork(lambda: second.write(enqueue).result(PATIENCE) == 1) == 0


@pytest.mark.parametrize(("how", "code", "kept"), [("waited", 0, 200), ("left", 0, 200), ("raises", 3, 200)])
def test_an_interpreter_that_ends_with_an_open_store_loses_nothing(
    tmp_path: Path, how: str, code: int, kept: int
) -> None:
    """E112: nobody closes the store; what was asked is done, and nothing is printed."""
    path = tmp_path / "jobs.db"
    with running("end_without_closing", path, how) as program:
        _, error = program.communicate(timeout=STUCK)
        assert (program.returncode, error) == (code, "")
    with opened(path) as store:
        assert len(ids_in(store)) == kept
        assert store.read(lambda book, now: book.statistics(now)).result(PATIENCE).holders == ()


def test_a_killed_process_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """E112: SIGKILL right behind an answer."""
    path = tmp_path / "jobs.db"
    with running("end_without_closing", path, "killed") as program:
        output, _ = program.communicate(timeout=STUCK)
        assert program.returncode == -signal.SIGKILL
    with opened(path) as store:
        assert int(output) in ids_in(store)


def test_a_store_that_nobody_has_any_more_ends_its_threads(tmp_path: Path) -> None:
    """E112: dropped without close; what was asked is done."""
    path = tmp_path / "jobs.db"
    store = SQLiteStore(path)
    replies = [store.write(enqueue) for _ in range(100)]
    store.query("SELECT 1").result(PATIENCE)
    gone = weakref.ref(store)
    del store
    gc.collect()
    assert gone() is None
    assert len({reply.result(PATIENCE) for reply in replies}) == 100
    eventually(lambda: not [thread for thread in threading.enumerate() if str(path) in thread.name])


def test_a_killed_holders_job_is_rescued_long_before_its_lease_is_over(tmp_path: Path) -> None:
    """E110: same boot, same pids: it is dead for certain."""
    rescued: list[Rescued] = []
    with opened(tmp_path / "jobs.db", on_rescue=rescued.extend) as store:
        job_id = store.write(enqueue).result(PATIENCE)
        with running("hold_and_wait", tmp_path / "jobs.db", "3600") as program:
            assert program.stdout is not None
            assert program.stdout.readline() == f"holds {job_id}\n"
            store.hold(holder(), lambda: None).result(PATIENCE)
            program.kill()
            eventually(lambda: rescued)
        assert [job.id for job in rescued] == [job_id]


def test_a_holder_that_is_stopped_past_its_lease_loses_it_and_is_told(tmp_path: Path) -> None:
    """T1: SIGSTOP of a whole process; another takes what it has, and it learns of that when it goes on."""
    rescued: list[Rescued] = []
    with opened(tmp_path / "jobs.db", on_rescue=rescued.extend) as store:
        job_id = store.write(enqueue).result(PATIENCE)
        with running("hold_and_wait", tmp_path / "jobs.db", "0.6") as program:
            assert program.stdout is not None
            assert program.stdout.readline() == f"holds {job_id}\n"
            store.hold(holder(), lambda: None).result(PATIENCE)
            hold_still(program, tmp_path / "jobs.db")
            eventually(lambda: rescued)
            program.send_signal(signal.SIGCONT)
            assert [job.id for job in rescued] == [job_id]
            assert program.stdout.readline() == "lost\n"


def test_leases_are_kept_while_the_process_does_something_else(tmp_path: Path) -> None:
    """E114: a lease is renewed many times over, with no other work for the writer."""
    lost: list[int] = []
    rescued: list[Rescued] = []
    with opened(tmp_path / "jobs.db", on_rescue=rescued.extend) as store, opened(tmp_path / "jobs.db") as other:
        store.write(enqueue).result(PATIENCE)
        holder_id = store.hold(holder(0.3), lambda: lost.append(1)).result(PATIENCE)
        other.hold(holder(), lambda: None).result(PATIENCE)
        claim_all(store, holder_id, 1)
        first = lease_of(other, holder_id)
        eventually(lambda: lease_of(other, holder_id) > first + 1.5)
        assert (lost, rescued) == ([], [])
        assert store.let_go(holder_id).result(PATIENCE) == 1


def lease_of(store: SQLiteStore, holder_id: int) -> float:
    held = store.read(lambda book, now: book.statistics(now)).result(PATIENCE).holders
    return next(each.lease_until for each in held if each.id == holder_id)


def test_this_process_is_told_of_a_lease_that_another_took(tmp_path: Path) -> None:
    """E114: its row is gone when it renews; it hears of it once."""
    lost = threading.Semaphore(0)
    with opened(tmp_path / "jobs.db") as store:
        store.hold(holder(0.3), lambda: lost.release()).result(PATIENCE)
        store.write(lambda book, now: book.rescue(now, lambda each: True)).result(PATIENCE)
        assert lost.acquire(timeout=PATIENCE)
        assert not lost.acquire(timeout=0.2)


def test_a_process_with_another_shared_memory_damages_nothing(tmp_path: Path) -> None:
    """E186: its own and that of the next one are two, so neither keeps the other from writing."""
    path = tmp_path / "jobs.db"
    with opened(path) as store:
        mine = [store.write(enqueue).result(PATIENCE) for _ in range(20)]
        Path(f"{path}-shm").unlink()
        with running("enqueue_on", path) as program:
            assert program.stdout is not None
            theirs = [int(program.stdout.readline()) for _ in range(20)]
            for _ in range(20):
                with pytest.raises(StoreError, match="to stay the file that was opened"):
                    store.write(enqueue).result(PATIENCE)
            theirs += map(int, program.communicate("go on", timeout=STUCK)[0].split())
    with opened(path) as store:
        assert {*mine, *theirs} <= set(ids_in(store))
        assert store.query("PRAGMA integrity_check").result(PATIENCE) == [{"integrity_check": "ok"}]
