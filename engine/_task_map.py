"""Results of ``engine.map`` where each item is a task: a bounded window of them over any iterable."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from . import _checks
from ._map import MapResults, Row, checked_window, row_source
from ._states import TaskState
from .errors import EngineClosed, EngineFull

if TYPE_CHECKING:
    from ._records import Call
    from ._submit import Submitter
    from ._task import Task

__all__ = ["TaskMap"]

T = TypeVar("T")


class TaskMap(MapResults[T]):
    """Results of a map whose items are tasks of their own."""

    def __init__(
        self,
        engine: Submitter,
        fn: Callable[..., Any],
        iterables: tuple[Any, ...],
        *,
        ordered: bool,
        window: int | None,
        return_exceptions: bool,
    ) -> None:
        self._tasks: dict[Task[Any], None] = {}  # in order of submission
        self._engine = engine
        self._call: Call = engine._call(fn)
        self._ordered = _checks.flag("ordered", ordered)
        self._return_exceptions = _checks.flag("return_exceptions", return_exceptions)
        self._window = checked_window(window, engine._core.size(self._call.lane))
        self._rows = row_source(iterables)
        self._kept: Row | None = None
        self._exhausted = False
        self._refused: Exception | None = None  #: the engine stops, or the source failed: raised behind what was read
        self._pull: asyncio.Task[Row | None] | None = None
        self._finished: deque[Task[Any]] = deque()
        self._something: asyncio.Future[None] | None = None  #: readers that wait look again when it is done
        self._told = _weakly(self._on_done)  # or the tasks would keep us, and dropping us would not cancel them

    async def __anext__(self) -> T:
        given = False
        try:
            while True:
                room = self._fill()
                if given and not room:
                    self._engine._core.pass_room_on()  # we may not have used what we were given
                task = self._next_done()
                if task is not None:
                    return self._take(task)
                if not self._tasks and self._exhausted:
                    raise StopAsyncIteration if self._refused is None else self._refused
                given = await self._wait(room)
        except BaseException:
            await self.aclose()
            raise

    def _fill(self) -> bool:
        """Submit until the window is full; True if the engine has no room for more."""
        while not self._exhausted and len(self._tasks) < self._window:
            if self._engine._core.registry.is_full():
                return True
            try:
                row = self._next_row()
            except Exception as error:  # its turn comes behind what was read before
                self._exhausted, self._refused = True, error
                return False
            if row is None:
                return False
            try:
                task = self._engine._core.scheduler.admission.submit(self._call, row, None)
            except EngineFull:  # somebody else took the room: keep the row for the next time
                self._kept = row
                return True
            except EngineClosed as error:  # it drains, and waits for what is in the window
                self._exhausted, self._refused = True, error
                return False
            self._tasks[task] = None
            if not self._ordered:
                task.add_done_callback(self._told)
        return False

    def _next_row(self) -> Row | None:
        """Return the next row; None when the source is exhausted or (asynchronous) has nothing yet."""
        if self._kept is not None:
            row, self._kept = self._kept, None
            return row
        if isinstance(self._rows, AsyncIterator):
            if self._pull is None:
                self._pull = asyncio.get_running_loop().create_task(_pulled(self._rows))
            if not self._pull.done():
                return None
            pull, self._pull = self._pull, None
            pulled = pull.result()
        else:
            try:
                pulled = next(self._rows, None)
            except StopAsyncIteration as error:  # from us it would be the end of the map
                raise RuntimeError("expected an item or the end of map's source, got StopAsyncIteration") from error
        if pulled is None:
            self._exhausted = True
        return pulled

    def _next_done(self) -> Task[Any] | None:
        if not self._ordered:
            return self._finished.popleft() if self._finished else None
        head = next(iter(self._tasks), None)
        return head if head is not None and head.done() else None

    def _take(self, task: Task[Any]) -> T:
        del self._tasks[task]
        self._wake()  # another reader may fill the window, or be at the end
        if self._return_exceptions and task._state is not TaskState.COMPLETED:
            error: Any = task._make_cancelled_error() if task.cancelled() else task.exception()
            return error  # type: ignore[no-any-return]  # with return_exceptions the caller asked for a mixture
        result: T = task.result()
        return result

    async def _wait(self, room: bool) -> bool:
        """Wait until there may be something to do: a result, a row, or room. True: we were given room."""
        waiters = self._engine._core.scheduler.waiters
        lender = waiters.lend() if self._tasks or room else None  # first: see Submitter._submit_when_room
        try:
            return await self._wait_lending(room)
        finally:
            waiters.reclaim(lender)

    async def _wait_lending(self, room: bool) -> bool:
        head = next(iter(self._tasks), None)
        if self._ordered and head is not None and self._pull is None and not room:
            await _until_done(head)
            return False
        if self._something is None:
            self._something = asyncio.get_running_loop().create_future()
        waiters: list[Any] = [self._something]
        if self._ordered and head is not None:
            waiters.append(head)
        elif self._finished:
            return False
        if self._pull is not None and len(self._tasks) < self._window:
            waiters.append(self._pull)
        core = self._engine._core
        mine = core.room() if room else None
        if mine is not None:
            core.pass_room_on()
            waiters.append(mine)
        try:
            await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            if mine is not None and mine.done():
                core.pass_room_on()  # the room we were given is somebody else's now
            raise
        finally:
            given = mine is not None and not mine.cancel()
        return given

    def _on_done(self, task: Task[Any]) -> None:
        if task in self._tasks:
            self._finished.append(task)
            self._wake()

    def _wake(self) -> None:
        something, self._something = self._something, None
        if something is not None:
            something.set_result(None)

    def _cancel_window(self) -> None:
        tasks, self._tasks = list(self._tasks), {}
        self._exhausted, self._refused = True, None
        self._finished.clear()
        for task in tasks:
            task.cancel()
            task._forgive()  # whoever drops the window does not want to hear of its failures
        self._wake()

    async def aclose(self) -> None:
        """Cancel what is in the window and close the source. Idempotent."""
        self._cancel_window()
        rows, self._rows = self._rows, iter(())  # each reader comes here, and a generator cannot be closed by two
        pull, self._pull = self._pull, None
        if pull is not None:
            pull.cancel()
            await asyncio.wait([pull])
        if isinstance(rows, AsyncIterator) and hasattr(rows, "aclose"):
            await rows.aclose()

    def __del__(self) -> None:
        try:  # the collector may be running inside one of our critical sections: take no lock here
            if self.__dict__.get("_tasks"):
                self._engine._core.loop.call_soon_threadsafe(self._cancel_window)
            pull = self.__dict__.get("_pull")
            if pull is not None:
                pull.get_loop().call_soon_threadsafe(pull.cancel)
        except RuntimeError:  # the loop is closed, and nothing of it runs any more
            pass


def _weakly(method: Callable[[Task[Any]], None]) -> Callable[[Task[Any]], None]:
    reference = weakref.WeakMethod(method)

    def call(task: Task[Any]) -> None:
        if (found := reference()) is not None:
            found(task)

    return call


async def _pulled(rows: AsyncIterator[Row]) -> Row | None:
    return await anext(rows, None)


async def _until_done(task: Task[Any]) -> None:
    """Wait for ``task`` without raising its outcome: that is looked at when its turn comes."""
    done = asyncio.get_running_loop().create_future()

    def wake(_: object) -> None:
        if not done.done():
            done.set_result(None)

    task.add_done_callback(wake)
    await done
