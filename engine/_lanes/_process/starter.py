"""Starts workers, notices those that do not come up, and knows when to stop trying."""

import asyncio
import contextvars
import itertools
import pickle
import threading
from typing import Any, Protocol

from .child import Child, ExitStatus, collect_setup
from .crash import startup_error
from .encoder import pack_initializer
from .settings import ProcessSettings, thread_limits
from .worker import Worker

__all__ = ["StartEvents", "Starter"]

MAX_FAILURES = 3  #: starts that fail in a row before waiting tasks are failed
PAUSE_SECONDS = 1.0  #: no further start so long, when starts fail while other workers do work


class StartEvents(Protocol):
    """What a starter reports."""

    def on_start(self, worker: Worker) -> None:
        """A process was started."""

    def on_start_failure(self, error: BaseException, *, is_final: bool) -> None:
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
        self._failures = 0
        self._not_before = 0.0
        self._initializer: bytes | None = None
        self._env: dict[str, str] | None = None
        self.count = 0  #: workers that were started and have not said hello

    def may_start(self) -> bool:
        """Say whether this is a time to start workers."""
        return self._loop.time() >= self._not_before

    def pause(self) -> float:
        """Return the seconds until workers may be started."""
        return max(0.002, self._not_before - self._loop.time())

    def resume(self) -> None:
        """Let workers be started at once."""
        self._not_before = 0.0

    def start(self) -> bool:
        """Start one worker. False: the system would not; it was reported."""
        return contextvars.Context().run(self._start)  # the loop keeps the context of whoever registers a reader

    def _start(self) -> bool:
        try:
            worker = self._new_worker()
        except Exception as error:  # no process, no descriptor, no directory, or user code in what is pickled
            self._not_before = self._loop.time() + 0.05
            self._report(startup_error(None, (None, None), "", error))
            return False
        self.count += 1
        self._events.on_start(worker)
        worker.start_timer = self._loop.call_later(self._settings.worker_start_timeout, self._give_up, worker)
        return True

    def _new_worker(self) -> Worker:
        settings = self._settings
        if self._env is None:
            if settings.initializer is not None:
                self._initializer = pack_initializer(settings.initializer, settings.initargs)
            self._env = thread_limits(settings)
        setup = pickle.dumps(collect_setup(self._initializer, settings.max_tasks_per_worker), 5)
        worker = Worker(f"process-{next(self._names)}", Child(self._env), self._loop, self._claim_lock)
        worker.set_up(setup)
        return worker

    def _give_up(self, worker: Worker) -> None:
        seconds = self._settings.worker_start_timeout
        worker.failure = (
            f"a worker process was not ready within worker_start_timeout={seconds} s (is its initializer slow?)"
        )
        worker.kill()

    def succeeded(self, worker: Worker) -> None:
        """Record that ``worker`` said hello."""
        self.count -= 1
        self._failures = 0
        self._cancel_timer(worker)

    def failed(self, worker: Worker, status: ExitStatus, stderr: str) -> None:
        """Record that ``worker`` ended before it said hello."""
        self.count -= 1
        self._cancel_timer(worker)
        self._report(startup_error(worker, status, stderr, worker.refusal))

    def _cancel_timer(self, worker: Worker) -> None:
        timer: Any = worker.start_timer
        if timer is not None:
            timer.cancel()
            worker.start_timer = None

    def _report(self, error: BaseException) -> None:
        self._failures += 1
        is_final = self._failures >= MAX_FAILURES
        if is_final:
            self._failures = 0
            self._not_before = self._loop.time() + PAUSE_SECONDS
        self._events.on_start_failure(error, is_final=is_final)
