"""Plain asyncio on an engine: its tasks in asyncio's own tools, and its executors where a loop takes one."""

import asyncio
import contextvars
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, Lane, TaskState
from engine.futures import ProcessExecutor, ThreadExecutor
from tests.ecosystem import dask_functions as functions
from tests.ecosystem.joblib_functions import never
from tests.support import eventually_async

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def test_run_in_executor_takes_an_executor_of_either_lane() -> None:
    loop = asyncio.get_running_loop()
    async with Engine(processes=2) as engine:
        assert await loop.run_in_executor(engine.executor(lane="process"), functions.pid, 1) != os.getpid()
        assert await loop.run_in_executor(engine.executor(lane="thread"), functions.pid, 1) == os.getpid()
        with pytest.raises(LookupError, match="no 4"):
            await loop.run_in_executor(engine.executor(lane="process"), functions.fail, 4)
        doubled = [loop.run_in_executor(engine.executor(lane="process"), functions.double, i) for i in range(50)]
        assert await asyncio.gather(*doubled) == list(range(0, 100, 2))


async def test_run_in_executor_takes_one_that_stands_alone() -> None:
    with ProcessExecutor(2) as processes:
        doubled = [asyncio.get_running_loop().run_in_executor(processes, functions.double, i) for i in range(50)]
        assert await asyncio.gather(*doubled) == list(range(0, 100, 2))


def test_a_thread_executor_is_the_default_of_a_loop() -> None:
    """``to_thread`` and ``getaddrinfo`` go through it, with the caller's context; the loop shuts it down at its end."""
    executor = ThreadExecutor(2, thread_name_prefix="ours")

    async def main() -> None:
        asyncio.get_running_loop().set_default_executor(executor)
        variable.set("seen")
        assert await asyncio.to_thread(lambda: threading.current_thread().name.startswith("ours"))
        assert await asyncio.to_thread(variable.get) == "seen"
        await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 80)
        assert executor.snapshot().lanes[Lane.THREAD].completed == 3
        await asyncio.get_running_loop().shutdown_default_executor()

    asyncio.run(main())
    with pytest.raises(RuntimeError, match="shut"):
        executor.submit(abs, -1)


async def test_a_task_group_cancels_the_work_of_its_other_tasks(tmp_path: Path) -> None:
    began = tmp_path / "began"
    async with Engine(processes=2) as engine:

        async def fail_when_the_other_runs() -> None:
            await eventually_async(began.exists)
            await engine.run(functions.fail, 1)

        async def both() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(engine.run(never, began))
                group.create_task(fail_when_the_other_runs())

        with pytest.raises(ExceptionGroup) as caught:
            await both()
        assert [type(error) for error in caught.value.exceptions] == [LookupError]
        [cancelled] = engine.tasks(state=TaskState.CANCELLED)
        assert cancelled.name == "never"


async def test_a_timeout_of_asyncio_ends_the_work(tmp_path: Path) -> None:
    async with Engine(processes=1) as engine:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await engine.run(never, tmp_path / "began")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(engine.submit(never, tmp_path / "began"), 0.2)
        assert engine.snapshot().count(TaskState.CANCELLED) == 2
        assert await engine.run(functions.double, 4) == 8


async def test_a_wait_for_run_in_executor_that_is_cancelled_takes_back_what_has_not_begun() -> None:
    async with Engine(threads=1) as engine:
        executor = engine.executor(lane="thread")
        go = threading.Event()
        running = asyncio.get_running_loop().run_in_executor(executor, go.wait, 30)
        waiting = asyncio.get_running_loop().run_in_executor(executor, time.sleep, 0)
        await eventually_async(lambda: engine.snapshot().lanes[Lane.THREAD].running == 1)
        waiting.cancel()
        await eventually_async(lambda: engine.snapshot().lanes[Lane.THREAD].cancelled == 1)
        go.set()
        assert await running


async def test_tasks_go_into_asyncios_own_tools() -> None:
    async with Engine(processes=2) as engine:
        tasks = [engine.submit(functions.double, i) for i in range(6)]
        assert await asyncio.gather(*tasks) == [0, 2, 4, 6, 8, 10]
        waited: list[Any] = [engine.submit(functions.double, i) for i in range(3)]
        done, pending = await asyncio.wait(waited)
        assert (sorted(task.result() for task in done), pending) == ([0, 2, 4], set())
        found = [await each for each in asyncio.as_completed([engine.submit(functions.double, i) for i in range(3)])]
        assert sorted(found) == [0, 2, 4]
        assert await asyncio.shield(engine.submit(functions.double, 8)) == 16
