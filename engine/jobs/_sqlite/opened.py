"""A database that is open: a connection, the book on it, its clock."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from .._book import Book
from .._moment import Moment
from . import boot as _boot
from . import schema as _schema
from .book import SQLiteBook
from .damage import corrupt
from .library import apsw

__all__ = ["Clock", "Opened", "machine_clock", "open_book"]

Clock = Callable[[], Moment]


@dataclass(frozen=True, slots=True)
class Opened:
    """What one thread works with."""

    connection: apsw.Connection
    book: Book
    clock: Clock


def open_book(connection: apsw.Connection, path: str, clock: Clock | None) -> Opened:
    """Bring the tables of a file up to date, and agree with all who use it on what the steady clock says."""
    _schema.migrate(connection, path)
    return Opened(connection, SQLiteBook(connection), clock or machine_clock(connection, path))


def machine_clock(connection: apsw.Connection, path: str) -> Clock:
    """Return the clock of this machine as the file knows it."""
    boot = _boot.boot_id()
    offset: float | None = connection.execute("SELECT steady_offset FROM boots WHERE boot = ?", (boot,)).get
    if offset is None:
        offset = _note_boot(connection, boot)
    if type(offset) is not float or not math.isfinite(offset):
        raise corrupt(path, f"a clock that is ahead by {offset}")
    shift = offset

    def now() -> Moment:
        return Moment(time.time(), _boot.uptime() + shift, boot)

    return now


def _note_boot(connection: apsw.Connection, boot: str) -> float:
    connection.execute("BEGIN IMMEDIATE")
    try:
        offset = _schema.steady_offset(connection, boot, time.time() - _boot.uptime())
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return offset
