"""What a process holds at one instant, so that what a campaign left behind can be named.

Guarantees
    Everything is read from outside of what is judged: ``/proc``, ``/dev/shm``, the folder of temporary files. The
    trackers of multiprocessing and loky live as long as we do, and are not counted.
"""

import contextlib
import os
import re
import resource
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

__all__ = ["OURS", "Belongings", "no_core_dumps"]

SHARED_MEMORY = Path("/dev/shm")
OURS = "stress-tmp-"  #: how a folder of temporary files begins that a campaign made for itself


class Belongings:
    """Remembers what there was, and says later what has come and not gone."""

    def __init__(self) -> None:
        self._before = _look()

    def left(self, patience: float = 10.0, prepare: Callable[[], object] = lambda: None) -> dict[str, list[str]]:
        """Return what is left, by kind, after giving it ``patience`` seconds to go; ``prepare`` is called each time."""
        end = time.monotonic() + patience
        while True:
            prepare()
            now = _look()
            left = {kind: list((now[kind] - self._before[kind]).elements()) for kind in now}
            left = {kind: sorted(names) for kind, names in left.items() if names}
            if not left or time.monotonic() > end:
                return left
            time.sleep(0.05)


def _look() -> dict[str, Counter[str]]:
    pids, numbers = _trackers()
    processes, zombies = _children(pids)
    return {
        "threads": Counter(thread.name for thread in threading.enumerate()),
        "descriptors": _descriptors(numbers),
        "processes": processes,
        "zombies": zombies,
        "shared_memory": _shared_memory(),
        "temporary_files": _names(Path(tempfile.gettempdir())) if _is_ours(tempfile.gettempdir()) else Counter(),
    }


def _is_ours(folder: str) -> bool:
    """Say whether a folder of temporary files is one that a campaign made for itself: others use /tmp too."""
    return os.path.basename(folder).startswith(OURS)


def _names(folder: Path) -> Counter[str]:
    return Counter(path.name for path in folder.iterdir()) if folder.is_dir() else Counter()


def _shared_memory() -> Counter[str]:
    """Return what is ours in a folder that all of a machine share: by the pid in its name, or by who uses it."""
    found = _names(SHARED_MEMORY)
    if found:
        ours = [os.getpid(), *[child.pid for child in psutil.Process().children(recursive=True)]]
        used = {inode for pid in ours for inode in _mapped(pid)}
        for name in list(found):
            if not (set(re.findall(r"\d+", name)) & set(map(str, ours)) or _inode(name) in used):
                del found[name]
    return found


def _inode(name: str) -> int:
    try:
        return (SHARED_MEMORY / name).stat().st_ino
    except OSError:
        return 0


def _mapped(pid: int) -> set[int]:
    try:
        text = Path("/proc", str(pid), "maps").read_text()
    except OSError:
        return set()
    return {int(inode) for inode in re.findall(rf" (\d+) +{SHARED_MEMORY}/", text)}


def _descriptors(besides: set[int]) -> Counter[str]:
    """Return what each open descriptor refers to; sockets and pipes without their numbers, which are new each time."""
    found: Counter[str] = Counter()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # listdir's own, or another thread's meanwhile
            target = os.readlink(f"/proc/self/fd/{name}")
            if int(name) not in besides and target != f"/proc/{os.getpid()}/fd":
                found[target.partition(":[")[0]] += 1
    return found


def _children(besides: set[int]) -> tuple[Counter[str], Counter[str]]:
    processes: Counter[str] = Counter()
    zombies: Counter[str] = Counter()
    for child in psutil.Process().children(recursive=True):
        if child.pid not in besides:
            with contextlib.suppress(psutil.NoSuchProcess):
                is_zombie = child.status() == psutil.STATUS_ZOMBIE
                (zombies if is_zombie else processes)[f"{child.pid} {child.name()}"] += 1
    return processes, zombies


def _trackers() -> tuple[set[int], set[int]]:
    pids: set[int] = set()
    descriptors: set[int] = set()
    for name in ("multiprocessing.resource_tracker", "loky.backend.resource_tracker"):
        tracker = getattr(sys.modules.get(name), "_resource_tracker", None)
        pids |= {getattr(tracker, "_pid", None) or -1}
        descriptors |= {-1 if getattr(tracker, "_fd", None) is None else tracker._fd} if tracker else set()
    return pids, descriptors


@contextlib.contextmanager
def no_core_dumps() -> Iterator[None]:
    """Keep the kernel from writing a file for each process that we crash; our children inherit that."""
    limits = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, limits)
