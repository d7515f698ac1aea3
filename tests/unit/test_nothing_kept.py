"""What a task held is let go when it is over."""

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from engine import (
    Engine,
    Retry,
    Task,
    TaskState,
    TaskTimeout,
)
from tests.support import eventually_async
from tests.unit.gates import LANES, Gate, on, small


class Box:
    """Can be watched by a weak reference."""

    def open(self) -> None:
        """Do nothing."""


class Boxes(list[Any]):
    """As Box; its methods are built in."""


@pytest.mark.parametrize("lane", LANES)
async def test_arguments_and_results_are_freed_at_once_though_history_keeps_a_record(lane: str) -> None:
    """Row R3: by reference counts alone, and an idle thread keeps nothing."""
    async with small() as engine:
        gc.collect()
        gc.disable()
        try:
            argument, keyword = Box(), Box()
            watched = [weakref.ref(argument), weakref.ref(keyword)]
            task: Task[Box] | None = engine.submit(on(lane, lambda box, *, other: Box()), argument, other=keyword)
            del argument, keyword
            assert task is not None
            result: Box | None = await task
            assert result is not None
            watched.append(weakref.ref(result))
            await eventually_async(lambda: [ref() for ref in watched[:2]] == [None, None])
            assert watched[2]() is result
            task = result = None
            await eventually_async(lambda: watched[2]() is None)
        finally:
            gc.enable()
        (info,) = engine.tasks()
        assert info.state is TaskState.COMPLETED


@pytest.mark.parametrize("lane", LANES)
async def test_what_a_failed_task_held_is_freed_with_its_handle(lane: str) -> None:
    """Row R3: the traceback holds the function's frame until then, and no longer."""

    def raises(box: Box) -> None:
        raise OSError("on purpose")

    async with small() as engine:
        gc.collect()
        gc.disable()
        try:
            box = Box()
            watched = weakref.ref(box)
            task = engine.submit(on(lane, raises), box)
            del box
            await eventually_async(task.done)
            assert task.exception() is not None
            del task
            await eventually_async(lambda: watched() is None)
        finally:
            gc.enable()
        (info,) = engine.tasks()
        assert info.error == "OSError: on purpose"


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("ending", ["cancelled in the queue", "timed out in the queue", "cancelled in the backoff"])
async def test_what_a_task_held_that_never_ended_by_itself_is_freed_too(lane: str, ending: str, gate: Gate) -> None:
    """Row R3: though the handle is kept."""

    def raises(box: Box) -> None:
        raise OSError("on purpose")

    async with small() as engine:
        held = None
        if "queue" in ending:
            held = engine.submit(gate.on(lane))
            await eventually_async(gate.started.is_set)
        box = Box()
        watched = weakref.ref(box)
        view = engine.options(retry=Retry(base_delay=30), total_timeout=0.02 if "timed" in ending else None)
        task = view.submit(on(lane, raises), box)
        del box
        if "backoff" in ending:
            await eventually_async(lambda: engine.snapshot().retries == 1)
        if "timed" in ending:
            await eventually_async(task.done)
            assert isinstance(task.exception(), TaskTimeout)
        else:
            task.cancel()
        # Not at once: the thread that ran the last attempt may be on its way out of it still.
        await eventually_async(lambda: gc.collect() is not None and watched() is None)
        gate.opened.set()
        if held is not None:
            await held


def opener() -> tuple[Callable[[], object], Box]:
    box = Box()
    return box.open, box


def clearer() -> tuple[Callable[[], object], Boxes]:
    boxes = Boxes()
    return boxes.clear, boxes


@pytest.mark.parametrize("make", [opener, clearer])
@pytest.mark.parametrize("lane", ["thread", "process"])
async def test_the_object_of_a_bound_method_is_freed(lane: str, make: Callable[[], tuple[Any, object]]) -> None:
    """E76: an engine remembers functions that it has been given, but not the objects that their methods are of."""
    async with Engine(threads=1, processes=1) as engine:
        gc.collect()
        gc.disable()
        try:
            method, owner = make()
            watched = weakref.ref(owner)
            await engine.options(lane=lane).submit(method)
            del method, owner
            await eventually_async(lambda: watched() is None)
        finally:
            gc.enable()


async def test_loops_that_come_and_go_are_forgotten() -> None:
    """Row R3, for loops: a long-lived engine must not keep every loop that ever awaited one of its tasks."""
    async with small() as engine:
        loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

        async def main() -> int:
            loops.append(weakref.ref(asyncio.get_running_loop()))
            coroutine: int = await engine.submit(on("loop", abs), -1)
            return coroutine + await engine.submit(abs, -1)

        for _ in range(10):
            assert await asyncio.to_thread(asyncio.run, main()) == 2
        gc.collect()
        assert sum(loop() is not None for loop in loops) <= 1
