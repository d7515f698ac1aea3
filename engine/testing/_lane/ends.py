"""The end of the engine."""

import asyncio
from pathlib import Path

from ... import Lane, TaskState
from ...errors import EngineClosed
from ..waiting import eventually_async
from .kit import STUCK, LaneKit, begun, raises


async def leaving_waits_for_all_accepted_work(kit: LaneKit, folder: Path) -> None:
    async with kit.engine(2) as engine:
        tasks = [kit.submit(engine, "touch", str(folder / f"{number}")) for number in range(20)]
    assert all(task.state is TaskState.COMPLETED for task in tasks)
    assert len(list(folder.iterdir())) == 20


async def stop_accounts_for_every_task_and_leaves_nothing(kit: LaneKit, folder: Path) -> None:
    engine = await kit.engine(1).start()
    done = kit.submit(engine, "give", 1)
    failed = kit.submit(engine, "fail", "on purpose")
    await asyncio.gather(done, failed, return_exceptions=True)
    running = kit.submit(engine, "hold", str(folder), "running")
    await begun(folder, "running")
    queued = [kit.submit(engine, "touch", str(folder / f"queued-{number}")) for number in range(5)]
    report = await asyncio.wait_for(engine.stop(timeout=0), STUCK)
    assert (report.submitted, report.completed, report.failed, report.cancelled) == (8, 1, 1, 6)
    assert report.cancelled_by_stop == 6
    assert running.cancelled()
    assert all(task.cancelled() and task.started_at is None for task in queued)
    assert not list(folder.glob("queued-*"))
    snapshot = engine.snapshot()
    assert snapshot.phase == "closed"
    assert snapshot.count(TaskState.PENDING) == snapshot.count(TaskState.RUNNING) == 0
    assert not snapshot.workers
    assert await engine.stop() == report


async def stop_with_cancel_pending_lets_the_running_end(kit: LaneKit, folder: Path) -> None:
    engine = await kit.engine(1).start()
    running = kit.submit(engine, "hold", str(folder), "running")
    await begun(folder, "running")
    queued = kit.submit(engine, "touch", str(folder / "queued"))
    stopping = asyncio.ensure_future(engine.stop(cancel_pending=True))
    await asyncio.gather(queued, return_exceptions=True)
    assert queued.cancelled()
    (folder / "go").touch()
    report = await asyncio.wait_for(stopping, STUCK)
    assert await running == "running"
    assert report.completed == report.cancelled == report.cancelled_by_stop == 1


async def stop_ends_what_ignores_its_cancellation(kit: LaneKit, folder: Path) -> None:
    """It returns although a task never stops; what cannot be killed is counted as abandoned."""
    engine = await kit.engine(1, grace=0.05).start()
    deaf = kit.submit(engine, "resist", str(folder), "deaf")
    await begun(folder, "deaf")
    report = await asyncio.wait_for(engine.stop(timeout=0.01), STUCK)
    assert deaf.cancelled()
    assert report.cancelled == 1
    assert report.abandoned == (kit.lane is not Lane.PROCESS)
    (folder / "go").touch()
    if kit.lane is not Lane.PROCESS:
        await eventually_async(lambda: (folder / "deaf.ended").exists(), STUCK)


async def after_the_stop_nothing_is_accepted(kit: LaneKit, folder: Path) -> None:
    """EngineClosed, a RuntimeError that says what the standard executors say."""
    engine = await kit.engine().start()
    await engine.stop()
    with raises(EngineClosed, match="cannot schedule new futures after shutdown"):
        kit.submit(engine, "give", 1)
    assert issubclass(EngineClosed, RuntimeError)
