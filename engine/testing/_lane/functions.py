"""What the checks run as tasks in the thread and process lanes; ``coroutines.py`` has the same for the loop lane.

A task writes what it does into files, so that the check sees what truly ran, whatever the engine says. This module is
imported by worker processes: it imports nothing heavy.
"""

import os
import time
from typing import Any

from ... import checkpoint, current_task
from ...errors import TaskCancelled


def mark(path: str, text: str = "x") -> None:
    """Append a line to ``path``, in one write."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, f"{text}\n".encode())
    finally:
        os.close(descriptor)


def give(value: Any, *, times: int = 1) -> Any:
    """Return ``value``, ``times`` times."""
    return value * times


def touch(path: str) -> str:
    """Leave a trace that it ran."""
    mark(path)
    return path


def fail(text: str) -> None:
    """Raise a ValueError."""
    raise ValueError(text)


def throw(error: BaseException) -> None:
    """Raise ``error``."""
    raise error


def hold(folder: str, name: str, go: str = "go") -> str:
    """Say that it began, wait for the file ``go``, say that it ended. It stops where it is asked to."""
    mark(f"{folder}/{name}.begun", str(os.getpid()))
    try:
        while not os.path.exists(f"{folder}/{go}"):
            checkpoint()
            time.sleep(0.001)
        return name
    finally:
        mark(f"{folder}/{name}.ended")


def resist(folder: str, name: str, go: str = "go") -> str:
    """Do as ``hold``, but never stop when asked to."""
    mark(f"{folder}/{name}.begun", str(os.getpid()))
    while not os.path.exists(f"{folder}/{go}"):
        try:
            while not os.path.exists(f"{folder}/{go}"):
                time.sleep(0.001)
        except TaskCancelled:
            mark(f"{folder}/{name}.resisted")
    mark(f"{folder}/{name}.ended")
    return name


def stay(path: str, seconds: float) -> None:
    """Write when it came and when it went, on the clock that all processes share."""
    came = time.monotonic()
    time.sleep(seconds)
    mark(path, f"{came} {time.monotonic()}")


def stumble(path: str, failures: int) -> int:
    """Fail the first ``failures`` times; return how often it was called. Each run writes when it came and went."""
    came = time.monotonic()
    try:
        with open(path) as file:
            calls = len(file.readlines())
    except FileNotFoundError:
        calls = 0
    time.sleep(0.002)
    mark(path, f"{came} {time.monotonic()}")
    if calls < failures:
        raise OSError(f"failure {calls + 1}")
    return calls + 1


def dawdle(path: str, go: str) -> int:
    """Take for ever the first time it is called, return at once the next; each run writes when it came and went."""
    came = time.monotonic()
    try:
        while not os.path.exists(path) and not os.path.exists(go):
            checkpoint()
            time.sleep(0.001)
    finally:
        mark(path, f"{came} {time.monotonic()}")
    return current_task().attempt


def about_me() -> tuple[int | None, str, int, float | None, bool]:
    """Return what ``current_task`` says."""
    me = current_task()
    return me.id, me.name, me.attempt, me.deadline, me.cancel_requested


def report(folder: str, name: str) -> str:
    """Report progress, then do as ``hold``."""
    current_task().progress(3, 10, "three of ten")
    return hold(folder, name)


def length(thing: Any) -> int:
    """Return how long ``thing`` is."""
    return len(thing)


class Blob:
    """Something that a weak reference can watch."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size


def make_blob(size: int) -> Blob:
    """Return something that a weak reference can watch."""
    return Blob(size)
