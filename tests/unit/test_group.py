"""``engine.group``: no task outlives the block that submitted it."""

# ruff: noqa: PT012  (leaving a block is what is tested, so the block is inside raises)

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from engine import Engine, Lane, TaskGroup, TaskState, TaskTimeout, checkpoint, current_task
from tests.support import eventually_async

LANES = ["loop", "thread"]


def small(**settings: Any) -> Engine:
    """Make an engine with two slots in each lane."""
    return Engine(**{"threads": 2, "coroutines": 2, "default_lane": "thread", "grace": 30.0, **settings})


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Give an event that is set at the end, so that no thread is left behind it."""
    event = threading.Event()
    yield event
    event.set()


def fail(text: str = "on purpose") -> None:
    raise ValueError(text)


def until_cancelled() -> None:
    """Run until asked to stop."""
    while True:
        checkpoint()
        threading.Event().wait(0.001)


async def until_cancelled_async() -> None:
    await asyncio.Event().wait()


async def async_fail(text: str = "on purpose") -> None:
    raise ValueError(text)


WAITS: dict[str, Callable[[], Any]] = {"loop": until_cancelled_async, "thread": until_cancelled}
FAILS: dict[str, Callable[..., Any]] = {"loop": async_fail, "thread": fail}


async def test_leaving_waits_for_every_task() -> None:
    async with small() as engine:
        async with engine.group() as group:
            tasks = [group.submit(abs, -n) for n in range(20)]
            assert isinstance(group, TaskGroup)
        assert [task.result() for task in tasks] == list(range(20))


async def test_an_empty_group_is_left_at_once() -> None:
    async with small() as engine, engine.group():
        pass


async def test_a_group_of_a_view_submits_with_its_options() -> None:
    async with small() as engine, engine.options(name="mine", lane="thread").group() as group:
        assert group.submit(abs, -1).name == "mine"


@pytest.mark.parametrize("lane", LANES)
async def test_a_failure_cancels_the_siblings_and_the_block(lane: str) -> None:
    async with small() as engine:
        with pytest.raises(ExceptionGroup) as caught:
            async with engine.group() as group:
                sibling = group.submit(WAITS[lane])
                await eventually_async(lambda: sibling.state is TaskState.RUNNING)
                queued = [group.submit(WAITS[lane]) for _ in range(3)]
                group.submit(FAILS["loop" if lane == "thread" else "thread"])
                await asyncio.Event().wait()
        assert [str(error) for error in caught.value.exceptions] == ["on purpose"]
        assert sibling.cancelled()
        assert all(task.cancelled() for task in queued)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0


async def test_every_failure_is_in_the_group_that_is_raised() -> None:
    barrier = threading.Barrier(2)

    def fail_together(text: str) -> None:
        barrier.wait(10)
        raise ValueError(text)

    async with small() as engine:
        with pytest.raises(ExceptionGroup) as caught:
            async with engine.group() as group:
                group.submit(fail_together, "first")
                group.submit(fail_together, "second")
                await asyncio.Event().wait()
        # the second is cancelled if the news of the first comes before its own end
        assert {"first", "second"} >= {str(error) for error in caught.value.exceptions} != set()


async def test_a_failure_that_the_body_awaits_is_raised_once() -> None:
    async with small() as engine:
        with pytest.raises(ExceptionGroup) as caught:
            async with engine.group() as group:
                await group.submit(fail)
        assert [str(error) for error in caught.value.exceptions] == ["on purpose"]


@pytest.mark.parametrize("lane", LANES)
async def test_an_error_of_the_body_cancels_the_tasks_and_is_in_the_group(lane: str) -> None:
    async with small() as engine:
        with pytest.raises(ExceptionGroup) as caught:
            async with engine.group() as group:
                task = group.submit(WAITS[lane])
                raise OSError("of the body")
        assert [str(error) for error in caught.value.exceptions] == ["of the body"]
        assert task.cancelled()


async def test_cancelling_one_task_disturbs_neither_the_others_nor_the_block() -> None:
    async with small() as engine:
        async with engine.group() as group:
            one = group.submit(until_cancelled)
            other = group.submit(abs, -1)
            assert one.cancel()
        assert (one.cancelled(), other.result()) == (True, 1)


@pytest.mark.parametrize("lane", LANES)
async def test_cancelling_the_block_from_outside_cancels_the_tasks(lane: str) -> None:
    tasks = []
    async with small() as engine:

        async def block() -> None:
            async with engine.group() as group:
                tasks.append(group.submit(WAITS[lane]))
                await asyncio.Event().wait()

        waiter = asyncio.create_task(block())
        await eventually_async(lambda: tasks and tasks[0].state is TaskState.RUNNING)
        waiter.cancel("from outside")
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert tasks[0].cancelled()


@pytest.mark.parametrize("lane", LANES)
async def test_cancelling_a_block_that_waits_to_be_left_cancels_the_tasks(lane: str) -> None:
    tasks = []
    async with small() as engine:

        async def block() -> None:
            async with engine.group() as group:
                tasks.append(group.submit(WAITS[lane]))

        waiter = asyncio.create_task(block())
        await eventually_async(lambda: tasks and tasks[0].state is TaskState.RUNNING)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert tasks[0].cancelled()


async def test_an_outer_timeout_is_seen_as_one() -> None:
    async with small() as engine:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02), engine.group() as group:
                group.submit(until_cancelled)
        assert [info.state for info in engine.tasks()] == [TaskState.CANCELLED]


async def test_a_failure_wins_over_the_cancellation_that_comes_with_it() -> None:
    """As in asyncio's own group: an error is not thrown away."""
    async with small() as engine:

        async def block() -> None:
            async with engine.group() as group:
                group.submit(fail)
                try:
                    await asyncio.Event().wait()
                finally:
                    me = asyncio.current_task()
                    assert me is not None
                    me.cancel()

        (outcome,) = await asyncio.gather(asyncio.create_task(block()), return_exceptions=True)
        assert isinstance(outcome, ExceptionGroup)
        assert [str(error) for error in outcome.exceptions] == ["on purpose"]


async def test_leaving_waits_until_the_slots_are_free(release: threading.Event) -> None:
    """A cancelled thread task settles at once; its function, and so its slot, may take longer."""
    left = threading.Event()

    def slow_to_leave() -> None:
        while not current_task().cancel_requested:
            threading.Event().wait(0.001)
        release.wait(0.05)
        left.set()

    async with small() as engine:
        with pytest.raises(ExceptionGroup):
            async with engine.group() as group:
                task = group.submit(slow_to_leave)
                await eventually_async(lambda: task.state is TaskState.RUNNING)
                raise OSError("of the body")
        assert left.is_set()
        assert engine._core.registry.slots[Lane.THREAD].taken == 0


async def test_leaving_does_not_wait_for_what_is_abandoned(release: threading.Event) -> None:
    async with small(grace=0.02) as engine:
        with pytest.raises(ExceptionGroup):
            async with engine.group() as group:
                task = group.submit(release.wait, 30)
                await eventually_async(lambda: task.state is TaskState.RUNNING)
                raise OSError("of the body")
        assert engine.snapshot().abandoned == 1
        release.set()


async def test_a_group_that_was_left_takes_nothing() -> None:
    async with small() as engine:
        async with engine.group() as group:
            pass
        with pytest.raises(RuntimeError, match="expected the group to be open, got one that was left"):
            group.submit(abs, 1)
        with pytest.raises(RuntimeError, match="expected the group to be open"):
            engine.group().submit(abs, 1)
        assert engine.tasks() == []


async def test_a_group_that_failed_takes_nothing() -> None:
    async with small() as engine:
        with pytest.raises(ExceptionGroup) as caught:
            async with engine.group() as group:
                group.submit(fail)
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    with pytest.raises(RuntimeError, match="expected the group to be healthy"):
                        group.submit(abs, 1)
                    raise
        assert len(caught.value.exceptions) == 1


async def test_a_task_of_the_group_may_submit_to_it() -> None:
    async with small() as engine:
        found: list[int] = []

        async def grow(group: TaskGroup, depth: int) -> None:
            found.append(depth)
            if depth:
                group.submit(grow, group, depth - 1)

        async with engine.group() as group:
            group.submit(grow, group, 5)
        assert found == [5, 4, 3, 2, 1, 0]


async def test_groups_nest() -> None:
    async with small() as engine:
        with pytest.raises(ExceptionGroup) as caught:
            async with engine.group() as outer:
                other = outer.submit(until_cancelled)
                async with engine.group() as inner:
                    inner.submit(fail)
                    await asyncio.Event().wait()
        (nested,) = caught.value.exceptions
        assert isinstance(nested, ExceptionGroup)
        assert [str(error) for error in nested.exceptions] == ["on purpose"]
        assert other.cancelled()


async def test_a_group_inside_a_task_waits_with_one_slot() -> None:
    """Row N13: the task lends its slot while its group waits."""

    async def work() -> int:
        async with engine.group() as group:
            tasks = [group.submit(_double, n) for n in range(3)]
        return sum(task.result() for task in tasks)

    async with small(coroutines=1) as engine:
        assert await asyncio.wait_for(engine.submit(work), 30) == 6


async def _double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


async def test_the_options_of_a_group_are_for_what_is_submitted_through_them() -> None:
    async with small() as engine:
        with pytest.raises(ExceptionGroup, match=r"^1 task\(s\) of the group failed") as caught:
            async with engine.group() as group:
                sibling = group.submit(until_cancelled)
                task = group.options(name="mine").options(timeout=0.05, lane="thread").submit(until_cancelled)
        assert (task.name, sibling.name, sibling.cancelled()) == ("mine", "until_cancelled", True)
        assert [type(error) for error in caught.value.exceptions] == [TaskTimeout]
        with pytest.raises(RuntimeError, match="expected the group to be open"):
            group.options(name="late").submit(abs, 1)


async def test_a_group_says_what_of_it_failed() -> None:
    async with small() as engine:
        with pytest.raises(ExceptionGroup, match=r"^the block of the group failed$"):
            async with engine.group():
                raise OSError("of the block")
        with pytest.raises(ExceptionGroup, match=r"^the block of the group and 1 task\(s\) failed$"):
            async with engine.group() as group:
                group.submit(fail)
                try:
                    await asyncio.Event().wait()
                finally:
                    raise OSError("of the block")


async def test_a_group_says_how_it_is() -> None:
    async with small(name="mine") as engine:
        group = engine.group()
        assert repr(group) == "<TaskGroup not entered, 0 unfinished>"
        async with group:
            group.submit(async_sleep_once)
            assert repr(group) == "<TaskGroup open, 1 unfinished>"
            assert repr(group.options(timeout=5)) == (
                "<view of <TaskGroup open, 1 unfinished> through <Engine 'mine' running with timeout=5.0>>"
            )
        assert repr(group) == "<TaskGroup left, 0 unfinished>"


async def async_sleep_once() -> None:
    await asyncio.sleep(0)
