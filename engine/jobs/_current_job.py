"""What a job may know of itself, in any lane, and how it asks to come again later.

Guarantees
    ``running`` is a context variable. It is set in the context that a coroutine's run is submitted from, and around the
    call in a thread or worker process; so no run sees another's.
"""

import contextvars
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn, Protocol

from .. import _current
from ._duration import duration

__all__ = ["CurrentJob", "Snoozed", "Subject", "current_job", "running", "snooze"]


@dataclass(frozen=True, slots=True)
class CurrentJob:
    """The job whose run this is; what hooks are given, too."""

    id: int
    token: int  #: grows with each claim: what you write elsewhere under it, a stale run cannot overwrite
    attempt: int  #: this one's number, from 1
    name: str
    queue: str
    priority: int
    created_at: float  #: UTC
    args: Mapping[str, Any]  #: what the function is called with


class Snoozed(BaseException):
    """The job asks to come again in ``seconds``. Raised by ``snooze``; no Exception, so that no handler takes it."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Subject(Protocol):
    """A run as its context has it. Its str is "job 5", for the engine's log; most never ask for more."""

    def current(self) -> CurrentJob:
        """Return what the job may know of itself."""


#: The run whose job runs here; so the engine's log names it, too.
running: contextvars.ContextVar[Subject | None] = _current.subject


def current_job() -> CurrentJob | None:
    """Return the job that runs here, in any lane; None outside one, so that its function can be called as it is."""
    run = running.get()
    return None if run is None else run.current()


def snooze(seconds: float | timedelta) -> NoReturn:
    """End this run of the job here, and have it run again in ``seconds`` (or a timedelta). That uses no attempt.

    Raises:
        Snoozed: always; that is how it ends the run.
        RuntimeError: no job runs here.
        ValueError: ``seconds`` is no duration.
    """
    if running.get() is None:
        raise RuntimeError(
            "expected snooze() in a job, got a call outside of one; ask current_job(), which is None there, before"
        )
    raise Snoozed(duration("seconds", seconds, zero=True))
