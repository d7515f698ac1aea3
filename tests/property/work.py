"""What the tasks of the life-cycle machine do. Worker processes import this module, so it imports next to nothing."""

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Iterator

from engine import checkpoint, current_task

__all__ = ["ProcessWork", "run_once"]


class ProcessWork:
    """The same kinds of work as on the other lanes, for a worker process; ``folder`` holds the gates and the slots."""

    def __init__(self, folder: str, slots: int) -> None:
        self.folder = folder
        self.slots = slots

    @contextlib.contextmanager
    def _inside(self) -> Iterator[None]:
        """Take one of as many file locks as there are slots: the kernel counts, also where a worker is killed."""
        for number in range(self.slots):
            descriptor = os.open(os.path.join(self.folder, f"slot-{number}"), os.O_CREAT | os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                continue
            try:
                yield
            finally:
                os.close(descriptor)
            return
        raise AssertionError(f"more than {self.slots} process tasks run at once")

    def quick(self, number: int) -> int:
        with self._inside():
            return number

    def fail(self, number: int) -> int:
        with self._inside():
            raise ValueError(number)

    def flaky(self, number: int) -> int:
        with self._inside():
            if current_task().attempt == 1:
                raise OSError("the first attempt fails")
            return number

    def hold(self, number: int) -> int:
        with self._inside():
            while not os.path.exists(os.path.join(self.folder, f"gate-{number}")):
                checkpoint()
                time.sleep(0.001)
            return number

    def crash(self, number: int) -> int:
        with self._inside():
            os.kill(os.getpid(), signal.SIGKILL)
            return number

    def crash_once(self, number: int) -> int:
        with self._inside():
            if current_task().attempt == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return number


def run_once(runs: str, number: int, seconds: float) -> int:
    """Record this run, take so long, and return ``number``; below 0 seconds: raise it."""
    descriptor = os.open(runs, os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, b"%d\n" % number)  # one write, so that what is struck in the middle of it has run or has not
    os.close(descriptor)
    if seconds < 0:
        raise ValueError(number)
    if seconds:
        time.sleep(seconds)
    return number
