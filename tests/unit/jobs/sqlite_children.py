"""What the tests of files run in processes of their own: ``python -m tests.unit.jobs.sqlite_children WHAT FOLDER``.

It has one thread, so it may fork. Each child opens a file, of its own or all the same, and may be killed at any
statement.
"""

import functools
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import apsw

from engine.jobs._moment import Moment
from engine.jobs._records import Claim, End, Ending, NewHolder, NewJob
from engine.jobs._sqlite import schema as _schema
from engine.jobs._sqlite.book import SQLiteBook
from engine.jobs.errors import AlreadyEnqueued

__all__ = ["JOBS_ENDED", "MIGRATIONS", "PERIODS", "ROWS", "add_and_fill", "connect", "fill_rows", "main"]

ROWS = 50
PERIODS = 200
JOBS_ENDED = 100
NOW = Moment(1e9, 1e9, "boot")

Work = Callable[[apsw.Connection, SQLiteBook], None]


def connect(path: Path) -> apsw.Connection:
    """Open a file as a store does."""
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(30_000)
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "off")  # the machine does not go down here, only processes
    return connection


# -- children


def in_children(works: Sequence[Callable[[], None]]) -> list[int]:
    """Do works at the same time, each in a process; return their wait statuses."""
    start, go = os.pipe()
    pids = []
    for work in works:
        if pid := os.fork():
            pids.append(pid)
            continue
        try:
            os.close(go)
            os.read(start, 1)  # until all are there
            work()
        except BaseException as error:  # a child must not go on in the parent's code
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    os.close(go)
    os.close(start)
    return [os.waitpid(pid, 0)[1] for pid in pids]


def say(*words: object) -> None:
    """Print a line, in one piece among those of others."""
    os.write(1, " ".join([*map(str, words), "\n"]).encode())


def all_done(works: Sequence[Callable[[], None]]) -> None:
    """Do works at the same time; none may fail."""
    statuses = in_children(works)
    assert statuses == [0] * len(works), statuses


def killed_at_each(folder: Path, prepare: Callable[[Path], None], work: Callable[[apsw.Connection, str], None]) -> None:
    """Do a work on a file per statement of it, killed before that; print how many that were."""
    for statement in range(1, 500):
        path = folder / f"{statement:03}.db"
        prepare(path)
        (status,) = in_children([lambda: _killed_before(path, statement, work)])  # noqa: B023  # it is called at once
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            print(statement - 1)
            return
        assert os.WTERMSIG(status) == signal.SIGKILL


def _killed_before(path: Path, statement: int, work: Callable[[apsw.Connection, str], None]) -> None:
    connection = connect(path)
    seen = 0

    def count(cursor: apsw.Cursor, sql: str, bindings: object) -> bool:
        nonlocal seen
        seen += 1
        if seen == statement:
            os.kill(os.getpid(), signal.SIGKILL)
        return True

    connection.exec_trace = count
    work(connection, str(path))
    connection.close()


# -- migrations


def add_and_fill(connection: apsw.Connection) -> None:
    """Be a version 2: add a column, fill it, add an index on it and a table."""
    connection.execute("ALTER TABLE jobs ADD COLUMN region TEXT")
    connection.execute("UPDATE jobs SET region = 'north' WHERE id % 2 = 1")
    connection.execute("UPDATE jobs SET region = 'south' WHERE id % 2 = 0")
    connection.execute("CREATE INDEX jobs_region ON jobs (region)")
    connection.execute("CREATE TABLE regions (name TEXT PRIMARY KEY) STRICT")


MIGRATIONS = (*_schema.MIGRATIONS, add_and_fill)


def fill_rows(path: Path) -> None:
    """Make a file of version 1 with rows in it."""
    connection = connect(path)
    _schema.migrate(connection, str(path), MIGRATIONS[:1])
    with connection:
        for _ in range(ROWS):
            connection.execute(
                "INSERT INTO jobs (queue, name, created_at, checksum, args) VALUES ('q', 'f', 1.0, 0, '{}')"
            )
    connection.close()


def _migrate(connection: apsw.Connection, path: str) -> None:
    _schema.migrate(connection, path, MIGRATIONS)


def kill_migrations(folder: Path) -> None:
    """Kill migrations of files that are not there yet."""
    killed_at_each(folder, lambda path: None, _migrate)


def kill_migrations_of_rows(folder: Path) -> None:
    """Kill migrations of files with rows."""
    killed_at_each(folder, fill_rows, _migrate)


def migrate_at_once(folder: Path) -> None:
    """Have four processes migrate one file at once, ten files one after the other."""
    for number in range(10):
        path = folder / f"{number}.db"
        connect(path).close()  # the change to a WAL asks no busy handler; a store takes care of that itself

        def noting(connection: apsw.Connection) -> None:
            add_and_fill(connection)
            with path.with_suffix(".ran").open("a") as file:  # noqa: B023  # it is called at once
                file.write(f"{os.getpid()}\n")

        def migrate() -> None:
            connection = connect(path)  # noqa: B023  # called before the next round
            _schema.migrate(connection, str(path), [*_schema.MIGRATIONS, noting])  # noqa: B023  # called before the next round
            connection.close()

        all_done([migrate] * 4)


# -- verbs


def fill_job(path: Path) -> None:
    """Make a file with one job, which runs."""
    connection = connect(path)
    _schema.migrate(connection, str(path))
    with connection:
        book = SQLiteBook(connection)
        book.enqueue([NewJob(queue="q", name="step", args="{}", lock="l")] * 2, NOW)
        _claim(book, 1)
    connection.close()


def _claim(book: SQLiteBook, limit: int) -> None:
    holder = book.hold(NewHolder(name="w", pid=1, pid_started=1.0, namespace="", lease=1e6), NOW)
    assert len(book.claim(Claim(holder=holder, queues={"q": limit}, limit=limit), NOW).jobs) == limit


def _end(connection: apsw.Connection, path: str) -> None:
    following = NewJob(queue="next", name="next", args="{}", parent=1)
    connection.execute("BEGIN IMMEDIATE")
    SQLiteBook(connection).end([Ending(1, 1, End.COMPLETED, result="1", follow_ups=(following,) * 2)], NOW)
    connection.execute("COMMIT")


def kill_ends(folder: Path) -> None:
    """Kill who records that a job completed, and enqueues two that follow."""
    killed_at_each(folder, fill_job, _end)


def _each_on_one(folder: Path, prepare: Callable[[SQLiteBook], None], works: Sequence[Work]) -> None:
    """Have processes work on one file at once, with a connection each."""
    path = folder / "jobs.db"
    connection = connect(path)
    _schema.migrate(connection, str(path))
    with connection:
        prepare(SQLiteBook(connection))
    connection.close()

    def on_connection(work: Work) -> None:
        connection = connect(path)
        connection.transaction_mode = "IMMEDIATE"
        work(connection, SQLiteBook(connection))
        connection.close()

    all_done([functools.partial(on_connection, work) for work in works])


def enqueue_at_once(folder: Path) -> None:
    """Have 64 processes enqueue with one queueing lock; print what each was told."""

    def enqueue(connection: apsw.Connection, book: SQLiteBook) -> None:
        try:
            with connection:
                (added,) = book.enqueue([NewJob(queue="q", name="f", args="{}", queueing_lock="daily")], NOW)
        except AlreadyEnqueued as error:
            say("taken", error.job_id)
        else:
            say("added", added)

    _each_on_one(folder, lambda book: None, [enqueue] * 64)


def tick_at_once(folder: Path) -> None:
    """Have four processes tick the same periods of two schedules."""

    def tick(connection: apsw.Connection, book: SQLiteBook) -> None:
        for period in range(PERIODS):
            for schedule in ("one", "two"):
                job = NewJob(queue="q", name=str(period), args="{}", schedule=schedule)
                with connection:
                    book.tick(schedule, NOW.wall + period, job, NOW)

    _each_on_one(folder, lambda book: None, [tick] * 4)


def end_and_cancel_at_once(folder: Path) -> None:
    """Have one process end runs, odd ones to be run again, and another cancel them; print what that one found."""

    def end(connection: apsw.Connection, book: SQLiteBook) -> None:
        for job in range(1, JOBS_ENDED + 1):
            with connection:
                book.end([Ending(job, 1, End.RETRY if job % 2 else End.COMPLETED)], NOW)

    def cancel(connection: apsw.Connection, book: SQLiteBook) -> None:
        for job in range(1, JOBS_ENDED + 1):
            with connection:
                found = book.cancel(job, NOW)
            say(job, found.name)

    def prepare(book: SQLiteBook) -> None:
        book.enqueue_many(NewJob(queue="q", name="f", args="{}"), ["{}"] * JOBS_ENDED, NOW)
        _claim(book, JOBS_ENDED)

    _each_on_one(folder, prepare, [end, cancel])


def main(what: str, folder: str) -> None:
    """Do one of the works."""
    works = (kill_migrations, kill_migrations_of_rows, migrate_at_once, kill_ends, enqueue_at_once, tick_at_once,
             end_and_cancel_at_once)  # fmt: skip
    {work.__name__: work for work in works}[what](Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
