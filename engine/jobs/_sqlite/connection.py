"""Connections to the file of a store, each for one use, all with the same settings."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar

from ..errors import StoreError
from . import guard as _guard
from .faults import Fault, fault_of, told
from .library import apsw, is_wal_safe, version
from .patience import Patience, checked, for_seconds, in_pieces
from .schema import check_ours

__all__ = ["CallersConnection", "Database"]

C = TypeVar("C", bound=apsw.Connection)
Who = tuple[int, object]  #: a thread, and the coroutine that runs there

_BUSY_SECONDS = 30.0  #: that a connection without patience of its own waits for another process
_ALONE_SECONDS = 1.0  #: that it waits for others to leave the file, who may never do
_WAL_BYTES = 8 << 20  #: to which a WAL that had to grow larger is cut back when it begins anew
_SYNCHRONOUS = {"full": "FULL", "normal": "NORMAL"}
#: A journal that was deleted stays so when its directory is written, which only EXTRA does.
_SYNCHRONOUS_OF_DELETE = {"full": "EXTRA", "normal": "FULL"}

_logger = logging.getLogger("engine.jobs")


class CallersConnection(apsw.Connection):
    """A connection that somebody outside uses; ``on_close`` is called once when it closes.

    It knows who used it last: a thread, and the coroutine there. Whoever has a transaction open here, and waits for the
    store's own writer, waits for ever. It knows whose ``with`` is open, too: one of another thread or coroutine would
    be a savepoint within that, and what it has acknowledged would go when the outer one is rolled back.

    Guarantees
        Shared: ``_owner``, ``_entered``.  Guarded by: ``_lock``, held for a few attribute operations.
        Callers: any thread.
    """

    on_close: Callable[[], None] | None = None
    _user: Who | None = None
    _owner: Who | None = None  #: whose ``with`` it is, while ``_entered`` of them are open
    _entered = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._own(_who_is_here())
        try:
            super().__enter__()
        except BaseException as error:
            self._disown()
            if isinstance(error.__context__, StoreError):  # of the busy handler; BEGIN says only that it is locked
                raise error.__context__ from None
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        try:
            return super().__exit__(kind, error, trace)
        finally:
            self._disown()

    @contextlib.contextmanager
    def piece(self) -> Iterator[None]:
        """Have what is done within it kept whole or not at all, in the transaction that is open, whosever that is."""
        self._user = _who_is_here()
        super().__enter__()
        try:
            yield
        except BaseException as error:
            super().__exit__(type(error), error, error.__traceback__)
            raise
        super().__exit__(None, None, None)

    def _own(self, here: Who) -> None:
        with self._lock:
            if self._entered and self._owner != here:
                raise StoreError(
                    "expected a connection that nobody else has in with, got one inside the with of another thread or "
                    "coroutine, whose transaction this would be a part of; let each make its own with jobs.connect()"
                )
            self._user = self._owner = here
            self._entered += 1

    def _disown(self) -> None:
        with self._lock:
            self._entered -= 1
            if not self._entered:
                self._owner = None

    async def __aenter__(self) -> NoReturn:
        raise TypeError(
            "expected a connection of connect() in with, got it in async with; use with: its statements wait on this "
            "thread, so keep the transaction short"
        )

    async def __aexit__(self, *exc_info: object) -> None: ...  # only so that it comes as far as __aenter__

    def execute(self, *args: Any, **kwargs: Any) -> apsw.Cursor:
        """Execute statements, as every ``apsw.Connection`` does."""
        self._user = _who_is_here()
        return super().execute(*args, **kwargs)

    def executemany(self, *args: Any, **kwargs: Any) -> apsw.Cursor:
        """Execute a statement with many sets of values, as every ``apsw.Connection`` does."""
        self._user = _who_is_here()
        return super().executemany(*args, **kwargs)

    def cursor(self) -> apsw.Cursor:
        """Give a cursor; whoever asks for it is taken for its user."""
        self._user = _who_is_here()
        return super().cursor()

    def is_written_here(self) -> bool:
        """Say whether the one who asks has a transaction open on it that keeps all others from writing."""
        return self._user == _who_is_here() and self._is_written()

    def is_written_by(self, thread: int) -> bool:
        """Say whether such a transaction is one of ``thread``, of which coroutine whatever."""
        return any(who is not None and who[0] == thread for who in (self._user, self._owner)) and self._is_written()

    def _is_written(self) -> bool:
        return self.is_open and self.txn_state("main") == apsw.SQLITE_TXN_WRITE

    def close(self, force: bool = False) -> None:
        """Close it."""
        super().close(force)
        self._closed()

    @property
    def is_open(self) -> bool:
        """Say whether it was not closed yet."""
        return self.on_close is not None

    def _closed(self) -> None:
        on_close, self.on_close = self.on_close, None
        if on_close is not None:
            on_close()

    def __del__(self) -> None:
        self._closed()


def _who_is_here() -> Who:
    """Return what tells the coroutine that runs here, or else the thread, from all others."""
    is_loop = asyncio._get_running_loop() is not None
    return threading.get_ident(), asyncio.current_task() if is_loop else None


@dataclass(frozen=True, slots=True)
class Database:
    """Where the file is, and how it is opened."""

    path: str
    key: _guard.Key
    synchronous: str = "full"
    vfs: str | None = None
    sqlite: str = apsw.sqlite_lib_version()
    max_bytes: int | None = None  #: what the file may grow to, its WAL not counted

    def connect(self, patience: Patience | None = None) -> apsw.Connection:
        """Open a connection that may write.

        Raises:
            StoreError: it cannot be opened; the message says why.
        """
        connection = self._opened(apsw.Connection, patience)
        # A file that came from elsewhere may hold code of its own, which would run when we write.
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_VIEW, 0)
        return connection

    def connect_caller(self, check_may_wait: Callable[[], object]) -> CallersConnection:
        """Open a connection for somebody outside; before each wait ``check_may_wait`` is called, and may refuse it."""
        connection = self._opened(CallersConnection, None)
        connection.set_busy_handler(checked(check_may_wait, for_seconds(_BUSY_SECONDS)))
        connection.transaction_mode = "IMMEDIATE"  # of ``with connection:``; a lock that is asked for later may fail
        key = self.key
        connection.on_close = lambda: _guard.release(key)
        return connection

    def close(self, connection: apsw.Connection) -> None:
        """Close a connection of ``connect`` whose work is done, whatever becomes of the last checkpoint."""
        try:
            connection.close()
        except apsw.Error:
            _logger.debug("closing a connection failed", exc_info=True)
        _guard.release(self.key)

    def _opened(self, kind: type[C], patience: Patience | None) -> C:
        try:
            connection = kind(self.path, flags=apsw.SQLITE_OPEN_READWRITE, vfs=self.vfs)
        except apsw.Error as error:
            raise told(error, self.path) from error
        try:
            self._check_same()
            if connection.readonly("main"):  # SQLite opens it all the same
                raise apsw.ReadOnlyError("it may only be read")
            connection.set_busy_handler(for_seconds(_BUSY_SECONDS))
            self._set_up(connection)
            connection.set_busy_handler(in_pieces(patience, self.path) if patience else for_seconds(_BUSY_SECONDS))
        except BaseException as error:
            system_errno = connection.system_errno
            connection.close()
            raise told(error, self.path, system_errno) from error
        _guard.protect(self.key, self.path)
        return connection

    def _check_same(self) -> None:
        """Refuse a file that somebody has put into the place of the one that was looked at."""
        if self.vfs is None and _guard.key_of(self.path) != self.key:
            raise StoreError(f"expected {self.path} to stay the same file, got another in its place", path=self.path)

    def _set_up(self, connection: apsw.Connection) -> None:
        connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
        connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
        connection.pragma("mmap_size", 0)  # a damaged page would end the process with SIGBUS
        connection.pragma("cell_size_check", 1)
        connection.pragma("temp_store", "MEMORY")
        connection.pragma("journal_size_limit", _WAL_BYTES)
        try:
            check_ours(connection, self.path)  # another's file stays as it is, its journal too
        except (apsw.CantOpenError, apsw.IOError):  # as a WAL where no memory can be shared, which comes next
            pass
        has_wal = self._set_journal(connection)
        connection.pragma("synchronous", (_SYNCHRONOUS if has_wal else _SYNCHRONOUS_OF_DELETE)[self.synchronous])
        if self.max_bytes is not None:
            connection.pragma("max_page_count", max(1, self.max_bytes // int(connection.pragma("page_size"))))

    # -- the journal

    def _set_journal(self, connection: apsw.Connection) -> bool:
        """Turn the WAL on, or do without; say which."""
        if is_wal_safe(version(self.sqlite)):
            if _has_wal(connection):
                return True
            why = "its file system cannot share memory between processes"
        else:
            why = f"SQLite {self.sqlite} can lose what was committed to a WAL; apsw with SQLite 3.51.3 or later cannot"
        if not _has_delete(connection):
            raise StoreError(
                f"expected {self.path} to do without a WAL, which cannot be used here ({why}), got one that others "
                "use; stop them, and open it again", path=self.path,
            )  # fmt: skip
        _logger.warning("%s is used with a rollback journal, which is slower than a WAL: %s", self.path, why)
        return False


def _has_wal(connection: apsw.Connection) -> bool:
    """Turn the WAL on; False where there can be none."""
    try:
        if _journal_mode(connection, "WAL", _BUSY_SECONDS) != "wal":
            return False
        connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").get  # noqa: B018  # the first look shares memory
    except (apsw.IOError, apsw.CantOpenError) as error:
        if fault_of(error, connection.system_errno) is Fault.FULL:
            raise
        return False
    return True


def _has_delete(connection: apsw.Connection) -> bool:
    """Turn the WAL off, which needs the file for us alone; False if others use it."""
    connection.set_busy_handler(for_seconds(_ALONE_SECONDS))
    connection.pragma("locking_mode", "EXCLUSIVE")  # so that a WAL that is there is read without shared memory
    try:
        is_off = _journal_mode(connection, "DELETE", _ALONE_SECONDS) == "delete"
        connection.pragma("locking_mode", "NORMAL")
        connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").get  # noqa: B018  # gives the lock back
    except apsw.BusyError:
        return False
    return is_off


def _journal_mode(connection: apsw.Connection, mode: str, seconds: float) -> str:
    """Change the journal; SQLite asks no busy handler while another connection does the same."""
    end = time.monotonic() + seconds
    handler = for_seconds(seconds)
    while True:
        try:
            return str(connection.pragma("journal_mode", mode))
        except apsw.BusyError:
            if time.monotonic() >= end or not handler(0):
                raise
