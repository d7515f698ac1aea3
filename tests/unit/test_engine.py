"""The life of a task on the loop and thread lanes: the cancel-and-timeout table, retries, priorities, admission."""

import asyncio
import contextvars
import dataclasses
import functools
import gc
import itertools
import logging
import math
import pickle
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from engine import (
    Engine,
    EngineClosed,
    EngineFull,
    Lane,
    NestedDeadlock,
    PickleError,
    Priority,
    RemoteError,
    Retry,
    Task,
    TaskState,
    TaskTimeout,
    checkpoint,
    current_task,
)
from tests.support import eventually, eventually_async

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")

LANES = ["loop", "thread"]


@dataclass
class Gate:
    """Holds a task of either lane until it is opened, whatever it is asked."""

    swallows: int = 0  #: how many cancellations a coroutine swallows (a failing test's loop still ends it)
    started: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)

    def on(self, lane: str) -> Callable[..., Any]:
        return self.hold_loop if lane == "loop" else self.hold_thread

    def hold_thread(self, value: object = None) -> object:
        self.started.set()
        assert self.opened.wait(30)
        self.left.set()
        return value

    async def hold_loop(self, value: object = None) -> object:
        self.started.set()
        while not self.opened.is_set():
            try:
                await asyncio.sleep(0.001)
            except asyncio.CancelledError:
                self.swallows -= 1
                if self.swallows < 0:
                    raise
        self.left.set()
        return value


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Give a gate that is open at the end, so that nothing is left behind it."""
    gate = Gate()
    yield gate
    gate.opened.set()


@pytest.fixture
def stubborn() -> Iterator[Gate]:
    """Give a gate whose coroutine swallows its cancellation."""
    gate = Gate(swallows=1)
    yield gate
    gate.opened.set()


def on(lane: str, plain: Callable[..., Any]) -> Callable[..., Any]:
    """Give ``plain`` in the kind that ``lane`` runs."""
    if lane == "thread":
        return plain

    async def coroutine(*args: Any, **kwargs: Any) -> Any:
        return plain(*args, **kwargs)

    return coroutine


def small(**settings: Any) -> Engine:
    """Make an engine with one slot in each lane."""
    return Engine(
        **{"threads": 1, "coroutines": 1, "processes": 1, "default_lane": "thread", "grace": 0.05, **settings}
    )


# -- what comes in ----------------------------------------------------------------------------------------------------

COUNTS = (0, -1, 1.0, math.nan, math.inf, 1e18, 10**19, True, "4", [4])
SECONDS = (-1, math.nan, math.inf, 1e18, 10**400, True, "4", None)
BAD: list[tuple[str, object]] = [
    *((name, value) for name in ("processes", "threads", "max_pending", "max_tasks_per_worker") for value in COUNTS),
    *(("coroutines", value) for value in (*COUNTS, None)),
    *(("history", value) for value in (-1, 1.0, math.nan, 1e18, 10**19, True, "4", None)),
    *((name, value) for name in ("worker_idle_timeout", "worker_start_timeout") for value in (0, *SECONDS)),
    *(("grace", value) for value in SECONDS),
    *(("default_lane", value) for value in ("loop", "gpu", "", None, 5, Lane.LOOP)),
    *(("initializer", value) for value in (5, "print", ())),
    *(("initargs", value) for value in ([1], None, "x", 5)),
    *(("inner_threads", value) for value in (0, -1, "all", 1.5, True)),
    *(("context", value) for value in ("m:v", 5, None, ("nocolon",), (5,), ("tests.unit.test_engine:LANES",),
                                       ("no.such.module:v",), ("tests.unit.test_engine:missing",), (":v",))),
    *(("name", value) for value in ("", "x" * 101, 5, None, b"engine")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), BAD, ids=lambda value: ascii(value)[:24])
def test_a_bad_setting_is_refused_at_once(name: str, value: Any) -> None:
    """Row T5."""
    with pytest.raises(ValueError, match=f"^expected {name} to be .+, got .+"):
        Engine(**{name: value})


def test_the_message_is_the_one_that_the_design_shows() -> None:
    with pytest.raises(ValueError, match=r"^expected processes to be a positive integer, got -1$"):
        Engine(processes=-1)


def test_a_setting_that_does_not_exist_is_refused() -> None:
    wrong: Any = Engine
    with pytest.raises(TypeError, match="thread_count"):
        wrong(thread_count=4)


async def test_bad_options_are_refused_where_they_enter() -> None:
    """Row T5; every value is tried in test_options."""
    async with small() as engine:
        for name, value in [("timeout", 0), ("total_timeout", -1), ("priority", "high"), ("grace", math.nan),
                            ("retry", 3), ("lane", "gpu"), ("name", "")]:  # fmt: skip
            options: dict[str, Any] = {name: value}
            with pytest.raises(ValueError, match=f"^expected {name} to be .+, got .+"):
                engine.options(**options)
        assert engine.tasks() == []


@pytest.mark.parametrize("value", ["done", 5, True, "PENDING"])
async def test_a_bad_state_to_filter_by_is_refused(value: Any) -> None:
    async with small() as engine:
        with pytest.raises(ValueError, match=r"^expected state to be one of 'pending', .*, got"):
            engine.tasks(state=value)


@pytest.mark.parametrize("value", [5, b"f", True])
async def test_a_bad_name_to_look_for_is_refused(value: Any) -> None:
    async with small() as engine:
        for look in (engine.tasks, engine.cancel):
            with pytest.raises(ValueError, match=r"^expected name to be .+, got"):
                look(name=value)


@pytest.mark.parametrize("value", ["1", 1.0, True, None, 0, -1])
async def test_a_bad_id_to_look_for_is_refused(value: Any) -> None:
    async with small() as engine:
        with pytest.raises(ValueError, match=r"^expected task_id to be .+, got"):
            engine.get(value)
        with pytest.raises(ValueError, match=r"^expected id( or name)? to be .+, got"):
            engine.cancel(id=value)


@pytest.mark.parametrize("fn", [5, None, "f"])
async def test_what_cannot_be_called_is_refused_by_submit_run_and_map(fn: Any) -> None:
    async with small() as engine:
        with pytest.raises(TypeError, match=r"^expected fn to be a callable, got"):
            engine.submit(fn)
        with pytest.raises(TypeError, match=r"^expected fn to be a callable, got"):
            await engine.run(fn)
        with pytest.raises(TypeError, match=r"^expected fn to be a callable, got"):
            engine.map(fn, [1])
        assert engine.tasks() == []


async def test_options_never_take_the_functions_own_arguments() -> None:
    def takes(timeout: int, lane: str, fn: str, name: str = "") -> tuple[object, ...]:
        return timeout, lane, fn, name

    async with small() as engine:
        assert await engine.options(timeout=30).run(takes, 1, lane="mine", fn="yours", name="x") == (
            1,
            "mine",
            "yours",
            "x",
        )


async def test_views_share_the_engine_and_lie_over_one_another() -> None:
    async with small() as engine:
        view = engine.options(name="first", lane="thread").options(name="second", priority=3)
        assert await view.run(abs, -1) == 1
        (info,) = engine.tasks()
        assert (info.name, info.lane) == ("second", Lane.THREAD)
        assert engine.get(info.id) == info


# -- starting ---------------------------------------------------------------------------------------------------------


async def test_an_engine_that_has_not_started_says_how_to_start_it() -> None:
    engine = small()
    for use in (lambda: engine.submit(abs, 1), engine.tasks, engine.snapshot, lambda: engine.cancel(id=1)):
        with pytest.raises(EngineClosed, match="got one that has not started; use 'async with Engine"):
            use()
    assert "not started" in repr(engine)


async def test_stopping_an_engine_that_never_started_hides_no_error() -> None:
    """``finally: await engine.stop()`` lets the error through that kept it from starting; it may start later."""
    engine = small()
    report = await engine.stop(timeout=1, cancel_pending=True)
    assert {getattr(report, field.name) for field in dataclasses.fields(report)} == {0}
    assert report.clean
    with pytest.raises(ValueError, match="expected timeout to be"):
        await engine.stop(timeout=-1)
    async with engine:
        assert await engine.run(abs, -1) == 1


async def test_an_engine_lives_once() -> None:
    async with small() as engine:
        with pytest.raises(RuntimeError, match="expected an engine that has not been started"):
            await engine.start()
    with pytest.raises(RuntimeError, match="expected an engine that has not been started"):
        await engine.start()
    with pytest.raises(RuntimeError, match="expected an engine that has not been started"):
        engine.__enter__()


async def test_an_engine_may_be_started_and_stopped_by_hand() -> None:
    engine = await small().start()
    assert await engine.run(abs, -1) == 1
    await engine.stop()


def test_an_engine_whose_loop_is_closed_takes_nothing() -> None:
    """Row A1."""

    async def main() -> Engine:
        async with small() as engine:
            await engine.run(abs, -1)
        return engine

    engine = asyncio.run(main())
    with pytest.raises(EngineClosed, match="cannot schedule new futures"):
        engine.submit(abs, 1)


def test_an_engine_does_not_pickle_and_says_what_to_do() -> None:
    with pytest.raises(PickleError, match="a process task cannot submit to its parent's engine"):
        pickle.dumps(small())


# -- the table: queued ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lane", LANES)
async def test_a_queued_task_that_is_cancelled_never_runs(lane: str, gate: Gate) -> None:
    """Rows A5 and A6: before the start."""
    ran: list[int] = []
    async with small() as engine:
        first = engine.submit(gate.on(lane))
        await eventually_async(gate.started.is_set)
        queued = engine.submit(on(lane, ran.append), 1)
        other = engine.submit(on(lane, ran.append), 2)
        assert queued.cancel()
        assert queued.state is TaskState.CANCELLED
        assert not queued.cancel()
        gate.opened.set()
        await asyncio.gather(first, other)
    assert ran == [2]
    assert (queued.attempt, queued.started_at) == (0, None)


async def test_a_process_task_that_is_cancelled_while_its_worker_starts_never_runs(tmp_path: Path) -> None:
    """Rows A5 and A6: in spawn; a worker takes 20 ms and more to start."""
    async with small(default_lane="process") as engine:
        marker = tmp_path / "ran"
        task = engine.submit(marker.touch)
        assert task.cancel()
        assert (task.state, task.attempt) == (TaskState.CANCELLED, 0)
        assert await engine.run(abs, -1) == 1
        assert not marker.exists()


@pytest.mark.parametrize("lane", LANES)
async def test_a_total_timeout_strikes_in_the_queue_and_the_task_never_runs(lane: str, gate: Gate) -> None:
    ran: list[int] = []
    async with small() as engine:
        first = engine.submit(gate.on(lane))
        await eventually_async(gate.started.is_set)
        queued = engine.options(total_timeout=0.02).submit(on(lane, ran.append), 1)
        with pytest.raises(TaskTimeout, match=r"total_timeout=0\.02") as caught:
            await queued
        assert (caught.value.scope, caught.value.task_id, caught.value.lane) == ("total", queued.id, lane)
        assert (caught.value.timeout, caught.value.attempt) == (0.02, 0)
        assert (queued.state, queued.attempt) == (TaskState.FAILED, 0)
        assert engine.snapshot().timeouts == 1
        gate.opened.set()
        await first
    assert ran == []


@pytest.mark.parametrize("lane", LANES)
async def test_a_timeout_counts_from_the_start_not_from_submit(lane: str, gate: Gate) -> None:
    async with small() as engine:
        first = engine.submit(gate.on(lane))
        await eventually_async(gate.started.is_set)
        queued = engine.options(timeout=0.2).submit(on(lane, abs), -1)
        await asyncio.sleep(0.25)  # longer than the timeout: what is waited for is that nothing happens
        assert queued.state is TaskState.PENDING
        gate.opened.set()
        await first
        assert await queued == 1


# -- the table: running -----------------------------------------------------------------------------------------------


async def test_a_running_coroutine_that_is_cancelled_settles_when_it_ends(gate: Gate) -> None:
    steps: list[str] = []

    async def cleans_up() -> None:
        try:
            await gate.hold_loop()
        finally:
            steps.append("cleaning")
            await asyncio.sleep(0.01)
            steps.append("clean")

    async with small(grace=30) as engine:
        task = engine.submit(cleans_up)
        await eventually_async(gate.started.is_set)
        assert task.cancel("message")
        assert task.cancel()
        assert task.state is TaskState.RUNNING
        with pytest.raises(asyncio.CancelledError):
            await task
        assert steps == ["cleaning", "clean"]
        assert task.cancelled()


async def test_a_coroutine_that_swallows_its_cancellation_and_returns_is_cancelled_all_the_same() -> None:
    """Row A5: ``cancel()`` True means never COMPLETED."""
    entered = asyncio.Event()

    async def swallow() -> str:
        entered.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            return "value"
        return "never"

    async with small(grace=30) as engine:
        task = engine.submit(swallow)
        await entered.wait()
        assert task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.state is TaskState.CANCELLED


async def test_an_error_that_a_coroutine_raises_while_it_is_cancelled_is_not_lost() -> None:
    entered = asyncio.Event()

    async def clumsy() -> None:
        entered.set()
        try:
            await asyncio.sleep(30)
        finally:
            raise OSError("while cleaning up")

    async with small() as engine:
        task = engine.submit(clumsy)
        await entered.wait()
        task.cancel()
        with pytest.raises(OSError, match="while cleaning up"):
            await task
        assert task.state is TaskState.FAILED


async def test_a_coroutine_that_never_lets_go_is_abandoned_after_its_grace(
    stubborn: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    """Row A9: reported stuck, its slot is given away, its late result dropped and counted."""
    async with small() as engine:
        task = engine.submit(stubborn.hold_loop)
        await eventually_async(stubborn.started.is_set)
        with caplog.at_level(logging.WARNING, "engine"):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert "was abandoned" in caplog.text
        snapshot = engine.snapshot()
        assert (snapshot.abandoned, snapshot.lanes[Lane.LOOP].abandoned) == (1, 1)
        assert await engine.run(on("loop", abs), -1) == 1
        stubborn.opened.set()
        await eventually_async(lambda: engine.snapshot().late == 1)
        assert engine.snapshot().lanes[Lane.LOOP].abandoned == 0
        assert task.state is TaskState.CANCELLED


async def test_a_running_thread_task_that_is_cancelled_settles_at_once() -> None:
    """Row A8: ``cancel_requested`` is seen at once and ``checkpoint`` raises; the worker thread is free again."""
    started, seen = threading.Event(), []

    def polite() -> None:
        started.set()
        while not current_task().cancel_requested:
            started.wait(0.001)
        seen.append("requested")
        try:
            checkpoint()
        finally:
            seen.append("raised")

    async with small(grace=30) as engine:
        task = engine.submit(polite)
        await eventually_async(started.is_set)
        assert task.cancel()
        assert task.state is TaskState.CANCELLED
        assert await engine.run(abs, -1) == 1
        snapshot = engine.snapshot()
        assert (snapshot.abandoned, snapshot.late) == (0, 0)
    assert seen == ["requested", "raised"]


async def test_a_thread_task_that_never_checks_is_abandoned_after_its_grace(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    """Row A8: its slot is refilled, the late result dropped and counted."""
    async with small() as engine:
        task = engine.submit(gate.hold_thread, "late")
        await eventually_async(gate.started.is_set)
        with caplog.at_level(logging.WARNING, "engine"):
            assert task.cancel()
            assert task.state is TaskState.CANCELLED
            assert await engine.run(abs, -1) == 1  # in a second thread
        assert "was abandoned; it still runs in thread-1" in caplog.text
        assert not gate.left.is_set()
        assert engine.snapshot().lanes[Lane.THREAD].abandoned == 1
        assert {worker.state for worker in engine.snapshot().workers} == {"abandoned", "idle"}
        gate.opened.set()
        await eventually_async(lambda: engine.snapshot().late == 1)
        snapshot = engine.snapshot()
        assert (snapshot.abandoned, snapshot.lanes[Lane.THREAD].abandoned) == (1, 0)
        assert task.state is TaskState.CANCELLED


async def test_no_more_threads_are_abandoned_than_there_are_slots(gate: Gate) -> None:
    """Row A8: within the bound."""
    async with small(threads=2, grace=0.01) as engine:
        for _ in range(4):
            held = Gate(opened=gate.opened)
            task = engine.submit(held.hold_thread)
            await eventually_async(held.started.is_set)
            task.cancel()
        await eventually_async(lambda: engine.snapshot().abandoned == 4)
        assert engine.snapshot().lanes[Lane.THREAD].abandoned == 4
        waiting = engine.submit(abs, -1)
        assert len(engine.snapshot().workers) == 4
        assert waiting.state is TaskState.PENDING
        gate.opened.set()
        assert await waiting == 1
        await eventually_async(lambda: engine.snapshot().lanes[Lane.THREAD].abandoned == 0)


async def test_an_abandoned_attempt_that_waits_does_not_give_its_slot_away_twice(gate: Gate) -> None:
    """It lent its slot and then lost it: one slot in all, so one task may run in its place, not two."""
    running = Counted()
    async with small() as engine:
        held = engine.submit(gate.hold_loop)
        waits = threading.Event()

        def wait_for_it() -> object:
            waits.set()
            return held.result()

        outer = engine.submit(wait_for_it)
        await eventually_async(lambda: waits.is_set() and engine.snapshot().lanes[Lane.THREAD].lent == 1)
        outer.cancel()
        await eventually_async(lambda: engine.snapshot().abandoned == 1)
        await asyncio.gather(*(engine.submit(running.thread) for _ in range(10)))
        assert running.most == 1
        gate.opened.set()
        await held


@pytest.mark.parametrize("lane", LANES)
async def test_a_timeout_ends_a_running_task(lane: str, gate: Gate) -> None:
    async with small() as engine:
        task = engine.options(timeout=0.02).submit(gate.on(lane))
        with pytest.raises(TaskTimeout, match=r"did not end within timeout=0\.02 s") as caught:
            await task
        error = caught.value
        assert (error.task_id, error.lane, error.attempt, error.timeout, error.scope) == (
            task.id, lane, 1, 0.02, "attempt",
        )  # fmt: skip
        assert isinstance(error, TimeoutError)
        assert task.state is TaskState.FAILED
        assert engine.snapshot().timeouts == 1
        assert await engine.run(on(lane, abs), -1) == 1


@pytest.mark.parametrize("lane", LANES)
async def test_a_total_timeout_ends_a_running_task(lane: str, gate: Gate) -> None:
    async with small() as engine:
        task = engine.options(total_timeout=0.02, retry=Retry(max_attempts=5, base_delay=0)).submit(gate.on(lane))
        with pytest.raises(TaskTimeout, match=r"total_timeout=0\.02") as caught:
            await task
        assert (caught.value.scope, task.attempt) == ("total", 1)
        assert await engine.run(on(lane, abs), -1) == 1


async def test_a_coroutine_that_swallows_its_timeout_is_abandoned_with_the_timeout(stubborn: Gate) -> None:
    async with small() as engine:
        task = engine.options(timeout=0.02).submit(stubborn.hold_loop)
        with pytest.raises(TaskTimeout):
            await task
        assert engine.snapshot().abandoned == 1
        stubborn.opened.set()
        await eventually_async(lambda: engine.snapshot().late == 1)


async def test_a_coroutine_that_returns_after_its_timeout_has_timed_out_all_the_same() -> None:
    async def swallow() -> str:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            return "value"
        return "never"

    async with small(grace=30) as engine:
        with pytest.raises(TaskTimeout):
            await engine.options(timeout=0.02).run(swallow)


@pytest.mark.parametrize("lane", LANES)
async def test_a_task_that_ends_in_time_is_not_touched_by_its_timeout(lane: str) -> None:
    async with small() as engine:
        quick = engine.options(timeout=30, total_timeout=30)
        assert await asyncio.gather(*(quick.submit(on(lane, abs), -n) for n in range(20))) == list(range(20))
        assert engine.snapshot().timeouts == 0


@pytest.mark.parametrize("lane", LANES)
async def test_a_task_knows_its_deadline(lane: str) -> None:
    async with small() as engine:
        before = time.monotonic()
        deadline = await engine.options(timeout=50).run(on(lane, lambda: current_task().deadline))
        assert before + 50 <= deadline <= time.monotonic() + 50
        assert await engine.run(on(lane, lambda: current_task().deadline)) is None


async def test_engine_cancel_takes_ids_and_names(gate: Gate) -> None:
    async with small() as engine:
        held = engine.submit(gate.hold_thread)
        named = [engine.options(name="mine").submit(abs, -n) for n in range(3)]
        other = engine.submit(abs, -5)
        assert engine.cancel(name="nobody") == 0
        assert engine.cancel(name="mine") == 3
        assert engine.cancel(name="mine") == 0
        assert engine.cancel(id=other.id, name="mine") == 0
        assert engine.cancel(id=other.id) == 1
        assert all(task.cancelled() for task in (*named, other))
        with pytest.raises(ValueError, match="expected id or name to be given, got None; use stop"):
            engine.cancel()
        gate.opened.set()
        await held


# -- retries ----------------------------------------------------------------------------------------------------------


class Flaky:
    """Fails some times, then gives its attempt's number."""

    def __init__(self, failures: int, error: type[BaseException] = OSError) -> None:
        self.failures = failures
        self.error = error
        self.attempts: list[int] = []

    def __call__(self) -> int:
        self.attempts.append(current_task().attempt)
        if len(self.attempts) <= self.failures:
            raise self.error("flaky")
        return self.attempts[-1]


@pytest.mark.parametrize("lane", LANES)
async def test_a_failure_is_tried_again_as_often_as_the_policy_says(lane: str) -> None:
    async with small() as engine:
        flaky = Flaky(2)
        task = engine.options(retry=Retry(max_attempts=3, base_delay=0)).submit(on(lane, flaky))
        assert await task == 3
        assert (task.attempt, flaky.attempts) == (3, [1, 2, 3])
        hopeless = Flaky(9)
        with pytest.raises(OSError, match="flaky"):
            await engine.options(retry=Retry(max_attempts=3, base_delay=0)).run(on(lane, hopeless))
        assert hopeless.attempts == [1, 2, 3]
        snapshot = engine.snapshot()
        assert snapshot.retries == 4
        assert (snapshot.count(TaskState.COMPLETED), snapshot.count(TaskState.FAILED)) == (1, 1)


@pytest.mark.parametrize("lane", LANES)
async def test_an_error_that_the_policy_does_not_name_is_not_tried_again(lane: str) -> None:
    async with small() as engine:
        flaky = Flaky(1, KeyError)
        with pytest.raises(KeyError):
            await engine.options(retry=Retry(base_delay=0, on=(OSError,))).run(on(lane, flaky))
        assert flaky.attempts == [1]


async def test_the_pause_between_attempts_takes_its_jitter_from_the_injected_random_numbers() -> None:
    """Row A15."""
    async with small() as engine:
        asked: list[float] = []

        def rng() -> float:
            asked.append(0.5)
            return 0.5

        engine._core.scheduler.rng = rng
        pauses: list[float] = []
        deadlines: Any = engine._core.scheduler.deadlines
        original = deadlines.retry_after

        def retry_after(task: Task[Any], seconds: float) -> None:
            pauses.append(seconds)
            original(task, 0)

        deadlines.retry_after = retry_after
        policy = Retry(max_attempts=4, base_delay=8, factor=2, max_delay=20, jitter=0.5)
        assert await engine.options(retry=policy).run(Flaky(3)) == 4
        assert pauses == [8, 16, 20]
        assert asked == [0.5] * 3


@pytest.mark.parametrize("lane", LANES)
async def test_a_task_that_is_cancelled_in_its_backoff_does_not_run_again(lane: str) -> None:
    """Row A5: in backoff."""
    async with small() as engine:
        flaky = Flaky(9)
        task = engine.options(retry=Retry(base_delay=30)).submit(on(lane, flaky))
        await eventually_async(lambda: engine.snapshot().retries == 1)
        assert task.state is TaskState.PENDING
        assert task.cancel()
        assert task.cancelled()
        assert task.started_at is not None
    assert flaky.attempts == [1]


@pytest.mark.parametrize("lane", LANES)
async def test_a_total_timeout_strikes_in_the_backoff(lane: str) -> None:
    async with small() as engine:
        flaky = Flaky(9)
        with pytest.raises(TaskTimeout) as caught:
            await engine.options(retry=Retry(base_delay=30), total_timeout=0.05).run(on(lane, flaky))
        assert (caught.value.scope, caught.value.attempt) == ("total", 1)
    assert flaky.attempts == [1]


@pytest.mark.parametrize("lane", LANES)
async def test_a_retry_that_meets_the_stop_is_accounted_for(lane: str) -> None:
    """Row A15: retry racing shutdown; a drain waits for it, a stop with a timeout cancels it."""
    engine = await small().start()
    task = engine.options(retry=Retry(base_delay=0.01)).submit(on(lane, Flaky(2)))
    report = await engine.stop()
    assert (task.result(), report.completed) == (3, 1)

    engine = await small().start()
    task = engine.options(retry=Retry(base_delay=30)).submit(on(lane, Flaky(2)))
    await eventually_async(lambda: engine.snapshot().retries == 1)
    report = await engine.stop(timeout=0)
    assert task.cancelled()
    assert (report.submitted, report.cancelled, report.cancelled_by_stop) == (1, 1, 1)


@pytest.mark.parametrize("lane", LANES)
async def test_a_timeout_with_attempts_left_does_not_settle(lane: str) -> None:
    running = Counted()
    attempts: list[int] = []

    def thread() -> str:
        with running:
            attempts.append(current_task().attempt)
            if len(attempts) == 3:
                return "third"
            while not current_task().cancel_requested:
                running.pause()
            running.pause()  # attempts never overlap: the next one waits for the end of this
            return "too late"

    async def loop() -> str:
        with running:
            attempts.append(current_task().attempt)
            if len(attempts) == 3:
                return "third"
            try:
                await asyncio.sleep(30)
            finally:
                await asyncio.sleep(0.01)
            return "never"

    async with small(grace=30, threads=4, coroutines=4) as engine:
        policy = Retry(max_attempts=3, base_delay=0)
        task = engine.options(retry=policy, timeout=0.05).submit(thread if lane == "thread" else loop)
        assert await task == "third"
        assert (attempts, running.most, task.attempt) == ([1, 2, 3], 1, 3)
        snapshot = engine.snapshot()
        assert (snapshot.timeouts, snapshot.retries) == (2, 2)


@pytest.mark.parametrize("lane", LANES)
async def test_an_abandoned_attempt_is_not_tried_again(lane: str, stubborn: Gate) -> None:
    async with small() as engine:
        task = engine.options(retry=Retry(max_attempts=3, base_delay=0), timeout=0.02).submit(stubborn.on(lane))
        with pytest.raises(TaskTimeout):
            await task
        assert (task.attempt, engine.snapshot().retries) == (1, 0)
        stubborn.opened.set()
        await eventually_async(lambda: engine.snapshot().late == 1)


# -- order and room ---------------------------------------------------------------------------------------------------


class Counted:
    """Counts how many tasks are inside at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.now = self.most = 0

    def __enter__(self) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.now -= 1

    def pause(self) -> None:
        """Let other threads run."""
        threading.Event().wait(0.002)

    def thread(self) -> None:
        with self:
            self.pause()

    async def loop(self) -> None:
        with self:
            await asyncio.sleep(0.002)


@pytest.mark.parametrize("lane", LANES)
async def test_the_most_urgent_runs_first_and_equals_in_their_order(lane: str, gate: Gate) -> None:
    order: list[str] = []
    async with small() as engine:
        held = engine.submit(gate.on(lane))
        await eventually_async(gate.started.is_set)
        tasks = [held]
        for name, priority in [("n1", Priority.NORMAL), ("l1", Priority.LOW), ("h1", Priority.HIGH), ("n2", 0),
                               ("h2", 10), ("top", 1000), ("l2", -10), ("last", -1000)]:  # fmt: skip
            tasks.append(engine.options(priority=priority).submit(on(lane, order.append), name))
        gate.opened.set()
        await asyncio.gather(*tasks)
    assert order == ["top", "h1", "h2", "n1", "n2", "l1", "l2", "last"]


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("limit", [1, 3])
async def test_never_more_run_at_once_than_the_lane_has_slots(lane: str, limit: int) -> None:
    running = Counted()
    async with small(threads=limit, coroutines=limit) as engine:
        function = running.thread if lane == "thread" else running.loop
        await asyncio.gather(*(engine.submit(function) for _ in range(30)))
        assert engine.snapshot().lanes[Lane(lane)].slots == limit
    assert running.most == limit


async def test_submit_at_the_bound_is_refused_and_leaves_no_trace(gate: Gate) -> None:
    """Row A14."""
    async with small(max_pending=2) as engine:
        held = engine.submit(gate.hold_thread)
        await eventually_async(gate.started.is_set)
        queued = [engine.submit(abs, -n) for n in range(2)]
        with pytest.raises(EngineFull, match="expected fewer than max_pending=2 waiting tasks, got 2") as caught:
            engine.submit(abs, -9)
        assert caught.value.max_pending == 2
        assert len(engine.tasks()) == 3
        queued[0].cancel()
        queued.append(engine.submit(abs, -2))
        gate.opened.set()
        assert await asyncio.gather(held, *queued[1:]) == [None, 1, 2]


async def test_the_bound_covers_all_lanes_together(gate: Gate) -> None:
    async with small(max_pending=2) as engine:
        held = [engine.submit(gate.hold_thread), engine.submit(gate.hold_loop)]
        await eventually_async(lambda: engine.snapshot().queue_depth == 0)
        queued: list[Task[Any]] = [engine.submit(abs, -1), engine.submit(on("loop", abs), -2)]
        with pytest.raises(EngineFull):
            engine.submit(abs, -3)
        gate.opened.set()
        await asyncio.gather(*held, *queued)


@pytest.mark.parametrize("lane", LANES)
async def test_run_waits_for_room(lane: str) -> None:
    """Row A14, smaller: many more runs than the bound; never more wait than it says, and the room comes back."""
    async with small(max_pending=5) as engine:
        most = 0

        def look(number: int) -> int:
            nonlocal most
            most = max(most, engine.snapshot().queue_depth)
            return number

        results = await asyncio.gather(*(engine.run(on(lane, look), n) for n in range(500)))
        assert results == list(range(500))
        assert most <= 5
        assert engine._core.registry.waiting == 0
        assert not engine._core.registry.room_waiters
        gate = Gate()
        held = engine.submit(gate.on(lane))
        await eventually_async(gate.started.is_set)
        room = [engine.submit(on(lane, abs), -n) for n in range(5)]
        with pytest.raises(EngineFull):
            engine.submit(abs, 1)
        gate.opened.set()
        await asyncio.gather(held, *room)


async def test_who_gives_up_waiting_for_room_does_not_take_it_from_the_next(gate: Gate) -> None:
    """Row A14: cancel while waiting for room; the one behind a hundred that gave up must be woken all the same."""
    async with small(max_pending=1) as engine:
        held, queued = engine.submit(gate.hold_thread), None
        await eventually_async(gate.started.is_set)
        queued = engine.submit(abs, -1)
        quitters = [asyncio.create_task(engine.run(abs, -n)) for n in range(100)]
        last = asyncio.create_task(engine.run(abs, -7))
        await eventually_async(lambda: len(engine._core.registry.room_waiters) == 101)
        for quitter in quitters:
            quitter.cancel()
        await asyncio.wait(quitters)
        assert len(engine.tasks()) == 2
        gate.opened.set()
        assert await asyncio.wait_for(last, 10) == 7
        await asyncio.gather(held, queued)


async def test_a_timeout_while_waiting_for_room_leaves_nothing(gate: Gate) -> None:
    """Row A14: timeout while waiting for room; memory stays flat."""
    async with small(max_pending=1) as engine:
        held = engine.submit(gate.hold_thread)
        await eventually_async(gate.started.is_set)
        queued = engine.submit(abs, -1)
        for _ in range(50):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(engine.run(abs, -2), 0.001)
        await eventually_async(lambda: not engine._core.registry.room_waiters)
        gate.opened.set()
        await asyncio.gather(held, queued)


async def test_a_task_that_waits_for_room_lends_its_slot(gate: Gate) -> None:
    """Row N13: or what fills the queue could never leave it."""
    async with small(max_pending=1) as engine:

        async def outer() -> int:
            await gate.hold_loop()
            first: int = await engine.run(on("loop", abs), -1)
            others: list[int] = [n async for n in engine.map(on("loop", abs), [-2, -3])]
            return first + sum(others)

        def outer_thread() -> int:
            gate.hold_thread()
            return asyncio.run(outer())

        for function, lane in ((outer, "loop"), (outer_thread, "thread")):
            gate.opened.clear()
            gate.started.clear()
            task = engine.submit(function)
            await eventually_async(gate.started.is_set)
            queued = engine.submit(on(lane, abs), -7)
            gate.opened.set()
            results: list[object] = await asyncio.wait_for(asyncio.gather(task, queued), 30)
            assert results == [6, 7]


async def test_those_who_wait_for_room_are_told_when_the_engine_stops(gate: Gate) -> None:
    """Row N1: run, when no room will ever come."""
    engine = await small(max_pending=1).start()
    engine.submit(gate.hold_thread)
    await eventually_async(gate.started.is_set)
    engine.submit(abs, -1)
    waiting = [asyncio.create_task(engine.run(abs, -n)) for n in range(20)]
    await eventually_async(lambda: len(engine._core.registry.room_waiters) == 20)
    stop = asyncio.create_task(engine.stop())
    outcomes = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 10)
    assert {type(outcome) for outcome in outcomes} == {EngineClosed}
    gate.opened.set()
    await stop


async def test_retries_pass_the_bound(gate: Gate) -> None:
    async with small(max_pending=1) as engine:
        flaky = engine.options(retry=Retry(base_delay=0)).submit(Flaky(1))
        await eventually_async(lambda: engine.snapshot().retries == 1)
        assert await flaky == 2
        held = engine.options(retry=Retry(base_delay=0)).submit(_hold_then_fail, gate)
        await eventually_async(gate.started.is_set)
        queued = engine.submit(abs, -1)
        gate.opened.set()
        assert (await held, await queued) == (2, 1)


def _hold_then_fail(gate: Gate) -> int:
    gate.hold_thread()
    if current_task().attempt == 1:
        raise OSError("first")
    return current_task().attempt


async def test_history_and_live_tasks_are_listed_oldest_first(gate: Gate) -> None:
    async with small(history=3) as engine:
        for n in range(5):
            await engine.run(abs, -n)
        held = engine.options(name="held").submit(gate.hold_thread)
        await eventually_async(gate.started.is_set)
        assert [info.id for info in engine.tasks()] == [3, 4, 5, 6]
        assert [info.id for info in engine.tasks(state="running")] == [6]
        assert [info.id for info in engine.tasks(state=TaskState.COMPLETED, name="abs")] == [3, 4, 5]
        assert [info.id for info in engine.tasks(name="held")] == [6]
        assert engine.get(1) is None
        found = engine.get(6)
        assert found is not None
        assert (found.state, found.worker, found.completed_at) == (TaskState.RUNNING, "thread-1", None)
        gate.opened.set()
        await held


# -- what goes along --------------------------------------------------------------------------------------------------


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
    async with small(context=("tests.unit.test_engine:variable",)) as engine:
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


# -- nothing is kept --------------------------------------------------------------------------------------------------


class Box:
    """Can be watched by a weak reference."""


@pytest.mark.parametrize("lane", LANES)
async def test_arguments_and_results_are_freed_at_once_though_history_keeps_a_record(lane: str) -> None:
    """Row R3: by reference counts alone, and an idle thread keeps nothing."""
    async with small() as engine:
        gc.collect()
        gc.disable()
        try:
            argument, keyword = Box(), Box()
            watched = [weakref.ref(argument), weakref.ref(keyword)]
            task: Task[Box] | None = engine.submit(on(lane, lambda box, *, other: Box()), argument, other=keyword)
            del argument, keyword
            assert task is not None
            result: Box | None = await task
            assert result is not None
            watched.append(weakref.ref(result))
            await eventually_async(lambda: [ref() for ref in watched[:2]] == [None, None])
            assert watched[2]() is result
            task = result = None
            await eventually_async(lambda: watched[2]() is None)
        finally:
            gc.enable()
        (info,) = engine.tasks()
        assert info.state is TaskState.COMPLETED


@pytest.mark.parametrize("lane", LANES)
async def test_what_a_failed_task_held_is_freed_with_its_handle(lane: str) -> None:
    """Row R3: the traceback holds the function's frame until then, and no longer."""

    def raises(box: Box) -> None:
        raise OSError("on purpose")

    async with small() as engine:
        gc.collect()
        gc.disable()
        try:
            box = Box()
            watched = weakref.ref(box)
            task = engine.submit(on(lane, raises), box)
            del box
            await eventually_async(task.done)
            assert task.exception() is not None
            del task
            await eventually_async(lambda: watched() is None)
        finally:
            gc.enable()
        (info,) = engine.tasks()
        assert info.error == "OSError: on purpose"


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("ending", ["cancelled in the queue", "timed out in the queue", "cancelled in the backoff"])
async def test_what_a_task_held_that_never_ended_by_itself_is_freed_too(lane: str, ending: str, gate: Gate) -> None:
    """Row R3: though the handle is kept."""

    def raises(box: Box) -> None:
        raise OSError("on purpose")

    async with small() as engine:
        held = None
        if "queue" in ending:
            held = engine.submit(gate.on(lane))
            await eventually_async(gate.started.is_set)
        box = Box()
        watched = weakref.ref(box)
        view = engine.options(retry=Retry(base_delay=30), total_timeout=0.02 if "timed" in ending else None)
        task = view.submit(on(lane, raises), box)
        del box
        if "backoff" in ending:
            await eventually_async(lambda: engine.snapshot().retries == 1)
        if "timed" in ending:
            await eventually_async(task.done)
            assert isinstance(task.exception(), TaskTimeout)
        else:
            task.cancel()
        gc.collect()
        assert watched() is None
        gate.opened.set()
        if held is not None:
            await held


async def test_loops_that_come_and_go_are_forgotten() -> None:
    """Row R3, for loops: a long-lived engine must not keep every loop that ever awaited one of its tasks."""
    async with small() as engine:
        loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

        async def main() -> int:
            loops.append(weakref.ref(asyncio.get_running_loop()))
            coroutine: int = await engine.submit(on("loop", abs), -1)
            return coroutine + await engine.submit(abs, -1)

        for _ in range(10):
            assert await asyncio.to_thread(asyncio.run, main()) == 2
        gc.collect()
        assert sum(loop() is not None for loop in loops) <= 1


# -- nesting ----------------------------------------------------------------------------------------------------------


def _nest_thread(engine: Engine, depth: int) -> int:
    return 0 if depth == 0 else 1 + engine.submit(_nest_thread, engine, depth - 1).result()


async def _nest_loop(engine: Engine, depth: int) -> int:
    return 0 if depth == 0 else 1 + await engine.submit(_nest_loop, engine, depth - 1)


async def _nest_gather(engine: Engine, depth: int) -> int:
    if depth == 0:
        return 0
    return 1 + max(await asyncio.gather(*(engine.submit(_nest_gather, engine, depth - 1) for _ in range(2))))


async def _nest_run(engine: Engine, depth: int) -> int:
    return 0 if depth == 0 else 1 + await asyncio.wait_for(engine.run(_nest_run, engine, depth - 1), 60)


async def _nest_mixed(engine: Engine, depth: int) -> int:
    return 0 if depth == 0 else 1 + await engine.submit(_nest_mixed_thread, engine, depth - 1)


def _nest_mixed_thread(engine: Engine, depth: int) -> int:
    return 0 if depth == 0 else 1 + engine.submit(_nest_mixed, engine, depth - 1).result()


@pytest.mark.parametrize(
    ("nest", "depth"), [(_nest_thread, 10), (_nest_loop, 10), (_nest_gather, 3), (_nest_run, 10), (_nest_mixed, 10)]
)
async def test_nested_waits_complete_with_one_slot(nest: Callable[..., Any], depth: int) -> None:
    """Row N13: slots are lent."""
    async with small() as engine:
        assert await asyncio.wait_for(engine.submit(nest, engine, depth), 30) == depth
        snapshot = engine.snapshot()
        assert [lane.lent for lane in snapshot.lanes.values()] == [0, 0, 0]


@pytest.mark.parametrize("nest", [_nest_thread, _nest_loop])
async def test_nesting_past_the_bound_is_an_error_not_a_hang(nest: Callable[..., Any]) -> None:
    """Row N13: ten times ``threads`` may wait, not more; and the engine goes on."""
    async with small() as engine:
        with pytest.raises(NestedDeadlock, match=r"expected at most 10 tasks of the .* lane to wait"):
            await asyncio.wait_for(engine.submit(nest, engine, 12), 30)
        assert await asyncio.wait_for(engine.submit(nest, engine, 10), 30) == 10


async def test_a_process_task_that_would_submit_to_its_parents_engine_is_told() -> None:
    """Row N13."""
    async with small() as engine:
        with pytest.raises(PickleError, match="a process task cannot submit to its parent's engine"):
            await engine.options(lane="process").run(_nest_thread, engine, 1)


@pytest.mark.parametrize("lane", LANES)
async def test_a_slot_comes_back_when_the_wait_is_given_up(lane: str, gate: Gate) -> None:
    """Lending ends with the wait, not with the task that was waited for."""
    running = Counted()

    def impatient(task: Task[Any]) -> str:
        with pytest.raises(TimeoutError):
            task.result(timeout=0.01)
        return "gave up"

    async def impatient_loop(task: Task[Any]) -> str:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(task), 0.01)
        return "gave up"

    async with small() as engine:
        held = (
            engine.options(lane="thread").submit(gate.hold_thread) if lane == "loop" else engine.submit(gate.hold_loop)
        )
        function = impatient if lane == "thread" else impatient_loop
        assert await engine.submit(function, held) == "gave up"
        assert engine.snapshot().lanes[Lane(lane)].lent == 0
        await asyncio.gather(*(engine.submit(running.thread if lane == "thread" else running.loop) for _ in range(5)))
        assert running.most == 1
        gate.opened.set()
        await held


# -- threads and loops ------------------------------------------------------------------------------------------------


def test_many_threads_and_two_loops_share_one_engine() -> None:
    """Row N15: 32 threads and two event loops; each is woken on its own loop."""
    wrong: list[object] = []
    barrier = threading.Barrier(34)

    async def where() -> asyncio.AbstractEventLoop:
        await asyncio.sleep(0)
        return asyncio.get_running_loop()

    with Engine(threads=4, coroutines=50) as engine:
        thread_lane = engine.options(lane="thread")

        def from_thread(number: int) -> None:
            barrier.wait(30)
            for n in range(20):
                if thread_lane.submit(max, number, n).result(30) != max(number, n):
                    wrong.append((number, n))

        async def from_loop() -> None:
            barrier.wait(30)
            for n in range(20):
                loops = await asyncio.gather(*(engine.submit(where) for _ in range(5)))
                if set(loops) != {asyncio.get_running_loop()}:
                    wrong.append(loops)
                if await asyncio.wait_for(thread_lane.submit(abs, -n), 30) != n:
                    wrong.append(n)

        threads = [threading.Thread(target=from_thread, args=(n,)) for n in range(32)]
        threads += [threading.Thread(target=lambda: asyncio.run(from_loop())) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        snapshot = engine.snapshot()
    assert wrong == []
    assert snapshot.count(TaskState.COMPLETED) == 32 * 20 + 2 * 20 * 6


def test_a_coroutine_whose_loop_closed_before_it_began_does_not_hold_the_stop(gate: Gate) -> None:
    """Row A1: it never runs, and it ends all the same."""

    async def never() -> None:
        raise AssertionError("it ran")

    with Engine(threads=1, coroutines=1) as engine:
        held = engine.submit(gate.hold_loop)
        eventually(gate.started.is_set)
        loop = asyncio.new_event_loop()

        async def submit() -> Task[None]:
            return engine.submit(never)

        task = loop.run_until_complete(submit())
        loop.close()
        gate.opened.set()
        held.result(10)
        eventually(task.done)
        assert isinstance(task.exception(), EngineClosed)


def test_a_coroutine_whose_loop_closed_under_it_does_not_hold_the_stop(gate: Gate) -> None:
    """Row A1: a loop that is closed without cancelling its tasks, as by a careless framework."""
    with Engine(threads=1, coroutines=1) as engine:
        loop = asyncio.new_event_loop()

        async def submit() -> Task[Any]:
            task = engine.submit(gate.hold_loop)
            await eventually_async(gate.started.is_set)
            return task

        task = loop.run_until_complete(submit())
        pending = asyncio.all_tasks(loop)
        loop.close()
        done = threading.Event()

        def stop() -> None:
            engine.stop()
            done.set()

        stopper = threading.Thread(target=stop, daemon=True)
        stopper.start()
        try:
            assert done.wait(10), "stop waits for a coroutine whose loop is closed"
            assert task.done()
        finally:
            task.cancel()
            engine.stop(timeout=0)
            stopper.join(10)
            for each in pending:
                each._log_destroy_pending = False  # type: ignore[attr-defined]  # it is meant to be dropped pending
                coroutine: Any = each.get_coro()
                coroutine.close()  # and with it the user's


# -- fork -------------------------------------------------------------------------------------------------------------


def run_script(code: str, timeout: float = 60) -> str:
    """Run ``code`` in a fresh interpreter that finds what this one finds; return what it printed."""
    prologue = f"import sys; sys.path[:] = {sys.path!r}\n"
    run = subprocess.run(
        [sys.executable, "-c", prologue + textwrap.dedent(code)],
        capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return run.stdout


FORKED = """
import asyncio, os, signal, warnings
from engine import Engine, EngineForked
warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of fork with threads, rightly: it is what is tested

def in_child(fn):
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        try:
            fn()
        except EngineForked:
            os._exit(42)
        except BaseException:
            os._exit(1)
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


@pytest.mark.parametrize("lane", ["thread", "process"])
def test_a_forked_child_is_told_so_and_its_parent_goes_on(lane: str) -> None:
    """Row N12, submit."""
    printed = run_script(
        FORKED
        + f"""
with Engine(threads=1, processes=1, default_lane={lane!r}) as engine:
    assert engine.run(abs, -1) == 1
    for use in (lambda: engine.submit(abs, -2), lambda: engine.run(abs, -2), engine.stop, engine.warm_up):
        print(in_child(use))
    print(engine.run(abs, -3))
"""
    )
    assert printed.split() == ["42"] * 4 + ["3"]


def test_a_forked_child_may_leave_the_engines_block() -> None:
    """Row N12: it waits for nobody, and its parent's workers go on."""
    printed = run_script(
        FORKED
        + """
pid = None
with Engine(threads=1, processes=1) as engine:
    assert engine.run(abs, -1) == 1
    pid = os.fork()
    if pid:
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), engine.run(abs, -3))
    else:
        signal.alarm(20)
if not pid:
    os._exit(5)
"""
    )
    assert printed.split() == ["5", "3"]


def test_a_forked_child_of_an_async_engine_is_told_so() -> None:
    """Row N12, on a running loop."""
    printed = run_script(
        FORKED
        + """
async def main():
    async with Engine(threads=1, processes=1, default_lane="thread") as engine:
        assert await engine.run(abs, -1) == 1
        print(in_child(lambda: engine.submit(abs, -2)), in_child(lambda: engine.stop().send(None)))
        print(await engine.run(abs, -3))
asyncio.run(main())
"""
    )
    assert printed.split() == ["42", "42", "3"]


# -- what it shows ----------------------------------------------------------------------------------------------------


async def test_stacks_show_what_runs_in_both_lanes(gate: Gate) -> None:
    async with small() as engine:
        held = [
            engine.options(name="loopy").submit(gate.hold_loop),
            engine.options(name="thready").submit(gate.hold_thread),
        ]
        await eventually_async(lambda: len(engine.tasks(state="running")) == 2)
        await asyncio.sleep(0.01)  # into the coroutine's own wait
        stacks = engine.stacks()
        assert "hold_loop" in next(text for title, text in stacks.items() if "loopy" in title)
        assert "hold_thread" in next(text for title, text in stacks.items() if "thready" in title)
        gate.opened.set()
        await asyncio.gather(*held)


async def test_a_partial_and_a_callable_object_have_a_name_that_people_understand() -> None:
    class Work:
        def __call__(self) -> int:
            return 1

    functions: list[Callable[..., Any]] = [functools.partial(abs, -1), Work(), abs, "x".upper]
    async with small() as engine:
        names = [engine.submit(fn, *([-1] if fn is abs else [])).name for fn in functions]
        assert names[0] == "abs"
        assert names[1].endswith("Work")
        assert names[2:] == ["abs", "str.upper"]


async def test_a_flood_is_accounted_for_task_by_task() -> None:
    """Row A14, smaller: every submit through a bound of 100 ends, and counts and history agree."""
    async with small(max_pending=100, threads=2, history=50) as engine:
        accepted = refused = 0
        tasks: list[Task[Any]] = []
        for number in itertools.count():
            if accepted == 5_000:
                break
            try:
                tasks.append(engine.submit(abs, -number))
                accepted += 1
            except EngineFull:
                refused += 1
                await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        assert engine.snapshot().count(TaskState.COMPLETED) == accepted
        assert engine._core.registry.last_id == accepted
        assert len(engine.tasks()) == 50
        assert refused > 0


async def test_a_view_says_what_was_said() -> None:
    async with small(name="mine") as engine:
        assert repr(engine.options()) == "<Engine 'mine' running with no options>"
        view = engine.options(lane="thread", timeout=5).options(priority=3)
        assert repr(view) == "<Engine 'mine' running with lane='thread', timeout=5.0, priority=3>"


async def test_a_refused_wait_cancels_the_child_that_run_submitted() -> None:
    """Ten tasks may wait with one thread; the child that the eleventh submitted does not run on unseen."""

    async def nest(depth: int) -> None:
        if depth:
            await engine.run(nest, depth - 1)

    async with small() as engine:
        with pytest.raises(NestedDeadlock):
            await asyncio.wait_for(engine.run(nest, 12), 30)
        last = max(engine.tasks(), key=lambda info: info.id)
        assert (last.id, last.state) == (12, TaskState.CANCELLED)
        assert [info.state for info in engine.tasks()].count(TaskState.FAILED) == 11


async def test_a_refused_wait_for_room_leaves_no_room_kept_for_it(gate: Gate) -> None:
    """Or the next place in the queue would be given to who is not there, and who waits behind would wait for ever."""

    async def nest(depth: int) -> None:
        if depth:
            await engine.run(nest, depth - 1)
        else:
            engine.submit(gate.hold_thread)
            await eventually_async(gate.started.is_set)
            engine.submit(abs, -1)
            with pytest.raises(NestedDeadlock):
                await engine.run(nest, 0)
            assert not engine._core.registry.room_waiters
            gate.opened.set()

    async with small(max_pending=1) as engine:
        await asyncio.wait_for(engine.run(nest, 10), 30)
