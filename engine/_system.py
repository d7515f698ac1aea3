"""What this system offers: processors, and the parts that our own worker protocol is made of."""

import contextlib
import functools
import os
import select
import signal
import socket
import sys
import threading

__all__ = [
    "NoInterpreter",
    "cpus_allowed",
    "fill_standard_descriptors",
    "interpreter",
    "is_exiting",
    "missing_native_parts",
]


class NoInterpreter(Exception):
    """There is no Python that a worker process could run."""


def interpreter() -> str:
    """Return the Python that worker processes run: ``sys.executable``, else what multiprocessing was told.

    Raises:
        NoInterpreter: there is none, as in a program that embeds Python.
    """
    spawn = sys.modules.get("multiprocessing.spawn")  # else nobody can have told it anything
    for found in (sys.executable, spawn.get_executable() if spawn is not None else None):
        path = os.fsdecode(found or "")
        if os.path.isfile(path):  # not os.access: capabilities may allow what the real user may not
            return path
    raise NoInterpreter(
        f"expected sys.executable to be the path of a Python interpreter, got {sys.executable!r}; set it before the "
        "first process task (for the native process backend multiprocessing.set_executable(path) will do)"
    )


def is_exiting() -> bool:
    """Say whether the main thread is done and the interpreter ends: then much cannot be started any more."""
    return bool(getattr(threading, "_SHUTTING_DOWN", False))


def fill_standard_descriptors() -> None:
    """Open the null device for each of the descriptors 0 to 2 that is closed: else a socket of ours becomes one.

    Then what is printed below Python would go to a worker. Processes that are started inherit them.
    """
    if sys.platform == "win32":
        return
    with contextlib.suppress(OSError):  # no descriptor left, or no device
        while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(fd, True)
        os.close(fd)


def cpus_allowed() -> int:
    """Return how many processors the system lets this process use, cgroups not counted."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache
def missing_native_parts() -> tuple[str, ...]:
    """Name what the native process backend needs and this system lacks; empty on Linux 5.4 and later."""
    parts = {
        "fcntl with F_SETOWN": _has_fcntl(),
        "os.memfd_create": hasattr(os, "memfd_create"),
        "os.pidfd_open": _has_pidfd(),
        "os.waitid with P_PIDFD": hasattr(os, "waitid") and hasattr(os, "P_PIDFD"),
        "select.poll": hasattr(select, "poll"),
        "O_ASYNC": hasattr(os, "O_ASYNC"),
        "SOCK_SEQPACKET": _has_packets(),
    }
    return tuple([name for name, is_there in parts.items() if not is_there])


def _has_fcntl() -> bool:
    try:
        import fcntl
    except ImportError:
        return False
    return hasattr(fcntl, "F_SETOWN")


def _has_pidfd() -> bool:
    """Try it: a kernel or a sandbox may refuse what Python has a name for."""
    if not (hasattr(os, "pidfd_open") and hasattr(signal, "pidfd_send_signal")):
        return False
    try:
        fd = os.pidfd_open(os.getpid())
    except OSError:
        return False
    os.close(fd)
    return True


def _has_packets() -> bool:
    if not (hasattr(socket, "AF_UNIX") and hasattr(socket, "SOCK_SEQPACKET") and hasattr(socket, "MSG_DONTWAIT")):
        return False
    try:
        ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError:
        return False
    for end in ends:
        end.close()
    return True
