"""A thread that reads: what waits is read from one snapshot, which is not held for long."""

from __future__ import annotations

import queue
import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any

from .._reply import Reply, wake
from ..errors import StoreError
from .connection import Database
from .database_thread import DatabaseThread, Stop, closed
from .faults import told
from .library import apsw
from .pause import Pause

__all__ = ["Look", "Reader"]

SNAPSHOT_SECONDS = 0.05  #: of work on one snapshot

Look = Callable[[apsw.Connection], Any]


class _Read:
    """A look that waits, and whom to answer."""

    __slots__ = ("look", "reply")

    def __init__(self, look: Look, reply: Reply[Any]) -> None:
        self.look = look
        self.reply = reply


class Reader(DatabaseThread):
    """A thread with a connection that only reads, opened by the first look."""

    def __init__(self, name: str, database: Database, ready: Callable[[apsw.Connection], object]) -> None:
        super().__init__(name, database)
        self._set_up = ready
        self._connection: apsw.Connection | None = None
        self._backlog: deque[_Read] = deque()
        self._pauses: deque[Pause] = deque()
        self._is_stopping = False

    def read(self, look: Look) -> Reply[Any]:
        """Have ``look`` called with the connection, on a snapshot that begins after this.

        Raises:
            StoreClosed: the thread has ended.
        """
        if self._is_over:
            raise closed(self._path)
        reply: Reply[Any] = Reply()
        self._put(_Read(look, reply))
        return reply

    # -- the thread

    def _work(self) -> None:
        while not (self._is_stopping and not self._backlog):
            if not self._backlog:
                self._sort(self._queue.get())
            self._drain()
            while self._pauses:
                self._wait_out(self._pauses.popleft())
            if self._backlog:
                self._read_all()

    def _drain(self) -> None:
        try:
            while True:
                self._sort(self._queue.get_nowait())
        except queue.Empty:
            return

    def _sort(self, item: Any) -> None:
        if isinstance(item, _Read):
            self._backlog.append(item)
        elif isinstance(item, Pause):
            self._pauses.append(item)
        elif isinstance(item, Stop):
            self._is_stopping = True

    def _read_all(self) -> None:
        waiters = []
        for read, value, error in self._on_one_snapshot():
            waiters += read.reply.settle(value, error)
        wake(waiters)

    def _on_one_snapshot(self) -> list[tuple[_Read, Any, BaseException | None]]:
        answers: list[tuple[_Read, Any, BaseException | None]] = []
        try:
            connection = self._ready()
            connection.execute("BEGIN")
        except (apsw.Error, StoreError) as error:
            answers = [(read, None, told(error, self._path)) for read in self._backlog]
            self._backlog.clear()
            return answers
        end = time.monotonic() + SNAPSHOT_SECONDS
        while self._backlog and time.monotonic() < end:
            answers.append(self._one(connection, self._backlog.popleft()))
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        return answers

    def _one(self, connection: apsw.Connection, read: _Read) -> tuple[_Read, Any, BaseException | None]:
        try:
            return read, read.look(connection), None
        except BaseException as error:  # whoever asked is told
            traceback.clear_frames(error.__traceback__)  # they hold cursors, in the middle of a statement
            return read, None, told(error, self._path, connection.system_errno)

    def _ready(self) -> apsw.Connection:
        if self._connection is None:
            self._connection = self._database.connect(self._may_wait)
            self._connection.pragma("query_only", 1)
            self._set_up(self._connection)
        return self._connection

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._database.close(connection)

    def _end(self) -> None:
        waiters = []
        for read in self._backlog:
            waiters += read.reply.settle(None, closed(self._path))
        self._backlog.clear()
        wake(waiters)
