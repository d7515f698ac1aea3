"""Who runs first, how many at once, and who waits for room."""

import asyncio
from typing import Any

import pytest

from engine import (
    EngineClosed,
    EngineFull,
    Lane,
    Priority,
    Retry,
    Task,
    TaskState,
    current_task,
)
from tests.support import eventually_async
from tests.unit.gates import LANES, Counted, Flaky, Gate, on, small


@pytest.mark.parametrize("lane", LANES)
async def test_the_most_urgent_runs_first_and_equals_in_their_order(lane: str, gate: Gate) -> None:
    order: list[str] = []
    async with small() as engine:
        held = engine.submit(gate.on(lane))
        await eventually_async(gate.started.is_set)
        tasks = [held]
        for name, priority in [("n1", Priority.NORMAL), ("l1", Priority.LOW), ("h1", Priority.HIGH), ("n2", 0),
                               ("h2", 10), ("top", 1000), ("l2", -10), ("last", -1000)]:  # fmt: skip
            tasks.append(engine.options(priority=priority).submit(on(lane, order.append), name))
        gate.opened.set()
        await asyncio.gather(*tasks)
    assert order == ["top", "h1", "h2", "n1", "n2", "l1", "l2", "last"]


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("limit", [1, 3])
async def test_never_more_run_at_once_than_the_lane_has_slots(lane: str, limit: int) -> None:
    running = Counted()
    async with small(threads=limit, coroutines=limit) as engine:
        function = running.thread if lane == "thread" else running.loop
        await asyncio.gather(*(engine.submit(function) for _ in range(30)))
        assert engine.snapshot().lanes[Lane(lane)].slots == limit
    assert running.most == limit


async def test_submit_at_the_bound_is_refused_and_leaves_no_trace(gate: Gate) -> None:
    """Row A14."""
    async with small(max_pending=2) as engine:
        held = engine.submit(gate.hold_thread)
        await eventually_async(gate.started.is_set)
        queued = [engine.submit(abs, -n) for n in range(2)]
        with pytest.raises(EngineFull, match="expected fewer than max_pending=2 waiting tasks, got 2") as caught:
            engine.submit(abs, -9)
        assert caught.value.max_pending == 2
        assert len(engine.tasks()) == 3
        queued[0].cancel()
        queued.append(engine.submit(abs, -2))
        gate.opened.set()
        assert await asyncio.gather(held, *queued[1:]) == [None, 1, 2]


async def test_the_bound_covers_all_lanes_together(gate: Gate) -> None:
    async with small(max_pending=2) as engine:
        held = [engine.submit(gate.hold_thread), engine.submit(gate.hold_loop)]
        await eventually_async(lambda: engine.snapshot().queue_depth == 0)
        queued: list[Task[Any]] = [engine.submit(abs, -1), engine.submit(on("loop", abs), -2)]
        with pytest.raises(EngineFull):
            engine.submit(abs, -3)
        gate.opened.set()
        await asyncio.gather(*held, *queued)


@pytest.mark.parametrize("lane", LANES)
async def test_run_waits_for_room(lane: str) -> None:
    """Row A14, smaller: many more runs than the bound; never more wait than it says, and the room comes back."""
    async with small(max_pending=5) as engine:
        most = 0

        def look(number: int) -> int:
            nonlocal most
            most = max(most, engine.snapshot().queue_depth)
            return number

        results = await asyncio.gather(*(engine.run(on(lane, look), n) for n in range(500)))
        assert results == list(range(500))
        assert most <= 5
        assert engine._core.registry.waiting == 0
        assert not engine._core.registry.room_waiters
        gate = Gate()
        held = engine.submit(gate.on(lane))
        await eventually_async(gate.started.is_set)
        room = [engine.submit(on(lane, abs), -n) for n in range(5)]
        with pytest.raises(EngineFull):
            engine.submit(abs, 1)
        gate.opened.set()
        await asyncio.gather(held, *room)


async def test_who_gives_up_waiting_for_room_does_not_take_it_from_the_next(gate: Gate) -> None:
    """Row A14: cancel while waiting for room; the one behind a hundred that gave up must be woken all the same."""
    async with small(max_pending=1) as engine:
        held, queued = engine.submit(gate.hold_thread), None
        await eventually_async(gate.started.is_set)
        queued = engine.submit(abs, -1)
        quitters = [asyncio.create_task(engine.run(abs, -n)) for n in range(100)]
        last = asyncio.create_task(engine.run(abs, -7))
        await eventually_async(lambda: len(engine._core.registry.room_waiters) == 101)
        for quitter in quitters:
            quitter.cancel()
        await asyncio.wait(quitters)
        assert len(engine.tasks()) == 2
        gate.opened.set()
        assert await asyncio.wait_for(last, 10) == 7
        await asyncio.gather(held, queued)


async def test_a_timeout_while_waiting_for_room_leaves_nothing(gate: Gate) -> None:
    """Row A14: timeout while waiting for room; memory stays flat."""
    async with small(max_pending=1) as engine:
        held = engine.submit(gate.hold_thread)
        await eventually_async(gate.started.is_set)
        queued = engine.submit(abs, -1)
        for _ in range(50):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(engine.run(abs, -2), 0.001)
        await eventually_async(lambda: not engine._core.registry.room_waiters)
        gate.opened.set()
        await asyncio.gather(held, queued)


async def test_a_task_that_waits_for_room_lends_its_slot(gate: Gate) -> None:
    """Row N13: or what fills the queue could never leave it."""
    async with small(max_pending=1) as engine:

        async def outer() -> int:
            await gate.hold_loop()
            first: int = await engine.run(on("loop", abs), -1)
            others: list[int] = [n async for n in engine.map(on("loop", abs), [-2, -3])]
            return first + sum(others)

        def outer_thread() -> int:
            gate.hold_thread()
            return asyncio.run(outer())

        for function, lane in ((outer, "loop"), (outer_thread, "thread")):
            gate.opened.clear()
            gate.started.clear()
            task = engine.submit(function)
            await eventually_async(gate.started.is_set)
            queued = engine.submit(on(lane, abs), -7)
            gate.opened.set()
            results: list[object] = await asyncio.wait_for(asyncio.gather(task, queued), 30)
            assert results == [6, 7]


async def test_those_who_wait_for_room_are_told_when_the_engine_stops(gate: Gate) -> None:
    """Row N1: run, when no room will ever come."""
    engine = await small(max_pending=1).start()
    engine.submit(gate.hold_thread)
    await eventually_async(gate.started.is_set)
    engine.submit(abs, -1)
    waiting = [asyncio.create_task(engine.run(abs, -n)) for n in range(20)]
    await eventually_async(lambda: len(engine._core.registry.room_waiters) == 20)
    stop = asyncio.create_task(engine.stop())
    outcomes = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 10)
    assert {type(outcome) for outcome in outcomes} == {EngineClosed}
    gate.opened.set()
    await stop


async def test_retries_pass_the_bound(gate: Gate) -> None:
    async with small(max_pending=1) as engine:
        flaky = engine.options(retry=Retry(base_delay=0)).submit(Flaky(1))
        await eventually_async(lambda: engine.snapshot().retries == 1)
        assert await flaky == 2
        held = engine.options(retry=Retry(base_delay=0)).submit(_hold_then_fail, gate)
        await eventually_async(gate.started.is_set)
        queued = engine.submit(abs, -1)
        gate.opened.set()
        assert (await held, await queued) == (2, 1)


def _hold_then_fail(gate: Gate) -> int:
    gate.hold_thread()
    if current_task().attempt == 1:
        raise OSError("first")
    return current_task().attempt


async def test_history_and_live_tasks_are_listed_oldest_first(gate: Gate) -> None:
    async with small(history=3) as engine:
        for n in range(5):
            await engine.run(abs, -n)
        held = engine.options(name="held").submit(gate.hold_thread)
        await eventually_async(gate.started.is_set)
        assert [info.id for info in engine.tasks()] == [3, 4, 5, 6]
        assert [info.id for info in engine.tasks(state="running")] == [6]
        assert [info.id for info in engine.tasks(state=TaskState.COMPLETED, name="abs")] == [3, 4, 5]
        assert [info.id for info in engine.tasks(name="held")] == [6]
        assert engine.get(1) is None
        found = engine.get(6)
        assert found is not None
        assert (found.state, found.worker, found.completed_at) == (TaskState.RUNNING, "thread-1", None)
        gate.opened.set()
        await held
