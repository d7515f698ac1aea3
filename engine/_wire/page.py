"""The start page: which task a worker has begun, and when, in memory that outlives the worker.

Guarantees
    One writer, the worker's main thread, and the parent for the word that ``forbid`` stores; any reader. No lock: each
    word is stored by one machine store.
    An instant is stored in the slot that the word of the last begin does not name, then the word that names it. So a
    reader that sees the same word before and after it has read the slot has that task's instant.
    ``weigh`` is called between two tasks. So a reader that sees n, reads the weight and sees n again has what the
    worker held before n, or, if n is over, after it.
    ``forbid`` against ``begin``: each side stores its word, passes a lock, and reads the other's. So at least one of
    them sees the other: a task that the parent reads as not begun never will; one that it reads as begun runs, or the
    worker says that it did not.
"""

import mmap

__all__ = ["ALL_ITEMS", "ITEM", "ITEM_BITS", "NO_ITEMS_OF", "PAGE_BYTES", "StartPage"]

PAGE_BYTES = mmap.PAGESIZE
ITEM, NO_ITEMS_OF = 6, 7  #: words of chunks, which the worker uses itself, once per item; design/0011
ITEM_BITS = 20  #: of the word ITEM say how many items have begun, those above it of which task
ALL_ITEMS = (1 << ITEM_BITS) - 1  #: more than a chunk has


class StartPage:
    """One shared page: two instants (monotonic), and the last task begun with the slot of its instant; 0 for none."""

    __slots__ = ("_map", "_word", "numbers", "times")

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, PAGE_BYTES)
        self._word = 0  #: of the begin before the last one; the worker's alone
        view = memoryview(self._map)
        self.times = view.cast("d")  #: index 0 and 1
        self.numbers = view.cast("Q")  #: index 2: twice the last task begun, plus the index of its instant; 3 and 4:
        # bytes held, at hello and between tasks; 5: the last task that may not begin any more; ITEM: the chunk that
        # runs, and how many of its items have begun; NO_ITEMS_OF: the chunk that may begin no further item

    def begin(self, number: int, at: float) -> bool:
        """Record that task ``number`` begins at monotonic ``at``; ask ``may_begin`` behind it. About 0.15 µs.

        False: it may not, and nothing is recorded.
        """
        numbers = self.numbers
        if numbers[5] >= number:
            return False
        word = self._word = numbers[2]
        slot = ~word & 1
        self.times[slot] = at
        numbers[2] = number << 1 | slot
        return True

    def may_begin(self, number: int) -> bool:
        """Say whether task ``number``, which ``begin`` has recorded, may go on; else take that record back.

        To be asked after a lock was taken: that is the fence between our store and this load.
        """
        if self.numbers[5] < number:
            return True
        self.numbers[2] = self._word
        return False

    def forbid(self, number: int) -> None:
        """Keep all tasks up to ``number`` from beginning that have not; what is read behind a lock says which."""
        self.numbers[5] = number

    def forbid_items(self, number: int) -> None:
        """Keep chunk ``number`` from beginning a further item; ``items_begun`` is final a millisecond later."""
        self.numbers[NO_ITEMS_OF] = number

    def items_begun(self, number: int) -> int:
        """Return how many items of chunk ``number`` have begun; ALL_ITEMS if a later one has: it is over."""
        word = self.numbers[ITEM]
        if word >> ITEM_BITS == number:
            return word & ALL_ITEMS
        return ALL_ITEMS if word >> ITEM_BITS > number else 0

    def last(self) -> int:
        """Return the number of the last task begun."""
        return self.numbers[2] >> 1

    def started(self, number: int) -> float | None:
        """Return when task ``number`` began, None if it has not; of one long over, an instant not before its start."""
        word = self.numbers[2]
        if word >> 1 < number:
            return None
        at = self.times[word & 1]
        if word >> 1 == number and self.numbers[2] == word:
            return at
        return min(self.times[0], self.times[1])

    def weigh_fresh(self, size: int) -> None:
        """Record what the worker holds before its first task."""
        self.numbers[3] = self.numbers[4] = size

    def weigh(self, size: int) -> None:
        """Record what the worker holds between two tasks."""
        self.numbers[4] = size

    def fresh(self) -> int:
        """Return the bytes that the worker held before its first task; 0 if nobody looked."""
        return self.numbers[3]

    def weight(self) -> int:
        """Return the bytes that the worker held when it was last between tasks."""
        return self.numbers[4]

    def close(self) -> None:
        """Unmap the page."""
        self.times.release()
        self.numbers.release()
        self._map.close()
