"""What ``options`` may say of one enqueue: one frozen value, checked where it enters."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypedDict

from engine import Priority

from ... import _checks
from ..._options import NOT_SAID, NotSaid, value_of
from .._duration import duration
from .._tasks.names import check_name
from .._tasks.settings import TaskSettings, check_priority
from .misspelt import meant

if TYPE_CHECKING:
    from .job_call import FollowUp, JobCall

__all__ = ["OPTIONS", "PLAIN", "EnqueueOptions", "Options", "merge_options"]


class Options(TypedDict, total=False):
    """The options of one enqueue. None takes back what the task or earlier options said."""

    delay: float | datetime.timedelta | None  #: from the enqueue until it may start, on a clock that nobody sets
    at: datetime.datetime | None  #: from when it may start, with a time zone; one that is past means at once
    #: After so many seconds, or then, it is cancelled if it never started.
    expires: float | datetime.timedelta | datetime.datetime | None
    priority: int | Priority | str | None  #: higher first; -1000 to 1000, or "low", "normal", "high"
    queue: str | None
    lock: str | None  #: of the jobs with one lock only one runs at a time
    queueing_lock: str | None  #: of the jobs with one queueing lock only one waits for its first run
    then: JobCall | Sequence[JobCall] | None  #: what is enqueued with its completion
    connection: Any  #: from ``jobs.connect()``: the enqueue is part of the transaction that is open there


@dataclass(frozen=True, slots=True, kw_only=True)
class EnqueueOptions:
    """What was said of an enqueue, checked. ``NOT_SAID`` leaves it to the task."""

    delay: float | NotSaid | None = NOT_SAID
    at: float | NotSaid | None = NOT_SAID  #: seconds since the epoch
    expires: tuple[str, float] | NotSaid | None = NOT_SAID  #: "in" so many seconds, or "at" an instant
    priority: int | NotSaid | None = NOT_SAID
    queue: str | NotSaid | None = NOT_SAID
    lock: str | NotSaid | None = NOT_SAID
    queueing_lock: str | NotSaid | None = NOT_SAID
    then: tuple[FollowUp, ...] = ()
    connection: Any = None


PLAIN = EnqueueOptions()


def merge_options(base: EnqueueOptions, given: Options) -> EnqueueOptions:
    """Return ``base`` with what ``given`` says laid over it, checked; but ``then``, which its caller adds.

    Raises:
        ValueError: a value is out of range, or both a delay and an instant are said.
        TypeError: a name is no option.
    """
    said = {name: value for name, value in given.items() if name != "then"}
    for name in said:
        if name not in CHECKS:
            raise TypeError(f"expected options among {', '.join(OPTIONS)}, got {name!r}{_remedy_of(name)}")
    checked: dict[str, Any] = {n: None if value is None else CHECKS[n](value) for n, value in said.items()}
    merged = replace(base, **checked)
    if value_of(merged.delay) is not None and value_of(merged.at) is not None:
        raise ValueError("expected delay or at, got both; None takes one back")
    return merged


def _remedy_of(name: str) -> str:
    """Return what to do about an option that there is not, with a semicolon before it."""
    if name in _OF_TASKS:
        return f"; say {name}=... on @jobs.task"
    return meant(name, OPTIONS)


_OF_TASKS = frozenset(field.name for field in fields(TaskSettings))


def _check_instant(name: str, value: Any) -> float:
    """Return an aware datetime as seconds since the epoch."""
    expected = "a datetime with a time zone"
    if not _checks.is_a(value, datetime.datetime):
        remedy = f"for seconds from now use {'delay' if name == 'at' else name}=..."
        if _checks.real(value) is not None:
            remedy += ", for seconds since the epoch datetime.fromtimestamp(seconds, timezone.utc)"
        raise _checks.wrong(name, expected, value, remedy)
    try:
        if value.utcoffset() is not None:
            return float(value.timestamp())
    except Exception as error:  # of its time zone, or a year that there is none of in UTC
        raise _checks.wrong(name, "a datetime that has a place in UTC", value) from error
    raise _checks.wrong(name, expected, value, "use datetime.now(timezone.utc), or .astimezone() if it is local time")


def _check_expires(value: Any) -> tuple[str, float]:
    if _checks.is_a(value, datetime.datetime):
        return "at", _check_instant("expires", value)
    return "in", duration("expires", value, remedy="use expires=None for never, or a datetime with a time zone")


CHECKS: dict[str, Callable[[Any], Any]] = {
    "delay": lambda value: duration("delay", value, zero=True),
    "at": lambda value: _check_instant("at", value),
    "expires": _check_expires,
    "priority": check_priority,
    "queue": lambda value: check_name("queue", value),
    "lock": lambda value: check_name("lock", value),
    "queueing_lock": lambda value: check_name("queueing_lock", value),
    "connection": lambda value: value,
}

OPTIONS = sorted([*CHECKS, "then"])  #: the names of all
