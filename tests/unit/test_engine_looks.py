"""What an engine shows of itself, and that it adds up."""

import asyncio
import functools
import itertools
import sys
from collections.abc import Callable
from typing import Any

import pytest

from engine import (
    EngineFull,
    NestedDeadlock,
    Task,
    TaskState,
)
from tests.support import eventually_async
from tests.unit.gates import Gate, small


async def test_stacks_of_an_engine_without_pool_threads_look_at_no_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """CPython 3.12.1 may crash over the frames of loky's threads once somebody has looked at them (gh-111049)."""

    def looked() -> dict[int, Any]:
        raise AssertionError("expected no look at the frames of other threads")

    async with small() as engine:
        with monkeypatch.context() as patched:
            patched.setattr(sys, "_current_frames", looked)
            assert engine.stacks() == {}


async def test_stacks_show_what_runs_in_both_lanes(gate: Gate) -> None:
    async with small() as engine:
        held = [
            engine.options(name="loopy").submit(gate.hold_loop),
            engine.options(name="thready").submit(gate.hold_thread),
        ]
        await eventually_async(lambda: len(engine.tasks(state="running")) == 2)
        await asyncio.sleep(0.01)  # into the coroutine's own wait
        stacks = engine.stacks()
        assert "hold_loop" in next(text for title, text in stacks.items() if "loopy" in title)
        assert "hold_thread" in next(text for title, text in stacks.items() if "thready" in title)
        gate.opened.set()
        await asyncio.gather(*held)


async def test_a_partial_and_a_callable_object_have_a_name_that_people_understand() -> None:
    class Work:
        def __call__(self) -> int:
            return 1

    functions: list[Callable[..., Any]] = [functools.partial(abs, -1), Work(), abs, "x".upper]
    async with small() as engine:
        names = [engine.submit(fn, *([-1] if fn is abs else [])).name for fn in functions]
        assert names[0] == "abs"
        assert names[1].endswith("Work")
        assert names[2:] == ["abs", "str.upper"]


async def test_a_flood_is_accounted_for_task_by_task() -> None:
    """Row A14, smaller: every submit through a bound of 100 ends, and counts and history agree."""
    async with small(max_pending=100, threads=2, history=50) as engine:
        accepted = refused = 0
        tasks: list[Task[Any]] = []
        for number in itertools.count():
            if accepted == 5_000:
                break
            try:
                tasks.append(engine.submit(abs, -number))
                accepted += 1
            except EngineFull:
                refused += 1
                await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        assert engine.snapshot().count(TaskState.COMPLETED) == accepted
        assert engine._core.registry.last_id == accepted
        assert len(engine.tasks()) == 50
        assert refused > 0


async def test_a_view_says_what_was_said() -> None:
    async with small(name="mine") as engine:
        assert repr(engine.options()) == "<Engine 'mine' running with no options>"
        view = engine.options(lane="thread", timeout=5).options(priority=3)
        assert repr(view) == "<Engine 'mine' running with lane='thread', timeout=5.0, priority=3>"


async def test_a_refused_wait_cancels_the_child_that_run_submitted() -> None:
    """Ten tasks may wait with one thread; the child that the eleventh submitted does not run on unseen."""

    async def nest(depth: int) -> None:
        if depth:
            await engine.run(nest, depth - 1)

    async with small() as engine:
        with pytest.raises(NestedDeadlock):
            await asyncio.wait_for(engine.run(nest, 12), 30)
        last = max(engine.tasks(), key=lambda info: info.id)
        assert (last.id, last.state) == (12, TaskState.CANCELLED)
        assert [info.state for info in engine.tasks()].count(TaskState.FAILED) == 11


async def test_a_refused_wait_for_room_leaves_no_room_kept_for_it(gate: Gate) -> None:
    """Or the next place in the queue would be given to who is not there, and who waits behind would wait for ever."""

    async def nest(depth: int) -> None:
        if depth:
            await engine.run(nest, depth - 1)
        else:
            engine.submit(gate.hold_thread)
            await eventually_async(gate.started.is_set)
            engine.submit(abs, -1)
            with pytest.raises(NestedDeadlock):
                await engine.run(nest, 0)
            assert not engine._core.registry.room_waiters
            gate.opened.set()

    async with small(max_pending=1) as engine:
        await asyncio.wait_for(engine.run(nest, 10), 30)
