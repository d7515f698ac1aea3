"""The engine's side of the lanes: every task passes here on its way in, between attempts, and out.

Put together from its parts: ``admission`` takes tasks in, ``Claims`` gives attempts to lanes, ``Outcomes`` hears how
they went, ``endings`` and ``deadlines`` end tasks early, ``waiters`` are told.

Guarantees
    Shared state lives in the registry and changes only under its lock; all parts decide under it and act outside.
    Callers: any thread, but for what is posted to the home loop: timers and ``Lane.interrupt``.
    Lock order: the registry's lock is released before a lane, a mailbox's loop or a waiter is called.
"""

from __future__ import annotations

import logging
import queue
import sys
import time
from collections.abc import Callable
from typing import Any

from ._admission import Admission
from ._clock import Monotonic, now
from ._deadlines import Deadlines
from ._endings import Endings
from ._lanes.base import Attempt, Lane
from ._latch import Wait, next_of, wait_for
from ._mailbox import Mailbox
from ._outcomes import Counters
from ._records import describe_error
from ._registry import Registry
from ._states import Lane as LaneName
from ._taking import Taking
from ._task import Task
from ._waiters import Waiters
from .retry import evenly

__all__ = ["Scheduler"]

log = logging.getLogger("engine")


class Scheduler(Taking):
    """Moves tasks through their life. One for each engine; it implements ``Front`` for the lanes."""

    def __init__(self, registry: Registry, home: Mailbox, exported: tuple[tuple[str, Any], ...]) -> None:
        self.registry = registry
        self.home = home
        self.lanes: dict[LaneName, Lane] = {}
        self.counters = Counters()
        self.waiters = Waiters(registry, home, self)
        self.endings = Endings(self)
        self.deadlines = Deadlines(home, self.endings.expire, self.endings.expire_total, self.retry_due)
        self.rng = evenly
        self.now: Monotonic = now
        self.wall: Callable[[], float] = time.time
        self.is_inline = False  #: whoever waits does the work, on the one thread that there is
        self.wait: Wait = wait_for
        self.next_in: Callable[[queue.SimpleQueue[Any]], Any] = next_of
        self.phase = "running"  #: then "draining", then "closed"; guarded by the registry's lock
        self.forked = False
        self.is_leaving = False  #: the program ends, by Ctrl-C or because it is over: what is left behind is no news
        self.refusal = "shutdown"  #: after what a submit is refused; then "interpreter shutdown"
        self.keeper: object = None  #: what ties the engine to its loop; held here so that it lives while tasks do
        self.admission = Admission(self, exported)

    def later(self, fn: Callable[..., object], *args: Any) -> None:
        """Have ``fn(*args)`` called on the home loop, without a lock of ours: for calls from inside our sections."""
        if self.forked:  # the loop's wake-up pipe is the parent's
            return
        try:
            self.home.loop.call_soon_threadsafe(fn, *args)
        except RuntimeError:  # the loop is closed, and nothing of it runs any more
            pass

    # -- what an exception broke off --------------------------------------------------------------------------------

    def mend(self, lane: LaneName, attempt: Attempt | None) -> None:
        """Put in order what an exception broke off in a taker of ``lane``; give its ``attempt`` back if unbegun.

        Once it is over, those who wait for it are told, if they had not been.
        """
        self.registry.free()
        with self.registry.lock:
            self.registry.mend_taker_locked(lane, attempt)
            quiet = self.registry.quiet_locked()
            opening = list(self.registry.opening)
        for opened in opening:
            self.tell_of_room(opened)
        if attempt is None:
            self.tell(None, None, None, quiet)
            return
        wake, attempt.wake = attempt.wake, None
        if wake is not None:
            wake()
        if attempt.over:
            self._conclude(attempt, quiet)
        elif attempt.started_at is None:
            self.give_back(attempt)

    def free(self) -> None:
        """Leave the section that an exception thrown into this taker's thread may have left it in."""
        self.registry.free()

    # -- looking in ----------------------------------------------------------------------------------------------

    def when_over(self, task: Task[Any], fn: Callable[[], None]) -> bool:
        """Have ``fn()`` called once the attempt of the settled ``task`` is over. False: there is none."""
        with self.registry.lock:
            attempt = task._attempt
            if attempt is None or attempt.over or attempt.abandoned:
                return False
            if attempt.callbacks is None:
                attempt.callbacks = []
            attempt.callbacks.append(fn)
            return True

    def observe(self, task: Task[Any]) -> None:
        """Notice that a task which was sent to a worker process has started, if it has."""
        attempt = task._attempt
        if attempt is None or self.forked:
            return
        if attempt.started_at is None and attempt.lane is LaneName.PROCESS:
            started = self.lanes[attempt.lane].started(attempt)
            if started is not None:
                self.begin(attempt, started)

    def report_unretrieved(self, task_id: int, name: str, error: BaseException) -> None:
        """Log the failure of a task that nobody asked about; called when it is collected, takes no lock."""
        if self.forked or sys.is_finalizing():  # the parent says it; or logging itself is half taken down
            return
        log.error("task %d (%s) failed and nobody retrieved its exception: %s", task_id, name,
                  describe_error(error), exc_info=error)  # fmt: skip
