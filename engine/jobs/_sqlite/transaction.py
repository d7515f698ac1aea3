"""One transaction of the writer: many operations, one commit, an answer for each."""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Callable
from typing import Any

from .._book import Book
from .._moment import Moment
from .._reply import Reply
from ..errors import CorruptStore
from .faults import Fault, fault_of, told
from .library import apsw

__all__ = ["Transactions", "Undone", "Write"]

Operation = Callable[[Book, Moment], Any]


class Write:
    """An operation that waits, and whom to answer: nobody, if it is the store's own.

    ``after`` is called with its value when that is committed, ``otherwise`` when it never will be.
    """

    __slots__ = ("after", "error", "is_keeper", "operation", "otherwise", "reply", "value")

    def __init__(
        self,
        operation: Operation,
        reply: Reply[Any] | None,
        is_keeper: bool,
        after: Callable[[Any], None] | None = None,
        otherwise: Callable[[], None] | None = None,
    ) -> None:
        self.operation = operation
        self.reply = reply
        self.is_keeper = is_keeper
        self.after = after
        self.otherwise = otherwise
        self.value: Any = None
        self.error: BaseException | None = None


class Undone(Exception):
    """A transaction was rolled back as a whole: nothing in it is done."""

    def __init__(self, fault: Fault, error: BaseException) -> None:
        super().__init__(str(error))
        self.fault = fault
        self.error = error  #: what users are told


class _Unclean(Exception):
    """An operation raised and had changed something, which an operation of a book does not."""


class Transactions:
    """Runs writes on one connection. One thread uses it."""

    def __init__(self, connection: apsw.Connection, book: Book, clock: Callable[[], Moment], path: str) -> None:
        self._connection = connection
        self._book = book
        self._clock = clock
        self._path = path

    def run(self, following: Callable[[], Write | None], taken: list[Write]) -> bool:
        """Do the writes that ``following`` gives, until it gives None, and commit; say whether that changed anything.

        ``taken`` is filled with them; each then has its ``value`` or its ``error``.

        Raises:
            Undone: nothing is done, of any of them.
        """
        before = self._connection.total_changes()
        try:
            try:
                self._attempt(following, taken, self._plainly)
            except _Unclean:  # again, each in a savepoint of its own, which costs more
                self._roll_back()
                again, taken[:] = deque(taken), []
                self._attempt(lambda: again.popleft() if again else following(), taken, self._in_savepoint)
        except BaseException as error:
            system_errno = self._connection.system_errno
            traceback.clear_frames(error.__traceback__)  # see _plainly
            self._roll_back()
            if isinstance(error, apsw.Error | UnicodeDecodeError | CorruptStore):
                raise Undone(fault_of(error, system_errno), told(error, self._path, system_errno)) from error
            raise
        return self._connection.total_changes() != before

    def _attempt(self, following: Callable[[], Write | None], taken: list[Write], do: Callable[[Write], None]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        while (write := following()) is not None:
            taken.append(write)
            do(write)
        self._connection.execute("COMMIT")

    def _plainly(self, write: Write) -> None:
        before = self._connection.total_changes()
        try:
            write.value, write.error = write.operation(self._book, self._clock()), None
        except BaseException as error:
            self._raise_if_all(error)
            # Frames that the error keeps alive hold cursors, and a statement in progress is in the way of the next.
            traceback.clear_frames(error.__traceback__)
            if self._connection.total_changes() != before:
                raise _Unclean from error
            write.value, write.error = None, told(error, self._path)

    def _in_savepoint(self, write: Write) -> None:
        self._connection.execute("SAVEPOINT one")
        try:
            write.value, write.error = write.operation(self._book, self._clock()), None
        except BaseException as error:
            self._raise_if_all(error)
            traceback.clear_frames(error.__traceback__)
            self._connection.execute("ROLLBACK TO one")
            write.value, write.error = None, told(error, self._path)
        self._connection.execute("RELEASE one")

    def _raise_if_all(self, error: BaseException) -> None:
        """Raise ``error`` again if it is about the transaction, not about one operation in it."""
        if fault_of(error, self._connection.system_errno) is not Fault.OWN or not self._connection.in_transaction:
            raise error

    def _roll_back(self) -> None:
        if self._connection.in_transaction:  # SQLite may have done it already
            try:
                self._connection.execute("ROLLBACK")
            except apsw.Error:  # then it has done it now, as after any error of a rollback
                pass
