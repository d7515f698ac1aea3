"""``current_task()`` and ``checkpoint()``, inside a task and outside."""

import asyncio
import threading
from typing import Any

import pytest

from engine import CurrentTask, Engine, TaskCancelled, TaskState, checkpoint, current_task
from tests.support import eventually_async


def test_outside_a_task_both_do_nothing() -> None:
    nobody = current_task()
    assert (nobody.id, nobody.name, nobody.attempt, nobody.deadline, nobody.cancel_requested) == (
        None, "", 1, None, False,
    )  # fmt: skip
    nobody.progress(1, 2, "three")
    checkpoint()


def who() -> tuple[object, ...]:
    task = current_task()
    return task.id, task.name, task.attempt, task.deadline, task.cancel_requested


async def who_async() -> tuple[object, ...]:
    await asyncio.sleep(0)
    return who()


async def test_a_task_knows_itself_in_every_lane() -> None:
    async with Engine(threads=1, processes=1) as engine:
        mine = engine.options(name="me")
        tasks: list[Any] = [mine.submit(who_async), mine.options(lane="thread").submit(who), mine.submit(who)]
        for task in tasks:
            assert await task == (task.id, "me", 1, None, False)
    assert current_task().id is None


def twice() -> bool:
    return current_task() is current_task()


async def twice_async() -> bool:
    before = current_task()
    await asyncio.sleep(0)
    return current_task() is before and await asyncio.to_thread(current_task) is before


async def test_a_task_is_one_object_to_itself_in_every_lane() -> None:
    async with Engine(threads=1, processes=1) as engine:
        calls = [engine.submit(twice_async), engine.options(lane="thread").submit(twice), engine.submit(twice)]
        assert [await task for task in calls] == [True, True, True]


async def test_what_a_coroutine_starts_in_asyncio_still_knows_the_task() -> None:
    async def child() -> int | None:
        return current_task().id

    async def parent() -> tuple[int | None, int | None, int | None]:
        return (
            current_task().id,
            await asyncio.create_task(child()),
            await asyncio.to_thread(lambda: current_task().id),
        )

    async with Engine() as engine:
        task = engine.submit(parent)
        assert await task == (task.id,) * 3


async def test_two_tasks_at_once_do_not_see_each_other() -> None:
    barrier = threading.Barrier(2)

    def meet() -> int | None:
        barrier.wait(10)
        return current_task().id

    async with Engine(threads=2, default_lane="thread") as engine:
        tasks = [engine.submit(meet) for _ in range(2)]
        assert await asyncio.gather(*tasks) == [task.id for task in tasks]


async def test_a_checkpoint_raises_only_once_the_task_is_to_stop() -> None:
    steps: list[str] = []
    go = threading.Event()

    def work() -> None:
        checkpoint()
        steps.append("passed")
        go.wait(10)
        try:
            checkpoint()
        except TaskCancelled:
            steps.append("raised")
            raise
        steps.append("not reached")

    async with Engine(threads=1, default_lane="thread", grace=30) as engine:
        task = engine.submit(work)
        await eventually_async(lambda: steps == ["passed"])
        task.cancel()
        go.set()
        await eventually_async(lambda: steps == ["passed", "raised"])
        assert task.state is TaskState.CANCELLED


async def test_a_function_that_raises_task_cancelled_by_itself_is_cancelled() -> None:
    def leave() -> None:
        raise TaskCancelled

    async def leave_async() -> None:
        raise TaskCancelled

    async with Engine(threads=1, default_lane="thread") as engine:
        for function in (leave, leave_async):
            task: Any = engine.submit(function)
            with pytest.raises(asyncio.CancelledError):
                await task
            assert task.state is TaskState.CANCELLED


async def test_the_last_report_of_progress_is_seen_while_the_task_runs_and_after() -> None:
    go = threading.Event()

    def work(task: CurrentTask | None = None) -> None:
        for n in range(3):
            current_task().progress(n, 3, f"step {n} " + "x" * 500)
        go.wait(10)

    async with Engine(threads=1, default_lane="thread") as engine:
        task = engine.submit(work)
        await eventually_async(lambda: task.progress is not None and task.progress.done == 2)
        assert task.progress is not None
        assert task.progress.total == 3
        assert task.progress.message.startswith("step 2 ")
        assert len(task.progress.message) == 200
        (info,) = engine.tasks()
        assert info.progress == task.progress
        go.set()
        await task
        assert task.progress is not None


def test_the_task_that_is_none_says_so() -> None:
    assert repr(current_task()) == "<no task runs here>"
