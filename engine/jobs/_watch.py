"""Tells who waits for jobs that they have ended, whichever process runs them.

One look at the store answers everybody who waits in this process. It is made when somebody begins to wait, and when the
store says that something changed; what changes during a look makes one more.

Guarantees
    Shared: ``_waiting``, ``_is_looking``, ``_is_stale``, ``_stop_listening``.  Guarded by: ``_lock``, held for a few
    dict operations; the store is called outside it, except to listen.  Callers: any thread.
    A change after somebody began to wait is seen: it comes before the look that this begins, or tells the listener,
    which was there before.  Nobody who has stopped waiting is kept.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from functools import partial

from engine import TaskState

from ._book import Book
from ._moment import Moment
from ._records import Filter, JobInfo
from ._reply import Reply, Waiter, wake
from ._store import Store
from .errors import JobNotFound

__all__ = ["Watch", "not_found"]

_ENDED = frozenset({TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED})


def not_found(job_id: int) -> JobNotFound:
    """Build the error for a job that is not there."""
    return JobNotFound(f"expected the id of a job, got {job_id}, which is none here; it may have been pruned")


class Watch:
    """The waits of one process for jobs of ``store``."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._waiting: dict[int, weakref.WeakSet[Reply[JobInfo]]] = {}
        self._is_looking = False
        self._is_stale = False  #: something changed, or somebody came, since the last look began
        self._stop_listening: Callable[[], None] | None = None

    def wait(self, job_id: int) -> Reply[JobInfo]:
        """Give a reply that comes once the job has ended: its row, or JobNotFound.

        Raises:
            StoreClosed: the store is.
        """
        reply: Reply[JobInfo] = Reply(is_wait=True)
        with self._lock:
            if self._stop_listening is None:
                self._stop_listening = self._store.listen(self._look)
            self._waiting.setdefault(job_id, weakref.WeakSet()).add(reply)
        self._look()
        return reply

    def _look(self) -> None:
        """Look, or have whoever looks now look once more."""
        with self._lock:
            self._is_stale = True
            if self._is_looking:
                return
            self._is_looking = True
        self._look_on()

    def _look_on(self) -> None:
        """Look until nothing is new; ``_is_looking`` is ours."""
        while ids := self._next():
            reply: Reply[dict[int, JobInfo | None]]
            try:
                reply = self._store.read(partial(_ended_of, ids))
            except Exception as error:  # it was closed, say
                reply = Reply.failed(error)
            if reply.tell(partial(self._go_on, ids, reply)):
                return
            self._take(ids, reply)

    def _go_on(self, ids: Sequence[int], reply: Reply[dict[int, JobInfo | None]]) -> None:
        self._take(ids, reply)
        self._look_on()

    def _next(self) -> tuple[int, ...]:
        """Return what to look at; where there is nothing, let others look, and listen no longer if nobody waits."""
        stop = None
        with self._lock:
            self._waiting = {job_id: replies for job_id, replies in self._waiting.items() if len(replies)}
            if self._waiting and self._is_stale:
                self._is_stale = False
                return tuple(self._waiting)
            self._is_looking = False
            if not self._waiting:
                stop, self._stop_listening = self._stop_listening, None
        if stop is not None:
            stop()
        return ()

    def _take(self, ids: Sequence[int], reply: Reply[dict[int, JobInfo | None]]) -> None:
        """Tell those whose jobs have ended, or all of ``ids`` that nobody can say."""
        error: BaseException | None = None
        try:
            found = reply.result()
        except Exception as raised:
            error, found = raised, dict.fromkeys(ids)
        waiters: list[Waiter] = []
        for job_id, info in found.items():
            with self._lock:
                told = list(self._waiting.pop(job_id, ()))
            for each in told:
                waiters += each.settle(info, not_found(job_id) if info is None and error is None else error)
        wake(waiters)


def _ended_of(ids: Sequence[int], book: Book, now: Moment) -> dict[int, JobInfo | None]:
    """Return the rows of those that have ended; None for those that are not there."""
    states = book.states(ids)
    ended = tuple(each for each in ids if states.get(each) in _ENDED)
    found: dict[int, JobInfo | None] = {each: None for each in ids if each not in states}
    if ended:
        found |= {info.id: info for info in book.find(Filter(ids=ended, limit=len(ended)))}
    return found
