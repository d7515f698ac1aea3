"""A worker dies at an unlucky moment: each interleaving is forced."""

import asyncio
import os
import signal
import socket
from typing import Any

import pytest

from engine import Engine
from engine._lanes._process.watcher import Watcher
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
