"""Tasks that wait for tasks of their engine lend their slot."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from engine import (
    Engine,
    Lane,
    NestedDeadlock,
    PickleError,
    Task,
)
from tests.unit.gates import LANES, Counted, Gate, small


def _nest_thread(engine: Engine, depth: int) -> int:
    return 0 if depth == 0 else 1 + engine.submit(_nest_thread, engine, depth - 1).result()


async def _nest_loop(engine: Engine, depth: int) -> int:
    return 0 if depth == 0 else 1 + await engine.submit(_nest_loop, engine, depth - 1)


async def _nest_gather(engine: Engine, depth: int) -> int:
    if depth == 0:
        return 0
    return 1 + max(await asyncio.gather(*(engine.submit(_nest_gather, engine, depth - 1) for _ in range(2))))


async def _nest_run(engine: Engine, depth: int) -> int:
    return 0 if depth == 0 else 1 + await asyncio.wait_for(engine.run(_nest_run, engine, depth - 1), 60)


async def _nest_mixed(engine: Engine, depth: int) -> int:
    return 0 if depth == 0 else 1 + await engine.submit(_nest_mixed_thread, engine, depth - 1)


def _nest_mixed_thread(engine: Engine, depth: int) -> int:
    return 0 if depth == 0 else 1 + engine.submit(_nest_mixed, engine, depth - 1).result()


@pytest.mark.parametrize(
    ("nest", "depth"), [(_nest_thread, 10), (_nest_loop, 10), (_nest_gather, 3), (_nest_run, 10), (_nest_mixed, 10)]
)
async def test_nested_waits_complete_with_one_slot(nest: Callable[..., Any], depth: int) -> None:
    """Row N13: slots are lent."""
    async with small() as engine:
        assert await asyncio.wait_for(engine.submit(nest, engine, depth), 30) == depth
        snapshot = engine.snapshot()
        assert [lane.lent for lane in snapshot.lanes.values()] == [0, 0, 0]


@pytest.mark.parametrize("nest", [_nest_thread, _nest_loop])
async def test_nesting_past_the_bound_is_an_error_not_a_hang(nest: Callable[..., Any]) -> None:
    """Row N13: ten times ``threads`` may wait, not more; and the engine goes on."""
    async with small() as engine:
        with pytest.raises(NestedDeadlock, match=r"expected at most 10 tasks of the .* lane to wait"):
            await asyncio.wait_for(engine.submit(nest, engine, 12), 30)
        assert await asyncio.wait_for(engine.submit(nest, engine, 10), 30) == 10


async def test_a_process_task_that_would_submit_to_its_parents_engine_is_told() -> None:
    """Row N13."""
    async with small() as engine:
        with pytest.raises(PickleError, match="a process task cannot submit to its parent's engine"):
            await engine.options(lane="process").run(_nest_thread, engine, 1)


@pytest.mark.parametrize("lane", LANES)
async def test_a_slot_comes_back_when_the_wait_is_given_up(lane: str, gate: Gate) -> None:
    """Lending ends with the wait, not with the task that was waited for."""
    running = Counted()

    def impatient(task: Task[Any]) -> str:
        with pytest.raises(TimeoutError):
            task.result(timeout=0.01)
        return "gave up"

    async def impatient_loop(task: Task[Any]) -> str:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(task), 0.01)
        return "gave up"

    async with small() as engine:
        held = (
            engine.options(lane="thread").submit(gate.hold_thread) if lane == "loop" else engine.submit(gate.hold_loop)
        )
        function = impatient if lane == "thread" else impatient_loop
        assert await engine.submit(function, held) == "gave up"
        assert engine.snapshot().lanes[Lane(lane)].lent == 0
        await asyncio.gather(*(engine.submit(running.thread if lane == "thread" else running.loop) for _ in range(5)))
        assert running.most == 1
        gate.opened.set()
        await held
