"""How soon does the engine notice that a worker is dead, and how soon does a slot that was cleared run again?

    python -m stress recovery [--rounds N] [--check] [NAME ...]

Expected: a row for each figure with median, 99th percentile and target, then one line of JSON. Each round is one death,
cancel or timeout. With ``--check`` a missed target ends it with 1; on a machine that does other work, that says little:
a worker that starts, or a parent that is to notice, has to be given a processor first. The first row says how slow the
machine is: a bare interpreter starts in about 10 ms on a quiet one, a worker in two to three times that.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from typing import Any

from engine import Engine, Task, TaskTimeout, WorkerCrashed
from stress._promises import Figure, report

STUCK = 60.0  #: seconds; what is killed would take so long


# -- what is measured -----------------------------------------------------------------------------------------------


#: What runs next: it returns the time, on the clock that all processes share, and a new worker need import nothing.
instant = time.monotonic


async def bare_start(rounds: int) -> list[float]:
    """Time of an interpreter that does nothing: what the others are to be seen against."""
    times = []
    for _ in range(rounds):
        begun = time.monotonic()
        process = await asyncio.create_subprocess_exec(sys.executable, "-I", "-c", "")
        await process.wait()
        times.append((time.monotonic() - begun) * 1e3)
    return times


async def running(engine: Engine, task: Task[Any]) -> int:
    """Wait until ``task`` runs; return the pid of its worker."""
    while True:
        for worker in engine.snapshot().workers:
            if worker.task_id == task.id and worker.pid is not None:
                return worker.pid
        await asyncio.sleep(0.001)


async def spare_is_ready(engine: Engine) -> None:
    """Wait until a worker stands by."""
    while not any(worker.state == "idle" for worker in engine.snapshot().workers):
        await asyncio.sleep(0.001)


async def death(rounds: int) -> list[float]:
    """Time from the SIGKILL of a busy worker to the failure of its task."""
    times = []
    async with Engine(processes=2) as engine:
        for _ in range(rounds):
            task = engine.submit(time.sleep, STUCK)
            pid = await running(engine, task)
            killed = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(WorkerCrashed):
                await task
            times.append((time.monotonic() - killed) * 1e3)
    return times


async def own_death(rounds: int) -> list[float]:
    """Time from a worker's own end in the middle of a task to the failure of the task."""
    times = []
    async with Engine(processes=2) as engine:
        for _ in range(rounds):
            try:
                await engine.submit(end_with_the_time)
            except WorkerCrashed as error:
                times.append((time.monotonic() - float(error.stderr.split()[-1])) * 1e3)
    return times


def end_with_the_time() -> None:
    """Write the time, and end this process by a signal."""
    os.write(2, f"{time.monotonic()}\n".encode())
    os.kill(os.getpid(), signal.SIGKILL)


async def after_cancel(rounds: int) -> list[float]:
    """Time from a cancel to the start of the next task in that slot; a spare worker stands by."""
    times = []
    async with Engine(processes=1, grace=0) as engine:
        await cancel_one(engine)  # from the first interrupted task on it keeps a spare
        for _ in range(rounds):
            times.append(await cancel_one(engine, spare=True))
    return times


async def without_spare(rounds: int) -> list[float]:
    """Time from the first cancel of an engine, which has no spare yet, to the start of the next task in that slot."""
    times = []
    for _ in range(rounds):
        async with Engine(processes=1, grace=0) as engine:
            times.append(await cancel_one(engine))
    return times


async def cancel_one(engine: Engine, *, spare: bool = False) -> float:
    """Cancel a running task, and return how many milliseconds later the next one runs."""
    task = engine.submit(time.sleep, STUCK)
    await running(engine, task)
    if spare:
        await spare_is_ready(engine)
    following = engine.submit(instant)
    cancelled = time.monotonic()
    task.cancel()
    return (await following - cancelled) * 1e3


async def after_timeout(rounds: int) -> list[float]:
    """Time from the deadline of a task to the start of the next one in that slot; a spare worker stands by."""
    times: list[float] = []
    timeout = 0.5
    async with Engine(processes=1, grace=0) as engine:
        await cancel_one(engine)
        while len(times) < rounds:
            task = engine.options(timeout=timeout).submit(time.sleep, STUCK)
            following = engine.submit(instant)
            await running(engine, task)
            await spare_is_ready(engine)
            is_in_time = not task.done()
            with contextlib.suppress(TaskTimeout):
                await task
            ran = await following
            assert task.started_at is not None
            if is_in_time:
                times.append((ran - (task.started_at + timeout + time.monotonic() - time.time())) * 1e3)
            else:  # the machine is so busy that the spare took longer to start than the task had
                timeout = min(2 * timeout, STUCK / 4)
    return times


FIGURES = (
    Figure("bare-interpreter", bare_start),
    Figure("death-to-failed", death, 50, 99),
    Figure("own-death-to-failed", own_death, 50, 99),
    Figure("cancel-to-next", after_cancel, 10, 50),
    Figure("timeout-to-next", after_timeout, 10, 50),
    Figure("first-cancel-to-next", without_spare, 80, 50),
)


def main(arguments: list[str]) -> int:
    """Run the script; return 1 if ``--check`` was given and a target is missed."""
    question = (__doc__ or "").split("\n", 1)[0]
    return report("recovery", question, FIGURES, arguments, rounds=100, of_what="deaths, cancels and timeouts of each")
