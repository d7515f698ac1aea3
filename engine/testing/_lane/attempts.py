"""Attempts, slots and the order of tasks."""

import asyncio
from pathlib import Path

from ... import Lane, Priority
from . import functions
from .kit import FAST, STUCK, LaneKit, begun, most_at_once, raises, spans


async def a_failed_attempt_is_tried_again_and_attempts_never_overlap(kit: LaneKit, folder: Path) -> None:
    path = folder / "runs"
    async with kit.engine(4) as engine:
        task = kit.submit(engine.options(retry=FAST), "stumble", str(path), 2)
        assert await task == 3
        assert task.attempt == 3
        assert engine.snapshot().retries == 2
    times = spans(path)
    assert len(times) == 3
    assert most_at_once(times) == 1


async def the_last_failure_is_the_outcome(kit: LaneKit, folder: Path) -> None:
    async with kit.engine() as engine:
        task = kit.submit(engine.options(retry=FAST), "stumble", str(folder / "runs"), 99)
        with raises(OSError, match="failure 3"):
            await task
        assert task.attempt == 3


async def a_timeout_with_attempts_left_does_not_settle(kit: LaneKit, folder: Path) -> None:
    path = folder / "runs"
    async with kit.engine(4, grace=10) as engine:
        task = kit.submit(engine.options(retry=FAST, timeout=0.3), "dawdle", str(path), str(folder / "go"))
        assert await asyncio.wait_for(task, STUCK) == 2
    assert most_at_once(spans(path)) == 1


async def no_more_run_at_once_than_there_are_slots(kit: LaneKit, folder: Path) -> None:
    path = folder / "stays"
    async with kit.engine(2) as engine:
        await asyncio.gather(*[kit.submit(engine, "stay", str(path), 0.005) for _ in range(20)])
    times = spans(path)
    assert len(times) == 20
    assert most_at_once(times) <= 2


async def the_more_urgent_runs_first_and_the_older_of_equals(kit: LaneKit, folder: Path) -> None:
    path = folder / "order"
    async with kit.engine(1) as engine:
        first = kit.submit(engine, "hold", str(folder), "first")
        await begun(folder, "first")
        record = functions.mark if kit.lane is not Lane.LOOP else _mark
        tasks = [
            (engine.options(priority=priority) if kit.lane is Lane.LOOP
             else engine.options(priority=priority, lane=kit.lane)).submit(record, str(path), name)
            for priority, name in [(Priority.LOW, "e"), (Priority.NORMAL, "c"), (Priority.HIGH, "a"),
                                   (Priority.NORMAL, "d"), (Priority.HIGH, "b")]
        ]  # fmt: skip
        (folder / "go").touch()
        await asyncio.gather(first, *tasks)
    assert path.read_text().split() == ["a", "b", "c", "d", "e"]


async def _mark(path: str, text: str) -> None:
    functions.mark(path, text)
