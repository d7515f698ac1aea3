"""What a piece of code leaves behind: threads, child processes, zombies, descriptors, shared memory, asyncio tasks.

Processes, descriptors and shared memory are looked for on Linux, where the kernel shows them in /proc and /dev/shm;
elsewhere processes are asked of psutil, and the rest is not seen.

Guarantees
    What was there before is no leak, nor are the resource trackers of multiprocessing and loky, which live as long as
    the program, nor a shared memory segment that a process outside of this program's family has mapped.
    The wait for things to go is bounded by ``patience``.
"""

import asyncio
import contextlib
import os
import re
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["Leftovers", "assert_no_leaks", "children"]

PATIENCE = 5.0  #: seconds that things have to go away

_SEGMENTS = Path("/dev/shm")
_LOKYS = re.compile(r"loky-(\d+)-")  #: what loky calls a semaphore, with the pid of who made it


class assert_no_leaks:  # reads as a function, is a context manager of two kinds
    """Raise AssertionError at the end of the block if it left something behind, naming each thing.

    ``with assert_no_leaks():``, or ``async with``, which also lets asyncio tasks of the running loop end meanwhile;
    ``with`` names those that are pending. Not checked if the block raises: that error says more.

    Args:
        patience: seconds that things have to go away.
    """

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._leftovers: Leftovers

    def __enter__(self) -> None:
        self._leftovers = Leftovers()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            complain(self._leftovers.names(self._patience))

    async def __aenter__(self) -> None:
        self._leftovers = Leftovers()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        end = time.monotonic() + self._patience
        while error is None and (left := self._leftovers.names(0)):
            if time.monotonic() >= end:
                complain(left)
            await asyncio.sleep(0.005)


def complain(left: list[str]) -> None:
    """Raise AssertionError if there are names in ``left``."""
    if left:
        raise AssertionError("expected nothing to be left behind, got:\n  " + "\n  ".join(left))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What this process has at one instant."""

    threads: frozenset[threading.Thread]
    processes: dict[int, str]  #: pid → start time (pids are reused), state and command
    descriptors: dict[int, str]  #: number → what it refers to
    segments: frozenset[str]  #: shared memory of this user, by name
    tasks: frozenset["asyncio.Task[Any]"]  #: of the loop that runs here


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
        left += [f"shared memory {_SEGMENTS / name}" for name in _ours(now.segments - before.segments)]
        left += [f"asyncio task {task!r}" for task in now.tasks - before.tasks if not task.done()]
        return sorted(left)


def _snapshot() -> Snapshot:
    return Snapshot(
        frozenset(threading.enumerate()), _descendants(os.getpid()), _open_descriptors(), _segments(), _tasks()
    )


def _tasks() -> frozenset["asyncio.Task[Any]"]:
    loop = asyncio._get_running_loop()
    return frozenset() if loop is None else frozenset(asyncio.all_tasks(loop))


def _segments() -> frozenset[str]:
    """Give the names of the shared memory segments that this user has."""
    found = set()
    with contextlib.suppress(OSError):  # no such folder
        for entry in os.scandir(_SEGMENTS):
            with contextlib.suppress(OSError):  # it went meanwhile
                if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_uid == os.geteuid():
                    found.add(entry.name)
    return frozenset(found)


def _ours(names: frozenset[str]) -> frozenset[str]:
    """Leave out the segments that a process of another family has mapped, or that loky has named after one."""
    if not names:
        return names
    family = {os.getpid(), *_descendants(os.getpid())}
    makers = {name: _LOKYS.search(name) for name in names}
    names = frozenset(name for name, maker in makers.items() if maker is None or int(maker[1]) in family)
    for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()]:
        if pid not in family:
            with contextlib.suppress(OSError):  # another user's, or it ended
                maps = Path(f"/proc/{pid}/maps").read_text()
                names = frozenset(name for name in names if f"{_SEGMENTS / name}\n" not in maps)
    return names


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
    found: dict[int, str] = {}
    if not os.path.isdir("/proc/self/fd"):
        return found
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
    if not sys.platform.startswith("linux"):
        import psutil

        return [child.pid for child in psutil.Process(pid).children()]
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a process or thread that ends meanwhile
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                text = Path(f"/proc/{pid}/task/{thread}/children").read_text()
                children += map(int, text.split())
    return children


def _stat(pid: int) -> tuple[str, str]:
    """Give the state letter and the start time of ``pid``; empty if it is gone."""
    if not sys.platform.startswith("linux"):
        return _stat_elsewhere(pid)
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return "", ""
    fields = text.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
    return fields[0], fields[19]


def _stat_elsewhere(pid: int) -> tuple[str, str]:
    import psutil

    try:
        process = psutil.Process(pid)
        return "Z" if process.status() == psutil.STATUS_ZOMBIE else "S", str(process.create_time())
    except psutil.NoSuchProcess:
        return "", ""


def _describe_process(pid: int) -> str:
    state = _stat(pid)[0]
    if state == "Z":
        return "(zombie: it ended and nobody waited for it)"
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        command = ""
    return f"(state {state or 'gone'}) {command[:200]}"
