"""The same engine for code without an event loop: its loop runs in a private thread.

Guarantees
    The private loop lives from ``__enter__`` to the end of ``stop``; every method may be called from any thread but
    that loop's own. Waiting happens on the caller's thread, on an Event or a queue that the settling thread fills.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from . import _checks
from ._map import checked_window, row_source
from ._options import merge_options
from ._states import Lane, TaskState
from ._submit import EngineView, Submitter
from ._task import Task
from .errors import EngineFull
from .retry import Retry

if TYPE_CHECKING:
    from ._core import Core
    from ._engine import Engine
    from ._records import TaskInfo
    from ._snapshot import Snapshot
    from ._stop import ShutdownReport

__all__ = ["BlockingEngine", "BlockingTaskGroup"]

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")


class BlockingCalls:
    """submit, run, map, options and group for plain threads; shared by BlockingEngine and its views."""

    def __init__(self, inner: Submitter) -> None:
        self._inner = inner

    @overload
    def submit(self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]: ...
    @overload
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]: ...
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Task[Any]:
        """Accept one call and return its Task at once, as ``Engine.submit`` does."""
        return self._inner.submit(fn, *args, **kwargs)

    @overload
    def run(self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    def run(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    def run(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Wait for room, submit, wait for the result and return it. An interrupted wait cancels the task."""
        task = self._submit_when_room(fn, args, kwargs)
        try:
            return _result_anywhere(task)
        except BaseException:
            task.cancel()
            raise

    def _submit_when_room(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Task[Any]:
        core = self._inner._core
        while True:
            try:
                return self._inner.submit(fn, *args, **kwargs)
            except EngineFull:
                opened = threading.Event()
            with core.registry.lock:
                core.registry.room_waiters.append(opened.set)
            core.pass_room_on()  # room may have opened between the refusal and our registration
            opened.wait()

    @overload
    def map(
        self, fn: Callable[[A], Coroutine[Any, Any, T]], iterable: Iterable[A] | AsyncIterable[A], /, *,
        ordered: bool = True, window: int | None = None,
    ) -> BlockingMap[T]: ...  # fmt: skip
    @overload
    def map(
        self, fn: Callable[[A], T], iterable: Iterable[A] | AsyncIterable[A], /, *,
        ordered: bool = True, window: int | None = None,
    ) -> BlockingMap[T]: ...  # fmt: skip
    @overload
    def map(
        self, fn: Callable[..., Any], /, *iterables: Iterable[Any] | AsyncIterable[Any],
        ordered: bool = True, window: int | None = None, return_exceptions: bool = False,
    ) -> BlockingMap[Any]: ...  # fmt: skip
    def map(
        self, fn: Callable[..., Any], /, *iterables: Iterable[Any] | AsyncIterable[Any],
        ordered: bool = True, window: int | None = None, return_exceptions: bool = False,
    ) -> BlockingMap[Any]:  # fmt: skip
        """Call ``fn`` on each item and iterate over the results, as ``Engine.map`` does, with a plain ``for``.

        The iterables are read on the calling thread, asynchronous ones on the engine's private loop.
        """
        return BlockingMap(self, fn, iterables, ordered=ordered, window=window, return_exceptions=return_exceptions)

    def options(
        self, *, lane: Lane | str | None = None, timeout: float | None = None, total_timeout: float | None = None,
        retry: Retry | None = None, priority: int | None = None, grace: float | None = None, name: str | None = None,
    ) -> BlockingCalls:  # fmt: skip
        """Return the same engine with these options for what is submitted through it, as ``Engine.options`` does."""
        given = {"lane": lane, "timeout": timeout, "total_timeout": total_timeout, "retry": retry,
                 "priority": priority, "grace": grace, "name": name}  # fmt: skip
        inner = self._inner
        return BlockingCalls(EngineView(inner, inner._calls, merge_options(inner._options, given)))

    def group(self) -> BlockingTaskGroup:
        """Return a structured group for a plain ``with``; see ``Engine.group``."""
        return BlockingTaskGroup(self)


class BlockingEngine(BlockingCalls):
    """An Engine whose methods block instead of being awaited. ``with Engine() as engine:`` makes one."""

    def __init__(self, engine: Engine | None = None, **settings: Any) -> None:
        from ._engine import Engine as AsyncEngine

        self._engine = engine if engine is not None else AsyncEngine(**settings)
        super().__init__(self._engine)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_lock = threading.Lock()
        self._report: ShutdownReport | None = None

    def __enter__(self) -> BlockingEngine:
        if self._thread is not None:
            raise RuntimeError("expected an engine that has not been started, got one that was; create a new Engine")
        ready: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        name = f"{self._engine._settings.name}-loop"
        self._thread = threading.Thread(target=self._run_loop, args=(ready,), name=name, daemon=True)
        self._thread.start()
        error = ready.get()
        if error is not None:
            self._thread.join()
            raise error
        return self

    def _run_loop(self, ready: queue.SimpleQueue[BaseException | None]) -> None:
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            try:
                runner.run(self._start())
            except BaseException as error:  # handed to the thread that waits in __enter__
                ready.put(error)
                return
            self._loop = loop
            ready.put(None)
            loop.run_forever()

    async def _start(self) -> None:
        await self._engine.start()

    def stop(self, timeout: float | None = None, *, cancel_pending: bool = False) -> ShutdownReport:
        """Stop as ``Engine.stop`` does, and end the private loop. Idempotent; any thread."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            raise RuntimeError(
                "expected an engine that was started, got one that was not; use 'with Engine() as engine:'"
            )
        with self._stop_lock:
            if self._report is not None:
                return self._report
        report = self._on_loop(self._engine.stop(timeout, cancel_pending=cancel_pending))
        with self._stop_lock:
            if self._report is None:
                self._report = report
                loop.call_soon_threadsafe(loop.stop)
        if thread is not threading.current_thread():
            thread.join()
        return report

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop(timeout=None if error is None else 0)

    def _on_loop(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("expected a call from another thread than the engine's own loop, which it would block")
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def tasks(self, *, state: TaskState | str | None = None, name: str | None = None) -> list[TaskInfo]:
        """Return pictures of the live tasks and the remembered finished ones, oldest first."""
        return self._engine.tasks(state=state, name=name)

    def get(self, task_id: int) -> TaskInfo | None:
        """Return a picture of one task, None if there is none or it is forgotten."""
        return self._engine.get(task_id)

    def cancel(self, *, id: int | None = None, name: str | None = None) -> int:
        """Cancel the live tasks with this id or name; return how many there were."""
        return self._engine.cancel(id=id, name=name)

    def snapshot(self) -> Snapshot:
        """Return counts, workers and queues at this instant."""
        return self._engine.snapshot()

    def stacks(self) -> dict[str, str]:
        """Return what every worker process and thread, and every coroutine, is doing now."""
        return self._engine.stacks()

    def warm_up(self) -> None:
        """Start every worker process now, and return when all are ready."""
        self._on_loop(self._engine.warm_up())

    def restart_workers(self) -> None:
        """Replace every worker process: the idle ones now, the busy ones when their task is over."""
        self._on_loop(self._engine.restart_workers())

    def __repr__(self) -> str:
        return f"<Blocking{repr(self._engine)[1:]}"

    def __reduce__(self) -> Any:
        return self._engine.__reduce__()


class BlockingMap(Generic[T]):
    """An iterator of results. ``break``, ``close`` or dropping it cancels what is in its window."""

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
        self._tasks: dict[Task[Any], None] = {}
        self._engine = engine
        self._fn = fn
        call = engine._inner._calls.of(fn, engine._inner._options)
        self._core: Core = engine._inner._core
        self._ordered = _checks.flag("ordered", ordered)
        self._return_exceptions = _checks.flag("return_exceptions", return_exceptions)
        self._window = checked_window(window, self._core.sizes[call.lane])
        rows = row_source(iterables)
        self._rows = _pulled_on(rows, self._core.loop) if isinstance(rows, AsyncIterator) else rows
        self._finished: queue.SimpleQueue[Task[Any]] = queue.SimpleQueue()
        self._kept: deque[tuple[Any, ...]] = deque()
        self._exhausted = False

    def __iter__(self) -> BlockingMap[T]:
        return self

    def __next__(self) -> T:
        try:
            self._fill()
            if not self._tasks:
                raise StopIteration
            task = next(iter(self._tasks)) if self._ordered else self._finished.get()
            _wait_anywhere(task)
            del self._tasks[task]
            if self._return_exceptions and task._state is not TaskState.COMPLETED:
                error: Any = task._make_cancelled_error() if task.cancelled() else task.exception()
                return error  # type: ignore[no-any-return]  # with return_exceptions the caller asked for a mixture
            result: T = task.result()
            return result
        except BaseException:
            self.close()
            raise

    def _fill(self) -> None:
        while not self._exhausted and len(self._tasks) < self._window:
            if self._tasks and self._core.registry.is_full():
                return
            row = self._kept.popleft() if self._kept else next(self._rows, None)
            if row is None:
                self._exhausted = True
                return
            try:
                task = self._engine.submit(self._fn, *row)
            except EngineFull:
                if self._tasks:
                    self._kept.append(row)
                    return
                task = self._engine._submit_when_room(self._fn, row, {})
            self._tasks[task] = None
            if not self._ordered and not self._core.scheduler.add_waiter(task, self._finished.put, None, None):
                self._finished.put(task)

    def close(self) -> None:
        """Cancel what is in the window. Idempotent."""
        tasks, self._tasks = list(self._tasks), {}
        self._exhausted = True
        for task in tasks:
            task.cancel()
            task._retrieved = True  # whoever drops the window does not want to hear of its failures

    def __del__(self) -> None:
        if self.__dict__.get("_tasks"):
            self.close()


class BlockingTaskGroup:
    """Made by ``group()``: leaving the block waits for every task; a failure cancels the siblings."""

    def __init__(self, engine: BlockingCalls) -> None:
        self._engine = engine
        self._tasks: list[Task[Any]] = []
        self._lock = threading.Lock()
        self._failed = False
        self._closed = False

    def __enter__(self) -> BlockingTaskGroup:
        return self

    @overload
    def submit(self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]: ...
    @overload
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]: ...
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Task[Any]:
        """Submit as the engine does, owned by this group.

        Raises:
            RuntimeError: the group has been left, or one of its tasks has failed already.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("expected the group to be open, got one that was left; submit inside its block")
            if self._failed:
                raise RuntimeError("expected the group to be healthy, got one that cancels its tasks after a failure")
        task: Task[Any] = self._engine.submit(fn, *args, **kwargs)
        with self._lock:
            self._tasks.append(task)
        if not self._engine._inner._core.scheduler.add_waiter(task, self._settled, None, None):
            self._settled(task)
        return task

    def _settled(self, task: Task[Any]) -> None:
        if task._state is TaskState.FAILED:
            with self._lock:
                self._failed = True
            self._cancel_all()

    def _cancel_all(self) -> None:
        with self._lock:
            tasks = list(self._tasks)
        for task in tasks:
            task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self._cancel_all()
        errors: list[BaseException] = []
        seen = 0
        while seen < len(self._tasks):
            task = self._tasks[seen]
            seen += 1
            _wait_anywhere(task)
            over = threading.Event()
            if self._engine._inner._core.scheduler.when_over(task, over.set):
                over.wait()
            if task._state is TaskState.FAILED:
                failure = task.exception()
                assert failure is not None
                errors.append(failure)
        with self._lock:
            self._closed = True
        if error is not None and not isinstance(error, Exception):
            return  # KeyboardInterrupt and the like go on as they are
        if error is not None:
            errors.append(error)
        if errors:
            raise BaseExceptionGroup(f"{len(errors)} task(s) of the group failed", errors)


def _pulled_on(rows: AsyncIterator[tuple[Any, ...]], loop: asyncio.AbstractEventLoop) -> Iterator[tuple[Any, ...]]:
    async def pull() -> tuple[Any, ...] | None:
        return await anext(rows, None)

    while (row := asyncio.run_coroutine_threadsafe(pull(), loop).result()) is not None:
        yield row


def _wait_anywhere(task: Task[Any]) -> None:
    """Wait for ``task`` on this thread, also where a loop runs (a notebook): the engine's own loop turns elsewhere."""
    if task.done():
        return
    done = threading.Event()
    if task._scheduler.add_waiter(task, lambda _: done.set(), None, None):
        done.wait()


def _result_anywhere(task: Task[T]) -> T:
    _wait_anywhere(task)
    return task.result()
