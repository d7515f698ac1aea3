"""The loop lane: coroutine functions, each on the event loop that submitted it.

Guarantees
    ``_tasks`` and ``_running`` belong to the home loop, which claims and hands out; a coroutine of another loop is
    started and stopped through that loop's mailbox. Every asyncio task is strongly referenced by its attempt.
    No exception of user code passes an asyncio task's own step, so no SystemExit can end a loop.
"""

from __future__ import annotations

import asyncio
import traceback
from typing import Any

from .. import _current
from .._clock import now
from .._mailbox import Mailbox
from .._states import Lane as LaneName
from ..errors import EngineClosed, TaskCancelled
from ._errors import arrived
from .base import Attempt, Front, Outcome, WorkerInfo
from .running import RunningTask

__all__ = ["LoopLane"]


class LoopLane:
    """Starts coroutines as asyncio tasks, as many at once as the engine's ``coroutines`` allows."""

    name = LaneName.LOOP

    def __init__(self, front: Front, home: Mailbox) -> None:
        self._front = front
        self._home = home
        self._running: set[Attempt] = set()
        self._done = 0

    # -- taking work --------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Look for work soon. Any thread."""
        self._home.post(self._pump)

    def _pump(self) -> None:
        while (attempt := self._front.claim(self.name)) is not None:
            mailbox: Mailbox = attempt.loop
            if mailbox.is_here():
                self._start(attempt)
            elif not mailbox.post(self._start, attempt):
                error = EngineClosed("expected the loop that submitted the coroutine to be open, got a closed one; "
                                     "await tasks before their loop ends")  # fmt: skip
                self._front.end(attempt, Outcome(error=error, retryable=False))

    def _start(self, attempt: Attempt) -> None:
        """Start the coroutine on its own loop, which runs here."""
        if not self._front.begin(attempt, now()):
            return
        loop = asyncio.get_running_loop()
        attempt.worker = "loop"
        context = attempt.context.copy() if attempt.context is not None else None
        if context is not None:
            context.run(_current.running.set, RunningTask(self._front, attempt))
        task = loop.create_task(_drive(attempt), name=attempt.name, context=context)
        attempt.lane_data = task
        self._running.add(attempt)
        task.add_done_callback(lambda done: self._ended(attempt, done))

    def _ended(self, attempt: Attempt, done: asyncio.Task[Outcome]) -> None:
        outcome = Outcome(cancelled=True) if done.cancelled() else done.result()
        outcome.started_at = attempt.started_at
        outcome.worker = "loop"
        self._running.discard(attempt)
        self._done += 1
        attempt.lane_data = None
        self._front.end(attempt, outcome)

    # -- the contract -------------------------------------------------------------------------------------------

    def started(self, attempt: Attempt) -> float | None:
        """Return when the coroutine started; the front knows it at once."""
        return attempt.started_at

    def recall(self, attempt: Attempt) -> bool:
        """Say whether ``attempt`` has not begun: begin asks the front, which forbids it from now on."""
        return attempt.started_at is None

    def interrupt(self, attempt: Attempt) -> None:
        """Cancel the coroutine on its loop; give up on it after its grace."""
        if attempt.interrupted or attempt.over:
            return
        attempt.interrupted = True
        attempt.loop.post(self._cancel, attempt)
        self._home.loop.call_later(attempt.grace, self._give_up, attempt)

    @staticmethod
    def _cancel(attempt: Attempt) -> None:
        task: asyncio.Task[Any] | None = attempt.lane_data
        if task is not None:
            task.cancel(attempt.task._cancel_message if attempt.task is not None else None)

    def _give_up(self, attempt: Attempt) -> None:
        if not attempt.over:
            self._front.abandon(attempt)

    def workers(self) -> list[WorkerInfo]:
        """Describe nothing: the loop lane has no workers of its own."""
        return []

    def stacks(self) -> dict[str, str]:
        """Return where each running coroutine is suspended. Any thread; best effort off the home loop."""
        found = {}
        for attempt in list(self._running):
            task: asyncio.Task[Any] | None = attempt.lane_data
            if task is not None:
                frames = task.get_stack()
                lines = [line for frame in frames for line in traceback.format_stack(frame, 1)]
                found[f"loop task {attempt.task_id} {attempt.name}"] = "".join(lines)
        return found

    async def warm_up(self) -> None:
        """Return at once: a loop is always warm."""

    async def restart(self) -> None:
        """Return at once: there is nothing to replace."""

    async def close(self, grace: float) -> None:
        """Return at once: the engine has waited for every coroutine already."""

    def kill(self) -> None:
        """Do nothing: a coroutine cannot be killed."""


async def _drive(attempt: Attempt) -> Outcome:
    """Run the user's coroutine and turn whatever it does into an Outcome, but for a cancellation that it lets pass."""
    fn = attempt.fn
    assert fn is not None
    try:
        return Outcome(value=await fn(*attempt.args, **attempt.kwargs))
    except asyncio.CancelledError:
        raise
    except TaskCancelled:
        return Outcome(cancelled=True)
    except BaseException as error:  # SystemExit and the like would end the loop; they are the task's outcome
        del attempt, fn  # the traceback holds this frame: it must not hold the task that holds the error
        return Outcome(error=arrived(error))
