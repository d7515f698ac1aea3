"""A small program with an engine, for ``resources`` to send signals to: ``python _signalled.py async|blocking|busy``.

It says "up" before it imports anything, so that a signal can hit every moment of the start, "imported" when that is
over, and works for ever.
"""

import os
import sys

os.write(1, b"up\n")

import asyncio  # noqa: E402  # what is imported is part of what is interrupted
import time  # noqa: E402

from engine import Engine  # noqa: E402

os.write(1, b"imported\n")


def compute(number: int) -> int:
    """Take a moment in a worker process."""
    time.sleep(0.001 * (number % 5))
    return number


def read(number: int) -> int:
    """Take a moment on a thread."""
    time.sleep(0.001)
    return number


async def ask(number: int) -> int:
    """Take a moment on the loop."""
    await asyncio.sleep(0.001)
    return number


async def work_for_ever() -> None:
    """Keep all lanes busy."""
    async with Engine(processes=2, threads=2) as engine:
        while True:
            tasks = [engine.submit(compute, number) for number in range(10)]
            tasks += [engine.options(lane="thread").submit(read, number) for number in range(4)]
            tasks += [engine.submit(ask, number) for number in range(4)]
            await asyncio.gather(*tasks)


def work_and_block_for_ever() -> None:
    """Do the same without a loop of one's own."""
    with Engine(processes=2, threads=2) as engine:
        while True:
            for _ in engine.map(compute, range(10)):
                pass
            tasks = [engine.options(lane="thread").submit(read, number) for number in range(4)]
            tasks += [engine.submit(ask, number) for number in range(4)]
            for task in tasks:
                task.result()


def submit_for_ever() -> None:
    """Spend most of the time inside the engine's own steps: submit, cancel, look."""
    with Engine(processes=1, threads=2, max_pending=500) as engine:
        threads = engine.options(lane="thread")
        while True:
            tasks = [threads.submit(abs, number) for number in range(100)]
            tasks += [engine.submit(abs, number) for number in range(20)]
            for task in tasks[::7]:
                task.cancel()
            engine.snapshot()
            for task in tasks:
                if not task.cancelled():
                    task.exception(30)


if __name__ == "__main__":
    if sys.argv[1] == "async":
        asyncio.run(work_for_ever())
    elif sys.argv[1] == "blocking":
        work_and_block_for_ever()
    else:
        submit_for_ever()
