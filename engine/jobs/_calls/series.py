"""Operations on a store one after another, each asked for when the one before is done, so that others come between.

A series is a generator: it yields operations, is sent what they answered, and returns the answer of the whole. It runs
on whichever thread the store answers, to its end, whether anybody waits for it or not.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any, TypeVar

from .._book import Book
from .._moment import Moment
from .._reply import Reply, wake
from .._store import Store

__all__ = ["Operation", "run_series"]

T = TypeVar("T")
Operation = Callable[[Book, Moment], Any]


def run_series(store: Store, steps: Generator[Operation, Any, T]) -> Reply[T]:
    """Begin a series; give a reply for its answer.

    Raises:
        StoreClosed, StoreFull: the first operation cannot be asked for; what goes wrong later is in the reply.
    """
    whole: Reply[T] = Reply()
    _go_on(store, steps, whole, store.write(next(steps)))
    return whole


def _go_on(store: Store, steps: Generator[Operation, Any, T], whole: Reply[T], asked: Reply[Any]) -> None:
    """Take what was answered and ask for more, for as long as the answers are there at once."""
    while not asked.tell(partial(_go_on, store, steps, whole, asked)):
        try:
            asked = store.write(steps.send(asked.result()))
        except StopIteration as end:
            wake(whole.settle(end.value))
            return
        except Exception as error:
            wake(whole.settle(None, error))
            return
