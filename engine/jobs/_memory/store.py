"""A store in memory: for tests of code that enqueues and runs jobs, and for work that may be lost with the process.

Nobody outside this process can see it, so whoever holds is alive: its lease is renewed before each operation, and no
thread is needed for it, neither in real time nor in virtual.

Guarantees
    Shared: ``_book``, ``_held``, ``_listeners``, ``_next_rescue``, ``_is_closed``.  Guarded by: ``_lock``, held for one
    operation on the book, and never while the caller's own is called: listeners, ``on_lost``, ``on_rescue`` come after.
    Callers: any thread, but no signal handler; an operation runs on the caller's, and its reply is there at once.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn, Protocol, TypeVar

from .._book import Book
from .._moment import Moment
from .._records import HolderInfo, NewHolder, Rescued
from .._reply import Reply
from ..errors import StoreClosed, StoreError
from .book import MemoryBook

__all__ = ["MemoryStore"]

T = TypeVar("T")

RESCUE_SECONDS = 0.5  #: between two looks for holders that nobody renews
BOOT = "memory"  #: what is in memory is of one boot

_logger = logging.getLogger("engine.jobs")


class Clock(Protocol):
    """What gives virtual time: ``engine.testing.VirtualClock``."""

    def now(self) -> float:
        """Return the time in seconds."""


class MemoryStore:
    """Keep jobs in the memory of this process, until it is closed.

    Args:
        clock: a ``VirtualClock``: what is delayed, retried or scheduled comes due as it is moved. By default real time.
        epoch: UTC, in seconds, at which ``clock`` shows 0; by default it shows the present while the store is made.
        on_rescue: called with jobs that were taken from a holder that nobody renewed.
    """

    def __init__(
        self, *, clock: Clock | None = None, epoch: float | None = None,
        on_rescue: Callable[[list[Rescued]], object] = lambda rescued: None,
    ) -> None:  # fmt: skip
        self.clock = clock
        self._read_clock = _steady if clock is None else clock.now
        self._epoch = time.time() - self._read_clock() if epoch is None else epoch
        self._on_rescue = on_rescue
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._book = MemoryBook()
        self._held: dict[int, Callable[[], object]] = {}  # holder -> on_lost
        self._listeners: dict[object, Callable[[], object]] = {}
        self._next_rescue = -float("inf")
        self._is_closed = False

    @property
    def name(self) -> str:
        """Give what people see."""
        return "memory"

    def open(self) -> None:
        """Do nothing: it is open until it is closed."""
        self._check_process()
        self._check_open()

    def close(self) -> None:
        """Give back what is held, tell who listens, and forget them. Idempotent."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            for holder in self._held:
                self._book.let_go(holder, self.now())
            listeners = list(self._listeners.values())
            self._held.clear()
            self._listeners.clear()
        _call(listeners)

    def now(self) -> Moment:
        """Read the clocks; virtual time is one clock for both."""
        steady = self._epoch + self._read_clock()
        return Moment(time.time() if self.clock is None else steady, steady, BOOT)

    # -- operations

    def write(self, operation: Callable[[Book, Moment], T], *, keep: bool = False) -> Reply[T]:
        """Do ``operation`` here and now. Memory is never full, so ``keep`` changes nothing."""
        return self._do(operation)

    def read(self, operation: Callable[[Book, Moment], T]) -> Reply[T]:
        """Do ``operation``, which changes nothing, here and now."""
        return self._do(operation)

    def _do(self, operation: Callable[[Book, Moment], T]) -> Reply[T]:
        self._check_process()
        with self._lock:
            self._check_open()
            now = self.now()
            rescued = self._keep_leases(now)
            self._book.begin()
            reply = _done(operation, self._book, now)
            has_changed = self._book.has_changed()
            concerned = [self._held.pop(each) for each in self._book.renew(self._held, now)]
            if rescued:
                concerned.append(partial(self._on_rescue, rescued))
            if has_changed or rescued:  # else a claim that finds nothing would call for the next one
                concerned += self._listeners.values()
        _call(concerned)
        return reply

    def _keep_leases(self, now: Moment) -> list[Rescued]:
        """Renew those of whom ``hold`` was asked; rescue from others, now and then, while there are any."""
        self._book.renew(self._held, now)
        if not self._held or now.steady < self._next_rescue:
            return []
        self._next_rescue = now.steady + RESCUE_SECONDS
        return self._book.rescue(now, _is_dead)

    # -- listeners

    def listen(self, listener: Callable[[], object]) -> Callable[[], None]:
        """Have ``listener`` called when anything has changed, on the thread that did it; return how to stop it."""
        key = object()
        self._check_process()
        with self._lock:
            self._check_open()
            self._listeners[key] = listener
        return lambda: self._forget(key)

    def _forget(self, key: object) -> None:
        with self._lock:
            self._listeners.pop(key, None)

    # -- holders

    def hold(self, holder: NewHolder, on_lost: Callable[[], object]) -> Reply[int]:
        """Add a holder, and keep its lease until ``let_go``."""

        def hold(book: Book, now: Moment) -> int:
            added = book.hold(holder, now)
            self._held[added] = on_lost  # under the lock, with the row
            return added

        return self.write(hold)

    def let_go(self, holder: int) -> Reply[int]:
        """Forget a holder, and give back what it has."""

        def let_go(book: Book, now: Moment) -> int:
            self._held.pop(holder, None)
            return book.let_go(holder, now)

        return self.write(let_go)

    def forsake(self, holder: int) -> None:
        """Renew a lease no more."""
        with self._lock:
            self._check_open()
            self._held.pop(holder, None)

    # -- what only a database has

    def connect(self) -> Any:
        """Refuse: there is no connection to memory."""
        self._refuse("connect()")

    def write_in(self, connection: Any, operation: Callable[[Book, Moment], T]) -> T:
        """Refuse: no connection is from here."""
        raise ValueError(
            "expected a connection that connect() of this store gave, got one for a store in memory, which has none; "
            "use a file: Jobs('jobs.db')"
        )

    def query(self, sql: str, parameters: Any = ()) -> Reply[list[dict[str, Any]]]:
        """Refuse: memory knows no SQL."""
        self._refuse("query()")

    def _refuse(self, what: str) -> NoReturn:
        raise StoreError(f"expected a store with SQL for {what}, got one in memory; use a file: Jobs('jobs.db')")

    def _check_open(self) -> None:
        if self._is_closed:
            raise StoreClosed("expected a store that is open, got one in memory that was closed; make another")

    def _check_process(self) -> None:
        """Refuse in a forked child: what was enqueued would run in both, and a thread of old may hold the lock."""
        if os.getpid() != self._pid:
            raise StoreError(
                "expected the process that made this store, got a forked child of it; memory is not shared, "
                "use a file: Jobs('jobs.db')"
            )

    def __repr__(self) -> str:
        return f"<MemoryStore {'closed' if self._is_closed else 'open'}>"


def _done(operation: Callable[[Book, Moment], T], book: MemoryBook, now: Moment) -> Reply[T]:
    """Do all of ``operation`` or nothing; a Ctrl-C in the middle of it is the caller's."""
    try:
        return Reply.of(operation(book, now))
    except BaseException as error:
        book.undo()
        if not isinstance(error, Exception):
            raise
        return Reply.failed(error)


def _is_dead(holder: HolderInfo) -> bool:
    """Say of no holder that it is dead: all are of this process."""
    return False


def _call(functions: list[Callable[[], object]]) -> None:
    for function in functions:
        try:
            function()
        except Exception:
            _logger.exception("what listens to a store of jobs raised")


def _steady() -> float:
    """Return seconds since the machine booted, also those that it slept through where the system counts them."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)
