"""Results of ``engine.map``: what all kinds of them share, and where their items come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from . import _checks
from ._options import TaskOptions

__all__ = ["MapResults", "checked_window", "default_window", "is_asynchronous", "refuse_others", "row_source"]

T = TypeVar("T")
Row = tuple[Any, ...]

_END = object()
_OPTIONS = ("ordered", "return_exceptions", "window")


def default_window(slots: int) -> int:
    """Return how many items to have in hand for ``slots`` slots: enough that none waits for the consumer."""
    return max(32, 4 * slots)


def checked_window(window: int | None, slots: int) -> int:
    """Return ``window`` checked, or the default."""
    return default_window(slots) if window is None else _checks.positive_int("window", window)


def refuse_others(others: Iterable[str]) -> None:
    """Refuse keywords that map does not have, some of which others have.

    Raises:
        TypeError: there is one.
    """
    for name in others:
        remedy = ""
        if name in TaskOptions._fields:
            remedy = f"use engine.options({name}=...).map(...)"
        elif name in ("chunksize", "chunk_size"):
            remedy = "leave it out: quick calls travel many at a time by themselves"
        raise _checks.no_such("the options of map", _OPTIONS, name, remedy)


def is_asynchronous(iterables: tuple[Any, ...]) -> bool:
    """Say whether one of the iterables is asynchronous; asks none of them for an iterator.

    Raises:
        TypeError: there is none, or one is not iterable.
    """
    if not iterables:
        raise TypeError("expected map to get at least one iterable, got none")
    for iterable in iterables:
        if not any(hasattr(iterable, method) for method in ("__aiter__", "__iter__", "__getitem__")):
            raise TypeError(
                f"expected map to get iterables, got {_checks.shown(iterable)}; use submit or run for one call"
            )
    return any(isinstance(iterable, AsyncIterable) for iterable in iterables)


def row_source(iterables: tuple[Any, ...]) -> Iterator[Row] | AsyncIterator[Row]:
    """Return one iterator of argument rows over several iterables, asynchronous if one of them is."""
    return _async_rows(iterables) if is_asynchronous(iterables) else zip(*iterables, strict=False)


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


class MapResults(ABC, Generic[T]):
    """An asynchronous iterator of results. ``break``, ``aclose`` or dropping it cancels what is in its window.

    Several coroutines of one loop may read it: each result goes to one of them, and all come to its end. It ends for
    all when one of them gets an error or is cancelled, or somebody closes it.
    """

    def __aiter__(self) -> MapResults[T]:
        return self

    if not TYPE_CHECKING:  # where types are checked, the missing method says it

        def __iter__(self):
            raise TypeError(
                "expected 'async for' over engine.map(...), got a plain iteration; use "
                "'[r async for r in engine.map(...)]', or BlockingEngine, whose map is a plain iterator"
            )

    @abstractmethod
    async def __anext__(self) -> T:
        """Return the next result."""

    @abstractmethod
    async def aclose(self) -> None:
        """Cancel what is in the window and close the source. Idempotent."""
