"""The open futures of one executor.

Guarantees
    Shared: ``_open``, ``_refusal``, ``_waiting``.  Guarded by: ``_lock``, re-entrant since the
    collector may call in, held for a few dictionary operations.  Callers: any thread.
    A future that was entered is open until it has ended, its waiters been told, and its callbacks been handed on.
    It holds no executor and no engine: who drops the executor lets go of its engine.
    At interpreter exit the callbacks of what has ended get their turn (``_exit.Living``).
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import _exit
from .._clock import now
from .._latch import Latch
from ._callback_thread import CallbackThread

if TYPE_CHECKING:
    from .._core import Core
    from ._call_future import CallFuture

__all__ = ["Ledger"]


class Ledger:
    """Knows which futures are open, whether more may come, and when all are finished."""

    def __init__(self, name: str, *, broken: Callable[[], BaseException] | None = None) -> None:
        self._lock = threading.RLock()
        self._open: dict[CallFuture[Any], None] = {}
        self._refusal: Callable[[], BaseException] | None = None
        self._waiting: list[Latch] = []
        self._broken = broken
        self._core: weakref.ref[Core] | None = None
        self.on_broken: weakref.WeakMethod[Callable[[], None]] | None = None
        self.callbacks = CallbackThread(f"{name}-callbacks")
        self.ends = CallbackThread(f"{name}-ends")  #: ends the futures that were locked when their tasks settled
        _exit.register(self)

    @property
    def breaks(self) -> bool:
        """Say whether the first crash ends all."""
        return self._broken is not None

    def belongs_to(self, core: Core) -> None:
        """Note whose tasks the futures stand for."""
        if self._core is None:
            self._core = weakref.ref(core)
            self.callbacks.is_inline = self.ends.is_inline = core.scheduler.is_inline

    def enter(self, future: CallFuture[Any]) -> None:
        """Count ``future`` in, which is about to be submitted.

        Raises:
            RuntimeError: the executor was shut down, or has broken.
        """
        with self._lock:
            if self._refusal is not None:
                raise self._refusal()
            self._open[future] = None

    def leave(self, future: CallFuture[Any]) -> None:
        """Note that ``future`` has ended, and everybody been told."""
        with self._lock:
            self._open.pop(future, None)
            waiting = list(self._waiting) if self._waiting else ()
        for latch in waiting:
            latch.set()

    def refuse(self, why: Callable[[], BaseException]) -> None:
        """Let no more futures in; the first reason stays."""
        with self._lock:
            if self._refusal is None:
                self._refusal = why

    def open(self) -> list[CallFuture[Any]]:
        """Return what is open, the oldest first."""
        with self._lock:
            return list(self._open)

    def break_all(self) -> None:
        """End every open future as a standard pool does that has lost a process; let no more in."""
        broken = self._broken
        assert broken is not None
        with self._lock:
            self._refusal = broken
            futures = list(self._open)
        for future in futures:
            future.fail(broken())
        told = self.on_broken() if self.on_broken is not None else None
        if told is not None:
            told()

    def check(self) -> None:
        """Raise why no more futures are let in, if that is so."""
        with self._lock:
            refusal = self._refusal
        if refusal is not None:
            raise refusal()

    @property
    def is_broken(self) -> bool:
        """Say whether a crash has ended all."""
        return self._broken is not None and self._refusal is self._broken

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until no future is open; False: not in ``timeout`` seconds."""
        end = None if timeout is None else now() + timeout
        while True:
            changed = Latch()
            with self._lock:
                if not self._open:
                    return True
                self._waiting.append(changed)
            try:
                if not changed.wait(None if end is None else max(0.0, end - now())):
                    return False
            finally:
                with self._lock:
                    self._waiting.remove(changed)

    def finish(self, timeout: float | None = None) -> bool:
        """Wait until the futures whose tasks have settled are ended and called back for; False: not in ``timeout``."""
        end = None if timeout is None else now() + timeout
        return self.ends.finish(timeout) and self.callbacks.finish(None if end is None else max(0.0, end - now()))

    # -- at exit and after a fork (``_exit.Living``)

    def is_somebodys(self) -> bool:
        """Say whether a thread has the engine in its hands that the interpreter waits for."""
        core = self._core() if self._core is not None else None
        return core is not None and core.is_somebodys()

    def begin_exit(self, drain: float) -> None:
        """Leave this to the engine."""

    def hurry_exit(self) -> None:
        """Leave this to the engine."""

    def wait_ended(self, seconds: float) -> bool:
        """Wait until the engine has ended what is open, and the callbacks were called."""
        end = now() + seconds
        return self.wait(seconds) and self.finish(max(0.0, end - now()))

    def abort(self, why: str) -> None:
        """Leave what is still being called: its thread ends with the process."""

    def forget_in_child(self) -> None:
        """In a forked child: another thread of the parent may have held the lock at the fork."""
        self._lock = threading.RLock()
