"""What the tests of ``share`` run in workers."""

import gc
import mmap
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine._wire import attach

__all__ = [
    "STEPS", "called_sum", "copied", "crash_once", "describe", "describe_flags", "die_before", "fail", "hold", "kept",
    "kept_no_more", "mappings", "nested", "opened_files", "refused_writes", "reopen_and_write", "stand_before",
    "the_same", "total", "wait_and_copy", "wait_before", "wait_for",
]  # fmt: skip

STEPS = ("stat", "open", "fstat", "mmap", "close")  #: of an opening; from the third on its memory is held

kept: list[Any] = []


def mappings(*, collects: bool = True) -> list[str]:
    """Return the inodes of the shared memory that this process has mapped."""
    if collects:
        gc.collect()
    lines = Path("/proc/self/maps").read_text().splitlines()
    return [line.split()[4] for line in lines if "/memfd:engine-shared" in line]


def describe(value: Any) -> tuple[str, bool, int, list[str], int]:
    """Return type, whether it may be written, its size, what is mapped, and the worker's pid."""
    flags = getattr(value, "flags", None)
    is_writable = flags.writeable if flags is not None else not memoryview(value).readonly
    return type(value).__name__, is_writable, memoryview(value).nbytes, mappings(), os.getpid()


def total(array: Any) -> float:
    return float(array.sum())


def nested(deep: dict[str, list[tuple[Any, Any]]], *, again: Any) -> tuple[float, bool, bool]:
    """Say what came of the two arrays in ``deep`` and the one beside it, and whether they are one object."""
    ((first, second),) = deep["arrays"]
    return float(first.sum() + second.sum()), first is second, first is again


def the_same(value: Any) -> Any:
    return value


def refused_writes(array: Any) -> list[str]:
    """Try to write to a read-only array in every way there is; return what each try raised."""
    raised = []
    tries: list[Callable[[], object]] = [
        lambda: array.__setitem__(0, 1), lambda: array.setflags(write=True), lambda: array.fill(1),
    ]  # fmt: skip
    for attempt in tries:
        try:
            attempt()
        except ValueError as error:
            raised.append(str(error))
    return raised


def reopen_and_write(array: Any, pid: int, fd: int) -> list[str]:
    """Try to write to, to grow and to cut the memory itself; return the name of each error."""
    raised = []
    tries: list[Callable[[], object]] = [
        lambda: os.pwrite(own, b"x", 0), lambda: os.ftruncate(own, 0), lambda: os.ftruncate(own, 1 << 30),
    ]  # fmt: skip
    own = os.open(f"/proc/{pid}/fd/{fd}", os.O_RDWR)
    try:
        for attempt in tries:
            try:
                attempt()
            except OSError as error:
                raised.append(type(error).__name__)
    finally:
        os.close(own)
    return raised


def crash_once(array: Any, mark: str) -> float:
    """Kill the worker at the first try."""
    if not os.path.exists(mark):
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return float(array.sum())


def wait_for(array: Any, begun: str, path: str) -> float:
    """Make the file ``begun``, and wait until ``path`` is there."""
    Path(begun).touch()
    end = time.monotonic() + 30
    while not os.path.exists(path) and time.monotonic() < end:
        time.sleep(0.005)
    return float(array.sum())


def hold(array: Any) -> None:
    kept.append(array)


def kept_no_more() -> None:
    kept.clear()


def called_sum(function: Any) -> float:
    return float(function().sum())


def fail(array: Any) -> None:
    raise ValueError(f"on purpose, with {len(array)}")


def describe_flags(array: Any) -> tuple[str, bool, list[str]]:
    """Return type, whether it may be written, and what it keeps mapped."""
    array.sum()
    return type(array).__name__, array.flags.writeable, [] if array.flags.writeable else mappings()


class At:
    """Stands before a module: calls ``act`` whenever ``name`` of it is about to be used."""

    def __init__(self, module: Any, name: str, act: Callable[[], object]) -> None:
        self._module = module
        self._name = name
        self._act = act

    def __getattr__(self, name: str) -> Any:
        if name == self._name:
            self._act()
        return getattr(self._module, name)


def stand_before(step: str, act: Callable[[], object]) -> None:
    """Call ``act`` before this step of the opening of a shared object in this process; an empty one: no more."""
    vars(attach).update(os=At(os, step, act), mmap=At(mmap, step, act))


def die_before(step: str) -> int:
    stand_before(step, lambda: os.kill(os.getpid(), signal.SIGKILL))
    return os.getpid()


def wait_before(step: str, begun: str, path: str) -> int:
    """Make ``begun`` before a step, and go on when ``path`` is there."""

    def act() -> None:
        stand_before("", act)
        Path(begun).touch()
        end = time.monotonic() + 30
        while not os.path.exists(path) and time.monotonic() < end:
            time.sleep(0.001)

    stand_before(step, act)
    return os.getpid()


def opened_files() -> int:
    """Count the descriptors of this process."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def copied(view: Any) -> bytes:
    """Return the contents of ``view``."""
    return bytes(view)


def wait_and_copy(view: Any, begun: str, path: str) -> bytes:
    """Make the file ``begun``, wait until ``path`` is there, and return the contents of ``view``."""
    Path(begun).touch()
    end = time.monotonic() + 30
    while not os.path.exists(path) and time.monotonic() < end:
        time.sleep(0.001)
    return bytes(view)
