"""Taking back what was sent to a worker: each interleaving is forced (design/0003, interleaving 3).

A worker that is stopped (SIGSTOP) takes no packet, so a task sent to it is "sent, not started" for as long as we like.
"""

import asyncio
import os
import signal
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine import Engine, EngineFull, Task, TaskState
from engine._lanes.base import Attempt
from engine._lanes.processes import ProcessLane
from tests.contracts import functions
from tests.support import eventually_async

STUCK = 20.0


async def frozen_worker(engine: Engine) -> int:
    """Start the one worker, and freeze it; return its pid."""
    pid = await engine.run(os.getpid)
    os.kill(pid, signal.SIGSTOP)
    await eventually_async(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, STUCK)
    return pid


async def sent(engine: Engine, path: Path) -> Task[str]:
    """Submit a task and wait until its packet is with the kernel."""
    task = engine.submit(functions.touch, str(path))
    await eventually_async(lambda: task._attempt is not None and task._attempt.lane_data is not None, STUCK)
    assert task.state is TaskState.PENDING
    return task


async def test_a_task_that_was_sent_and_is_cancelled_never_runs(tmp_path: Path) -> None:
    """A6, A7: it is taken back from the kernel, and the task behind it is not lost."""
    async with Engine(processes=1) as engine:
        pid = await frozen_worker(engine)
        first = await sent(engine, tmp_path / "first")
        behind = engine.submit(functions.touch, str(tmp_path / "behind"))
        assert first.cancel()
        assert first.cancelled()
        assert first.started_at is None
        os.kill(pid, signal.SIGCONT)
        assert await asyncio.wait_for(behind, STUCK) == str(tmp_path / "behind")
    assert not (tmp_path / "first").exists()


async def test_a_task_that_was_sent_to_a_worker_that_dies_runs_in_the_next(tmp_path: Path) -> None:
    """It used no attempt, and is not counted twice against ``max_pending``."""
    async with Engine(processes=1, max_pending=3) as engine:
        for _ in range(3):
            pid = await frozen_worker(engine)
            task = await sent(engine, tmp_path / "one")
            os.kill(pid, signal.SIGKILL)
            assert await asyncio.wait_for(task, STUCK)
            assert task.attempt == 1
        assert engine._core.registry.waiting == 0
        pid = await frozen_worker(engine)
        await sent(engine, tmp_path / "two")
        for _ in range(3):
            engine.submit(functions.touch, str(tmp_path / "two"))
        with pytest.raises(EngineFull):
            engine.submit(functions.touch, str(tmp_path / "two"))
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("again", ["queued", "running"])
async def test_a_cancel_that_loses_to_a_dying_worker_ends_the_task_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: str
) -> None:
    """1. cancel: the attempt is sent. 2. Its worker dies: the task is given back, and queued, or claimed by another
    worker and begun. 3. cancel: recall answers False, for an attempt that is no longer the task's.

    The canceller must decide anew, or the task runs on behind a handle that says CANCELLED.
    """
    may_recall, recalled = threading.Event(), threading.Event()
    recall = ProcessLane.recall

    def late_recall(self: ProcessLane, attempt: Attempt) -> bool:
        assert may_recall.wait(STUCK)
        return recall(self, attempt)

    async with Engine(processes=1, grace=10) as engine:
        pid = await frozen_worker(engine)
        task = engine.submit(functions.hold, str(tmp_path), "one")
        await eventually_async(lambda: task._attempt is not None and task._attempt.lane_data is not None, STUCK)
        scheduler = engine._core.scheduler
        give_back = scheduler.give_back

        def gone(attempt: Attempt) -> None:
            give_back(attempt)
            if again == "queued":  # let the canceller finish before anything else happens on this loop
                may_recall.set()
                assert recalled.wait(STUCK)

        monkeypatch.setattr(ProcessLane, "recall", late_recall)
        monkeypatch.setattr(scheduler, "give_back", gone)
        answers: list[bool] = []

        def cancel() -> None:
            answers.append(task.cancel())
            recalled.set()

        canceller = threading.Thread(target=cancel)
        canceller.start()
        await eventually_async(lambda: task._cancel_requested, STUCK)
        os.kill(pid, signal.SIGKILL)
        if again == "running":
            await eventually_async((tmp_path / "one.begun").exists, STUCK)
            may_recall.set()
        await asyncio.to_thread(canceller.join, STUCK)
        assert answers == [True]
        assert task.cancelled()
        if again == "running":
            await eventually_async((tmp_path / "one.ended").exists, STUCK)
        assert len(engine._core.registry.ready[task.lane]) == 0
        assert await asyncio.wait_for(engine.run(functions.give, 1), STUCK) == 1
    assert (tmp_path / "one.begun").exists() == (again == "running")


async def test_of_two_that_take_a_sent_task_back_the_slower_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A5: 1. Both see "sent". 2. One recalls it: True. 3. The other: False, and settles. 4. The first goes on.

    The attempt must leave its lane all the same, or the engine never becomes quiet and cannot stop.
    """
    inside = threading.Barrier(2)
    tried = threading.Event()
    turn = threading.Lock()
    recall = ProcessLane.recall

    def slow_recall(self: ProcessLane, attempt: Attempt) -> bool:
        try:
            inside.wait(1.0)  # broken if the engine lets only one in: that is fine too
        except threading.BrokenBarrierError:
            return recall(self, attempt)
        with turn:
            answer = recall(self, attempt)
        if answer:
            tried.wait(1.0)
        return answer

    engine = await Engine(processes=1).start()
    pid = await frozen_worker(engine)
    task = await sent(engine, tmp_path / "one")
    monkeypatch.setattr(ProcessLane, "recall", slow_recall)
    answers: list[bool] = []

    def cancel() -> None:
        answers.append(task.cancel())
        tried.set()

    threads = [threading.Thread(target=cancel) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join, STUCK)
    assert True in answers
    assert task.cancelled()
    assert task.started_at is None
    assert not engine._core.registry.attempts
    assert engine._core.registry.slots[task.lane].taken == 0
    os.kill(pid, signal.SIGCONT)
    report = await asyncio.wait_for(engine.stop(timeout=5), STUCK)
    assert (report.submitted, report.completed, report.cancelled, report.killed) == (2, 1, 1, 0)
    assert not (tmp_path / "one").exists()


async def test_a_recall_that_comes_after_the_worker_took_the_packet_ends_the_running_task(tmp_path: Path) -> None:
    """A5: the kernel decides. Whatever cancel finds, True means that the task never completes."""
    async with Engine(processes=1, grace=0.2) as engine:
        await engine.warm_up()
        outcomes: list[Any] = []
        for number in range(200):
            task = engine.submit(functions.touch, str(tmp_path / str(number)))
            for _ in range(number % 7):
                await asyncio.sleep(0)
            answer = task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            outcomes.append(answer)
            assert task.cancelled() == answer, task
            if task.started_at is None:
                assert not (tmp_path / str(number)).exists()
        assert True in outcomes
