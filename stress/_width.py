"""Did all slots come back? Each lane runs its full width at once, and not one more.

A slot that was forgotten makes a lane too narrow, one that was given back twice makes it too wide. So three times as
many calls as fit are submitted, each of which stays until it is told to leave: those that have entered are counted.
"""

import asyncio
import os
import threading
import time
from pathlib import Path
from typing import Any

from engine import Engine, Lane

__all__ = ["widths"]

SETTLE = 0.2  #: seconds in which one too many would enter


async def widths(engine: Engine, folder: str, *, patience: float) -> dict[str, list[int]]:
    """Return for each lane that is not as wide as it should be: its slots, and how many calls were inside at once."""
    slots = {lane: engine.snapshot().lanes[lane].slots for lane in Lane}
    inside = {
        Lane.LOOP: await _loop_width(engine, slots[Lane.LOOP], patience),
        Lane.THREAD: await _thread_width(engine, slots[Lane.THREAD], patience),
        Lane.PROCESS: await _process_width(engine, slots[Lane.PROCESS], folder, patience),
    }
    return {lane.value: [slots[lane], inside[lane]] for lane in Lane if inside[lane] != slots[lane]}


async def _count(entered: Any, slots: int, patience: float) -> int:
    """Wait until ``slots`` calls have entered, and a little longer."""
    end = time.monotonic() + patience
    while entered() < slots and time.monotonic() < end:
        await asyncio.sleep(0.005)
    await asyncio.sleep(SETTLE)
    return int(entered())


async def _loop_width(engine: Engine, slots: int, patience: float) -> int:
    entered: list[int] = []
    leave = asyncio.Event()

    async def stay(number: int) -> None:
        entered.append(number)
        await leave.wait()

    tasks = [engine.submit(stay, number) for number in range(3 * slots)]
    count = await _count(lambda: len(entered), slots, patience)
    leave.set()
    await _end(tasks, patience)
    return count


async def _thread_width(engine: Engine, slots: int, patience: float) -> int:
    entered: list[int] = []
    leave = threading.Event()

    def stay(number: int) -> None:
        entered.append(number)
        leave.wait(2 * patience)

    tasks = [engine.options(lane="thread").submit(stay, number) for number in range(3 * slots)]
    count = await _count(lambda: len(entered), slots, patience)
    leave.set()
    await _end(tasks, patience)
    return count


async def _process_width(engine: Engine, slots: int, folder: str, patience: float) -> int:
    inside = Path(folder, "inside")
    inside.mkdir()
    leave = Path(folder, "leave")
    view = engine.options(lane="process")
    tasks = [view.submit(_stay, str(inside), str(leave), number, 2 * patience) for number in range(3 * slots)]
    count = await _count(lambda: len(os.listdir(inside)), slots, patience)
    leave.touch()
    await _end(tasks, patience)
    return count


def _stay(inside: str, leave: str, number: int, seconds: float) -> None:
    """Stay in a worker until the file ``leave`` is there."""
    with open(os.path.join(inside, str(number)), "x"):
        pass
    end = time.monotonic() + seconds
    while not os.path.exists(leave) and time.monotonic() < end:
        time.sleep(0.005)


async def _end(tasks: list[Any], patience: float) -> None:
    await asyncio.wait(tasks, timeout=patience)
    for task in tasks:
        task.cancel()
