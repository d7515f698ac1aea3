"""Results off a worker's stream: many small ones in one read, big ones straight into their final memory.

Guarantees
    Home loop only. Never blocks; one call reads at most ``TURN_BYTES``. Every length of a header is checked before
    anything is allocated.
"""

import socket
from typing import Any, NamedTuple

from ..._wire.frames import MAX_FRAME_BYTES, RESULT, SEGMENT, check_result, check_segments
from ..._wire.memory import allocate
from ..._wire.pickling import BYTEARRAY, BYTES

__all__ = ["Frame", "Pieces", "Reader"]

BUFFER_BYTES = 64 << 10
SLICE_BYTES = 256 << 10
TURN_BYTES = 4 << 20  #: about 1 to 2 ms


class Frame(NamedTuple):
    """One answer of a worker."""

    kind: int
    flags: int
    number: int
    started: float
    ended: float
    payload: Any  #: bytes, or a Pieces of them
    buffers: list[Any] | None  #: memoryview, bytearray, or Pieces that become bytes


class Pieces:
    """A big bytes object that has arrived in pieces; joining gives up the GIL, so it is done on another thread."""

    __slots__ = ("parts", "size")

    def __init__(self, size: int) -> None:
        self.parts: list[bytes] = []
        self.size = size

    def join(self) -> bytes:
        """Return the whole."""
        return b"".join(self.parts)


class _Sink:
    """Where one segment of a big frame goes."""

    __slots__ = ("at", "kind", "size", "target", "view")

    def __init__(self, kind: int, size: int) -> None:
        self.kind = kind
        self.size = size
        self.at = 0
        self.target: Any = Pieces(size) if kind == BYTES else bytearray() if kind == BYTEARRAY else allocate(size)

    def put(self, data: memoryview) -> None:
        """Take bytes that were read together with the header."""
        if not data:
            return
        if self.kind == BYTES:
            self.target.parts.append(bytes(data))
        elif self.kind == BYTEARRAY:
            self.target += data
        else:
            self.target[self.at : self.at + len(data)] = data
        self.at += len(data)

    def receive(self, sock: socket.socket, scratch: memoryview) -> int:
        """Read one slice; 0 for the end of the stream."""
        want = min(self.size - self.at, SLICE_BYTES)
        if self.kind == BYTES:
            data = sock.recv(want, socket.MSG_DONTWAIT)
            self.target.parts.append(data)
            count = len(data)
        elif self.kind == BYTEARRAY:
            count = sock.recv_into(scratch, min(want, len(scratch)), socket.MSG_DONTWAIT)
            self.target += scratch[:count]
        else:
            count = sock.recv_into(self.target[self.at : self.at + want], 0, socket.MSG_DONTWAIT)
        self.at += count
        return count


class Reader:
    """Turns the byte stream of one worker into frames."""

    def __init__(self, sock: socket.socket, limit: int = MAX_FRAME_BYTES) -> None:
        self._sock = sock
        self._limit = limit
        self._view = memoryview(bytearray(BUFFER_BYTES))
        self._fill = 0
        self._head: tuple[Any, ...] = ()
        self._sinks: list[_Sink] = []  #: of the big frame that is arriving
        self._next = 0
        self.is_at_end = False

    def read(self) -> list[Frame]:
        """Read once and return the frames that are complete. BlockingIOError: nothing there; FrameError: no frame."""
        if self._sinks:
            return self._read_big()
        view, fill = self._view, self._fill
        count = self._sock.recv_into(view[fill:] if fill else view, 0, socket.MSG_DONTWAIT)
        if not count:
            self.is_at_end = True
            return []
        return self._split(fill + count)

    def _split(self, end: int) -> list[Frame]:
        """Cut what is in the buffer up to ``end`` into frames; keep the rest, or go on with a big one."""
        frames: list[Frame] = []
        view, at = self._view, 0
        while end - at >= RESULT.size:
            magic, kind, flags, count, number, started, ended, size, bulk = RESULT.unpack_from(view, at)
            check_result(magic, kind, count, size, bulk, self._limit)
            start = at + RESULT.size
            if not count and start + size <= end:
                frames.append(Frame(kind, flags, number, started, ended, bytes(view[start : start + size]), None))
                at = start + size
                continue
            table = start + count * SEGMENT.size
            if (not count and RESULT.size + size <= BUFFER_BYTES) or end < table:
                break  # the rest of it fits the buffer, and is on its way
            self._head = (kind, flags, number, started, ended)
            segments = list(SEGMENT.iter_unpack(view[start:table]))
            check_segments(segments, bulk)
            self._sinks = [_Sink(BYTES, size), *[_Sink(*segment) for segment in segments]]
            at = self._feed(table, end)
            if self._next < len(self._sinks):
                break
            frames.append(self._finish())
        self._fill = end - at
        if self._fill and at:
            view[: self._fill] = bytes(view[at:end])
        return frames

    def _feed(self, at: int, end: int) -> int:
        """Give the sinks what the buffer holds from ``at`` to ``end``; return how far it went."""
        self._next = 0
        for sink in self._sinks:
            count = min(sink.size, end - at)
            sink.put(self._view[at : at + count])
            at += count
            if sink.at < sink.size:
                break
            self._next += 1
        return at

    def _read_big(self) -> list[Frame]:
        """Go on with the big frame, for one turn of the loop."""
        left = TURN_BYTES
        while left > 0:
            sink = self._sinks[self._next]
            if sink.at == sink.size:
                self._next += 1
                if self._next == len(self._sinks):
                    return [self._finish()]
                continue
            try:
                count = sink.receive(self._sock, self._view)
            except BlockingIOError:
                if left == TURN_BYTES:
                    raise
                break
            if not count:
                self.is_at_end = True
                break
            left -= count
        if self._next + 1 == len(self._sinks) and self._sinks[-1].at == self._sinks[-1].size:
            return [self._finish()]
        return []

    def _finish(self) -> Frame:
        payload, *buffers = [sink.target for sink in self._sinks]
        self._sinks = []
        if len(payload.parts) == 1:
            payload = payload.parts[0]
        kind, flags, number, started, ended = self._head
        return Frame(kind, flags, number, started, ended, payload, buffers)
