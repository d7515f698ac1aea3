"""How a coroutine's end is reported: by itself as it returns, or by its asyncio task where that has the last word."""

import asyncio
import contextvars
import sys
from typing import Any

import pytest

from engine import Engine, Lane, TaskState

STUCK = 30.0


async def give(value: int) -> int:
    return value


async def give_later(value: int) -> int:
    await asyncio.sleep(0)
    return value


async def cancels_itself_and_returns() -> str:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    return "too late"


async def test_a_coroutine_that_cancels_itself_in_its_last_step_is_cancelled() -> None:
    """As an asyncio task is: what it returns after that counts no more."""
    async with Engine() as engine:
        task = engine.submit(cancels_itself_and_returns)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, STUCK)
        assert task.state is TaskState.CANCELLED
        assert engine.snapshot().lanes[Lane.LOOP].running == 0


async def test_nothing_is_left_to_the_asyncio_task_of_a_coroutine_that_has_returned() -> None:
    """Its end is known before the task is done, and told once."""
    seen: list[bool] = []

    async def looks() -> asyncio.Task[object]:
        current = asyncio.current_task()
        assert current is not None
        return current

    async with Engine() as engine:
        task = engine.submit(looks)
        task.add_done_callback(lambda done: seen.append(done.result().done()))
        inner = await asyncio.wait_for(task, STUCK)
        assert inner.result() is None  # nobody has to fetch anything from it
        assert (await engine.stop()).completed == 1
    assert seen == [True]


async def test_coroutines_that_never_wait_leave_the_loop_its_turns() -> None:
    """They end as they are handed out, and that is not done all at once."""
    loop = asyncio.get_running_loop()
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        if not all_of_them.done():
            loop.call_soon(turn)

    async with Engine() as engine:
        all_of_them = asyncio.gather(*[engine.submit(give, number) for number in range(5000)])
        turn()
        assert await asyncio.wait_for(all_of_them, STUCK) == list(range(5000))
    assert turns > 5


async def test_the_first_step_of_a_coroutine_is_its_own_task_s() -> None:
    """Also where it is taken at once: its context, its name, its timeouts."""

    async def look() -> tuple[bool, str, str]:
        task = asyncio.current_task()
        assert task is not None
        mine.set("changed")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await asyncio.sleep(STUCK)
        return task is not caller, task.get_name(), mine.get()

    caller, mine = asyncio.current_task(), contextvars.ContextVar("mine", default="none")
    mine.set("given")
    async with Engine() as engine:
        assert await engine.options(name="looks").run(look) == (True, "looks", "changed")
    assert mine.get() == "given"
    assert asyncio.current_task() is caller


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
async def test_coroutines_of_a_loop_whose_tasks_are_eager_end_once() -> None:
    """They may be over before anybody has their asyncio task in hand."""
    factory: Any = asyncio.eager_task_factory  # type: ignore[attr-defined]  # as mypy sees it from 3.11
    asyncio.get_running_loop().set_task_factory(factory)
    async with Engine() as engine:
        tasks = [engine.submit(fn, number) for number in range(50) for fn in (give, give_later)]
        assert await asyncio.wait_for(asyncio.gather(*tasks), STUCK) == [n for n in range(50) for _ in range(2)]
        report = await engine.stop()
    assert (report.submitted, report.completed) == (100, 100)
