"""Is a cancelled task cancelled, whenever and from wherever it is told so, and does its slot come back?

    python -m stress cancel_storm [--tasks N] [--hard N] [--seed S]

Expected: ``ok``, no fault of any kind, no leak, exit code 0. Of 100,000 loop and thread tasks 51 % are cancelled, from
the loop, from threads, or by themselves: in the queue, when they begin, as they end, in backoff, twice, when they are
done. 1,000 process tasks ignore all that is raised in them, and are killed, by a timeout or a cancel without grace,
among as many that are harmless. At the end each lane must run its full width at once, and not one more; attempts that
could not be stopped are counted, and never more than the lane has slots.
"""

import asyncio
import itertools
import os
import random
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Any

from engine import Engine, Lane, Retry, Task, TaskState
from stress._belongings import Belongings
from stress._campaign import PATIENCE, add_backend, arguments, backend, campaign, conclude
from stress._cancellers import Cancellers
from stress._ledger import Promise, check, read
from stress._storm_tasks import Inside, Plan, ignore, work, work_async, work_there
from stress._told import describe_faults, miscounted, note_end, note_now
from stress._width import widths

IN_FLIGHT = 4000  #: loop and thread tasks
HARD_IN_FLIGHT = 20
THREADS, COROUTINES, PROCESSES = 4, 100, 2
CANCELLED_SHARE = 0.51
GRACE = 0.02


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


async def storm(settings: Settings, folder: str) -> dict[str, Any]:
    """Run it all, stop, and compare; return what is to be printed."""
    tasks_before = asyncio.all_tasks()
    engine = Engine(
        threads=THREADS, coroutines=COROUTINES, processes=PROCESSES, grace=GRACE, history=1000,
        **backend(settings.backend),
    )  # fmt: skip
    await engine.start()
    run = Storm(engine, settings, folder)
    began = time.monotonic()
    run.cancellers.start()
    work = [asyncio.create_task(run.submit_soft()), asyncio.create_task(run.submit_hard())]
    watch = asyncio.create_task(_until_stuck(run, settings.patience))
    await asyncio.wait([watch, asyncio.create_task(_all(work))], return_when=asyncio.FIRST_COMPLETED)
    for each in (*work, watch):
        each.cancel()
    await asyncio.gather(*work, watch, return_exceptions=True)
    await run.until_quiet()
    took = time.monotonic() - began
    await asyncio.sleep(0.15)  # the last of "soon"
    run.cancellers.stop()
    promises = note_now(run.pairs)
    snapshot = engine.snapshot()
    faults: dict[str, Any] = {}
    if wrong := miscounted(snapshot, promises):
        faults["sum"] = wrong
    if not run.soft and not run.hard:
        faults |= {
            f"width of {name}": pair
            for name, pair in (await widths(engine, folder, patience=settings.patience)).items()
        }
    report = await engine.stop(timeout=5.0)
    verdict = check(promises, read(run.path))
    faults |= describe_faults(verdict.faults, promises)
    faults |= _crowds(run, snapshot)
    if report.submitted != report.completed + report.failed + report.cancelled:
        faults["sum at the end"] = [str(report)]
    tasks_left = [repr(task) for task in asyncio.all_tasks() - tasks_before]
    states = Counter(promise.error or promise.state for promise in promises)
    return {
        "ok": not (faults or tasks_left or run.cancellers.errors),
        "faults": faults, "left": {"asyncio_tasks": tasks_left} if tasks_left else {},
        "errors": run.cancellers.errors[:10],
        "tasks": len(promises), "executed": verdict.executed,
        "ends": {str(state): count for state, count in sorted(states.items(), key=str)},
        "did": dict(run.cancellers.did), "hard_kills": settings.hard, "crashes": snapshot.crashes,
        "retries": snapshot.retries, "timeouts": snapshot.timeouts, "late": snapshot.late,
        "abandoned": snapshot.abandoned, "abandoned_at_once": {str(k): v for k, v in run.abandoned_most.items()},
        "inside_at_once": {name: inside.most for name, inside in run.inside.items()},
        "seconds": round(took, 1), "tasks_per_second": round(len(promises) / took),
    }  # fmt: skip


async def _all(tasks: list[asyncio.Task[None]]) -> None:
    await asyncio.wait(tasks)


async def _until_stuck(run: Storm, patience: float) -> None:
    """Return when nothing has settled for ``patience`` seconds."""
    seen, since = -1, time.monotonic()
    while time.monotonic() - since < patience:
        settled = len(run.pairs) - run.soft - run.hard
        if settled != seen:
            seen, since = settled, time.monotonic()
        await asyncio.sleep(0.05)


def _crowds(run: Storm, snapshot: Any) -> dict[str, list[Any]]:
    """Say where more ran at once than may: slots, and as many again that cannot be stopped."""
    found: dict[str, list[Any]] = {}
    for name, slots in (("loop", COROUTINES), ("thread", THREADS)):
        if run.inside[name].most > 2 * slots:
            found[f"crowd in {name}"] = [run.inside[name].most, 2 * slots]
        if run.abandoned_most[Lane(name)] > slots:
            found[f"abandoned in {name}"] = [run.abandoned_most[Lane(name)], slots]
        if snapshot.lanes[Lane(name)].abandoned:
            found[f"still abandoned in {name}"] = [snapshot.lanes[Lane(name)].abandoned]
    return found


def main(argv: list[str]) -> int:
    """Run the script; return 0 if every promise was kept."""
    parser = arguments("cancel_storm", __doc__)
    parser.add_argument("--tasks", type=int, default=100_000, help="loop and thread tasks (default: 100000)")
    parser.add_argument("--hard", type=int, default=1000, help="process tasks that only a kill ends (default: 1000)")
    add_backend(parser)
    options = parser.parse_args(argv)
    settings = Settings(options.tasks, options.hard, options.seed, options.backend, options.patience)
    with campaign(options.seed) as folder:
        before = Belongings()
        result = asyncio.run(storm(settings, folder))
        result["left"] |= before.left()
    result["ok"] = result["ok"] and not result["left"]
    return conclude("cancel_storm", {"seed": options.seed, **result}, result["tasks"])
