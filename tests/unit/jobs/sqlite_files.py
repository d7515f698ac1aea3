"""A file of jobs as the tests of its statements use it: a connection beside the book, and what SQLite did."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import apsw.ext

from engine.jobs._book import Book
from engine.jobs._sqlite.book import SQLiteBook
from engine.jobs._sqlite.schema import migrate
from tests.contracts.job_books import Desk
from tests.support import REPOSITORY

__all__ = ["Statement", "dump", "open_desk", "open_file", "run_children", "schema_of", "statements", "transaction"]

TABLES = ("jobs", "failures", "holders", "queues", "schedules", "counters", "boots", "sqlite_sequence")


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[apsw.Connection]:
    """Open a file of jobs."""
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(30_000)
    connection.pragma("synchronous", "off")  # the machine does not go down here
    migrate(connection, str(path))
    try:
        yield connection
    finally:
        connection.close()


@contextlib.contextmanager
def transaction(connection: apsw.Connection) -> Iterator[Book]:
    """Give the book within a transaction that is kept, also where something raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield SQLiteBook(connection)
    finally:
        if connection.in_transaction:
            connection.execute("COMMIT")


def open_desk(connection: apsw.Connection) -> Desk:
    """Give a desk whose book is in this file."""

    def do(operation: Any) -> Any:
        with transaction(connection) as book:
            return operation(book)

    return Desk(do)


def schema_of(connection: apsw.Connection) -> object:
    """Return all that tells how the tables are made."""
    return connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name").fetchall()


def dump(connection: apsw.Connection) -> object:
    """Return every row of every table."""
    return {table: connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in TABLES}


def run_children(what: str, folder: Path) -> str:
    """Run one of the works of ``sqlite_children``; return what it printed."""
    command = [sys.executable, "-m", "tests.unit.jobs.sqlite_children", what, str(folder)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass
class Statement:
    """What SQLite did for one statement."""

    sql: str
    steps: int
    sorts: int
    plan: list[str] = field(default_factory=list)


@contextlib.contextmanager
def statements(connection: apsw.Connection) -> Iterator[list[Statement]]:
    """Note every statement that runs; their plans are there at the end."""
    seen: list[Statement] = []

    def note(event: dict[str, Any]) -> None:
        status = event["stmt_status"]
        steps, sorts = status["SQLITE_STMTSTATUS_VM_STEP"], status["SQLITE_STMTSTATUS_SORT"]
        seen.append(Statement(event["sql"].strip(), steps, sorts))

    connection.trace_v2(apsw.SQLITE_TRACE_PROFILE, note, id=note)
    try:
        yield seen
    finally:
        connection.trace_v2(0, None, id=note)
    for statement in seen:
        if statement.sql.startswith(("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")):
            count = apsw.ext.query_info(connection, statement.sql).bindings_count
            rows = connection.execute(f"EXPLAIN QUERY PLAN {statement.sql}", (None,) * count)
            statement.plan = [str(row[3]) for row in rows]
