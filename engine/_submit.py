"""The calls that Engine and its views share: submit, run, map, options, group."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable
from types import BuiltinFunctionType, FunctionType
from typing import TYPE_CHECKING, Any, Never, ParamSpec, TypeVar, overload

from ._options import NOT_SAID, NotSaid, TaskOptions, decorated_options, merge_options, over, said_by, value_of
from ._records import Call
from ._routing import is_fleeting, refuse_uncallable, route
from ._states import Lane, Priority
from ._task import Task
from .errors import EngineClosed, EngineForked, EngineFull, NestedDeadlock
from .retry import Retry

if TYPE_CHECKING:
    from ._core import Core
    from ._group import TaskGroup
    from ._map import MapResults
    from ._shared import Shared
    from .futures import EngineExecutor

__all__ = ["Calls", "Submit", "Submitter"]

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")

#: Whom to tell of the end, the arguments by position and by name.
Submit = Callable[[Callable[[Task[Any]], object], tuple[Any, ...], dict[str, Any]], Task[Any]]

_CACHED_MOST = 512  #: functions whose Call is remembered; past that the memory starts anew


class Calls:
    """Turns (function, options) into a Call, checked and routed once per function."""

    def __init__(self, default_lane: Lane, grace: float) -> None:
        self._default_lane = default_lane
        self._grace = grace
        self._known: dict[TaskOptions, dict[Callable[..., Any], Call]] = {}

    def known(self, options: TaskOptions) -> dict[Callable[..., Any], Call]:
        """Return the Calls that are remembered under ``options``; for plain functions only, filled by ``of``."""
        if len(self._known) >= _CACHED_MOST:
            self._known.clear()
        return self._known.setdefault(options, {})

    def of(self, fn: Callable[..., Any], options: TaskOptions, known: dict[Callable[..., Any], Call]) -> Call:
        """Return the Call for ``fn`` under ``options``, which win over its decorator's."""
        is_plain = type(fn) is FunctionType or type(fn) is BuiltinFunctionType  # hashed without code of a user's
        call = known.get(fn) if is_plain else None
        if call is None:
            refuse_uncallable(fn)
            call = self._make(fn, over(decorated_options(fn), options))
            if is_plain and not is_fleeting(fn):
                if len(known) >= _CACHED_MOST:
                    known.clear()
                known[fn] = call
        return call

    def _make(self, fn: Callable[..., Any], options: TaskOptions) -> Call:
        priority, grace = value_of(options.priority), value_of(options.grace)
        return Call(
            fn=fn,
            lane=route(fn, value_of(options.lane), self._default_lane),
            name=value_of(options.name) or _name_of(fn),
            timeout=value_of(options.timeout),
            total_timeout=value_of(options.total_timeout),
            retry=value_of(options.retry),
            priority=priority if priority is not None else int(Priority.NORMAL),
            grace=grace if grace is not None else self._grace,
        )


def _name_of(fn: Callable[..., Any]) -> str:
    name = getattr(fn, "__qualname__", None) or getattr(getattr(fn, "func", None), "__qualname__", None)
    return name if isinstance(name, str) else type(fn).__qualname__


class Submitter:
    """An engine as seen with some options already said."""

    def __init__(self, calls: Calls, options: TaskOptions) -> None:
        self._calls = calls
        self._options = options
        self._known = calls.known(options)

    @property
    def _core(self) -> Core:
        raise NotImplementedError

    @property
    def _is_forked(self) -> bool:
        """Say whether this is a forked child, and the engine its parent's."""
        try:
            return self._core.scheduler.forked
        except EngineForked:
            return True

    def _view(self, options: TaskOptions) -> Submitter:
        raise NotImplementedError

    def _call(self, fn: Callable[..., Any]) -> Call:
        return self._calls.of(fn, self._options, self._known)

    @overload
    def submit(self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]: ...
    @overload
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]: ...
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Task[Any]:
        """Accept one call and return its Task at once. Thread-safe; never waits; every argument goes to ``fn``.

        Arguments of a process task are pickled after this returns: do not change them until the task is done.

        Raises:
            EngineFull: ``max_pending`` tasks wait already; ``run`` and ``map`` wait for room instead.
            EngineClosed: the engine has not started, stops, or has stopped.
            TypeError: ``fn`` is not callable, or the lane asked for cannot run it.
        """
        call = self._known.get(fn) if type(fn) is FunctionType else None  # else hashing it may be code of a user's
        return self._core.scheduler.admission.submit(call or self._call(fn), args, kwargs or None)

    def _submitting(self, fn: Callable[..., Any]) -> Submit:
        """Return what submits ``fn`` again and again, and tells of each end at once, on whichever thread that comes.

        What it is to tell must be one of ours: quick and safe. It may be told before the submit returns.
        """
        call = self._call(fn)

        def submit(told: Callable[[Task[Any]], object], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Task[Any]:
            return self._core.scheduler.admission.submit(call, args, kwargs or None, waiter=(told, None, None, None))

        return submit

    def _submit_at_home(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Task[Any]:
        """Submit what this thread is going to wait for: a loop that runs here, as in a notebook, turns no more."""
        return self._core.scheduler.admission.submit(self._call(fn), args, kwargs or None, at_home=True)

    @overload
    async def run(self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    async def run(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    async def run(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Wait for room, submit, and wait for the result. Cancelling it cancels the task."""
        call = self._call(fn)
        task = await self._submit_when_room(call, args, kwargs or None)
        try:
            return await task
        except NestedDeadlock:  # perhaps of our own wait: then nobody else has this task
            task.cancel()
            raise

    async def _submit_when_room(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> Task[Any]:
        core = self._core
        while True:
            try:
                return core.scheduler.admission.submit(call, args, kwargs)
            except EngineFull:
                pass
            lender = core.scheduler.waiters.lend()  # first: where it refuses, no room must be kept for us
            room = core.room()
            try:
                core.pass_room_on()  # room may have opened between the refusal and our registration
                await room
            except BaseException:
                if room.done() and not room.cancelled():
                    core.pass_room_on()  # the room we were given is somebody else's now
                raise
            finally:
                core.scheduler.waiters.reclaim(lender)

    @overload
    def map(
        self, fn: Callable[[A], Coroutine[Any, Any, T]], iterable: Iterable[A] | AsyncIterable[A], /, *,
        ordered: bool = True, window: int | None = None,
    ) -> MapResults[T]: ...  # fmt: skip
    @overload
    def map(
        self, fn: Callable[[A], T], iterable: Iterable[A] | AsyncIterable[A], /, *,
        ordered: bool = True, window: int | None = None,
    ) -> MapResults[T]: ...  # fmt: skip
    @overload
    def map(
        self, fn: Callable[..., Any], /, *iterables: Iterable[Any] | AsyncIterable[Any],
        ordered: bool = True, window: int | None = None, return_exceptions: bool = False,
    ) -> MapResults[Any]: ...  # fmt: skip
    def map(
        self, fn: Callable[..., Any], /, *iterables: Iterable[Any] | AsyncIterable[Any],
        ordered: bool = True, window: int | None = None, return_exceptions: bool = False, **others: Any,
    ) -> MapResults[Any]:  # fmt: skip
        """Call ``fn`` on each item and iterate over the results: ``async for r in engine.map(fn, items)``.

        Several iterables go side by side, as with the built-in ``map``. They may be infinite or asynchronous; at most
        ``window`` items are read ahead of the results you have taken (default: four per slot, at least 32, and of
        quick process calls as many as take some milliseconds). There is no chunk size to choose: quick calls travel
        many at a time by themselves, as one task, and each has its own result or error all the same, but for a crash:
        what had ended in the last 5 ms and was not answered fails with the item that killed the worker. With a
        timeout, a retry, ``max_tasks_per_worker`` or an asynchronous source, each item is a task. A plain iterator is
        read on the event loop: one that blocks belongs in an async iterable.

        ``ordered=False`` gives results as they come. The first failure is raised and cancels the rest, unless
        ``return_exceptions`` gives it as a result. An error of the source itself is raised behind the results of what
        was read before it. ``break`` cancels what is in the window. Several coroutines of one loop may read one map:
        each result goes to one of them.
        """
        from ._chunked_map import ChunkedMap, chunks_of_map
        from ._map import refuse_others
        from ._task_map import TaskMap

        refuse_others(others)
        chunks = chunks_of_map(
            self._core, self._call(fn), iterables, ordered=ordered, window=window,
            return_exceptions=return_exceptions, cancelled=asyncio.CancelledError,
        )  # fmt: skip
        if chunks is not None:
            return ChunkedMap(self, chunks)
        return TaskMap(self, fn, iterables, ordered=ordered, window=window, return_exceptions=return_exceptions)

    def options(
        self, *, lane: Lane | str | NotSaid | None = NOT_SAID, timeout: float | NotSaid | None = NOT_SAID,
        total_timeout: float | NotSaid | None = NOT_SAID, retry: Retry | NotSaid | None = NOT_SAID,
        priority: int | NotSaid | None = NOT_SAID, grace: float | NotSaid | None = NOT_SAID,
        name: str | NotSaid | None = NOT_SAID, **others: Never,
    ) -> Submitter:  # fmt: skip
        """Return the same engine with these options for what is submitted through it.

        They win over the function's decorator; what is not said here stays as it was, and None is the default again:
        ``timeout=None`` takes back a decorator's timeout.

        Args:
            lane: "process", "thread" or "loop"; by default the kind of function and ``default_lane`` decide.
            timeout: seconds for each attempt, from its start.
            total_timeout: seconds from submit to the end, over queueing, all attempts and the pauses between them.
            retry: a ``Retry``; without one there is one attempt.
            priority: ``Priority`` or an int from -1000 to 1000, higher first; first in, first out within one.
            grace: seconds between asking the task to stop and killing or abandoning it; by default the engine's.
            name: what ``tasks()``, logs and errors call it; by default the function's qualified name.

        Raises:
            ValueError: a value is out of range.
        """
        given = {"lane": lane, "timeout": timeout, "total_timeout": total_timeout, "retry": retry,
                 "priority": priority, "grace": grace, "name": name, **others}  # fmt: skip
        return self._view(merge_options(self._options, given))

    def share(self, obj: T) -> Shared[T]:
        """Put ``obj`` into memory that any number of tasks read without a copy; give them the Shared in its place.

        ``engine.submit(fn, shared)``: ``fn`` gets the object itself, in every lane, with arrays that are read-only.
        What is shared is the contents of contiguous arrays and other buffers of 64 KiB and more (pickle protocol 5), of
        any shape and total size. The rest (strided arrays, arrays of dates, subclasses of arrays) is pickled once, and
        rebuilt in each task as its own. ``bytes`` and ``bytearray`` are copied into each task; share a ``memoryview``
        of them to have no copy.

        It is a snapshot: later changes of ``obj`` are not seen. Any thread. It blocks for about 0.4 ms for each MB,
        mostly without the GIL: in a coroutine, ``await asyncio.to_thread(engine.share, obj)`` for what is big. A task
        maps it in 0.1 ms, and touches a MB for the first time in another 0.1 ms.

        Raises:
            PickleError: it cannot be pickled.
            ShareError: there is no memory or descriptor for it.
            EngineClosed: the engine has not started, stops, or has stopped.
        """
        from ._sharing import share

        core = self._core
        core.scheduler.admission.check_open()
        return share(obj, core.shared)

    def executor(self, lane: Lane | str = Lane.PROCESS) -> EngineExecutor:
        """Return a ``concurrent.futures.Executor`` over ``lane`` of this engine, with the options of this view.

        For code that takes an executor: its futures are those of ``concurrent.futures``. Several executors may stand
        before one engine; ``shutdown`` of one ends that one only. ``engine.futures`` has executors with an engine of
        their own.

        Args:
            lane: "process", "thread" or "loop".

        Raises:
            EngineClosed: the engine has not started.
        """
        from .futures._executor import executor_of

        return executor_of(self, lane)

    def group(self) -> TaskGroup:
        """Return a structured group: ``async with engine.group() as g: g.submit(fn, x)``.

        Leaving it waits for every task and every slot. The first failure cancels the others, and the failures are
        raised as an ExceptionGroup.
        """
        from ._group import TaskGroup

        return TaskGroup(self)

    def _repr_html_(self) -> str:
        from ._html import html_of_engine

        return html_of_engine(self, self)


class EngineView(Submitter):
    """What ``Engine.options`` returns."""

    def __init__(self, parent: Submitter, calls: Calls, options: TaskOptions) -> None:
        super().__init__(calls, options)
        self._parent = parent

    @property
    def _core(self) -> Core:
        return self._parent._core

    def _view(self, options: TaskOptions) -> Submitter:
        return EngineView(self._parent, self._calls, options)

    def __repr__(self) -> str:
        return f"{repr(self._parent)[:-1]} with {_said(self._options)}>"


def _said(options: TaskOptions) -> str:
    """Return what ``options`` say, as it was written: "lane='thread', timeout=5.0"."""
    shown = [
        f"{name}={value.value if isinstance(value, Lane) else value!r}" for name, value in said_by(options).items()
    ]
    return ", ".join(shown) or "no options"


def not_started() -> EngineClosed:
    """Build the error for an engine that has not been entered."""
    return EngineClosed(
        "expected the engine to be running, got one that has not started; use 'async with Engine() as engine:', "
        "'with Engine() as engine:' or 'await engine.start()'"
    )
