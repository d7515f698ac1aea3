"""Stopping: refuse, drain, cancel, wait out the grace, kill; and every task accounted for."""

# ruff: noqa: PT012  (leaving a block is what is tested, so the block is inside raises)

import asyncio
import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from engine import Engine, EngineClosed, Retry, ShutdownReport, Task, TaskState, checkpoint
from tests.support import eventually, eventually_async

LANES = ["loop", "thread"]
LONG = 30.0  #: far more than any of these stops may take


def small(**settings: Any) -> Engine:
    """Make an engine with one slot in each lane."""
    return Engine(
        **{"threads": 1, "coroutines": 1, "processes": 1, "default_lane": "thread", "grace": 0.05, **settings}
    )


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Give an event that is set at the end, so that nothing is left behind it."""
    event = threading.Event()
    yield event
    event.set()


def on(lane: str, plain: Callable[..., Any]) -> Callable[..., Any]:
    """Give ``plain`` in the kind that ``lane`` runs."""
    if lane == "thread":
        return plain

    async def coroutine(*args: Any) -> Any:
        return plain(*args)

    return coroutine


def holder(lane: str, release: threading.Event, started: threading.Event | None = None) -> Callable[[], Any]:
    """Give a function that holds its slot until ``release``; cancellation ends it politely."""

    def thread() -> str:
        if started is not None:
            started.set()
        while not release.wait(0.001):
            checkpoint()
        return "held"

    async def loop() -> str:
        if started is not None:
            started.set()
        while not release.is_set():
            await asyncio.sleep(0.001)
        return "held"

    return thread if lane == "thread" else loop


def assert_sums(report: ShutdownReport, submitted: int, stopping: int = 0) -> None:
    """Check that every task is accounted for."""
    assert (report.submitted, report.stopping) == (submitted, stopping)
    assert report.submitted == report.completed + report.failed + report.cancelled + report.stopping


@pytest.mark.parametrize("lane", LANES)
async def test_a_stop_without_a_timeout_waits_for_all_accepted_work(lane: str) -> None:
    engine = await small().start()
    tasks = [engine.submit(on(lane, abs), -n) for n in range(50)]
    report = await engine.stop()
    assert [task.result() for task in tasks] == list(range(50))
    assert_sums(report, 50)
    assert (report.completed, report.cancelled_by_stop, report.abandoned, report.killed) == (50, 0, 0, 0)
    assert report.clean
    assert 0 <= report.seconds < LONG


async def test_leaving_the_block_waits_for_all_accepted_work() -> None:
    async with small() as engine:
        tasks: list[Task[Any]] = [engine.submit(abs, -n) for n in range(20)]
        tasks += [engine.submit(on("loop", abs), -n) for n in range(20)]
    assert all(task.state is TaskState.COMPLETED for task in tasks)
    assert "closed" in repr(engine)


@pytest.mark.parametrize("lane", LANES)
async def test_leaving_the_block_with_an_exception_cancels_at_once(lane: str, release: threading.Event) -> None:
    tasks: list[Task[Any]] = []
    with pytest.raises(OSError, match="of the block"):
        async with small() as engine:
            started = threading.Event()
            tasks += [engine.submit(holder(lane, release, started)) for _ in range(5)]
            await eventually_async(started.is_set)
            raise OSError("of the block")
    assert all(task.cancelled() for task in tasks)
    assert not release.is_set()


@pytest.mark.parametrize("lane", LANES)
async def test_a_stop_with_a_timeout_cancels_what_is_left_by_then(lane: str, release: threading.Event) -> None:
    """Row N3."""
    engine = await small(threads=2, coroutines=2, grace=LONG).start()
    started = threading.Event()
    quick = engine.submit(on(lane, abs), -1)
    tasks = [engine.submit(holder(lane, release, started)) for _ in range(50)]
    await eventually_async(started.is_set)
    began = time.monotonic()
    report = await engine.stop(timeout=0.05)
    assert time.monotonic() - began < LONG
    assert quick.result() == 1
    assert all(task.cancelled() for task in tasks)
    assert_sums(report, 51)
    assert (report.completed, report.cancelled, report.cancelled_by_stop, report.abandoned) == (1, 50, 50, 0)
    assert not report.clean
    with pytest.raises(asyncio.CancelledError, match="the engine was stopped"):
        tasks[-1].result()


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("cancel_pending", [True, False])
async def test_pending_work_is_cancelled_at_once_only_when_asked(
    lane: str, cancel_pending: bool, release: threading.Event
) -> None:
    """Row N3: 50 queued, with and without."""
    engine = await small(threads=5, coroutines=5).start()
    tasks = [engine.submit(holder(lane, release)) for _ in range(55)]
    await eventually_async(lambda: engine.snapshot().count(TaskState.RUNNING) == 5)
    stop = asyncio.create_task(engine.stop(cancel_pending=cancel_pending))
    await eventually_async(lambda: engine.snapshot().phase == "draining")
    cancelled = 50 if cancel_pending else 0
    assert sum(task.cancelled() for task in tasks) == cancelled
    release.set()
    report = await stop
    assert_sums(report, 55)
    assert (report.completed, report.cancelled, report.cancelled_by_stop) == (55 - cancelled, cancelled, cancelled)


@pytest.mark.parametrize("lane", LANES)
async def test_submitting_later_is_refused(lane: str) -> None:
    """Row N1."""
    engine = await small().start()
    await engine.stop()
    with pytest.raises(EngineClosed, match="cannot schedule new futures after shutdown") as caught:
        engine.submit(on(lane, abs), 1)
    assert isinstance(caught.value, RuntimeError)
    with pytest.raises(EngineClosed):
        await engine.run(on(lane, abs), 1)
    with pytest.raises(EngineClosed):
        await anext(engine.map(on(lane, abs), [1]))
    with pytest.raises(ExceptionGroup) as group_caught:
        async with engine.group() as group:
            group.submit(on(lane, abs), 1)
    assert [type(error) for error in group_caught.value.exceptions] == [EngineClosed]


async def test_submitting_while_it_drains_is_refused_from_outside_and_accepted_from_a_task(
    release: threading.Event,
) -> None:
    """Row N1: a running task may finish what it began."""
    engine = await small(threads=2, coroutines=2).start()
    inner: list[Task[int]] = []

    def thread() -> str:
        while not release.wait(0.001):
            pass
        inner.append(engine.submit(abs, -1))
        return "submitted"

    async def loop() -> int:
        while not release.is_set():
            await asyncio.sleep(0.001)
        inner.append(engine.submit(abs, -2))
        return await engine.run(abs, -3)

    outer: list[Task[Any]] = [engine.submit(thread), engine.submit(loop)]
    await eventually_async(lambda: engine.snapshot().count(TaskState.RUNNING) == 2)
    stop = asyncio.create_task(engine.stop())
    await eventually_async(lambda: engine.snapshot().phase == "draining")
    with pytest.raises(EngineClosed):
        engine.submit(abs, 1)
    release.set()
    report = await stop
    assert [task.result() for task in outer] == ["submitted", 3]
    assert sorted(task.result() for task in inner) == [1, 2]
    assert_sums(report, 5)


async def test_retries_are_made_while_it_drains() -> None:
    engine = await small().start()
    tries: list[int] = []

    def flaky() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise OSError
        return len(tries)

    task = engine.options(retry=Retry(max_attempts=3, base_delay=0.001)).submit(flaky)
    await engine.stop()
    assert task.result() == 3


async def test_stopping_twice_gives_the_same_report() -> None:
    engine = await small().start()
    await engine.run(abs, -1)
    first = await engine.stop()
    assert await engine.stop() == first
    assert await engine.stop(timeout=0, cancel_pending=True) == first


async def test_many_may_stop_at_once_and_the_most_hurried_wins(release: threading.Event) -> None:
    """Row N5."""
    engine = await small().start()
    task = engine.submit(holder("thread", release))
    patient = [asyncio.create_task(engine.stop()) for _ in range(3)]
    await eventually_async(lambda: engine.snapshot().phase == "draining")
    assert not any(stop.done() for stop in patient)
    hurried = await engine.stop(timeout=0.01)
    assert await asyncio.gather(*patient) == [hurried] * 3
    assert task.cancelled()


async def test_a_stop_that_is_cancelled_goes_on(release: threading.Event) -> None:
    engine = await small().start()
    task = engine.submit(holder("thread", release))
    stop = asyncio.create_task(engine.stop())
    await eventually_async(lambda: engine.snapshot().phase == "draining")
    stop.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stop
    release.set()
    report = await engine.stop()
    assert task.result() == "held"
    assert report.completed == 1


async def test_a_coroutine_of_the_engine_may_stop_it() -> None:
    engine = await small(coroutines=2).start()

    async def stops() -> ShutdownReport:
        return await engine.stop()

    other = engine.submit(on("loop", abs), -1)
    task = engine.submit(stops)
    report = await asyncio.wait_for(task, LONG)
    assert other.result() == 1
    assert_sums(report, 2, stopping=1)
    assert engine.snapshot().count(TaskState.COMPLETED) == 2


def test_a_thread_task_may_stop_a_blocking_engine() -> None:
    with small() as engine:
        reports: list[ShutdownReport] = []
        task = engine.submit(lambda: reports.append(engine.stop()))
        eventually(lambda: reports)
        task.result(LONG)
        assert_sums(reports[0], 1, stopping=1)
        assert engine.snapshot().count(TaskState.COMPLETED) == 1


async def test_a_callback_may_stop_the_engine() -> None:
    engine = await small().start()
    stops: list[asyncio.Task[ShutdownReport]] = []
    task = engine.submit(abs, -1)
    task.add_done_callback(lambda _: stops.append(asyncio.ensure_future(engine.stop())))
    await task
    await eventually_async(lambda: stops)
    assert_sums(await stops[0], 1)


async def test_a_stop_may_come_from_another_loop() -> None:
    engine = await small().start()
    await engine.run(abs, -1)
    report = await asyncio.to_thread(lambda: asyncio.run(engine.stop()))
    assert_sums(report, 1)


@pytest.mark.parametrize("lane", LANES)
async def test_a_task_that_will_not_end_does_not_hold_a_stop_with_a_timeout(
    lane: str, release: threading.Event
) -> None:
    """Rows A8 and A9: it is abandoned and counted, and shutdown is bounded."""

    def thread() -> None:
        release.wait(LONG)

    async def loop() -> None:
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            while not release.is_set():
                await asyncio.sleep(0.001)

    engine = await small().start()
    task = engine.submit(thread if lane == "thread" else loop)
    queued = engine.submit(on(lane, abs), -1)
    await eventually_async(lambda: task.state is TaskState.RUNNING)
    began = time.monotonic()
    report = await engine.stop(timeout=0)
    assert time.monotonic() - began < LONG / 2
    assert not release.is_set()
    assert_sums(report, 2)
    assert (report.cancelled, report.abandoned) == (2, 1)
    assert task.cancelled()
    assert queued.cancelled()
    release.set()


async def test_a_hundred_engines_are_left_and_nothing_of_them_stays() -> None:
    """Row N5, start and stop at once; the fixture looks for threads and tasks."""
    for number in range(100):
        async with small() as engine:
            if number % 2:
                engine.submit(abs, -1)


@pytest.mark.parametrize("timeout", [-1, math.nan, math.inf, 1e18, True, "1"])
async def test_a_bad_timeout_is_refused_and_stops_nothing(timeout: Any) -> None:
    """Row T5."""
    async with small() as engine:
        with pytest.raises(ValueError, match=r"^expected timeout to be .+, got .+; use timeout=None to wait"):
            await engine.stop(timeout=timeout)
        with pytest.raises(ValueError, match=r"^expected cancel_pending to be True or False, got 1"):
            await engine.stop(cancel_pending=1)  # type: ignore[arg-type]  # that it is refused is what is tested
        assert await engine.run(abs, -1) == 1


async def test_a_report_is_a_frozen_value() -> None:
    engine = await small().start()
    report = await engine.stop()
    assert report == ShutdownReport(0, 0, 0, 0, 0, 0, 0, 0, report.seconds)
    with pytest.raises(AttributeError):
        report.completed = 5  # type: ignore[misc]  # that it is frozen is what is tested
