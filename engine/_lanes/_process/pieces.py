"""A long bytes object that has arrived in pieces.

Joining holds both the pieces and the whole, so what is only to be unpickled is read piece by piece instead, and each
piece is let go once it was read: a result of 2 GiB costs twice its size and not three times.
"""

import collections
import time
from typing import Any

__all__ = ["Pieces", "PiecesFile"]

PAUSE_BYTES = 1 << 20  #: other threads may run at least so often while a file is read


class Pieces:
    """Parts of one bytes object, in order."""

    __slots__ = ("parts", "size")

    def __init__(self, size: int) -> None:
        self.parts: list[bytes] = []
        self.size = size

    def join(self) -> bytes:
        """Return the whole, and let go of the parts. Gives up the GIL; once."""
        whole = b"".join(self.parts)
        self.parts = []
        return whole


class PiecesFile:
    """What an unpickler reads from, over pieces that it uses up; gives up the GIL every ``PAUSE_BYTES``."""

    def __init__(self, pieces: Pieces | bytes) -> None:
        self._parts = collections.deque(pieces.parts if isinstance(pieces, Pieces) else [pieces])
        if isinstance(pieces, Pieces):
            pieces.parts = []
        self._at = 0  #: how much of the first part was read
        self._since = 0

    def _take(self, size: int) -> memoryview:
        """Return at most ``size`` of the next bytes, out of one part; empty at the end."""
        parts = self._parts
        while parts and self._at == len(parts[0]):
            parts.popleft()
            self._at = 0
        if not parts:
            return memoryview(b"")
        size = min(size, PAUSE_BYTES, len(parts[0]) - self._at)
        data = memoryview(parts[0])[self._at : self._at + size]
        self._at += size
        self._since += size
        if self._since >= PAUSE_BYTES:
            self._since = 0
            time.sleep(0)
        return data

    def read(self, size: int, /) -> bytes:
        """Return the next ``size`` bytes, fewer at the end."""
        found = [self._take(size)]
        left = size - len(found[0])
        while left and (more := self._take(left)):
            found.append(more)
            left -= len(more)
        return b"".join(found)

    def readinto(self, buffer: Any, /) -> int:
        """Fill ``buffer``, or as much of it as there is."""
        view = memoryview(buffer).cast("B")
        at = 0
        while at < len(view) and (data := self._take(len(view) - at)):
            view[at : at + len(data)] = data
            at += len(data)
        return at

    def readline(self) -> bytes:
        """Return the next line; only pickles of old protocols have any."""
        line = bytearray()
        while not line.endswith(b"\n") and (byte := self._take(1)):
            line += byte
        return bytes(line)
