"""Several event loops and many threads on one engine (SCENARIOS N15, A1)."""

import asyncio
import gc
import random
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from engine import BlockingEngine, Engine, EngineClosed, Task, TaskState
from engine._lanes.base import Attempt
from engine._lanes.loop import LoopLane
from engine.testing._lane import coroutines
from tests.contracts import functions
from tests.race.together import STUCK, together
from tests.support import eventually


def give(value: int) -> int:
    return value


async def where() -> asyncio.AbstractEventLoop:
    await asyncio.sleep(0)
    return asyncio.get_running_loop()


async def on_a_loop(engine: BlockingEngine, seed: int) -> None:
    """Submit, await, gather and time out, from this loop; every coroutine and callback must run on it."""
    rng = random.Random(seed)
    here = asyncio.get_running_loop()
    called: list[asyncio.AbstractEventLoop] = []
    for number in range(40):
        kind = rng.randrange(4)
        if kind == 0:
            tasks = [engine.submit(give, number) for _ in range(5)]
            assert await asyncio.gather(*tasks) == [number] * 5
        elif kind == 1:
            assert await engine.submit(where) is here
        elif kind == 2:
            task = engine.submit(give, number)
            task.add_done_callback(lambda _: called.append(asyncio.get_running_loop()))
            both: list[Any] = [task, engine.submit(where)]
            done, _ = await asyncio.wait(both)
            assert len(done) == 2
        else:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(engine.submit(asyncio.sleep, STUCK), 0.001)
    assert set(called) <= {here}


@pytest.mark.usefixtures("switching")
def test_many_threads_and_two_loops_on_one_engine(rng: random.Random) -> None:
    """N15: 32 threads and 2 loops: the right loop is woken, and no "different loop" anywhere."""
    with Engine(threads=4, default_lane="thread") as engine:

        def thread() -> None:
            for number in range(15):
                assert engine.submit(give, number).result(STUCK) == number

        def loop(seed: int) -> Callable[[], None]:
            return lambda: asyncio.run(on_a_loop(engine, seed))

        together(*[thread] * 32, loop(rng.getrandbits(32)), loop(rng.getrandbits(32)))


def _run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(main())


@pytest.mark.usefixtures("switching")
def test_two_loops_and_a_thread_wait_for_the_same_tasks() -> None:
    """N15: a Task belongs to every loop: each awaiter is woken on its own."""
    with Engine(threads=4, default_lane="thread") as engine:
        for _ in range(20):
            go = threading.Event()
            tasks: list[Task[Any]] = [engine.submit(go.wait, STUCK) for _ in range(2)]
            tasks += [engine.submit(give, number) for number in range(5)]
            expected = [True, True, 0, 1, 2, 3, 4]

            async def gather(tasks: list[Task[Any]] = tasks, expected: list[Any] = expected) -> None:
                assert await asyncio.gather(*tasks) == expected

            def read(tasks: list[Task[Any]] = tasks, expected: list[Any] = expected) -> None:
                assert [task.result(STUCK) for task in tasks] == expected

            run = partial(_run, gather)
            together(run, run, read, go.set)


def test_one_of_two_loops_that_await_a_task_cancels_it() -> None:
    """A2: cancelling one await cancels the task, and both learn it; wait_for on one ends the other's await."""
    with Engine(threads=1, default_lane="thread", grace=0.01) as engine:
        go = threading.Event()
        task = engine.submit(go.wait, STUCK)
        outcomes: list[str] = []

        async def impatient() -> None:
            try:
                await asyncio.wait_for(task, 0.02)
            except TimeoutError:
                outcomes.append("timed out")

        async def patient() -> None:
            try:
                await task
            except asyncio.CancelledError:
                outcomes.append("cancelled")

        together(lambda: asyncio.run(impatient()), lambda: asyncio.run(patient()))
        go.set()
        assert sorted(outcomes) == ["cancelled", "timed out"]


def test_a_result_for_a_loop_that_is_closed_is_dropped_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    """A1: no "Event loop is closed", and nobody else is disturbed."""
    go = threading.Event()
    with Engine(threads=2, default_lane="thread") as engine:

        async def leave_behind() -> Task[bool]:
            task = engine.submit(go.wait, STUCK)
            task.add_done_callback(lambda _: None)
            return task

        task = asyncio.run(leave_behind())
        go.set()
        assert task.result(STUCK) is True
        assert engine.run(give, 1) == 1
    assert not caplog.records


@pytest.mark.parametrize("when", ["not begun", "not its first step", "running"])
def test_a_coroutine_whose_loop_was_closed_under_it_still_ends(
    tmp_path: Path, when: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its loop never turns again, so nothing of it will ever be heard: the engine must not wait for it for ever."""
    go = threading.Event()
    engine = Engine(threads=1, default_lane="thread", grace=0.05).__enter__()
    core = engine._engine._core
    loop = asyncio.new_event_loop()

    async def submit() -> Task[str]:
        return engine.submit(coroutines.hold, str(tmp_path), "one")

    if when == "not begun":
        core.loop.call_soon_threadsafe(go.wait, STUCK)  # the home loop hands it over only once ours has stopped
        task = loop.run_until_complete(submit())
        go.set()
        eventually(lambda: task._attempt is not None, STUCK)
    elif when == "not its first step":
        start = LoopLane._start

        def last(self: LoopLane, attempt: Attempt) -> None:
            start(self, attempt)
            loop.stop()  # this turn is the loop's last one: the first step of the coroutine would be in the next

        monkeypatch.setattr(LoopLane, "_start", last)
        core.loop.call_soon_threadsafe(go.wait, STUCK)  # as above
        task = loop.run_until_complete(submit())
        go.set()
        loop.run_forever()
        monkeypatch.undo()
        assert task.state is TaskState.RUNNING
        assert not (tmp_path / "one.begun").exists()
    else:
        task = loop.run_until_complete(submit())
        while not (tmp_path / "one.begun").exists():
            loop.run_until_complete(asyncio.sleep(0.001))
    loop.close()
    try:
        assert isinstance(task.exception(5.0), EngineClosed)
        report = engine.stop(timeout=5)
        assert (report.submitted, report.failed) == (1, 1)
        gc.collect()
        assert not caplog.records  # neither "Task was destroyed but it is pending" nor "was never awaited"
    finally:
        engine.stop(timeout=0)


def test_submitting_from_a_loop_that_ends_at_once(rng: random.Random) -> None:
    """Fire and forget from short-lived loops: each task ends one way or another."""
    with Engine(threads=2, default_lane="thread") as engine:
        tasks: list[Task[Any]] = []

        async def fire() -> None:
            tasks.append(engine.submit(coroutines.give, 1))
            tasks.append(engine.submit(functions.give, 1))
            if rng.random() < 0.5:
                await asyncio.sleep(0)

        for _ in range(60):
            asyncio.run(fire())
        eventually(lambda: all(task.done() for task in tasks), STUCK)
        for task in tasks:
            if task.state is TaskState.FAILED:
                assert isinstance(task.exception(), EngineClosed)
    gc.collect()  # what was left behind is collected here, and must not complain
