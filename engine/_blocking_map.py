"""Results of a BlockingEngine's ``map``: what all kinds of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

__all__ = ["BlockingMap"]

T = TypeVar("T")


class BlockingMap(ABC, Generic[T]):
    """An iterator of results. ``break``, ``close`` or dropping it cancels what is in its window.

    One thread at a time may read it, as with a generator; any thread may close it, also while another one reads.
    """

    def __init__(self) -> None:
        self._reader: dict[str, object] = {}  #: a lock that nobody waits for, and that Ctrl-C does not leave taken

    def __iter__(self) -> BlockingMap[T]:
        return self

    def __next__(self) -> T:
        """Return the next result.

        Raises:
            RuntimeError: somebody reads it now: another thread, or a source or signal handler within this very call.
        """
        me = object()
        try:
            if self._reader.setdefault("now", me) is not me:
                raise RuntimeError(
                    "expected one reader of a map at a time, got another one; give each thread its own map, or hand"
                    " results on through a queue"
                )
            return self._next()
        finally:
            if self._reader.get("now") is me:
                del self._reader["now"]

    @abstractmethod
    def _next(self) -> T:
        """Return the next result; one reader at a time."""

    @abstractmethod
    def close(self) -> None:
        """Cancel what is in the window. Idempotent."""
