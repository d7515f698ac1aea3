"""An event loop in virtual time: it turns while there is something to do, and never waits.

Guarantees
    ``turn`` returns when nothing is left to do at this instant; ``idle_for`` then says how far the next timer is. What
    the loop asks of its selector tells both: a selector is asked to wait exactly when nothing is ready.
    An instant lasts until what another thread has promised is there: no virtual time passes while a store is asked.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import selectors
from collections.abc import Callable
from typing import Any, TypeVarTuple

__all__ = ["VirtualLoop"]

Ts = TypeVarTuple("Ts")

_ERROR = 1e-6  #: seconds; more than a rounding error, up to an instant of 2e9
_PROMISED_SECONDS = 60.0  #: real ones, in which what was promised is believed to come


class _Selector(selectors.DefaultSelector):
    """A selector that does not wait but tells ``on_idle`` how long it was to."""

    def __init__(self) -> None:
        super().__init__()
        self.on_idle: Callable[[float | None], None]
        self.on_news: Callable[[], None]
        self.patience: Callable[[], float]  #: real seconds for which it waits all the same

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        is_idle = timeout is None or timeout > 0
        found = super().select(self.patience() if is_idle else 0)
        if is_idle and not found:
            self.on_idle(timeout)
        else:
            self.on_news()
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop on which the coroutines of an inline engine run; its time is that of ``clock``."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._selector_of_ours = _Selector()
        self._selector_of_ours.on_idle = self._be_idle
        self._selector_of_ours.on_news = self._be_busy
        self._selector_of_ours.patience = self._patience
        self._clock = clock
        self._waits = 0.0  #: real seconds
        self._promised: set[asyncio.Future[Any]] = set()
        self.idle_for: float | None = None  #: seconds until the next timer, None if there is none
        self.has_stood_still = False  #: the last ``wait`` was in vain, and nothing has happened since
        super().__init__(self._selector_of_ours)
        #: What is due within it is due now (asyncio's own, the same in 3.11 to 3.14). The system's is a nanosecond:
        #: late instants swallow it, and then a timer whose instant has come would be due never.
        self._clock_resolution = _ERROR
        self.slow_callback_duration = math.inf  # in its debug mode: a virtual hour is not slow

    def time(self) -> float:
        """Return the virtual time."""
        return self._clock()

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """Have ``callback`` called after ``delay``: if that is more than none, at a later instant than this one.

        A timer that finds itself a rounding error early, and waits for the rest, would stand still with the clock.
        """
        return super().call_later(max(delay, 2 * _ERROR) if delay > 0 else delay, callback, *args, context=context)

    def promise(self, future: asyncio.Future[Any]) -> None:
        """Let no virtual time pass until ``future`` is done: another thread settles it soon, whatever happens here.

        On this loop's thread. A future of this loop that is not done after a minute of real time is waited for no more.
        """
        self._promised.add(future)
        future.add_done_callback(self._promised.discard)

    def _patience(self) -> float:
        return _PROMISED_SECONDS if self._promised else self._waits

    def _be_busy(self) -> None:
        self.has_stood_still = False
        self._waits = 0.0

    def _be_idle(self, seconds: float | None) -> None:
        self._promised.clear()  # broken, if there is one
        self.idle_for = seconds
        self.stop()

    def turn(self) -> None:
        """Run all that is ready, and what that makes ready. From inside the loop it does nothing."""
        if self.is_running() or self.is_closed():
            return
        before = asyncio._get_running_loop()  # a test may be a coroutine itself
        if before is None:
            self.run_forever()
            return
        task = asyncio.current_task(before)
        if task is not None:
            asyncio._leave_task(before, task)
        asyncio._set_running_loop(None)
        try:
            self.run_forever()
        finally:
            asyncio._set_running_loop(before)
            if task is not None:
                asyncio._enter_task(before, task)

    def wait(self, seconds: float) -> None:
        """Wait up to ``seconds`` of real time for another thread or a socket, and turn."""
        self._waits = seconds
        self.has_stood_still = True
        try:
            self.turn()
        finally:
            self._waits = 0.0
