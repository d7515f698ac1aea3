"""anyio, on its asyncio backend, with an engine: task groups, cancel scopes, and threads that call back."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest

from engine import Engine, TaskState
from tests.ecosystem import dask_functions as functions
from tests.ecosystem.joblib_functions import never
from tests.support import eventually_async


def test_tasks_of_a_group_run_on_an_engine() -> None:
    results: dict[int, int] = {}

    async def main() -> None:
        async def double(i: int) -> None:
            results[i] = await engine.run(functions.double, i)

        async with Engine(processes=2) as engine, anyio.create_task_group() as group:
            for i in range(20):
                group.start_soon(double, i)

    anyio.run(main)
    assert results == {i: 2 * i for i in range(20)}


def test_a_failure_cancels_the_work_of_the_others(tmp_path: Path) -> None:
    began = tmp_path / "began"

    async def main() -> None:
        async def fail() -> None:
            await eventually_async(began.exists)
            await engine.run(functions.fail, 1)

        async with Engine(processes=2) as engine:

            async def both() -> None:
                async with anyio.create_task_group() as group:
                    group.start_soon(engine.run, never, began)
                    group.start_soon(fail)

            with pytest.raises(ExceptionGroup) as caught:
                await both()
            assert [type(error) for error in caught.value.exceptions] == [LookupError]
            assert [task.name for task in engine.tasks(state=TaskState.CANCELLED)] == ["never"]

    anyio.run(main)


@pytest.mark.parametrize("kind", ["run", "task"])
def test_a_cancel_scope_ends_the_work(kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with Engine(processes=1) as engine:
            with anyio.move_on_after(0.5) as scope:
                await (engine.run(never, tmp_path / "began") if kind == "run" else engine.submit(never, tmp_path / "b"))
            assert scope.cancelled_caught
            assert engine.snapshot().count(TaskState.CANCELLED) == 1
            with pytest.raises(TimeoutError), anyio.fail_after(0.2):
                await engine.run(never, tmp_path / "began")
            assert await engine.run(functions.double, 4) == 8

    anyio.run(main)


def test_a_shielded_scope_lets_the_work_end() -> None:
    async def main() -> None:
        async with Engine(processes=1) as engine:
            with anyio.CancelScope() as scope:
                scope.cancel()
                with anyio.CancelScope(shield=True):
                    assert await engine.run(functions.double, 4) == 8
                await anyio.sleep(math.inf)
            assert scope.cancelled_caught

    anyio.run(main)


def test_an_engine_may_stop_in_a_cancelled_scope() -> None:
    """As with ``aclose`` of anything in anyio: leaving the block still ends every worker."""

    async def main() -> None:
        with anyio.CancelScope() as scope:
            async with Engine(processes=1) as engine:
                assert await engine.run(functions.double, 4) == 8
                scope.cancel()
                await anyio.sleep(math.inf)
        assert scope.cancelled_caught
        await eventually_async(lambda: engine.snapshot().phase == "closed")

    anyio.run(main)


def test_threads_of_anyio_call_back_to_an_engine() -> None:
    async def main() -> None:
        async with Engine(processes=1) as engine:

            def in_a_thread() -> list[int]:
                waited = anyio.from_thread.run(engine.run, functions.double, 1)
                return [waited, engine.submit(functions.double, 2).result(timeout=30)]

            assert await anyio.to_thread.run_sync(in_a_thread) == [2, 4]

    anyio.run(main)


def test_thread_tasks_of_an_engine_call_back_to_anyio() -> None:
    async def main() -> None:
        async with Engine(processes=1) as engine:
            token = anyio.lowlevel.current_token()

            def in_a_thread() -> int:
                return int(anyio.from_thread.run(engine.run, functions.double, 5, token=token))

            assert await engine.options(lane="thread").run(in_a_thread) == 10

    anyio.run(main)


def test_an_engine_lives_in_a_blocking_portal() -> None:
    @asynccontextmanager
    async def engines() -> AsyncIterator[Engine]:
        async with Engine(processes=1) as engine:
            yield engine

    with (
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(engines()) as engine,
    ):
        assert portal.call(engine.run, functions.double, 6) == 12
        assert engine.submit(functions.double, 7).result(timeout=30) == 14


async def test_results_go_through_a_stream_of_anyio() -> None:
    async with Engine(processes=2) as engine:
        send, receive = anyio.create_memory_object_stream[int](1)

        async def produce() -> None:
            async with send:
                async for value in engine.map(functions.double, range(10)):
                    await send.send(value)

        async with anyio.create_task_group() as group, receive:
            group.start_soon(produce)
            assert [value async for value in receive] == list(range(0, 20, 2))
