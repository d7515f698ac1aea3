"""Which boot of the machine this is, how long it is up, and which processes are dead for certain."""

import functools
import os
import sys
import time
from dataclasses import dataclass

import psutil

from .._records import HolderInfo

__all__ = ["Process", "boot_id", "is_dead", "this_process", "uptime"]

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


@functools.cache
def boot_id() -> str:
    """Return what names this boot of the machine."""
    try:
        with open(_BOOT_ID, encoding="ascii") as file:
            return file.read().strip()
    except OSError:  # no Linux, or no /proc
        return f"{sys.platform} up since {round(psutil.boot_time() / 60)} min"


def uptime() -> float:
    """Return seconds since the machine booted, those in which it was suspended too, where the system counts them."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


@dataclass(frozen=True, slots=True)
class Process:
    """One process of this boot, told apart from any other that was given the same pid."""

    pid: int
    started: float  #: in the unit of the system
    namespace: str  #: of pids; empty where there is no such thing


def this_process() -> Process:
    """Return which process this is."""
    pid = os.getpid()
    return Process(pid, _started(pid) or 0.0, _namespace())


def is_dead(holder: HolderInfo) -> bool:
    """Say whether the process of ``holder`` is gone for certain: of this boot, and of pids that are seen from here.

    What cannot be told counts as alive: its lease will tell.
    """
    if holder.boot != boot_id() or not holder.namespace or holder.namespace != _namespace():
        return False
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # another user's; or a number that is no pid
        pass
    started = _started(holder.pid)
    return started is not None and started != holder.pid_started


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return "" if sys.platform.startswith("linux") else sys.platform


def _started(pid: int) -> float | None:
    """Return when a process began, 0.0 if it has ended and only its parent has not noticed; None if nobody can tell."""
    if not sys.platform.startswith("linux"):
        return _started_elsewhere(pid)
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()  # its name, before that, may hold anything
    except OSError:
        return None
    state, threads, started = fields[0], int(fields[17]), float(fields[19])
    return 0.0 if state in b"ZX" and threads <= 1 else started


def _started_elsewhere(pid: int) -> float | None:
    try:
        process = psutil.Process(pid)
        return 0.0 if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None
