"""Workers that are replaced: after their number of tasks, on request, after a crash; nothing is lost, nothing is left.

SCENARIOS W13, R1; design/0007.
"""

import asyncio
import contextlib
import gc
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, Task, TaskState
from engine.errors import WorkerCrashed, WorkerMemoryExceeded
from tests.contracts import functions
from tests.integration import memory_functions as does
from tests.integration.memory_functions import MIB
from tests.support import eventually_async

STUCK = 30.0  #: seconds; a bound for what never happens, not a measurement
BACKLOG = 24  #: tasks; the full campaign has 100


def ran(path: Path) -> Counter[int]:
    return Counter(map(int, path.read_text().split())) if path.exists() else Counter()


async def settle(tasks: list[Task[Any]]) -> list[Any]:
    """Wait until every task is settled, and return what they gave."""
    return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 2 * STUCK)


@pytest.mark.parametrize("most", [1, 2])
async def test_a_backlog_runs_through_workers_that_are_used_up(most: int) -> None:
    """W13: each worker runs its number of tasks and no more; they are counted as recycled, not as crashed."""
    async with Engine(processes=2, max_tasks_per_worker=most) as engine:
        tasks = [engine.submit(does.own_pid) for _ in range(BACKLOG)]
        pids = await settle(tasks)
        used = Counter(pids)
        assert max(used.values()) == most
        used_up = sum(count == most for count in used.values())  # the last tasks may lie with half-used workers
        assert used_up >= BACKLOG / most - 4
        await eventually_async(lambda: engine.snapshot().recycled == used_up, STUCK)
        snapshot = engine.snapshot()
        assert (snapshot.crashes, snapshot.start_failures) == (0, 0)
        assert all(task.attempt == 1 for task in tasks)


@pytest.mark.parametrize("most", [1, 2])
async def test_crashes_among_them_cost_their_own_task_only(tmp_path: Path, most: int) -> None:
    """W13: used-up workers and crashed ones at once: every task resolves, each ran once."""
    path = tmp_path / "ran"
    async with Engine(processes=2, max_tasks_per_worker=most) as engine:
        results = await settle([engine.submit(does.crash_if, number, str(path)) for number in range(BACKLOG)])
        crashed = [number for number in range(BACKLOG) if number % 7 == 3]
        for number, result in enumerate(results):
            assert isinstance(result, WorkerCrashed) if number in crashed else result == number
        assert ran(path) == Counter(range(BACKLOG))
        assert engine.snapshot().crashes == len(crashed)


@pytest.mark.parametrize("most", [1, 2])
@pytest.mark.parametrize("how", ["drain", "cancel_pending", "forced"])
async def test_a_stop_in_the_middle_of_the_backlog_resolves_every_task(tmp_path: Path, most: int, how: str) -> None:
    """W13: what ran is completed, what never ran is cancelled, and nothing ran twice."""
    path = tmp_path / "ran"
    engine = await Engine(processes=2, max_tasks_per_worker=most, grace=0.1).start()
    tasks = [engine.submit(does.crash_if, 7 * number, str(path)) for number in range(BACKLOG)]
    await eventually_async(lambda: sum(task.done() for task in tasks) >= 10, STUCK)
    how_to: dict[str, Any] = {"drain": {}, "cancel_pending": {"cancel_pending": True}, "forced": {"timeout": 0}}
    report = await asyncio.wait_for(engine.stop(**how_to[how]), 2 * STUCK)
    assert all(task.done() for task in tasks)
    completed = [number for number, task in enumerate(tasks) if task.state is TaskState.COMPLETED]
    assert report.completed + report.cancelled == BACKLOG
    assert len(completed) == (BACKLOG if how == "drain" else report.completed)
    assert max(ran(path).values()) == 1
    assert {7 * number for number in completed} <= set(ran(path))
    assert engine.snapshot().crashes == 0


@pytest.mark.parametrize("most", [1, 2])
def test_an_engine_that_nobody_holds_finishes_its_backlog(most: int) -> None:
    """W13: the last reference is dropped, the collector runs: every task resolves all the same."""

    async def submit() -> list[Task[Any]]:
        engine = await Engine(processes=2, max_tasks_per_worker=most).start()
        return [engine.submit(does.own_pid) for _ in range(BACKLOG)]

    async def main() -> list[Any]:
        tasks = await submit()
        gc.collect()
        return await settle(tasks)

    pids = asyncio.run(main())
    assert len(pids) == BACKLOG
    assert max(Counter(pids).values()) == most


async def test_the_successor_stands_by_while_a_worker_is_at_its_last_task(tmp_path: Path) -> None:
    """W13: recycling costs no throughput: with one slot and one task per worker a second worker is up meanwhile."""
    async with Engine(processes=1, max_tasks_per_worker=1) as engine:
        first = engine.submit(functions.hold, str(tmp_path), "first")
        second = engine.submit(does.own_pid)
        await eventually_async(lambda: len(_pids(engine, "idle")) == 1, STUCK)
        assert not first.done()
        assert not second.done()
        assert len(_pids(engine, "busy")) == 1  # one slot is one task at a time all the same
        successor = _pids(engine, "idle")
        (tmp_path / "go").touch()
        assert [await asyncio.wait_for(second, STUCK)] == successor


def _pids(engine: Engine, state: str) -> list[int | None]:
    return [worker.pid for worker in engine.snapshot().workers if worker.state == state]


async def test_no_successor_is_started_for_work_that_is_not_there(tmp_path: Path) -> None:
    """W13: a lone last task needs none, and three waiting tasks in one slot need one at a time."""
    async with Engine(processes=1, max_tasks_per_worker=1) as engine:
        first = engine.submit(functions.hold, str(tmp_path), "first")
        await eventually_async(lambda: _pids(engine, "busy"), STUCK)
        assert len(engine.snapshot().workers) == 1
        others = [engine.submit(does.own_pid) for _ in range(5)]
        await eventually_async(lambda: _pids(engine, "idle"), STUCK)
        assert len(engine.snapshot().workers) == 2
        (tmp_path / "go").touch()
        await settle([first, *others])


async def test_two_last_tasks_and_one_that_waits_need_one_successor(tmp_path: Path) -> None:
    """W13: as many stand by as there is work for."""
    async with Engine(processes=2, max_tasks_per_worker=1) as engine:
        tasks: list[Task[Any]] = [engine.submit(functions.hold, str(tmp_path), str(number)) for number in range(2)]
        await eventually_async(lambda: len(_pids(engine, "busy")) == 2, STUCK)
        tasks.append(engine.submit(does.own_pid))
        await eventually_async(lambda: _pids(engine, "idle"), STUCK)
        assert len(engine.snapshot().workers) == 3
        (tmp_path / "go").touch()
        await settle(tasks)


async def test_the_next_task_does_not_wait_for_a_used_up_worker_to_leave(tmp_path: Path) -> None:
    """W13: its slot is free with its last answer, whatever its exit handlers do."""
    async with Engine(processes=1, max_tasks_per_worker=1, grace=STUCK) as engine:
        first = engine.submit(leave_when_told, str(tmp_path / "go"))
        second = engine.submit(does.own_pid)
        pid = await asyncio.wait_for(first, STUCK)
        assert await asyncio.wait_for(second, STUCK) != pid
        assert pid in _pids(engine, "retiring")
        (tmp_path / "go").touch()


def leave_when_told(path: str) -> int:
    """Have this process wait for the file ``path`` when it leaves; return its pid."""
    import atexit

    def wait() -> None:
        while not os.path.exists(path):
            time.sleep(0.002)

    atexit.register(wait)
    return os.getpid()


async def test_exit_handlers_of_a_used_up_worker_run_and_are_no_fault(tmp_path: Path) -> None:
    """W13: a worker that takes its time to leave is in nobody's way, and is not counted as broken."""
    async with Engine(processes=1, max_tasks_per_worker=1, grace=1.0) as engine:
        for number in range(3):
            await asyncio.wait_for(engine.run(leave_a_mark_late, str(tmp_path / str(number))), STUCK)
        await eventually_async(lambda: engine.snapshot().recycled == 3, STUCK)
        assert len(list(tmp_path.iterdir())) == 3
        assert engine._core.processes.counters.malformed == 0


def leave_a_mark_late(path: str) -> None:
    """Have the exit of this process take longer than the parent waits for the end of a closed stream."""
    import atexit

    def leave() -> None:
        time.sleep(0.6)
        functions.mark(path)

    atexit.register(leave)


# -- R1 -------------------------------------------------------------------------------------------------------------


async def test_replacements_of_every_kind_leave_nothing_behind(tmp_path: Path) -> None:
    """R1 (small): dozens of workers come and go in every way; descriptors, threads and memory are as they were."""
    async with Engine(
        processes=2, max_tasks_per_worker=20, worker_memory_limit=64 * MIB, grace=0.05, worker_start_timeout=30
    ) as engine:
        sizes = []
        for number in range(5):
            await _replace_in_every_way(engine, tmp_path / str(number))
            # While the worker that was killed last still counts as busy, a spare would be kept beside it.
            await eventually_async(lambda: all(w.state == "idle" for w in engine.snapshot().workers), STUCK)
            await engine.restart_workers()
            await eventually_async(lambda: not engine.snapshot().workers, STUCK)
            gc.collect()
            sizes.append((len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")), does.held()))
        after = sizes[2:]  # the first rounds import and fill caches
        assert {(descriptors, threads) for descriptors, threads, _ in after} == {after[0][:2]}
        assert after[-1][2] - after[0][2] < 2 * MIB, [size for _, _, size in sizes]
        snapshot = engine.snapshot()
        assert snapshot.recycled >= 10
        assert snapshot.crashes == 10
        assert snapshot.memory_exceeded == 5
        assert snapshot.start_failures == 0


async def _replace_in_every_way(engine: Engine, path: Path) -> None:
    """Use workers up, fill them, crash them, kill idle ones, cancel and time out what runs in them."""
    path.mkdir()
    await settle([engine.submit(does.own_pid) for _ in range(50)])
    await settle([engine.submit(does.leak, 20 * MIB) for _ in range(8)])
    for result in await settle([engine.submit(os._exit, 3), engine.submit(os.abort)]):
        assert isinstance(result, WorkerCrashed)
    (result,) = await settle([engine.submit(does.eat)])
    assert isinstance(result, WorkerMemoryExceeded)
    pid = await engine.run(does.own_pid)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    task = engine.submit(functions.resist, str(path), "cancelled")
    await eventually_async(lambda: (path / "cancelled.begun").exists(), STUCK)
    assert task.cancel()
    (result,) = await settle([engine.options(timeout=0.05).submit(functions.resist, str(path), "late")])
    assert isinstance(result, TimeoutError)
    await asyncio.wait_for(engine.run(functions.give, 1), STUCK)
