"""Deletes old jobs, some at a time."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from engine import TaskState

from .. import _checks
from ._book import Book
from ._calls.series import Operation
from ._moment import Moment

__all__ = ["BATCH", "ENDED", "prune"]

BATCH = 1_000  #: rows of one transaction

ENDED = (TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED)


def prune(older_than: float, states: Sequence[TaskState]) -> Generator[Operation, int, int]:
    """Return the operations of a series; its answer is how many rows are gone.

    Raises:
        ValueError: jobs of one of the states live.
    """
    for state in states:
        _checks.member("a state to prune", state.value, tuple(ended.value for ended in ENDED))
    return _prune(older_than, states)


def _prune(older_than: float, states: Sequence[TaskState]) -> Generator[Operation, int, int]:
    def prune_some(book: Book, now: Moment) -> int:
        return book.prune(states, now.wall - older_than, BATCH)

    total = 0
    while (gone := (yield prune_some)) >= BATCH:
        total += gone
    return total + gone
