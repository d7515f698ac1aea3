"""All that an open store has in one process: its threads, their connections, its guard."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from .._book import Book
from .._moment import Moment
from .._records import Rescued
from .._reply import Reply
from ..errors import StoreError
from . import callers as _callers
from . import guard as _guard
from .book import SQLiteBook
from .connection import CallersConnection, Database
from .database_thread import closed
from .library import apsw
from .opened import Clock
from .pause import Pause
from .query import Query, set_limits
from .reader import Reader
from .writer import Writer

__all__ = ["Session"]


class Session:
    """An open database in one process. It knows nothing of the store, so that a store that is dropped can go.

    Guarantees
        Shared: ``_readers``, ``_connections``, ``_is_closed``.  Guarded by: ``_lock``, held while a reader is made.
        Readers of ``_connections`` take none: it is replaced, never changed.
        Callers: any thread; ``stop_soon``: the collector too, so it asks for no lock.
    """

    def __init__(
        self, database: Database, clock: Clock | None, *, max_waiting: int, warn_bytes: int, query_seconds: float,
        on_rescue: Callable[[list[Rescued]], object],
    ) -> None:  # fmt: skip
        self._database = database
        self._query_seconds = query_seconds
        self._lock = threading.Lock()
        self._connections: tuple[weakref.ref[CallersConnection], ...] = ()
        self._readers: dict[str, Reader] = {}
        self._is_closed = False
        self.writer = Writer(database, clock, max_waiting=max_waiting, warn_bytes=warn_bytes, on_rescue=on_rescue)
        self.writer.start()

    # -- reading

    def read(self, operation: Callable[[Book, Moment], Any]) -> Reply[Any]:
        """Have ``operation`` done on a book that only reads."""
        now = self.writer.now
        return self._reader("reader", _nothing).read(lambda connection: operation(SQLiteBook(connection), now()))

    def query(self, sql: str, parameters: Any) -> Reply[list[dict[str, Any]]]:
        """Have one statement run, on a thread of its own: it may take long."""
        return self._reader("query", set_limits).read(Query(sql, parameters, self._query_seconds))

    def _reader(self, name: str, set_up: Callable[[apsw.Connection], object]) -> Reader:
        reader = self._readers.get(name)
        if reader is None:
            with self._lock:
                self._check_open()
                reader = self._readers.get(name)
                if reader is None:
                    reader = Reader(name, self._database, set_up)
                    reader.start()
                    self._readers[name] = reader
        return reader

    def _check_open(self) -> None:
        if self._is_closed:
            raise closed(self._database.path)

    # -- connections of others

    def connect(self) -> CallersConnection:
        """Open a connection for somebody outside; what it commits is noticed at once."""
        self._check_open()
        connection = self._database.connect_caller(_weak_check(self))
        poke = self.writer.poke

        def committed(_: apsw.Connection, name: str, pages: int) -> int:
            poke(pages)
            return apsw.SQLITE_OK

        connection.set_wal_hook(committed)
        with self._lock:
            self._connections = (*map(weakref.ref, self._open_connections()), weakref.ref(connection))
        _callers.add(self._database.key, connection)
        return connection

    def _open_connections(self) -> list[CallersConnection]:
        found = [reference() for reference in self._connections]
        return [connection for connection in found if connection is not None and connection.is_open]

    def has(self, connection: object) -> bool:
        """Say whether ``connection`` is from here."""
        return isinstance(connection, CallersConnection) and connection in self._open_connections()

    def check_may_wait(self) -> None:
        """Refuse a write of somebody who keeps the writer from writing until he has gone on himself.

        Raises:
            StoreError: a transaction is open here, on a connection of ``connect`` of any store of this file.
        """
        callers = _callers.callers_of(self._database.key)
        if callers and any(each.is_written_here() for each in callers):
            raise StoreError(
                "expected options(connection=...) inside your own transaction, got a write beside it, which would wait "
                "for the transaction to end; what has no such option is for after the transaction",
                path=self._database.path,
            )

    def check_is_anothers(self) -> None:
        """Refuse the wait of a connection for a transaction that this very thread has open on another one.

        Raises:
            StoreError: it would wait for itself; so would a loop, on which the one who has to go on cannot.
        """
        thread = threading.get_ident()
        if any(each.is_written_by(thread) for each in _callers.callers_of(self._database.key)):
            raise StoreError(
                "expected a transaction of another thread to be waited for, got one that is open on this thread, on "
                "another connection; await nothing inside a transaction, or have each in asyncio.to_thread(...)",
                path=self._database.path,
            )

    # -- the end

    def close(self, seconds: float) -> bool:
        """Do what waits, then end; False if that takes longer than ``seconds``, and goes on."""
        end = time.monotonic() + seconds
        with self._lock:
            self._is_closed = True
        threads = self._threads()
        for thread in threads:
            thread.stop_soon(seconds)
        ends = [thread.join(end - time.monotonic()) for thread in threads]  # of each, also when one was late
        return all(ends)

    def stop_soon(self) -> None:
        """Ask for the same, of a store that nobody has any more; does not wait."""
        for thread in self._threads():
            thread.stop_soon(ABANDONED_SECONDS)

    def is_alive(self) -> bool:
        """Say whether a thread of it lives."""
        return not all(thread.join(0) for thread in self._threads())

    def _threads(self) -> list[Writer | Reader]:
        return [*list(self._readers.values()), self.writer]  # the last to close makes the last checkpoint

    # -- forks

    def pause(self, seconds: float) -> list[Pause] | None:
        """Close every connection, for a fork; None if that cannot be: what was closed is opened again."""
        if self._open_connections():
            return None
        end = time.monotonic() + seconds
        pauses: list[Pause] = []
        for thread in self._threads():
            pause = thread.pause(max(0.0, end - time.monotonic()))
            if pause is None:
                resume(pauses)
                return None
            pauses.append(pause)
        return pauses

    def leave_alone(self) -> _guard.Key:
        """In a forked child: never close what was inherited open, not even at interpreter exit; return its file."""
        _callers.never_close(self)
        return self._database.key


ABANDONED_SECONDS = 10.0


def resume(pauses: list[Pause]) -> None:
    """Go on after a fork."""
    for pause in pauses:
        pause.over.set()


def _weak_check(session: Session) -> Callable[[], None]:
    """Return ``check_is_anothers`` for a connection, which must not keep a store alive."""
    reference = weakref.ref(session)

    def check() -> None:
        if (alive := reference()) is not None:
            alive.check_is_anothers()

    return check


def _nothing(connection: apsw.Connection) -> None:
    pass
