"""What a call becomes in the store, and what a stored ``then`` becomes when its job has completed.

A ``then`` comes out of a database that anybody may have written: its names are looked up among the registered tasks,
its values are checked as those of a caller are, and what is wrong with it fails the job that it follows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from ... import _checks
from ..._options import NOT_SAID, NotSaid, value_of
from .._json.codec import decode_value, encode_args, splice
from .._records import NewJob
from ..errors import JobRefused, PayloadRefused
from .options import CHECKS, PLAIN, EnqueueOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._tasks.catalog import Catalog
    from .._tasks.job_task import JobTask
    from .job_call import FollowUp, JobCall

__all__ = ["follow_ups", "make_row", "row_of"]


class Completed(Protocol):
    """A job that has completed: a ``Claimed``, say."""

    @property
    def id(self) -> int: ...
    @property
    def then(self) -> str | None: ...


def row_of(call: JobCall, limit: int) -> NewJob:
    """Return the row of ``call``, with what follows it in at most ``limit`` bytes.

    Raises:
        PayloadRefused: what follows is too much, or nested too deeply.
        JobRefused: an argument does not fit into its lock, or it would expire before it may start.
    """
    row = make_row(call.task, call.text, call.said, then=_then_text(call.said.then, limit))
    _check_can_start(row)
    return row


def _check_can_start(row: NewJob) -> None:
    for until, begin, said in (row.expires_in, row.delay, "delay"), (row.expires_at, row.at, "at"):
        if until is not None and begin is not None and until <= begin:
            raise JobRefused(
                f"expected a job of {row.name!r} to be able to start, got one that expires before it may, or then: "
                f"expires is not after {said}; say a later expires=..., or expires=None for never"
            )


def make_row(
    task: JobTask[..., Any], text: str, said: EnqueueOptions, *, then: str | None = None, parent: int | None = None
) -> NewJob:
    """Return the row of a call of ``task`` with the arguments in ``text``: its options first, then its settings."""
    if said is PLAIN:
        return NewJob(
            queue=task.queue, name=task.name, args=text, priority=task.priority, expires_in=task.expires,
            lock=task.lock_of(text), max_crashes=task.max_crashes, then=then, parent=parent,
        )  # fmt: skip
    kind, when = ("in", task.expires) if isinstance(said.expires, NotSaid) else said.expires or ("in", None)
    return NewJob(
        queue=value_of(said.queue) or task.queue,
        name=task.name,
        args=text,
        priority=task.priority if (priority := value_of(said.priority)) is None else priority,
        delay=value_of(said.delay),
        at=value_of(said.at),
        expires_in=when if kind == "in" else None,
        expires_at=when if kind == "at" else None,
        lock=task.lock_of(text) if isinstance(said.lock, NotSaid) else said.lock,
        queueing_lock=value_of(said.queueing_lock),
        max_crashes=task.max_crashes,
        then=then,
        parent=parent,
    )


# -- what follows -----------------------------------------------------------------------------------------------------


def _then_text(after: tuple[FollowUp, ...], limit: int) -> str | None:
    return encode_args([_stored(each) for each in after], limit, root="then") if after else None


def _stored(after: FollowUp) -> dict[str, Any]:
    said = after.call.said
    found = {name: getattr(said, name) for name in _STORED}
    stored: dict[str, Any] = {name: value for name, value in found.items() if value is not NOT_SAID}
    if after.result_as is not None:
        stored["result_as"] = after.result_as
    if said.then:
        stored["then"] = [_stored(each) for each in said.then]
    return {"task": after.call.task.name, "args": after.call.args, **stored}


def follow_ups(catalog: Catalog, job: Completed, result: str) -> tuple[NewJob, ...]:
    """Return the rows that follow ``job``, of which ``result`` is the result as JSON.

    Raises:
        PayloadRefused: what the row has is not what an enqueue wrote.
        UnknownTask: a function that follows is not registered here.
        JobRefused: its arguments do not fit into its lock.
    """
    if job.then is None:
        return ()
    found = decode_value(job.then)
    if type(found) is not list:
        raise _wrong("a list", found)
    return tuple(_follow_up(catalog, each, job.id, result) for each in found)


def _follow_up(catalog: Catalog, stored: Any, parent: int, result: str) -> NewJob:
    if type(stored) is not dict or type(stored.get("task")) is not str or type(stored.get("args")) is not dict:
        raise _wrong("objects with a task and its args", stored)
    task = catalog.task(stored.pop("task"))
    text = encode_args(stored.pop("args"), _ANY_SIZE)
    if (name := stored.pop("result_as", None)) is not None:
        text = splice(text, _key(name), result)
    after = stored.pop("then", None)
    then = None if after is None else encode_args(after, _ANY_SIZE, root="then")
    return make_row(task, text, _said_in(stored), then=then, parent=parent)


def _said_in(stored: dict[str, Any]) -> EnqueueOptions:
    try:
        said: dict[str, Any] = {n: None if value is None else _STORED[n](value) for n, value in stored.items()}
        return EnqueueOptions(**said)
    except (KeyError, ValueError) as error:
        raise _wrong("objects with options that there are", stored) from error


def _check_stored_expires(value: Any) -> tuple[str, float]:
    kind, when = value if type(value) is list and len(value) == 2 else (None, None)
    return _checks.member("expires", kind, ("in", "at")), _checks.number("expires", when)


def _key(name: Any) -> str:
    if type(name) is not str:
        raise _wrong("objects with a name in result_as", name)
    return name


def _wrong(expected: str, found: object) -> PayloadRefused:
    return PayloadRefused(f"expected what follows to be {expected}, got {_checks.shown(found)}", where="then")


_ANY_SIZE = 1 << 40  #: its size was looked at when it was enqueued, but for the result, which has a bound of its own

#: What is stored of options, and what it has to be.
_STORED: dict[str, Callable[[Any], Any]] = {
    **{name: CHECKS[name] for name in ("delay", "priority", "queue", "lock", "queueing_lock")},
    "at": lambda value: _checks.number("at", value),
    "expires": _check_stored_expires,
}
