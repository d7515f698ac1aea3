"""The thread and process lanes of an inline engine: functions run where somebody waits for them.

Guarantees
    One function at a time, but for one that waits for another task: that runs meanwhile, on the same stack.
    What a function sees, and what becomes of what it raises, is as in the real lane: the submitter's context variables
    in the thread lane, the exported ones in the process lane; ``current_task()`` and ``checkpoint()``.
    Ctrl-C belongs to the program: it passes through, once the task has ended.
"""

from __future__ import annotations

import contextvars
from types import CoroutineType
from typing import Any

from .. import _checks, _current, _shared
from .._lanes._errors import arrived
from .._lanes._process.settings import Counters
from .._lanes.base import Attempt, Front, Outcome, WorkerInfo
from .._lanes.running import RunningTask, RunsHere, Unopened, opened
from .._settings import EngineSettings
from .._sigint import came_by_signal
from .._states import Lane
from .._worker.current import set_variables
from ..errors import PickleError, TaskCancelled, WorkerStartupError
from .travel import Sent, Travel

__all__ = ["InlineLane"]

_WORKER = "inline"


class _NotSent(Exception):
    """An attempt does not begin; ``outcome`` is its own."""

    def __init__(self, error: BaseException) -> None:
        self.outcome = Outcome(error=error, retryable=False)


class InlineLane(RunsHere):
    """A lane that runs nothing by itself: ``run`` does, when the engine says so."""

    takes_chunks = False  #: each item of a map is a task

    def __init__(self, name: Lane, front: Front, size: int, settings: EngineSettings, travel: Travel | None) -> None:
        self.name = name
        self.size = size
        self.counters = Counters()  #: of the process lane; nothing of the kind happens here
        self.start_failures = 0
        self.last_start_error: tuple[float, str] | None = None
        self._front = front
        self._travel = travel
        self._initializer = settings.initializer if name is Lane.PROCESS else None
        self._initargs = settings.initargs
        self._startup_error: BaseException | None = None

    def run(self, attempt: Attempt) -> None:
        """Run ``attempt``, which was just claimed, to its end."""
        attempt.worker = _WORKER
        outcome, sent = Outcome(), None
        try:
            sent = self._sent(attempt)
            if not self._front.begin(attempt, 0.0):  # the front knows the time
                return
            outcome = self._outcome(attempt, sent)
        except _NotSent as failure:
            outcome = failure.outcome
        except BaseException as error:  # Ctrl-C, not the task's: it is raised here, so nobody is to be told again
            outcome = Outcome(error=arrived(error), retryable=False)
            attempt.task._forgive()
            raise
        finally:
            outcome.started_at = attempt.started_at
            outcome.worker = _WORKER
            self._front.end(attempt, outcome)
            del outcome, attempt, sent  # an error's traceback reaches this frame: not the task that holds the error too

    def _sent(self, attempt: Attempt) -> Sent | None:
        """Return what a worker would be sent, None if it would be nothing. _NotSent: it does not begin."""
        if self._initializer is not None:
            self._prepare()
        if self._startup_error is not None:
            raise _NotSent(_not_started(self._startup_error))
        try:
            return None if self._travel is None else self._travel.there(attempt)
        except PickleError as error:
            raise _NotSent(error) from None

    def _outcome(self, attempt: Attempt, sent: Sent | None) -> Outcome:
        try:
            fn, args, kwargs = self._given(attempt, sent)
        except PickleError as error:
            return Outcome(error=error, retryable=False)
        except Unopened as failure:
            return failure.outcome
        context = self._context(attempt)
        try:
            value = context.run(fn, *args, **kwargs)
        except TaskCancelled:
            return Outcome(cancelled=True)
        except BaseException as error:
            if came_by_signal(error):
                raise
            try:
                return self._failed(attempt, error)
            finally:
                del attempt, sent, fn, args, kwargs, context  # as in run
        if type(value) is CoroutineType:
            return self._failed(attempt, _checks.unawaited(value))
        return Outcome(value=value) if self._travel is None else self._travel.back(attempt, value)

    def _failed(self, attempt: Attempt, error: BaseException) -> Outcome:
        return Outcome(error=arrived(error)) if self._travel is None else self._travel.failed(attempt, error)

    def _given(self, attempt: Attempt, sent: Sent | None) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        if self._travel is not None and sent is not None:
            return self._travel.arrived(attempt, sent)
        args, kwargs = opened(attempt) if _shared.is_used else (attempt.args, attempt.kwargs)
        return attempt.fn, args, kwargs

    def _context(self, attempt: Attempt) -> contextvars.Context:
        """Return a context of the attempt's own, in which it is the current task."""
        if self.name is Lane.THREAD:
            context: contextvars.Context = attempt.context.copy()
        else:
            context = contextvars.Context()
            if attempt.context:
                context.run(set_variables, attempt.context)
        context.run(_current.running.set, RunningTask(self._front, attempt))
        return context

    def _prepare(self) -> None:
        initializer, self._initializer = self._initializer, None
        assert initializer is not None
        try:
            contextvars.Context().run(initializer, *self._initargs)
        except BaseException as error:
            if came_by_signal(error):
                raise
            self._startup_error = arrived(error)

    # -- the contract

    def wake(self) -> None:
        """Do nothing: whoever waits looks for work."""

    def grow(self) -> None:
        """Do nothing, as above."""

    def interrupt(self, attempt: Attempt) -> None:
        """Let ``checkpoint`` raise in the function; nothing can be abandoned that runs on the caller's stack."""
        attempt.interrupted = attempt.cancel_requested = True

    def workers(self) -> list[WorkerInfo]:
        """Describe nothing: there are no workers."""
        return []

    def stacks(self) -> dict[str, str]:
        """Return nothing: what runs is on the caller's own stack."""
        return {}

    async def warm_up(self) -> None:
        """Return at once."""

    async def restart(self) -> None:
        """Return at once."""

    async def close(self, grace: float) -> None:
        """Return at once."""

    def refuse(self) -> None:
        """Do nothing: nothing is started here."""

    def kill(self) -> None:
        """Do nothing, as above."""


def _not_started(cause: BaseException) -> WorkerStartupError:
    error = WorkerStartupError(f"expected the initializer to return, got {type(cause).__name__}: {cause}")
    error.__cause__ = cause
    return error
