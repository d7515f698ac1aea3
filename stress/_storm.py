"""The cancel storm itself: submits to all lanes, has each task cancelled at its moment, and remembers what it was told.

Guarantees
    A ``Storm`` lives on the home loop; ``reached`` may be called from any thread, by the tasks themselves.
"""

import asyncio
import itertools
import os
import random
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

from engine import Engine, Lane, Retry, Task, TaskState
from stress._campaign import PATIENCE
from stress._cancellers import Cancellers
from stress._ledger import Promise
from stress._storm_tasks import Inside, Plan, ignore, work, work_async, work_there
from stress._told import note_end

__all__ = ["Settings", "Storm"]

IN_FLIGHT = 4000  #: loop and thread tasks
HARD_IN_FLIGHT = 20
CANCELLED_SHARE = 0.51


@dataclass(frozen=True, slots=True)
class Settings:
    """How big a run is."""

    tasks: int
    hard: int
    seed: int
    backend: str = "native"
    patience: float = PATIENCE


class Storm:
    """One run: what it has promised, and who cancels what."""

    def __init__(self, engine: Engine, settings: Settings, folder: str) -> None:
        self.engine = engine
        self.settings = settings
        self.path = os.path.join(folder, "ledger")
        self.inside = {"loop": Inside(), "thread": Inside()}
        self.pairs: list[tuple[Promise, Task[Any]]] = []
        self.cancellers = Cancellers()
        self.abandoned_most = {Lane.LOOP: 0, Lane.THREAD: 0}
        self.soft = self.hard = 0  #: live tasks
        self._to_kill: dict[int, Promise] = {}  #: process tasks that are to be cancelled when they run
        self._tasks: dict[int, Task[Any]] = {}
        self._loop = asyncio.get_running_loop()
        self._numbers = itertools.count(1)
        self._rng = random.Random(f"{settings.seed} tasks")
        self._views: dict[Any, Any] = {}

    def reached(self, plan: Plan, moment: str) -> None:
        """Have ``plan`` cancelled, if this is its moment. Any thread."""
        if plan.moment != moment:
            return
        plan.moment = None
        for _ in range(plan.times):
            if plan.by == "itself" and plan.task is not None:
                self.cancellers.cancel(plan.promise, plan.task)
            elif plan.by == "loop" and plan.task is not None:
                self._loop.call_soon_threadsafe(self.cancellers.cancel, plan.promise, plan.task)
            else:
                self.cancellers.order(plan.promise, lambda: plan.task)

    # -- the loop and thread lanes

    async def submit_soft(self) -> None:
        """Submit the loop and thread tasks, a window of them at once."""
        rng = self._rng
        cancelled = round(self.settings.tasks * CANCELLED_SHARE)
        plans = [True] * cancelled + [False] * (self.settings.tasks - cancelled)
        rng.shuffle(plans)
        for is_cancelled in plans:
            while self.soft >= IN_FLIGHT:
                await asyncio.sleep(0.001)
            self._submit(self._plan(is_cancelled=is_cancelled))
            if rng.random() < 0.02:
                await asyncio.sleep(0)

    def _plan(self, *, is_cancelled: bool) -> Plan:
        rng = self._rng
        lane = rng.choice(["loop", "thread"])
        body = rng.choices(["instant", "cooperative", "fails once", "fails"], [80, 8, 8, 4])[0]
        plan = Plan(self._promise(frozenset({"completed"})), lane, body, 0.0)
        if is_cancelled:
            plan.moment = rng.choices(
                ["at once", "soon", "begun", "ending", "failing", "done"], [25, 25, 15, 15, 10, 10]
            )[0]
            plan.by = rng.choice(["thread", "loop", "itself"])
            plan.times = rng.choice([1, 1, 1, 2])
            if plan.moment == "begun":
                plan.body = rng.choices(["cooperative", "instant", "stubborn"], [60, 38, 2])[0]
            elif plan.moment == "failing":
                plan.body = "fails once"
        if plan.body == "cooperative":
            plan.seconds = 0.03 if plan.moment == "begun" else rng.choice([0.001, 0.003])
        elif plan.body == "stubborn":
            plan.seconds = 0.1
        return plan

    def _promise(self, outcomes: frozenset[str]) -> Promise:
        return Promise(next(self._numbers), f"{self._rng.getrandbits(64):016x}", accepted=True, outcomes=outcomes)

    def _submit(self, plan: Plan) -> None:
        rng, promise = self._rng, plan.promise
        options: dict[str, Any] = {"priority": rng.choice([-5, 0, 0, 5])}
        if plan.lane == "thread":
            options["lane"] = "thread"
        if plan.body in ("fails once", "fails"):
            promise.most_attempts = 2
            promise.outcomes = frozenset({"ValueError"} if plan.body == "fails" else {"completed", "ValueError"})
            options["retry"] = Retry(max_attempts=2, base_delay=0.02, jitter=0.0)
        elif rng.random() < 0.03:
            options["timeout"] = 0.005
            promise.outcomes = frozenset({"completed", "TaskTimeout"})
        elif rng.random() < 0.02:
            options["total_timeout"] = 0.05
            promise.outcomes = frozenset({"completed", "TaskTimeout"})
        self.soft += 1
        task: Task[Any] = self._view(options).submit(work_async if plan.lane == "loop" else work, self, plan)
        plan.task = task
        self.pairs.append((promise, task))
        task.add_done_callback(partial(self._soft_end, plan))
        self.reached(plan, "at once")
        if plan.moment == "soon":
            self._loop.call_later(rng.choice([0.0, 0.001, 0.01, 0.1]), self.reached, plan, "soon")

    def _view(self, options: dict[str, Any]) -> Any:
        key = tuple(options.items())
        if key not in self._views:
            self._views[key] = self.engine.options(**options)
        return self._views[key]

    def _soft_end(self, plan: Plan, task: Task[Any]) -> None:
        self.soft -= 1
        self._end(plan.promise, task)
        self.reached(plan, "done")

    def _end(self, promise: Promise, task: Task[Any]) -> None:
        note_end(promise, task)
        if task.state is TaskState.COMPLETED:
            promise.right_value = task.result() == promise.number

    # -- the process lane

    async def submit_hard(self) -> None:
        """Submit process tasks that only a kill ends, each beside one that is harmless; kill the one half by cancel."""
        watcher = asyncio.create_task(self._kill_what_runs())
        for number in range(self.settings.hard):
            while self.hard >= HARD_IN_FLIGHT:
                await asyncio.sleep(0.002)
            self._submit_stubborn(by_timeout=number % 2 == 0)
            self._submit_harmless()
        while self.hard and not self.cancellers.errors:
            await asyncio.sleep(0.01)
        watcher.cancel()

    def _submit_stubborn(self, *, by_timeout: bool) -> None:
        rng = self._rng
        options: dict[str, Any] = {"lane": "process", "grace": 0}
        promise = self._promise(frozenset())
        if by_timeout:
            options["timeout"] = rng.choice([0.001, 0.005, 0.02])
            promise.outcomes = frozenset({"TaskTimeout"})
        task = self._submit_there(promise, options, ignore, 4 * self.settings.patience)
        if not by_timeout:
            self._to_kill[task.id] = promise

    def _submit_harmless(self) -> None:
        rng, promise = self._rng, self._promise(frozenset({"completed"}))
        task = self._submit_there(promise, {"lane": "process"}, work_there)
        if rng.random() < 0.3:
            self._loop.call_later(rng.choice([0.0, 0.001, 0.05]), self._cancel_there, promise, task)

    def _submit_there(self, promise: Promise, options: dict[str, Any], fn: Any, *more: Any) -> Task[Any]:
        self.hard += 1
        task: Task[Any] = self._view(options).submit(fn, self.path, promise.number, promise.token, *more)
        self.pairs.append((promise, task))
        self._tasks[task.id] = task
        task.add_done_callback(partial(self._hard_end, promise))
        return task

    def _hard_end(self, promise: Promise, task: Task[Any]) -> None:
        self.hard -= 1
        del self._tasks[task.id]
        self._end(promise, task)

    def _cancel_there(self, promise: Promise, task: Task[Any]) -> None:
        """Cancel a process task, from this thread or another."""
        if self._rng.random() < 0.5:
            self.cancellers.cancel(promise, task)
        else:
            self.cancellers.order(promise, lambda: task)

    async def _kill_what_runs(self) -> None:
        """Cancel, without grace, those that run and are to be cancelled; watch the abandoned ones meanwhile."""
        while True:
            for worker in (snapshot := self.engine.snapshot()).workers:
                promise = self._to_kill.pop(worker.task_id or 0, None)
                if promise is not None and worker.task_id in self._tasks:
                    wait = self._rng.choice([0.0, 0.001, 0.01])
                    self._loop.call_later(wait, self._cancel_there, promise, self._tasks[worker.task_id])
            for lane in self.abandoned_most:
                self.abandoned_most[lane] = max(self.abandoned_most[lane], snapshot.lanes[lane].abandoned)
            await asyncio.sleep(0.002)

    async def until_quiet(self) -> None:
        """Wait until all has settled and the attempts that could not be stopped are over too."""
        seen, since = -1, time.monotonic()
        while time.monotonic() - since < self.settings.patience:
            snapshot = self.engine.snapshot()
            left = self.soft + self.hard + sum(lane.abandoned for lane in snapshot.lanes.values())
            left += sum(inside.now for inside in self.inside.values())
            if not left:
                return
            if left != seen:
                seen, since = left, time.monotonic()
            await asyncio.sleep(0.01)
