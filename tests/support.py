"""What tests share: ordering threads, running coroutines; and from ``engine.testing`` waiting, and finding leaks."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

from engine.testing.leaks import Leftovers, children
from engine.testing.waiting import eventually, eventually_async

__all__ = [
    "REPOSITORY", "Interrupted", "Leftovers", "Sequencer", "children", "eventually", "eventually_async",
    "run_async_test",
]  # fmt: skip

REPOSITORY = Path(__file__).resolve().parents[1]

ASYNC_TEST_TIMEOUT = 60.0  #: seconds; below pytest's own watchdog (faulthandler_timeout), which ends the whole run
TASK_PATIENCE = 1.0  #: seconds that a cancelled asyncio task has to unwind before it counts as left behind
LEAK_PATIENCE = 5.0  #: seconds that threads, processes and descriptors have to go away after a test


class Interrupted(BaseException):
    """Stands for a KeyboardInterrupt, which would end the loop of the test."""


# -- ordering threads -------------------------------------------------------------------------------------------------


class Sequencer:
    """Steps that threads take in a fixed order: ``with sequence(2): ...`` waits until steps 0 and 1 are over.

    Each number is used once. A step that raises still lets the next one go, so that a failure is seen, not waited for.
    """

    def __init__(self, timeout: float = 10.0) -> None:
        self._timeout = timeout
        self._next = 0
        self._moved = threading.Condition()

    @contextlib.contextmanager
    def __call__(self, step: int) -> Iterator[None]:
        with self._moved:
            if not self._moved.wait_for(lambda: self._next >= step, self._timeout):
                raise AssertionError(f"step {step} waited {self._timeout} s for step {self._next} to end")
            assert self._next == step, f"step {step} was taken twice: step {self._next} is next"
        try:
            yield
        finally:
            with self._moved:
                self._next += 1
                self._moved.notify_all()


# -- async tests ------------------------------------------------------------------------------------------------------


async def run_async_test(test: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Run one ``async def`` test: at most ``ASYNC_TEST_TIMEOUT`` seconds, and no asyncio task may outlive it."""
    limit = asyncio.timeout(ASYNC_TEST_TIMEOUT)
    try:
        async with limit:
            await test()
    except TimeoutError as error:
        if limit.expired():
            raise AssertionError(f"the test took more than {ASYNC_TEST_TIMEOUT} s{await _tasks_left()}") from error
        raise
    except Exception as error:
        if left := await _tasks_left():
            error.add_note(left)
        raise
    if left := await _tasks_left():
        raise AssertionError(left)


async def _tasks_left() -> str:
    """Name the asyncio tasks of this loop that are still pending; empty if none."""
    end = time.monotonic() + TASK_PATIENCE
    while left := asyncio.all_tasks() - {asyncio.current_task()}:
        if time.monotonic() >= end:
            return "\nthe test left asyncio tasks pending: " + "; ".join(sorted(map(repr, left)))
        await asyncio.sleep(0.005)
    return ""
