"""Memory of workers: recycled between tasks, a task that takes too much is killed, and it alone is blamed.

SCENARIOS W10, W12; design/0007.
"""

import asyncio
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, Retry, Task
from engine._lanes._process import ahead
from engine._lanes.processes import ProcessLane
from engine._wire.statm import private_bytes
from engine.errors import WorkerCrashed, WorkerMemoryExceeded, WorkerStartupError
from tests.contracts import functions
from tests.integration import memory_functions as does
from tests.integration.memory_functions import MIB
from tests.support import eventually_async

STUCK = 30.0  #: seconds; a bound for what never happens, not a measurement
LIMIT = 64 * MIB


async def failure(task: Task[Any]) -> BaseException:
    """Wait for ``task``, which must fail, and return its error."""
    await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), STUCK)
    error = task.exception()
    assert error is not None
    return error


def the_worker(engine: Engine) -> Any:
    """Return the lane's own picture of the worker that is busy."""
    return next((worker for worker in engine._core.processes._pool.workers if worker.state == "busy"), None)


def test_private_memory_is_what_the_kernel_calls_anonymous() -> None:
    """Section 5: RssAnon, from the cheaper file."""
    kept = b"x" * (32 * MIB)
    status = Path("/proc/self/status").read_text()
    found = re.search(r"^RssAnon:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    measured = private_bytes(Path("/proc/self/statm").read_bytes())
    assert measured is not None
    assert abs(measured - int(found[1]) * 1024) < MIB
    assert measured > len(kept)


@pytest.mark.parametrize("text", [b"", b"1 2", b"a b c d", b"\xff\xff\xff"])
def test_what_is_not_statm_tells_nothing(text: bytes) -> None:
    """A task may have closed the descriptor, and opened another file under its number."""
    assert private_bytes(text) is None


# -- between tasks --------------------------------------------------------------------------------------------------


async def test_leaking_tasks_recycle_their_worker_between_tasks(tmp_path: Path) -> None:
    """W12: 300 tasks leak 3 MiB each: none is lost, run twice or cut short, and no worker grows past the limit."""
    path = tmp_path / "ran"
    async with Engine(processes=2, worker_memory_limit=LIMIT) as engine:
        tasks = [engine.submit(does.leak, 3 * MIB, str(path), str(number)) for number in range(300)]
        results = await asyncio.wait_for(asyncio.gather(*tasks), 2 * STUCK)
        lines = Counter(path.read_text().splitlines())
        assert lines == Counter(f"{what} {number}" for what in ("begun", "ended") for number in range(300))
        assert max(bytes_held for _, bytes_held in results) <= LIMIT + 4 * MIB
        workers = len({pid for pid, _ in results})
        room = LIMIT - 6 * MIB  # a fresh worker is not smaller
        assert workers >= 300 * 3 * MIB / (room + 3 * MIB)
        snapshot = engine.snapshot()
        assert (snapshot.crashes, snapshot.memory_exceeded) == (0, 0)
        await eventually_async(lambda: engine.snapshot().recycled >= workers - 2, STUCK)


async def test_memory_that_a_task_gives_back_costs_no_worker() -> None:
    """W12: also with the limit's worth of it, again and again."""
    async with Engine(processes=1, worker_memory_limit=LIMIT) as engine:
        pids = {await engine.run(does.take, 40 * MIB) for _ in range(10)}
        assert len(pids) == 1
        assert engine.snapshot().recycled == 0


@pytest.mark.parametrize("leave", [does.litter, does.litter_in_between])
async def test_garbage_is_collected_before_a_worker_is_given_up(leave: Callable[[int], int]) -> None:
    """W12: what only the cyclic collector finds is no leak, nor are free pages that the allocator keeps."""
    async with Engine(processes=1, worker_memory_limit=LIMIT) as engine:
        pids = {await engine.run(leave, 20 * MIB) for _ in range(12)}
        assert len(pids) == 1
        assert engine.snapshot().recycled == 0


async def test_a_task_that_steps_over_the_limit_in_a_grown_worker_ends_in_peace(tmp_path: Path) -> None:
    """W12: it is charged with its own growth alone; its worker is replaced when it is done."""
    async with Engine(processes=1, worker_memory_limit=LIMIT) as engine:
        old, _ = await engine.run(does.leak, 40 * MIB)
        task = engine.submit(does.take_and_wait, 30 * MIB, str(tmp_path))
        next_one = engine.submit(does.own_pid)
        await eventually_async(lambda: (worker := the_worker(engine)) and worker.is_heavy, STUCK)  # it was looked at
        assert not task.done()
        (tmp_path / "go").touch()
        assert await asyncio.wait_for(task, STUCK) == 30 * MIB
        pid, held = await engine.run(does.leak, 30 * MIB)
        assert pid == old
        assert LIMIT < held < LIMIT + 30 * MIB
        assert await asyncio.wait_for(next_one, STUCK) == old
        assert await engine.run(does.own_pid) != old
        await eventually_async(lambda: engine.snapshot().recycled == 1, STUCK)
        assert engine.snapshot().crashes == 0


async def test_a_worker_that_leaves_before_its_word_is_read_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W12: what was sent to it meanwhile comes back with its death (interleaving 6), no attempt used."""
    monkeypatch.setattr(ProcessLane, "on_heavy", lambda self, worker: None)
    path = tmp_path / "ran"
    async with Engine(processes=1, worker_memory_limit=LIMIT) as engine:
        tasks = [engine.submit(does.leak, 20 * MIB, str(path), str(number)) for number in range(30)]
        await asyncio.wait_for(asyncio.gather(*tasks), STUCK)
        assert max(Counter(path.read_text().splitlines()).values()) == 1
        assert all(task.attempt == 1 for task in tasks)
        assert engine.snapshot().crashes == 0


# -- a task that takes too much -------------------------------------------------------------------------------------


@pytest.mark.parametrize("age", [0, 45 * MIB], ids=["fresh", "grown"])
async def test_a_task_that_takes_more_than_a_fresh_worker_has_is_killed(age: int) -> None:
    """W10, W12: the same verdict in a fresh and in a grown worker, with the evidence; the engine goes on."""
    async with Engine(processes=1, worker_memory_limit=LIMIT) as engine:
        old, _ = await engine.run(does.leak, age)
        task = engine.submit(does.eat)
        error = await failure(task)
        assert isinstance(error, WorkerMemoryExceeded)
        assert (error.pid, error.signal_name, error.task_id, error.attempt) == (old, "SIGKILL", task.id, 1)
        assert error.limit_bytes == LIMIT
        assert error.rss_bytes is not None
        assert LIMIT * 0.8 + age < error.rss_bytes
        assert "worker_memory_limit" in str(error)
        assert await asyncio.wait_for(engine.run(does.own_pid), STUCK) != old
        snapshot = engine.snapshot()
        assert (snapshot.memory_exceeded, snapshot.crashes, snapshot.recycled) == (1, 0, 0)


async def test_only_the_greedy_one_of_many_tiny_tasks_is_blamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W10: tasks of a tiny function are sent ahead; one of them turns greedy: the others run, each once."""
    monkeypatch.setattr(ahead, "STUCK_SECONDS", 600.0)  # what lies behind it is still there when it is killed
    path = tmp_path / "ran"
    async with Engine(processes=2, worker_memory_limit=LIMIT) as engine:
        tasks = [engine.submit(does.eat_if, number, str(path)) for number in range(300)]
        results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), STUCK)
        assert isinstance(results.pop(100), WorkerMemoryExceeded)
        assert results == [number for number in range(300) if number != 100]
        assert Counter(map(int, path.read_text().split())) == Counter(range(300))
        assert engine.snapshot().memory_exceeded == 1


async def test_big_arguments_are_charged_to_their_task() -> None:
    """W10: what a task is sent is held by its worker like what it makes."""
    async with Engine(processes=1, worker_memory_limit=LIMIT) as engine:
        task = engine.submit(_hold, b"x" * (100 * MIB))
        assert isinstance(await failure(task), WorkerMemoryExceeded)


def _hold(data: bytes) -> None:
    time.sleep(600 if data else 0)


async def test_retry_policies_see_it_and_can_rule_it_out() -> None:
    """W10: as any crash, unless the policy says that another try is in vain."""
    async with Engine(processes=1, worker_memory_limit=LIMIT) as engine:
        retried = engine.options(retry=Retry(max_attempts=2, base_delay=0.001)).submit(does.eat)
        assert isinstance(await failure(retried), WorkerMemoryExceeded)
        assert retried.attempt == 2
        policy = Retry(max_attempts=5, base_delay=0.001, give_up_on=(WorkerMemoryExceeded,))
        given_up = engine.options(retry=policy).submit(does.eat)
        assert isinstance(await failure(given_up), WorkerMemoryExceeded)
        assert given_up.attempt == 1


async def test_without_a_limit_nothing_is_looked_at() -> None:
    """Section 5: who sets no limit pays nothing."""
    async with Engine(processes=1) as engine:
        await engine.run(does.leak, 100 * MIB)
        assert engine._core.processes._memory._timer is None
        assert engine._core.processes._pool.workers[0].fresh_bytes() == 0


# -- limits of the system -------------------------------------------------------------------------------------------


async def test_a_memory_error_keeps_the_worker() -> None:
    """W10: RLIMIT_AS, set by the initializer or by the task itself: MemoryError is the task's, the worker goes on."""
    async with Engine(processes=1, initializer=does.limit_address_space, initargs=(100 * MIB,)) as engine:
        pid = await engine.run(does.own_pid)
        assert isinstance(await failure(engine.submit(does.take, 200 * MIB)), MemoryError)
        assert await asyncio.wait_for(engine.run(does.own_pid), STUCK) == pid
    async with Engine(processes=1) as engine:
        pid = await engine.run(does.own_pid)
        assert isinstance(await failure(engine.submit(does.limit_and_take, 100 * MIB)), MemoryError)
        assert await asyncio.wait_for(engine.run(does.own_pid), STUCK) == pid


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """Make a control group of 64 MiB, where this process may; version 1 or 2."""
    roots = [Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")]
    for root, name in zip(roots, ("memory.limit_in_bytes", "memory.max"), strict=True):
        group = root / f"engine-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            limit = group / name
            if limit.exists():
                limit.write_text(str(64 * MIB))
                swap = group / ("memory.swappiness" if name.endswith("bytes") else "memory.swap.max")
                if swap.exists():
                    swap.write_text("0")
                yield group
                return
        finally:
            _remove(group)
    pytest.skip("no control group for memory can be made here: that takes root and a writable /sys/fs/cgroup")


def _remove(group: Path) -> None:
    for _ in range(500):
        try:
            group.rmdir()
        except OSError:  # the last process in it is still leaving
            time.sleep(0.01)
        else:
            return


async def test_what_the_kernel_kills_for_memory_is_a_crash_by_sigkill(memory_group: Path) -> None:
    """W10: a control group's limit; the kernel was first, so it is WorkerCrashed, and the parent lives."""
    async with Engine(processes=1, initializer=does.join_group, initargs=(str(memory_group),)) as engine:
        error = await failure(engine.submit(does.take, 400 * MIB))
        assert type(error) is WorkerCrashed
        assert error.signal_name == "SIGKILL"
        assert await asyncio.wait_for(engine.run(functions.give, 1), STUCK) == 1


async def test_an_initializer_that_fills_the_worker_is_a_start_failure() -> None:
    """W10: no task could run in it: that is said, instead of a worker for each task."""
    async with Engine(processes=1, initializer=does.leak, initargs=(80 * MIB,), worker_memory_limit=LIMIT) as engine:
        error = await failure(engine.submit(functions.give, 1))
        assert isinstance(error, WorkerStartupError)
        assert "before its first task, more than worker_memory_limit=67,108,864" in str(error)
        assert "load less in the initializer" in str(error)


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "2GiB", 512, (16 << 20) - 1, 1 << 61, float("inf")])
def test_a_bad_limit_is_refused_with_an_example(value: Any) -> None:
    """T5: bytes as an integer; a number that was meant as megabytes is refused."""
    with pytest.raises(ValueError, match=r"^expected worker_memory_limit to be a number of bytes .+ 2 \* 1024\*\*3$"):
        Engine(worker_memory_limit=value)
