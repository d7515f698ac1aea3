"""Results of a BlockingEngine's ``map`` where items of a quick function travel many at a time."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, TypeVar

from ._blocking_calls import refuse_to_block, wait_for_room
from ._blocking_map import BlockingMap
from ._chunks import Chunks
from ._latch import Latch

if TYPE_CHECKING:
    from ._core import Core

__all__ = ["BlockingChunkedMap"]

T = TypeVar("T")

AT_A_TIME = 1024  #: results


class BlockingChunkedMap(BlockingMap[T]):
    """Results of a map whose items travel in chunks."""

    def __init__(self, core: Core, chunks: Chunks) -> None:
        super().__init__()
        self._core = core
        self._chunks = chunks
        self._ready: deque[T] = deque()

    def __next__(self) -> T:
        """Return the next result, as ``BlockingMap`` does."""
        try:
            return self._ready.popleft()
        except IndexError:  # and nothing more in here: it would become the context of what is raised
            pass
        return super().__next__()

    def _next(self) -> T:
        chunks, ready = self._chunks, self._ready
        try:
            while not ready:
                has_no_room = chunks.fill()
                ready.extend(chunks.take(AT_A_TIME))
                if ready:
                    break
                if chunks.is_done():
                    raise StopIteration if chunks.refused is None else chunks.refused
                if has_no_room and chunks.is_empty():
                    wait_for_room(self._core)
                else:
                    self._wait()
            try:
                return ready.popleft()
            except IndexError:  # another thread has closed us
                raise StopIteration from None
        except BaseException:
            self.close()
            raise

    def _wait(self) -> None:
        """Wait until there is more; meanwhile the task that runs here, if one does, lends its slot."""
        refuse_to_block(self._core.scheduler)
        waiters = self._core.scheduler.waiters
        progress = Latch()
        lender = waiters.lend()
        try:
            if self._chunks.wake_once(progress.set):
                progress.wait()
        finally:
            self._chunks.forget_waker(progress.set)
            waiters.reclaim(lender)

    def close(self) -> None:
        """Cancel what is in the window. Idempotent."""
        self._ready.clear()
        self._chunks.close()

    def __del__(self) -> None:
        chunks = self.__dict__.get("_chunks")
        if chunks is not None:
            chunks.let_go()
