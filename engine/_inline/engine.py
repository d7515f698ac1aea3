"""A BlockingEngine for tests: it runs everything on the caller's thread, in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import _checks
from .._blocking import BlockingEngine
from .._engine import Engine, nothing_done, started_before
from .._stop import ShutdownReport
from .._task import Task
from .calls import InlineCalls
from .clock import VirtualClock
from .core import InlineCore

__all__ = ["InlineEngine"]


def _no_jitter() -> float:
    return 0.5


class InlineEngine(InlineCalls, BlockingEngine):
    """A BlockingEngine without threads and processes, whose time passes only when somebody waits or says so.

    ``with InlineEngine() as engine:`` has all that a BlockingEngine has, and its tasks are real Tasks: the same states,
    retries, timeouts, priorities, errors. It belongs to the thread that starts it.

    Args:
        clock: a ``VirtualClock``, which several engines may share; by default one of its own.
        autorun: run a task when it is submitted. With False it waits until ``run_next``, ``run_until_idle``, or
            somebody who waits for it (``result``, ``run``, ``map``, leaving the block).
        check_pickle: have function, arguments, results and errors of process tasks go through pickle and back.
        rng: numbers in [0, 1) for the jitter of ``Retry``; by default there is none.
        settings: those of ``Engine``. What only concerns real threads and processes is checked, and has no effect.

    Raises:
        ValueError: a value is out of range.
    """

    def __init__(
        self, *, clock: VirtualClock | None = None, autorun: bool = True, check_pickle: bool = False,
        rng: Callable[[], float] = _no_jitter, **settings: Any,
    ) -> None:  # fmt: skip
        BlockingEngine.__init__(self, Engine(**settings))
        self.clock: VirtualClock = (
            VirtualClock() if clock is None else _checks.instance("clock", clock, VirtualClock, "a VirtualClock")
        )
        self._autorun = _checks.flag("autorun", autorun)
        self._check_pickle = _checks.flag("check_pickle", check_pickle)
        self._rng = rng

    def start(self) -> InlineEngine:
        """Start on this thread. ``with`` does it for you, and stops it; else call ``stop``.

        Raises:
            RuntimeError: the engine was started before; an engine lives once.
        """
        if self._engine._running is not None:
            raise started_before(self._engine._running)
        self._engine._running = InlineCore(
            self._engine._settings, self.clock, autorun=self._autorun, check_pickle=self._check_pickle, rng=self._rng
        )
        return self

    def __enter__(self) -> InlineEngine:
        return self.start()

    def __repr__(self) -> str:
        return f"{repr(self._engine).replace('Engine', 'InlineEngine', 1)[:-1]} at {self.clock.now():.6g} s>"

    @property
    def _inline(self) -> InlineCore:
        core = self._engine._core
        assert isinstance(core, InlineCore)
        return core

    def run_next(self) -> Task[Any] | None:
        """Run the most urgent task that is ready, to the end of its attempt, and return it; None if none is.

        Coroutines go on first, all that can. Time stands still.
        """
        return self._inline.run_next()

    def run_until_idle(self) -> int:
        """Run all that is ready now, and what that submits; return how many attempts of functions that were.

        Time stands still: what waits for its next attempt, or sleeps, goes on waiting; see ``clock.advance``.
        """
        return self._inline.run_until_idle()

    def stop(self, timeout: float | None = None, *, cancel_pending: bool = False) -> ShutdownReport:
        """Stop as ``BlockingEngine.stop`` does, in virtual time. Idempotent.

        Called by a coroutine of its own or by a done callback, it begins to stop and reports what there is so far.
        """
        if timeout is not None:
            timeout = _checks.seconds("timeout", timeout, zero=True, remedy="use timeout=None to wait for all work")
        _checks.flag("cancel_pending", cancel_pending)
        core = self._engine._running
        if core is None:
            return nothing_done()
        assert isinstance(core, InlineCore)
        if not core.stopper.ended.done():
            core.ask_to_stop(timeout, cancel_pending)
            if core.loop.is_running():
                return core.stopper.report_so_far()
            try:
                core.end()
            except BaseException:  # something waits for ever, or Ctrl-C
                core.ask_to_stop(0, grace=0.0)
                core.end()
                raise
        core.close()
        return core.stopper.ended.result()
