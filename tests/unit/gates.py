"""Tasks that wait until they are let go, fail at first or count themselves; engines with one slot in each lane."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from engine import (
    Engine,
    current_task,
)

__all__ = ["LANES", "Counted", "Flaky", "Gate", "on", "small"]

LANES = ["loop", "thread"]


@dataclass
class Gate:
    """Holds a task of either lane until it is opened, whatever it is asked."""

    swallows: int = 0  #: how many cancellations a coroutine swallows (a failing test's loop still ends it)
    started: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)

    def on(self, lane: str) -> Callable[..., Any]:
        return self.hold_loop if lane == "loop" else self.hold_thread

    def hold_thread(self, value: object = None) -> object:
        self.started.set()
        assert self.opened.wait(30)
        self.left.set()
        return value

    async def hold_loop(self, value: object = None) -> object:
        self.started.set()
        while not self.opened.is_set():
            try:
                await asyncio.sleep(0.001)
            except asyncio.CancelledError:
                self.swallows -= 1
                if self.swallows < 0:
                    raise
        self.left.set()
        return value


def on(lane: str, plain: Callable[..., Any]) -> Callable[..., Any]:
    """Give ``plain`` in the kind that ``lane`` runs."""
    if lane == "thread":
        return plain

    async def coroutine(*args: Any, **kwargs: Any) -> Any:
        return plain(*args, **kwargs)

    return coroutine


def small(**settings: Any) -> Engine:
    """Make an engine with one slot in each lane."""
    return Engine(
        **{"threads": 1, "coroutines": 1, "processes": 1, "default_lane": "thread", "grace": 0.05, **settings}
    )


class Counted:
    """Counts how many tasks are inside at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.now = self.most = 0

    def __enter__(self) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.now -= 1

    def pause(self) -> None:
        """Let other threads run."""
        threading.Event().wait(0.002)

    def thread(self) -> None:
        with self:
            self.pause()

    async def loop(self) -> None:
        with self:
            await asyncio.sleep(0.002)


class Flaky:
    """Fails some times, then gives its attempt's number."""

    def __init__(self, failures: int, error: type[BaseException] = OSError) -> None:
        self.failures = failures
        self.error = error
        self.attempts: list[int] = []

    def __call__(self) -> int:
        self.attempts.append(current_task().attempt)
        if len(self.attempts) <= self.failures:
            raise self.error("flaky")
        return self.attempts[-1]
