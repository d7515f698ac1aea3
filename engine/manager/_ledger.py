"""Who is there, who may run, who waits: the shared state of one manager.

Guarantees
    Shared: every field here, every Job and its record.  Guarded by: ``lock``, held for a few dictionary operations,
    never across await, I/O, user code or a call of the engine.  Callers: any thread; methods take the lock themselves
    but for those that end in ``_locked``.  Lock order: this one before a Once's, and neither around the engine's.
    The limit: a job is in ``held`` from its claim until none of its code runs, and a claim is taken only while
    ``held`` has room, in one step. So at most ``limit`` run at once, whoever submits, ends or cancels.
    The door: a submit checks that the manager is open, the name and the limit, and takes its place, in one step.
    No stall: whoever gives a slot back claims it for the next in the same step. Methods return what was claimed, to be
    launched outside the lock.
"""

import threading
from collections import deque
from typing import Any

from engine import EngineClosed, Task

from ._home import Home
from ._job import Job
from ._records import TERMINAL, BackgroundTask, TaskStatus

__all__ = ["Ledger"]


class Ledger:
    """The one owner of a manager's state."""

    def __init__(self, limit: int) -> None:
        self.lock = threading.RLock()  # signal handlers and the collector may call us from inside
        self.limit = limit
        self.tasks: dict[str, BackgroundTask] = {}
        self.running: dict[str, Task[Any]] = {}
        self.jobs: dict[str, Job] = {}
        self.queue: deque[Job] = deque()
        self.held: set[Job] = set()
        self.is_open = True
        self.is_halted = False  #: what queues will not be started any more

    # -- coming in ----------------------------------------------------------------------------------------------

    def admit_locked(self, job: Job) -> list[Job]:
        """Accept ``job`` and put it in the queue; return what may start.

        Raises:
            ValueError: its name is taken, or ``limit`` tasks are RUNNING.
        """
        task_id = job.record.task_id
        if task_id in self.tasks:
            raise ValueError(f"Task {task_id} already exists")
        if len(self.running) >= self.limit:
            raise ValueError("Maximum concurrent tasks exceeded")
        self.tasks[task_id] = job.record
        self.jobs[task_id] = job
        self.queue.append(job)
        return self._claim_locked()

    def check_open_locked(self) -> None:
        """Raise EngineClosed unless tasks are accepted."""
        if not self.is_open:
            raise EngineClosed("expected the manager to be open, got one that was stopped: cannot schedule new futures "
                               "after shutdown; await start() again, or make a new BackgroundTaskManager")  # fmt: skip

    def halt(self) -> None:
        """Start nothing more of what waits."""
        with self.lock:
            self.is_halted = True

    def _claim_locked(self) -> list[Job]:
        claimed: list[Job] = []
        while self.queue and not self.is_halted and len(self.held) < self.limit:
            job = self.queue.popleft()
            if job.is_live:  # one that was cancelled stays in the queue until it is met here
                job.in_driver = True
                self.held.add(job)
                claimed.append(job)
        return claimed

    # -- moving on ----------------------------------------------------------------------------------------------

    def start(self, job: Job, task: Task[Any]) -> bool:
        """Record that ``job`` runs, as ``task``. False: it was cancelled before, and must not."""
        with self.lock:
            if not job.start_locked():
                return False
            self.running[job.record.task_id] = task
            return True

    def finish(
        self, job: Job, status: TaskStatus, *, result: Any = None, cause: BaseException | None = None,
        error: str | None = None, is_asked: bool = False,
    ) -> bool:  # fmt: skip
        """Record how ``job`` ended. False: that is known already. Wake who waits for it."""
        with self.lock:
            job.is_asked = job.is_asked or is_asked
            if not job.finish_locked(status, result, cause, error):
                return False
            if self.running.get(job.record.task_id) is job.record.asyncio_task:
                self.running.pop(job.record.task_id, None)
        job.settled.set()
        return True

    def ask(self, job: Job) -> tuple[bool, Task[Any] | None, list[Job]]:
        """Cancel ``job``: at once if it has not started. Return whether it was live, whom to tell, what may start."""
        with self.lock:
            status, task = job.record.status, job.record.asyncio_task
            if status in TERMINAL:
                return False, None, []
            job.is_asked = True
            if status is TaskStatus.RUNNING:
                return True, task, []
            job.finish_locked(TaskStatus.CANCELLED, None, None, None)
        job.settled.set()
        return True, task, self.leave_driver(job)

    # -- slots --------------------------------------------------------------------------------------------------

    def enter_thread(self, job: Job) -> bool:
        """Let a thread into the function of ``job``. False: it was cancelled before, and must not."""
        with self.lock:
            job.in_thread = job.is_live
            return job.in_thread

    def leave_thread(self, job: Job) -> list[Job]:
        """Record that the thread came out; return what may start."""
        with self.lock:
            job.in_thread = False
            claimed = self._release_locked(job)
        self.tell_left(job)
        return claimed

    def leave_driver(self, job: Job) -> list[Job]:
        """Record that no coroutine of ``job`` runs or will; return what may start. Idempotent."""
        with self.lock:
            job.in_driver = False
            claimed = self._release_locked(job)
        self.tell_left(job)
        return claimed

    def _release_locked(self, job: Job) -> list[Job]:
        if job.has_slot:
            return []
        self.held.discard(job)
        return self._claim_locked()

    def tell_left(self, job: Job) -> None:
        """Wake who waits until none of the code of ``job`` runs, if that is so."""
        with self.lock:
            is_over = not job.has_slot and not job.is_live
        if is_over:
            job.left.set()

    # -- looking in ---------------------------------------------------------------------------------------------

    def get(self, task_id: str) -> Job | None:
        """Return the job of that name."""
        with self.lock:
            return self.jobs.get(task_id)

    def unfinished(self) -> list[Job]:
        """Return what waits, then what runs."""
        with self.lock:
            return [job for job in self.queue if job.is_live] + list(self.held)

    def waiting_at(self, home: Home) -> list[Job]:
        """Return the jobs of ``home`` that have not started."""
        with self.lock:
            jobs = [*self.queue, *self.held]
            return [job for job in jobs if job.home is home and job.record.status is TaskStatus.PENDING]

    def count(self) -> dict[TaskStatus, int]:
        """Return how many records are in each state. Cost: one look at each."""
        counts = dict.fromkeys(TaskStatus, 0)
        with self.lock:
            for record in self.tasks.values():
                counts[record.status] += 1
        return counts

    def forget_old(self, seconds: float) -> None:
        """Drop the records of what ended longer ago."""
        with self.lock:
            old = [job for job in self.jobs.values() if _is_older(job, seconds)]
            for job in old:
                self.jobs.pop(job.record.task_id, None)
                self.tasks.pop(job.record.task_id, None)


def _is_older(job: Job, seconds: float) -> bool:
    completed_at = job.record.completed_at
    return not job.is_live and completed_at is not None and job.now() - completed_at > seconds
