"""What a worker receives besides packets: functions and bulk bytes on the stream, in the order they were sent."""

import _socket
import pickle
from collections.abc import Callable
from typing import Any

from .._wire.frames import BULK, DEFINE, FORGET, IN_BULK, SEGMENT, SETUP, STREAM
from .._wire.memory import allocate
from .._wire.pickling import BYTEARRAY, BYTES

__all__ = ["Broken", "ParentGone", "Stream", "rebuild"]

PART_BYTES = 64 << 20  #: what is read at once of something long that was interrupted


class ParentGone(BaseException):
    """The parent closed the stream; the kernel is about to end this worker too."""


class Broken:
    """A function that could not be rebuilt here, with the error that says why."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Stream:
    """The parent's side of the stream, read only as far as the task at hand needs.

    A definition precedes the first task that uses it, and ``FORGET`` follows the last one; bulk of a task that was
    recalled is skipped, since each piece carries its number.
    """

    def __init__(self, sock: _socket.socket) -> None:
        self._sock = sock
        self._functions: dict[int, tuple[str, Callable[..., Any] | Broken]] = {}
        self.current = 0  #: the number of the task at hand; bulk of earlier ones is skipped

    def read_setup(self) -> dict[str, Any]:
        """Read what the parent wants set up; always the first frame."""
        kind, _, size = STREAM.unpack(self._exactly(STREAM.size))
        if kind != SETUP:
            raise ParentGone(f"expected the setup first, got a frame of kind {kind}")
        setup: dict[str, Any] = pickle.loads(self._exactly(size))
        return setup

    def function(self, number: int) -> tuple[str, Callable[..., Any] | Broken]:
        """Return name and function of ``number``, reading on until it has come."""
        while number not in self._functions:
            self._next()
        return self._functions[number]

    def segments(self, task: int, flags: int, head: bytes, count: int, size: int) -> tuple[memoryview, list[Any]]:
        """Return payload and buffers of ``task``, whose packet held ``head``."""
        while self._next() != task:
            pass
        table = count * SEGMENT.size
        if flags & IN_BULK:
            head = self._exactly(table + size)
        buffers = [self._buffer(kind, length) for kind, length in SEGMENT.iter_unpack(head[:table])]
        return memoryview(head)[table:], buffers

    def _next(self) -> int:
        """Read one frame header and what it defines; return the task's number if bulk follows, else 0."""
        kind, number, size = STREAM.unpack(self._exactly(STREAM.size))
        if kind == BULK:
            return self._skip_unless_current(number, size)
        if kind == DEFINE:
            self._functions[number] = rebuild(self._exactly(size))
        elif kind == FORGET:
            self._functions.pop(number, None)
        return 0

    def _skip_unless_current(self, number: int, size: int) -> int:
        if number >= self.current:
            return int(number)
        scrap = memoryview(bytearray(min(size, 1 << 18)))
        while size:
            size -= self._sock.recv_into(scrap[: min(size, len(scrap))]) or self._gone()
        return 0

    def _exactly(self, size: int) -> bytes:
        """Return the next ``size`` bytes, in one allocation where the kernel hands them out at once (2 GiB at most)."""
        data = self._sock.recv(size, _socket.MSG_WAITALL) if size else b""
        if len(data) == size:
            return data
        parts = [data]
        left = size - len(data)
        while left:  # a signal cut it short, or the parent is gone
            more = self._sock.recv(min(left, PART_BYTES), _socket.MSG_WAITALL)
            left -= len(more) or self._gone()
            parts.append(more)
        return b"".join(parts)

    def _buffer(self, kind: int, size: int) -> Any:
        if kind == BYTES:
            return self._exactly(size)
        target: Any = bytearray(size) if kind == BYTEARRAY else allocate(size)
        view = memoryview(target)
        at = 0
        while at < size:
            at += self._sock.recv_into(view[at : at + (1 << 18)]) or self._gone()
        return target

    def _gone(self) -> int:
        raise ParentGone


def rebuild(definition: bytes) -> tuple[str, Callable[..., Any] | Broken]:
    """Return name and function of a definition; never raises."""
    name, pickled = pickle.loads(definition)
    try:
        fn = pickle.loads(pickled)
        return name, fn if callable(fn) else Broken(TypeError(f"expected a callable, got {type(fn).__name__}"))
    except BaseException as error:  # importing the function's module runs user code, which may even exit
        return name, Broken(error)
