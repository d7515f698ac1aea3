"""A worker dies at an unlucky moment: each interleaving is forced."""

import asyncio
import os
import signal
import socket
from typing import Any

import pytest

from engine import Engine
from engine._lanes._process.watcher import Watcher
from engine.errors import WorkerCrashed
from tests.contracts import functions
from tests.contracts.process_front import native_workers
from tests.sent_ahead import send_ahead
from tests.support import eventually_async

STUCK = 20.0


def _has_hello(watcher: Watcher) -> bool:
    try:
        return bool(watcher.worker.child.control.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except BlockingIOError:
        return False


async def test_a_worker_that_dies_before_its_hello_is_read_is_not_counted_as_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """W8: 1. it says hello; 2. it is killed; 3. the loop hears of the death first, and finds the hello after it.

    A loop may tell of two ready descriptors in any order. The worker is dead then, and takes no task.
    """
    real = Watcher.read_control
    monkeypatch.setattr(Watcher, "read_control", lambda watcher: None)
    async with Engine(processes=1) as engine:
        task = engine.submit(os.getpid)
        pool = engine._core.processes._pool
        (worker,) = await eventually_async(lambda: pool.workers, STUCK)
        watcher: Any = pool.watchers[worker]
        await eventually_async(lambda: _has_hello(watcher), STUCK)
        monkeypatch.setattr(Watcher, "read_control", real)
        watcher._unwatch(watcher._control.fileno())  # its hello waits; the death comes first
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        assert await asyncio.wait_for(task, STUCK) != worker.pid
        assert task.attempt == 1
        snapshot = engine.snapshot()
        assert [each.state for each in snapshot.workers] == ["idle"]
        assert pool.busy == 0
        assert pool._starter.count == 0


async def test_answers_that_are_not_read_when_the_death_is_heard_of_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """W1: 1. it answers two tasks; 2. it dies of a third; 3. the loop hears of the death first, then reads."""
    send_ahead(monkeypatch, 3)
    async with Engine(processes=1) as engine:
        pid = await engine.run(os.getpid)
        (worker,) = native_workers(engine)
        watcher: Any = engine._core.processes._pool.watchers[worker]
        watcher._unwatch(worker.child.stream.fileno())
        small, long = engine.submit(functions.give, 1), engine.submit(functions.give, "x", times=100_000)
        last: Any = engine.submit(os._exit, 3)
        async with asyncio.timeout(STUCK):
            assert (await small, await long) == (1, "x" * 100_000)
            with pytest.raises(WorkerCrashed) as caught:
                await last
        assert (caught.value.pid, [task.attempt for task in (small, long)]) == (pid, [1, 1])
        assert engine.snapshot().crashes == 1
