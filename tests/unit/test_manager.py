"""The BackgroundTaskManager: names, limit, outcomes, cancelling, waiting, stopping, loops that end."""

import asyncio
import contextvars
import dataclasses
import functools
import gc
import logging
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from engine import EngineClosed, checkpoint
from engine.manager import (
    BackgroundTask,
    BackgroundTaskManager,
    TaskStatus,
    get_background_task_manager,
    init_background_task_manager,
    shutdown_background_task_manager,
)
from engine.manager._home import Home
from tests.support import eventually, eventually_async

# -- what the tests run -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def managed(limit: int = 10) -> AsyncIterator[BackgroundTaskManager]:
    """Give a started manager, and stop it."""
    manager = BackgroundTaskManager(limit)
    await manager.start()
    try:
        yield manager
    finally:
        await manager.stop(timeout=5)


async def double(n: int) -> int:
    await asyncio.sleep(0)
    return 2 * n


async def forever() -> None:
    await asyncio.Event().wait()


class Boom(Exception):
    pass


async def boom() -> None:
    raise Boom("it broke")


class Gate:
    """Lets tasks stand still: each says that it is in, and leaves when the gate opens. Any lane."""

    def __init__(self) -> None:
        self.inside = 0
        self.most = 0
        self.entered = 0
        self.opened = asyncio.Event()
        self.opened_for_threads = threading.Event()
        self._lock = threading.Lock()

    def open(self) -> None:
        self.opened.set()
        self.opened_for_threads.set()

    def enter(self) -> None:
        with self._lock:
            self.inside += 1
            self.entered += 1
            self.most = max(self.most, self.inside)

    def leave(self) -> None:
        with self._lock:
            self.inside -= 1

    async def wait(self) -> str:
        self.enter()
        try:
            await self.opened.wait()
        finally:
            self.leave()
        return "coroutine"

    def block(self) -> str:
        self.enter()
        try:
            assert self.opened_for_threads.wait(30)
        finally:
            self.leave()
        return "thread"


def status_of(manager: BackgroundTaskManager, task_id: str) -> TaskStatus:
    record = manager.get_task_status(task_id)
    assert record is not None
    return record.status


async def until(manager: BackgroundTaskManager, task_id: str, status: TaskStatus) -> None:
    await eventually_async(lambda: status_of(manager, task_id) is status)


# -- records ----------------------------------------------------------------------------------------------------------


def test_the_states_have_their_five_names() -> None:
    assert [(status.name, status.value) for status in TaskStatus] == [
        ("PENDING", "pending"),
        ("RUNNING", "running"),
        ("COMPLETED", "completed"),
        ("FAILED", "failed"),
        ("CANCELLED", "cancelled"),
    ]


def test_a_record_has_nine_fields_in_their_order_and_starts_pending() -> None:
    before = time.time()
    record = BackgroundTask("a", double)
    assert [field.name for field in dataclasses.fields(BackgroundTask)] == [
        "task_id",
        "coroutine",
        "status",
        "created_at",
        "started_at",
        "completed_at",
        "error",
        "result",
        "asyncio_task",
    ]
    assert (record.status, record.started_at, record.completed_at) == (TaskStatus.PENDING, None, None)
    assert (record.error, record.result, record.asyncio_task) == (None, None, None)
    assert before <= record.created_at <= time.time()


def test_a_new_manager_is_empty() -> None:
    manager = BackgroundTaskManager()
    assert manager.max_concurrent_tasks == 10
    assert manager.tasks == {}
    assert manager.running_tasks == {}
    assert isinstance(manager.logger, logging.Logger)
    assert manager._monitor_task is None
    assert not manager._shutdown_event.is_set()
    assert manager.get_running_tasks() == []
    assert manager.get_queue_size() == 0
    assert manager.get_task_count() == dict.fromkeys(["pending", "running", "completed", "failed", "cancelled"], 0)
    assert manager.get_task_status("a") is None


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, None, "3"])
def test_a_limit_that_is_no_positive_integer_is_refused(limit: Any) -> None:
    with pytest.raises(ValueError, match="expected max_concurrent_tasks to be a positive integer, got"):
        BackgroundTaskManager(limit)


# -- submit -----------------------------------------------------------------------------------------------------------


async def test_a_task_runs_and_its_record_tells_the_story() -> None:
    async with managed() as manager:
        assert await manager.submit_task("a", double, n=21) == "a"
        record = manager.get_task_status("a")
        assert record is not None
        assert record.status is TaskStatus.PENDING
        assert record is manager.tasks["a"]
        assert await manager.wait_for_task("a") == 42
        assert (record.status, record.result, record.error) == (TaskStatus.COMPLETED, 42, None)
        assert record.coroutine is double
        assert record.started_at is not None
        assert record.completed_at is not None
        assert record.created_at < record.started_at < record.completed_at
        assert manager.get_task_count() == {"pending": 0, "running": 0, "completed": 1, "failed": 0, "cancelled": 0}


async def test_a_submit_before_start_is_accepted_and_runs() -> None:
    manager = BackgroundTaskManager(1)
    await manager.submit_task("a", double, n=1)
    await manager.submit_task("b", double, n=2)
    assert manager._monitor_task is None
    assert [await manager.wait_for_task("a", timeout=5), await manager.wait_for_task("b", timeout=5)] == [2, 4]
    await manager.start()
    await manager.stop()


async def test_submit_never_suspends() -> None:
    manager = BackgroundTaskManager(1)
    for number in range(3):
        step = manager.submit_task(f"{number}", double, n=number)
        with pytest.raises(StopIteration) as done:
            step.send(None)
        assert done.value.value == f"{number}"
    await manager.stop(drain=True)
    assert [task.result for task in manager.tasks.values()] == [0, 2, 4]


async def test_every_keyword_goes_to_the_function() -> None:
    async def echo(**kwargs: int) -> dict[str, int]:
        return kwargs

    async with managed() as manager:
        names = {"timeout": 1, "priority": 2, "lane": 3, "name": 4, "retry": 5, "self": 6, "fn": 7, "job": 8}
        await manager.submit_task("a", echo, **names)
        assert await manager.wait_for_task("a", timeout=5) == names
        await manager.submit_task(task_id="b", coroutine=echo, drain=1)
        assert await manager.wait_for_task("b", timeout=5) == {"drain": 1}


async def test_a_name_is_taken_while_its_record_is_kept() -> None:
    async with managed() as manager:
        await manager.submit_task("a", double, n=1)
        with pytest.raises(ValueError, match=r"^Task a already exists$"):
            await manager.submit_task("a", double, n=2)
        assert await manager.wait_for_task("a", timeout=5) == 2
        with pytest.raises(ValueError, match=r"^Task a already exists$"):
            await manager.submit_task("a", double, n=2)


async def test_what_cannot_be_called_is_refused_and_takes_no_name() -> None:
    def generator() -> Any:
        yield 1

    async with managed() as manager:
        with pytest.raises(TypeError, match="pass the function, not its call"):
            await manager.submit_task("a", double(1))  # type: ignore[arg-type]  # the mistake under test
        with pytest.raises(TypeError, match="expected coroutine to be a callable, got 7"):
            await manager.submit_task("a", 7)  # type: ignore[arg-type]  # the mistake under test
        with pytest.raises(TypeError, match="got the generator function"):
            await manager.submit_task("a", functools.partial(generator))
        with pytest.raises(ValueError, match="expected task_id to be a string, got 7"):
            await manager.submit_task(7, double)  # type: ignore[arg-type]  # the mistake under test
        assert manager.tasks == {}


def test_a_submit_where_no_loop_ever_ran_is_an_error_and_takes_no_name() -> None:
    manager = BackgroundTaskManager()
    with pytest.raises(RuntimeError, match="no running event loop"):
        manager.submit_task("a", double, n=1).send(None)
    assert manager.tasks == {}


async def test_a_coroutine_function_runs_on_the_loop_and_a_plain_function_in_a_thread() -> None:
    def plain(n: int) -> tuple[int, bool]:
        return n, threading.current_thread() is threading.main_thread()

    async def coroutine(n: int) -> tuple[int, bool]:
        return n, threading.current_thread() is threading.main_thread()

    class Callable_:
        async def __call__(self, n: int) -> tuple[int, bool]:
            return await coroutine(n)

    async with managed() as manager:
        on_loop: list[Callable[..., Any]] = [
            coroutine,
            functools.partial(coroutine),
            Callable_(),
            functools.partial(Callable_()),
        ]
        for number, function in enumerate(on_loop):
            await manager.submit_task(f"loop {number}", function, n=number)
            assert await manager.wait_for_task(f"loop {number}", timeout=5) == (number, True)
        in_thread: list[Callable[..., Any]] = [plain, functools.partial(plain)]
        for number, function in enumerate(in_thread):
            await manager.submit_task(f"thread {number}", function, n=number)
            assert await manager.wait_for_task(f"thread {number}", timeout=5) == (number, False)


async def test_the_awaitable_that_a_plain_callable_returns_is_awaited_on_the_loop() -> None:
    async def where() -> threading.Thread:
        return threading.current_thread()

    class Later:
        def __await__(self) -> Any:
            return double(5).__await__()

    def make() -> Awaitable[threading.Thread]:
        return where()

    async with managed() as manager:
        await manager.submit_task("a", make)
        await manager.submit_task("b", lambda n: double(n), n=4)
        await manager.submit_task("c", Later)
        assert await manager.wait_for_task("a", timeout=5) is threading.current_thread()
        assert await manager.wait_for_task("b", timeout=5) == 8
        assert await manager.wait_for_task("c", timeout=5) == 10


async def test_a_task_sees_the_variables_of_its_submitter() -> None:
    variable = contextvars.ContextVar("variable", default="unset")

    async def coroutine() -> str:
        return variable.get()

    async with managed(1) as manager:
        functions: dict[str, Callable[..., Any]] = {"a": coroutine, "b": variable.get}
        for name, function in functions.items():
            variable.set(name)
            await manager.submit_task(name, function)
        variable.set("later")
        assert [await manager.wait_for_task(name, timeout=5) for name in "ab"] == ["a", "b"]


async def test_asyncio_task_can_be_awaited_and_cancelled() -> None:
    async with managed() as manager:
        await manager.submit_task("a", double, n=2)
        await manager.submit_task("b", forever)
        await manager.submit_task("c", forever)
        first, second, third = [manager.tasks[name].asyncio_task for name in "abc"]
        assert first is not None
        assert second is not None
        assert third is not None
        assert third.cancel()  # before its first run
        (value,) = await asyncio.gather(first)
        assert value == 4
        await until(manager, "b", TaskStatus.RUNNING)
        assert manager.running_tasks == {"b": second}
        assert second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        await until(manager, "b", TaskStatus.CANCELLED)
        await until(manager, "c", TaskStatus.CANCELLED)
        assert manager.tasks["c"].started_at is None
        assert manager.running_tasks == {}


# -- the limit --------------------------------------------------------------------------------------------------------


async def test_a_burst_larger_than_the_limit_queues_and_runs_in_order() -> None:
    gate = Gate()
    order: list[int] = []

    async def one(n: int) -> None:
        order.append(n)
        await gate.wait()

    async with managed(3) as manager:
        for number in range(10):
            await manager.submit_task(f"{number}", one, n=number)
        assert manager.get_queue_size() == manager.get_task_count()["pending"] == 10
        await eventually_async(lambda: gate.inside == 3)
        assert manager.get_running_tasks() == ["0", "1", "2"]
        assert set(manager.running_tasks) == {"0", "1", "2"}
        assert manager.get_queue_size() == 10
        assert manager.get_task_count() == {"pending": 7, "running": 3, "completed": 0, "failed": 0, "cancelled": 0}
        gate.open()
        for number in range(10):
            await manager.wait_for_task(f"{number}", timeout=5)
        assert gate.most == 3
        assert order == list(range(10))


async def test_a_submit_while_the_limit_runs_is_refused_and_accepted_after() -> None:
    gate = Gate()
    async with managed(2) as manager:
        await manager.submit_task("a", gate.wait)
        await manager.submit_task("b", gate.block)
        await eventually_async(lambda: gate.inside == 2)
        for _ in range(3):
            with pytest.raises(ValueError, match=r"^Maximum concurrent tasks exceeded$"):
                await manager.submit_task("c", double, n=1)
        with pytest.raises(ValueError, match=r"^Task a already exists$"):
            await manager.submit_task("a", double, n=1)
        assert manager.get_task_status("c") is None
        gate.open()
        assert await manager.wait_for_task("a", timeout=5) == "coroutine"
        await manager.submit_task("c", double, n=1)
        assert await manager.wait_for_task("c", timeout=5) == 2
        assert await manager.wait_for_task("b", timeout=5) == "thread"


async def test_coroutines_and_threads_share_one_limit() -> None:
    gate = Gate()
    async with managed(3) as manager:
        for number in range(12):
            await manager.submit_task(f"{number}", gate.block if number % 2 else gate.wait)
        await eventually_async(lambda: gate.inside == 3)
        gate.open()
        for number in range(12):
            await manager.wait_for_task(f"{number}", timeout=5)
        assert gate.most == 3
        assert gate.entered == 12


async def test_a_cancelled_thread_keeps_its_place_until_its_function_returns() -> None:
    gate, second = Gate(), Gate()
    async with managed(1) as manager:
        await manager.submit_task("a", gate.block)
        await eventually_async(lambda: gate.inside == 1)
        assert await manager.cancel_task("a")
        assert status_of(manager, "a") is TaskStatus.CANCELLED
        await manager.submit_task("b", second.wait)  # nothing is RUNNING: accepted, but it queues
        with pytest.raises(TimeoutError):
            await manager.wait_for_task("b", timeout=0.05)
        assert (second.entered, status_of(manager, "b")) == (0, TaskStatus.PENDING)
        gate.open()
        await eventually_async(lambda: second.inside == 1)
        second.open()
        assert await manager.wait_for_task("b", timeout=5) == "coroutine"


async def test_a_coroutine_that_takes_its_time_to_be_cancelled_keeps_its_place_and_stays_running() -> None:
    gate, cleaned = Gate(), asyncio.Event()

    async def slow() -> None:
        try:
            await forever()
        finally:
            await gate.wait()
            cleaned.set()

    async with managed(1) as manager:
        await manager.submit_task("a", slow)
        await manager.submit_task("b", double, n=1)
        await until(manager, "a", TaskStatus.RUNNING)
        assert await manager.cancel_task("a")
        assert status_of(manager, "a") is TaskStatus.RUNNING
        assert status_of(manager, "b") is TaskStatus.PENDING
        gate.open()
        assert await manager.wait_for_task("b", timeout=5) == 2
        assert cleaned.is_set()
        assert status_of(manager, "a") is TaskStatus.CANCELLED


async def test_a_task_that_waits_for_another_does_not_lend_its_place() -> None:
    gate = Gate()

    async def outer(manager: BackgroundTaskManager) -> str:
        gate.enter()
        inner = manager.tasks["inner"].asyncio_task
        assert inner is not None
        value = await inner
        gate.leave()
        return f"outer of {value}"

    async with managed(2) as manager:
        await manager.submit_task("outer", outer, manager=manager)
        await manager.submit_task("inner", gate.wait)
        await manager.submit_task("third", gate.wait)
        await eventually_async(lambda: gate.inside == 2)
        with pytest.raises(asyncio.TimeoutError):
            await manager.wait_for_task("outer", timeout=0.05)
        assert status_of(manager, "third") is TaskStatus.PENDING
        gate.open()
        assert await manager.wait_for_task("outer", timeout=5) == "outer of coroutine"
        assert await manager.wait_for_task("third", timeout=5) == "coroutine"
        assert gate.most == 2


async def test_a_task_may_submit_more_tasks_and_wait_for_them() -> None:
    async def outer(manager: BackgroundTaskManager, n: int) -> int:
        if n == 0:
            return 1
        await manager.submit_task(f"{n}", outer, manager=manager, n=n - 1)
        value = await manager.wait_for_task(f"{n}")
        assert isinstance(value, int)
        return 2 * value

    async with managed(6) as manager:
        await manager.submit_task("outer", outer, manager=manager, n=5)
        assert await manager.wait_for_task("outer", timeout=5) == 32


async def test_a_queued_task_can_be_awaited_and_cancelled_through_asyncio_task() -> None:
    gate = Gate()
    async with managed(1) as manager:
        for name in "abc":
            await manager.submit_task(name, gate.wait)
        second, third = manager.tasks["b"].asyncio_task, manager.tasks["c"].asyncio_task
        assert second is not None
        assert third is not None
        await eventually_async(lambda: gate.inside == 1)
        third.cancel()
        await until(manager, "c", TaskStatus.CANCELLED)
        gate.open()
        assert await second == "coroutine"
        assert gate.entered == 2


async def test_a_claimed_task_cancelled_through_asyncio_task_before_it_ran_gives_its_place_back() -> None:
    gate = Gate()
    async with managed(1) as manager:
        await manager.submit_task("a", gate.wait)
        first = manager.tasks["a"].asyncio_task
        assert first is not None
        assert first.cancel()
        await until(manager, "a", TaskStatus.CANCELLED)
        await manager.submit_task("b", double, n=1)
        assert await manager.wait_for_task("b", timeout=5) == 2
        assert gate.entered == 0


# -- waiting ----------------------------------------------------------------------------------------------------------


async def test_waiting_for_an_unknown_task_is_an_error() -> None:
    async with managed() as manager:
        with pytest.raises(ValueError, match=r"^Task a not found$"):
            await manager.wait_for_task("a")


async def test_waiting_for_a_failed_task_raises_chained_to_the_cause() -> None:
    async with managed() as manager:
        await manager.submit_task("a", boom)
        for _ in range(2):
            with pytest.raises(Exception, match=r"^Task a failed: it broke$") as caught:
                await manager.wait_for_task("a", timeout=5)
            assert type(caught.value) is Exception
            assert isinstance(caught.value.__cause__, Boom)
            assert caught.value.__cause__.__traceback__ is not None
        record = manager.tasks["a"]
        assert (record.status, record.error, record.result) == (TaskStatus.FAILED, "it broke", None)
        assert record.started_at is not None
        assert record.completed_at is not None
        assert record.created_at < record.started_at < record.completed_at


async def test_a_failure_is_logged_once_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async with managed() as manager:
        await manager.submit_task("a", boom)
        await until(manager, "a", TaskStatus.FAILED)
    del manager
    gc.collect()
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [(record.name, record.getMessage()) for record in errors] == [("engine.manager", "task a failed: it broke")]
    assert errors[0].exc_info is not None
    assert isinstance(errors[0].exc_info[1], Boom)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration])
@pytest.mark.parametrize("lane", ["loop", "thread"])
async def test_an_exception_that_would_end_the_loop_only_fails_its_task(kind: type[BaseException], lane: str) -> None:
    def plain() -> None:
        raise kind("no")

    async def coroutine() -> None:
        plain()

    async with managed(1) as manager:
        await manager.submit_task("a", coroutine if lane == "loop" else plain)
        with pytest.raises(Exception, match=r"^Task a failed: ") as caught:
            await manager.wait_for_task("a", timeout=5)
        assert caught.value.__cause__ is not None
        assert status_of(manager, "a") is TaskStatus.FAILED
        await manager.submit_task("b", double, n=1)  # its place is free again
        assert await manager.wait_for_task("b", timeout=5) == 2


async def test_an_error_whose_str_raises_still_fails_its_task() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise Boom

    async def coroutine() -> None:
        raise Mute

    async with managed() as manager:
        await manager.submit_task("a", coroutine)
        with pytest.raises(Exception, match=r"^Task a failed: <Mute whose str\(\) raised Boom>$"):
            await manager.wait_for_task("a", timeout=5)


async def test_a_wait_that_times_out_leaves_the_task_running() -> None:
    gate = Gate()
    async with managed() as manager:
        await manager.submit_task("a", gate.wait)
        with pytest.raises(asyncio.TimeoutError):
            await manager.wait_for_task("a", timeout=0.02)
        assert status_of(manager, "a") is TaskStatus.RUNNING
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(manager.wait_for_task("a"), 0.02)
        assert status_of(manager, "a") is TaskStatus.RUNNING
        gate.open()
        assert await manager.wait_for_task("a", timeout=5) == "coroutine"


async def test_a_wait_with_timeout_zero_asks_how_it_is_now_and_never_suspends() -> None:
    async with managed() as manager:
        await manager.submit_task("a", double, n=1)
        with pytest.raises(asyncio.TimeoutError):
            manager.wait_for_task("a", timeout=0).send(None)
        assert await manager.wait_for_task("a") == 2
        with pytest.raises(StopIteration) as done:
            manager.wait_for_task("a", timeout=0).send(None)
        assert done.value.value == 2


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), "1", True])
async def test_a_timeout_that_is_no_duration_is_refused(timeout: Any) -> None:
    async with managed() as manager:
        await manager.submit_task("a", double, n=1)
        with pytest.raises(ValueError, match="expected timeout to be a finite number of seconds, zero or more"):
            await manager.wait_for_task("a", timeout)
        with pytest.raises(ValueError, match="expected timeout to be a finite number of seconds, zero or more"):
            await manager.stop(timeout)
        assert await manager.wait_for_task("a", timeout=5) == 2


async def test_waiting_for_a_cancelled_task_raises_cancelled_error() -> None:
    async with managed() as manager:
        await manager.submit_task("a", forever)
        waiter = asyncio.create_task(manager.wait_for_task("a"))
        await until(manager, "a", TaskStatus.RUNNING)
        assert await manager.cancel_task("a")
        with pytest.raises(asyncio.CancelledError):
            await waiter
        with pytest.raises(asyncio.CancelledError):
            await manager.wait_for_task("a", timeout=0)


async def test_many_waiters_on_several_loops_get_the_same_result() -> None:
    gate = Gate()
    results: list[Any] = []

    async with managed() as manager:
        await manager.submit_task("a", gate.wait)

        def wait_elsewhere() -> None:
            results.append(asyncio.run(manager.wait_for_task("a", timeout=10)))

        threads = [threading.Thread(target=wait_elsewhere) for _ in range(3)]
        for thread in threads:
            thread.start()
        waiters = [asyncio.create_task(manager.wait_for_task("a")) for _ in range(3)]
        await eventually_async(lambda: gate.inside == 1)
        gate.open()
        results += await asyncio.gather(*waiters)
        await eventually_async(lambda: not any(thread.is_alive() for thread in threads))
    assert results == ["coroutine"] * 6


# -- cancelling -------------------------------------------------------------------------------------------------------


async def test_cancelling_what_is_unknown_or_over_answers_false() -> None:
    async with managed() as manager:
        assert await manager.cancel_task("nobody") is False
        await manager.submit_task("a", double, n=1)
        await manager.submit_task("b", boom)
        await manager.submit_task("c", forever)
        await manager.wait_for_task("a")
        await until(manager, "b", TaskStatus.FAILED)
        assert await manager.cancel_task("a") is False
        assert await manager.cancel_task("b") is False
        assert await manager.cancel_task("c") is True
        assert await manager.cancel_task("c") is False
        assert (status_of(manager, "a"), status_of(manager, "b")) == (TaskStatus.COMPLETED, TaskStatus.FAILED)


async def test_a_task_cancelled_before_its_first_run_never_runs() -> None:
    gate = Gate()
    async with managed(1) as manager:
        await manager.submit_task("claimed", gate.wait)
        await manager.submit_task("queued", gate.wait)
        await manager.submit_task("next", double, n=1)
        assert await manager.cancel_task("claimed")
        assert await manager.cancel_task("queued")
        for name in ("claimed", "queued"):
            record = manager.tasks[name]
            assert (record.status, record.started_at) == (TaskStatus.CANCELLED, None)
            assert record.completed_at is not None
            assert record.created_at < record.completed_at
        assert await manager.wait_for_task("next", timeout=5) == 2
        assert gate.entered == 0
        assert manager.get_queue_size() == 0


async def test_cancelling_a_running_coroutine_unwinds_it_before_the_answer() -> None:
    unwound = []

    async def coroutine() -> None:
        try:
            await forever()
        finally:
            unwound.append(True)

    async with managed() as manager:
        await manager.submit_task("a", coroutine)
        await until(manager, "a", TaskStatus.RUNNING)
        assert await manager.cancel_task("a")
        assert unwound == [True]
        assert status_of(manager, "a") is TaskStatus.CANCELLED
        record = manager.tasks["a"]
        assert record.started_at is not None
        assert record.completed_at is not None
        assert record.created_at < record.started_at < record.completed_at
        assert (record.error, record.result) == (None, None)


async def test_a_cancelled_task_that_returns_all_the_same_is_not_completed() -> None:
    async def stubborn() -> str:
        try:
            await forever()
        except asyncio.CancelledError:
            pass
        return "done all the same"

    async with managed() as manager:
        await manager.submit_task("a", stubborn)
        await manager.submit_task("b", stubborn)
        await until(manager, "b", TaskStatus.RUNNING)
        assert await manager.cancel_task("a")
        behind_our_back = manager.tasks["b"].asyncio_task
        assert behind_our_back is not None
        behind_our_back.cancel()
        await until(manager, "b", TaskStatus.CANCELLED)
        assert status_of(manager, "a") is TaskStatus.CANCELLED
        assert manager.tasks["a"].result is None


async def test_a_coroutine_that_cancels_itself_is_cancelled() -> None:
    async def coroutine() -> None:
        raise asyncio.CancelledError

    async with managed(1) as manager:
        await manager.submit_task("a", coroutine)
        with pytest.raises(asyncio.CancelledError):
            await manager.wait_for_task("a", timeout=5)
        await manager.submit_task("b", double, n=1)
        assert await manager.wait_for_task("b", timeout=5) == 2


async def test_a_task_may_cancel_itself_by_name() -> None:
    async def coroutine(manager: BackgroundTaskManager) -> None:
        assert await manager.cancel_task("a")
        await forever()

    async with managed() as manager:
        await manager.submit_task("a", coroutine, manager=manager)
        with pytest.raises(asyncio.CancelledError):
            await manager.wait_for_task("a", timeout=5)


async def test_a_cancelled_thread_sees_it_at_its_checkpoint() -> None:
    entered, seen = threading.Event(), threading.Event()

    def plain() -> None:
        entered.set()
        try:
            while True:
                time.sleep(0.001)
                checkpoint()
        finally:
            seen.set()

    async with managed(1) as manager:
        await manager.submit_task("a", plain)
        await eventually_async(entered.is_set)
        assert await manager.cancel_task("a")
        assert status_of(manager, "a") is TaskStatus.CANCELLED
        await eventually_async(seen.is_set)
        await manager.submit_task("b", double, n=1)
        assert await manager.wait_for_task("b", timeout=5) == 2


# -- stopping ---------------------------------------------------------------------------------------------------------


async def test_stop_cancels_what_runs_and_what_waits() -> None:
    gate = Gate()
    manager = BackgroundTaskManager(2)
    await manager.start()
    assert manager._monitor_task is not None
    assert not manager._monitor_task.done()
    for number in range(5):
        await manager.submit_task(f"{number}", gate.wait)
    await eventually_async(lambda: gate.inside == 2)
    began = time.monotonic()
    await manager.stop()
    assert time.monotonic() - began < 5
    assert manager.get_task_count() == {"pending": 0, "running": 0, "completed": 0, "failed": 0, "cancelled": 5}
    assert gate.entered == 2
    assert gate.inside == 0
    assert manager._monitor_task.done()
    assert manager._shutdown_event.is_set()
    with pytest.raises(EngineClosed, match="after shutdown"):
        await manager.submit_task("late", double, n=1)
    with pytest.raises(RuntimeError):
        await manager.submit_task("late", double, n=1)
    assert manager.get_task_status("late") is None


async def test_stop_with_drain_lets_everything_finish() -> None:
    manager = BackgroundTaskManager(2)
    await manager.start()
    for number in range(6):
        await manager.submit_task(f"{number}", double, n=number)
    stopping = asyncio.create_task(manager.stop(drain=True))
    await asyncio.sleep(0)
    with pytest.raises(EngineClosed):
        await manager.submit_task("late", double, n=1)
    await stopping
    assert [record.result for record in manager.tasks.values()] == [0, 2, 4, 6, 8, 10]


async def test_stop_with_drain_cancels_what_has_not_finished_in_time() -> None:
    manager = BackgroundTaskManager(1)
    await manager.submit_task("a", forever)
    await manager.submit_task("b", forever)
    await manager.stop(timeout=0.05, drain=True)
    assert manager.get_task_count()["cancelled"] == 2
    assert manager.tasks["b"].started_at is None


async def test_stop_gives_a_cancelled_task_its_time_to_end() -> None:
    ended = []

    async def coroutine() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0.8)
            ended.append(True)

    manager = BackgroundTaskManager()
    await manager.submit_task("a", coroutine)
    await until(manager, "a", TaskStatus.RUNNING)
    await manager.stop(timeout=20)
    assert ended == [True]
    assert (status_of(manager, "a"), manager.tasks["a"].error) == (TaskStatus.CANCELLED, None)


async def test_stop_gives_up_what_does_not_end_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()

    async def stubborn() -> None:
        gate.enter()
        while not gate.opened.is_set():
            try:
                await gate.opened.wait()
            except asyncio.CancelledError:
                pass
        gate.leave()

    manager = BackgroundTaskManager()
    await manager.submit_task("coroutine", stubborn)
    await manager.submit_task("thread", gate.block)
    await eventually_async(lambda: gate.inside == 2)
    began = time.monotonic()
    await manager.stop(timeout=0)
    assert time.monotonic() - began < 3
    assert {status_of(manager, "coroutine"), status_of(manager, "thread")} == {TaskStatus.CANCELLED}
    assert manager.tasks["coroutine"].error == "it did not end in time and was given up"
    told = {record.getMessage() for record in caplog.records if record.name == "engine.manager"}
    assert {
        "task coroutine did not end in time and still runs",
        "task thread did not end in time and still runs",
    } <= told
    gate.open()
    await eventually_async(lambda: gate.inside == 0)


async def test_stop_is_idempotent_and_may_be_called_twice_at_once_and_before_start() -> None:
    await BackgroundTaskManager().stop()
    manager = BackgroundTaskManager()
    await manager.start()
    await manager.start()
    await manager.submit_task("a", forever)
    await asyncio.gather(manager.stop(drain=True, timeout=30), manager.stop(timeout=1), manager.stop(timeout=None))
    await manager.stop()
    assert status_of(manager, "a") is TaskStatus.CANCELLED


async def test_a_cancelled_stop_can_be_called_again() -> None:
    manager = BackgroundTaskManager()
    await manager.start()
    await manager.submit_task("a", forever)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(manager.stop(timeout=None, drain=True), 0.02)
    assert status_of(manager, "a") is TaskStatus.RUNNING
    await manager.stop()
    assert status_of(manager, "a") is TaskStatus.CANCELLED
    assert manager._monitor_task is not None
    assert manager._monitor_task.done()


async def test_a_task_may_stop_its_manager() -> None:
    async def coroutine(manager: BackgroundTaskManager) -> str:
        await manager.stop(timeout=5)
        return "stopped"

    manager = BackgroundTaskManager()
    await manager.start()
    await manager.submit_task("other", forever)
    await manager.submit_task("a", coroutine, manager=manager)
    assert await manager.wait_for_task("a", timeout=10) == "stopped"
    assert status_of(manager, "other") is TaskStatus.CANCELLED


async def test_a_stopped_manager_can_be_started_again() -> None:
    manager = BackgroundTaskManager()
    for round_ in range(2):
        await manager.start()
        assert not manager._shutdown_event.is_set()
        await manager.submit_task(f"{round_}", double, n=round_)
        assert await manager.wait_for_task(f"{round_}", timeout=5) == 2 * round_
        await manager.stop()
    assert manager.get_task_count()["completed"] == 2


async def test_a_start_during_a_stop_is_refused() -> None:
    manager = BackgroundTaskManager()
    await manager.submit_task("a", forever)
    stopping = asyncio.create_task(manager.stop())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="expected a manager that is not being stopped"):
        await manager.start()
    await stopping


# -- the monitor ------------------------------------------------------------------------------------------------------


async def test_the_monitor_forgets_what_ended_more_than_an_hour_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.manager import _manager

    assert (_manager.MONITOR_INTERVAL, _manager.KEEP_SECONDS) == (30.0, 3600.0)
    monkeypatch.setattr(_manager, "MONITOR_INTERVAL", 0.01)
    async with managed() as manager:
        for name in ("old", "young"):
            await manager.submit_task(name, double, n=1)
            await manager.wait_for_task(name)
        await manager.submit_task("live", forever)
        for name, age in {"old": 3601, "young": 3590}.items():
            ended = manager.tasks[name].completed_at
            assert ended is not None
            manager.tasks[name].completed_at = ended - age
        await eventually_async(lambda: manager.get_task_status("old") is None)
        assert list(manager.tasks) == ["young", "live"]
        with pytest.raises(ValueError, match="Task old not found"):
            await manager.wait_for_task("old")
        await manager.submit_task("old", double, n=2)  # its name is free again
        assert await manager.wait_for_task("old", timeout=5) == 4


# -- loops that end ---------------------------------------------------------------------------------------------------


def test_one_manager_serves_several_runs_and_what_a_run_left_is_cancelled() -> None:
    manager = BackgroundTaskManager(2)
    entered: list[str] = []

    async def stay(name: str) -> None:
        entered.append(name)
        await forever()

    async def leave(run: int) -> None:
        await manager.start()
        for name in ("one", "two", "three"):
            await manager.submit_task(f"{name} {run}", stay, name=f"{name} {run}")
        await eventually_async(lambda: len(manager.running_tasks) == 2)

    for run in range(3):
        asyncio.run(leave(run))
        assert manager.get_task_count()["cancelled"] == 3 * (run + 1)
        assert manager.tasks[f"three {run}"].started_at is None
        assert manager._monitor_task is not None
        assert manager._monitor_task.done()
    assert entered == [f"{name} {run}" for run in range(3) for name in ("one", "two")]

    async def finish() -> int:
        await manager.submit_task("last", double, n=4)
        result = await manager.wait_for_task("last", timeout=5)
        await manager.stop()
        assert isinstance(result, int)
        return result

    assert asyncio.run(finish()) == 8


def test_a_run_that_ends_without_stop_leaves_no_thread_and_no_task_that_never_started() -> None:
    manager = BackgroundTaskManager(2)
    gate = Gate()

    async def leave() -> None:
        await manager.submit_task("idle", time.monotonic)
        await manager.wait_for_task("idle")
        for number in range(4):
            await manager.submit_task(f"{number}", gate.wait)
        await eventually_async(lambda: gate.inside == 2)

    asyncio.run(leave())
    assert gate.entered == 2
    assert manager.get_task_count() == {"pending": 0, "running": 0, "completed": 1, "failed": 0, "cancelled": 4}
    eventually(lambda: not [t for t in threading.enumerate() if t.name.startswith("background-thread")])


def test_a_thread_outlives_its_loop_and_holds_its_place_until_it_returns() -> None:
    manager = BackgroundTaskManager(1)
    gate, second = Gate(), Gate()

    async def leave() -> None:
        await manager.submit_task("a", gate.block)
        await eventually_async(lambda: gate.inside == 1)

    async def come_back() -> None:
        assert status_of(manager, "a") is TaskStatus.CANCELLED
        await manager.submit_task("b", second.wait)
        with pytest.raises(asyncio.TimeoutError):
            await manager.wait_for_task("b", timeout=0.05)
        assert second.entered == 0
        gate.open()
        second.open()
        assert await manager.wait_for_task("b", timeout=5) == "coroutine"
        await manager.stop()

    asyncio.run(leave())
    asyncio.run(come_back())


def test_a_loop_closed_without_ceremony_is_noticed_and_costs_no_place() -> None:
    manager = BackgroundTaskManager(1)

    async def begin() -> None:
        await manager.submit_task("running", forever)
        await manager.submit_task("queued", forever)
        await until(manager, "running", TaskStatus.RUNNING)

    async def go_on() -> None:
        with pytest.raises(asyncio.CancelledError):
            await manager.wait_for_task("running", timeout=0)
        await manager.submit_task("next", double, n=1)
        assert await manager.wait_for_task("next", timeout=5) == 2
        await manager.stop()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin())
    loop._asyncgens.clear()  # type: ignore[attr-defined]  # or its collector warns that we closed it without ceremony
    loop.close()
    assert manager.get_task_count() == {"pending": 0, "running": 0, "completed": 0, "failed": 0, "cancelled": 2}
    assert {record.error for record in manager.tasks.values()} == {"its event loop was closed"}
    assert manager.running_tasks == {}
    assert manager.get_running_tasks() == []
    asyncio.run(go_on())


def test_a_submit_from_another_thread_runs_on_the_managers_loop() -> None:
    manager = BackgroundTaskManager(2)
    ran_on: list[asyncio.AbstractEventLoop] = []

    async def where() -> None:
        ran_on.append(asyncio.get_running_loop())

    def with_a_loop() -> None:
        asyncio.run(manager.submit_task("with", where))

    def without_a_loop() -> None:
        with pytest.raises(StopIteration):
            manager.submit_task("without", where).send(None)

    async def main() -> None:
        await manager.start()
        await asyncio.to_thread(with_a_loop)
        await asyncio.to_thread(without_a_loop)
        await manager.wait_for_task("with", timeout=5)
        await manager.wait_for_task("without", timeout=5)
        assert ran_on == [asyncio.get_running_loop()] * 2
        await asyncio.to_thread(lambda: asyncio.run(manager.stop()))
        assert manager._monitor_task is not None
        assert manager._monitor_task.done()

    asyncio.run(main())


async def test_a_manager_that_nobody_holds_any_more_is_collected() -> None:
    async def use() -> int:
        manager = BackgroundTaskManager()
        await manager.submit_task("a", double, n=1)
        await manager.submit_task("b", time.monotonic)
        await manager.wait_for_task("b")
        result = await manager.wait_for_task("a")
        assert isinstance(result, int)
        return result

    assert await use() == 2

    def is_gone() -> bool:
        gc.collect()
        return not [found for found in gc.get_objects() if type(found) is BackgroundTaskManager]

    await eventually_async(is_gone)


# -- the shared manager -----------------------------------------------------------------------------------------------


async def test_the_shared_manager_is_one_until_it_is_shut_down() -> None:
    first = get_background_task_manager()
    assert get_background_task_manager() is first
    assert first.max_concurrent_tasks == 10
    assert first._monitor_task is None
    await shutdown_background_task_manager()
    second = await init_background_task_manager(max_concurrent_tasks=3)
    assert second is not first
    assert get_background_task_manager() is second
    assert second.max_concurrent_tasks == 3
    assert second._monitor_task is not None
    await second.submit_task("a", forever)
    third = await init_background_task_manager()
    assert get_background_task_manager() is third
    assert (status_of(second, "a"), second._monitor_task.done()) == (TaskStatus.CANCELLED, True)
    await shutdown_background_task_manager(timeout=1)
    await shutdown_background_task_manager()
    assert get_background_task_manager() is not third
    await shutdown_background_task_manager()


async def test_a_bad_limit_leaves_the_shared_manager_as_it_is() -> None:
    manager = get_background_task_manager()
    with pytest.raises(ValueError, match="expected max_concurrent_tasks to be a positive integer, got 0"):
        await init_background_task_manager(0)
    assert get_background_task_manager() is manager
    await shutdown_background_task_manager()


def test_the_shared_manager_serves_several_runs() -> None:
    async def run(n: int) -> Any:
        manager = get_background_task_manager()
        await manager.submit_task(f"{n}", double, n=n)
        await manager.submit_task(f"left {n}", forever)
        return await manager.wait_for_task(f"{n}", timeout=5)

    assert [asyncio.run(run(n)) for n in range(3)] == [0, 2, 4]
    assert get_background_task_manager().get_task_count()["cancelled"] == 3
    asyncio.run(shutdown_background_task_manager())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
def test_it_works_where_asyncio_tasks_start_eagerly() -> None:
    async def main() -> None:
        factory: Any = getattr(asyncio, "eager_task_factory")  # noqa: B009  # not in the stubs of 3.11
        asyncio.get_running_loop().set_task_factory(factory)
        async with managed(1) as manager:
            await manager.submit_task("a", double, n=1)
            await manager.submit_task("b", double, n=2)
            assert [await manager.wait_for_task(name, timeout=5) for name in "ab"] == [2, 4]

    asyncio.run(main())


async def test_a_task_handed_over_while_its_loop_ends_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """1. A thread submits; the job is on its way home. 2. The home's engine stops, its loop ending. 3. Hand-over."""

    def closed(self: Home, fn: Any, job: Any, name: str) -> Any:
        raise EngineClosed

    monkeypatch.setattr(Home, "submit", closed)
    manager = BackgroundTaskManager()
    try:
        await manager.submit_task("a", asyncio.sleep, delay=0)
        with pytest.raises(asyncio.CancelledError):
            await manager.wait_for_task("a", timeout=10)
        record = manager.get_task_status("a")
        assert record is not None
        assert record.status is TaskStatus.CANCELLED
    finally:
        await manager.stop()
