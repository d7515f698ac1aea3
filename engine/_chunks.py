"""The chunks of one map: reads the source, forms and submits chunks, puts the results in order.

Guarantees
    Shared: every field, and those of the chunks.  Guarded by: ``lock``, held for a few list operations, never across
    user code (the source is read outside it) and never while the registry's lock is taken.
    ``fill`` and ``take`` are the reader's, one thread at a time; ``close`` and the rest may be called from any.
    Nothing is read from the source beyond ``window`` items ahead of what was taken.
    Every item that was read comes out once, as a value or a failure, unless the map is closed. design/0011.
"""

from __future__ import annotations

import asyncio
import copy
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from ._chunk_size import MOST_ITEMS, ChunkSize
from ._lanes.base import Outcome
from ._lanes.chunk import Chunk
from ._states import TaskState
from .errors import EngineClosed, EngineFull

if TYPE_CHECKING:
    from ._core import Core
    from ._records import Call
    from ._task import Task

__all__ = ["Chunks"]

READ_SECONDS = 0.001  #: for which a source may be read at a time
SINGLES = 32  #: items in hand, at least, while they travel one by one
FIRST_PER_SLOT = 2  #: items in hand, each its own chunk, until one has come back and says how large the next should be
CHUNKS_PER_SLOT = 5  #: one that runs, one sent ahead, two that wait, one whose results are being taken

#: Iterators of containers in memory: reading on never waits.
_CONTAINERS: tuple[Any, ...] = (
    (), [], range(0), range(1 << 70), {}, {}.values(), {}.items(), set(), "", b"", bytearray(), reversed([]),
)  # fmt: skip
_INSTANT = frozenset([type(iter(each)) for each in _CONTAINERS])


class Chunks:
    """What is in hand of one map."""

    def __init__(
        self, core: Core, call: Call, rows: Iterator[Any] | range, *, is_rows: bool, ordered: bool, window: int | None,
        slots: int, return_exceptions: bool, cancelled: type[BaseException],
    ) -> None:  # fmt: skip
        self.lock = threading.RLock()  # the collector may call us from inside (design/0002)
        self.exhausted = False
        self.refused: Exception | None = None  #: the engine stops, or the source failed: raised behind what was read
        self._core = core
        self._call = call
        self._rows = rows
        self._is_rows = is_rows
        self._is_instant = type(rows) in _INSTANT
        self._is_slow = False  #: the source took its time
        self._ordered = ordered
        self._return_exceptions = return_exceptions
        self._cancelled = cancelled  #: what is raised for an item that was
        self._window = window
        self._per_slot = CHUNKS_PER_SLOT * slots
        self._singles = max(SINGLES, 4 * slots)
        self._first = FIRST_PER_SLOT * slots
        self._size = ChunkSize(MOST_ITEMS if window is None else window // self._per_slot)
        self._kept: Sequence[Any] = []  #: read, and not submitted yet
        self._chunks: list[Chunk] = []  #: in the order of their items
        self._tasks: dict[Chunk, Task[Any]] = {}  #: those that are not over
        self._in_hand = 0  #: items that were read and not taken
        self._is_closed = False
        self._wakers: list[Callable[[], object]] = []

    # -- the reader's

    def fill(self) -> bool:
        """Submit chunks until the window is full; True: the engine has no room for more."""
        registry = self._core.registry
        while self._has_more():
            room = self._room()
            if room <= 0:
                return False
            if registry.is_full():
                return True
            items = self._read(min(self._size.items, room))
            if not items:
                return False
            seconds = self._size.item_seconds * len(items)
            chunk = Chunk(self, self.lock, items, is_rows=self._is_rows, expected_seconds=seconds)
            if not self._add(chunk):  # first: it may fail, and be taken back, before ``submit`` returns
                return False
            try:
                task = self._core.scheduler.admission.submit(self._call, chunk, None)  # type: ignore[arg-type]  # args, for its lane
            except EngineFull:  # somebody else took the room: keep them for the next time
                self._kept = items
                self._take_out(chunk)
                return True
            except EngineClosed as error:  # it drains, and waits for what is in hand
                self.exhausted, self.refused = True, error
                self._take_out(chunk)
                return False
            self._follow(chunk, task)
            if self._is_slow and self.is_ready():
                return False  # what there is comes first
        return False

    def _has_more(self) -> bool:
        """Say whether there are items to submit; some may be kept though the source has failed behind them."""
        return bool(self._kept) or not self.exhausted

    def _room(self) -> int:
        """Return how many items may be read; none while they would make less than a chunk and others are on the way."""
        with self.lock:
            size = self._size.items
            room = self._most(size) - self._in_hand
            if self._is_closed or len(self._tasks) >= self._singles or (room < size and self._tasks):
                return 0
            return room

    def _most(self, size: int) -> int:
        """Return how many items may be in hand."""
        if self._window is not None:
            return self._window
        if self._size.item_seconds == math.inf:  # none has come back
            return self._first
        return max(self._singles, self._per_slot * size)

    def _read(self, count: int) -> Sequence[Any]:
        """Read up to ``count`` items: fewer where the source takes its time, none at its end."""
        kept, self._kept = self._kept, []
        if kept:
            return kept
        rows = self._rows
        if isinstance(rows, range):  # it travels as it is: numbers cost as much to make and pickle as to add up
            self._rows, items = rows[count:], rows[:count]
            self.exhausted = not items
            return items
        return self._read_each(rows, count)

    def _read_each(self, rows: Iterator[Any], count: int) -> list[Any]:
        items: list[Any] = []
        try:
            if self._is_instant:
                items = list(islice(rows, count))
            else:
                self._read_slowly(rows, items, count)
        except StopAsyncIteration as error:  # from an asynchronous map it would be the end
            refused = RuntimeError("expected an item or the end of map's source, got StopAsyncIteration")
            refused.__cause__ = error
            self.exhausted, self.refused = True, refused
        except Exception as error:  # its turn comes behind what was read before; as it came, with its context
            self.exhausted, self.refused = True, error
        if not items:
            self.exhausted = True
        return items

    def _read_slowly(self, rows: Iterator[Any], items: list[Any], count: int) -> None:
        end = time.monotonic() + READ_SECONDS
        self._is_slow = False
        for item in islice(rows, count):
            items.append(item)
            if time.monotonic() > end:
                self._is_slow = True
                return

    def take(self, most: int) -> list[Any]:
        """Take up to ``most`` results that are ready; empty: none is. Raises the failure whose turn it is."""
        failure = None
        with self.lock:
            values: list[Any] = []
            for chunk in list(self._chunks[:1] if self._ordered else self._chunks):
                values, failure = self._take_from(chunk, most)
                if values or failure is not None:
                    break
            self._in_hand -= len(values)
        if failure is not None:
            raise failure
        return values

    def _take_from(self, chunk: Chunk, most: int) -> tuple[list[Any], BaseException | None]:
        start = chunk.given
        end = min(chunk.ready, start + most)
        failed = min([index for index in chunk.failures if index >= start], default=end) if chunk.failures else end
        failure = None
        if failed < end and self._return_exceptions:
            for index in range(failed, end):
                if index in chunk.failures:
                    chunk.results[index] = self._error_of(chunk.failures[index], asyncio.CancelledError)
        elif failed < end:
            end = failed
            failure = self._error_of(chunk.failures[end], self._cancelled) if end == start else None
        values = chunk.results[start:end]
        chunk.given = end
        self._drop_if_done(chunk)
        return values, failure

    def _drop_if_done(self, chunk: Chunk) -> None:
        is_done = chunk.given >= chunk.size and (chunk.is_over or chunk.answered >= chunk.size)
        if is_done and not chunk.is_divided and chunk in self._chunks:
            self._chunks.remove(chunk)

    def is_ready(self) -> bool:
        """Say whether ``take`` would give something."""
        with self.lock:
            return any(each.ready > each.given for each in (self._chunks[:1] if self._ordered else self._chunks))

    def is_done(self) -> bool:
        """Say whether everything that was read was taken, and nothing more comes."""
        with self.lock:
            return self._is_closed or not (self._has_more() or self._in_hand)

    def is_empty(self) -> bool:
        """Say whether nothing that was submitted is still to be taken."""
        with self.lock:
            return not self._in_hand

    def wake_once(self, waker: Callable[[], object]) -> bool:
        """Have ``waker`` called when there is more to take, or room in the window. False: there is already."""
        with self.lock:
            if self.is_ready() or self.is_done():
                return False
            self._wakers.append(waker)
            return True

    def forget_waker(self, waker: Callable[[], object]) -> None:
        """Do not call ``waker`` any more."""
        with self.lock:
            if waker in self._wakers:
                self._wakers.remove(waker)

    # -- any thread

    def close(self) -> None:
        """Cancel what is in hand, and drop the source. Idempotent."""
        _held = self._rows, self._kept  # dropped after the lock: their ends are user code
        with self.lock:
            self._rows, self._kept = iter(()), []
            self._is_closed = self.exhausted = True
            tasks = list(self._tasks.values())
            self._chunks.clear()
            self._in_hand = 0
            self.refused = None
        for task in tasks:
            task.cancel()
            task._forgive()  # whoever drops the window does not want to hear of its failures
        self.progressed()

    def let_go(self) -> None:
        """Close soon, without a lock: the reader was dropped, perhaps by the collector inside one of our sections."""
        if (self._tasks or self._chunks) and not self._core.scheduler.forked:
            try:
                self._core.loop.call_soon_threadsafe(self.close)
            except RuntimeError:  # the loop is closed, and nothing of it runs any more
                pass

    def progressed(self) -> None:
        """Wake the readers if there is something to take, or to do; they look what."""
        with self.lock:
            if not (self.is_ready() or self.is_done() or (self._has_more() and self._room() > 0)):
                return
            wakers, self._wakers = self._wakers, []
        for waker in wakers:
            waker()

    def take_back(self, chunk: Chunk, items: Sequence[Any], *, one_by_one: bool) -> None:
        """Submit what ``chunk`` does not run, in its place; before its task is over, so that a stop waits for them."""
        with self.lock:
            if self._is_closed:
                return
            place = self._chunks.index(chunk) + 1
            size = 1 if one_by_one else -(-len(items) // self._per_slot)  # so that each slot gets some
            parts = [items[start : start + size] for start in range(0, len(items), size)]
            new = [Chunk(self, self.lock, part, is_rows=self._is_rows) for part in parts]
            self._chunks[place:place] = new
            chunk.is_divided = False
            self._drop_if_done(chunk)
        for each in reversed(new):  # each goes to the head of the queue
            try:
                task = self._core.scheduler.admission.submit_rest(chunk.task, each)
            except EngineClosed as error:
                self._fail(each, error)
                continue
            if task is not None:
                self._follow(each, task)
            else:
                self._fail(each, None)

    def _add(self, chunk: Chunk) -> bool:
        """Put ``chunk`` behind the others. False: another thread has closed us."""
        with self.lock:
            if not self._is_closed:
                self._chunks.append(chunk)
                self._in_hand += len(chunk.items)
            return not self._is_closed

    def _take_out(self, chunk: Chunk) -> None:
        """Forget ``chunk``, which was not accepted."""
        with self.lock:
            if chunk in self._chunks:
                self._chunks.remove(chunk)
                self._in_hand -= len(chunk.items)

    def _follow(self, chunk: Chunk, task: Task[Any]) -> None:
        with self.lock:
            self._tasks[chunk] = task
            is_closed = self._is_closed
        waiters = self._core.scheduler.waiters
        if not waiters.add(task, lambda task: self._on_end(chunk, task), waits=False):
            self._on_end(chunk, task)
        if is_closed:  # another thread has closed us, and missed this task
            task.cancel()
            task._forgive()

    def _on_end(self, chunk: Chunk, task: Task[Any]) -> None:
        """Learn from a chunk that is over; what it left has failed, or was cancelled, with it."""
        task._forgive()
        with self.lock:
            self._tasks.pop(chunk, None)
            self._size.learn(chunk)
        if task._state is TaskState.FAILED:
            self._fail(chunk, task._error)
        else:
            self._fail(chunk, None)

    def _fail(self, chunk: Chunk, error: BaseException | None) -> None:
        """End what ``chunk`` has left: with ``error``, else as cancelled."""
        with self.lock:
            chunk.is_over = True
            for index in [*chunk.pending, *range(chunk.answered, chunk.size)]:
                chunk.failures[index] = Outcome(error=_copy(error), cancelled=error is None)
            chunk.ready = chunk.size
        self.progressed()

    @staticmethod
    def _error_of(outcome: Outcome, cancelled: type[BaseException]) -> BaseException:
        return outcome.error if outcome.error is not None else cancelled()


def _copy(error: BaseException | None) -> BaseException | None:
    """Return an error of one's own for each item: a traceback is added to it where it is raised."""
    if error is None:
        return None
    mine = copy.copy(error)
    mine.__cause__ = error.__cause__
    return mine
