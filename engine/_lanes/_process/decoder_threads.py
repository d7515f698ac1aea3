"""The threads that rebuild results whose unpickling may raise, exit, sleep or never end.

One thread does it all while nothing is slow. A job that takes ``SLOW_SECONDS`` gets a second thread beside it, so that
others flow. One that takes longer than its bound is given up: its task fails, its thread is left behind with it and
ends when, some day, the unpickling does. There are never more than ``MAX_THREADS``, those left behind included: beyond
that jobs are refused within a second. While much waits, ``is_full`` says so, and workers get nothing new to do. Time
counts only while the home loop turns, so a process that was stopped and continued gives nobody up for it. design/0008
has the interleavings.

Guarantees
    Shared: ``_open``, ``_waiting_bytes``, the fields of ``_Thread``.  Guarded by: ``_lock``, held for a few dict
    operations. ``do``, ``close`` and the watch are the home loop's, the rest may be called from any thread; ``on_room``
    is called on any.
    An attempt's end is reported once: by who takes its job out of ``_open``.
"""

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from ... import _lineage
from ..base import Attempt, Outcome
from ..chunk import Item
from ..running import in_parent
from .settings import Counters

__all__ = ["DecoderThreads", "Job"]

SECONDS = 30.0  #: a result that takes longer to rebuild is given up ...
BYTES_PER_SECOND = 1 << 20  #: ... but a long one is given time for its length: the slowest that is not yet stuck
SLOW_SECONDS = 0.1  #: how long a job may hold up the next
MAX_THREADS = 8
WAITING_BYTES = 256 << 20  #: while more than that waits, no worker is given a task after its answer
STUCK_LOOK_SECONDS = 1.0  #: how often those that were left behind are counted


class Job:
    """One answer to rebuild."""

    __slots__ = ("attempt", "began_at", "give_up", "seconds", "size", "spent", "work")

    def __init__(
        self, attempt: Attempt | Item, size: int, began_at: float | None, work: Callable[[], Outcome],
        give_up: Callable[[BaseException], Outcome],
    ) -> None:  # fmt: skip
        self.attempt = attempt
        self.began_at = began_at  #: when its task began
        self.size = size
        self.work = work
        self.give_up = give_up  #: the outcome without what could not be rebuilt
        self.seconds = SECONDS + size / BYTES_PER_SECOND
        self.spent = 0.0  #: seconds for which a thread has been at it, as far as the loop saw


class _Thread:
    """One daemon thread, and what it is at."""

    def __init__(self) -> None:
        self.job: Job | None = None
        self.is_left = False
        self.thread: Any = None


class DecoderThreads:
    """Rebuilds results away from the loop, and reports them through ``end``."""

    def __init__(
        self,
        end: Callable[[Any, Outcome], None],
        loop: asyncio.AbstractEventLoop,
        counters: Counters,
        on_room: Callable[[], None] | None = None,
    ) -> None:
        self._end = end
        self._loop = loop
        self._counters = counters
        self._lock = threading.RLock()  # the collector may call us from inside (design/0002)
        self._on_room = on_room
        self._open: dict[Attempt | Item, Job] = {}  #: jobs whose end was not reported
        self._waiting_bytes = 0  #: of jobs in the queue
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._threads: list[_Thread] = []
        self._timer: Any = None
        self._looked_at = 0.0

    def do(self, job: Job) -> None:
        """Have ``job`` done; where every thread is stuck already, the watch will refuse it."""
        with self._lock:
            self._open[job.attempt] = job
            self._waiting_bytes += job.size
            has_nobody = all(thread.is_left for thread in self._threads)
            may_start = len(self._threads) < MAX_THREADS
        self._queue.put(job)
        if has_nobody and may_start:
            self._start_thread()
        if self._timer is None:
            self._looked_at = time.monotonic()
            self._watch_in(SLOW_SECONDS)

    def started(self, attempt: Attempt) -> float | None:
        """Return when the task began whose result is being rebuilt; None if it is not among them."""
        with self._lock:
            job = self._open.get(attempt)
            return job.began_at if job is not None else None

    def give_up(self, attempt: Attempt) -> bool:
        """Report the end of ``attempt`` now, as cancelled, whatever becomes of its result. False: it is over."""
        job = self._take(attempt)
        if job is not None:
            self._end(attempt, Outcome(cancelled=True, started_at=job.began_at))
        return job is not None

    def _take(self, attempt: Attempt | Item) -> Job | None:
        """Take out the job of ``attempt``: whoever gets it reports its end."""
        with self._lock:
            return self._open.pop(attempt, None)

    def is_full(self) -> bool:
        """Say whether so much waits that no worker should send more; ``on_room`` is called when that has changed."""
        with self._lock:
            return self._waiting_bytes > WAITING_BYTES

    def _leave_queue(self, job: Job) -> None:
        """Count ``job`` as waiting no more."""
        with self._lock:
            was_full = self.is_full()
            self._waiting_bytes -= job.size
            has_room = was_full and not self.is_full()
        if has_room and self._on_room is not None:
            self._on_room()

    def _refuse_waiting(self) -> None:
        """Fail what is queued: every thread is stuck, and there may be no more of them."""
        error = RuntimeError(
            f"{MAX_THREADS} earlier results are still being rebuilt, each for longer than its bound;"
            " restart this process, and return data whose unpickling ends"
        )
        self._counters.decode_refusals += self._fail_waiting(error)

    def _fail_waiting(self, error: BaseException) -> int:
        """Fail what is queued with ``error``; return how many that were."""
        count = 0
        while True:
            try:
                job = self._queue.get_nowait()
            except Empty:
                return count
            if job is not None:
                self._leave_queue(job)
                if self._take(job.attempt) is not None:
                    count += 1
                    self._end(job.attempt, job.give_up(error))

    # -- on the threads

    def _start_thread(self) -> None:
        record = _Thread()
        record.thread = threading.Thread(target=self._run, args=(record,), name="engine-decoder", daemon=True)
        with self._lock:
            self._threads.append(record)
        try:
            record.thread.start()
        except RuntimeError as error:  # no thread can be had: nobody would do what is queued
            with self._lock:
                self._threads.remove(record)
                is_alone = not [thread for thread in self._threads if not thread.is_left]
            if is_alone:
                self._fail_waiting(error)

    def _run(self, record: _Thread) -> None:
        try:
            self._work(record)
        finally:
            with self._lock:
                self._threads.remove(record)

    def _work(self, record: _Thread) -> None:
        forks = _lineage.forks
        while not record.is_left and (job := self._queue.get()) is not None:
            self._leave_queue(job)
            with self._lock:
                record.job = job if job.attempt in self._open else None
            if record.job is None:  # it was given up while it waited
                del job
                continue
            try:
                outcome = job.work()
            except BaseException as error:  # user code in what it touched; the thread must go on
                outcome = job.give_up(error)
            in_parent(forks, outcome)
            with self._lock:
                record.job = None
            if self._take(job.attempt) is not None:
                self._end(job.attempt, outcome)
            del job, outcome

    # -- on the loop: who is slow, who is stuck

    def _watch_in(self, seconds: float) -> None:
        self._timer = self._loop.call_later(seconds, self._watch, context=contextvars.Context())

    def _watch(self) -> None:
        """Give up what takes too long, and see to it that somebody is left to do the rest."""
        self._timer = None
        now = time.monotonic()
        passed, self._looked_at = min(now - self._looked_at, 2 * SLOW_SECONDS), now
        with self._lock:
            busy = [thread for thread in self._threads if thread.job is not None and not thread.is_left]
            stuck = []
            for thread in busy:
                job = thread.job
                if job is not None:
                    job.spent += passed
                    if job.spent > job.seconds:
                        thread.is_left = True
                        stuck.append(job)
            working = [thread for thread in self._threads if not thread.is_left]
            is_slow = all(thread.job is not None and thread.job.spent > passed for thread in working)
            may_start = len(self._threads) < MAX_THREADS
            self._counters.stuck_decoders = len(self._threads) - len(working)
        for job in stuck:
            if self._take(job.attempt) is not None:
                self._counters.decode_timeouts += 1
                self._end(job.attempt, job.give_up(TimeoutError(f"it took more than {job.seconds:.1f} s")))
        has_waiting = not self._queue.empty()
        if has_waiting and is_slow and may_start:
            self._start_thread()
        elif has_waiting and not working:
            self._refuse_waiting()
        if working and (has_waiting or busy):
            self._watch_in(SLOW_SECONDS)
        elif self._counters.stuck_decoders:
            self._watch_in(STUCK_LOOK_SECONDS)

    def close(self) -> None:
        """Have the threads end when they have done what is queued; wait a moment for those that are not stuck."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        with self._lock:
            working = [thread for thread in self._threads if not thread.is_left]
        for _ in working:
            self._queue.put(None)
        end = time.monotonic() + 0.25
        for thread in working:
            thread.thread.join(max(0.0, end - time.monotonic()))
