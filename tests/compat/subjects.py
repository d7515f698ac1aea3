"""The executors under test, with the few attributes by which CPython's tests look inside the standard ones.

``ProcessExecutor`` and ``ThreadExecutor`` are what the mixins of the suite make; the other two names are for tests and
scripts that make an executor by the standard name.
"""

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import psutil

from engine import Lane, WorkerInfo, _exit, futures
from engine.errors import RemoteTraceback

__all__ = ["ProcessExecutor", "ProcessPoolExecutor", "RemoteTraceback", "ThreadExecutor", "ThreadPoolExecutor"]

PATIENCE = 20.0  #: seconds for workers that are asked for to be there

# What was accepted has two seconds at interpreter exit, and the standard executors wait for ever. The suite's scripts
# leave a call of one second, for which a worker has yet to start: a busy machine may need more than two.
_exit.DRAIN_SECONDS, _exit.EXIT_SECONDS = 20.0, 30.0


class Worker:
    """One worker process, as far as the suite asks: it can be terminated, and waited for."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)

    def terminate(self) -> None:
        """Send it SIGTERM."""
        self._process.terminate()

    def join(self) -> None:
        """Wait until it is gone."""
        self._process.wait(PATIENCE)


class NoFeeder:
    """The call queue of an executor that has none: there is no feeder thread to wait for."""

    def join_thread(self) -> None:
        """Wait for nothing."""


class ProcessExecutor(futures.ProcessExecutor):
    """A process executor that breaks when a worker dies, as the suite expects."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs, broken_on_crash=True)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Do as told once a call has begun: the standard one counts calls for workers that still start as running."""
        if cancel_futures:
            _workers_once(self, Lane.PROCESS, lambda wanted: min(wanted, 1))
        super().shutdown(wait, cancel_futures=cancel_futures)

    @property
    def _processes(self) -> dict[int, Worker]:  # type: ignore[override]  # an attribute there, of its own processes
        workers = _workers_once(self, Lane.PROCESS, lambda wanted: wanted)
        return {info.pid: Worker(info.pid) for info in workers if info.pid is not None}

    @property
    def _executor_manager_thread(self) -> threading.Thread:  # type: ignore[override]  # an attribute there
        """Return the thread of the engine's private loop, which manages the workers."""
        return _threads_named(self, ["loop"]).pop()

    @property
    def _call_queue(self) -> NoFeeder:
        return NoFeeder()


class ThreadExecutor(futures.ThreadExecutor):
    """A thread executor that shows its threads."""

    @property
    def _threads(self) -> set[threading.Thread]:  # type: ignore[override]  # an attribute there
        workers = _workers_once(self, Lane.THREAD, lambda wanted: wanted)
        return _threads_named(self, [each.name for each in workers if each.state != "starting"])  # they are joined


def _workers_once(executor: Any, lane: Lane, enough: Callable[[int], int]) -> list[WorkerInfo]:
    """Return the workers of ``executor``, once ``enough`` of the calls that could run at once do.

    The standard executors start their workers in ``submit``; ours do so on a thread of their own, a moment later.
    """
    end = time.monotonic() + PATIENCE
    while executor._is_started:
        snapshot = executor.engine.snapshot()
        counts = snapshot.lanes[lane]
        workers = [each for each in snapshot.workers if each.lane is lane and each.state != "retiring"]
        wanted = enough(min(counts.slots, counts.pending + counts.running))
        if counts.running >= wanted and all(each.state != "starting" for each in workers[: wanted + 1]):
            return workers
        if time.monotonic() >= end:
            raise AssertionError(f"expected {wanted} calls to run within {PATIENCE} s, got {counts} by {workers}")
        time.sleep(0.005)
    return []


def _threads_named(executor: Any, names: Iterable[str]) -> set[threading.Thread]:
    prefix = executor.engine._inner._core.settings.name
    wanted = {f"{prefix}-{name}" for name in names}
    return {each for each in threading.enumerate() if each.name in wanted}


class ProcessPoolExecutor(ProcessExecutor):
    """The same under the standard name; not the same class, or a test would be skipped that the standard one fails."""


class ThreadPoolExecutor(ThreadExecutor):
    """The same under the standard name."""
