"""What only our own worker protocol does: tasks sent ahead and taken back from the kernel, and closed descriptors.

Not for loky: it is given one task at a time and gives none back, and it leaves the descriptors that it passes on
inheritable. What any process lane must do is in ``test_process_lane.py``.
"""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from engine._lanes._process import pool
from engine.errors import WorkerCrashed
from tests.contracts.process_front import lane_of, started
from tests.contracts.process_tasks import append_line, identity, inheritable_descriptors, touch_and_wait
from tests.support import eventually_async


async def test_what_a_dead_worker_had_not_begun_is_given_back_and_runs_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pool, "SEND_AHEAD", 5)
    async with lane_of() as (front, lane):
        await lane.warm_up()
        first = front.submit(touch_and_wait, str(tmp_path / "first"), 60.0)
        rest = [front.submit(append_line, str(tmp_path / "runs"), n) for n in range(8)]
        await started(lane, first)
        await eventually_async(lambda: rest[3].lane_data is not None)
        os.kill(lane.workers()[0].pid or 0, signal.SIGKILL)
        assert isinstance((await front.outcome(first)).error, WorkerCrashed)
        for attempt in rest:
            assert (await front.outcome(attempt)).error is None
        assert front.given_back == [attempt.task_id for attempt in reversed(rest[:4])]
        assert (tmp_path / "runs").read_text().split() == [str(n) for n in range(8)]


async def test_a_task_behind_a_running_one_is_recalled_and_never_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pool, "SEND_AHEAD", 4)
    async with lane_of() as (front, lane):
        await lane.warm_up()
        first = front.submit(touch_and_wait, str(tmp_path / "first"), 0.3)
        rest = [front.submit(append_line, str(tmp_path / "runs"), n) for n in range(3)]
        await started(lane, first)
        await eventually_async(lambda: rest[2].lane_data is not None)
        assert not lane.recall(first)
        assert await asyncio.to_thread(lane.recall, rest[1])
        assert not lane.recall(rest[1])
        assert (await front.outcome(rest[2])).error is None
        assert (tmp_path / "runs").read_text().split() == ["0", "2"]
        assert rest[1].task_id not in front.outcomes


async def test_big_arguments_of_a_recalled_task_are_skipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pool, "SEND_AHEAD", 4)
    async with lane_of() as (front, lane):
        await lane.warm_up()
        first = front.submit(touch_and_wait, str(tmp_path / "first"), 0.3)
        rest = [front.submit(identity, bytes([n]) * 1_000_000) for n in range(3)]
        await started(lane, first)
        await eventually_async(lambda: rest[2].lane_data is not None)
        assert lane.recall(rest[1])
        assert (await front.outcome(rest[0])).value == bytes([0]) * 1_000_000
        assert (await front.outcome(rest[2])).value == bytes([2]) * 1_000_000


async def test_an_interrupt_of_a_task_that_has_not_begun_keeps_it_from_running(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pool, "SEND_AHEAD", 2)
    async with lane_of() as (front, lane):
        await lane.warm_up()
        first = front.submit(touch_and_wait, str(tmp_path / "first"), 0.3)
        second = front.submit(append_line, str(tmp_path / "runs"), 1)
        await started(lane, first)
        await eventually_async(lambda: second.lane_data is not None)
        lane.interrupt(second)
        outcome = await front.outcome(second)
        assert outcome.cancelled
        assert outcome.started_at is None
        assert (await front.outcome(first)).value == "done"
        assert not (tmp_path / "runs").exists()


async def test_descriptors_are_not_inheritable_once_workers_run() -> None:
    before = inheritable_descriptors()
    async with lane_of(2) as (front, lane):
        await lane.warm_up()
        assert inheritable_descriptors() == before
        assert await front.value(inheritable_descriptors) == {0, 1, 2}
