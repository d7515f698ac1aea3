"""The way of endings into the store: gathered, and written many at a time.

Guarantees
    Home loop only. Each ending that is added is answered once: with the state of its row, None where it was fenced, or
    the error because of which it could not be recorded; then the job comes again when the lease is over. One that the
    book refuses for what it is (no StoreError, which is about the store) is FAILED with that as the reason.
    Endings of one turn of the loop make one operation. Operations are written in the order of their turns.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from engine import TaskState

from .._book import Book
from .._moment import Moment
from .._records import End, Ending
from .._store import Store
from ..errors import CorruptStore, StoreClosed, StoreError, StoreFull
from .failure import failure_of

__all__ = ["Recorder"]

_logger = logging.getLogger("engine.jobs")

_AGAIN_AFTER = 0.1  #: seconds until what the store had no room for is offered again
_AGAIN_MOST = 10.0  #: seconds up to which that grows where it refuses for another reason that may pass

#: Who is told of an ending: its row's state, None where it was fenced; or why it could not be recorded.
Told = Callable[[Ending, TaskState | Exception | None], None]


class Recorder:
    """Writes endings to ``store``, and tells ``told`` what became of each."""

    def __init__(self, store: Store, worker: str, told: Told) -> None:
        self._store = store
        self._worker = worker
        self._told = told
        self._gathered: list[Ending] = []
        self._writes: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self.unrecorded = 0  #: endings that wait for the store

    def add(self, ending: Ending) -> None:
        """Have ``ending`` recorded with the others of this turn of the loop."""
        self.unrecorded += 1
        if self._is_closed:
            return
        if not self._gathered:
            asyncio.get_running_loop().call_soon(self._write)
        self._gathered.append(ending)

    async def settled(self) -> None:
        """Wait until everything that was added is answered, or whoever ends the loop has cancelled that."""
        while self._gathered or self._writes:
            await asyncio.sleep(0) if not self._writes else await asyncio.wait(self._writes)

    def close(self) -> None:
        """Offer nothing to the store any more: all that is held is given back."""
        self._is_closed = True
        for write in self._writes:
            write.cancel()

    def _write(self) -> None:
        endings, self._gathered = self._gathered, []
        task = asyncio.get_running_loop().create_task(self._record(endings), name="engine.jobs: endings")
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def _record(self, endings: Sequence[Ending]) -> None:
        try:
            states = await self._end_when_room(endings)
        except Exception as error:
            await self._record_apart(endings, error)
            return
        for ending, state in zip(endings, states, strict=True):
            self._tell(ending, state)

    async def _end_when_room(self, endings: Sequence[Ending]) -> list[TaskState | None]:
        def end(book: Book, now: Moment) -> list[TaskState | None]:
            return book.end(endings, now)

        pause = _AGAIN_AFTER
        while True:
            try:
                return await self._store.write(end, keep=True)
            except StoreFull:
                await asyncio.sleep(_AGAIN_AFTER)
            except StoreError as error:
                if len(endings) > 1 or isinstance(error, StoreClosed | CorruptStore):
                    raise
                if pause == _AGAIN_AFTER:
                    _logger.warning("the end of job %d cannot be recorded now; trying again: %s", endings[0].id, error)
                await asyncio.sleep(pause)  # given up, the job would be RUNNING, and hold its lock, while we live
                pause = min(2 * pause, _AGAIN_MOST)

    async def _record_apart(self, endings: Sequence[Ending], error: Exception) -> None:
        """Record each of ``endings`` by itself: one of them is the reason for ``error``, and nobody knows which."""
        if len(endings) > 1:
            await asyncio.gather(*(self._record([ending]) for ending in endings))
            return
        ending = endings[0]
        # What is given back has nothing of its own that a book could refuse, and need not have run: it is not failed.
        if not isinstance(error, StoreError) and ending.end is not End.GIVE_BACK:
            ending = self._refused(ending, error)
            try:
                (state,) = await self._end_when_room([ending])
            except Exception as refused:
                error = refused
            else:
                self._tell(ending, state)
                return
        _logger.error(
            "job %d ended as %r, which could not be recorded: it comes again when nobody holds it any more",
            ending.id, ending.end.value, exc_info=error,
        )  # fmt: skip
        self._tell(ending, error)

    def _refused(self, ending: Ending, error: Exception) -> Ending:
        """Return what becomes of a job whose end the book does not take: it has run, and would come to the same end."""
        before = ending.failure
        error.add_note(f"the run had ended as {ending.end.value!r}" + (f": {before.error}" if before else ""))
        failure = failure_of(
            error, "result" if ending.end is End.COMPLETED else "ending",
            at=self._store.now().wall, attempt=0, token=ending.token, worker=self._worker,
        )  # fmt: skip
        return Ending(ending.id, ending.token, End.FAILED, failure=failure)

    def _tell(self, ending: Ending, what: TaskState | Exception | None) -> None:
        self.unrecorded -= 1
        self._told(ending, what)
