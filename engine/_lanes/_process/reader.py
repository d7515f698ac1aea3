"""Results off a worker's stream: many small ones in one read, big ones straight into their final memory.

Guarantees
    Home loop only. Never blocks; one call reads at most ``TURN_BYTES``. Every length of a header is checked before
    anything is allocated, and memory is taken for one buffer at a time, when its first byte is due. Memory that a
    header asks for in vain is below 1 MiB, or a mapping whose pages come as they are filled.
    Frames before the first byte of nonsense count, nothing behind it does. A descriptor that a worker sends along is
    dropped by the kernel, since nothing here asks for one.
"""

import functools
import socket
from collections.abc import Callable
from math import inf
from typing import Any, NamedTuple

from ..._wire.frames import MAGIC, MAX_FRAME_BYTES, RESULT, SEGMENT, VALUE, FrameError, check_result, check_segments
from ..._wire.memory import allocate
from ..._wire.pickling import BYTEARRAY, BYTES
from .pieces import Pieces

__all__ = ["Frame", "Reader"]

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


_frame: Callable[[tuple[Any, ...]], Frame] = functools.partial(tuple.__new__, Frame)  # a third of the call's time


class _Sink:
    """Where one segment of a big frame goes."""

    __slots__ = ("at", "kind", "size", "target", "view")

    def __init__(self, kind: int, size: int) -> None:
        self.kind = kind
        self.size = size
        self.at = 0
        try:
            self.target: Any = Pieces(size) if kind == BYTES else bytearray() if kind == BYTEARRAY else allocate(size)
        except (MemoryError, OSError, ValueError) as error:
            raise FrameError(f"expected memory for a buffer of {size} bytes of a result, got {error!r}") from error

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
        self._head: tuple[Any, ...] = ()  #: of the big frame that is arriving
        self._sink: _Sink | None = None  #: where its next bytes go
        self._plan: list[tuple[int, int]] = []  #: kind and size of its segments to come, the next one last
        self._targets: list[Any] = []  #: its segments that are complete
        self.is_at_end = False
        self.arrived = 0  #: bytes so far
        self.broken: FrameError | None = None  #: what ended the stream of frames

    @property
    def is_in_a_frame(self) -> bool:
        """Say whether a frame has begun to arrive and is not complete."""
        return bool(self._fill) or self._sink is not None

    def read(self) -> list[Frame]:
        """Read once and return the frames that are complete.

        BlockingIOError: nothing is there. FrameError: what is there is no frame; it is in ``broken`` too, which is also
        set when frames are returned that came before it.
        """
        if self.broken is not None:
            raise self.broken
        try:
            return self._read_big() if self._sink is not None else self._read_small()
        except FrameError as error:
            self.broken = error
            raise

    def _read_small(self) -> list[Frame]:
        view, fill = self._view, self._fill
        count = self._sock.recv_into(view[fill:] if fill else view, 0, socket.MSG_DONTWAIT)
        if not count:
            self.is_at_end = True
            return []
        self.arrived += count
        frames: list[Frame] = []
        try:
            self._split(fill + count, frames)
        except FrameError as error:
            if not frames:
                raise
            self.broken = error
        return frames

    def _split(self, end: int, frames: list[Frame]) -> None:
        """Cut what is in the buffer up to ``end`` into ``frames``; keep the rest, or go on with a big one."""
        view, at, most = self._view, 0, self._limit
        data = bytes(view[:end])
        while end - at >= RESULT.size:
            header = RESULT.unpack_from(data, at)
            magic, kind, flags, count, number, started, ended, size, bulk = header
            if magic != MAGIC or kind != VALUE or count or bulk or size > most or not 0.0 <= started <= ended < inf:
                check_result(header, most)  # asked where it may refuse: it takes a quarter of the time in here
            start = at + RESULT.size
            if not count and start + size <= end:
                at = start + size
                frames.append(_frame((kind, flags, number, started, ended, data[start:at], None)))
                continue
            table = start + count * SEGMENT.size
            if (not count and RESULT.size + size <= BUFFER_BYTES) or end < table:
                break  # the rest of it fits the buffer, and is on its way
            segments = list(SEGMENT.iter_unpack(view[start:table]))
            check_segments(segments, bulk)
            self._head = (kind, flags, number, started, ended)
            self._plan = [*reversed(segments)]
            self._sink = _Sink(BYTES, size)
            at = self._feed(table, end)
            if self._sink is not None:
                break
            frames.append(self._finish())
        self._fill = end - at
        if self._fill and at:
            view[: self._fill] = bytes(view[at:end])

    def _feed(self, at: int, end: int) -> int:
        """Give the sinks what the buffer holds from ``at`` to ``end``; return how far it went."""
        while (sink := self._sink) is not None:
            count = min(sink.size - sink.at, end - at)
            sink.put(self._view[at : at + count])
            at += count
            if sink.at < sink.size:
                break
            self._go_on()
        return at

    def _go_on(self) -> None:
        """Put the full sink away and begin the next segment; no sink is left when the frame is complete."""
        if self._sink is not None:
            self._targets.append(self._sink.target)
            self._sink = _Sink(*self._plan.pop()) if self._plan else None

    def _read_big(self) -> list[Frame]:
        """Go on with the big frame, for one turn of the loop."""
        left = TURN_BYTES
        while left > 0 and (sink := self._sink) is not None:
            if sink.at < sink.size:
                try:
                    count = sink.receive(self._sock, self._view)
                except BlockingIOError:
                    if left == TURN_BYTES:
                        raise
                    return []
                if not count:
                    self.is_at_end = True
                    return []
                self.arrived += count
                left -= count
            if sink.at == sink.size:
                self._go_on()
        return [self._finish()] if self._sink is None else []

    def _finish(self) -> Frame:
        payload, *buffers = self._targets
        self._targets = []
        if len(payload.parts) == 1:
            payload = payload.parts[0]
        elif not payload.parts:
            payload = b""
        kind, flags, number, started, ended = self._head
        return Frame(kind, flags, number, started, ended, payload, buffers)
