"""A drop-in for ``ThreadPoolExecutor``."""

from __future__ import annotations

import concurrent.futures
import functools
import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures.thread import BrokenThreadPool
from typing import Any, Generic, TypeVar

from .._states import Lane
from ._own_engine import OwnEngine, refuse_few_workers, refuse_uncallable

__all__ = ["ThreadExecutor"]

T = TypeVar("T")

log = logging.getLogger("concurrent.futures")  # where users of it listen


class ThreadExecutor(OwnEngine, concurrent.futures.ThreadPoolExecutor):
    """Calls functions in threads: a ``ThreadPoolExecutor``, also for ``loop.set_default_executor``.

    A call sees its submitter's context variables, and one that waits for another of the same executor lends its thread,
    so that nested calls cannot deadlock.

    Args:
        max_workers: threads; by default 4 more than processors, at most 32.
        thread_name_prefix: what the names of its threads begin with.
        initializer, initargs: called once in every thread before its first call. If it raises, the executor breaks:
            every call fails with BrokenThreadPool.

    Raises:
        ValueError, TypeError: a value is out of range, as the standard says.
    """

    def __init__(
        self, max_workers: int | None = None, thread_name_prefix: str = "",
        initializer: Callable[..., object] | None = None, initargs: Iterable[Any] = (),
    ) -> None:  # fmt: skip
        refuse_uncallable(initializer)
        refuse_few_workers(max_workers)
        super().__init__(
            Lane.THREAD, thread_name_prefix or None, _broken_by_an_initializer, threads=max_workers, processes=1
        )
        if initializer is not None:
            self._wrap = functools.partial(_Prepared, _Prepare(initializer, tuple(initargs), self._ledger.break_all))


class _Prepare:
    """Calls the initializer of a ThreadExecutor, once in each thread."""

    def __init__(self, initializer: Callable[..., object], initargs: tuple[Any, ...], fail: Callable[[], None]) -> None:
        self._initializer = initializer
        self._initargs = initargs
        self._fail = fail
        self._here = threading.local()

    def __call__(self) -> None:
        if hasattr(self._here, "is_ready"):
            return
        try:
            self._initializer(*self._initargs)
        except BaseException:
            log.critical("Exception in initializer:", exc_info=True)
            self._fail()
            raise _broken_by_an_initializer() from None
        self._here.is_ready = True


class _Prepared(Generic[T]):
    """A function that is called once its thread is ready; ``func`` is what people see."""

    def __init__(self, prepare: _Prepare, func: Callable[..., T]) -> None:
        self._prepare = prepare
        self.func = func

    def __call__(self, *args: Any, **kwargs: Any) -> T:
        self._prepare()
        return self.func(*args, **kwargs)


def _broken_by_an_initializer() -> BaseException:
    return BrokenThreadPool("A thread initializer failed, the thread pool is not usable anymore")
