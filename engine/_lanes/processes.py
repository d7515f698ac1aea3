"""The process lane: plain functions in worker processes of our own.

Guarantees
    ``wake``, ``started``, ``recall``, ``workers``, ``stacks``, ``kill`` and ``snapshot_function`` may be called from
    any thread; the rest is the home loop's. Shared: ``Attempt.lane_data``, guarded by ``_claim_lock`` until the attempt
    is sent (see ``_process.worker``). Lock order: a worker's before ``_claim_lock``; neither is held across a call of
    the front.
    Every claimed attempt leaves once: answered (taken out of the worker's table), recalled, or found in the table of a
    dead worker. design/0004-worker-protocol.md has the interleavings.
"""

import asyncio
import functools
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from .._mailbox import Mailbox
from .._states import Lane
from .._wire.frames import CANCELLED, NOT_DECODED, PART, RETIRE, SKIPPED, VALUES
from .._wire.page import ALL_ITEMS
from ._process.burial import bury
from ._process.chunk_watch import ChunkWatch
from ._process.crash import crash_error, memory_error
from ._process.decoder import Decoder
from ._process.failure_report import decode_error
from ._process.feeder import Feeder
from ._process.functions import Functions
from ._process.hearing import Events
from ._process.memory import MemoryWatch
from ._process.pool import Listener, Pool
from ._process.reader import Frame
from ._process.settings import Counters, ProcessSettings
from ._process.stacks import StackCollector
from ._process.starter import Starter
from ._process.usage import MemoryUse
from ._process.watcher import Watcher
from ._process.worker import OVER, Worker
from .base import Attempt, Front, Outcome, WorkerInfo
from .chunk import Chunk, Item

__all__ = ["Counters", "ProcessLane", "ProcessSettings"]

log = logging.getLogger("engine")

_ENDS_OF_CHUNKS = (VALUES, CANCELLED, NOT_DECODED)
POLITE_SECONDS = 0.05  #: in which a chunk may end between two items: then its worker can be used again

_STANDSTILL = (
    "expected %s to begin the task that it was sent within a second, got none begun; the task goes to another worker, "
    "and this one is replaced. Something that an earlier task left behind holds its interpreter, such as a thread in C "
    "code that keeps the GIL or an object that takes long to be freed; end such threads before the function returns"
)


class ProcessLane:
    """Runs attempts in worker processes; see ``_lanes.base.Lane`` for the contract."""

    name = Lane.PROCESS
    takes_chunks = True  #: an attempt may be a Chunk
    starter: type[Starter] = Starter
    listener: Callable[[Worker, asyncio.AbstractEventLoop, Events], Listener] = Watcher

    def __init__(self, front: Front, home: Mailbox, settings: ProcessSettings) -> None:
        self.counters = Counters()
        self.tags_prints = True
        self._front = front
        self._home = home
        self._settings = settings
        self._functions = Functions()
        self._decoder = Decoder(self._end, front.return_row, home.loop, self.counters, self._make_room)
        self._waiting: list[Worker] = []  #: those that get no task before results have been decoded; home loop only
        self._stacks = StackCollector(home)
        self._claim_lock = threading.RLock()  # the collector may call us from inside (design/0002)
        self._feeder = Feeder(
            front, home, self._functions, self.counters, self._claim_lock,
            workers=lambda: self._pool.workers, pump=lambda: self._pool.pump(),
            on_sent=None if settings.worker_memory_limit is None else lambda: self._memory.begin(),
            on_chunk=lambda: self._chunks.begin(),
        )  # fmt: skip
        self.encoder = self._feeder.encoder
        self._pool = Pool(
            front, home.loop, settings, self.counters,
            claim_lock=self._claim_lock, feeder=self._feeder, give_back_rest=self._give_back_rest,
            on_standstill=self._end_standstill, events=self, starter=self.starter, listen=type(self).listener,
        )  # fmt: skip
        self._memory = MemoryWatch(
            settings.worker_memory_limit, self._pool.later, lambda: self._pool.workers,
            on_too_much=self._end_greedy, on_heavy=self._pool.pump,
        )  # fmt: skip

        self._chunks = ChunkWatch(self._pool.later, lambda: self._pool.workers)

    # -- from any thread

    def wake(self) -> None:
        """Look for work soon."""
        self._home.post(self._pool.pump)

    def overtake(self) -> None:
        """Let a task that is more urgent than what lies unbegun in workers go before it, soon."""
        self._home.post(self._pool.overtake)

    def started(self, attempt: Attempt) -> float | None:
        """Return when ``attempt`` began, from its worker's start page, or from its answer while that is decoded."""
        worker, number = attempt.lane_data or OVER
        return worker.started(number) if worker is not None else self._decoder.started(attempt)

    def recall(self, attempt: Attempt) -> bool:
        """Take ``attempt`` back, if its worker has not begun it."""
        if self._feeder.take_unsent(attempt):  # claimed, and being pickled this instant: ``send`` will see this
            return True
        worker, number = attempt.lane_data or OVER
        if worker is None:
            return self._feeder.take_unsent(attempt)
        is_back, others = worker.recall(number)
        if is_back or others:
            self._home.post(self._give_back, worker, others)
        return is_back or self._feeder.take_unsent(attempt)  # the latter: it came back along with another one meanwhile

    def snapshot_function(self, fn: Callable[..., Any], name: str = "") -> bool:
        """Pickle ``fn`` now, if that has not been done, or its global names stand for something else by now; what goes
        wrong is raised on its tasks when they are sent. Return whether this is done for good.

        Raises:
            KeyboardInterrupt: Ctrl-C came meanwhile.
        """
        entry = self._functions.get(fn, name or getattr(fn, "__qualname__", ""), in_submit=True)
        return entry is None or not entry.names

    @property
    def size(self) -> int:
        """Give how many tasks run at once. Any thread."""
        return self._pool.size

    def workers(self) -> list[WorkerInfo]:
        """Describe every worker."""
        return [worker.describe() for worker in self._pool.workers]

    def stacks(self) -> dict[str, str]:
        """Return what each worker does now; waits at most 0.25 s for all of them together."""
        return self._stacks.collect(self._pool.workers, self._pool.watchers)

    def refuse(self) -> None:
        """Start no more workers, not even a spare: all is cancelled. Any thread."""
        self._pool.refuse()

    def kill(self) -> None:
        """Kill every worker and its process group, and start no more; what they run ends cancelled, not crashed."""
        self._pool.refuse()
        for worker in self._pool.workers:
            self.counters.killed += worker.doom()
            worker.kill()

    def bury(self, seconds: float) -> None:
        """Kill and reap every worker and close all descriptors, without the loop: it will not turn again."""
        bury(self._pool, seconds)
        self._decoder.close()
        self._feeder.abandon()

    def forget_in_child(self) -> None:
        """In a forked child: close its copies of the workers' descriptors. The workers stay the parent's."""
        workers, self._pool.workers = self._pool.workers, ()
        for worker in workers:
            worker.forget()

    # -- events of workers

    def on_hello(self, worker: Worker) -> None:
        """A worker is ready."""
        worker.failure = self._memory.objection(worker)
        if worker.failure:
            worker.kill()
        else:
            self._pool.welcome(worker)

    def on_answer(self, worker: Worker, frame: Frame) -> None:
        """A task was answered: the worker gets its next one first, then the answer is decoded."""
        if frame.kind == SKIPPED:
            self._on_skipped(worker, frame)
            return
        if frame.flags & PART or frame.kind == VALUES:
            problem = self._on_items(worker, frame)
            if problem:
                self.on_nonsense(worker, problem)
            if problem or frame.flags & PART:
                return
        attempt = worker.take(frame.number, frame.ended - frame.started)
        if attempt is None:
            self.on_nonsense(worker, f"it answered number {frame.number}, which was not its turn")
            return
        chunk = attempt.args if type(attempt.args) is Chunk else None
        if chunk is not None and not chunk.is_single and frame.kind not in _ENDS_OF_CHUNKS:
            chunk.begun = worker.items_begun(frame.number)
            self._front.end(attempt, Outcome(error=decode_error(attempt, RuntimeError("a chunk has no such end"))))
            self.on_nonsense(worker, f"it answered a chunk with kind {frame.kind}")
            return
        worker.tasks_done += 1
        if worker.timers:
            self._forget_timer(worker, frame.number)
        try:
            if frame.flags & RETIRE or not self._pool.is_well_fed(worker):
                self._feed(worker, frame)
        finally:  # Ctrl-C may have come while the next task was pickled
            if chunk is not None and chunk.is_single:
                problem = self._decoder.settle_single(attempt, chunk, frame, worker.label)
            else:
                problem = self._decoder.settle(attempt, frame, worker.label)
        if problem:
            self.on_nonsense(worker, problem)

    def on_row(self, worker: Worker, frames: list[Frame]) -> None:
        """Tasks were answered with values: they end together; what is not in its turn is looked at by itself."""
        attempts = worker.take_row(frames)
        worker.tasks_done += len(attempts)
        if worker.timers:
            for frame in frames[: len(attempts)]:
                self._forget_timer(worker, frame.number)
        try:
            if attempts and not self._pool.is_well_fed(worker):
                self._feed(worker, frames[0])
        finally:  # Ctrl-C may have come while the next task was pickled
            self._decoder.settle_row(list(zip(attempts, frames, strict=False)), worker.label)
            for frame in frames[len(attempts) :]:
                if not worker.failure:
                    self.on_answer(worker, frame)

    def _on_items(self, worker: Worker, frame: Frame) -> str:
        """Items of a chunk were answered, or it is over; return what is wrong with that."""
        running = worker.running_chunk(frame.number)
        if running is None or running[1].is_single:
            return "it answered items, and was not at a chunk of several"
        attempt, chunk = running
        chunk.begun = worker.items_begun(frame.number)
        if frame.flags & PART:
            return self._decoder.take_part(attempt, chunk, frame, worker.label)
        if not chunk.is_over and chunk.answered < chunk.begun < ALL_ITEMS:
            return "it answered fewer items than it began"
        if chunk.stopped_at is not None:
            chunk.offer_rest()  # now: the worker gets next what is behind it in the queue
        is_unwanted = chunk.is_over or attempt.cancel_requested or frame.flags & RETIRE
        return "it answered fewer items than it was sent" if chunk.answered < chunk.size and not is_unwanted else ""

    def _end(self, attempt: Attempt | Item, outcome: Outcome) -> None:
        """Report the end of an attempt, or of an item of one."""
        if type(attempt) is Item:
            attempt.settle(outcome)
        else:
            self._front.end(attempt, outcome)  # type: ignore[arg-type]  # mypy does not narrow by an exact type

    def _on_skipped(self, worker: Worker, frame: Frame) -> None:
        """A worker has not begun what it was sent: it was told so, to end the task or to have another worker run it."""
        was_asked = frame.number in worker.timers or frame.number in worker.doomed
        try:
            attempt = worker.take_skipped(frame.number)
        except KeyError:
            self.on_nonsense(worker, f"it skipped number {frame.number}, which nobody had told it to")
            return
        if attempt is None:
            return
        self._forget_timer(worker, frame.number)
        if was_asked:
            attempt.lane_data = OVER
            self._front.end(attempt, Outcome(cancelled=True, worker=worker.label))
        else:
            self._feeder.give_back_unsent(attempt)
        self._feed(worker, frame)

    def _feed(self, worker: Worker, frame: Frame) -> None:
        """Give a worker that has answered what comes next, or have it replaced."""
        if frame.flags & RETIRE or worker.tasks_done == self._settings.max_tasks_per_worker:
            worker.is_poisoned = bool(frame.flags & RETIRE)
            self._replace(worker)
        elif self._decoder.is_full():
            self._waiting.append(worker)
        else:
            self._pool.refill(worker)

    def _make_room(self) -> None:
        self._home.post(self._refill_waiting)

    def _refill_waiting(self) -> None:
        """Give work again to workers that had to wait for the decoder."""
        waiting, self._waiting = self._waiting, []
        for worker in waiting:
            self._pool.refill(worker)

    def on_heavy(self, worker: Worker) -> None:
        """A worker holds more memory than it may, and takes no further task: what it was sent goes to others."""
        self._replace(worker)

    def on_nonsense(self, worker: Worker, problem: str) -> None:
        """A worker broke the protocol: it goes, the task it runs is told why, and nothing more of it is believed."""
        if worker.failure or worker.state == "retiring":  # which closes its descriptors, in its grace for exit handlers
            return
        self.counters.malformed += 1
        worker.failure = problem
        self._give_back_rest(worker)  # or it may begin the next task before the kill arrives, which then has crashed
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
        watcher = self._pool.unlist(worker)
        last = worker.last_begun()
        worker.has_begun = last > 0
        status, stderr = worker.exit_status(), watcher.stderr.tail()
        is_blamed = False
        for number, attempt in reversed(worker.take_all()):
            self._forget_timer(worker, number)
            if number > last:
                attempt.lane_data = None
                self._feeder.give_back_unsent(attempt)
                continue
            outcome = Outcome(started_at=worker.started(number), completed_at=time.monotonic(), worker=worker.label)
            if type(attempt.args) is Chunk:
                attempt.args.begun = 1 if attempt.args.is_single else worker.items_begun(number)
            is_blamed = True
            if number in worker.doomed:
                outcome.cancelled = True
            elif (use := worker.exceeded.get(number)) is not None:
                self.counters.memory_exceeded += 1
                limit = self._settings.worker_memory_limit or 0
                outcome.error = memory_error(attempt, worker, status, stderr, use, limit)
            else:
                self.counters.crashes += 1
                outcome.error = crash_error(attempt, worker, status, stderr)
            self._end_dead(attempt, outcome)
        if worker.is_unwanted and not (is_blamed or worker.is_poisoned):
            self.counters.recycled += 1
        worker.close()
        self._pool.settle_death(worker, status, stderr)

    def _end_dead(self, attempt: Attempt, outcome: Outcome) -> None:
        """Report the end of an attempt with its worker: of a chunk, once what it had answered is decoded."""
        end = functools.partial(self._front.end, attempt, outcome)
        if type(attempt.args) is Chunk and not outcome.cancelled:
            attempt.args.ending(outcome)  # what was not run goes to others at once
            if attempt.args.hold(end):
                return
        end()

    # -- stopping tasks

    def has_answered(self, attempt: Attempt) -> bool:
        """Read what has arrived; say whether the answer of ``attempt`` was in it or is being decoded."""
        worker, _ = attempt.lane_data or (None, 0)
        watcher = self._pool.watchers.get(worker) if worker is not None else None
        if watcher is not None:
            watcher.read_results_now(lambda: attempt.lane_data is OVER)
        return attempt.lane_data is OVER

    def interrupt(self, attempt: Attempt) -> None:
        """Ask ``attempt`` to stop, and kill its worker after its grace."""
        worker, number = attempt.lane_data or OVER
        if worker is None:  # over, or its result is being decoded, and nobody waits for that any more
            self._decoder.give_up(attempt)
            return
        self._pool.arm_spare()
        is_back, others = worker.recall(number)
        if is_back:
            self._front.end(attempt, Outcome(cancelled=True))
        if is_back or others:
            self._give_back(worker, others)
        if not is_back and number not in worker.timers and number not in worker.doomed:
            if type(attempt.args) is Chunk and attempt.args.size > 1 and attempt.grace > 0:
                worker.stop_chunk(number)
                pause = min(POLITE_SECONDS, attempt.grace / 2)
                worker.timers[number] = self._pool.later(pause, self._press, worker, number, attempt.grace - pause)
            elif attempt.grace > 0:
                worker.ask_to_stop(number, attempt.grace)
                worker.timers[number] = self._pool.later(attempt.grace, self._force, worker, number)
            else:
                self._force(worker, number)

    def _press(self, worker: Worker, number: int, grace: float) -> None:
        """Ask a chunk to stop that was told to begin no further item, and still runs."""
        worker.ask_to_stop(number, grace)
        worker.timers[number] = self._pool.later(grace, self._force, worker, number)

    def _force(self, worker: Worker, number: int) -> None:
        """Kill the worker, if it still runs the task; what it has not begun is given back first."""
        worker.timers.pop(number, None)
        attempt = worker.attempt(number)
        if attempt is None or worker.state == "dead":
            return
        if worker.started(number) is None:  # it is behind another task, and on the skip set
            worker.ask_to_stop(number, attempt.grace)
            worker.timers[number] = self._pool.later(max(attempt.grace, 0.01), self._force, worker, number)
            return
        if self._is_alone(worker, number):
            worker.doomed.add(number)
            self.counters.killed += 1
            worker.kill()

    def _end_greedy(self, worker: Worker, use: MemoryUse) -> None:
        """Kill the worker of a task that took too much memory; its own retry policy decides what follows."""
        if use.number not in worker.doomed and self._is_alone(worker, use.number):
            worker.exceeded[use.number] = use
            worker.is_unwanted = True
            worker.kill()

    def _end_standstill(self, worker: Worker) -> None:
        """Take back what a worker has been sent and does not begin, and replace it; design/0009."""
        worker.is_unwanted = True
        if not worker.has_stood_still:
            worker.has_stood_still = True
            log.warning(_STANDSTILL, worker.label)
        self._give_back_rest(worker)
        self._pool.refill(worker)

    def _is_alone(self, worker: Worker, number: int) -> bool:
        """Give back what the worker has not begun; say whether it then holds nothing but task ``number``.

        False: it took the next one meanwhile, so this one is over and its answer on the way.
        """
        self._give_back_rest(worker)
        return not worker.has_begun_after(number)

    def _give_back_rest(self, worker: Worker) -> None:
        """Give back what ``worker`` has not begun."""
        for attempt in reversed(worker.recall_all()):
            self._feeder.give_back_unsent(attempt)

    def _give_back(self, worker: Worker, others: list[Attempt]) -> None:
        """Give back what came along with a recalled task; its worker has room now."""
        for attempt in reversed(others):
            self._feeder.give_back_unsent(attempt)
        self._pool.refill(worker)

    def _forget_timer(self, worker: Worker, number: int) -> None:
        timer = worker.timers.pop(number, None)
        if timer is not None:
            timer.cancel()

    def _replace(self, worker: Worker) -> None:
        """Take a worker out of service: at once if an interrupt may have left locks held in it, else politely."""
        worker.is_unwanted = True
        if worker.state == "idle":
            self._pool.let_go(worker)
        if worker.state != "busy":
            return
        self._give_back_rest(worker)
        if worker.is_poisoned:
            self.counters.retired += 1
            worker.state = "retiring"
            self._pool.busy -= 1
            worker.kill()
            self._pool.pump()
        else:
            self._pool.refill(worker)

    # -- all workers

    def arm_spare(self) -> None:
        """Keep one more worker than run tasks, so that a killed one is replaced at once."""
        self._pool.arm_spare()

    async def warm_up(self) -> None:
        """Start every worker and wait until they said hello. WorkerStartupError: none can start."""
        await self._pool.warm_up()

    async def restart(self) -> None:
        """Let idle workers leave now, and busy ones after their task; new ones start as they are needed."""
        await self._pool.restart()

    async def close(self, grace: float) -> None:
        """Let all workers leave, kill those that have not after ``grace`` seconds, and reap every one."""
        self._memory.end()
        self._chunks.end()
        await self._pool.close(grace)
        self._decoder.close()
        await self._feeder.close(grace)
