"""The answers to the items of a chunk: collected, and sent together.

Guarantees
    Shared: ``_frames``, ``number``, the stream while a chunk is open.  Guarded by: ``_lock``, held for a few list
    operations and a write. ``values`` is a list, to whose end the main thread alone appends, without the lock.
    The main thread opens, fills and closes; the control thread may ``flush`` meanwhile.
    What is collected are bytes and immutable values, so nothing that an item does later changes the answer of one
    before it, and sending it runs nobody's code.
    Answers go out in the order of the items.
"""

import _socket
import _thread
import pickle
import time
from types import NoneType

from .._wire.frames import MAGIC, PART, PICKLES, PLAIN, RESULT, SPOKE, VALUES
from .voice import Voice

__all__ = ["ATOMS", "INT_MAX", "INT_MIN", "SHORT", "SMALL_BYTES", "Parts"]

ATOMS = frozenset([float, bool, NoneType, complex])  #: types of values that cannot change and travel in a list;
INT_MIN, INT_MAX = -(1 << 63), (1 << 63) - 1  #: so does an int between these
SHORT = 64  #: and a str of so many characters
SMALL_BYTES = 4 << 10  #: a pickle of harmless types up to this travels in the list, too; nothing else there is bytes
FRAME_BYTES = 128 << 10  #: a list of values is cut so that none is longer, but for one value alone
HELD_BYTES = 48 << 10  #: so much of finished answers goes out at once


class Parts:
    """What is finished of the chunk that runs."""

    def __init__(self, sock: _socket.socket, voice: Voice) -> None:
        self._sock = sock
        self._voice = voice
        self._lock = _thread.allocate_lock()
        self.values: list[object] = []  #: of the last items, in a row; never another list
        self._frames: list[bytes] = []
        self._size = 0
        self._pickled = 0  #: bytes of pickles among the values, at most
        self._pickles = 0  #: PICKLES once the chunk has such values: a flush may come between one and its count
        self.number = 0  #: of the chunk that is open, 0 for none
        self._started = 0.0

    def open(self, number: int, started: float) -> None:
        """Begin the answers to chunk ``number``."""
        with self._lock:
            self.number = number
            self._started = started
            self._pickles = 0

    def add_pickled(self, payload: bytes) -> None:
        """Add the pickle of the next value."""
        self._pickles = PICKLES  # first: the control thread may take the value as soon as it is there
        self.values.append(payload)
        self._pickled += len(payload)
        if self._pickled > HELD_BYTES:
            self.flush(self.number)

    def add(self, frame: bytes, buffers: list[memoryview]) -> None:
        """Add a frame behind what is there, and the buffers that follow it."""
        with self._lock:
            self._seal()
            self._frames.append(frame)
            self._size += len(frame)
            if buffers or self._size > HELD_BYTES:
                self._send()
                for buffer in buffers:
                    self._sock.sendall(buffer)

    def flush(self, number: int) -> None:
        """Send what is finished, if ``number`` is still the open chunk. The control thread's, too."""
        with self._lock:
            if number == self.number:
                self._seal()
                self._send()

    def close(self) -> bytes:
        """End the chunk; return the frames that have not been sent."""
        with self._lock:
            self._seal()
            self.number = self._size = 0
            frames = b"".join(self._frames)
            self._frames.clear()
            return frames

    def _seal(self) -> None:
        """Make frames of the values."""
        self._pickled = 0
        count = len(self.values)  # what is appended meanwhile is for the next time
        values = self.values[:count]
        del self.values[:count]
        if values:
            self._cut(values)

    def _cut(self, values: list[object]) -> None:
        payload = pickle.dumps(values, 5)
        if len(payload) > FRAME_BYTES and len(values) > 1:
            middle = len(values) // 2
            self._cut(values[:middle])
            self._cut(values[middle:])
            return
        flags = PART | PLAIN | self._pickles | (SPOKE if self._voice.has_spoken else 0)
        head = RESULT.pack(MAGIC, VALUES, flags, 0, self.number, self._started, time.monotonic(), len(payload), 0)
        self._frames.append(head + payload)
        self._size += len(head) + len(payload)

    def _send(self) -> None:
        if self._frames:
            data = b"".join(self._frames)
            self._frames.clear()
            self._size = 0
            self._sock.sendall(data)
