"""How many items of a map travel together: as many as take a worker some milliseconds."""

import math

from ._lanes.chunk import Chunk

__all__ = ["MOST_ITEMS", "ChunkSize"]

TARGET_SECONDS = 0.002  #: what one chunk should take
TARGET_BYTES = 96 << 10  #: what its items, or its results, should be long: less than is pickled elsewhere
MOST_ITEMS = 8192
GROWTH = 4  #: how many times the last one the next chunk may be, and how few of it


class ChunkSize:
    """Learns from the chunks that came back; begins with single items."""

    def __init__(self, most: int = MOST_ITEMS) -> None:
        self._most = min(most, MOST_ITEMS)
        self.items = 1
        self.item_seconds = math.inf  #: what one took of late; infinite while nobody knows

    def learn(self, chunk: Chunk) -> None:
        """Take into account what ``chunk``, which has been answered, took."""
        if not chunk.answered or chunk.seconds <= 0:
            return
        self.item_seconds = chunk.seconds / chunk.answered
        by_time = TARGET_SECONDS / self.item_seconds
        longest = max(chunk.sent_bytes / len(chunk.items), chunk.received_bytes / chunk.answered, 1.0)
        wanted = min(by_time, TARGET_BYTES / longest)
        last = chunk.answered
        bounded = min(max(wanted, self.items / GROWTH), max(self.items, last * GROWTH), self._most)
        self.items = max(1, int(bounded))
