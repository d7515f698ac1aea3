"""Many calls of one task at once.

All arguments are looked at before the first row is written. The rows are written in transactions of ``CHUNK``: each of
them is there as a whole or not at all, and between two of them others have their turn.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ... import _checks
from ..._options import NotSaid, value_of
from .._book import Book
from .._json.codec import decode_args, encode_args
from .._moment import Moment
from .._records import NewJob
from .._reply import Reply, wake
from ..errors import JobRefused, PayloadRefused, StoreError
from .job_call import JobCall
from .rows import row_of

if TYPE_CHECKING:
    from .._store import Store
    from .._tasks.job_task import JobTask
    from .._tasks.lock_name import LockName
    from .enqueuing import Enqueuing

__all__ = ["CHUNK", "enqueue_many"]

CHUNK = 5_000  #: rows of one transaction: some 30 ms

T = TypeVar("T")


def enqueue_many(store: Store, view: Enqueuing[..., Any], many: Iterable[Any], limit: int) -> Reply[list[int]]:
    """Enqueue a call for each of ``many``, which are dicts of arguments; the reply has the ids in their order.

    Raises:
        TypeError, PayloadRefused, JobRefused: one of them cannot be; nothing was enqueued.
    """
    said = view._said
    if value_of(said.queueing_lock) is not None:
        raise JobRefused("expected no queueing_lock for many jobs, of which it would let one wait; enqueue one by one")
    texts = _texts_of(view._task, many, limit)
    if not texts:
        return Reply.of([])
    like = row_of(JobCall(view._task, texts[0], said), limit)
    locks = view._task.lock_name if isinstance(said.lock, NotSaid) else None
    chunks = [texts[start : start + CHUNK] for start in range(0, len(texts), CHUNK)]
    operations = [_operation_of(like, each, locks) for each in chunks]
    if said.connection is not None:
        return Reply.of([job_id for each in operations for job_id in store.write_in(said.connection, each)])
    if len(operations) == 1:
        return store.write(operations[0]).convert(list)
    replies = [_asked(store, each) for each in operations]
    return _when_all(replies, partial(_ids_of, replies))


def _texts_of(task: JobTask[..., Any], many: Iterable[Any], limit: int) -> list[str]:
    fits = task.parameters.fits
    texts: list[str] = []
    for args in many:
        if type(args) is not dict or not fits(args):
            args = _bound(task, args, len(texts))
        try:
            texts.append(encode_args(args, limit))
        except PayloadRefused:
            encode_args(args, limit, root=f"args {len(texts)}: args")  # raises, and says which
            raise
    return texts


def _bound(task: JobTask[..., Any], args: Any, number: int) -> dict[str, Any]:
    if not isinstance(args, Mapping):
        raise TypeError(f"expected args {number} to be a dict of arguments, got {_checks.shown(args)}")
    try:
        return task.parameters.bind(task.name, (), dict(args))
    except TypeError as error:
        raise TypeError(f"{error} (args {number})") from None


def _operation_of(like: NewJob, texts: list[str], locks: LockName | None) -> Callable[[Book, Moment], Sequence[int]]:
    """Return what enqueues one chunk; ``locks`` where each job has one of its own."""
    if locks is None or locks.fixed is not None:
        return lambda book, now: book.enqueue_many(like, texts, now)
    rows = [replace(like, args=text, lock=locks.of(decode_args(text))) for text in texts]
    return lambda book, now: book.enqueue(rows, now)


def _asked(store: Store, operation: Callable[[Book, Moment], Sequence[int]]) -> Reply[Sequence[int]]:
    try:
        return store.write(operation)
    except StoreError as error:  # too many wait, or it was closed meanwhile: of the others somebody must hear
        return Reply.failed(error)


def _ids_of(replies: list[Reply[Sequence[int]]]) -> list[int]:
    """Return all ids, or raise the first error with how far it came."""
    ids: list[int] = []
    errors: list[Exception] = []
    for each in replies:
        try:
            ids += each.result()
        except Exception as error:
            errors.append(error)
    if errors:
        errors[0].add_note(f"{len(ids):,} of the jobs were enqueued" + (f", from id {ids[0]} on" if ids else ""))
        raise errors[0]
    return ids


def _when_all(replies: Sequence[Reply[Any]], answer: Callable[[], T]) -> Reply[T]:
    """Give a reply of what ``answer`` returns once all are there."""
    whole: Reply[T] = Reply()
    lock = threading.Lock()
    left = len(replies)

    def one_came() -> None:
        nonlocal left
        with lock:
            left -= 1
            if left:
                return
        try:
            wake(whole.settle(answer()))
        except Exception as error:
            wake(whole.settle(None, error))

    for each in replies:
        if not each.tell(one_came):
            one_came()
    return whole
