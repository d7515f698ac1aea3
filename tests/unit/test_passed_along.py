"""What goes along with a task: context variables, exceptions, progress, arguments."""

import asyncio
import contextvars
import time
from pathlib import Path

import pytest

from engine import (
    RemoteError,
    Retry,
    Task,
    TaskState,
    current_task,
)
from tests.support import eventually_async
from tests.unit.gates import LANES, Gate, on, small

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")


@pytest.mark.parametrize("lane", LANES)
async def test_a_task_sees_its_submitters_context_and_leaks_nothing(lane: str) -> None:
    """Row A10."""
    variable.set("mine")

    def look_and_set(new: str) -> str:
        seen = variable.get()
        variable.set(new)
        return seen

    async with small() as engine:
        assert await engine.run(on(lane, look_and_set), "changed") == "mine"
        assert await engine.run(on(lane, look_and_set), "changed") == "mine"
        assert variable.get() == "mine"
        variable.set("later")
        assert await engine.run(on(lane, look_and_set), "x") == "later"


@pytest.mark.parametrize("lane", LANES)
async def test_no_attempt_sees_what_the_one_before_it_set(lane: str) -> None:
    """Row A10."""
    seen: list[str] = []

    def set_and_fail() -> None:
        seen.append(variable.get())
        variable.set("leaked")
        raise OSError

    variable.set("mine")
    async with small() as engine:
        with pytest.raises(OSError):  # noqa: PT011  # any will do
            await engine.options(retry=Retry(max_attempts=3, base_delay=0)).run(on(lane, set_and_fail))
    assert seen == ["mine"] * 3


async def test_a_process_task_sees_the_variables_that_the_engine_names_and_no_other() -> None:
    """Row A10."""
    variable.set("mine")
    async with small(context=("tests.unit.test_passed_along:variable",)) as engine:
        process = engine.options(lane="process")
        assert await process.run(read_variable) == "mine"
        variable.set("later")
        assert await process.run(read_variable) == "later"
    async with small() as engine:
        assert await engine.options(lane="process").run(read_variable) == "none"


def read_variable() -> str:
    """Give the variable as a worker sees it, and leave dirt for the next task."""
    seen = variable.get()
    variable.set("dirt")
    return seen


class Custom(BaseException):
    """Not an Exception."""


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, Custom])
async def test_what_would_end_the_callers_loop_arrives_as_a_remote_error(lane: str, kind: type[BaseException]) -> None:
    """Row W4."""

    def raises() -> None:
        raise kind("bye")

    async with small() as engine:
        task = engine.submit(on(lane, raises))
        with pytest.raises(RemoteError, match=kind.__name__) as caught:
            await task
        assert task.state is TaskState.FAILED
        assert isinstance(caught.value.__cause__, kind)
        assert (caught.value.type_name, caught.value.text) == (kind.__qualname__, "bye")
        assert "raises" in caught.value.traceback
        assert await engine.run(on(lane, abs), -1) == 1


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration])
async def test_a_stop_iteration_becomes_a_runtime_error(lane: str, kind: type[Exception]) -> None:
    """Rows A12 and W4: no hang."""

    def raises() -> None:
        raise kind("bye")

    async with small() as engine:
        task = engine.submit(on(lane, raises))
        with pytest.raises(RuntimeError) as caught:
            await task
        assert isinstance(caught.value.__cause__, kind)
        assert await engine.run(on(lane, abs), -1) == 1


async def test_a_coroutine_that_raises_cancelled_error_itself_is_cancelled() -> None:
    """Row W4."""

    async def raises() -> None:
        raise asyncio.CancelledError

    async with small() as engine:
        task = engine.submit(raises)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.state is TaskState.CANCELLED
        with pytest.raises(RemoteError):
            await engine.run(_raise_cancelled)


def _raise_cancelled() -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize("lane", LANES)
async def test_an_error_whose_text_cannot_be_made_arrives_all_the_same(lane: str) -> None:
    """Row S8, in memory."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

        __repr__ = __str__

    class MuteBase(BaseException):
        __str__ = Mute.__str__
        __repr__ = Mute.__str__

    def raises(kind: type[BaseException]) -> None:
        raise kind

    async with small() as engine:
        tasks: list[Task[None]] = [engine.submit(on(lane, raises), kind) for kind in (Mute, MuteBase)]
        first, second = await asyncio.gather(*tasks, return_exceptions=True)
        assert type(first) is Mute
        assert isinstance(second, RemoteError)
        assert isinstance(second.__cause__, MuteBase)
        assert engine.tasks()[0].error == "Mute: <its str() raised RuntimeError>"


@pytest.mark.parametrize("lane", LANES)
async def test_a_task_reports_its_progress(lane: str, gate: Gate) -> None:
    def report() -> None:
        current_task().progress(3, 10, "third")

    async with small() as engine:
        task = engine.submit(on(lane, report))
        await task
        assert task.progress is not None
        assert (task.progress.done, task.progress.total, task.progress.message) == (3, 10, "third")
        silent = engine.submit(on(lane, abs), 1)
        await silent
        assert silent.progress is None


async def test_arguments_of_a_process_task_are_pickled_after_submit_returns(tmp_path: Path) -> None:
    """Row S14: as in the standard executors, so what changes before the task starts is seen."""
    lock, started = tmp_path / "go", tmp_path / "started"
    async with small() as engine:
        process = engine.options(lane="process")
        held = process.submit(_wait_for_file, str(started), str(lock))
        await eventually_async(started.exists)
        numbers = [1, 2, 3]
        task = process.submit(sum, numbers)
        numbers.append(10)
        lock.touch()
        await held
        assert await task == 16


def _wait_for_file(started: str, path: str) -> None:
    import os

    open(started, "w").close()
    while not os.path.exists(path):
        time.sleep(0.001)


@pytest.mark.parametrize("lane", LANES)
async def test_a_task_in_memory_gets_the_very_objects(lane: str) -> None:
    """Row S14: nothing is copied on these lanes."""
    async with small() as engine:
        numbers = [1, 2]
        assert await engine.run(on(lane, lambda x: x), numbers) is numbers
