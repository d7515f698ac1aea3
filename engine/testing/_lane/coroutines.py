"""What the checks run as tasks in the loop lane: ``functions.py``, as coroutines."""

import asyncio
import os
import time
from typing import Any

from ... import current_task
from . import functions
from .functions import mark


async def give(value: Any, *, times: int = 1) -> Any:
    return functions.give(value, times=times)


async def touch(path: str) -> str:
    return functions.touch(path)


async def fail(text: str) -> None:
    functions.fail(text)


async def throw(error: BaseException) -> None:
    raise error


async def hold(folder: str, name: str, go: str = "go") -> str:
    mark(f"{folder}/{name}.begun", str(os.getpid()))
    try:
        while not os.path.exists(f"{folder}/{go}"):
            await asyncio.sleep(0.001)
        return name
    finally:
        mark(f"{folder}/{name}.ended")


async def resist(folder: str, name: str, go: str = "go") -> str:
    mark(f"{folder}/{name}.begun", str(os.getpid()))
    while not os.path.exists(f"{folder}/{go}"):
        try:
            await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            mark(f"{folder}/{name}.resisted")
    mark(f"{folder}/{name}.ended")
    return name


async def stay(path: str, seconds: float) -> None:
    came = time.monotonic()
    await asyncio.sleep(seconds)
    mark(path, f"{came} {time.monotonic()}")


async def stumble(path: str, failures: int) -> int:
    await asyncio.sleep(0)
    return functions.stumble(path, failures)


async def dawdle(path: str, go: str) -> int:
    came = time.monotonic()
    try:
        while not os.path.exists(path) and not os.path.exists(go):
            await asyncio.sleep(0.001)
    finally:
        mark(path, f"{came} {time.monotonic()}")
    return current_task().attempt


async def about_me() -> tuple[int | None, str, int, float | None, bool]:
    return functions.about_me()


async def report(folder: str, name: str) -> str:
    current_task().progress(3, 10, "three of ten")
    return await hold(folder, name)


async def length(thing: Any) -> int:
    return functions.length(thing)


async def make_blob(size: int) -> functions.Blob:
    return functions.make_blob(size)
