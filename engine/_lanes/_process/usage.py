"""What a process uses, read from /proc."""

import os
from typing import NamedTuple

from ..._wire.statm import private_bytes

__all__ = ["UNKNOWN", "MemoryUse", "Usage", "private_bytes_of", "usage_of"]


class Usage(NamedTuple):
    """A look at one process; None where it has ended."""

    resident_bytes: int | None
    cpu_seconds: float | None  #: user and system time so far
    is_stopped: bool  #: by SIGSTOP or a debugger
    is_waiting: bool = True  #: for something else than a CPU or a disk


UNKNOWN = Usage(None, None, False)


def usage_of(pid: int) -> Usage:
    """Return what ``pid`` uses.

    A pid may be reused as soon as somebody has reaped its process, so the answer is about the process that was meant
    only if that one has not ended *after* this returned: ask its pidfd then.
    """
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()  # the name before it may hold spaces
        ticks = int(fields[11]) + int(fields[12])
        seconds, state = ticks / os.sysconf("SC_CLK_TCK"), fields[0]
        return Usage(resident, seconds, state in (b"T", b"t"), state not in (b"R", b"D"))
    except (OSError, ValueError, IndexError):
        return UNKNOWN


def private_bytes_of(pid: int) -> int | None:
    """Return what ``pid`` holds for itself alone; None if it has ended or the system does not tell."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return private_bytes(file.read())
    except OSError:
        return None


class MemoryUse(NamedTuple):
    """What a worker holds while it runs a task, in bytes of its own (RssAnon)."""

    number: int  #: of the task
    fresh: int  #: what the worker held when it was ready
    before: int  #: what it held when the task began
    total: int  #: what it holds now

    @property
    def growth(self) -> int:
        """Give what came with the task."""
        return self.total - self.before

    def is_too_much(self, limit: int) -> bool:
        """Say whether what came with the task would not fit into a fresh worker: the worker's age does not matter."""
        return self.growth > limit - self.fresh
