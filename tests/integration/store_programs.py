"""Processes that work on one file of jobs: ``python -m tests.integration.store_programs WHAT PATH ...``."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from engine.jobs._records import Claim, End, Ending
from tests.job_stores import PATIENCE, claim_all, enqueue, holder, opened

__all__ = ["main"]


def claim_until_empty(path: Path) -> None:
    """Claim, end and print ids until there are no more."""
    with opened(path) as store:
        holder_id = store.hold(holder(), lambda: None).result(PATIENCE)
        claim = Claim(holder=holder_id, queues={"q": 25}, limit=25)
        while jobs := store.write(lambda book, now: book.claim(claim, now)).result(PATIENCE).jobs:
            ends = [Ending(job.id, job.token, End.COMPLETED) for job in jobs]
            states = store.write(lambda book, now: book.end(ends, now)).result(PATIENCE)  # noqa: B023  # done at once
            assert None not in states
            print(*(job.id for job in jobs))


def hold_and_wait(path: Path, lease: str) -> None:
    """Claim one job, say so, and hold it until stdin is closed; say when the lease is lost."""
    with opened(path) as store:
        holder_id = store.hold(holder(float(lease)), lambda: print("lost", flush=True)).result(PATIENCE)
        jobs = claim_all(store, holder_id, 1)
        print("holds", *(job.id for job in jobs), flush=True)
        sys.stdin.readline()


def end_without_closing(path: Path, how: str) -> None:
    """Enqueue, and let the interpreter end with the store open."""
    from engine.jobs._sqlite.store import SQLiteStore

    store = SQLiteStore(path)
    store.listen(lambda: None)
    store.hold(holder(), lambda: None).result(PATIENCE)
    ids = [store.write(enqueue) for _ in range(200)]
    if how == "waited":
        ids[-1].result(PATIENCE)
        print(ids[-1].result(PATIENCE), flush=True)
    elif how == "killed":
        print(ids[-1].result(PATIENCE), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "raises":
        raise SystemExit(3)


def enqueue_on(path: Path) -> None:
    """Print the ids of twenty jobs, and of twenty more once somebody has written a line."""
    with opened(path) as store:
        for _ in range(20):
            print(store.write(enqueue).result(PATIENCE), flush=True)
        sys.stdin.readline()
        for _ in range(20):
            print(store.write(enqueue).result(PATIENCE), flush=True)


def fork(path: Path, times: str) -> None:
    """Fork again and again while threads write; each child writes through the same store object."""
    import threading

    with opened(path) as store:
        store.open()
        stop = threading.Event()
        written: list[int] = []

        def flood() -> None:
            while not stop.is_set():
                written.append(store.write(enqueue).result(PATIENCE))

        flooding = threading.Thread(target=flood)
        flooding.start()
        for _ in range(int(times)):
            if (pid := os.fork()) == 0:
                _in_child(store)
            assert os.waitpid(pid, 0)[1] == 0
        stop.set()
        flooding.join()
        print(len(written))


def _in_child(store: object) -> None:
    from engine.jobs._sqlite.store import SQLiteStore

    assert isinstance(store, SQLiteStore)
    try:
        for _ in range(5):
            store.write(enqueue).result(PATIENCE)
        store.close()
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


PROGRAMS: dict[str, Callable[..., None]] = {
    program.__name__: program for program in (claim_until_empty, hold_and_wait, end_without_closing, enqueue_on, fork)
}


def main(what: str, path: str, *rest: str) -> None:
    """Be one of them."""
    PROGRAMS[what](Path(path), *rest)


if __name__ == "__main__":
    main(*sys.argv[1:])
