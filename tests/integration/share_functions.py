"""What the tests of ``share`` run in workers."""

import gc
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = [
    "called_sum", "crash_once", "describe", "describe_flags", "fail", "hold", "kept", "kept_no_more", "mappings",
    "nested", "refused_writes", "reopen_and_write", "the_same", "total", "wait_for",
]  # fmt: skip

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
    import time

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
