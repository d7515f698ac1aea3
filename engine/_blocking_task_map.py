"""Results of a BlockingEngine's ``map`` where each item is a task: a bounded window, read on the calling thread."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from . import _checks
from ._blocking import run_on
from ._blocking_calls import BlockingCalls, refuse_to_block, wait_anywhere
from ._blocking_map import BlockingMap
from ._map import checked_window, row_source
from ._states import TaskState
from ._task import Task
from .errors import EngineClosed, EngineFull

if TYPE_CHECKING:
    from ._core import Core

__all__ = ["BlockingTaskMap"]

T = TypeVar("T")

_CLOSED = object()


class BlockingTaskMap(BlockingMap[T]):
    """Results of a map whose items are tasks of their own."""

    def __init__(
        self,
        engine: BlockingCalls,
        fn: Callable[..., Any],
        iterables: tuple[Any, ...],
        *,
        ordered: bool,
        window: int | None,
        return_exceptions: bool,
    ) -> None:
        super().__init__()
        self._tasks: dict[Task[Any], None] = {}
        self._engine = engine
        self._fn = fn
        call = engine._inner._call(fn)
        self._core: Core = engine._inner._core
        self._ordered = _checks.flag("ordered", ordered)
        self._return_exceptions = _checks.flag("return_exceptions", return_exceptions)
        self._window = checked_window(window, self._core.size(call.lane))
        rows = row_source(iterables)
        self._rows = _pulled_on(rows, self._core) if isinstance(rows, AsyncIterator) else rows
        self._finished: queue.SimpleQueue[Task[Any]] = queue.SimpleQueue()
        self._kept: deque[tuple[Any, ...]] = deque()
        self._exhausted = False
        self._refused: Exception | None = None  #: the engine stops, or the source failed: raised behind what was read

    def _next(self) -> T:
        try:
            while True:
                self._fill()
                if not self._tasks:
                    raise StopIteration if self._refused is None else self._refused
                task = self._next_done()
                if self._tasks.pop(task, _CLOSED) is None:
                    break
            if self._return_exceptions and task._state is not TaskState.COMPLETED:
                error: Any = task._make_cancelled_error() if task.cancelled() else task.exception()
                return error  # type: ignore[no-any-return]  # with return_exceptions the caller asked for a mixture
            result: T = task.result()
            return result
        except BaseException:
            self.close()
            raise

    def _next_done(self) -> Task[Any]:
        """Wait for the task whose turn it is; meanwhile the task that runs here, if one does, lends its slot."""
        if self._ordered:
            head = next(iter(self._tasks))  # a StopIteration is right: somebody has just closed us
            wait_anywhere(head)
            return head
        refuse_to_block(self._core.scheduler)
        waiters = self._core.scheduler.waiters
        lender = waiters.lend()
        try:
            task: Task[Any] = self._core.scheduler.next_in(self._finished)
            return task
        finally:
            waiters.reclaim(lender)

    def _fill(self) -> None:
        while not self._exhausted and len(self._tasks) < self._window:
            if self._tasks and self._core.registry.is_full():
                return
            try:
                row = self._kept.popleft() if self._kept else next(self._rows, None)
            except Exception as error:  # its turn comes behind what was read before
                self._exhausted, self._refused = True, error
                return
            if row is None:
                self._exhausted = True
                return
            try:
                task = self._engine._inner._submit_at_home(self._fn, row, {})
            except EngineFull:
                if self._tasks:
                    self._kept.append(row)
                    return
                task = self._engine._submit_when_room(self._fn, row, {})
            except EngineClosed as error:  # it drains, and waits for what is in the window
                self._exhausted, self._refused = True, error
                return
            self._tasks[task] = None
            if not self._ordered and not self._core.scheduler.waiters.add(task, self._finished.put, waits=False):
                self._finished.put(task)
            if self._exhausted:  # another thread has closed us, and may have missed this task
                self.close()

    def close(self) -> None:
        """Cancel what is in the window. Idempotent."""
        self._exhausted, self._refused = True, None
        tasks, self._tasks = self._tasks, {}
        for task in list(tasks):
            task.cancel()
            task._forgive()  # whoever drops the window does not want to hear of its failures

    def __del__(self) -> None:
        if self.__dict__.get("_tasks") and not self._core.scheduler.forked:
            try:  # the collector may be running inside one of our critical sections: take no lock here
                self._core.loop.call_soon_threadsafe(self.close)
            except RuntimeError:  # the loop is closed, and nothing of it runs any more
                pass


def _pulled_on(rows: AsyncIterator[tuple[Any, ...]], core: Core) -> Iterator[tuple[Any, ...]]:
    async def pull() -> tuple[Any, ...] | None:
        return await anext(rows, None)

    while (row := run_on(core, pull())) is not None:
        yield row
