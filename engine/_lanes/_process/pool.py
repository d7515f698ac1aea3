"""The workers of the process lane: how many there are, which of them rest, and who gets the next task.

Guarantees
    Home loop only, but for ``workers``: a tuple that is replaced as a whole under ``_lock`` and never changed, so any
    thread may read it.
    No waiting task is forgotten: after ``pump`` and ``refill`` either we are parked at the front, and so are woken at
    the next submit, or every worker that may run is busy and asks for more when it is done.
"""

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from ..._states import Lane
from ...errors import EngineClosed, WorkerStartupError
from ..base import Front
from .ahead import PLENTY, Ahead
from .begin import BeginWatch
from .child import ExitStatus
from .collecting import Collecting, Collector
from .crash import Stderr
from .feeder import Feeder
from .hearing import Events
from .overtaking import Overtaking
from .settings import Counters, ProcessSettings, usable_cpus
from .starter import EARLY_SECONDS, Starter
from .watcher import Watcher
from .worker import Worker

__all__ = ["Listener", "Pool"]

SEND_AHEAD = 1  #: tasks that a worker holds at once, the running one included, whatever they cost


class Listener(Collector, Protocol):
    """Listens to one worker from its start to its death."""

    stderr: Stderr

    def read_results_now(self, until: Callable[[], bool]) -> None:
        """Report what has arrived here already, ``until`` that is true."""

    def stop(self) -> None:
        """Take every reader off the loop."""


class Pool:
    """Starts, feeds, rests and dismisses workers."""

    def __init__(
        self,
        front: Front,
        loop: asyncio.AbstractEventLoop,
        settings: ProcessSettings,
        counters: Counters,
        *,
        claim_lock: threading.RLock,
        feeder: Feeder,
        give_back_rest: Callable[[Worker], None],
        on_standstill: Callable[[Worker], None],
        events: Events,
        starter: type[Starter] = Starter,
        listen: Callable[[Worker, asyncio.AbstractEventLoop, Events], Listener] = Watcher,
    ) -> None:
        self.workers: tuple[Worker, ...] = ()
        self.watchers: dict[Worker, Listener] = {}
        self.busy = 0  #: workers with a task, those that are being killed included
        self._front = front
        self._loop = loop
        self._settings = settings
        self._size = settings.processes
        self._counters = counters
        self._feeder = feeder
        self._dispatch = feeder.send_next
        self._events = events
        self._lock = threading.RLock()  # the collector may call us from inside (design/0002)
        self._overtaking = Overtaking(front, self._all, give_back_rest=give_back_rest, refill=self.refill)
        self._ahead = Ahead(
            front, settings.max_tasks_per_worker, self._overtaking, Collecting(self.watchers),
            dispatch=feeder.send_next, give_back_rest=give_back_rest, workers=self._all, size=lambda: self.size,
            pump=self.pump, later=self.later,
        )  # fmt: skip
        self._begins = BeginWatch(self.later, self._all, on_standstill)
        self._starter = starter(settings, loop, self, claim_lock)
        self._listen = listen
        self._idle: list[Worker] = []  #: the most recently used last
        self._is_armed = False
        self._is_closed = False
        self._warming = 0  #: who waits for all workers to be ready
        self._idle_timer: Any = None
        self._look_timer: Any = None
        self._waiters: list[
            asyncio.Future[BaseException | None]
        ] = []  #: who waits for a start, or for the last worker to end

    @property
    def size(self) -> int:
        """Give how many tasks may run at once. Not asked for the first one: counting processors costs 25 ms."""
        if self._size is None:
            self._size = usable_cpus()
        return self._size

    def _all(self) -> tuple[Worker, ...]:
        return self.workers

    def _is_complete(self) -> bool:
        """Say whether there are as many workers as there may be."""
        return bool(self.workers) and len(self.workers) >= self.size

    def _may_run_more(self) -> bool:
        return not self.busy or self.busy < self.size

    def _may_start_more(self) -> bool:
        present = self._present()
        return not present or present < self.size + self._leaving()

    # -- work for workers

    def pump(self) -> None:
        """Give work to idle workers, and start more where there is more work."""
        while self._idle and self._may_run_more() and not self._is_closed:
            worker = self._idle[-1]
            if not self._dispatch(worker):
                break
            self._idle.pop()
            worker.state = "busy"
            self.busy += 1
            self._begins.begin()
        self._grow()
        if SEND_AHEAD > 1:
            for worker in self.workers:
                self._fill(worker)

    def _fill(self, worker: Worker) -> None:
        while worker.state == "busy" and worker.count() < SEND_AHEAD and not (worker.is_unwanted or worker.doomed):
            if self._is_closed or not self._dispatch(worker):
                return

    def is_well_fed(self, worker: Worker) -> bool:
        """Say whether nothing needs to be sent to a worker that has answered, nor one more to be started."""
        return worker.count() > PLENTY and self._is_complete()

    def refill(self, worker: Worker) -> None:
        """Send what comes next to a worker that has room, or let it rest."""
        if worker.state != "busy":
            return
        try:
            if not worker.is_unwanted and not worker.doomed:
                worker.hold()
                self._fill(worker)
                if worker.count():
                    self._ahead.send(worker)
        finally:  # Ctrl-C may have come while a task was pickled
            worker.flush()
            if not worker.count():
                self.busy -= 1
                self._rest(worker)
        if self._is_at_its_last(worker):
            self.pump()  # its successor may be ready
        elif not self._is_complete():
            self._grow()

    def overtake(self) -> None:
        """Send what waits and is more urgent: to who is free, else before what lies unbegun in workers."""
        self.pump()
        if not self._is_closed:
            self._overtaking.overtake()

    def _rest(self, worker: Worker) -> None:
        """Put a worker without a task where it belongs."""
        if worker.is_unwanted or self._is_closed:
            self._dismiss(worker)
            return
        worker.state = "idle"
        worker.idle_since = time.monotonic()
        self._idle.append(worker)
        if self._idle_timer is None:
            self._idle_timer = self.later(self._settings.worker_idle_timeout, self._expire)

    # -- more and fewer of them

    def arm_spare(self) -> None:
        """Keep one more worker than run tasks, so that a killed one is replaced at once."""
        if not self._is_armed:
            self._is_armed = True
            self._grow()

    def _grow(self) -> None:
        """Start as many workers as the waiting tasks need; park when nothing waits, so that we are woken."""
        if self._is_closed:
            return
        while self._may_start_more() and (ready := self._count_ready()):
            if not self._starter.may_start():
                if not self._starter.count:  # else that one's hello or end wakes us
                    self._look_again(self._starter.pause())
                break
            if ready <= self._starter.count + len(self._idle):  # they will take them; but more may come meanwhile
                self._front.park(Lane.PROCESS)
                break
            if not self._starter.start():
                break
        idle_or_starting = len(self._idle) + self._starter.count
        needs_spare = self._is_armed and self.busy and not idle_or_starting and self._present() <= self.size
        if needs_spare and self._starter.may_start():
            self._starter.start()

    def _count_ready(self) -> int:
        """Count the tasks that wait for a worker; none in the queue parks us."""
        return self._front.has_ready(Lane.PROCESS) + self._feeder.waiting()

    def _is_at_its_last(self, worker: Worker) -> bool:
        """Say whether a worker leaves after what it was sent: its successor may start while it works."""
        limit = self._settings.max_tasks_per_worker
        is_full = limit is not None and worker.tasks_done + worker.count() >= limit
        return is_full or worker.is_unwanted or worker.is_heavy

    def _leaving(self) -> int:
        return sum([worker.state == "busy" and self._is_at_its_last(worker) for worker in self.workers])

    def _present(self) -> int:
        """Count the workers that run, or could run, a task."""
        return self.busy + len(self._idle) + self._starter.count

    def _look_again(self, delay: float = 0.002) -> None:
        timer = self._look_timer
        if timer is not None:
            if timer.when() <= self._loop.time() + delay:
                return
            timer.cancel()
        self._look_timer = self.later(delay, self._looked_again)

    def _looked_again(self) -> None:
        self._look_timer = None
        self.pump()

    def later(self, delay: float, call: Callable[..., None], *args: Any) -> asyncio.TimerHandle:
        """Have ``call(*args)`` called on the home loop, in a context of its own."""
        return self._loop.call_later(delay, call, *args, context=contextvars.Context())

    def _expire(self) -> None:
        """Let those leave that have been idle for long; an armed spare stays while others work."""
        self._idle_timer = None
        if self._warming:  # or the first could leave before the last is ready, for ever
            self._idle_timer = self.later(self._settings.worker_idle_timeout, self._expire)
            return
        due = time.monotonic() - self._settings.worker_idle_timeout
        while self._idle and self._idle[0].idle_since <= due + 0.001:
            if self._is_armed and self.busy and len(self._idle) == 1:
                break
            self._dismiss(self._idle.pop(0))
        if self._idle:
            wait = max(self._idle[0].idle_since - due, 0.05)
            self._idle_timer = self.later(wait, self._expire)

    def _dismiss(self, worker: Worker) -> None:
        """Let a worker without a task leave; kill it if it does not."""
        worker.leave()
        self.later(max(self._settings.grace, 0.1), self._hurry, worker)

    def let_go(self, worker: Worker) -> None:
        """Have an idle worker leave; another one takes its place if there is work."""
        self._idle.remove(worker)
        self._dismiss(worker)
        self.pump()

    def _hurry(self, worker: Worker) -> None:
        if worker.state != "dead":
            worker.kill()

    # -- they come and go

    def on_start(self, worker: Worker) -> None:
        """A process was started."""
        watcher = self._listen(worker, self._loop, self._events)
        with self._lock:
            self.workers = (*self.workers, worker)
        self.watchers[worker] = watcher

    def on_start_failure(self, error: WorkerStartupError, *, is_final: bool) -> None:
        """A worker could not start; when it is final and nobody else is there, no worker can."""
        self._counters.start_failures += 1
        self._counters.last_start_error = (time.monotonic(), str(error))
        self.tell_waiters(error if is_final else None)
        if is_final and not self._present():
            self._feeder.give_back_packed()
            self._front.fail_ready(Lane.PROCESS, error)
        if self._count_ready():
            self._look_again(self._starter.pause())

    def welcome(self, worker: Worker) -> None:
        """Take in a worker that is ready."""
        self._counters.started += 1
        worker.ready_at = self._loop.time()
        self._starter.succeeded(worker)
        self._rest(worker)
        self.tell_waiters()
        self.pump()

    def unlist(self, worker: Worker) -> Listener:
        """Take out a worker that has ended; return what listened to it."""
        with self._lock:
            self.workers = tuple([each for each in self.workers if each is not worker])
        if worker in self._idle:
            self._idle.remove(worker)
            self._counters.idle_deaths += not worker.is_unwanted
        if worker.was_busy:
            self.busy -= 1
        return self.watchers.pop(worker)

    def settle_death(self, worker: Worker, status: ExitStatus, stderr: str) -> None:
        """Draw the consequences of a death, once its tasks have been dealt with."""
        if worker.was_starting and self._is_closed:  # by our hand
            self._starter.drop(worker)
        elif worker.was_starting:
            self._starter.failed(worker, status, stderr)
        elif self._is_early(worker):
            self._starter.died_early(worker, status, stderr)
        if not self.workers:
            self.tell_waiters()
        self.pump()

    def _is_early(self, worker: Worker) -> bool:
        """Say whether a worker died so soon after its hello, of itself and idle, that starting more may be in vain."""
        is_young = self._loop.time() - worker.ready_at < EARLY_SECONDS
        by_our_hand = worker.is_unwanted or worker.was_retiring or worker.doomed or self._is_closed
        return is_young and not worker.has_begun and not by_our_hand

    def tell_waiters(self, error: BaseException | None = None) -> None:
        """Wake who waits for a start or an end; ``error`` is why no start can be had."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(error)

    # -- all of them

    async def warm_up(self) -> None:
        """Start every worker and wait until they said hello.

        Raises:
            WorkerStartupError: they cannot start.
            EngineClosed: the lane was closed meanwhile.
        """
        self._warming += 1
        try:
            while self.busy + len(self._idle) < self.size:
                await self._warm_up_more()
        finally:
            self._warming -= 1

    async def _warm_up_more(self) -> None:
        """Start workers that are missing, and wait for news of one."""
        if self._is_closed:
            raise EngineClosed("expected the engine to run until its workers are ready, got one that was stopped")
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        while self._present() < self.size and self._starter.may_start():
            if not self._starter.start():
                break
        await asyncio.wait([waiter], timeout=None if self._starter.count else self._starter.pause())
        error = waiter.result() if waiter.done() else None
        if error is not None:
            raise error

    async def restart(self) -> None:
        """Let idle workers leave now, and busy ones after their task; new ones start as they are needed."""
        self._starter.resume()
        for worker in self.workers:
            worker.is_unwanted = worker.state in ("starting", "busy", "idle")
        idle, self._idle = self._idle, []
        for worker in idle:
            self._dismiss(worker)
        self.pump()

    def refuse(self) -> None:
        """Start and feed no more workers; one that is killed while it starts is then no failure. Any thread."""
        self._is_closed = True

    async def close(self, grace: float) -> None:
        """Let all workers leave, kill those that have not after ``grace`` seconds, and reap every one."""
        self._is_closed = True
        self._idle.clear()
        self._ahead.close()
        self._begins.end()
        for timer in (self._idle_timer, self._look_timer):
            if timer is not None:
                timer.cancel()
        for worker in self.workers:
            worker.kill() if worker.state == "starting" else worker.leave()
        await self._wait_until_gone(grace)
        for worker in self.workers:
            worker.kill()
        await self._wait_until_gone(5.0)

    async def _wait_until_gone(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while self.workers and (left := end - time.monotonic()) > 0:
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            await asyncio.wait([waiter], timeout=left)
