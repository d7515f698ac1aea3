"""The thread lane: plain functions in a pool of threads.

A thread claims for itself, so a task goes from ``submit`` to a thread without passing the event loop, and what is not
claimed can still be cancelled or overtaken.

Guarantees
    Shared: ``_threads``, ``_is_closed``, ``start_failures``, ``last_start_error``, ``_is_short``.  Guarded by:
    ``_lock``, held for a few operations.  Callers: any thread.
    Lock order: the lane's lock is taken with no other held, and none is taken under it.
    A wake-up is a token in ``_tokens``; a thread that found nothing takes one before it looks again. The registry
    counts parked threads under its lock in the same step in which it finds its queue empty, so a submit after that
    step sees the parked thread and puts a token, which waits in the queue if the thread is not there yet.
    A thread claims and begins in one section of the registry, and does not wait for its lock (design/0002).
    A thread that could not be started is not lost to the lane: after a pause its right goes back to the slots. Whether
    it could be is settled under the lock: one that has begun by the time ``Thread.start`` raises is kept, one that
    begins later ends at once.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging
import queue
import sys
import threading
import traceback
from collections.abc import Callable
from types import CoroutineType, TracebackType
from typing import Any

from .. import _checks, _current, _lineage, _shared
from .._clock import now
from .._mailbox import Mailbox
from .._states import Lane as LaneName
from ..errors import TaskCancelled, WorkerStartupError
from ._errors import arrived
from .base import Attempt, Front, Outcome, WorkerInfo
from .running import RunningTask, RunsHere, Unopened, give_up_later, in_parent, opened, title_of

__all__ = ["ThreadLane"]

log = logging.getLogger("engine")

_STOP = object()
_RETURNED = Outcome()
_ENTERED = object()  #: the ``lane_data`` of an attempt whose function was called, or would have been the next moment
_set_running = _current.running.set
PAUSE_SECONDS = 0.1  #: until a thread that could not be started is tried again


class _Worker:
    """One pool thread and what it runs now."""

    __slots__ = ("attempt", "claimed", "done", "has_begun", "name", "struck", "thread")

    def __init__(self, name: str) -> None:
        self.name = name
        self.attempt: Attempt | None = None  #: what it runs, for people
        self.claimed: Attempt | None = None  #: what it has claimed and not ended; written by ``Front.claim``
        self.struck: BaseException | None = None  #: what was thrown into the thread and has not been mended
        self.done = 0
        self.thread: threading.Thread | None = None  #: None: it was given up
        self.has_begun = False  #: that thread is there


class ThreadLane(RunsHere):
    """Runs plain functions in daemon threads, started on demand and kept until the engine stops."""

    name = LaneName.THREAD

    def __init__(self, front: Front, home: Mailbox, prefix: str) -> None:
        self._front = front
        self._home = home
        self._prefix = prefix
        self._tokens: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._lock = threading.RLock()  # the collector may call us from inside (design/0002)
        self._threads: set[_Worker] = set()
        self._is_closed = False
        self._is_short = False  #: the last thread could not be started
        self.start_failures = 0  #: threads that could not be started
        self.last_start_error: tuple[float, str] | None = None  #: when the last of them could not, and why
        self._forks = _lineage.forks
        self._numbers = itertools.count(1)

    # -- taking work --------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Wake one idle thread. Any thread."""
        self._tokens.put(None)

    def grow(self) -> None:
        """Start one more thread, or try again soon; if there is none at all, fail what waits. Any thread."""
        self._start(_Worker(f"thread-{next(self._numbers)}"))

    def _start(self, worker: _Worker) -> None:
        thread = threading.Thread(target=self._run, args=(worker,), name=f"{self._prefix}-{worker.name}", daemon=True)
        with self._lock:
            if self._is_closed:
                return  # decided before the last task settled: nothing is left to run
            self._threads.add(worker)
            worker.thread, worker.has_begun = thread, False
        try:
            thread.start()
        except BaseException as cause:  # also thrown into us while we wait in there for a thread that is on its way
            is_shortage = isinstance(cause, (RuntimeError, MemoryError))
            if self._gives_up(worker, thread):
                if is_shortage:
                    self._not_grown(cause)
                self._home.post(self._regrow_later)
            if not is_shortage:
                raise
        else:
            with self._lock:
                self._is_short = False

    def _gives_up(self, worker: _Worker, thread: threading.Thread) -> bool:
        """Have ``thread`` end as soon as it begins, unless it has begun."""
        with self._lock:
            if worker.thread is not thread or worker.has_begun:
                return False
            worker.thread = None
            self._threads.discard(worker)
            return True

    def _not_grown(self, cause: BaseException) -> None:
        text = (
            f"expected the system to start a thread, got {type(cause).__name__}: {cause};"
            " lower threads, or raise the limit on processes (ulimit -u, or pids.max of the cgroup)"
        )
        with self._lock:
            is_alone = not self._threads
            is_news, self._is_short = not self._is_short, True
            self.start_failures += 1
            self.last_start_error = (now(), text)
        if is_news:  # one line for each time of shortage, not one for each try
            log.error("%s; trying again every %s s while work waits", text, PAUSE_SECONDS)
        if is_alone:
            error = WorkerStartupError(text)
            error.__cause__ = cause
            self._front.fail_ready(self.name, error)

    def _regrow_later(self) -> None:
        self._home.loop.call_later(PAUSE_SECONDS, self._front.regrow, self.name, context=contextvars.Context())

    def _run(self, worker: _Worker) -> None:
        try:
            if not self._begins(worker):
                return
            while self._goes_on(worker):
                pass
            with self._lock:
                self._threads.discard(worker)
            self._tokens.put(_STOP)  # for the next: one of them may have been taken by a thread that nobody counted
        except BaseException as error:  # one that came right behind another: a new thread goes on as this worker
            self._front.free()
            if worker.thread is threading.current_thread():
                worker.struck = error
                self._start(worker)

    def _begins(self, worker: _Worker) -> bool:
        """Say whether this thread is ``worker``: it is not, where its start was given up."""
        with self._lock:
            worker.has_begun = worker.thread is threading.current_thread()
            return worker.has_begun

    def _goes_on(self, worker: _Worker) -> bool:
        """Take tasks until the thread is to end (False), or an exception strikes, which the next round mends (True)."""
        try:
            if worker.struck is not None:
                self._mend(worker, worker.struck)
            take = self._front.take
            while True:
                attempt = take(LaneName.THREAD, worker)
                if attempt is not None:
                    self._run_one(worker, attempt)
                    del attempt  # or this frame, to which an error's traceback leads back, would keep the task
                elif self._is_closed or self._tokens.get() is _STOP:
                    return False
        except BaseException as error:  # thrown into this thread (PyThreadState_SetAsyncExc) outside its task
            worker.struck = error
            return True

    def _mend(self, worker: _Worker, error: BaseException) -> None:
        """End the attempt that ``error`` left without an end, or give it back unbegun; the thread goes on."""
        attempt = worker.claimed
        if attempt is not None and attempt.lane_data is None:
            attempt.started_at = None  # its function was not entered, so it goes back and no attempt is used
        self._front.mend(self.name, attempt)
        if attempt is not None:
            self._front.end(attempt, Outcome(error=arrived(error), started_at=attempt.started_at, worker=worker.name))
        worker.attempt = worker.claimed = worker.struck = None

    def _run_one(self, worker: _Worker, attempt: Attempt) -> None:
        worker.attempt = attempt
        attempt.lane_data = _ENTERED
        value, outcome = _call(self._front, attempt)
        if self._forks != _lineage.forks:
            in_parent(self._forks, outcome or _RETURNED)
        worker.attempt = None
        worker.done += 1
        if outcome is None:
            self._front.return_taken(attempt, value)
        else:
            outcome.started_at = attempt.started_at
            self._front.end_taken(attempt, outcome)
        worker.claimed = None
        del attempt, value, outcome  # an error's traceback reaches this frame: not the task that holds the error too

    # -- the contract -------------------------------------------------------------------------------------------

    def interrupt(self, attempt: Attempt) -> None:
        """Let ``checkpoint`` raise in the function; abandon it after its grace."""
        if attempt.interrupted or attempt.over:
            return
        attempt.interrupted = attempt.cancel_requested = True
        give_up_later(attempt, self._home, self._front)

    def workers(self) -> list[WorkerInfo]:
        """Describe every thread."""
        with self._lock:
            workers = sorted(self._threads, key=lambda worker: worker.name)
        return [_describe(worker) for worker in workers]

    def stacks(self) -> dict[str, str]:
        """Return the stack of every thread of the lane."""
        with self._lock:
            workers = list(self._threads)
        if not workers:
            return {}  # and leave alone what other threads do: 3.12.1 may crash over their frames (gh-111049)
        frames = sys._current_frames()
        return {
            _title(worker): "".join(traceback.format_stack(frames[worker.thread.ident]))
            for worker in workers
            if worker.thread is not None and worker.thread.ident in frames
        }

    async def warm_up(self) -> None:
        """Return at once: a thread starts in 0.1 ms, when it is needed."""

    async def restart(self) -> None:
        """Return at once: threads hold nothing that a restart would clear."""

    async def close(self, grace: float) -> None:
        """End the idle threads and wait up to ``grace`` seconds for them; an abandoned one ends with its function."""
        with self._lock:
            self._is_closed = True
            workers = list(self._threads)
        for _ in workers:  # one that is being started this instant finds its token when it gets there
            self._tokens.put(_STOP)
        until = now() + max(grace, 1.0)  # for all of them together
        for worker in workers:
            while now() < until and _is_ending(worker):  # noqa: ASYNC110  # a thread tells nobody that it has ended
                await asyncio.sleep(0.001)

    def kill(self) -> None:
        """Have every thread end when it is idle; a running function cannot be killed."""
        with self._lock:
            self._is_closed = True
            count = len(self._threads)
        for _ in range(count):
            self._tokens.put(_STOP)


def _call(front: Front, attempt: Attempt) -> tuple[Any, Outcome | None]:
    """Run the function in a copy of its submitter's context; give what it returns, or the Outcome of all else."""
    fn, context = attempt.fn, attempt.context
    assert fn is not None
    assert context is not None
    args, kwargs = attempt.args, attempt.kwargs
    try:
        if _shared.is_used:
            args, kwargs = opened(attempt)
        context = context.copy()  # each attempt gets a fresh one: nothing leaks from try to try
        value = context.run(_enter, RunningTask(front, attempt), fn, args, kwargs)
        return (None, Outcome(error=_checks.unawaited(value))) if type(value) is CoroutineType else (value, None)
    except TaskCancelled:
        return None, Outcome(cancelled=True)
    except Unopened as failure:
        del attempt, fn, context, args, kwargs  # as below
        return None, failure.outcome
    except BaseException as error:  # SystemExit would end the pool thread; it is the task's outcome
        del attempt, fn, context, args, kwargs  # the traceback holds this frame: not the task that holds the error too
        _leave(sys.exc_info()[2])
        return None, Outcome(error=arrived(error))


def _enter(running: RunningTask, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call the function, in its context: one entry of that for both steps, which is a twentieth of a task's time."""
    _set_running(running)
    del running  # whoever looks sees by this that it has begun; as for errors, see ``_leave``
    return fn(*args, **kwargs) if kwargs else fn(*args)


def _leave(trace: TracebackType | None) -> None:
    """Have the frame of ``_enter``, which an error's traceback holds, hold nothing: its arguments are over."""
    inner = None if trace is None else trace.tb_next
    if inner is not None and inner.tb_frame.f_code is _enter.__code__:
        inner.tb_frame.clear()


def _describe(worker: _Worker) -> WorkerInfo:
    attempt = worker.attempt
    if attempt is None:
        state = "idle" if worker.has_begun else "starting"
        return WorkerInfo(worker.name, LaneName.THREAD, None, state, None, None, worker.done, None, None)
    state = "abandoned" if attempt.abandoned else "busy"
    return WorkerInfo(
        worker.name, LaneName.THREAD, None, state, attempt.task_id, attempt.full_name, worker.done, None, None
    )


def _is_ending(worker: _Worker) -> bool:
    return worker.attempt is None and worker.thread is not None and worker.thread.is_alive()


def _title(worker: _Worker) -> str:
    attempt = worker.attempt
    return worker.name if attempt is None else f"{worker.name} {title_of(attempt)}"
