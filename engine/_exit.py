"""The engines that run in this process: what becomes of them at interpreter exit and in a forked child.

``threading._register_atexit`` is private, but there is no other place: its functions run when the main thread is
done and *before* the interpreter joins the threads that are no daemons, and one of those may wait in ``result()``.
``concurrent.futures`` stands on it for the same reason. Where it is missing, ``atexit`` alone has to do.
``design/0005-stopping.md`` has the order of things.

Guarantees
    Shared: ``_living``, ``_ending``, ``_is_over``.  Guarded by: ``_lock``, held for one set operation.  Callers: any
    thread, the collector and signal handlers too: the lock is re-entrant and nothing is called under it.
    Exit takes ``EXIT_SECONDS`` at most for all engines together; Ctrl-C shortens it.
"""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401  # see ``_hook``
import contextlib
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Protocol

from ._clock import now
from .errors import EngineClosed

__all__ = ["check_open", "forget", "keep", "register", "when_the_main_thread_is_done"]

EXIT_SECONDS = 3.5  #: for all engines together; the interpreter itself takes the rest of the promised five
DRAIN_SECONDS = 2.0  #: of these, in which accepted work may still end by itself


class Living(Protocol):
    """What a running engine lets itself be told here."""

    def is_somebodys(self) -> bool:
        """Say whether a thread that the interpreter waits for has this engine in its hands."""

    def begin_exit(self, drain: float) -> None:
        """Refuse all; let what runs end within ``drain`` seconds, then force it. Does not wait."""

    def hurry_exit(self) -> None:
        """Force it at once. A signal handler calls, maybe in the middle of ``begin_exit``: it waits for nothing."""

    def wait_ended(self, seconds: float) -> bool:
        """Wait until it has stopped."""

    def abort(self, why: str) -> None:
        """End it here and now, without its loop."""

    def forget_in_child(self) -> None:
        """In a forked child: it is the parent's."""


_lock = threading.RLock()
_living: weakref.WeakSet[Living] = weakref.WeakSet()
_ending: set[Living] = set()  #: nobody holds these any more, but their work is to be finished
_is_over = False


def register(engine: Living) -> None:
    """Remember a running engine.

    Raises:
        EngineClosed: the interpreter is past the point at which engines are ended.
    """
    with _lock:
        check_open()
        _living.add(engine)


def check_open() -> None:
    """Raise EngineClosed if no engine may begin any more: the interpreter exits, and starts no thread either."""
    if _is_over:
        raise EngineClosed("expected the interpreter to run, got one that exits: cannot schedule new futures after "
                           "interpreter shutdown")  # fmt: skip


def keep(engine: Living) -> None:
    """Hold an engine that its owner has dropped, until it has finished its work."""
    with _lock:
        _ending.add(engine)


def forget(engine: Living) -> None:
    """Note that an engine has stopped."""
    with _lock:
        _living.discard(engine)
        _ending.discard(engine)


# -- at exit --------------------------------------------------------------------------------------------------------


def when_the_main_thread_is_done() -> None:
    """End every engine but those that a thread uses which the interpreter is going to wait for.

    Called again, it ends what was started meanwhile: ``_lanes._portable.exits`` calls it before loky waits.
    """
    _firmly(lambda: _end_all([engine for engine in _all() if not engine.is_somebodys()]))


def _when_all_threads_are_done() -> None:
    """End the rest, and let none begin."""
    global _is_over
    _is_over = True
    _firmly(lambda: _end_all(_all()))


def _firmly(end: Callable[[], None]) -> None:
    """Call ``end``, and again if a Ctrl-C comes before it has taken the handler: the program ends already."""
    while True:
        try:
            end()
            return
        except KeyboardInterrupt:
            continue


def _all() -> list[Living]:
    with _lock:
        return list(_living)


def _end_all(engines: list[Living]) -> None:
    if not engines:
        return
    end = now() + EXIT_SECONDS

    def hurry() -> None:
        for engine in engines:
            engine.hurry_exit()

    with _ctrl_c(hurry):
        drain = 0.0 if _ended_by_ctrl_c() else DRAIN_SECONDS
        for engine in engines:
            engine.begin_exit(drain)
        for engine in engines:
            if not engine.wait_ended(max(0.0, end - now())):
                engine.abort("the interpreter exits")


def _ended_by_ctrl_c() -> bool:
    """Say whether a KeyboardInterrupt that nobody caught ended the program; at a prompt it ends only a line."""
    return getattr(sys, "last_type", None) is KeyboardInterrupt and not hasattr(sys, "ps1")


@contextlib.contextmanager
def _ctrl_c(pressed: Callable[[], None]) -> Iterator[None]:
    """Have Ctrl-C call ``pressed`` for once: a KeyboardInterrupt would be printed as an exception that was ignored."""
    before = signal.getsignal(signal.SIGINT)
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, lambda *_: pressed())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _hook() -> None:
    # Functions run in the reverse order of their registration. ``concurrent.futures.thread`` is imported above so that
    # its function, which joins the threads of executors, comes after ours: one of them may wait in ``result()``.
    register_early: Callable[[Callable[[], None]], None] | None = getattr(threading, "_register_atexit", None)
    if register_early is not None:
        with contextlib.suppress(RuntimeError):  # the main thread is done already: what is left is the other hook
            register_early(when_the_main_thread_is_done)
    atexit.register(_when_all_threads_are_done)


# -- in a forked child ----------------------------------------------------------------------------------------------


def _after_fork_in_child() -> None:
    """Leave every engine to the parent; another thread of it may have held our lock at the fork."""
    global _lock
    _lock = threading.RLock()
    engines = [*_living, *_ending]
    _living.clear()
    _ending.clear()
    for engine in engines:
        engine.forget_in_child()


_hook()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork_in_child)
