"""``map`` of an executor: calls are submitted at once or within a buffer, results come in the order of the items."""

from __future__ import annotations

import itertools
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

from .._clock import now

__all__ = ["call_each", "in_chunks", "results_in_order"]

T = TypeVar("T")


def results_in_order(
    executor: Executor,
    fn: Callable[..., T],
    items: Iterator[tuple[Any, ...]],
    end: float | None,
    buffersize: int | None,
) -> Iterator[T]:
    """Submit ``fn`` for each of ``items`` now, or the first ``buffersize`` of them; return an iterator of the results.

    A failure is raised in its place and cancels the rest, as leaving the iteration does. It holds no executor: one
    that nobody has any more ends when its work is done, and then no more is submitted.
    """
    futures: deque[Future[T]] = deque()
    try:
        for args in items if buffersize is None else itertools.islice(items, buffersize):
            futures.append(executor.submit(fn, *args))
    except BaseException:
        _cancel(futures)
        raise
    more = None if buffersize is None else (weakref.ref(executor), fn, items)
    return _results(futures, end, more)


def _results(
    futures: deque[Future[T]],
    end: float | None,
    more: tuple[weakref.ref[Executor], Callable[..., T], Iterator[tuple[Any, ...]]] | None,
) -> Iterator[T]:
    try:
        while futures:
            if more is not None:
                futures[0].exception(None if end is None else end - now())  # first: the buffer counts what waits
                _submit_next(futures, *more)
            yield _result(futures.popleft(), end)
    finally:
        _cancel(futures)


def _submit_next(
    futures: deque[Future[T]], executor: weakref.ref[Executor], fn: Callable[..., T], items: Iterator[tuple[Any, ...]]
) -> None:
    alive = executor()
    args = next(items, None)
    if alive is not None and args is not None:
        futures.append(alive.submit(fn, *args))


def _result(future: Future[T], end: float | None) -> T:
    try:
        try:
            return future.result(None if end is None else end - now())
        finally:
            future.cancel()
    finally:
        del future  # a traceback that reaches this frame must not hold it


def _cancel(futures: deque[Future[T]]) -> None:
    while futures:
        futures.pop().cancel()  # the last first: so none starts because another has gone


def in_chunks(items: Iterable[tuple[Any, ...]], size: int) -> Iterator[tuple[list[tuple[Any, ...]]]]:
    """Give ``items`` in lists of ``size``, each as the arguments of one call of ``call_each``."""
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield (chunk,)


def call_each(fn: Callable[..., T], chunk: list[tuple[Any, ...]]) -> list[T]:
    """Call ``fn`` for each item of a chunk; runs in a worker."""
    return [fn(*args) for args in chunk]
