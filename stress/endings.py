"""How long does a stop take past what it was given, and how long does a program take to end?

    python -m stress endings [--rounds N] [--check] [NAME ...]

Expected: a row for each figure with median, 99th percentile and target, then one line of JSON. ``stop-*`` is the time
from the call to the end of the engine, less ``timeout`` and ``grace``, in milliseconds, of engines with more work than
they can ever end: a worker that loops, one that catches every interrupt, a thread that sleeps, a coroutine that
catches every cancellation, and 500 tasks that wait. ``exit-*`` and ``ctrl-c-*`` are programs with the same work, from
their last line, or the signal, to their end; their coroutine gives in to the second cancellation, since ``asyncio.run``
itself waits for ever for one that does not. With ``--check`` a missed target ends it with 1.
"""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from engine import BlockingEngine, Engine
from stress._promises import Figure, report

GIVEN = ((0.0, 0.0), (0.0, 0.3), (0.2, 0.0), (0.2, 0.2))  #: timeouts and graces, in seconds, in turn
Stop = Callable[[Engine, float], Awaitable[None]]


# -- work without an end --------------------------------------------------------------------------------------------


def loop_for_ever() -> None:
    """Keep a processor."""
    while True:
        pass


def catch_interrupts() -> None:
    """Go on whatever is asked."""
    while True:
        try:
            time.sleep(60)
        except BaseException:
            continue


async def catch_cancellations(until: asyncio.Event, most: int) -> None:
    """Go on whatever is asked, up to ``most`` times."""
    for _ in range(most):
        try:
            await until.wait()
        except asyncio.CancelledError:
            continue
        return


def load(engine: Engine | BlockingEngine, until: asyncio.Event, most: int = 1000) -> None:
    """Give ``engine`` more than it can ever end."""
    engine.submit(loop_for_ever)
    engine.submit(catch_interrupts)
    engine.options(lane="thread").submit(time.sleep, 3)
    engine.submit(catch_cancellations, until, most)
    for number in range(500):
        engine.submit(abs, number)


# -- ways to stop ---------------------------------------------------------------------------------------------------


async def outside(engine: Engine, timeout: float) -> None:
    """From a coroutine of the program."""
    await engine.stop(timeout=timeout)


async def inside(engine: Engine, timeout: float) -> None:
    """From a coroutine task of the engine itself, which it cannot wait for."""
    asked = engine.submit(engine.stop, timeout)
    await asyncio.wait([asyncio.ensure_future(engine.stop())])
    assert asked.done()


async def in_callback(engine: Engine, timeout: float) -> None:
    """From a done callback."""
    task = engine.options(lane="loop").submit(asyncio.sleep, 0)
    task.add_done_callback(lambda _: stops.append(asyncio.ensure_future(engine.stop(timeout=timeout))))
    stops: list[asyncio.Future[object]] = []
    while not stops:
        await asyncio.sleep(0)
    await stops[0]


async def from_thread(engine: Engine, timeout: float) -> None:
    """From another loop, in another thread."""
    await asyncio.to_thread(asyncio.run, _stop(engine, timeout))


async def from_signal(engine: Engine, timeout: float) -> None:
    """From a signal handler of the loop."""
    loop = asyncio.get_running_loop()
    stops: list[asyncio.Future[object]] = []
    loop.add_signal_handler(signal.SIGUSR1, lambda: stops.append(asyncio.ensure_future(engine.stop(timeout=timeout))))
    try:
        os.kill(os.getpid(), signal.SIGUSR1)
        while not stops:
            await asyncio.sleep(0)
        await stops[0]
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)


async def many(engine: Engine, timeout: float) -> None:
    """Ten times at once, one of them without a bound."""
    await asyncio.gather(engine.stop(), *[engine.stop(timeout=timeout) for _ in range(9)])


async def _stop(engine: Engine, timeout: float) -> None:
    await engine.stop(timeout=timeout)


async def past(stop: Stop, rounds: int, *, settle: float = 0.3) -> list[float]:
    """Return by how much a stop took longer than its timeout and the engine's grace, in milliseconds."""
    times = []
    for number in range(rounds):
        timeout, grace = GIVEN[number % len(GIVEN)]
        until = asyncio.Event()
        engine = await Engine(processes=2, threads=2, grace=grace).start()
        load(engine, until)
        await asyncio.sleep(settle)  # that all of it runs; 0: while workers start
        began = time.monotonic()
        await stop(engine, timeout)
        times.append((time.monotonic() - began - timeout - grace) * 1e3)
        until.set()
    return times


async def blocking(rounds: int) -> list[float]:
    """The same of an engine with a private loop, half of the time from another thread."""
    return await asyncio.to_thread(_blocking, rounds)


def _blocking(rounds: int) -> list[float]:
    times = []
    for number in range(rounds):
        timeout, grace = GIVEN[number % len(GIVEN)]
        until = asyncio.Event()
        engine = BlockingEngine(processes=2, threads=2, grace=grace).__enter__()
        load(engine, until)
        time.sleep(0.3)
        stop = partial(engine.stop, timeout=timeout)
        began = time.monotonic()
        if number % 2:
            stop()
        else:
            thread = threading.Thread(target=stop)
            thread.start()
            thread.join()
        times.append((time.monotonic() - began - timeout - grace) * 1e3)
    return times


# -- programs -------------------------------------------------------------------------------------------------------

PROGRAM = """
import asyncio, sys, time
from engine import Engine
from stress.endings import load
if sys.argv[1] == "asyncio":
    async def main():
        async with Engine(processes=2, threads=2) as engine:
            load(engine, asyncio.Event(), 1)
            await asyncio.sleep(0.3)
            print("now", flush=True)
            await asyncio.sleep(60)
    asyncio.run(main())
elif sys.argv[1] == "block":
    with Engine(processes=2, threads=2) as engine:
        load(engine, asyncio.Event(), 1)
        time.sleep(0.3)
        print("now", flush=True)
        time.sleep(60)
else:
    engine = Engine(processes=2, threads=2).__enter__()
    load(engine, asyncio.Event(), 1)
    time.sleep(0.3)
    print("now", flush=True)
    if sys.argv[1] == "module-wait":
        time.sleep(60)
"""


async def program(kind: str, presses: int, rounds: int) -> list[float]:
    """Return how long a program takes to end, from its last line or the first Ctrl-C on."""
    return await asyncio.to_thread(_program, kind, presses, rounds)


def _program(kind: str, presses: int, rounds: int) -> list[float]:
    times = []
    for _ in range(rounds):
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, kind], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            cwd=Path(__file__).parents[1], start_new_session=True,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            process.stdout.readline()
            began = time.monotonic()
            for _ in range(presses):
                os.killpg(process.pid, signal.SIGINT)
                time.sleep(0.05)
            process.wait(timeout=60)
            times.append((time.monotonic() - began) * 1e3)
        finally:
            process.kill()
            process.communicate()
    return times


FIGURES = (
    Figure("stop-outside", partial(past, outside), 1000, 100),
    Figure("stop-during-start", partial(past, outside, settle=0.0), 1000, 100),
    Figure("stop-inside", partial(past, inside), 1000, 100),
    Figure("stop-in-callback", partial(past, in_callback), 1000, 100),
    Figure("stop-from-thread", partial(past, from_thread), 1000, 100),
    Figure("stop-from-signal", partial(past, from_signal), 1000, 100),
    Figure("stop-ten-times", partial(past, many), 1000, 100),
    Figure("stop-blocking", blocking, 1000, 100),
    Figure("ctrl-c-asyncio", partial(program, "asyncio", 1), 3000, 100),
    Figure("ctrl-c-twice-asyncio", partial(program, "asyncio", 2), 3000, 100),
    Figure("ctrl-c-blocking", partial(program, "block", 1), 3000, 100),
    Figure("ctrl-c-twice-blocking", partial(program, "block", 2), 3000, 100),
    Figure("ctrl-c-module", partial(program, "module-wait", 1), 3000, 100),
    Figure("exit-module", partial(program, "module", 0), 5000, 100),
)


def main(arguments: list[str]) -> int:
    """Run the script; return 1 if ``--check`` was given and a target is missed."""
    question = (__doc__ or "").split("\n", 1)[0]
    return report("endings", question, FIGURES, arguments, rounds=20, of_what="stops and programs of each kind")
