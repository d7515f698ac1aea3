"""What the tests of migrations run in processes of their own: ``python -m tests.unit.jobs.migrating WHAT FOLDER``.

It has one thread, so it may fork: each child opens a file of its own or shares one, and may be killed at any statement.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import apsw

from engine.jobs._sqlite import _schema

__all__ = ["MIGRATIONS", "add_and_fill", "connect", "fill_rows", "main"]

ROWS = 50


def add_and_fill(connection: apsw.Connection) -> None:
    """Be a version 2: add a column, fill it, add an index on it and a table."""
    connection.execute("ALTER TABLE jobs ADD COLUMN region TEXT")
    connection.execute("UPDATE jobs SET region = 'north' WHERE id % 2 = 1")
    connection.execute("UPDATE jobs SET region = 'south' WHERE id % 2 = 0")
    connection.execute("CREATE INDEX jobs_region ON jobs (region)")
    connection.execute("CREATE TABLE regions (name TEXT PRIMARY KEY) STRICT")


MIGRATIONS = (*_schema.MIGRATIONS, add_and_fill)


def connect(path: Path) -> apsw.Connection:
    """Open a file as a store does."""
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(30_000)
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "off")  # the machine does not go down here, only processes
    return connection


def fill_rows(path: Path) -> None:
    """Make a file of version 1 with rows in it."""
    connection = connect(path)
    _schema.migrate(connection, str(path), MIGRATIONS[:1])
    with connection:
        for _ in range(ROWS):
            connection.execute("INSERT INTO jobs (queue, name, created_at, args) VALUES ('q', 'f', 1.0, '{}')")
    connection.close()


def _kill_at(path: Path, statement: int) -> None:
    """Migrate, and be killed before the given statement."""
    connection = connect(path)
    seen = 0

    def count(cursor: apsw.Cursor, sql: str, bindings: object) -> bool:
        nonlocal seen
        seen += 1
        if seen == statement:
            os.kill(os.getpid(), signal.SIGKILL)
        return True

    connection.exec_trace = count
    _schema.migrate(connection, str(path), MIGRATIONS)
    connection.close()


def _kill_at_each(folder: Path, prepare: Callable[[Path], None]) -> None:
    """Migrate a file per statement, killed there; print how many that were."""
    for statement in range(1, 500):
        path = folder / f"{statement:03}.db"
        prepare(path)
        (status,) = _in_children([lambda: _kill_at(path, statement)])  # noqa: B023  # it is called at once
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            print(statement - 1)
            return
        assert os.WTERMSIG(status) == signal.SIGKILL


def _many_at_once(folder: Path) -> None:
    """Have four processes migrate one file at once, ten files one after the other."""
    for number in range(10):
        path = folder / f"{number}.db"
        connect(path).close()  # the change to a WAL asks no busy handler; a store takes care of that itself
        start, go = os.pipe()

        def migrate() -> None:
            os.close(go)  # noqa: B023  # it is called at once
            os.read(start, 1)  # noqa: B023  # until all are there
            connection = connect(path)  # noqa: B023
            _schema.migrate(connection, str(path), [*MIGRATIONS[:1], _noting(path)])  # noqa: B023
            connection.close()

        statuses = _in_children([migrate] * 4, lambda: os.close(go))  # noqa: B023
        os.close(start)
        assert statuses == [0] * 4, statuses


def _noting(path: Path) -> _schema.Migration:
    def migration(connection: apsw.Connection) -> None:
        add_and_fill(connection)
        with path.with_suffix(".ran").open("a") as file:
            file.write(f"{os.getpid()}\n")

    return migration


def _in_children(works: Iterable[Callable[[], None]], when_started: Callable[[], None] = lambda: None) -> list[int]:
    pids = []
    for work in works:
        if pid := os.fork():
            pids.append(pid)
            continue
        try:
            work()
        except BaseException as error:  # a child must not go on in the parent's code
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    when_started()
    return [os.waitpid(pid, 0)[1] for pid in pids]


def main(what: str, folder: str) -> None:
    """Do one of the works."""
    if what == "kill":
        _kill_at_each(Path(folder), lambda path: None)
    elif what == "kill-filled":
        _kill_at_each(Path(folder), fill_rows)
    else:
        _many_at_once(Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
