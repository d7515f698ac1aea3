"""Tasks that are ready to run: highest priority first, first in, first out within one.

Pure bookkeeping without a lock of its own: the registry's guards it. Adding and taking cost O(1) for the few
priorities in use; removing only marks, and marked entries are taken out when they outnumber the live ones, so a
million cancelled tasks hold no memory. What is taken out goes into ``dropped``, if there is one, for the owner of the
lock to let go when the lock is released: it may be the last reference, and ``__del__`` is user code.
"""

from bisect import insort
from collections import deque
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

__all__ = ["ReadyQueue"]


class _Queued(Protocol):
    queued: bool

    @property
    def _call(self) -> object:
        """Give what it calls."""


Q = TypeVar("Q", bound=_Queued)


class ReadyQueue(Generic[Q]):
    """A priority queue of objects that say what they call, and carry a ``queued`` flag, which only this class sets."""

    __slots__ = ("_dead", "_dropped", "_live", "_order", "_rows")

    def __init__(self, dropped: list[Q] | None = None) -> None:
        self._dropped: list[Q] | deque[Q] = deque(maxlen=0) if dropped is None else dropped
        self._rows: dict[int, deque[Q]] = {}
        self._order: list[int] = []  # ascending priorities that have a row
        self._live = 0
        self._dead = 0

    def __len__(self) -> int:
        return self._live

    def push(self, item: Q, priority: int, *, first: bool = False) -> None:
        """Add ``item`` behind those of its priority, or before them with ``first``."""
        row = self._rows.get(priority)
        if row is None:
            row = self._rows[priority] = deque()
            insort(self._order, priority)
        item.queued = True
        self._live += 1
        if first:
            row.appendleft(item)
        else:
            row.append(item)

    def first(self) -> Q | None:
        """Return the most urgent item, which stays; None when there is none."""
        while self._order:
            priority = self._order[-1]
            row = self._rows[priority]
            while row:
                item = row[0]
                if item.queued:
                    return item
                self._dropped.append(row.popleft())
                self._dead -= 1
            del self._rows[priority]
            self._order.pop()
        return None

    def pop(self) -> Q | None:
        """Take the most urgent item; None when there is none."""
        item = self.first()
        if item is not None:
            self.take_first(item)
        return item

    def take_first(self, item: Q) -> None:
        """Take ``item``, which ``first`` has just returned."""
        self._rows[self._order[-1]].popleft()
        item.queued = False
        self._live -= 1

    def take_like(self, call: object, most: int) -> list[Q]:
        """Take the most urgent items as far as they are of ``call`` and of one priority, at most ``most`` of them."""
        taken: list[Q] = []
        first = self.first()
        if first is None:
            return taken
        row = self._rows[self._order[-1]]
        while row and len(taken) < most:
            item = row[0]
            if not item.queued:
                self._dropped.append(row.popleft())
                self._dead -= 1
                continue
            if item._call is not call:
                break
            del row[0]
            item.queued = False
            self._live -= 1
            taken.append(item)
        return taken

    def remove(self, item: Q) -> bool:
        """Take ``item`` out wherever it stands; False if it is not in the queue."""
        if not item.queued:
            return False
        item.queued = False
        self._live -= 1
        self._dead += 1
        if self._dead > self._live + 64:
            self._sweep()
        return True

    def __iter__(self) -> Iterator[Q]:
        """Go through the items in the order in which ``pop`` would give them."""
        for priority in reversed(self._order):
            yield from (item for item in self._rows[priority] if item.queued)

    def mend(self, item: Q | None = None) -> None:
        """Count anew, after an exception broke into ``push(item)``, ``first`` or ``take_first(item)``."""
        self._order = sorted(self._rows)
        items = [each for row in self._rows.values() for each in row]
        if item is not None:
            item.queued = item.queued and any(each is item for each in items)
        self._live = sum(each.queued for each in items)
        self._dead = len(items) - self._live

    def _sweep(self) -> None:
        for priority in list(self._order):
            row: deque[Q] = deque()
            for item in self._rows[priority]:
                (row if item.queued else self._dropped).append(item)
            if row:
                self._rows[priority] = row
            else:
                del self._rows[priority]
                self._order.remove(priority)
        self._dead = 0
