"""What a fork of this process must not find half done.

A forked child has one thread, but the locks of all of them: whoever asks there for one that another thread held waits
for ever, and finds a module that was being imported cut short. So what our threads do under locks of other code,
imports and starts of processes, is done ``whole``: ``os.fork()`` in another thread waits for its end.

Guarantees
    Shared: ``_lock``, re-entrant: one thread at a time is inside ``whole``.  Callers: any thread.  Lock order:
    outermost, and nothing of a user's is called under it. Who forks or comes in waits ``PATIENCE`` seconds at most,
    then goes on without: the thread inside may wait for the one that forks, which may hold an import's lock.
"""

import contextlib
import os
import threading
from collections.abc import Iterator

__all__ = ["whole"]

PATIENCE = 2.0

_lock = threading.RLock()


@contextlib.contextmanager
def whole() -> Iterator[None]:
    """Let no other thread fork until this is done."""
    lock = _lock  # in a child that is forked inside there is another one
    has_it = lock.acquire(timeout=PATIENCE)
    try:
        yield
    finally:
        if has_it:
            lock.release()


def _before_fork() -> None:
    _lock.acquire(timeout=PATIENCE)


def _after_fork_in_parent() -> None:
    with contextlib.suppress(RuntimeError):  # it was not to be had in time
        _lock.release()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
