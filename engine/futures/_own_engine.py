"""What ProcessExecutor and ThreadExecutor share: an engine of their own, and the checks of the standard executors.

Guarantees
    Shared: ``_is_started``, guarded by ``_starting``, which is held while the engine starts.  Callers: any thread.
    An engine starts at the first call; an executor that is shut down before has started nothing.
    An executor that nobody has any more finishes what it accepted, and then ends.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .. import _checks
from .._blocking import BlockingEngine
from .._snapshot import Snapshot
from .._states import Lane
from ..errors import EngineClosed
from ._executor import EngineExecutor

if TYPE_CHECKING:
    from .._core import Core

__all__ = ["OwnEngine", "refuse_few", "refuse_few_workers", "refuse_uncallable"]

_HISTORY = 1000  #: finished calls that ``tasks()`` of such an engine remembers
_numbers = itertools.count()


class OwnEngine(EngineExecutor):
    """An executor with an engine of its own, which ends with it."""

    def __init__(
        self, lane: Lane, name: str | None, broken: Callable[[], BaseException] | None, **settings: Any
    ) -> None:
        name = name or f"{type(self).__name__}-{next(_numbers)}"
        super().__init__(None, lane, name=name, broken=broken)
        self._engine = BlockingEngine(name=name, history=_HISTORY, **settings)
        self._starting = threading.RLock()  # re-entrant: the collector may call in
        self._is_started = False

    @property
    def engine(self) -> BlockingEngine:
        """Give the engine behind it, to look inside: ``executor.engine.snapshot()``. It starts at the first call."""
        return self._engine

    def _started(self) -> BlockingEngine:
        with self._starting:
            if not self._is_started:
                self._engine.start()
                self._core.processes.tags_prints = False  # as the standard pool, whose workers just print
                self._is_started = True
                try:
                    self._ledger.check()
                except BaseException:  # shut down or broken off meanwhile, by who found nothing to stop
                    self._core.ask_to_stop(0)
                    raise
        return self._engine

    @property
    def _core(self) -> Core:
        return self._engine._inner._core

    def _refused(self, error: EngineClosed) -> RuntimeError:
        """Return ``error`` as the standard executors say it: of no other type, and their words come first."""
        what, _, said = str(error).partition(": cannot schedule new futures ")
        when, semicolon, remedy = said.partition("; ")
        return RuntimeError(f"cannot schedule new futures {when}: {what}{semicolon}{remedy}")

    def snapshot(self) -> Snapshot:
        """Return counts, workers and queues at this instant; it starts the engine."""
        return self._started().snapshot()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Shut down; at once where Ctrl-C, or an exit, leaves the block: what runs is interrupted, then killed."""
        if kind is not None and not issubclass(kind, Exception):
            self._close(cancel_futures=True)
            if self._is_started:
                self._engine.stop(timeout=0)
        self.shutdown()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Refuse more calls, wait for those that were accepted and for their callbacks, and end the workers.

        Idempotent; any thread, tasks and callbacks of its own too, which are not waited for. Ctrl-C while it waits ends
        what runs.

        Args:
            wait: False returns at once: what was accepted goes on, and the workers end when it is done.
            cancel_futures: cancel what has not started.
        """
        self._close(cancel_futures)
        with self._starting:
            is_started = self._is_started
        if not is_started:
            return
        if wait and not self._is_inside():
            self._engine.stop()
            self._ledger.finish()
        else:
            self._core.ask_to_stop(None)

    def _break_off(self, error: Callable[[], BaseException], *, kill: bool) -> None:
        """End the engine now: what waits is cancelled, what runs fails with ``error``, is asked to stop or killed."""
        self._close(cancel_futures=True)
        with self._starting:
            is_started = self._is_started
        if not is_started:
            return
        for future in self._ledger.open():
            future.fail(error())
        if kill:
            self._core.processes.kill()
        self._core.ask_to_stop(0)


def refuse_few(name: str, value: object, remedy: str) -> None:
    """Refuse what is no positive integer, with the errors of the standard executors."""
    if _checks.integer(value) is None:
        raise TypeError(f"expected {name} to be a positive integer, got {_checks.shown(value)}; {remedy}")
    _checks.positive_int(name, value, remedy=remedy)


def refuse_few_workers(max_workers: int | None) -> None:
    """Refuse what can be no number of workers."""
    if max_workers is not None:
        refuse_few("max_workers", max_workers, "max_workers must be greater than 0")


def refuse_uncallable(initializer: object) -> None:
    if initializer is not None and not callable(initializer):
        raise TypeError(f"expected initializer to be a callable, got {_checks.shown(initializer)}")
