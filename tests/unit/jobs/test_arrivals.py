"""The way of tasks that are done back to the home loop."""

import asyncio
import threading
from functools import partial
from typing import Any, cast

from engine import Engine, Task
from engine.jobs._records import Claimed
from engine.jobs._worker.arrivals import Arrivals
from engine.jobs._worker.run import Run
from tests.support import eventually_async


def run_of(number: int) -> Run:
    return Run(Claimed(number, 1, "default", "work", "{}", 1, 0, 0, 0.0, None, False), None, None)


class Taker:
    """Remembers what arrived, and where; ``fails`` are the ids for which it raises."""

    def __init__(self, *fails: int) -> None:
        self.taken: list[int] = []
        self.threads: set[int] = set()
        self.fails = fails

    def take(self, run: Run, task: Task[Any]) -> None:
        self.taken.append(run.job.id)
        self.threads.add(threading.get_ident())
        if run.job.id in self.fails:
            raise RuntimeError(f"no {run.job.id}")


async def test_what_is_done_in_threads_processes_and_on_the_loop_arrives_on_the_home_loop() -> None:
    """Each run ends once."""
    taker = Taker()
    arrivals = Arrivals(taker.take)
    async with Engine(processes=1) as engine:
        for number, lane in enumerate(["thread", "process"] * 5):
            engine.options(lane=lane)._submitting(int)(partial(arrivals.note, run_of(number)), (number,), {})
        for number in range(10, 15):
            engine._submitting(asyncio.sleep)(partial(arrivals.note, run_of(number)), (), {"delay": 0})
        await eventually_async(lambda: len(taker.taken) == 15)
    assert sorted(taker.taken) == list(range(15))
    assert taker.threads == {threading.get_ident()}


async def test_a_burst_is_one_call_of_the_loop_and_an_error_in_it_costs_nobody_else_an_end() -> None:
    """The loop's handler hears of the error."""
    taker, told = Taker(2, 3), list[dict[str, Any]]()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(context))
    arrivals = Arrivals(taker.take)
    nobody = cast("Task[Any]", None)
    for number in range(1, 6):
        arrivals.note(run_of(number), nobody)
    await asyncio.sleep(0)  # one turn
    assert taker.taken == [1, 2, 3, 4, 5]
    assert [str(each["exception"]) for each in told] == ["no 2", "no 3"]


async def test_an_interrupt_in_the_middle_of_a_burst_leaves_the_rest_to_the_next_turn() -> None:
    """Whoever catches a Ctrl-C and lets the loop turn again finds it."""
    taken: list[int] = []

    def take(run: Run, task: Task[Any]) -> None:
        taken.append(run.job.id)
        if run.job.id == 1:
            raise KeyboardInterrupt

    arrivals = Arrivals(take)
    arrivals._arrived.extend((run_of(number), cast("Task[Any]", None)) for number in (1, 2, 3))
    try:
        arrivals._take_all()
    except KeyboardInterrupt:
        pass
    assert taken == [1]
    await asyncio.sleep(0)
    assert taken == [1, 2, 3]


async def test_what_is_noted_while_a_burst_is_taken_is_taken_too() -> None:
    """Who notes looks at the flag after it has appended, who takes clears it first."""
    taken: list[int] = []

    def take(run: Run, task: Task[Any]) -> None:
        taken.append(run.job.id)
        if run.job.id < 5:
            arrivals.note(run_of(run.job.id + 1), task)

    arrivals = Arrivals(take)
    arrivals.note(run_of(1), cast("Task[Any]", None))
    await eventually_async(lambda: taken == [1, 2, 3, 4, 5])


def test_what_is_done_after_its_loop_was_closed_is_dropped_in_silence() -> None:
    """Nobody is left to take it."""
    taker = Taker()

    async def make() -> Arrivals:
        return Arrivals(taker.take)

    arrivals = asyncio.run(make())
    arrivals.note(run_of(1), cast("Task[Any]", None))
    assert taker.taken == []
