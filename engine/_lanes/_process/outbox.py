"""Bytes on their way to a worker's stream, written as the worker takes them.

Guarantees
    Home loop only. Never blocks: what the socket does not take waits for ``add_writer``, and one turn of the loop
    writes at most ``TURN_BYTES``.
"""

import asyncio
import socket
from collections import deque
from typing import Any

__all__ = ["Outbox"]

SLICE_BYTES = 256 << 10
TURN_BYTES = 4 << 20  #: about 1 ms


class Outbox:
    """A queue of buffers in front of a stream socket."""

    __slots__ = ("_is_watching", "_loop", "_queue", "_sock")

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        self._loop = loop
        self._sock = sock
        self._queue: deque[memoryview] = deque()
        self._is_watching = False

    def push(self, *buffers: Any) -> None:
        """Queue ``buffers``, and write what can be written now."""
        self._queue.extend([memoryview(buffer).cast("B") for buffer in buffers if len(buffer)])
        if not self._is_watching:
            self._flush()

    def _flush(self) -> None:
        left = TURN_BYTES
        queue = self._queue
        try:
            while queue and left > 0:
                sent = self._sock.send(queue[0][:SLICE_BYTES], socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
                left -= sent
                if sent == len(queue[0]):
                    queue.popleft()
                else:
                    queue[0] = queue[0][sent:]
        except BlockingIOError:
            pass
        except OSError:  # the worker is gone; its death is noticed elsewhere
            queue.clear()
        if bool(queue) is not self._is_watching:
            self._is_watching = not self._is_watching
            if self._is_watching:
                self._loop.add_writer(self._sock.fileno(), self._flush)
            else:
                self._loop.remove_writer(self._sock.fileno())

    def close(self) -> None:
        """Drop what has not been written."""
        self._queue.clear()
        if self._is_watching:
            self._is_watching = False
            self._loop.remove_writer(self._sock.fileno())
