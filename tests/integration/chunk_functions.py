"""What ``test_chunked_map.py`` runs in worker processes."""

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from engine import TaskCancelled

SHARED: list[int] = [0]


class Reading:
    """Pickled as a call of ``do(*args)``, where it is unpickled."""

    def __init__(self, do: Any, *args: Any) -> None:
        self.call = do, args

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


class Plain:
    """A class of the user's: its results are rebuilt on a thread."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plain) and other.number == self.number

    __hash__ = None  # type: ignore[assignment]  # it is only compared


def note(path: str, number: int) -> int:
    """Record a call, and return ``number``."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, f"{number}\n".encode())
    finally:
        os.close(fd)
    return number


def noted(folder: Path) -> list[int]:
    path = folder / "runs"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def note_or_die(path: str, number: int, deadly: int) -> int:
    note(path, number)
    if number == deadly:
        os._exit(3)
    return number


def note_or_wait(path: str, number: int, slow: int, gate: str) -> int:
    """Record a call; number ``slow`` waits until ``gate`` exists."""
    note(path, number)
    end = time.monotonic() + 60
    while number == slow and not os.path.exists(gate) and time.monotonic() < end:
        time.sleep(0.005)
    return number


def remember(number: int) -> list[int]:
    """Return the same list for each call, changed."""
    SHARED[0] = number
    return SHARED


def of_many_kinds(number: int) -> Any:
    """Return another kind of value for each of ten numbers in a row."""
    kinds = [
        number, float(number), str(number), str(number) * 100, None, {"n": number}, b"x" * number,
        10 ** (number % 1000), Plain(number), bytearray(b"y" * 70_000),
    ]  # fmt: skip
    return kinds[number % 10]


def fail_at_times(number: int) -> int:
    if number % 100 == 7:
        raise ValueError(number)
    if number % 100 == 8:
        sys.exit(number)
    if number % 100 == 9:
        raise TaskCancelled
    return number


def hold(number: Any) -> Any:
    return number


def die() -> None:
    os._exit(4)


def refuse() -> None:
    raise ValueError("not to be rebuilt")


def unpicklable_at_times(number: int) -> Any:
    return threading.Lock() if number % 500 == 3 else number


def say(number: int) -> int:
    print(number, end="")
    return number


def fork_at_times(number: int) -> int:
    """Fork, and return in the child as well."""
    if number % 400 == 5:
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
    return number


def pid_of(_: Any) -> int:
    return os.getpid()
