"""What the tasks of the races do. Imported by worker processes, so it imports little."""

import asyncio
import os
import time

from engine import checkpoint
from stress._ledger import BEGUN, ENDED, append

__all__ = ["die", "echo", "maybe_fail", "where", "work", "work_async"]


def work(path: str, number: int, token: str, seconds: float, fails: bool) -> int:
    """Write down that it runs, for a while; fail the first time if asked to."""
    append(path, number, token, BEGUN)
    try:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            checkpoint()
            time.sleep(min(left, 0.002))
    finally:  # so what has no such line was cut short with its worker
        append(path, number, token, ENDED)
    if fails:
        raise ValueError(number)
    return number


async def work_async(path: str, number: int, token: str, seconds: float, fails: bool) -> int:
    """Do as ``work``, as a coroutine."""
    append(path, number, token, BEGUN)
    try:
        await asyncio.sleep(seconds)
    finally:
        append(path, number, token, ENDED)
    if fails:
        raise ValueError(number)
    return number


def die(path: str, number: int, token: str, seconds: float, fails: bool) -> int:
    """Take the worker process with it."""
    append(path, number, token, BEGUN)
    os._exit(9)


def echo(number: int) -> int:
    """Return ``number``."""
    return number


def maybe_fail(fails: bool, number: int) -> int:
    """Return ``number``, or fail."""
    if fails:
        raise ValueError(number)
    return number


async def where() -> asyncio.AbstractEventLoop:
    """Return the loop that it runs on."""
    return asyncio.get_running_loop()
