"""The loop lane: coroutine functions, each on the event loop that submitted it.

Guarantees
    ``_running`` belongs to the home loop, which claims and hands out; a coroutine of another loop is started and
    stopped through that loop's mailbox, and ended by us if that loop is closed under it.
    Every asyncio task is strongly referenced by its attempt.
    No exception of user code passes an asyncio task's own step, so no SystemExit can end a loop.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
import traceback
from types import FrameType
from typing import Any

from .. import _current, _lineage, _shared
from .._clock import now
from .._mailbox import Mailbox
from .._sigint import came_by_signal
from .._states import Lane as LaneName
from ..errors import EngineClosed, TaskCancelled
from ._errors import arrived
from .base import Attempt, Front, Outcome, WorkerInfo
from .running import RunningTask, RunsHere, Unopened, give_up_later, in_parent, opened, title_of

__all__ = ["LoopLane", "silence", "task_of"]

_FIRST_STEP = (None, None)  #: the ``lane_data`` of an attempt until that step begins
_TURN_SECONDS = 0.001  #: for which coroutines are handed out at a time: those that never wait end meanwhile
_LOOK_EVERY = 0.25  #: seconds between two looks at the other loops that run coroutines of ours


class LoopLane(RunsHere):
    """Starts coroutines as asyncio tasks, as many at once as the engine's ``coroutines`` allows."""

    name = LaneName.LOOP

    def __init__(self, front: Front, home: Mailbox) -> None:
        self._front = front
        self._home = home
        self.forks = _lineage.forks  #: as it was made
        self._running: set[Attempt] = set()  #: handed out and not over
        self._looker: asyncio.TimerHandle | None = None

    # -- taking work --------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Look for work soon. Any thread."""
        self._home.post(self._pump)

    def _pump(self) -> None:
        """Hand out what there is, for one turn of the loop."""
        began = now()
        try:
            while (attempt := self._front.claim(self.name, begin_on=self._home)) is not None:
                is_late = attempt.started_at is not None and attempt.started_at - began > _TURN_SECONDS
                self._hand_out(attempt)
                del attempt  # as in _start
                if is_late:
                    self.wake()
                    return
        except (
            BaseException
        ):  # a signal's handler raised: whoever catches it and lets the loop turn again finds the rest
            self.wake()
            raise

    def _hand_out(self, attempt: Attempt) -> None:
        self._running.add(attempt)
        mailbox: Mailbox = attempt.loop
        if mailbox is self._home:
            self._start(attempt)
        elif not mailbox.post(self._begin, attempt):
            self._end_without_loop(attempt)
        elif self._looker is None:
            self._looker = self._home.loop.call_later(_LOOK_EVERY, self._look_at_loops)
        del attempt  # as in _start

    def _look_at_loops(self) -> None:
        """End what was handed to another loop that was closed since: nothing of it will ever be heard."""
        away = [attempt for attempt in self._running if attempt.loop is not self._home]
        for attempt in away:
            if attempt.loop.loop.is_closed():
                self._end_without_loop(attempt)
        self._looker = self._home.loop.call_later(_LOOK_EVERY, self._look_at_loops) if away else None

    def _end_without_loop(self, attempt: Attempt) -> None:
        error = EngineClosed("expected the loop that submitted the coroutine to be open, got a closed one; "
                             "await tasks before their loop ends")  # fmt: skip
        task, attempt.lane_data = task_of(attempt), None
        if task is not None:  # asyncio would complain when it is collected; our error says it already
            silence(task)
        self._forget(attempt)
        self._front.end(attempt, Outcome(error=error, started_at=attempt.started_at, retryable=False))

    def _forget(self, attempt: Attempt) -> None:
        if self._home.is_here():
            self._running.discard(attempt)
        else:
            self._home.post(self._running.discard, attempt)

    def _begin(self, attempt: Attempt) -> None:
        """Start the coroutine on its own loop, which runs here, unless it was cancelled meanwhile."""
        if self._front.begin(attempt, now()):
            self._start(attempt)
        else:
            self._forget(attempt)

    def _start(self, attempt: Attempt) -> None:
        """Make its asyncio task, which takes its first step at once on the home loop of Python 3.12 (design/0001)."""
        attempt.worker = "loop"
        context = attempt.context.copy() if attempt.context is not None else None
        if context is not None:
            context.run(_current.running.set, RunningTask(self._front, attempt))
        loop, name, is_over = attempt.loop.loop, attempt.full_name, False
        task: asyncio.Task[Outcome | None]
        try:
            if sys.version_info >= (3, 12) and attempt.loop is self._home and loop.get_task_factory() is None:
                attempt.lane_data = _FIRST_STEP
                drive = _drive(self, attempt)
                task = asyncio.Task(drive, loop=loop, name=name, context=context, eager_start=True)
                is_over = attempt.lane_data is None
            else:
                task = loop.create_task(_drive(self, attempt), name=name, context=context)
        except BaseException as error:  # a signal's handler raised in the first step
            self._forget(attempt)
            attempt.lane_data = None
            self._front.end(attempt, Outcome(error=arrived(error), started_at=attempt.started_at, worker="loop"))
            raise
        if not is_over:
            ended = functools.partial(self._ended, attempt)
            attempt.lane_data = task, ended
            task.add_done_callback(ended)
            del ended
        del attempt, context, task  # the traceback of what the first step raised reaches this frame

    def returned(self, attempt: Attempt, value: Any) -> Outcome | None:
        """Report, as the last thing that its asyncio task does, that ``attempt`` returned ``value``.

        That spares the loop a turn. The Outcome is for ``_ended``, where that is still to be called: the task was
        cancelled in its last step, or is one of a task factory's that has run before anybody had it in hand.
        """
        if self.forks != _lineage.forks:
            in_parent(self.forks, Outcome())
        task, ended = attempt.lane_data or (None, None)
        if not isinstance(task, asyncio.Task) or task.cancelling():
            return Outcome(value=value)
        if ended is not None:
            task.remove_done_callback(ended)
        self._forget(attempt)
        attempt.lane_data = None
        self._front.returned(attempt, value)
        return None

    def _ended(self, attempt: Attempt, done: asyncio.Task[Outcome]) -> None:
        error = None if done.cancelled() else done.exception()  # of our own code: what a task raises is an Outcome
        if error is not None:
            outcome = Outcome(error=arrived(error))
        else:
            outcome = Outcome(cancelled=True) if done.cancelled() else done.result()
        outcome.started_at = attempt.started_at
        outcome.worker = "loop"
        self._forget(attempt)
        attempt.lane_data = None
        self._front.end(attempt, outcome)

    # -- the contract -------------------------------------------------------------------------------------------

    def interrupt(self, attempt: Attempt) -> None:
        """Cancel the coroutine on its loop; give up on it after its grace."""
        if attempt.interrupted or attempt.over:
            return
        attempt.interrupted = True
        attempt.loop.post(self._cancel, attempt)
        give_up_later(attempt, self._home, self._front)

    @staticmethod
    def _cancel(attempt: Attempt) -> None:
        task = task_of(attempt)
        if task is not None:
            task.cancel(attempt.task._rare.cancel_message if attempt.task is not None else None)

    def workers(self) -> list[WorkerInfo]:
        """Describe nothing: the loop lane has no workers of its own."""
        return []

    def stacks(self) -> dict[str, str]:
        """Return where each running coroutine is suspended. Any thread; best effort off the home loop."""
        found = {}
        for attempt in list(self._running):
            task = task_of(attempt)
            if task is not None:
                lines = [line for frame in _suspended_in(task) for line in traceback.format_stack(frame, 1)]
                found[f"loop {title_of(attempt)}"] = "".join(lines)
        return found

    async def warm_up(self) -> None:
        """Return at once: a loop is always warm."""

    async def restart(self) -> None:
        """Return at once: there is nothing to replace."""

    async def close(self, grace: float) -> None:
        """Stop looking at other loops: the engine has waited for every coroutine already."""
        if self._looker is not None:
            self._looker.cancel()
        if self._looker is not None:
            self._looker.cancel()

    def kill(self) -> None:
        """Do nothing: a coroutine cannot be killed."""


def task_of(attempt: Attempt) -> asyncio.Task[Any] | None:
    """Return the asyncio task of ``attempt``, an attempt of this lane, if it has one."""
    task: asyncio.Task[Any] | None = attempt.lane_data and attempt.lane_data[0]
    return task


def silence(task: Any) -> None:
    """Keep an asyncio task of ours whose loop is closed from complaining that it is pending, or that nobody asked."""
    task._log_destroy_pending = False
    if task.done() and not task.cancelled():  # by what broke the loop off: its callbacks were not called any more
        task.exception()
    if inspect.getcoroutinestate(task.get_coro()) == inspect.CORO_CREATED:
        task.get_coro().close()


def _suspended_in(task: asyncio.Task[Any]) -> list[FrameType]:
    """Return the frames of a suspended task, outermost first; its own ``get_stack`` knows only that one."""
    frames = []
    awaited: Any = task.get_coro()
    while (frame := getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)) is not None:
        frames.append(frame)
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return frames


async def _drive(lane: LoopLane, attempt: Attempt) -> Outcome | None:
    """Run the user's coroutine and report what it returns, or give the Outcome; a cancellation may pass."""
    if attempt.lane_data is _FIRST_STEP:
        attempt.lane_data = asyncio.current_task(), None
    fn = attempt.fn
    assert fn is not None
    args, kwargs = attempt.args, attempt.kwargs
    try:
        if _shared.is_used:
            args, kwargs = opened(attempt)
        value = await fn(*args, **kwargs)
    except asyncio.CancelledError:
        raise
    except TaskCancelled:
        return Outcome(cancelled=True)
    except Unopened as failure:
        del attempt, fn, args, kwargs  # as below
        return failure.outcome
    except BaseException as error:  # SystemExit and the like would end the loop; they are the task's outcome
        if came_by_signal(error):  # but not what a signal's handler raises: that is the program's, and ends the loop
            raise
        del attempt, fn, args, kwargs  # the traceback holds this frame: it must not hold the task that holds the error
        return in_parent(lane.forks, Outcome(error=arrived(error)))
    return lane.returned(attempt, value)
