"""Claims what it can start, runs it in an engine, and says how it ended.

Guarantees
    Home loop only, but for the store's callbacks, which post to it.
    A job that was claimed is ended or given back; where the store takes neither, it comes again when nobody holds it
    any more. What is ended or given back is so before the holder is let go.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from engine import Engine, EngineFull, Lane, TaskState, WorkerStartupError

from ... import _checks
from .._check import check_or_raise, log_check_of_store
from .._records import Claimed, End, Ending
from .._reply import Reply
from .._schedules.ticker import Ticker
from .._tasks.settings import DRAIN_TIMEOUT
from ..errors import StoreError
from .failure_log import FailureLog
from .feeder import Feeder
from .holding import Holding
from .recorder import Recorder
from .rooms import Rooms
from .run import Run
from .runner import Runner
from .tally import Tally
from .verdict import Outcome, Stop
from .watcher import Watcher
from .worker_statistics import WorkerStatistics

if TYPE_CHECKING:
    from .._jobs import Jobs

__all__ = ["Worker", "checked_queues"]

_UNRECORDED_MOST = 2000  #: ends that may wait for the store before no more is claimed
_LAST_SECONDS = 5.0  #: that what was stopped has to end, and then the store to take what has ended
_PAUSE_OF_LANE = 1.0  #: seconds in which nothing is claimed for a lane that cannot start anything
_PAUSE_WHEN_FULL = 0.05  #: the same for an engine that has no room

_logger = logging.getLogger("engine.jobs")


class Worker:
    """Runs jobs of ``jobs`` in ``engine`` between ``start`` and ``stop``: ``async with`` does both.

    Made by ``Jobs.worker``, which says what the options mean.
    """

    def __init__(
        self, jobs: Jobs, engine: Engine, *, queues: Iterable[str] | Mapping[str, int | None] | None = None,
        concurrency: int | None = None, name: str | None = None, drain_timeout: float | None = DRAIN_TIMEOUT,
    ) -> None:  # fmt: skip
        self._jobs = jobs
        self._engine = _checked_engine(engine)
        self._queues = None if queues is None else checked_queues(queues, jobs)
        self._concurrency = None if concurrency is None else _checks.positive_int("concurrency", concurrency)
        if drain_timeout is not None:
            drain_timeout = _checks.seconds("drain_timeout", drain_timeout, zero=True)
        self._drain_timeout = drain_timeout
        own = "worker" if name is None else _checks.text("name", name, most=100)
        self.name = f"{socket.gethostname()}:{os.getpid()}:{own}"  #: what people see
        self._tally = Tally()
        self._failure_log = FailureLog()
        self._state = "new"  #: then "starting", "running", "draining", "stopping", "stopped"
        self._is_over = asyncio.Event()  #: nothing runs, or nobody waits for it any more
        self._is_hurried = False
        self._stopped = asyncio.Event()

    # -- from start to stop

    async def start(self) -> Worker:
        """Open the store, become a holder, and begin to claim, on the loop that runs here.

        Raises:
            RuntimeError: it was started before; a worker lives once.
            EngineClosed: the engine does not run.
            ConfigurationError: ``jobs.check()`` finds errors.
            StoreError: the store cannot be opened.
        """
        if self._state != "new":
            raise RuntimeError(f"expected a worker that was not started, got one that is {self._state}; make another")
        self._state = "starting"
        try:
            await self._begin()
        except BaseException:
            if self._state == "starting":
                self._state = "new"
            raise
        return self

    async def _begin(self) -> None:
        store = self._jobs.store
        lanes = {lane: each.slots for lane, each in self._engine.snapshot().lanes.items()}
        check_or_raise(self._jobs, self._queues)
        store.open()
        self._rooms = Rooms(self._concurrency or sum(lanes.values()), self._bounds_of_queues, lanes)
        self._runner = Runner(self._jobs, self._engine, self.name, self._on_ended, self._is_loop_ending)
        self._recorder = Recorder(store, self.name, self._on_recorded)
        self._feeder = Feeder(
            store, self._rooms, holder=self._holder, lane_of=self._runner.lanes,
            is_held_up=lambda: self._recorder.unrecorded >= _UNRECORDED_MOST, take=self._take,
        )  # fmt: skip
        self._watcher = Watcher(store, self._runner, self._holder, lambda: self._feeder.is_claiming)
        self._holding = Holding(
            store, self.name, self._jobs.lease,
            on_lost=lambda: self._runner.stop_all(Stop.LOST), on_held=self._feeder.look,
        )  # fmt: skip
        await self._holding.begin()
        if self._state != "starting":
            self._holding.end()
            raise RuntimeError("expected a worker that is not stopped before it has started, got one that was")
        loop = self._loop = asyncio.get_running_loop()
        self._unlisten = store.listen(self._tell)
        self._state = "running"
        self._feeding = loop.create_task(self._feeder.run(), name=f"engine.jobs: {self.name} claims")
        self._feeding.add_done_callback(lambda _: self._is_over.set())
        self._watching = loop.create_task(self._watcher.run(), name=f"engine.jobs: {self.name} watches")
        self._watching.add_done_callback(self._on_watched)
        ticker = Ticker(store, lambda: self._jobs.schedules)
        self._ticking = loop.create_task(ticker.run(), name=f"engine.jobs: {self.name} ticks")
        self._checking = loop.create_task(log_check_of_store(self._jobs), name=f"engine.jobs: {self.name} checks")

    async def drain(self, timeout: float | None = None) -> bool:
        """Claim no more, and wait for what runs; False if some of it still runs after ``timeout`` seconds.

        Raises:
            RuntimeError: one of its own jobs awaits it, and it that job: it would never end.
        """
        if timeout is not None:
            timeout = _checks.seconds("timeout", timeout, zero=True, remedy="use timeout=None to wait for all")
        if self._state in ("new", "starting", "stopped"):
            return True
        if timeout is None and (caller := self._runner.caller()) is not None:
            raise RuntimeError(
                f"expected the worker to be waited for by others than its own jobs, got job {caller.job.id} "
                f"({caller.job.name}), for which it waits; use asyncio.create_task(worker.stop()), and let the job end"
            )
        if self._state == "running":
            self._state = "draining"
            self._feeder.close()
            self._ticking.cancel()
        await asyncio.wait([self._ticking])
        return await self._over_within(timeout)

    async def stop(self, timeout: float | None = None) -> None:
        """Drain; after ``timeout`` seconds (None: never) stop what runs and give it back; let go of the store.

        Idempotent. What is stopped uses no attempt. A store that takes nothing is not waited for long: what could not
        be recorded is logged, and comes again.

        Raises:
            RuntimeError: as ``drain``.
        """
        is_over = await self.drain(timeout)
        if self._state in ("new", "starting"):
            self._state = "stopped"
            self._stopped.set()
        if self._state != "draining":  # somebody else stops it
            await self._stopped.wait()
            return
        self._state = "stopping"
        try:
            if not is_over:
                await self._give_back()
            await self._end_records()
            await self._let_go()
        except asyncio.CancelledError:  # others may wait for this stop, or come later
            self._abandon()
            raise
        self._state = "stopped"
        self._stopped.set()

    def hurry(self) -> None:
        """Have the ``drain`` or ``stop`` that is under way wait no longer for what runs."""
        self._is_hurried = True
        self._is_over.set()

    def __enter__(self) -> NoReturn:
        raise TypeError("expected a worker in async with, got it in with; use async with jobs.worker(engine): ...")

    def __exit__(self, *exc_info: object) -> None: ...  # only so that ``with`` comes as far as __enter__

    async def __aenter__(self) -> Worker:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, GeneratorExit):  # the coroutine around us is dropped: nothing can be awaited any more
            self._abandon()
            return
        try:
            await self.stop(self._drain_timeout if error is None else 0)
        except asyncio.CancelledError:
            self._abandon()
            raise

    async def _give_back(self) -> None:
        """Stop what runs, and wait for no claim: what it brings is given back with all that is held."""
        self._feeding.cancel()
        self._runner.stop_all(Stop.DRAIN)
        self._runner.cut_hooks()
        self._is_hurried = False
        if not await self._over_within(_LAST_SECONDS):
            self._runner.give_up()
            await self._over_within(_LAST_SECONDS)

    async def _end_records(self) -> None:
        """Wait for the store to take what has ended, but not for ever."""
        try:
            async with asyncio.timeout(_LAST_SECONDS):
                await self._recorder.settled()
        except TimeoutError:
            left = self._recorder.unrecorded
            _logger.error("%s: %d ends of jobs could not be recorded; they come again", self.name, left)

    async def _let_go(self) -> None:
        """Give back what is held in spite of all, and be no holder any more."""
        reply = self._leave_store()
        try:
            async with asyncio.timeout(_LAST_SECONDS):
                if reply is not None:
                    await reply
        except (TimeoutError, StoreError) as error:
            _logger.error("%s could not let go of what it holds in %s, which comes again when its lease is over",
                          self.name, self._jobs.name, exc_info=error)  # fmt: skip

    def _on_watched(self, watching: asyncio.Task[None]) -> None:
        """Abandon everything if the loop ends and nobody stops us: what is held would be held as long as we live."""
        if watching.cancelled() and self._state in ("running", "draining"):
            self._abandon()

    def _tell(self) -> None:
        """Tell who waits that the store has news; on any thread: it is the store's listener."""
        self._feeder.tell()
        self._watcher.tell()
        if self._loop.is_closed():  # under us, and no task of ours heard of it
            self._unlisten()
            self._holding.leave()

    def _is_loop_ending(self) -> bool:
        """Say whether all tasks are being cancelled, those of jobs too, as at the end of ``asyncio.run``."""
        return self._watching.cancelling() > 0

    def _leave_store(self) -> Reply[int] | None:
        self._unlisten()
        self._watching.cancel()
        self._ticking.cancel()
        self._checking.cancel()
        self._recorder.close()
        return self._holding.end()

    def _abandon(self) -> None:
        """Stop without waiting for anything."""
        if self._state in ("new", "starting", "stopped"):
            return
        self._state = "stopping"
        self._feeder.close()
        self._runner.stop_all(Stop.DRAIN)
        self._runner.give_up()
        self._leave_store()
        self._state = "stopped"
        self._stopped.set()

    async def _over_within(self, timeout: float | None) -> bool:
        try:
            async with asyncio.timeout(timeout):
                while self._is_busy() and not self._is_hurried:
                    self._is_over.clear()
                    await self._is_over.wait()
        except TimeoutError:
            pass
        return not self._is_busy()

    def _is_busy(self) -> bool:
        """Say whether something runs, or is claimed."""
        return bool(self._runner.runs) or not self._feeding.done()

    # -- the way of a job

    def _take(self, job: Claimed) -> None:
        """Run what was claimed."""
        self._tally.claimed()
        if self._state != "running":  # it stops: the claim was under way
            self._recorder.add(Ending(job.id, job.token, End.GIVE_BACK))
            return
        run = self._runner.run_of(job)
        self._rooms.take(job.queue, run.lane)
        self._runner.start(run)

    def _on_ended(self, run: Run, ending: Ending, outcome: Outcome) -> None:
        """Have the end of a run recorded."""
        self._rooms.free(run.job.queue, run.lane)
        if ending.failure is not None:
            self._failure_log.expect(run.job, ending)
        self._recorder.add(ending)
        if ending.end is End.GIVE_BACK and outcome.error is not None and outcome.stop is None:
            self._pause(run, outcome.error)
        self._feeder.on_room(run.lane, run.job.queue)
        if not self._runner.runs:
            self._is_over.set()

    def _pause(self, run: Run, error: BaseException) -> None:
        """Claim no more for a while of what ``error`` kept from starting."""
        if isinstance(error, EngineFull):
            for lane in Lane:
                self._feeder.close_lane(lane, _PAUSE_WHEN_FULL)
        elif isinstance(error, WorkerStartupError) and run.lane is not None:
            _logger.warning("%s gives job %d (%s) back: %s", self.name, run.job.id, run.job.name, error)
            self._feeder.close_lane(run.lane, _PAUSE_OF_LANE)
        else:
            _logger.warning("%s claims no more: its engine has stopped", self.name)
            self._feeder.close()

    def _on_recorded(self, ending: Ending, what: TaskState | Exception | None) -> None:
        """Count the end of a run, and log a failure."""
        if ending.failure is not None:
            self._failure_log.tell(ending, what)
        self._tally.recorded(ending, what)
        if isinstance(what, Exception) and not isinstance(what, StoreError):
            self._holding.forsake()  # else its row would be RUNNING, and hold its lock, while we live
        if self._recorder.unrecorded == _UNRECORDED_MOST - 1:
            self._feeder.look()

    # -- looks

    def _holder(self) -> int | None:
        return self._holding.id

    def _bounds_of_queues(self) -> Mapping[str, int | None]:
        return self._jobs.queues if self._queues is None else self._queues

    def statistics(self) -> WorkerStatistics:
        """Return what it has done, and does."""
        if not hasattr(self, "_ticking"):
            return WorkerStatistics(queues={})
        counts = self._tally.counts.copy()
        counts["unrecorded"] += self._recorder.unrecorded
        queues = {queue: running for queue, running in self._rooms.running_of_queues.items() if running}
        return WorkerStatistics(
            claims=self._feeder.claims, lost_leases=self._holding.losses, running=self._rooms.running, queues=queues,
            **counts,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<Worker {self.name!r} {self._state}, runs {self.statistics().running} jobs of {self._jobs.name!r}>"


def _checked_engine(engine: Any) -> Engine:
    if not _checks.is_a(engine, Engine):
        remedy = "use async with Engine() as engine, jobs.worker(engine): ..."
        raise _checks.wrong("engine", "a running Engine", engine, remedy)
    return engine  # type: ignore[no-any-return]  # it was looked at


def checked_queues(queues: Any, jobs: Jobs) -> dict[str, int | None]:
    """Return the queues that a worker is to serve, each with its bound.

    Raises:
        ValueError: they are none, or none of the declared ones.
    """
    if _checks.is_a(queues, str) or not isinstance(queues, Iterable):
        raise _checks.wrong("queues", "names of queues, or names with their bounds", queues, 'use queues=["mail"]')
    known = jobs.queues
    bounds = dict(queues) if isinstance(queues, Mapping) else {name: known.get(name) for name in queues}
    if not bounds:
        raise _checks.wrong("queues", "at least one name", queues, "use queues=None for all")
    return {
        jobs.catalog.check_queue("a queue in queues", name): None
        if most is None
        else _checks.positive_int(f"queues[{name!r}]", most)
        for name, most in bounds.items()
    }
