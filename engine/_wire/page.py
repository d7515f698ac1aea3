"""The start page: which task a worker has begun, and when, in memory that outlives the worker.

Guarantees
    One writer, the worker's main thread, and the parent for the word that ``forbid`` stores; any reader. No lock: each
    word is stored by one machine store.
    The instant of task n is stored in slot n & 1 before n itself is stored, and that slot is written again only after
    n + 1 was stored. So a reader that sees n, reads slot n & 1 and sees n again has n's instant.
    ``weigh`` is called between two tasks. So a reader that sees n, reads the weight and sees n again has what the
    worker held before n, or, if n is over, after it.
"""

import mmap

__all__ = ["PAGE_BYTES", "StartPage"]

PAGE_BYTES = mmap.PAGESIZE


class StartPage:
    """One shared page: two instants (monotonic), then the number of the last task begun; 0 for none yet."""

    __slots__ = ("_map", "numbers", "times")

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, PAGE_BYTES)
        view = memoryview(self._map)
        self.times = view.cast("d")  #: index 0 and 1: instants of even and odd tasks
        self.numbers = view.cast("Q")  #: index 2: the last task begun; 3 and 4: bytes held, at hello and between tasks;
        # 5: the last task that may not begin any more

    def begin(self, number: int, at: float) -> bool:
        """Record that task ``number`` begins at monotonic ``at``. False: it may not, and has not. About 0.1 µs."""
        self.times[number & 1] = at
        self.numbers[2] = number
        if self.numbers[5] < number:
            return True
        self.numbers[2] = number - 1
        return False

    def forbid(self, number: int) -> None:
        """Keep task ``number`` from beginning, if it has not by the time that the worker sees this."""
        self.numbers[5] = number

    def last(self) -> int:
        """Return the number of the last task begun."""
        return self.numbers[2]

    def started(self, number: int) -> float | None:
        """Return when task ``number`` began, None if it has not; of one long over, an instant not before its start."""
        seen = self.numbers[2]
        if seen < number:
            return None
        at = self.times[number & 1]
        if seen == number and self.numbers[2] == number:
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
