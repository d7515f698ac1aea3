"""The garbage collector runs where it likes: also inside a critical section, on the thread that holds the lock.

So nothing of ours that is collected may take a lock, and nothing of the user's may be dropped while one is held.
"""

import asyncio
import contextlib
import gc
import logging
import signal
import threading
import weakref
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import pytest

from engine import BlockingEngine, Engine, EngineClosed, ShutdownReport, Task
from engine._blocking_task_map import BlockingTaskMap
from engine._lanes import threads
from engine._task_map import TaskMap
from tests.race.together import STUCK
from tests.support import eventually, eventually_async


@pytest.fixture(autouse=True)
def _only_what_is_new() -> Iterator[None]:
    """Have the collector look at this test's objects alone: it is called hundreds of times, and pytest's are many."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


class Watched:
    """A lock that knows who holds it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.holder: int | None = None

    def acquire(self, blocking: bool = True) -> bool:
        if not self._lock.acquire(blocking):
            return False
        self.holder = threading.get_ident()
        return True

    def release(self) -> None:
        self.holder = None
        self._lock.release()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def is_mine(self) -> bool:
        return self.holder == threading.get_ident()


class Argument:
    """Something whose end is noticed: was the engine's lock held by the thread that dropped it?"""

    def __init__(self, lock: Watched, seen: list[bool]) -> None:
        self._lock = lock
        self._seen = seen

    def __del__(self) -> None:
        self._seen.append(self._lock.is_mine())


def take(argument: Any) -> None:
    """Do nothing with it."""


@pytest.mark.parametrize("how", ["cancel queued", "total timeout", "complete", "cancel running"])
async def test_no_argument_is_dropped_under_the_lock(how: str) -> None:
    """Its ``__del__`` is user code: one that asks the engine something would wait for its own thread, for ever."""
    seen: list[bool] = []
    go = threading.Event()

    def work(argument: Argument) -> None:
        if how == "cancel running":
            go.wait(STUCK)

    async with Engine(threads=1, default_lane="thread", grace=0.01) as engine:
        lock: Any = Watched()
        engine._core.registry.lock = lock
        blocker = engine.submit(go.wait, STUCK) if how in ("cancel queued", "total timeout") else None
        view = engine.options(total_timeout=0.01) if how == "total timeout" else engine
        task: Task[None] = view.submit(work, Argument(lock, seen))
        if how == "cancel queued":
            task.cancel()
        elif how == "cancel running":
            await eventually_async(lambda: task.started_at is not None, STUCK)
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        task._retrieved = True
        go.set()
        if blocker is not None:
            await blocker
        await eventually_async(lambda: seen, STUCK, "the argument is freed")
    assert seen == [False]


class Collecting(Watched):
    """A lock in whose critical section the collector runs."""

    def acquire(self, blocking: bool = True) -> bool:
        if not super().acquire(blocking):
            return False
        gc.collect()
        return True


@pytest.mark.parametrize("how", ["claimed past", "swept out"])
async def test_no_task_that_ended_in_its_queue_is_dropped_under_the_lock(how: str) -> None:
    """E25: the queue held the last reference to it, and so to the message it was cancelled with."""
    lock = Watched()
    seen: list[bool] = []
    count = 3 if how == "claimed past" else 200
    async with Engine(threads=1, default_lane="thread") as engine:
        blocked = threading.Event()
        first = engine.submit(blocked.wait, STUCK)
        await eventually_async(lambda: first.started_at is not None, STUCK)
        engine._core.registry.lock = lock  # type: ignore[assignment]  # it says who holds it
        for _ in range(count):
            engine.submit(take, None).cancel(Argument(lock, seen))
        last = engine.submit(abs, -1)
        assert bool(seen) is (how == "swept out")
        blocked.set()
        assert await last == 1
        await eventually_async(lambda: len(seen) == count, STUCK)
    assert not any(seen)


async def test_an_error_that_nobody_looked_at_is_logged_outside_the_lock() -> None:
    """E25: log handlers are user code, too."""
    lock = Watched()
    seen: list[bool] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "nobody retrieved" in record.getMessage():
                seen.append(lock.is_mine())

    handler = Handler()
    logging.getLogger("engine").addHandler(handler)
    try:
        async with Engine(threads=1, default_lane="thread") as engine:
            blocked = threading.Event()
            first = engine.submit(blocked.wait, STUCK)
            await eventually_async(lambda: first.started_at is not None, STUCK)
            engine._core.registry.lock = lock  # type: ignore[assignment]  # it says who holds it
            engine.options(total_timeout=0.001).submit(take, None)
            await eventually_async(lambda: engine.snapshot().timeouts == 1, STUCK)
            last = engine.submit(abs, -1)
            blocked.set()
            assert await last == 1
            await eventually_async(lambda: seen, STUCK)
    finally:
        logging.getLogger("engine").removeHandler(handler)
    assert seen == [False]


@pytest.mark.parametrize("where", ["registry", "mailbox"])
def test_a_map_that_is_collected_inside_a_critical_section_takes_no_lock(where: str) -> None:
    """1. A thread holds the lock. 2. The collector finds a dropped map there. 3. Its ``__del__`` cancels the window."""
    go = threading.Event()
    done = threading.Event()
    engine = Engine(threads=1, default_lane="thread", grace=0.05).__enter__()
    core = engine._engine._core
    gc.collect()
    gc.disable()
    try:
        results = iter(engine.map(lambda number: go.wait(STUCK) if number else number, range(100)))
        assert next(results) == 0
        cycle: list[Any] = [results]
        cycle.append(cycle)
        gone = weakref.ref(results)
        assert isinstance(results, BlockingTaskMap)
        window = list(results._tasks)
        assert window
        del results, cycle
        lock: Any = Collecting()
        if where == "registry":
            core.registry.lock = lock
        else:
            core.scheduler.home._lock = lock

        def ask() -> None:
            engine.submit(take, None).cancel()
            core.scheduler.home.post(take, None)
            done.set()

        threading.Thread(target=ask, daemon=True).start()
        assert done.wait(5.0), "a critical section waits for its own thread"
        assert gone() is None
        eventually(lambda: all(task.done() or task.started_at is not None for task in window), STUCK)
    finally:
        gc.enable()
        go.set()
    engine.stop(timeout=5)


async def test_an_async_map_that_is_collected_inside_a_critical_section_takes_no_lock() -> None:
    """As above, for ``async for``."""
    go = threading.Event()
    done = threading.Event()
    async with Engine(threads=1, default_lane="thread", grace=0.05) as engine:
        results = engine.map(lambda number: go.wait(STUCK) if number else number, range(100))
        assert await anext(aiter(results)) == 0
        cycle: list[Any] = [results]
        cycle.append(cycle)
        assert isinstance(results, TaskMap)
        window = list(results._tasks)
        del results, cycle
        lock: Any = Collecting()
        engine._core.registry.lock = lock

        def ask() -> None:
            engine.submit(take, None).cancel()
            done.set()

        threading.Thread(target=ask, daemon=True).start()
        assert await asyncio.to_thread(done.wait, 5.0), "a critical section waits for its own thread"
        go.set()
        await eventually_async(lambda: all(task.done() for task in window), STUCK)


def test_a_loop_that_came_and_went_is_not_kept() -> None:
    """A mailbox holds its loop: one for each ``asyncio.run`` of an application would be a leak."""

    async def visit(engine: Any) -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await engine.submit(take, None)

    loops: list[weakref.ref[Any]] = []
    with Engine(threads=1, default_lane="thread") as engine:
        for _ in range(10):
            asyncio.run(visit(engine))
        gc.collect()
        assert sum(loop() is not None for loop in loops) <= 1


@pytest.mark.parametrize("call", ["cancel", "submit"])
@pytest.mark.parametrize("lane", ["thread", "process"])
async def test_the_collector_may_call_us_inside_a_critical_section(call: str, lane: str) -> None:
    """1. A section allocates; the collector runs there. 2. A ``__del__`` asks for the lock that its thread holds."""
    late: list[Task[Any]] = []

    class Owner:
        def __init__(self, engine: Any, task: Task[Any]) -> None:
            self.engine, self.task, self.me = engine, task, self  # a cycle: only the collector ends it

        def __del__(self) -> None:
            if call == "cancel":
                self.task.cancel()
            else:
                with contextlib.suppress(EngineClosed):  # the last are collected after the stop
                    late.append(self.engine.submit(abs, -1))

    before = gc.get_threshold()
    gc.set_threshold(50, 2, 2)
    try:
        async with Engine(processes=1, threads=2) as engine:
            view = engine.options(lane=lane)
            tasks = [view.submit(abs, -i) for i in range(3)]
            for i in range(3000):
                tasks.append(view.submit(abs, -i))
                if i % 10 == 0:
                    Owner(view, tasks[-1])
                if i % 500 == 0:
                    await asyncio.sleep(0)
    finally:
        gc.set_threshold(*before)
    assert all(task.done() for task in tasks)
    assert all(task.done() for task in late)


def test_a_signal_handler_may_call_us_inside_a_critical_section() -> None:
    """The main thread is interrupted between two bytecodes of ``submit``; its handler cancels and looks."""
    handled = 0
    with Engine(threads=2, processes=1) as engine:
        view = engine.options(lane="thread")
        task = view.submit(abs, -1)

        def handle(number: int, frame: Any) -> None:
            nonlocal handled
            handled += 1
            task.cancel()
            engine.get(1)
            signal.setitimer(signal.ITIMER_REAL, 0.0005)

        before = signal.signal(signal.SIGALRM, handle)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.001)
            for i in range(100):
                for task in [view.submit(abs, -i) for _ in range(50)]:  # the handler looks at it
                    task.cancel()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
    assert handled


def test_the_collector_may_stop_an_engine_between_the_end_of_its_task_and_the_report(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """E67: on the thread that has run the task: to wait there for the engine's work would be to wait for itself."""
    reports: list[ShutdownReport] = []

    call = threads._call

    def collected_here(*given: Any) -> Any:
        ended = call(*given)
        reports.append(engine.stop())  # as a __del__ does that the making of a tuple sets off
        return ended

    monkeypatch.setattr(threads, "_call", collected_here)
    engine = BlockingEngine(threads=1, default_lane="thread").start()
    task = engine.submit(abs, -1)
    assert task.result(STUCK) == 1
    assert engine.stop().completed == 1
    assert [report.completed for report in reports] == [0]
