"""Workers that die when exactly so many bytes have gone out, or come in."""

import fcntl
import os
import signal
import sys
import termios
import time
from typing import Any

from tests.integration.chunk_functions import Plain
from tests.integration.liars import runner

__all__ = [
    "Plain", "cut_the_next", "die_when_it_has_arrived", "item", "kinds", "note", "read_so_much", "take",
    "watch_the_stream",
]  # fmt: skip


class Cut:
    """Stands before a worker's stream: once ``limit`` bytes are there, they go out in one write, and the worker dies.

    ``keeps``: what comes before is kept, and goes out in that write too.
    """

    def __init__(self, sock: Any, *, keeps: bool, copy: str = "") -> None:
        self._sock = sock
        self._keeps = keeps
        self._copy = copy  #: a file that gets all that goes out
        self._held = b""
        self._limit = sys.maxsize
        self._how = ""

    def cut(self, count: int, how: str) -> None:
        """Let ``count`` bytes out from here, then die."""
        self._limit = len(self._held) + count
        self._how = how

    def sendall(self, data: Any) -> None:
        self._held += data
        if len(self._held) >= self._limit:
            self._sock.sendall(self._held[: self._limit])
            die(self._how)
        if self._copy:
            with open(self._copy, "ab") as file:
                file.write(data)
        if not self._keeps and not self._how:
            self._sock.sendall(self._held)
            self._held = b""


class Deaf:
    """Stands before a worker's stream: the worker dies when it has read ``limit`` bytes of it."""

    def __init__(self, sock: Any, limit: int, how: str) -> None:
        self._sock = sock
        self._left = limit
        self._how = how

    def recv(self, size: int, flags: int = 0) -> Any:
        data = self._sock.recv(self._at_most(size), flags)
        self._count(len(data))
        return data

    def recv_into(self, view: memoryview) -> int:
        count: int = self._sock.recv_into(view[: self._at_most(len(view))])
        self._count(count)
        return count

    def _at_most(self, size: int) -> int:
        self._count(0)
        return min(size, self._left)

    def _count(self, count: int) -> None:
        self._left -= count
        if not self._left:
            die(self._how)


def die(how: str) -> None:
    if how == "exit":
        os._exit(3)
    os.kill(os.getpid(), signal.SIGKILL)


# -- what goes out


def watch_the_stream(*, keeps: bool, copy: str = "") -> int:
    """Put a Cut before the stream."""
    outlet = runner()._outlet
    outlet._sock = outlet._parts._sock = Cut(outlet._sock, keeps=keeps, copy=copy)
    return os.getpid()


def kinds(name: str) -> Any:
    """Return a result: ``small``, one with a long pickle, one that is a buffer, one with two of them."""
    if name == "long":
        return "x" * 100_000
    if name == "buffer":
        return b"y" * 70_000
    if name == "buffers":
        return [memoryview(bytearray(b"a" * 70_000)), memoryview(bytearray(b"b" * 80_000)), "and more"]
    return name


def cut_the_next(runs: str, number: int, name: str, count: int, how: str) -> Any:
    """Have ``count`` bytes of our own answer go out, and no more."""
    note(runs, number)
    runner()._outlet._sock.cut(count, how)
    return kinds(name)


def note(runs: str, number: int) -> int:
    """Record a run, and where."""
    descriptor = os.open(runs, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, f"{number} {os.getpid()}\n".encode())  # one write, so lines of others do not mix with it
    os.close(descriptor)
    return number


def item(number: int, runs: str, count: int, copy: str, gate: str) -> Any:
    """Return something of another kind for each of twelve items; the first one has ``count`` bytes go out of them all.

    Number 9 waits for ``gate``, if there is one.
    """
    note(runs, number)
    if number == 0:
        watch_the_stream(keeps=not copy, copy=copy)
        if not copy:
            runner()._outlet._sock.cut(count, "kill")
    if number == 2:
        return "x" * 60_000  # this, and what is held with it, goes out at once
    if number == 3:
        raise ValueError(number)
    if number == 4:
        return Plain(number)
    if number == 7:
        return b"y" * 70_000
    end = time.monotonic() + 60
    while number == 9 and gate and not os.path.exists(gate) and time.monotonic() < end:
        time.sleep(0.001)
    return number


# -- what comes in


def read_so_much(count: int, how: str) -> int:
    """Have the worker read ``count`` bytes more of its stream, and die."""
    stream = runner()._stream
    stream._sock = Deaf(stream._sock, count, how)
    return os.getpid()


def die_when_it_has_arrived(runs: str, number: int, count: int, how: str) -> None:
    """Die when ``count`` bytes lie in the stream, unread."""
    note(runs, number)
    sock, found = runner()._stream._sock, bytearray(4)
    end = time.monotonic() + 60
    while int.from_bytes(found, sys.byteorder) < count and time.monotonic() < end:
        fcntl.ioctl(sock.fileno(), termios.FIONREAD, found)
    die(how)


def take(runs: str, number: int, thing: Any) -> int:
    """Record a run; return how long ``thing`` is."""
    note(runs, number)
    return len(thing)
