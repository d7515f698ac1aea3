"""A store in a file: ``SQLiteStore``."""

from __future__ import annotations

import inspect
import os
import re
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from ... import _checks
from .._book import Book
from .._moment import Moment
from .._records import NewHolder, Rescued
from .._reply import Reply
from . import guard as _guard
from . import lifetime as _lifetime
from .book import SQLiteBook
from .connection import CallersConnection, Database
from .database_thread import closed
from .faults import told
from .files import check_place, make_ready
from .library import apsw
from .opened import Clock
from .session import Session, resume

__all__ = ["SQLiteStore"]

T = TypeVar("T")


class SQLiteStore:
    """Keep jobs in a file of SQLite, which any number of processes of this machine may use.

    Args:
        path: of the file; it is made, for this user alone, if it is not there. SQLite keeps two more beside it while
            it is open: ``-wal`` and ``-shm``.
        synchronous: "full": what is acknowledged survives a power failure. "normal": the last commits before one may
            be lost, and the file stays sound; a kill of the process loses nothing either way.
        make_directory: make the directory of ``path``, for this user alone, if it is not there.
        any_owner: take a file, or a link, that belongs to another user.
        max_bytes: what the file may grow to; StoreFull beyond it. By default the disk decides.
        max_waiting: operations that may wait; beyond it a thread waits for room, and a loop is refused (StoreFull).
        warn_bytes: size of the ``-wal`` from which the log says that somebody reads for too long.
        query_seconds: that one ``query`` may take.
        close_seconds: that ``close`` waits for what is under way.
        clock: returns the Moment, for tests; by default the clocks of the machine.
        on_rescue: called, on the writer's thread, with the jobs that were taken from a holder that is gone. It may ask
            for more, and must not wait for the answer.

    Guarantees
        Shared: ``_session``, ``_ended``, ``_is_closed``.  Guarded by: ``_lock``, held while the file is opened, and
        while the store is marked closed.  Callers: any thread; no signal handler before it is open.
    """

    def __init__(
        self, path: str | os.PathLike[str], synchronous: str = "full", *, make_directory: bool = False,
        any_owner: bool = False, max_bytes: int | None = None, max_waiting: int = 10_000, warn_bytes: int = 64 << 20,
        query_seconds: float = 10.0, close_seconds: float = 10.0, clock: Clock | None = None,
        on_rescue: Callable[[list[Rescued]], object] = lambda rescued: None, vfs: str | None = None,
    ) -> None:  # fmt: skip
        self._path = _path(path)
        self._synchronous = _checks.member("synchronous", synchronous, ("full", "normal"))
        self._make_directory = _checks.flag("make_directory", make_directory)
        self._any_owner = _checks.flag("any_owner", any_owner)
        self._max_bytes = None if max_bytes is None else _checks.size_bytes("max_bytes", max_bytes, least=1 << 20)
        self._max_waiting = _checks.positive_int("max_waiting", max_waiting)
        self._warn_bytes = _checks.size_bytes("warn_bytes", warn_bytes)
        self._query_seconds = _checks.seconds("query_seconds", query_seconds)
        self._close_seconds = _checks.seconds("close_seconds", close_seconds)
        self._clock = clock
        self._on_rescue = on_rescue
        self._vfs = vfs
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._ended: Session | None = None
        self._is_closed = False
        _lifetime.remember(self)

    @property
    def name(self) -> str:
        """Give the path of the file."""
        return self._path

    def open(self) -> None:
        """Open the file; the first use does it too. Idempotent."""
        self._opened()

    def _opened(self) -> Session:
        session = self._session
        if session is not None:
            return session
        with self._lock:
            if self._is_closed:
                raise closed(self._path)
            if self._session is None:
                self._session = self._make_session()
            return self._session

    def _make_session(self) -> Session:
        path, key = make_ready(self._path, make_directory=self._make_directory, any_owner=self._any_owner)
        _guard.check_unspoiled(key, path)
        database = Database(path, key, self._synchronous, self._vfs, max_bytes=self._max_bytes)
        session = Session(
            database, self._clock, max_waiting=self._max_waiting, warn_bytes=self._warn_bytes,
            query_seconds=self._query_seconds, on_rescue=_weakly(self._on_rescue),
        )  # fmt: skip
        weakref.finalize(self, _lifetime.finish_later, session).atexit = False
        return session

    def close(self) -> None:
        """Finish what was asked, give back what is held, end the threads. Idempotent.

        Takes at most about ``close_seconds``; what is not done by then, for want of room or because another process
        holds the file, fails.
        """
        with self._lock:
            self._is_closed = True
            self._ended, self._session = self._session or self._ended, None
        if self._ended is not None:
            self._ended.close(self._close_seconds)

    def check_place(self) -> None:
        """Make sure that the file is there, or could be made where it is to be; make and open nothing.

        Raises:
            StoreError: it could not; the message says why and what to do.
        """
        check_place(self._path, make_directory=self._make_directory)

    def now(self) -> Moment:
        """Read the clocks."""
        return (self._session or self._ended or self._opened()).writer.now()

    # -- operations

    def write(self, operation: Callable[[Book, Moment], T], *, keep: bool = False) -> Reply[T]:
        """Have ``operation`` done and committed, together with what else waits.

        Raises:
            StoreError: a transaction of whoever calls is open on a connection of ``connect``, and would be waited for.
        """
        session = self._session or self._opened()
        if not keep:
            session.check_may_wait()
        return session.writer.write(operation, is_keeper=keep)

    def read(self, operation: Callable[[Book, Moment], T]) -> Reply[T]:
        """Have ``operation``, which changes nothing, done on what is committed."""
        return (self._session or self._opened()).read(operation)

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have ``listener`` called after commits: those of this process at once, others' within about 0.1 s."""
        return self._opened().writer.listen(listener)

    def hold(self, holder: NewHolder, on_lost: Callable[[], None]) -> Reply[int]:
        """Add a holder, and keep its lease until ``let_go``; while anybody holds, rescue from those that are gone."""
        session = self._opened()
        session.check_may_wait()
        return session.writer.hold(holder, on_lost)

    def let_go(self, holder: int) -> Reply[int]:
        """Forget a holder, and give back what it has."""
        return self._opened().writer.let_go(holder)

    def forsake(self, holder: int) -> None:
        """Renew a lease no more."""
        self._opened().writer.forsake(holder)

    # -- SQL of the caller's

    def connect(self) -> CallersConnection:
        """Open an ``apsw.Connection`` to the file, for the caller's own transactions; the caller closes it."""
        return self._opened().connect()

    def write_in(self, connection: Any, operation: Callable[[Book, Moment], T]) -> T:
        """Do ``operation`` here, in the transaction that is open on ``connection``, or nothing of it if it raises."""
        session = self._opened()
        if not session.has(connection):
            raise _checks.wrong("connection", "one that connect() of this store gave", connection)
        if not connection.in_transaction:
            raise _checks.wrong(
                "connection", "inside a transaction", connection, "begin one: with connection: ..., or BEGIN IMMEDIATE"
            )
        try:
            with connection.piece():
                return operation(SQLiteBook(connection), session.writer.now())
        except apsw.Error as error:
            raise told(error, self._path, connection.system_errno) from error

    def query(self, sql: str, parameters: Any = ()) -> Reply[list[dict[str, Any]]]:
        """Run one statement that reads; return its rows by the names of the columns."""
        return self._opened().query(_checks.text("sql", sql, most=1 << 20), parameters)

    # -- forks

    def _before_fork(self, seconds: float) -> Callable[[], None] | None:
        """Close every connection for a fork; return what goes on afterwards, None if it cannot be done in time."""
        if not self._lock.acquire(timeout=max(0.0, seconds)):
            return None
        session = self._session or self._ended
        pauses = [] if session is None else session.pause(seconds)
        if pauses is None:
            self._lock.release()
            return None

        def go_on() -> None:
            resume(pauses)
            self._lock.release()

        return go_on

    def _in_child(self, *, is_clean: bool) -> None:
        """In a forked child: it is not open here. One that was not closed for the fork can never be."""
        self._lock = threading.Lock()
        session, self._session, self._ended = self._session or self._ended, None, None
        if not is_clean and session is not None:
            _guard.spoil([session.leave_alone()])

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "new" if self._session is None else "open"
        return f"<SQLiteStore {self._path} {state}>"


def _path(path: Any) -> str:
    """Return the absolute path of a file that ``path`` is.

    Raises:
        ValueError: it is none.
    """
    exact = _checks.string(os.fspath(path) if isinstance(path, os.PathLike) else path)
    if not exact or "\0" in exact or exact == ":memory:" or exact.startswith("file:"):
        raise _checks.wrong("path", "the path of a file", path, "for jobs in memory say MemoryStore()")
    if re.match(r"\w+(\+\w+)?:/", exact):
        raise _checks.wrong("path", "the path of a file", path, "say the path alone, without what is before it")
    if exact.startswith("~"):
        raise _checks.wrong("path", "the path of a file", path, "say Path(...).expanduser()")
    return os.path.abspath(exact)


def _weakly(on_rescue: Callable[[list[Rescued]], object]) -> Callable[[list[Rescued]], object]:
    """Return ``on_rescue`` for a thread that must not keep its store alive."""
    reference = weakref.WeakMethod(on_rescue) if inspect.ismethod(on_rescue) else None
    if reference is None:
        return on_rescue

    def call(rescued: list[Rescued]) -> None:
        if (alive := reference()) is not None:
            alive(rescued)

    return call
