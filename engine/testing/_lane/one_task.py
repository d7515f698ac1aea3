"""What becomes of one task: value, error, times, progress, and what is freed."""

import asyncio
import gc
import time
import weakref
from pathlib import Path

from ... import Lane, TaskState, checkpoint, current_task
from ...errors import RemoteError
from ..waiting import eventually_async
from .functions import make_blob, report
from .kit import STUCK, LaneKit, begun, raises


async def a_value_comes_back_with_all_arguments_passed(kit: LaneKit, folder: Path) -> None:
    async with kit.engine() as engine:
        task = kit.submit(engine, "give", "ab", times=2)
        assert await task == "abab"
        assert task.state is TaskState.COMPLETED
        assert task.lane is kit.lane
        assert task.attempt == 1


async def an_error_arrives_with_type_and_message(kit: LaneKit, folder: Path) -> None:
    async with kit.engine() as engine:
        task = kit.submit(engine, "fail", "no luck")
        with raises(ValueError, match="no luck"):
            await task
        assert task.state is TaskState.FAILED
        assert isinstance(task.exception(), ValueError)
        info = engine.get(task.id)
        assert info is not None
        assert info.error == "ValueError: no luck"


async def _arrives_as_remote_error(kind: type[BaseException], kit: LaneKit, folder: Path) -> None:
    """SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration and BaseExceptions fail only their task."""
    async with kit.engine() as engine:
        with raises(RuntimeError) as caught:
            await asyncio.wait_for(kit.submit(engine, "throw", kind("out")), STUCK)
        if kit.lane is not Lane.LOOP or kind is not StopIteration:  # which Python itself turns into a RuntimeError
            assert isinstance(caught.value, RemoteError)
            assert caught.value.type_name == kind.__name__
        assert isinstance(caught.value.__cause__, kind)
        assert await kit.submit(engine, "give", 1) == 1


async def a_system_exit_arrives_as_remote_error(kit: LaneKit, folder: Path) -> None:
    await _arrives_as_remote_error(SystemExit, kit, folder)


async def a_keyboard_interrupt_arrives_as_remote_error(kit: LaneKit, folder: Path) -> None:
    await _arrives_as_remote_error(KeyboardInterrupt, kit, folder)


async def a_generator_exit_arrives_as_remote_error(kit: LaneKit, folder: Path) -> None:
    await _arrives_as_remote_error(GeneratorExit, kit, folder)


async def a_stop_iteration_arrives_as_remote_error(kit: LaneKit, folder: Path) -> None:
    await _arrives_as_remote_error(StopIteration, kit, folder)


async def a_base_exception_arrives_as_remote_error(kit: LaneKit, folder: Path) -> None:
    await _arrives_as_remote_error(BaseException, kit, folder)


async def cancelled_error_raised_by_the_task_itself(kit: LaneKit, folder: Path) -> None:
    """A coroutine that raises CancelledError is CANCELLED; from a plain function it is a RemoteError."""
    async with kit.engine() as engine:
        task = kit.submit(engine, "throw", asyncio.CancelledError())
        await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), STUCK)
        if kit.lane is Lane.LOOP:
            assert task.cancelled()
        else:
            assert isinstance(task.exception(), RemoteError)


async def the_three_times_are_in_order(kit: LaneKit, folder: Path) -> None:
    async with kit.engine() as engine:
        before = time.time()
        tasks = [kit.submit(engine, "give", number) for number in range(20)]
        await asyncio.gather(*tasks)
        for task in tasks:
            assert task.started_at is not None
            assert task.completed_at is not None
            assert before - 0.1 <= task.created_at < task.started_at < task.completed_at <= time.time() + 0.1


async def current_task_knows_its_task(kit: LaneKit, folder: Path) -> None:
    async with kit.engine() as engine:
        view = engine.options(timeout=50, name="mine")
        task = kit.submit(view, "about_me")
        number, name, attempt, deadline, is_asked = await task
        assert (number, name, attempt, is_asked) == (task.id, "mine", 1, False)
        assert deadline is not None
        assert 0 < deadline - time.monotonic() <= 50
        assert (await kit.submit(engine, "about_me"))[3] is None


async def progress_is_seen_from_outside(kit: LaneKit, folder: Path) -> None:
    async with kit.engine() as engine:
        task = kit.submit(engine, "report", str(folder), "one")
        progress = await eventually_async(lambda: task.progress, STUCK)
        assert progress is not None
        assert (progress.done, progress.total, progress.message) == (3, 10, "three of ten")
        info = engine.get(task.id)
        assert info is not None
        assert info.progress == progress
        (folder / "go").touch()
        await task


async def outside_a_task_checkpoint_and_progress_do_nothing(kit: LaneKit, folder: Path) -> None:
    (folder / "go").touch()
    checkpoint()
    assert current_task().id is None
    assert report(str(folder), "plain") == "plain"


async def arguments_and_result_are_freed_though_the_history_remembers(kit: LaneKit, folder: Path) -> None:
    """Once a task is done and its handle dropped, nothing holds its arguments or its result."""
    async with kit.engine() as engine:
        blob = make_blob(100_000)
        given = weakref.ref(blob)
        task = kit.submit(engine, "length", blob)
        assert await task == 100_000
        del blob
        await eventually_async(lambda: gc.collect() is not None and given() is None, STUCK, "the argument is freed")
        task = kit.submit(engine, "make_blob", 10)
        taken = weakref.ref(await task)
        number = task.id
        del task
        await eventually_async(lambda: gc.collect() is not None and taken() is None, STUCK, "the result is freed")
        assert engine.get(number) is not None


async def arguments_of_a_cancelled_task_are_freed(kit: LaneKit, folder: Path) -> None:
    """A cancelled task, with a timeout still far away, holds its arguments no longer, queued or running."""
    async with kit.engine(1) as engine:
        view = engine.options(timeout=600, total_timeout=600)
        blobs = [make_blob(10) for _ in range(2)]
        given = [weakref.ref(blob) for blob in blobs]
        holder = kit.submit(view, "hold", str(folder), "holder")
        tasks = [kit.submit(view, "length", blob) for blob in blobs]
        await begun(folder, "holder")
        del blobs
        for task in (*tasks, holder):
            assert task.cancel()
        await asyncio.gather(*tasks, holder, return_exceptions=True)
        await eventually_async(
            lambda: gc.collect() is not None and not any(ref() for ref in given), STUCK, "the arguments are freed"
        )
