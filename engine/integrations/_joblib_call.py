"""The batches of a call of ``joblib.Parallel`` on their way through an engine.

Guarantees
    Shared: ``_jobs``, ``_waiting``, ``_is_over``.  Guarded by: ``_lock``, held for a few operations, never across a
    submit; it is re-entrant, since the collector may end a generator of joblib's anywhere.  Callers: any thread.
    joblib's callbacks run on a thread of this call: they read the program's iterable and wait for joblib's own lock,
    which the engine's loop must not. Each batch is called back for once, also one that could not be sent, but no more
    once the call is cancelled.
"""

import collections
import functools
import logging
import pickle
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any, Protocol

from engine import EngineFull, Shared, Task

from ._joblib_pack import Arrays, pack

__all__ = ["Call", "Job"]

_CALLBACK_SECONDS = 1.0  #: that the end of a call waits for joblib's callbacks
_FULL_SECONDS = 0.005  #: between two tries to find room in an engine that is full

_log = logging.getLogger("engine")


class Submits(Protocol):
    """What is needed of an engine: a BlockingEngine, an Engine, or a view of one."""

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Task[Any]:
        """Accept a call."""


class Job:
    """One batch: what joblib keeps, and gets back when it is done."""

    __slots__ = ("callback", "error", "parts", "shared", "task")

    def __init__(self, callback: Callable[["Job"], object]) -> None:
        self.callback = callback
        self.parts: tuple[Any, ...] = ()  #: what is sent, until it is
        self.shared: list[Shared[Any]] = []
        self.task: Task[Any] | None = None
        self.error: BaseException | None = None  #: why there is no task

    def sent(self) -> bool:
        """Say whether it has a task, or can have none."""
        return self.task is not None or self.error is not None

    def done(self) -> bool:
        """Say whether there is an outcome."""
        return self.error is not None or (self.task is not None and self.task.done())

    def result(self) -> Any:
        """Return the results of the batch that is done, or raise what it raised."""
        if self.task is None:
            assert self.error is not None
            raise self.error
        return self.task.result()


class Call:
    """Sends batches to ``engine``, at most ``limit`` at once, and calls back as they end."""

    def __init__(self, engine: Submits, limit: int | None, arrays: Arrays) -> None:
        self._engine = engine
        self._limit = limit
        self._arrays = arrays
        self._lock = threading.RLock()
        self._jobs: set[Job] = set()  #: those that are sent
        self._waiting: collections.deque[Job] = collections.deque()  #: those past the limit
        self._is_over = False
        self._inbox: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None  #: from the first batch on: joblib may end a call before, unsaid

    def submit(self, batch: Callable[[], Any], callback: Callable[[Job], object]) -> Job:
        """Send ``batch``, now or when there is room for it."""
        job = Job(callback)
        self._see_to_thread()
        try:
            parcel = pack(batch, self._arrays)
        except Exception as error:  # joblib expects it where results come, and would wait for ever on its callbacks
            job.error = error
            self._inbox.put(job)
            return job
        job.parts, job.shared = (parcel.payload, *parcel.buffers), parcel.shared
        with self._lock:
            if self._limit is not None and len(self._jobs) >= self._limit:
                self._waiting.append(job)
                return job
            self._jobs.add(job)
        self._send(job)
        return job

    def _see_to_thread(self) -> None:
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._listen, name="engine-joblib", daemon=True)
                thread.start()
                self._thread = thread

    def _send(self, job: Job) -> None:
        parts, job.parts = job.parts, ()
        while not job.sent():
            try:
                if self._is_over:
                    raise CancelledError
                job.task = self._engine.submit(run_batch, *parts)
            except EngineFull:  # of ``max_pending``, for which all that use this engine wait
                time.sleep(_FULL_SECONDS)
            except Exception as error:
                job.error = error
        self._inbox.put(job)
        if self._is_over and job.task is not None:  # cancelled meanwhile
            job.task.cancel()

    def cancel(self) -> None:
        """Cancel what is not done; nothing more is sent."""
        with self._lock:
            self._is_over = True
            jobs = list(self._jobs)
            self._waiting.clear()
        for job in jobs:
            job.shared = []
            task = job.task
            if task is not None and not task.cancel() and not task.cancelled():
                task.exception()  # nobody is going to ask for it

    def close(self) -> None:
        """Let go of everything: joblib has all results, or wants none.

        Waits for a callback that runs: it would count its batch in the next call of the same ``Parallel``, which then
        has results missing. Not for ever, since it may be the program's iterable that keeps it.
        """
        self.cancel()
        self._arrays.clear()
        self._inbox.put(None)
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(_CALLBACK_SECONDS)

    def _listen(self) -> None:
        """Call back for each batch that is done, on this thread, where no event loop runs."""
        while (job := self._inbox.get()) is not None:
            if not job.done():
                assert job.task is not None
                job.task.add_done_callback(functools.partial(self._is_done, job))
                continue
            if job.task is not None and not job.task.cancelled():
                job.task.exception()  # joblib raises one failure of a call; the others are no news
            with self._lock:
                self._jobs.discard(job)
                following = self._waiting.popleft() if self._waiting else None
                if following is not None:
                    self._jobs.add(following)
            if following is not None:
                self._send(following)
            job.shared = []
            try:
                if not self._is_over:
                    job.callback(job)
            except BaseException:  # of a subclass of Parallel, or of the program's iterable
                _log.exception("expected joblib's callback for a batch to return, got an exception")
            del job, following

    def _is_done(self, job: Job, _task: Task[Any]) -> None:
        self._inbox.put(job)


is_inside = False  #: this is a worker process, in which a batch runs or ran


def run_batch(payload: bytes, *buffers: Any) -> Any:
    """Run one batch; in a worker process."""
    global is_inside
    from .joblib import register

    is_inside = True
    register()  # nested code may name the backend
    return pickle.loads(payload, buffers=buffers)()
