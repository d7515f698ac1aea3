"""Starts workers, notices those that do not come up, and knows when to stop trying."""

import asyncio
import contextvars
import itertools
import logging
import pickle
import threading
from typing import Any, Protocol

from ... import _sigint
from ..._system import fill_standard_descriptors, is_exiting
from ...errors import WorkerStartupError
from .breaker import Breaker
from .child import Child, ExitStatus, collect_setup
from .crash import startup_error
from .encoder import pack_initializer
from .native import NativeWorker
from .settings import ProcessSettings, thread_limits
from .worker import Worker

__all__ = ["StartEvents", "Starter"]

log = logging.getLogger("engine")

EARLY_SECONDS = 1.0  #: a worker that dies so soon after its hello, without having begun a task, counts as not started


class StartEvents(Protocol):
    """What a starter reports."""

    def on_start(self, worker: Worker) -> None:
        """A process was started."""

    def on_start_failure(self, error: WorkerStartupError, *, is_final: bool) -> None:
        """A worker could not start; ``is_final`` says that this was the last of several tries."""


class Starter:
    """Home loop only."""

    def __init__(
        self,
        settings: ProcessSettings,
        loop: asyncio.AbstractEventLoop,
        events: StartEvents,
        claim_lock: threading.RLock,
    ) -> None:
        self._settings = settings
        self._claim_lock = claim_lock
        self._loop = loop
        self._events = events
        self._names = itertools.count(1)
        self._breaker = Breaker()
        self._initializer: bytes | None = None
        self._env: dict[str, str] | None = None
        self.count = 0  #: workers that were started and have not said hello

    def may_start(self) -> bool:
        """Say whether this is a time to start workers."""
        return self._breaker.may_start(self._loop.time(), self.count)

    def pause(self) -> float:
        """Return the seconds until workers may be started, where nothing but time stands against it."""
        return max(0.002, self._breaker.pause(self._loop.time()))

    def resume(self) -> None:
        """Let workers be started at once."""
        self._breaker.resume()

    def start(self) -> bool:
        """Start one worker. False: the system would not; it was reported."""
        with _sigint.deferred():  # between fork and the first note of it a Ctrl-C would leave a process nobody knows
            return contextvars.Context().run(self._start)  # the loop keeps the context of whoever registers a reader

    def _start(self) -> bool:
        worker = None
        try:
            fill_standard_descriptors()  # each time: the program may close them later
            worker = self._new_worker()
            worker.start_round, worker.failures_before = self._breaker.round, self._breaker.failures
            self._events.on_start(worker)
        except Exception as error:  # no process, no descriptor, no directory, or user code in what is pickled
            if worker is not None:
                worker.discard()
            self._report(startup_error(None, (None, None), "", error), self._breaker.round)
            return False
        self.count += 1
        worker.start_timer = self._loop.call_later(self._settings.worker_start_timeout, self._give_up, worker)
        return True

    def _new_worker(self) -> Worker:
        setup, env = self._prepare()
        worker = NativeWorker(self._next_name(), Child(env), self._loop, self._claim_lock)
        try:
            worker.set_up(setup)
        except BaseException:
            worker.discard()
            raise
        return worker

    def _prepare(self) -> tuple[bytes, dict[str, str]]:
        """Return what a worker sets up, pickled, and what is added to its environment."""
        settings = self._settings
        if self._env is None:
            if settings.initializer is not None:
                self._initializer = pack_initializer(settings.initializer, settings.initargs)
            self._env = thread_limits(settings)
        setup = collect_setup(self._initializer, settings.max_tasks_per_worker, settings.worker_memory_limit)
        return pickle.dumps(setup, 5), self._env

    def _next_name(self) -> str:
        return f"process-{next(self._names)}"

    def _give_up(self, worker: Worker) -> None:
        seconds = self._settings.worker_start_timeout
        worker.failure = (
            f"a worker process was not ready within worker_start_timeout={seconds} s (is its initializer slow?)"
        )
        worker.kill()

    def succeeded(self, worker: Worker) -> None:
        """Record that ``worker`` said hello."""
        self.drop(worker)
        self._breaker.record_success(worker.start_round)

    def failed(self, worker: Worker, status: ExitStatus, stderr: str) -> None:
        """Record that ``worker`` ended before it said hello."""
        self.drop(worker)
        self._report(startup_error(worker, status, stderr, worker.refusal), worker.start_round)

    def died_early(self, worker: Worker, status: ExitStatus, stderr: str) -> None:
        """Record that ``worker`` ended soon after its hello, with nothing begun: as bad as no hello."""
        error = startup_error(worker, status, stderr, None)
        self._report(error, self._breaker.round, worker.failures_before)

    def drop(self, worker: Worker) -> None:
        """Expect nothing more of ``worker``: it is ready, or has ended."""
        self.count -= 1
        timer: Any = worker.start_timer
        if timer is not None:
            timer.cancel()
            worker.start_timer = None

    def _report(self, error: WorkerStartupError, of_round: int, before: int = 0) -> None:
        breaker, now = self._breaker, self._loop.time()
        if breaker.record_failure(now, of_round, before) and not is_exiting():  # then it is nobody's fault
            log.warning("%s (failure %d in a row, next try in %.1f s)", error, breaker.failures, breaker.pause(now))
        self._events.on_start_failure(error, is_final=breaker.is_open)
