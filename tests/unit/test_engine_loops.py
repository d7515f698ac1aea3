"""Threads and event loops that share one engine."""

import asyncio
import threading
from typing import Any

from engine import (
    Engine,
    EngineClosed,
    Task,
    TaskState,
)
from tests.support import eventually, eventually_async
from tests.unit.gates import Gate


def test_many_threads_and_two_loops_share_one_engine() -> None:
    """Row N15: 32 threads and two event loops; each is woken on its own loop."""
    wrong: list[object] = []
    barrier = threading.Barrier(34)

    async def where() -> asyncio.AbstractEventLoop:
        await asyncio.sleep(0)
        return asyncio.get_running_loop()

    with Engine(threads=4, coroutines=50) as engine:
        thread_lane = engine.options(lane="thread")

        def from_thread(number: int) -> None:
            barrier.wait(30)
            for n in range(20):
                if thread_lane.submit(max, number, n).result(30) != max(number, n):
                    wrong.append((number, n))

        async def from_loop() -> None:
            barrier.wait(30)
            for n in range(20):
                loops = await asyncio.gather(*(engine.submit(where) for _ in range(5)))
                if set(loops) != {asyncio.get_running_loop()}:
                    wrong.append(loops)
                if await asyncio.wait_for(thread_lane.submit(abs, -n), 30) != n:
                    wrong.append(n)

        threads = [threading.Thread(target=from_thread, args=(n,)) for n in range(32)]
        threads += [threading.Thread(target=lambda: asyncio.run(from_loop())) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        snapshot = engine.snapshot()
    assert wrong == []
    assert snapshot.count(TaskState.COMPLETED) == 32 * 20 + 2 * 20 * 6


def test_a_coroutine_whose_loop_closed_before_it_began_does_not_hold_the_stop(gate: Gate) -> None:
    """Row A1: it never runs, and it ends all the same."""

    async def never() -> None:
        raise AssertionError("it ran")

    with Engine(threads=1, coroutines=1) as engine:
        held = engine.submit(gate.hold_loop)
        eventually(gate.started.is_set)
        loop = asyncio.new_event_loop()

        async def submit() -> Task[None]:
            return engine.submit(never)

        task = loop.run_until_complete(submit())
        loop.close()
        gate.opened.set()
        held.result(10)
        eventually(task.done)
        assert isinstance(task.exception(), EngineClosed)


def test_a_coroutine_whose_loop_closed_under_it_does_not_hold_the_stop(gate: Gate) -> None:
    """Row A1: a loop that is closed without cancelling its tasks, as by a careless framework."""
    with Engine(threads=1, coroutines=1) as engine:
        loop = asyncio.new_event_loop()

        async def submit() -> Task[Any]:
            task = engine.submit(gate.hold_loop)
            await eventually_async(gate.started.is_set)
            return task

        task = loop.run_until_complete(submit())
        pending = asyncio.all_tasks(loop)
        loop.close()
        done = threading.Event()

        def stop() -> None:
            engine.stop()
            done.set()

        stopper = threading.Thread(target=stop, daemon=True)
        stopper.start()
        try:
            assert done.wait(10), "stop waits for a coroutine whose loop is closed"
            assert task.done()
        finally:
            task.cancel()
            engine.stop(timeout=0)
            stopper.join(10)
            for each in pending:
                each._log_destroy_pending = False  # type: ignore[attr-defined]  # it is meant to be dropped pending
                coroutine: Any = each.get_coro()
                coroutine.close()  # and with it the user's
