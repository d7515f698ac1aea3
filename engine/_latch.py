"""What threads wait on in here: an event that Ctrl-C cannot break.

``threading.Event`` and ``concurrent.futures.Future`` are made of a Condition written in Python: a KeyboardInterrupt in
its ``__exit__`` leaves its lock held, and whoever sets the event then waits for ever; that would be the engine's own
loop. A ``SimpleQueue`` is C: no signal is looked for while it is locked, and a signal handler may put into it.

A wait is made of pieces: a Ctrl-C that comes just before the main thread goes to sleep, or that another thread of the
process is given by the system, wakes nobody, and Python raises it when the main thread next runs.

Guarantees
    Any thread, signal handlers and the collector for ``set``. Set once; everybody who waits, now or later, goes on.
"""

import queue
from collections.abc import Callable
from typing import Protocol, TypeVar

from ._clock import now

__all__ = ["Latch", "Wait", "next_of", "wait_for"]

T = TypeVar("T")

PIECE_SECONDS = 1.0  #: of one wait, and between two looks at what a wait is for


def next_of(items: queue.SimpleQueue[T]) -> T:
    """Wait for the next of ``items``, in pieces."""
    while True:
        try:
            return items.get(timeout=PIECE_SECONDS)
        except queue.Empty:
            continue


class Latch:
    """An event that is set once."""

    __slots__ = ("_is_set", "_tokens")

    def __init__(self) -> None:
        self._is_set = False
        self._tokens: queue.SimpleQueue[None] = queue.SimpleQueue()

    def set(self, *_: object) -> None:
        """Let everybody go. Idempotent; arguments are ignored, so that it can be a callback."""
        self._is_set = True
        self._tokens.put(None)

    def is_set(self) -> bool:
        """Say whether it was set."""
        return self._is_set

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set; False if it is not after ``timeout`` seconds."""
        end = None if timeout is None else now() + timeout
        while not self._is_set:
            left = PIECE_SECONDS if end is None else end - now()
            if left <= 0:
                return self._is_set
            try:
                self._tokens.get(timeout=min(left, PIECE_SECONDS))
            except queue.Empty:
                continue
            self._tokens.put(None)  # for the next who waits
        return True


class Wait(Protocol):
    """How a thread waits for a latch, here and in the scheduler of an engine of another kind."""

    def __call__(self, latch: Latch, timeout: float | None = None, is_over: Callable[[], bool] | None = None) -> bool:
        """Return when ``latch`` is set, or ``is_over`` says so; False if neither is so after ``timeout`` seconds."""


def wait_for(latch: Latch, timeout: float | None = None, is_over: Callable[[], bool] | None = None) -> bool:
    """Do that; ``is_over`` is asked now and then."""
    if is_over is None:
        return latch.wait(timeout)
    end = None if timeout is None else now() + timeout
    while not latch.wait(PIECE_SECONDS if end is None else min(PIECE_SECONDS, max(0.0, end - now()))):
        if is_over():
            return True
        if end is not None and now() >= end:
            return False
    return True
