"""The thread that writes: what waits makes one transaction. It renews leases, rescues, and sees the commits of others.

An operation that was answered is committed. One transaction takes what waits and what arrives while it runs, at most
``BATCH`` operations and ``BATCH_SECONDS`` of work; what arrives while it commits makes the next one.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from .._moment import Moment
from .._records import NewHolder, Rescued
from .._reply import Reply, wake
from ..errors import CorruptStore, StoreError
from .checkpoints import Checkpoints
from .connection import Database
from .database_thread import DatabaseThread, Stop, closed
from .faults import Fault, told
from .keeper import Keeper
from .library import apsw
from .listeners import Listeners
from .opened import Clock, Opened, open_book
from .patience import in_pieces
from .pause import Pause
from .place import Place
from .room import Room
from .transaction import Operation, Transactions, Undone, Write

__all__ = ["Writer"]

BATCH = 1000  #: operations of one transaction
BATCH_SECONDS = 0.05  #: of work in one transaction
POLL_SECONDS = 0.1  #: between two looks for the commits of others, while somebody listens
BUSY_TRIES = 50  #: of a transaction that cannot be ended because of another process; to begin one it waits for ever
PACES = (0.05, 0.5)  #: seconds between two tries of what could not be committed: at first, and at most

_logger = logging.getLogger("engine.jobs")


class Writer(DatabaseThread):
    """The one thread of a process that writes to a file, which is opened on the thread that makes the writer."""

    def __init__(
        self, database: Database, clock: Clock | None, *, max_waiting: int, warn_bytes: int,
        on_rescue: Callable[[list[Rescued]], object],
    ) -> None:  # fmt: skip
        super().__init__("writer", database)
        self._clock = clock
        self._warn_bytes = warn_bytes
        self._listeners = Listeners()
        self._room = Room(max_waiting, self._path)
        self._keeper = Keeper(on_rescue)
        self._backlog: deque[Write] = deque()
        self._pauses: deque[Pause] = deque()
        self._is_stopping = False
        self._not_before = 0.0  #: on the monotonic clock; until then nothing is tried
        self._pace = PACES[0]
        self._tries = 0  #: of a transaction that had begun, and then met another process
        self._next_poll = 0.0
        self._data_version = -1
        self._last_error: BaseException | None = None
        self._opened: Opened | None = None
        self._is_gone = False  #: the file is not where it was opened
        self._is_well = True  #: the last look after leases did not fail
        self._open()

    # -- any thread

    def now(self) -> Moment:
        """Read the clocks."""
        return self._read_clock()

    def write(
        self, operation: Operation, *, is_keeper: bool, after: Callable[[Any], None] | None = None,
        otherwise: Callable[[], None] | None = None,
    ) -> Reply[Any]:  # fmt: skip
        """Have ``operation`` done and committed; ``after`` is then called on the thread, before the reply is there.

        ``otherwise`` is called so where it is not done.

        Raises:
            StoreClosed: the thread has ended.
            StoreFull: too many operations wait already.
        """
        if self._is_over:
            raise closed(self._path)
        if not is_keeper:
            self._room.enter(self._count, may_wait=not self.is_current())
        reply: Reply[Any] = Reply()
        self._put(Write(operation, reply, is_keeper, after, otherwise))
        return reply

    def _count(self) -> int:
        return self._queue.qsize() + len(self._backlog)

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have ``listener`` called after commits, of anybody; return how to stop it."""
        stop = self._listeners.add(listener)
        self.poke()
        return stop

    def poke(self, pages: int = 0) -> None:
        """Have it look for commits at once; ``pages``: of the WAL, as another connection of ours left it."""
        self._queue.put(pages)

    def hold(self, holder: NewHolder, on_lost: Callable[[], None]) -> Reply[int]:
        """Add a holder, and renew its lease from then on."""

        def added(holder_id: int) -> None:
            self._keeper.add(holder_id, holder, on_lost, self.now())

        return self.write(lambda book, now: book.hold(holder, now), is_keeper=False, after=added)

    def let_go(self, holder: int) -> Reply[int]:
        """Give back what a holder has, and renew its lease no more, also where the file refuses the first."""

        def gone(_: int = 0) -> None:
            self._keeper.drop(holder)

        return self.write(lambda book, now: book.let_go(holder, now), is_keeper=True, after=gone, otherwise=gone)

    def forsake(self, holder: int) -> None:
        """Renew the lease of a holder no more."""
        self._queue.put(partial(self._keeper.drop, holder))

    # -- the thread

    def _work(self) -> None:
        while not (self._is_stopping and self._is_done()):
            self._gather(self._patience())
            while self._pauses:
                self._wait_out(self._pauses.popleft())
            if time.monotonic() >= self._not_before and self._is_open():
                self._do_duties()
                if self._backlog:
                    self._transact()
                if self._opened is not None and not self._is_gone:
                    self._checkpoints.tidy()
        self._listeners.notify()  # who waits for a change hears that there will be none

    def _is_done(self) -> bool:
        return not self._backlog or time.monotonic() >= self._deadline

    def _patience(self) -> float | None:
        """Return for how long there is nothing to do unless somebody asks; None for ever."""
        now = time.monotonic()
        if self._pauses:
            return 0.0
        if self._not_before > now:
            return min(self._not_before, self._deadline) - now
        if self._backlog or self._opened is None or self._is_stopping:
            return 0.0
        if self._listeners or self._keeper or self._checkpoints.is_held_up:
            return max(0.0, self._next_poll - now)
        return None

    def _gather(self, patience: float | None) -> None:
        try:
            self._sort(self._queue.get_nowait() if patience == 0 else self._queue.get(timeout=patience))
        except queue.Empty:
            return
        self._drain()

    def _drain(self) -> None:
        try:
            while True:
                self._sort(self._queue.get_nowait())
        except queue.Empty:
            return

    def _sort(self, item: Any) -> None:
        if type(item) is Write:
            self._backlog.append(item)
        elif isinstance(item, Pause):
            self._pauses.append(item)
        elif isinstance(item, Stop):
            self._begin_end(item)
        elif isinstance(item, partial):  # not a write: it must not fail with a transaction
            item()
        else:
            self._next_poll = 0.0
            self._checkpoints.seen(item)

    def _begin_end(self, stop: Stop) -> None:
        self._deadline = min(self._deadline, stop.deadline)
        if not self._is_stopping:
            self._is_stopping = True
            self._backlog.extend(self._keeper.farewells())

    # -- one transaction

    def _transact(self) -> None:
        if self._look_for_file() is not None:  # not one into a file that is gone: three stats, a small part of a commit
            return
        taken: list[Write] = []
        end = time.monotonic() + BATCH_SECONDS

        def following() -> Write | None:
            if not self._backlog:
                self._drain()
            if not self._backlog or len(taken) >= BATCH or time.monotonic() >= end:
                return None
            return self._backlog.popleft()

        try:
            changed = self._transactions.run(following, taken)
        except Undone as undone:
            self._undone(undone, taken)
        except BaseException as error:  # a defect: who asked hears of it, and the thread goes on
            _logger.exception("a transaction of the store %s failed", self._path)
            self._settle(taken, StoreError(f"expected a transaction to end, got {error!r}", path=self._path))
        else:
            self._pace, self._tries = PACES[0], 0
            self._settle(taken, self._look_for_file())  # here, for what was answered is in the file that is there
            if changed:
                self._listeners.notify()

    def _settle(self, writes: list[Write], error: BaseException | None = None) -> None:
        waiters = []
        for write in writes:
            failed = error or write.error
            if failed is None and write.after is not None:
                try:
                    write.after(write.value)
                except Exception as raised:  # as _duties; it is committed, but nobody here will look after it
                    failed = raised
            if failed is not None and write.otherwise is not None:
                write.otherwise()
            if write.reply is not None:
                waiters += write.reply.settle(None if failed else write.value, failed)
        wake(waiters)
        self._room.tell()

    def _undone(self, undone: Undone, taken: list[Write]) -> None:
        """Try again after a while what merely met another process, or is to be kept; tell the others."""
        self._not_before = time.monotonic() + self._pace
        self._pace = min(self._pace * 2, PACES[1])
        self._last_error = undone.error
        self._tries = self._tries + 1 if undone.fault is Fault.BUSY and taken else 0
        could_not_begin = undone.fault is not Fault.BUSY and not taken
        if undone.fault is Fault.FULL or could_not_begin:  # what waits behind it would wait for as long as it does
            self._drain()
            taken += self._backlog
            self._backlog.clear()
        again: list[Write] = []
        failed: list[Write] = []
        for write in taken:
            is_kept = write.is_keeper and undone.fault is Fault.FULL
            again_too = write.reply is not None and (is_kept or 0 < self._tries <= BUSY_TRIES)
            (again if again_too else failed).append(write)
        self._backlog.extendleft(reversed(again))
        self._settle(failed, undone.error)
        if undone.fault is not Fault.FULL and taken:  # a statement may be left in the middle, in the way of all others
            self._close()

    def _look_for_file(self) -> StoreError | None:
        """Return the error for everybody if the file is gone; all that waits is told."""
        error = self._place.look()
        if (error is not None) != self._is_gone:
            self._is_gone = error is not None
            self._leave_alone()
        if error is not None:
            self._last_error = error
            self._not_before = time.monotonic() + PACES[0]
            self._drain()
            waiting = list(self._backlog)
            self._backlog.clear()
            self._settle(waiting, error)
        return error

    def _leave_alone(self) -> None:
        """Have the end of the connection copy nothing into a file that is gone: others may have a WAL of it by now."""
        if self._opened is not None:
            self._opened.connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, int(self._is_gone))

    # -- duties

    def _do_duties(self) -> None:
        assert self._opened is not None
        now = time.monotonic()
        if now >= self._next_poll:
            self._next_poll = now + POLL_SECONDS
            if self._listeners:
                self._look_for_file()
                self._poll(self._opened.connection)
        if not self._is_stopping:
            self._backlog.extendleft(reversed(self._duties(self._opened)))

    def _duties(self, opened: Opened) -> list[Write]:
        """Return what is due; a clock that fails, as one that a test has replaced, does not end the thread."""
        was_well, self._is_well = self._is_well, False
        try:
            writes = self._keeper.duties(opened)
        except Exception:
            if was_well:
                _logger.exception("the leases of %s could not be looked after; trying again", self._path)
            return []
        self._is_well = True
        return writes

    def _poll(self, connection: apsw.Connection) -> None:
        """Tell the listeners if another connection has committed, of this process or of any."""
        with contextlib.suppress(apsw.Error):  # whoever wants something of the file is told what is wrong with it
            version = connection.execute("PRAGMA data_version").get
            if version != self._data_version:
                self._data_version = version
                self._listeners.notify()

    # -- the connection

    def _open(self) -> None:
        connection = self._database.connect()
        try:
            opened = open_book(connection, self._path, self._clock)
        except BaseException as error:
            system_errno = connection.system_errno
            self._database.close(connection)
            raise told(error, self._path, system_errno) from error
        connection.set_busy_handler(in_pieces(self._may_wait, self._path))
        self._checkpoints = Checkpoints(connection, self._path, self._warn_bytes)
        self._transactions = Transactions(connection, opened.book, opened.clock, self._path)
        self._read_clock = opened.clock
        self._place = Place(self._path, self._database.key)
        self._opened = opened

    def _is_open(self) -> bool:
        """Open the file again, if a fork or an error had it closed; False if that failed."""
        if self._opened is None:
            try:
                self._open()
            except StoreError as error:
                taken = list(self._backlog)
                self._backlog.clear()
                fault = Fault.CORRUPT if isinstance(error, CorruptStore) else Fault.FULL
                self._undone(Undone(fault, error), taken)
        return self._opened is not None

    def _close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            self._database.close(opened.connection)

    def _end(self) -> None:
        self._settle(list(self._backlog), self._last_error or closed(self._path))
        self._backlog.clear()
