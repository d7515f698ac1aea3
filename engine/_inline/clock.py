"""Time that passes only when somebody says so.

Guarantees
    One thread. ``now`` never goes back. Whatever is due at an instant is done at that instant, in order, before time
    goes on to the next.
"""

from __future__ import annotations

import weakref
from typing import Protocol

from .. import _checks, _current
from .._states import Lane
from ..errors import TaskCancelled

__all__ = ["VirtualClock"]


class Part(Protocol):
    """Something that lives in virtual time: an inline engine."""

    def settle(self) -> None:
        """Do what is to be done at this instant."""

    def next_at(self) -> float | None:
        """Return the next instant at which there is something to do, None for none; asked after ``settle``."""


class VirtualClock:
    """A clock for tests: ``advance`` moves it, and so does whoever waits for a task of an inline engine.

    Several engines may share one: ``InlineEngine(clock=clock)``.

    Raises:
        ValueError: ``start`` is no number of seconds from 0 to 1e9.
    """

    def __init__(self, start: float = 0.0) -> None:
        self._now = _checks.seconds("start", start, zero=True)
        self._parts: weakref.WeakSet[Part] = weakref.WeakSet()

    def now(self) -> float:
        """Return the time, in seconds; pass this method to code that takes a clock such as ``time.monotonic``."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass: timeouts strike, pauses end, coroutines wake, each at its instant.

        Raises:
            ValueError: ``seconds`` is no number of seconds, zero or more.
        """
        end = self._now + _checks.seconds("seconds", seconds, zero=True)
        while self.step(end):
            pass
        self._now = max(self._now, end)
        self.settle()

    def sleep(self, seconds: float) -> None:
        """Let ``seconds`` pass, as ``time.sleep`` does: give it to a function under test in that one's place.

        In a process task it ends where the task's timeout strikes, as ``time.sleep`` does in a worker process; in a
        thread task the function finds out at its next ``checkpoint()``, or at its end.

        Raises:
            TaskCancelled: the process task that runs here was cancelled or timed out meanwhile.
        """
        end = self._now + _checks.seconds("seconds", seconds, zero=True)
        running = _current.running.get()
        is_interruptible = running is not None and running.owner.lane is Lane.PROCESS
        while not (is_interruptible and running.cancel_requested) and self.step(end):
            pass
        if is_interruptible and running.cancel_requested:
            raise TaskCancelled
        self._now = max(self._now, end)
        self.settle()

    def __repr__(self) -> str:
        return f"<VirtualClock at {self._now:.6g} s>"

    # -- for the engines

    def join(self, part: Part) -> None:
        """Have ``part`` live by this clock, for as long as somebody has it."""
        self._parts.add(part)

    def leave(self, part: Part) -> None:
        """Forget ``part``."""
        self._parts.discard(part)

    def settle(self) -> None:
        """Have everybody do what is to be done at this instant."""
        for part in list(self._parts):
            part.settle()

    def step(self, end: float | None = None) -> bool:
        """Go to the next instant at which something is due, and do it. False: there is none, or none by ``end``."""
        self.settle()
        instants = [at for part in list(self._parts) if (at := part.next_at()) is not None]
        if not instants or (end is not None and min(instants) > end):
            return False
        self._now = max(self._now, min(instants))
        self.settle()
        return True

    def jump(self, instant: float) -> None:
        """Be at ``instant`` without doing anything, unless that is past already."""
        self._now = max(self._now, instant)
