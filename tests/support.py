"""What tests share: waiting for a condition, ordering threads, and finding what a test left behind."""

import asyncio
import contextlib
import inspect
import os
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, overload

__all__ = ["REPOSITORY", "Leftovers", "Sequencer", "children", "eventually", "eventually_async", "run_async_test"]

T = TypeVar("T")

REPOSITORY = Path(__file__).resolve().parents[1]

ASYNC_TEST_TIMEOUT = 60.0  #: seconds; below pytest's own watchdog (faulthandler_timeout), which ends the whole run
TASK_PATIENCE = 1.0  #: seconds that a cancelled asyncio task has to unwind before it counts as left behind
LEAK_PATIENCE = 5.0  #: seconds that threads, processes and descriptors have to go away after a test


# -- waiting ----------------------------------------------------------------------------------------------------------


def eventually(predicate: Callable[[], T], timeout: float = 10.0, message: str = "") -> T:
    """Call ``predicate`` until it gives something true and return that; fail after ``timeout`` seconds."""
    end = time.monotonic() + timeout
    pause = 0.0005
    while True:
        late = time.monotonic() >= end  # asked before the predicate: its last call comes after the deadline
        value = predicate()
        if value:
            return value
        if late:
            raise AssertionError(_never(predicate, timeout, message, value))
        time.sleep(pause)
        pause = min(0.05, pause * 2)


@overload
async def eventually_async(
    predicate: Callable[[], Coroutine[Any, Any, T]], timeout: float = ..., message: str = ...
) -> T: ...
@overload
async def eventually_async(predicate: Callable[[], T], timeout: float = ..., message: str = ...) -> T: ...
async def eventually_async(predicate: Callable[[], Any], timeout: float = 10.0, message: str = "") -> Any:
    """Do as ``eventually`` while the loop goes on turning; ``predicate`` may be a coroutine function."""
    end = time.monotonic() + timeout
    pause = 0.0005
    while True:
        late = time.monotonic() >= end
        answer = predicate()
        value = await answer if inspect.isawaitable(answer) else answer
        if value:
            return value
        if late:
            raise AssertionError(_never(predicate, timeout, message, value))
        await asyncio.sleep(pause)
        pause = min(0.05, pause * 2)


def _never(predicate: Callable[..., object], timeout: float, message: str, last: object) -> str:
    what = message or getattr(predicate, "__qualname__", repr(predicate))
    return f"expected within {timeout} s: {what}; the last answer was {last!r}"


class Sequencer:
    """Steps that threads take in a fixed order: ``with sequence(2): ...`` waits until steps 0 and 1 are over.

    Each number is used once. A step that raises still lets the next one go, so that a failure is seen, not waited for.
    """

    def __init__(self, timeout: float = 10.0) -> None:
        self._timeout = timeout
        self._next = 0
        self._moved = threading.Condition()

    @contextlib.contextmanager
    def __call__(self, step: int) -> Iterator[None]:
        with self._moved:
            if not self._moved.wait_for(lambda: self._next >= step, self._timeout):
                raise AssertionError(f"step {step} waited {self._timeout} s for step {self._next} to end")
            assert self._next == step, f"step {step} was taken twice: step {self._next} is next"
        try:
            yield
        finally:
            with self._moved:
                self._next += 1
                self._moved.notify_all()


# -- async tests ------------------------------------------------------------------------------------------------------


async def run_async_test(test: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Run one ``async def`` test: at most ``ASYNC_TEST_TIMEOUT`` seconds, and no asyncio task may outlive it."""
    limit = asyncio.timeout(ASYNC_TEST_TIMEOUT)
    try:
        async with limit:
            await test()
    except TimeoutError as error:
        if limit.expired():
            raise AssertionError(f"the test took more than {ASYNC_TEST_TIMEOUT} s{await _tasks_left()}") from error
        raise
    except Exception as error:
        if left := await _tasks_left():
            error.add_note(left)
        raise
    if left := await _tasks_left():
        raise AssertionError(left)


async def _tasks_left() -> str:
    """Name the asyncio tasks of this loop that are still pending; empty if none."""
    end = time.monotonic() + TASK_PATIENCE
    while left := asyncio.all_tasks() - {asyncio.current_task()}:
        if time.monotonic() >= end:
            return "\nthe test left asyncio tasks pending: " + "; ".join(sorted(map(repr, left)))
        await asyncio.sleep(0.005)
    return ""


# -- what a test left behind ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The threads, child processes and descriptors of this process at one instant."""

    threads: frozenset[threading.Thread]
    processes: dict[int, str]  #: pid → start time (pids are reused), state and command
    descriptors: dict[int, str]  #: number → what it refers to


class Leftovers:
    """Remembers what there was, and says later what has come and not gone.

    Cost: about 0.2 ms for both ends of a test that leaves nothing.
    """

    def __init__(self) -> None:
        self._before = _snapshot()

    def names(self, patience: float) -> list[str]:
        """Return a line for each thing left, after giving it up to ``patience`` seconds to go; empty if nothing is."""
        end = time.monotonic() + patience
        pause = 0.001
        while left := self._left():
            if time.monotonic() >= end:
                return left
            time.sleep(pause)
            pause = min(0.05, pause * 2)
        return []

    def _left(self) -> list[str]:
        before, now = self._before, _snapshot()
        tracker_pids, tracker_descriptors = _trackers()
        left = [f"thread {thread!r}" for thread in now.threads - before.threads]
        for pid, started in now.processes.items():
            if before.processes.get(pid) != started and pid not in tracker_pids:
                left.append(f"process {pid} {_describe_process(pid)}")
        for number, target in now.descriptors.items():
            if before.descriptors.get(number) != target and number not in tracker_descriptors:
                left.append(f"file descriptor {number} -> {target}")
        return sorted(left)


def _snapshot() -> Snapshot:
    return Snapshot(frozenset(threading.enumerate()), _descendants(os.getpid()), _open_descriptors())


def _trackers() -> tuple[set[int], set[int]]:
    """Give the pids and pipe ends of the resource trackers of multiprocessing and loky: they live as long as we do."""
    pids, descriptors = set(), set()
    for name in ("multiprocessing.resource_tracker", "loky.backend.resource_tracker"):
        tracker = getattr(sys.modules.get(name), "_resource_tracker", None)
        if tracker is not None:
            pids.add(getattr(tracker, "_pid", None) or -1)
            descriptors.add(-1 if getattr(tracker, "_fd", None) is None else tracker._fd)
    return pids, descriptors


def _open_descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # listdir's own descriptor, or another thread closed it meanwhile
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def _descendants(pid: int) -> dict[int, str]:
    """Give every descendant of ``pid``, zombies too: pid → start time.

    psutil would read the whole process table (10 ms and more on a busy machine); the kernel lists children by thread.
    """
    found: dict[int, str] = {}
    for child in _children(pid):
        if started := _stat(child)[1]:
            found[child] = started
            found |= _descendants(child)
    return found


def children() -> list[int]:
    """Give the child processes of this one, zombies too, without the trackers of multiprocessing and loky."""
    trackers, _ = _trackers()
    return [pid for pid in _children(os.getpid()) if pid not in trackers]


def _children(pid: int) -> list[int]:
    children: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a process or thread that ends meanwhile
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                text = Path(f"/proc/{pid}/task/{thread}/children").read_text()
                children += map(int, text.split())
    return children


def _stat(pid: int) -> tuple[str, str]:
    """Give the state letter and the start time of ``pid``; empty if it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return "", ""
    fields = text.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
    return fields[0], fields[19]


def _describe_process(pid: int) -> str:
    state = _stat(pid)[0]
    if state == "Z":
        return "(zombie: it ended and nobody waited for it)"
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        command = ""
    return f"(state {state or 'gone'}) {command[:200]}"
