"""An engine behind the interface of ``concurrent.futures.Executor``."""

from __future__ import annotations

import concurrent.futures
import functools
import itertools
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from .. import _checks
from .._blocking_calls import BlockingCalls, refuse_to_block
from .._clock import now
from .._options import TaskOptions, merge_options
from .._states import Lane
from ..errors import EngineClosed
from ._call_future import CallFuture
from ._ledger import Ledger
from ._results import call_each, in_chunks, results_in_order

if TYPE_CHECKING:
    from .._submit import Submitter

__all__ = ["EngineExecutor", "executor_of"]

P = ParamSpec("P")
T = TypeVar("T")


class EngineExecutor(concurrent.futures.Executor):
    """A ``concurrent.futures.Executor`` over one lane of an engine, whose options it keeps; ``executor()`` makes one.

    Several may stand before one engine. ``shutdown`` ends this one only: it refuses more calls and waits for its own.
    """

    def __init__(
        self,
        calls: Submitter | BlockingCalls | None,
        lane: Lane | str,
        *,
        name: str,
        broken: Callable[[], BaseException] | None = None,
    ) -> None:
        self._lane = Lane(lane)
        self._ready = None if calls is None else _inner(calls)
        self._ledger = Ledger(name, broken=broken)
        self._wrap: Callable[[Callable[..., Any]], Callable[..., Any]] | None = None  # what is called in place of fn
        if self._ready is not None:
            self._ledger.belongs_to(self._ready._core)

    def _started(self) -> BlockingCalls:
        """Return the engine of an executor that has one of its own; called at its first call."""
        raise NotImplementedError

    def _submitter(self) -> Submitter:
        """Return what calls go through."""
        if self._ready is None:
            self._ready = _inner(self._started())._view(TaskOptions(lane=self._lane))
            self._ledger.belongs_to(self._ready._core)
        return self._ready

    def __getattr__(self, name: str) -> Any:
        if name == "_max_workers":  # Dask and others read it
            return self._submitter()._core.size(self._lane)
        if name == "_broken":
            return self._ledger.is_broken
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @overload
    def submit(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> CallFuture[T]: ...
    @overload
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> CallFuture[T]: ...
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> CallFuture[Any]:
        """Accept one call and return its future at once. Thread-safe; every argument goes to ``fn``.

        Raises:
            RuntimeError: the executor, its engine or the interpreter shuts down.
            concurrent.futures.process.BrokenProcessPool: the executor has broken (``broken_on_crash``).
            EngineFull: the engine has a ``max_pending``, and so many wait.
            TypeError: ``fn`` is not callable, or the lane cannot run it.
        """
        future: CallFuture[Any] = CallFuture(self._ledger)
        self._ledger.enter(future)
        try:
            submitter = self._ready or self._submitter()
            if self._wrap is not None:
                fn = self._wrap(fn)
            admission = submitter._core.scheduler.admission
            future.follow(admission.submit(submitter._call(fn), args, kwargs or None, waiter=future.waiter()))
        except EngineClosed as error:
            future.take_back()
            raise self._refused(error) from None
        except BaseException:  # refused; or Ctrl-C in the middle: nobody will have this future
            future.take_back()
            raise
        return future

    def _refused(self, error: EngineClosed) -> RuntimeError:
        return error

    def map(
        self, fn: Callable[..., T], /, *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:  # fmt: skip
        """Call ``fn`` on each item, as the built-in ``map`` does, and give the results in the order of the items.

        The calls are submitted at once, or ``buffersize`` ahead of the results that were taken. ``Engine.map`` needs no
        chunk size, bounds its window by itself, and keeps each item's own error.

        Args:
            fn: what to call.
            iterables: what to call it with.
            timeout: seconds from now in which a result must have come, None for no limit.
            chunksize: how many items travel as one call to a worker process; a crash then costs all of them.
            buffersize: how many calls may be ahead of the results; None for all.

        Raises:
            TimeoutError: at the iteration, if the next result has not come in time.
            ValueError: ``chunksize`` or ``buffersize`` is below 1.
        """
        end = None if timeout is None else now() + timeout
        if _checks.integer(chunksize) is None or chunksize < 1:
            raise _checks.wrong("chunksize", "a positive integer", chunksize, "chunksize must be >= 1")
        if buffersize is not None and (_checks.integer(buffersize) is None or buffersize < 1):
            raise _checks.wrong("buffersize", "a positive integer", buffersize, "use None to submit everything at once")
        items: Iterator[tuple[Any, ...]] = zip(*iterables, strict=False)
        if chunksize == 1 or self._lane is not Lane.PROCESS:
            return results_in_order(self, fn, items, end, buffersize)
        each = functools.partial(call_each, fn)
        return itertools.chain.from_iterable(results_in_order(self, each, in_chunks(items, chunksize), end, buffersize))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Refuse more calls; wait for those that were accepted, and their callbacks. Idempotent; any thread.

        Called by a task or a callback of its own it does not wait for that.

        Args:
            wait: False returns at once; what was accepted goes on.
            cancel_futures: cancel what has not started.

        Raises:
            RuntimeError: it would have to wait on the event loop that the engine needs to go on.
        """
        self._close(cancel_futures)
        if wait:
            self._wait()

    def _close(self, cancel_futures: bool) -> None:
        self._ledger.refuse(_shut_down)
        if cancel_futures:
            for future in reversed(self._ledger.open()):
                future.cancel()

    def _wait(self) -> None:
        if self._is_inside():
            return
        if not self._ledger.wait(0):
            core = self._submitter()._core
            refuse_to_block(core.scheduler)
            lender = core.scheduler.waiters.lend()
            try:
                for future in self._ledger.open():
                    core.scheduler.wait(future._latch())
                self._ledger.wait()
            finally:
                core.scheduler.waiters.reclaim(lender)
        self._ledger.finish()

    def _is_inside(self) -> bool:
        """Say whether a callback or a call of this executor runs here: waiting for all of them would never end."""
        if self._ledger.callbacks.is_here():
            return True
        attempt = None if self._ready is None else self._ready._core.scheduler.waiters.running_attempt()
        return attempt is not None and any(future._task is attempt.task for future in self._ledger.open())

    def __repr__(self) -> str:
        inner = repr(self._ready) if self._ready is not None else "an engine that has not started"
        return f"<{type(self).__name__} of {inner}, lane {self._lane.value}>"


def _inner(calls: Submitter | BlockingCalls) -> Submitter:
    return calls._inner if isinstance(calls, BlockingCalls) else calls


def executor_of(calls: Submitter | BlockingCalls, lane: Lane | str) -> EngineExecutor:
    """Return an executor over ``lane`` of the engine behind ``calls``, with the options of that view."""
    inner = _inner(calls)
    view = inner._view(merge_options(inner._options, {"lane": lane}))
    return EngineExecutor(view, lane, name=inner._core.settings.name)


def _shut_down() -> BaseException:
    return RuntimeError("cannot schedule new futures after shutdown: expected the executor to be running, got one that "
                        "was shut down; create a new one")  # fmt: skip
