"""What lanes that run attempts in this process share: how one is, what ``current_task()`` answers, giving up on one."""

import os
import sys
import traceback
from typing import Any

from .. import _current, _lineage
from .._mailbox import Mailbox
from .._shared import unwrap
from .._sigint import came_by_signal
from ..errors import ShareError
from ._errors import arrived, not_shared
from .base import Attempt, Front, Outcome

__all__ = ["RunningTask", "RunsHere", "Unopened", "give_up_later", "in_parent", "opened", "title_of"]


class RunsHere:
    """The answers of a lane that tells the front at once when an attempt begins, and when it is over."""

    def started(self, attempt: Attempt) -> float | None:
        """Return when ``attempt`` began."""
        return attempt.started_at

    def recall(self, attempt: Attempt) -> bool:
        """Say whether ``attempt`` has not begun; the front, which is asked for each begin, forbids it from now on."""
        return attempt.started_at is None

    def has_answered(self, attempt: Attempt) -> bool:
        """Say whether ``attempt`` is over."""
        return attempt.over


class RunningTask:
    """What ``current_task()`` answers in the loop and thread lanes."""

    __slots__ = ("_attempt", "front")

    def __init__(self, front: Front, attempt: Attempt) -> None:
        self.front = front
        self._attempt = attempt

    @property
    def id(self) -> int:
        """Give the task's id."""
        return self._attempt.task_id

    @property
    def name(self) -> str:
        """Give the task's name."""
        return self._attempt.name

    @property
    def attempt(self) -> int:
        """Give the number of this try."""
        return self._attempt.number

    @property
    def deadline(self) -> float | None:
        """Give the monotonic instant at which this attempt times out."""
        attempt = self._attempt
        if attempt.timeout is None or attempt.started_at is None:
            return None
        return attempt.started_at + attempt.timeout

    @property
    def cancel_requested(self) -> bool:
        """Say whether this attempt should end soon."""
        return self._attempt.cancel_requested

    @property
    def owner(self) -> Attempt:
        """Give the attempt itself, for the engine."""
        return self._attempt

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Report how far the task is."""
        self.front.progress(self._attempt, *_current.report(done, total, message))


def title_of(attempt: Attempt) -> str:
    """Name a running ``attempt`` for ``stacks``: its task, and that nobody waits for it if so."""
    return f"{'abandoned ' if attempt.abandoned else ''}task {attempt.task_id} ({attempt.full_name})"


class Unopened(Exception):
    """An argument that is shared could not be had; ``outcome`` is that of its attempt."""

    def __init__(self, error: BaseException) -> None:
        self.outcome = Outcome(error=error, retryable=False)


def opened(attempt: Attempt) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments with what is shared in place of each Shared.

    Raises:
        Unopened: that failed.
    """
    try:
        return unwrap(attempt.args, attempt.kwargs)
    except ShareError as error:
        raise Unopened(not_shared(attempt, "parent", error)) from None
    except BaseException as error:  # rebuilding it is user code, which may even exit
        if came_by_signal(error):
            raise
        del attempt  # nor may the frames behind this one keep what is shared for as long as somebody has the error
        traceback.clear_frames(error.__traceback__)
        raise Unopened(arrived(error)) from None


def give_up_later(attempt: Attempt, home: Mailbox, front: Front) -> None:
    """Abandon an interrupted ``attempt`` after its grace, unless it is over by then. Home loop only.

    The timer takes the place of the timeout's, so that it is forgotten with the attempt and holds nothing longer.
    """
    if attempt.timer is not None:
        attempt.timer.cancel()
    attempt.timer = home.loop.call_later(attempt.grace, _give_up, attempt, front)
    if attempt.over:  # it ended on its own thread meanwhile, and saw the old timer
        attempt.timer.cancel()
        attempt.timer = None


def _give_up(attempt: Attempt, front: Front) -> None:
    if not attempt.over:
        front.abandon(attempt)


def in_parent(forks: int, outcome: Outcome) -> Outcome:
    """Return ``outcome`` where ``_lineage.forks`` is still ``forks``; end a process that the task forked meanwhile.

    Only the parent may go on from here.
    """
    if _lineage.forks != forks:
        _leave(outcome)
    return outcome


def _leave(outcome: Outcome) -> None:
    error = outcome.error
    cause = error.__cause__ if error is not None else None
    code = 0
    if isinstance(cause, SystemExit):  # ``sys.exit`` in the child
        code = cause.code if isinstance(cause.code, int) else cause.code is not None
    elif error is not None:
        traceback.print_exception(error)
        code = 1
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):  # closed, or there is none
            pass
    os._exit(code)
