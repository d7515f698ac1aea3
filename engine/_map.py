"""Results of ``engine.map``: a bounded window of tasks over any iterable."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from . import _checks
from ._states import TaskState
from .errors import EngineClosed, EngineFull

if TYPE_CHECKING:
    from ._records import Call
    from ._submit import Submitter
    from ._task import Task

__all__ = ["MapResults", "default_window", "row_source"]

T = TypeVar("T")
Row = tuple[Any, ...]

_END = object()


def default_window(slots: int) -> int:
    """Return how many items to have in hand for ``slots`` slots: enough that none waits for the consumer."""
    return max(32, 4 * slots)


def checked_window(window: int | None, slots: int) -> int:
    """Return ``window`` checked, or the default."""
    return default_window(slots) if window is None else _checks.positive_int("window", window)


def row_source(iterables: tuple[Any, ...]) -> Iterator[Row] | AsyncIterator[Row]:
    """Return one iterator of argument rows over several iterables, asynchronous if one of them is.

    Raises:
        TypeError: there is none, or one is not iterable.
    """
    if not iterables:
        raise TypeError("expected map to get at least one iterable, got none")
    for iterable in iterables:
        if not any(hasattr(iterable, method) for method in ("__aiter__", "__iter__", "__getitem__")):
            raise TypeError(f"expected map to get iterables, got {_checks.shown(iterable)}")
    if any(isinstance(iterable, AsyncIterable) for iterable in iterables):
        return _async_rows(iterables)
    return zip(*iterables, strict=False)


async def _async_rows(iterables: tuple[Iterable[Any] | AsyncIterable[Any], ...]) -> AsyncIterator[Row]:
    """Draw rows; when that ends or is broken off, close the sources, so that a map over a map cancels both windows."""
    sources = [aiter(i) if isinstance(i, AsyncIterable) else iter(i) for i in iterables]
    try:
        while True:
            row = []
            for source in sources:
                item = await _next_item(source)
                if item is _END:
                    return
                row.append(item)
            yield tuple(row)
    finally:
        for source in sources:
            if isinstance(source, AsyncIterator) and hasattr(source, "aclose"):
                await source.aclose()


async def _next_item(source: Iterator[Any] | AsyncIterator[Any]) -> Any:
    """Return the next item, or _END. What ends the other kind of iterator is an error, as in a generator."""
    if not isinstance(source, AsyncIterator):
        return next(source, _END)
    try:
        return await anext(source)
    except StopAsyncIteration:
        return _END


class MapResults(Generic[T]):
    """An asynchronous iterator of results. ``break``, ``aclose`` or dropping it cancels what is in its window.

    Several coroutines of one loop may read it: each result goes to one of them, and all come to its end. It ends for
    all when one of them gets an error or is cancelled, or somebody closes it.
    """

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
        self._refused: EngineClosed | None = None  #: the engine stops: what was submitted is given, then this is raised
        self._pull: asyncio.Task[Row | None] | None = None
        self._finished: deque[Task[Any]] = deque()
        self._something: asyncio.Future[None] | None = None  #: readers that wait look again when it is done
        self._told = _weakly(self._on_done)  # or the tasks would keep us, and dropping us would not cancel them

    def __aiter__(self) -> MapResults[T]:
        return self

    if not TYPE_CHECKING:  # where types are checked, the missing method says it

        def __iter__(self):
            raise TypeError(
                "expected 'async for' over engine.map(...), got a plain iteration; use "
                "'[r async for r in engine.map(...)]', or BlockingEngine, whose map is a plain iterator"
            )

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
            row = self._next_row()
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
            pulled, self._pull = self._pull.result(), None
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
        self._exhausted = True
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
