"""What the tests of joblib have done in worker processes, which find it here by name."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed

__all__ = [
    "column_sum",
    "crash_once",
    "die",
    "fail",
    "fail_once",
    "fill",
    "look",
    "nested",
    "never",
    "pid",
    "square",
    "threads_inside",
    "wait_for",
]


def square(x: int) -> int:
    return x * x


def fail(x: int) -> int:
    raise LookupError(f"no {x}")


def pid(_x: object = None) -> int:
    return os.getpid()


def never(began: Path) -> None:
    """Say that this has begun, and run until somebody ends it."""
    began.touch()
    while True:
        time.sleep(0.01)


def wait_for(path: Path) -> int:
    """Return this process's id once ``path`` is there."""
    end = time.monotonic() + 30
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.001)
    return os.getpid()


def fail_once(path: Path) -> None:
    """Raise as soon as ``path`` is there."""
    wait_for(path)
    raise LookupError("as it should")


def crash_once(marker: Path) -> int:
    """Kill this worker the first time."""
    if not marker.exists():
        marker.touch()
        die()
    return os.getpid()


def die(_x: object = None) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def nested(_x: int, backend: str | None) -> tuple[int, set[int], str]:
    """Return this process's id, those of the processes that nested calls run in, and what ran them."""
    parallel = Parallel(n_jobs=2, backend=backend)
    return os.getpid(), set(parallel(delayed(pid)(i) for i in range(4))), type(parallel._backend).__name__


def threads_inside(_x: int) -> str | None:
    return os.environ.get("OMP_NUM_THREADS")


def look(array: Any) -> tuple[float, bool]:
    """Return the sum of ``array``, and whether it could be written."""
    return float(np.asarray(array).sum()), bool(array.flags.writeable)


def column_sum(held: dict[str, Any], column: int) -> float:
    return float(held["table"][:, column].sum())


def fill(target: Any, row: int) -> None:
    """Write into an array that others write into as well."""
    target[row] = row
