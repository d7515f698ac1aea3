"""``engine.snapshot()``: frozen, and right."""

import asyncio
import dataclasses
import json
import os
import re
import signal
import threading
from typing import Any

import pytest

from engine import Engine, Lane, Snapshot, TaskState
from tests.support import eventually_async


def fail() -> None:
    raise ValueError("on purpose")


async def test_a_fresh_engine_has_done_nothing() -> None:
    async with Engine(threads=3, coroutines=5, processes=2) as engine:
        snapshot = engine.snapshot()
        assert {lane: part.slots for lane, part in snapshot.lanes.items()} == {
            Lane.LOOP: 5, Lane.THREAD: 3, Lane.PROCESS: 2,
        }  # fmt: skip
        assert [snapshot.count(state) for state in TaskState] == [0, 0, 0, 0, 0]
        assert snapshot.workers == ()
        assert (snapshot.queue_depth, snapshot.retries, snapshot.crashes, snapshot.timeouts, snapshot.abandoned,
                snapshot.recycled, snapshot.late, snapshot.phase) == (0, 0, 0, 0, 0, 0, 0, "running")  # fmt: skip


async def test_counts_follow_the_tasks() -> None:
    go = threading.Event()
    async with Engine(threads=1, default_lane="thread") as engine:
        await engine.run(abs, -1)
        with pytest.raises(ValueError, match="on purpose"):
            await engine.run(fail)
        engine.submit(go.wait, 30)
        queued = [engine.submit(abs, -1) for _ in range(3)]
        queued.pop().cancel()
        await eventually_async(lambda: engine.snapshot().count(TaskState.RUNNING) == 1)
        thread = engine.snapshot().lanes[Lane.THREAD]
        assert (thread.pending, thread.running, thread.completed, thread.failed, thread.cancelled, thread.queued) == (
            2, 1, 1, 1, 1, 2,
        )  # fmt: skip
        assert engine.snapshot().queue_depth == 2
        go.set()
        await asyncio.gather(*queued)
        assert engine.snapshot().count(TaskState.COMPLETED) == 4


async def test_a_worker_thread_is_described() -> None:
    go = threading.Event()
    async with Engine(threads=1, default_lane="thread") as engine:
        await engine.run(abs, -1)
        task = engine.options(name="named").submit(go.wait, 30)
        await eventually_async(lambda: task.state is TaskState.RUNNING)
        (worker,) = engine.snapshot().workers
        assert (worker.name, worker.lane, worker.pid, worker.state) == ("thread-1", Lane.THREAD, None, "busy")
        assert (worker.task_id, worker.task_name, worker.tasks_done) == (task.id, "named", 1)
        go.set()
        await task
        await eventually_async(lambda: engine.snapshot().workers[0].state == "idle")
        (worker,) = engine.snapshot().workers
        assert (worker.task_id, worker.task_name, worker.tasks_done) == (None, None, 2)


async def test_a_worker_process_is_described() -> None:
    async with Engine(processes=1) as engine:
        pid = await engine.run(os.getpid)
        await eventually_async(lambda: engine.snapshot().workers[0].state == "idle")
        (worker,) = engine.snapshot().workers
        assert (worker.lane, worker.pid, worker.tasks_done) == (Lane.PROCESS, pid, 1)
        assert worker.rss_bytes is not None
        assert worker.rss_bytes > 1_000_000
        assert worker.cpu_seconds is not None


async def test_a_snapshot_is_frozen_and_stays_as_it_was() -> None:
    async with Engine(threads=1, default_lane="thread") as engine:
        before = engine.snapshot()
        await engine.run(abs, -1)
        assert before.count(TaskState.COMPLETED) == 0
        with pytest.raises(dataclasses.FrozenInstanceError):
            before.retries = 5  # type: ignore[misc]  # that it is frozen is what is tested
        with pytest.raises(dataclasses.FrozenInstanceError):
            before.lanes[Lane.LOOP].pending = 5  # type: ignore[misc]  # as above


async def test_a_snapshot_may_be_taken_on_any_thread_and_after_the_end() -> None:
    async with Engine(threads=1, default_lane="thread") as engine:
        await engine.run(abs, -1)
        taken: Snapshot = await asyncio.to_thread(engine.snapshot)
        assert taken.count(TaskState.COMPLETED) == 1
    assert engine.snapshot().phase == "closed"
    assert engine.snapshot().count(TaskState.COMPLETED) == 1
    assert engine.snapshot().workers == ()


async def test_a_snapshot_prints_as_a_table() -> None:
    async with Engine(threads=1, default_lane="thread") as engine:
        await engine.run(abs, -1)
        lines = str(engine.snapshot()).splitlines()
        assert lines[0].split() == ["lane", "pending", "running", "completed", "failed", "cancelled"]
        assert [line.split() for line in lines[1:4]] == [
            ["loop", "0", "0", "0", "0", "0"],
            ["thread", "0", "0", "1", "0", "0"],
            ["process", "0", "0", "0", "0", "0"],
        ]
        assert lines[4].endswith(", engine running")
        assert lines[5] == "workers: thread 1 (1 idle); recycled 0, memory exceeded 0, malformed 0"


async def test_whatever_a_snapshot_counts_it_prints() -> None:
    """E15: each number of it is in its text, and an error of several lines takes one."""
    async with Engine(threads=1, default_lane="thread") as engine:
        plain = engine.snapshot()
    counts = [field.name for field in dataclasses.fields(Snapshot) if type(getattr(plain, field.name)) is int]
    numbers: dict[str, Any] = {name: 1000 + number for number, name in enumerate(counts)}
    assert len(numbers) > 12
    error = "a worker process exited with code 7; the last of its stderr:\nout\nof luck\n"
    full = dataclasses.replace(plain, longest_stall=2.5, last_start_error=error, **numbers)
    text = str(full)
    for name, number in numbers.items():
        assert re.search(rf"\b{number}\b", text), name
    assert "2.5 s" in text
    assert text.splitlines()[-1].endswith("the last of its stderr: out of luck")
    assert len(text.splitlines()) == len(str(plain).splitlines()) + 1
    assert str(dataclasses.replace(plain, last_start_error="")).endswith("the last one: ")


async def test_what_a_worker_had_not_begun_when_it_died_is_counted() -> None:
    """E15: given back, and run by the next worker."""
    async with Engine(processes=1) as engine:
        pid = await engine.run(os.getpid)
        await eventually_async(lambda: engine.snapshot().workers[0].state == "idle")
        os.kill(pid, signal.SIGSTOP)  # it takes nothing from its socket any more
        task = engine.submit(abs, -1)
        await eventually_async(lambda: engine.snapshot().workers[0].state == "stopped" and task._attempt is not None)
        os.kill(pid, signal.SIGKILL)
        assert await task == 1
        assert engine.snapshot().given_back == 1
        assert "given back 1," in str(engine.snapshot())


async def test_a_snapshot_and_a_picture_of_a_task_become_json() -> None:
    async with Engine(threads=1, default_lane="thread", name="json") as engine:
        await engine.run(abs, -1)
        read = json.loads(json.dumps(dataclasses.asdict(engine.snapshot())))
        assert read["lanes"]["thread"]["completed"] == 1
        assert read["workers"][0]["lane"] == "thread"
        (info,) = engine.tasks()
        assert json.loads(json.dumps(dataclasses.asdict(info)))["state"] == "completed"


def test_a_state_may_be_counted_by_its_name() -> None:
    with Engine(threads=1, default_lane="thread") as engine:
        engine.run(abs, -1)
        assert engine.snapshot().count("completed") == engine.snapshot().count(TaskState.COMPLETED) == 1
        with pytest.raises(ValueError, match="expected state to be one of 'pending'"):
            engine.snapshot().count("done")
