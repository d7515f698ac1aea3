"""One run of the demo over a file of jobs: begin the work or go on with it, until all of it is done."""

import asyncio
import os
import platform
import shlex
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, TextIO

from engine import Engine, Lane, __version__
from engine.jobs import CurrentJob, Jobs, QueueStatistics, Worker

from .. import INTERRUPTED
from ..demo_state import DemoState
from ..demo_work import Work, find_work
from ..metrics import failure
from ..progress import Progress
from ..refusals import Refused
from ..survey import FILE_TIMEOUT
from ..units import count, plain
from .plan import Plan, enqueue_once, load_plan
from .results import read_rows
from .work import TASK, measure_file, outcome_of, path_of

__all__ = ["DurableRun"]

_LOOK_EVERY = 0.25  #: seconds between two looks at how much is left
_DRAIN_SECONDS = 2.0  #: that a Ctrl-C leaves to what runs
_ABSORB_EVERY = 2000  #: files between two looks at the history, which remembers 10,000 tasks


class DurableRun(DemoState):
    """Measures the files of ``work`` as jobs in ``jobs``; what an earlier run has done stays done."""

    def __init__(self, jobs: Jobs, file: str, work: Work, stream: TextIO, *, is_any_work: bool = False) -> None:
        super().__init__(work)
        self._file = file  #: as it was named
        self._is_new = not os.path.lexists(file)
        self._is_any_work = is_any_work  #: nobody said which tree: what the file says counts, if it says anything
        self.left = 0  #: files that were to be done when this run began
        self.rescued = 0  #: jobs that a run which died had begun
        self.repeated = 0  #: jobs that were claimed more than once
        self._jobs = jobs
        self._stream = stream
        self._task = jobs.task(name=TASK, queue="demo", lane="process", timeout=FILE_TIMEOUT)(measure_file)
        self._progress: Progress | None = None
        self._goes_on = False
        self._ends = 0
        self._presses = 0  #: of Ctrl-C

    def run(self) -> None:
        """Do what is left of it. Ctrl-C raises KeyboardInterrupt once the worker has drained.

        Raises:
            Refused: there is no .py file to measure, or the file of jobs is another tree's.
        """
        plan = None if self._is_new else load_plan(self._jobs)
        self._goes_on = plan is not None
        plan = self._begin() if plan is None else self._checked(plan)
        self.work = replace(self.work, root=plan.root, only=plan.only, limit=plan.limit)
        self.found, self.expected = plan.files, plan.files + len(plan.failures)
        before, rescued = read_rows(self._jobs, plan.failures), self._rescued()
        self.totals, self.left, self.earlier = before.totals, before.left, before.totals.done - len(plan.failures)
        if self.left:
            asyncio.run(self._work())
            after = read_rows(self._jobs, plan.failures)
            self.totals, self.repeated = after.totals, after.repeated
            self.rescued = self._rescued() - rescued
        else:
            print(f"nothing is left to do in {plain(self._file)}: these are its results", file=self._stream)
        if self._presses:
            raise KeyboardInterrupt

    def _begin(self) -> Plan:
        """Find the files, and enqueue a job for each."""
        work = self.work
        paths, failures = find_work(work)
        plan = Plan(root=work.root, only=work.only, limit=work.limit, files=len(paths), failures=failures)
        enqueue_once(self._jobs, self._task, plan, paths)
        return load_plan(self._jobs) or plan

    def _checked(self, plan: Plan) -> Plan:
        """Return ``plan`` if it is what was asked for.

        Raises:
            Refused: it is other work.
        """
        work = self.work
        same_limit = work.limit is None or work.limit == plan.limit
        if not same_limit or not (self._is_any_work or (plan.root, plan.only) == (work.root, work.only)):
            limit = "" if plan.limit is None else f" --limit {plan.limit}"
            where = plan.root if plan.only is None else os.path.join(plan.root, plan.only)
            raise Refused(
                f"expected --jobs to be a new file, or one for the same PATH and --limit, got {self._file!r}, "
                f"which is for: {shlex.quote(where)}{limit}"
            )
        return plan

    def _rescued(self) -> int:
        statistics = self._jobs.store.read(lambda book, now: book.statistics(now)).result()
        return statistics.counters.get("rescued", 0)

    # -- the worker

    async def _work(self) -> None:
        self._obey_ctrl_c()
        self._jobs.after_run(self._on_completed)
        self._jobs.on_failed(self._on_failed)
        async with Engine(processes=self.work.processes) as engine:
            self._introduce(engine)
            began = time.perf_counter()
            self._progress = Progress(self._stream, self.totals, self.expected)
            worker = self._jobs.worker(engine, name="demo")
            try:
                await worker.start()
                await self._until_done(engine)
            finally:
                await self._stop(worker)
                self.elapsed = time.perf_counter() - began
                self.times.absorb(engine.tasks())
                self._progress.close()

    async def _until_done(self, engine: Engine) -> None:
        """Wait until no job is left in the file, whoever does it, or somebody presses Ctrl-C."""
        absorbed = 0
        while not self._presses:
            statistics = await self._jobs.store.read(lambda book, now: book.statistics(now))
            if not any(map(_unfinished, statistics.queues)):
                return
            if self._ends - absorbed >= _ABSORB_EVERY:
                absorbed = self._ends
                self.times.absorb(engine.tasks())
            await asyncio.sleep(_LOOK_EVERY)

    async def _stop(self, worker: Worker) -> None:
        if self._presses:
            await worker.stop(_DRAIN_SECONDS)
        else:
            await worker.stop(0)

    def _introduce(self, engine: Engine) -> None:
        lanes = engine.snapshot().lanes
        for lane in (Lane.THREAD, Lane.PROCESS):
            self.slots[lane] = lanes[lane].slots
        processes = count(self.slots[Lane.PROCESS], "worker process", "worker processes")
        file = plain(self._file)
        goes_on = f"goes on with {file}: {self.left:,} of {count(self.found, 'file')} left"
        begins = f"{count(self.found, '.py file')} below {plain(self.work.root)}, each a job in {file}"
        print(
            f"engine {__version__}, Python {platform.python_version()}, {processes}\n"
            f"{goes_on if self._goes_on else begins}",
            file=self._stream,
            flush=True,
        )

    # -- what is heard while it runs

    async def _on_completed(self, job: CurrentJob, result: dict[str, Any]) -> None:
        self.totals.add(outcome_of(job.args["path"], result))
        self._step()

    async def _on_failed(self, job: CurrentJob, error: BaseException) -> None:
        self.totals.add(failure(path_of(job.args["path"]), "failed", type(error).__name__))
        self._step()

    def _step(self) -> None:
        self._ends += 1
        if self._progress is not None:
            self._progress.show()

    def _obey_ctrl_c(self) -> None:
        """Have the first Ctrl-C drain the worker, and the second end this process at once: the file knows the rest."""

        def obey() -> None:
            self._presses += 1
            if self._presses > 1:
                os._exit(INTERRUPTED)

        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, obey)

    # -- afterwards

    def last_lines(self) -> Iterator[str]:
        """Yield how this run went on with an earlier one, and how to look at the jobs."""
        file = plain(shlex.quote(self._file))
        yield ""
        if self._goes_on:
            yield (
                f"left by earlier runs: {self.left:,} of {count(self.found, 'file')}; rescued from one that died: "
                f"{count(self.rescued, 'job')}; repeated: {self.repeated:,}"
            )
        if self._presses:
            yield f"go on with: engine demo --jobs {file}"
        yield f"look at the jobs with: engine jobs stats {file}"

    def jobs_as_dict(self) -> dict[str, Any]:
        """Return what ``--json`` says of jobs."""
        return {"file": self._file, "left": self.left, "rescued": self.rescued, "repeated": self.repeated}


def _unfinished(queue: QueueStatistics) -> int:
    return queue.ready + queue.later + queue.locked + queue.suspects + queue.running
