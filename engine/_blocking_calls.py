"""submit, run, map, options and group for plain threads."""

from __future__ import annotations

import concurrent.futures
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Never, ParamSpec, TypeVar, overload

from ._latch import Latch
from ._options import NOT_SAID, NotSaid, merge_options
from ._states import Lane
from ._submit import Submitter
from ._task import Task
from .errors import EngineFull
from .retry import Retry

if TYPE_CHECKING:
    from ._blocking_group import BlockingTaskGroup
    from ._blocking_map import BlockingMap
    from ._core import Core
    from ._scheduler import Scheduler
    from ._shared import Shared
    from .futures import EngineExecutor

__all__ = ["BlockingCalls", "refuse_to_block", "wait_anywhere", "wait_for_room"]

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")


class BlockingCalls:
    """submit, run, map, options and group for plain threads; what BlockingEngine and its views share."""

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
            wait_anywhere(task)
            return task.result()
        except BaseException:
            task.cancel()
            raise

    def _submit_when_room(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Task[Any]:
        while True:
            try:
                return self._inner._submit_at_home(fn, args, kwargs)
            except EngineFull:
                pass
            wait_for_room(self._inner._core)

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
        ordered: bool = True, window: int | None = None, return_exceptions: bool = False, **others: Any,
    ) -> BlockingMap[Any]:  # fmt: skip
        """Call ``fn`` on each item and iterate over the results, as ``Engine.map`` does, with a plain ``for``.

        The iterables are read on the calling thread, asynchronous ones on the engine's private loop. Which item failed:
        ``zip(items, engine.map(fn, items, return_exceptions=True))``, since results come in the order of the items.
        One thread at a time may read it; another one that tries meanwhile gets a RuntimeError.
        """
        from ._blocking_chunked_map import BlockingChunkedMap
        from ._blocking_task_map import BlockingTaskMap
        from ._chunked_map import chunks_of_map
        from ._map import refuse_others

        refuse_others(others)
        chunks = chunks_of_map(
            self._inner._core, self._inner._call(fn), iterables, ordered=ordered, window=window,
            return_exceptions=return_exceptions, cancelled=concurrent.futures.CancelledError,
        )  # fmt: skip
        if chunks is not None:
            return BlockingChunkedMap(self._inner._core, chunks)
        return BlockingTaskMap(self, fn, iterables, ordered=ordered, window=window, return_exceptions=return_exceptions)

    def options(
        self, *, lane: Lane | str | NotSaid | None = NOT_SAID, timeout: float | NotSaid | None = NOT_SAID,
        total_timeout: float | NotSaid | None = NOT_SAID, retry: Retry | NotSaid | None = NOT_SAID,
        priority: int | NotSaid | None = NOT_SAID, grace: float | NotSaid | None = NOT_SAID,
        name: str | NotSaid | None = NOT_SAID, **others: Never,
    ) -> BlockingCalls:  # fmt: skip
        """Return the same engine with these options for what is submitted through it, as ``Engine.options`` does."""
        given = {"lane": lane, "timeout": timeout, "total_timeout": total_timeout, "retry": retry,
                 "priority": priority, "grace": grace, "name": name, **others}  # fmt: skip
        return BlockingCalls(self._inner._view(merge_options(self._inner._options, given)))

    def share(self, obj: T) -> Shared[T]:
        """Put ``obj`` into memory that any number of tasks read without a copy, as ``Engine.share`` does."""
        return self._inner.share(obj)

    def executor(self, lane: Lane | str = Lane.PROCESS) -> EngineExecutor:
        """Return a ``concurrent.futures.Executor`` over ``lane`` of this engine, as ``Engine.executor`` does."""
        from .futures._executor import executor_of

        return executor_of(self, lane)

    def group(self) -> BlockingTaskGroup:
        """Return a structured group for a plain ``with``; see ``Engine.group``."""
        from ._blocking_group import BlockingTaskGroup

        return BlockingTaskGroup(self._inner)

    def __repr__(self) -> str:
        return f"<Blocking{repr(self._inner)[1:]}"

    def _repr_html_(self) -> str:
        from ._html import html_of_engine

        return html_of_engine(self, self._inner)


def wait_for_room(core: Core) -> None:
    """Wait on this thread until a submit may find room, after one was refused."""
    refuse_to_block(core.scheduler)
    opened = Latch()
    lender = core.scheduler.waiters.lend()  # first: where it refuses, no room must be kept for us
    with core.registry.lock:
        core.registry.room_waiters[opened.set] = None
    try:
        core.pass_room_on()  # room may have opened between the refusal and our registration
        core.scheduler.wait(opened)
    except BaseException:
        core.no_room_for(opened.set)
        if opened.is_set():
            core.pass_room_on()  # the room we were given is somebody else's now
        raise
    finally:
        core.scheduler.waiters.reclaim(lender)


def refuse_to_block(scheduler: Scheduler) -> None:
    """Raise where waiting would block the engine's own loop, and so wait for ever.

    Raises:
        RuntimeError: it runs here, in a callback or a coroutine.
    """
    if scheduler.home.is_here():
        raise RuntimeError(
            "expected a call from another thread than the engine's own loop, which it would block; "
            "use submit and a callback, or await the task in a coroutine"
        )


def wait_anywhere(task: Task[Any], *, lends: bool = True) -> None:
    """Wait for ``task`` on this thread, also where a loop runs (a notebook): the engine's own loop turns elsewhere."""
    if task.done():
        return
    refuse_to_block(task._scheduler)
    done = Latch()
    if task._scheduler.waiters.add(task, done.set, waits=lends):
        task._wait_for(done)
