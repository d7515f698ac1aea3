"""The process lane: plain functions in worker processes of our own.

Guarantees
    The lane's own state belongs to the home loop. Shared: ``_workers``, replaced as a whole and never changed in place,
    under ``_lock``; so ``workers``, ``stacks`` and ``kill`` may be called from any thread, as may ``wake``,
    ``started``, ``recall`` and ``snapshot_function``. Lock order: ``_lock`` before a worker's; neither is held across
    a call of the front.
    Every claimed attempt leaves once: answered (taken out of the worker's table), recalled, or found in the table of a
    dead worker. design/0004-worker-protocol.md has the interleavings.
"""

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable
from typing import Any

from .._mailbox import Mailbox
from .._states import Lane
from .._wire.frames import RETIRE
from ..errors import PickleError
from ._process.crash import crash_error
from ._process.decoder import Decoder
from ._process.encoder import Encoder
from ._process.functions import Functions
from ._process.reader import Frame
from ._process.settings import Counters, ProcessSettings
from ._process.stacks import StackCollector
from ._process.starter import Starter
from ._process.watcher import Watcher
from ._process.worker import OVER, Worker
from .base import Attempt, Front, Outcome, WorkerInfo

__all__ = ["Counters", "ProcessLane", "ProcessSettings"]

SEND_AHEAD = 1  #: tasks that a worker holds at once, the running one included


class ProcessLane:
    """Runs attempts in worker processes; see ``_lanes.base.Lane`` for the contract."""

    name = Lane.PROCESS

    def __init__(self, front: Front, home: Mailbox, settings: ProcessSettings) -> None:
        self.counters = Counters()
        self._front = front
        self._home = home
        self._loop = home.loop
        self._settings = settings
        self._functions = Functions()
        self._encoder = Encoder(self._functions)
        self._decoder = Decoder(front.end, home.loop)
        self._stacks = StackCollector(home)
        self._lock = threading.Lock()
        self._claim_lock = threading.Lock()
        self._starter = Starter(settings, home.loop, self, self._claim_lock)
        self._workers: tuple[Worker, ...] = ()
        self._watchers: dict[Worker, Watcher] = {}
        self._idle: list[Worker] = []  #: the most recently used last
        self._busy = 0  #: workers with a task, those that are being killed included
        self._is_armed = False
        self._is_closed = False
        self._idle_timer: Any = None
        self._look_timer: Any = None
        self._waiters: list[asyncio.Future[None]] = []  #: who waits for a start, or for the last worker to end

    # -- from any thread

    def wake(self) -> None:
        """Look for work soon."""
        self._home.post(self._pump)

    def started(self, attempt: Attempt) -> float | None:
        """Return when ``attempt`` began, from its worker's start page."""
        worker, number = attempt.lane_data or OVER
        return worker.started(number) if worker is not None else None

    def recall(self, attempt: Attempt) -> bool:
        """Take ``attempt`` back from the kernel, if its worker has not received it."""
        with self._claim_lock:
            if attempt.lane_data is None:  # claimed, and being pickled this instant: ``send`` will see this
                attempt.lane_data = OVER
                return True
            worker, number = attempt.lane_data
        if worker is None or not worker.recall(number):
            return False
        self._home.post(self._refill, worker)
        return True

    def snapshot_function(self, fn: Callable[..., Any], name: str = "") -> None:
        """Pickle ``fn`` now, if that has not been done; what goes wrong is raised on its tasks when they are sent."""
        self._functions.get(fn, name or getattr(fn, "__qualname__", ""))

    def workers(self) -> list[WorkerInfo]:
        """Describe every worker."""
        return [worker.describe() for worker in self._workers]

    def stacks(self) -> dict[str, str]:
        """Return what each worker does now; waits at most 0.25 s for all of them together."""
        return self._stacks.collect(self._workers, self._watchers)

    def kill(self) -> None:
        """Kill every worker and its process group."""
        for worker in self._workers:
            worker.kill()

    def forget_in_child(self) -> None:
        """In a forked child: close its copies of the workers' descriptors. The workers stay the parent's."""
        workers, self._workers = self._workers, ()
        for worker in workers:
            worker.forget()

    # -- dispatch

    def arm_spare(self) -> None:
        """Keep one more worker than run tasks, so that a killed one is replaced at once."""
        if not self._is_armed:
            self._is_armed = True
            self._grow()

    def _pump(self) -> None:
        """Give work to idle workers, and start more where there is more work."""
        while self._idle and self._busy < self._settings.processes and not self._is_closed:
            worker = self._idle[-1]
            if not self._send_next(worker):
                break
            self._idle.pop()
            worker.state = "busy"
            self._busy += 1
        self._grow()
        if SEND_AHEAD > 1 and self._busy >= self._settings.processes:
            self._send_ahead()

    def _send_ahead(self) -> None:
        """Give busy workers what they are to run next."""
        for worker in self._workers:
            while worker.state == "busy" and worker.count() < SEND_AHEAD and not (worker.is_unwanted or worker.doomed):
                if not self._send_next(worker):
                    return

    def _send_next(self, worker: Worker) -> bool:
        """Claim attempts until one could be sent. False: there is none, and the front will wake us."""
        while (attempt := self._front.claim(Lane.PROCESS)) is not None:
            try:
                encoded = self._encoder.encode(attempt)
                if encoded is None:
                    continue
            except PickleError as error:
                self._front.end(attempt, Outcome(error=error, retryable=False))
                continue
            forgotten = self._functions.take_forgotten()
            if forgotten:
                for each in self._workers:
                    each.forget_functions(forgotten)
            if worker.send(attempt, encoded):
                return True
        return False

    def _refill(self, worker: Worker) -> None:
        """Send what comes next to a worker that has room, or let it rest."""
        if worker.state != "busy":
            return
        if not worker.is_unwanted and not worker.doomed:
            while worker.count() < SEND_AHEAD and not self._is_closed:
                if not self._send_next(worker):
                    break
        if not worker.count():
            self._busy -= 1
            self._rest(worker)
        if len(self._workers) < self._settings.processes:
            self._grow()

    def _rest(self, worker: Worker) -> None:
        """Put a worker without a task where it belongs."""
        if worker.is_unwanted or self._is_closed:
            self._dismiss(worker)
            return
        worker.state = "idle"
        worker.idle_since = time.monotonic()
        self._idle.append(worker)
        if self._idle_timer is None:
            self._idle_timer = self._later(self._settings.worker_idle_timeout, self._expire)

    def _expire(self) -> None:
        """Let those leave that have been idle for long; an armed spare stays while others work."""
        self._idle_timer = None
        due = time.monotonic() - self._settings.worker_idle_timeout
        while self._idle and self._idle[0].idle_since <= due + 0.001:
            if self._is_armed and self._busy and len(self._idle) == 1:
                break
            self._dismiss(self._idle.pop(0))
        if self._idle:
            wait = max(self._idle[0].idle_since - due, 0.05)
            self._idle_timer = self._later(wait, self._expire)

    def _grow(self) -> None:
        """Start as many workers as the waiting tasks need; park when nothing waits, so that we are woken."""
        if self._is_closed:
            return
        size = self._settings.processes
        while self._present() < size:
            ready, starting = self._front.has_ready(Lane.PROCESS), self._starter.count
            if ready and not self._starter.may_start():
                self._look_again(self._starter.pause())
                break
            if ready > starting:
                if not self._starter.start():
                    break
            elif ready:  # those that start now will take them; but more may come meanwhile, and nobody would tell us
                self._look_again()
                break
            else:
                attempt = self._front.claim(Lane.PROCESS)
                if attempt is None:
                    break
                self._front.give_back(attempt)
        idle_or_starting = len(self._idle) + self._starter.count
        needs_spare = self._is_armed and self._busy and not idle_or_starting and self._present() <= size
        if needs_spare and self._starter.may_start():
            self._starter.start()

    def _present(self) -> int:
        """Count the workers that run, or could run, a task."""
        return self._busy + len(self._idle) + self._starter.count

    def _look_again(self, delay: float = 0.002) -> None:
        if self._look_timer is None:
            self._look_timer = self._later(delay, self._looked_again)

    def _looked_again(self) -> None:
        self._look_timer = None
        self._pump()

    def _later(self, delay: float, call: Callable[..., None], *args: Any) -> asyncio.TimerHandle:
        return self._loop.call_later(delay, call, *args, context=contextvars.Context())

    # -- events of workers

    def on_start(self, worker: Worker) -> None:
        """A process was started."""
        with self._lock:
            self._workers = (*self._workers, worker)
        self._watchers[worker] = Watcher(worker, self._loop, self)

    def on_hello(self, worker: Worker) -> None:
        """A worker is ready."""
        self.counters.started += 1
        self._starter.succeeded(worker)
        self._rest(worker)
        self._tell_waiters()
        self._pump()

    def on_start_failure(self, error: BaseException, *, is_final: bool) -> None:
        """A worker could not start; when it is final, no worker can."""
        self.counters.start_failures += 1
        if is_final and not self._busy and not self._idle:
            self._starter.resume()
            self._tell_waiters(error)
            self._front.fail_ready(Lane.PROCESS, error)
            attempt = self._front.claim(Lane.PROCESS)  # park
            if attempt is not None:
                self._front.give_back(attempt)
                self._look_again()
            return
        self._tell_waiters()
        self._look_again()

    def on_answer(self, worker: Worker, frame: Frame) -> None:
        """A task was answered: the worker gets its next one first, then the answer is decoded."""
        attempt = worker.take(frame.number)
        if attempt is None:
            self.counters.late += 1
            return
        worker.tasks_done += 1
        if worker.timers:
            self._forget_timer(worker, frame.number)
        if frame.flags & RETIRE or worker.tasks_done == self._settings.max_tasks_per_worker:
            self._replace(worker, is_poisoned=bool(frame.flags & RETIRE))
        else:
            self._refill(worker)
        self._decoder.settle(attempt, frame, worker.label)

    def on_nonsense(self, worker: Worker, problem: str) -> None:
        """A worker broke the protocol: it goes, and the task it runs is told why."""
        self.counters.malformed += 1
        worker.failure = problem
        worker.kill()

    def on_stacks(self, worker: Worker, request: int, text: str) -> None:
        """A worker says what it does."""
        self._stacks.answer(worker, request, text)

    def on_progress(self, worker: Worker, task_id: int, done: float, total: float | None, message: str) -> None:
        """A task says how far it is."""
        attempt = worker.attempt_of(task_id)
        if attempt is not None:
            self._front.progress(attempt, done, total, message)

    def on_death(self, worker: Worker) -> None:
        """A worker has ended, and all its answers are in."""
        with self._lock:
            self._workers = tuple([each for each in self._workers if each is not worker])
        watcher = self._watchers.pop(worker)
        last = worker.child.page.last() if worker.child.page is not None else 0
        status, stderr = worker.child.reap(), watcher.stderr.tail()
        if worker in self._idle:
            self._idle.remove(worker)
            self.counters.idle_deaths += 1
        if worker.was_busy:
            self._busy -= 1
        for number, attempt in reversed(worker.take_all()):
            self._forget_timer(worker, number)
            if number > last:
                self._give_back(attempt)
                continue
            outcome = Outcome(started_at=worker.started(number), completed_at=time.monotonic(), worker=worker.label)
            if number in worker.doomed:
                outcome.cancelled = True
            else:
                self.counters.crashes += 1
                outcome.error = crash_error(attempt, worker, status, stderr)
            self._front.end(attempt, outcome)
        worker.close()
        if worker.was_starting:
            self._starter.failed(worker, status, stderr)
        if not self._workers:
            self._tell_waiters()
        self._pump()

    def _tell_waiters(self, error: BaseException | None = None) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(error) if error is not None else waiter.set_result(None)

    # -- stopping tasks and workers

    def interrupt(self, attempt: Attempt) -> None:
        """Ask ``attempt`` to stop, and kill its worker after its grace."""
        worker, number = attempt.lane_data or OVER
        if worker is None:
            return
        self.arm_spare()
        if worker.recall(number):
            self._front.end(attempt, Outcome(cancelled=True))
            self._refill(worker)
        elif number not in worker.timers and number not in worker.doomed:
            if attempt.grace > 0:
                worker.ask_to_stop(number, attempt.grace)
                worker.timers[number] = self._later(attempt.grace, self._force, worker, number)
            else:
                self._force(worker, number)

    def _force(self, worker: Worker, number: int) -> None:
        """Kill the worker, if it still runs the task; what it has not begun is given back first."""
        worker.timers.pop(number, None)
        attempt = worker.attempt(number)
        if attempt is None or worker.state == "dead":
            return
        if worker.started(number) is None:  # it is behind another task, and on the skip set
            worker.ask_to_stop(number, attempt.grace)
            worker.timers[number] = self._later(max(attempt.grace, 0.01), self._force, worker, number)
            return
        self._give_back_rest(worker)
        worker.doomed.add(number)
        self.counters.killed += 1
        worker.kill()

    def _give_back_rest(self, worker: Worker) -> None:
        for attempt in reversed(worker.recall_all()):
            self._give_back(attempt)

    def _give_back(self, attempt: Attempt) -> None:
        self.counters.given_back += 1
        attempt.lane_data = None
        self._front.give_back(attempt)

    def _forget_timer(self, worker: Worker, number: int) -> None:
        timer = worker.timers.pop(number, None)
        if timer is not None:
            timer.cancel()

    def _replace(self, worker: Worker, *, is_poisoned: bool) -> None:
        """Take a worker out of service: at once if an interrupt may have left locks held in it, else politely."""
        if worker.state != "busy":
            return
        self._give_back_rest(worker)
        worker.is_unwanted = True
        if is_poisoned:
            self.counters.retired += 1
            worker.state = "retiring"
            self._busy -= 1
            worker.kill()
            self._pump()
        else:
            self._refill(worker)

    def _dismiss(self, worker: Worker) -> None:
        """Let a worker without a task leave; kill it if it does not."""
        if worker.is_unwanted:
            self.counters.recycled += 1
        worker.leave()
        self._later(max(self._settings.grace, 0.1), self._hurry, worker)

    def _hurry(self, worker: Worker) -> None:
        if worker.state != "dead":
            worker.kill()

    # -- all of them

    async def warm_up(self) -> None:
        """Start every worker and wait until they said hello. WorkerStartupError: none can start."""
        while not self._is_closed and self._busy + len(self._idle) < self._settings.processes:
            while self._present() < self._settings.processes and self._starter.may_start():
                if not self._starter.start():
                    break
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter

    async def restart(self) -> None:
        """Let idle workers leave now, and busy ones after their task; new ones start as they are needed."""
        for worker in self._workers:
            worker.is_unwanted = worker.state in ("starting", "busy", "idle")
        idle, self._idle = self._idle, []
        for worker in idle:
            self._dismiss(worker)
        self._pump()

    async def close(self, grace: float) -> None:
        """Let all workers leave, kill those that have not after ``grace`` seconds, and reap every one."""
        self._is_closed = True
        self._idle.clear()
        for timer in (self._idle_timer, self._look_timer):
            if timer is not None:
                timer.cancel()
        for worker in self._workers:
            worker.kill() if worker.state == "starting" else worker.leave()
        await self._wait_until_gone(grace)
        self.kill()
        await self._wait_until_gone(5.0)
        thread = self._decoder.close()
        if thread is not None:
            thread.join(0.25)

    async def _wait_until_gone(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while self._workers and (left := end - time.monotonic()) > 0:
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            await asyncio.wait([waiter], timeout=left)
