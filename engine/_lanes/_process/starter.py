"""Starts workers, notices those that do not come up, and knows when to stop trying."""

import asyncio
import contextvars
import itertools
import logging
import pickle
import threading
from collections.abc import Callable
from typing import Any, Protocol

from ... import _sigint
from ..._records import function_name
from ..._system import NoInterpreter, fill_standard_descriptors, interpreter, is_exiting
from ...errors import PickleError, WorkerStartupError
from .breaker import Breaker
from .child import Child, ExitStatus, collect_setup
from .crash import startup_error
from .encoder import pack_initializer
from .functions import is_importable
from .names import shared_by
from .native import NativeWorker
from .settings import ProcessSettings, thread_limits
from .worker import Worker

__all__ = ["NotAllowed", "StartEvents", "Starter"]

log = logging.getLogger("engine")

LOOKS = 8  #: at a worker that is not ready, until its worker_start_timeout is over
EARLY_SECONDS = 1.0  #: a worker that dies so soon after its hello, without having begun a task, counts as not started


class NotAllowed(Exception):
    """This process may not have workers."""


class StartEvents(Protocol):
    """What a starter reports to, and asks who is there."""

    workers: tuple[Worker, ...]

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
            is_hopeless = isinstance(error, (NoInterpreter, NotAllowed, PickleError))  # the next try would end the same
            failure = startup_error(None, (None, None), "", error, others=len(self._events.workers))
            self._report(failure, self._breaker.round, is_hopeless=is_hopeless)
            return False
        self.count += 1
        self._look_later(worker, 2 * LOOKS)
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
        interpreter()
        if self._env is None:
            if settings.initializer is not None:
                self._initializer = pack_initializer(settings.initializer, settings.initargs)
                _warn_of_an_island(settings.initializer)
            self._env = thread_limits(settings)
        setup = collect_setup(self._initializer, settings.max_tasks_per_worker, settings.worker_memory_limit)
        return pickle.dumps(setup, 5), self._env

    def _next_name(self) -> str:
        return f"process-{next(self._names)}"

    def _look_later(self, worker: Worker, left: int) -> None:
        step = self._settings.worker_start_timeout / LOOKS
        due = self._loop.time() + step
        worker.start_timer = self._loop.call_at(due, self._look, worker, left, due, context=contextvars.Context())

    def _look(self, worker: Worker, left: int, due: float) -> None:
        """Count the time of a worker that is not ready, however late this look comes; a late one counts half."""
        is_late = self._loop.time() - due > self._settings.worker_start_timeout / LOOKS
        left -= 1 if is_late else 2  # we were stopped or blocked, and the worker may have been stopped with us
        if left > 0:
            self._look_later(worker, left)
        else:
            self._give_up(worker)

    def _give_up(self, worker: Worker) -> None:
        seconds, initializer = self._settings.worker_start_timeout, self._settings.initializer
        slow = f" (is its initializer {function_name(initializer)} slow?)" if initializer is not None else ""
        worker.failure = (
            f"a worker process was not ready within worker_start_timeout={seconds} s{slow}; raise the timeout, or do"
            " less at the start"
        )
        worker.kill()

    def succeeded(self, worker: Worker) -> None:
        """Record that ``worker`` said hello."""
        self.drop(worker)
        self._breaker.record_success(worker.start_round)

    def failed(self, worker: Worker, status: ExitStatus, stderr: str) -> None:
        """Record that ``worker`` ended before it said hello."""
        self.drop(worker)
        initializer, others = self._settings.initializer, len(self._events.workers)
        error = startup_error(worker, status, stderr, worker.refusal, initializer, others)
        self._report(error, worker.start_round)

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

    def _report(self, error: WorkerStartupError, of_round: int, before: int = 0, *, is_hopeless: bool = False) -> None:
        breaker, now = self._breaker, self._loop.time()
        if breaker.record_failure(now, of_round, before) and not is_exiting():  # then it is nobody's fault
            log.warning("%s (failure %d in a row, next try in %.1f s)", error, breaker.failures, breaker.pause(now))
        self._events.on_start_failure(error, is_final=breaker.is_open or is_hopeless)


def _warn_of_an_island(initializer: Callable[..., Any]) -> None:
    """Say so where the initializer travels by value, and what it sets is therefore seen by no other function."""
    names = [] if is_importable(initializer) else shared_by(initializer)
    if names:
        log.warning(
            "expected the initializer %s to be in a module, got one of the main program, whose global %s no task will"
            " see as it leaves it: functions of the main program travel by value, each with globals of its own; put it"
            " and the functions that use %s into a module", function_name(initializer), " and ".join(map(repr, names)),
            "it" if len(names) == 1 else "them",
        )  # fmt: skip
