"""Waiting for a condition, in place of a sleep: quick where it comes soon, and an error that says what never came."""

import asyncio
import inspect
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, overload

__all__ = ["eventually", "eventually_async"]

T = TypeVar("T")


def eventually(predicate: Callable[[], T], timeout: float = 10.0, message: str = "") -> T:
    """Call ``predicate`` until it gives something true and return that; fail after ``timeout`` seconds."""
    end = time.monotonic() + timeout
    pause = 0.0005
    while True:
        late = time.monotonic() >= end  # asked before the predicate: its last call comes after the deadline
        value = predicate()
        if value:
            return value
        if late:
            raise AssertionError(_never(predicate, timeout, message, value))
        time.sleep(pause)
        pause = min(0.05, pause * 2)


@overload
async def eventually_async(
    predicate: Callable[[], Coroutine[Any, Any, T]], timeout: float = ..., message: str = ...
) -> T: ...
@overload
async def eventually_async(predicate: Callable[[], T], timeout: float = ..., message: str = ...) -> T: ...
async def eventually_async(predicate: Callable[[], Any], timeout: float = 10.0, message: str = "") -> Any:
    """Do as ``eventually`` while the loop goes on turning; ``predicate`` may be a coroutine function."""
    end = time.monotonic() + timeout
    pause = 0.0005
    while True:
        late = time.monotonic() >= end
        answer = predicate()
        value = await answer if inspect.isawaitable(answer) else answer
        if value:
            return value
        if late:
            raise AssertionError(_never(predicate, timeout, message, value))
        await asyncio.sleep(pause)
        pause = min(0.05, pause * 2)


def _never(predicate: Callable[..., object], timeout: float, message: str, last: object) -> str:
    what = message or getattr(predicate, "__qualname__", repr(predicate))
    return f"expected within {timeout} s: {what}; the last answer was {last!r}"
