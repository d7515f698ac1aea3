"""Cancel and timeout, of tasks that wait and of tasks that run."""

import asyncio
from pathlib import Path

from ... import Lane, Retry, TaskState
from ...errors import TaskTimeout
from ..waiting import eventually_async
from .kit import STUCK, LaneKit, begun, raises


async def a_task_cancelled_in_the_queue_never_runs(kit: LaneKit, folder: Path) -> None:
    """The file that it would have written never appears."""
    async with kit.engine(1) as engine:
        first = kit.submit(engine, "hold", str(folder), "first")
        await begun(folder, "first")
        queued = [kit.submit(engine, "touch", str(folder / f"queued-{number}")) for number in range(5)]
        assert all(task.cancel() for task in queued)
        assert all(task.state is TaskState.CANCELLED and task.started_at is None for task in queued)
        (folder / "go").touch()
        assert await first == "first"
        assert await kit.submit(engine, "touch", str(folder / "last"))
    assert not list(folder.glob("queued-*"))


async def a_running_task_that_is_cancelled_ends_and_frees_its_slot(kit: LaneKit, folder: Path) -> None:
    """The handle is CANCELLED, the function is left, and the only slot is free again."""
    async with kit.engine(1, grace=10) as engine:
        task = kit.submit(engine, "hold", str(folder), "one")
        await begun(folder, "one")
        assert task.cancel()
        with raises(asyncio.CancelledError):
            await task
        assert task.state is TaskState.CANCELLED
        assert task.started_at is not None
        await eventually_async(lambda: (folder / "one.ended").exists(), STUCK)
        assert await asyncio.wait_for(kit.submit(engine, "give", 2), STUCK) == 2


async def cancel_answers_true_only_for_what_never_completes(kit: LaneKit, folder: Path) -> None:
    """Twice, after done, before the start, in the backoff."""
    async with kit.engine(1) as engine:
        done = kit.submit(engine, "give", 1)
        await done
        assert not done.cancel()
        assert done.state is TaskState.COMPLETED

        fresh = kit.submit(engine, "touch", str(folder / "fresh"))  # still in the queue: this loop has not turned
        fresh.cancel()
        fresh.cancel()
        await asyncio.gather(fresh, return_exceptions=True)
        assert fresh.cancelled()

        waits = kit.submit(engine.options(retry=Retry(max_attempts=2, base_delay=60)), "fail", "once")
        await eventually_async(lambda: waits.attempt == 1 and waits.state is TaskState.PENDING, STUCK)
        assert waits.cancel()
        assert not waits.cancel()
        assert waits.cancelled()


async def cancelling_an_await_cancels_the_task_and_a_shield_keeps_it(kit: LaneKit, folder: Path) -> None:
    """Wait_for ends the task behind it; shield lets it go on."""
    async with kit.engine() as engine:
        task = kit.submit(engine, "hold", str(folder), "awaited")
        await begun(folder, "awaited")
        with raises(TimeoutError):
            await asyncio.wait_for(task, 0.01)
        assert task.cancelled()

        kept = kit.submit(engine, "hold", str(folder), "kept")
        await begun(folder, "kept")
        with raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(kept), 0.01)
        assert not kept.done()
        (folder / "go").touch()
        assert await kept == "kept"


async def a_timeout_fails_the_task_and_frees_its_slot(kit: LaneKit, folder: Path) -> None:
    async with kit.engine(1) as engine:
        task = kit.submit(engine.options(timeout=0.02), "hold", str(folder), "slow")
        with raises(TaskTimeout) as caught:
            await asyncio.wait_for(task, STUCK)
        error = caught.value
        assert (error.task_id, error.lane, error.attempt, error.timeout) == (task.id, kit.lane.value, 1, 0.02)
        assert error.scope == "attempt"
        assert isinstance(error, TimeoutError)
        assert await asyncio.wait_for(kit.submit(engine, "give", 2), STUCK) == 2
        assert engine.snapshot().timeouts == 1


async def a_lane_knows_whose_end_has_arrived(kit: LaneKit, folder: Path) -> None:
    """Not of one that waits or runs; of one that has ended, yes: a late timer asks."""
    async with kit.engine(slots=1) as engine:
        lane = engine._core.lanes[kit.lane]
        task = kit.submit(engine, "hold", str(folder), "one")
        await begun(folder, "one")
        attempt = task._attempt
        assert attempt is not None
        assert not lane.has_answered(attempt)
        (folder / "go").touch()
        await task
        assert lane.has_answered(attempt)


async def time_in_the_queue_does_not_count_for_timeout_but_for_total_timeout(kit: LaneKit, folder: Path) -> None:
    async with kit.engine(1) as engine:
        first = kit.submit(engine, "hold", str(folder), "first")
        await begun(folder, "first")
        late = kit.submit(engine.options(total_timeout=0.02), "touch", str(folder / "late"))
        patient = kit.submit(engine.options(timeout=10), "give", 3)
        with raises(TaskTimeout) as caught:
            await asyncio.wait_for(late, STUCK)
        assert caught.value.scope == "total"
        assert late.started_at is None
        (folder / "go").touch()
        assert await patient == 3
        assert await first == "first"
    assert not (folder / "late").exists()


async def what_ignores_its_cancellation_is_given_up_after_its_grace(kit: LaneKit, folder: Path) -> None:
    """Its slot goes to the next task; a process is killed, a thread or coroutine abandoned and counted."""
    async with kit.engine(1) as engine:
        deaf = kit.submit(engine.options(grace=0.05), "resist", str(folder), "deaf")
        await begun(folder, "deaf")
        assert deaf.cancel()
        assert await asyncio.wait_for(kit.submit(engine, "give", 2), STUCK) == 2
        assert deaf.cancelled()
        counts = engine.snapshot()
        assert counts.abandoned == (kit.lane is not Lane.PROCESS)
        (folder / "go").touch()
        if kit.lane is not Lane.PROCESS:
            await eventually_async(lambda: (folder / "deaf.ended").exists(), STUCK)
            await eventually_async(lambda: engine.snapshot().late == 1, STUCK)  # its result is dropped, and counted
            assert engine.snapshot().lanes[kit.lane].abandoned == 0
    assert deaf.cancelled()
