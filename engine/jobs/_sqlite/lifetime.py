"""The stores of this process: closed when the interpreter ends, out of the way of a fork.

Whoever inherits an open SQLite file through a fork cannot use that file at all, not even by opening it anew: SQLite
believes that it has the locks of its parent, which the system gave to the parent alone. So a fork waits until every
store here has closed its connections, between two transactions; in the parent they are opened again at once, in the
child with the first use. ``design/0014`` has the rest.

Guarantees
    Shared: ``_finishing``, a SimpleQueue, which the collector may use; ``_stores``.  Guarded by: ``_lock``, held for a
    set operation; the collector takes stores out without it.  Callers: any thread. A fork waits ``PATIENCE`` seconds at
    most; a store that is not ready then refuses in the child. Of threads that fork at once each has a list of its own:
    the lock of each store lets one in, and who goes on must not let the other's stores go on before his fork.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from . import callers as _callers
from . import guard as _guard

if TYPE_CHECKING:
    from .session import Session
    from .store import SQLiteStore

__all__ = ["finish_later", "remember"]

PATIENCE = 2.0
EXIT_SECONDS = 2.0  #: that the interpreter's end waits for a store that was dropped in the middle of something


class _Fork(threading.local):
    """The fork that this thread is in the middle of; several threads may be, and the one that was later waits."""

    def __init__(self) -> None:
        self.going_on: list[tuple[SQLiteStore, Callable[[], None] | None]] = []  #: what goes on behind it


_lock = threading.Lock()
_stores: weakref.WeakSet[SQLiteStore] = weakref.WeakSet()
_finishing: queue.SimpleQueue[Session] = queue.SimpleQueue()
_fork = _Fork()


def remember(store: SQLiteStore) -> None:
    """Note a store that may be opened."""
    _sweep()
    with _lock:
        _stores.add(store)


def finish_later(session: Session) -> None:
    """Have the session of a store that nobody has any more do what was asked, and end. The collector calls."""
    session.stop_soon()
    _finishing.put(session)


def _sweep() -> None:
    """Forget the sessions that have ended."""
    for _ in range(_finishing.qsize()):
        with contextlib.suppress(queue.Empty):
            if (session := _finishing.get_nowait()).is_alive():
                _finishing.put(session)


def _all() -> list[SQLiteStore]:
    with _lock:
        return list(_stores)


def _close_all() -> None:
    for store in _all():
        store.close()
    with contextlib.suppress(queue.Empty):
        while True:
            _finishing.get_nowait().close(EXIT_SECONDS)


def _before_fork() -> None:
    end = time.monotonic() + PATIENCE
    for _ in range(_finishing.qsize()):
        with contextlib.suppress(queue.Empty):
            _finishing.get_nowait().close(max(0.0, end - time.monotonic()))
    for store in _all():
        _fork.going_on.append((store, store._before_fork(end - time.monotonic())))


def _after_fork_in_parent() -> None:
    going_on, _fork.going_on = _fork.going_on, []
    for _, go_on in going_on:
        if go_on is not None:
            go_on()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()
    _guard.forget_all()
    _guard.spoil(_callers.leave_alone())
    going_on, _fork.going_on = _fork.going_on, []
    for store, go_on in going_on:
        store._in_child(is_clean=go_on is not None)


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
