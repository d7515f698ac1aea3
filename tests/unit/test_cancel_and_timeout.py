"""The cancel-and-timeout table of the loop and thread lanes, cell by cell."""

import asyncio
import logging
import threading
import time
from pathlib import Path

import pytest

from engine import (
    Lane,
    Retry,
    TaskState,
    TaskTimeout,
    checkpoint,
    current_task,
)
from tests.support import eventually_async
from tests.unit.gates import LANES, Counted, Gate, on, small

# -- queued ------------------------------------------------------------------------------------------------------------


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


# -- running -----------------------------------------------------------------------------------------------------------


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
