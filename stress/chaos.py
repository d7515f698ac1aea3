"""Does every process task end exactly once, and as it deserves, while workers are killed and objects fight back?

    python -m stress chaos [--tasks N] [--kills N] [--seed S] [--seconds BOUND] [--backend native|loky] [--check]

Expected: ``ok``, no fault of any kind, no leak, exit code 0. 10,000 tasks are in flight on 2 workers; a fifth of them
is poison (``_poison.py``), some are cancelled, time out, are retried, overtake; workers are recycled, restarted, and
leave when they are idle; the killer (``_killer.py``) sends SIGKILL, SIGSEGV, SIGSTOP, has workers ``_exit``, and kills
in the middle of big answers. A FAILED task must be explained: by its own poison, by its own timeout, or by the death of
its worker by our hand, and then it alone is charged with that death. With ``--check`` the time from a death to FAILED
must be at most 50 ms (p99), which says little on a busy machine.
"""

import asyncio
import itertools
import os
import random
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

from engine import Engine, Retry, Task, TaskState
from stress._belongings import Belongings
from stress._campaign import PATIENCE, add_common, arguments, backend, campaign, conclude, percentile
from stress._cancellers import Cancellers
from stress._killer import Killer
from stress._ledger import ENDED, Execution, Promise, check, doomed, read
from stress._poison import BIG_BYTES, CALM, DEADLY, HARMFUL, KINDS, Custom, Order, function_of
from stress._told import describe_faults, miscounted, note_end, note_now
from stress._width import widths

IN_FLIGHT = 10_000
POISON_SHARE = 0.2
DEADLY_SHARE = 0.003  #: of all tasks: each costs a worker, 40 ms
FAST_DEATH = 0.05  #: seconds from a death to FAILED, p99
MORE_AT_MOST = 4  #: times as many tasks as were asked for, until the killer is done
AT_ONCE = 250  #: tasks submitted in one turn of the loop


@dataclass(frozen=True, slots=True)
class Settings:
    """How big a run is."""

    tasks: int
    kills: int
    seed: int
    seconds: float
    backend: str = "native"
    patience: float = PATIENCE
    in_flight: int = IN_FLIGHT


class Chaos:
    """One run: what it has promised, and what became of it. Home loop only."""

    def __init__(self, engine: Engine, settings: Settings, folder: str) -> None:
        self.engine = engine
        self.settings = settings
        self.path = os.path.join(folder, "ledger")
        self.announcements = os.path.join(folder, "announcements")
        os.mkfifo(self.announcements)
        self.promises: list[Promise] = []
        self.tasks: dict[int, Task[Any]] = {}  #: by number; those that hold much are dropped when they are done
        self.live: dict[int, tuple[Promise, Task[Any]]] = {}
        self.submitted = self.settled = 0
        self.latencies: list[float] = []
        self.cancellers = Cancellers()
        self._rng = random.Random(f"{settings.seed} tasks")
        self._numbers = itertools.count(1)
        self._views: dict[Any, Any] = {}
        self._restarts: list[asyncio.Future[None]] = []
        self._loop = asyncio.get_running_loop()
        self.killer = Killer(
            random.Random(f"{settings.seed} kills"), settings.kills,
            progress=lambda: self.settled / settings.tasks, workers=lambda: engine.snapshot().workers,
            plant=lambda kind, seconds: self._loop.call_soon_threadsafe(self._submit, kind, seconds, 1000),
            announcements=self.announcements,
        )  # fmt: skip

    # -- tasks

    async def submit_all(self) -> None:
        """Keep the window full until all is submitted and has been struck, or time is over; then let all settle."""
        end = time.monotonic() + self.settings.seconds
        seen, since = self.settled, time.monotonic()
        while time.monotonic() - since < self.settings.patience:  # or it stands still, and the ledger will say so
            if self._is_enough() or time.monotonic() > end:
                if not self.live:
                    break
                await asyncio.sleep(0.01)
            else:
                for _ in range(AT_ONCE):
                    if len(self.live) < self.settings.in_flight:
                        self._submit_any()
                await asyncio.sleep(0 if len(self.live) < self.settings.in_flight else 0.002)
            if self.settled != seen or not seen:  # the first workers may take long to come
                seen, since = self.settled, time.monotonic()

    def _is_enough(self) -> bool:
        """Say whether all is submitted, and enough beyond that for the killer, if it cannot do its work."""
        most = self.settings.tasks if self.killer.is_done else MORE_AT_MOST * self.settings.tasks
        return self.submitted >= most

    def _submit_any(self) -> None:
        rng, draw = self._rng, self._rng.random()
        group = DEADLY if draw < DEADLY_SHARE else HARMFUL if draw < POISON_SHARE else CALM
        kind = rng.choices(list(group), [each.weight for each in group.values()])[0]
        self._submit(kind, rng.choices([0.0, 0.002, 0.02], [945, 50, 5])[0], rng.choice([-10, 0, 0, 0, 10]))

    def _submit(self, name: str, seconds: float, priority: int) -> None:
        rng, kind, draw = self._rng, KINDS[name], self._rng.random()
        promise = Promise(next(self._numbers), f"{rng.getrandbits(64):016x}", accepted=True, outcomes=kind.outcomes)
        options: dict[str, Any] = {"priority": priority}
        if draw < 0.25:
            promise.most_attempts = rng.choice([2, 3])
            options["retry"] = Retry(max_attempts=promise.most_attempts, base_delay=0.001, max_delay=0.01)
        elif draw < 0.252:
            options["timeout"], seconds = 0.005, max(seconds, 0.05)
        elif draw < 0.28:
            options["timeout"] = 2.0
        elif draw < 0.3:
            options["total_timeout"] = rng.choice([0.2, 1.0, 5.0])
        if "timeout" in options or "total_timeout" in options:
            promise.outcomes = kind.outcomes | {"TaskTimeout"}
        order = Order(self.path, promise.number, promise.token, name, seconds, os.getpid(), self.announcements)
        argument = kind.argument() if kind.argument is not None else None
        task: Task[Any] = self._view(options).submit(function_of(name, seconds), order, argument)
        self.submitted += 1
        self.promises.append(promise)
        self.tasks[promise.number] = task
        self.live[task.id] = promise, task
        task.add_done_callback(partial(self._settle, promise))
        if rng.random() < 0.04:
            wait = rng.choice([0.0, 0.01, 0.3, 2.0])
            self._loop.call_later(wait, self._cancel, promise, task)

    def _view(self, options: dict[str, Any]) -> Any:
        key = tuple(options.items())
        if key not in self._views:
            self._views[key] = self.engine.options(**options)
        return self._views[key]

    def _cancel(self, promise: Promise, task: Task[Any]) -> None:
        """Cancel it, from this thread or another."""
        if self._rng.random() < 0.5:
            self.cancellers.cancel(promise, task)
        else:
            self.cancellers.order(promise, lambda: task)

    def _cancel_what_runs(self) -> None:
        for worker in self.engine.snapshot().workers:
            if worker.task_id in self.live:
                self._cancel(*self.live[worker.task_id])
                return

    def _settle(self, promise: Promise, task: Task[Any]) -> None:
        self.settled += 1
        self.live.pop(task.id, None)
        note_end(promise, task)
        if task.state is TaskState.COMPLETED:
            value = task.result()
            promise.right_value = _is_right(promise.number, value)
            if isinstance(value, (bytes, bytearray)):
                note_now([(promise, self.tasks.pop(promise.number))])
        killed_at = self.killer.killed.get(promise.blamed_pid or 0)
        if killed_at is not None:
            self.latencies.append(time.monotonic() - killed_at)
        if self.settled % 1000 == 0:
            self._cancel_what_runs()
        if self.settled % 10_000 == 0:
            self._restarts.append(asyncio.ensure_future(self.engine.restart_workers()))


def _is_right(number: int, value: object) -> bool:
    if isinstance(value, (bytes, bytearray)):
        return len(value) in (200_000, BIG_BYTES)
    if isinstance(value, Custom):
        return value.number == number
    return value in (number, "poison")


async def rampage(settings: Settings, folder: str) -> dict[str, Any]:
    """Run it all, stop, and compare; return what is to be printed."""
    tasks_before = asyncio.all_tasks()
    engine = Engine(
        processes=2, threads=2, grace=0.05, history=1000, max_tasks_per_worker=2000, worker_idle_timeout=0.3,
        **backend(settings.backend),
    )  # fmt: skip
    await engine.start()
    chaos = Chaos(engine, settings, folder)
    began = time.monotonic()
    chaos.killer.start()
    chaos.cancellers.start()
    await chaos.submit_all()
    took = time.monotonic() - began
    chaos.killer.stop()
    while chaos.live and time.monotonic() - began - took < settings.patience:  # what the killer had planted last
        await asyncio.sleep(0.01)
    chaos.cancellers.stop()
    snapshot = engine.snapshot()
    promises = chaos.promises
    note_now((promise, chaos.tasks[promise.number]) for promise in promises if promise.number in chaos.tasks)
    narrow = {} if chaos.live else await widths(engine, folder, patience=settings.patience)
    report = await engine.stop(timeout=min(5.0, settings.patience))
    executions = read(chaos.path)
    killed = [*doomed(executions), *chaos.killer.deaths]
    verdict = check(promises, executions, killed)
    faults: dict[str, Any] = describe_faults(verdict.faults, promises, executions)
    if wrong := miscounted(snapshot, promises):
        faults["sum"] = wrong
    if report.submitted != report.completed + report.failed + report.cancelled:
        faults["sum at the end"] = [str(report)]
    faults |= {f"width of {lane}": pair for lane, pair in narrow.items()}
    tasks_left = [repr(task) for task in asyncio.all_tasks() - tasks_before]
    errors = [*map(repr, chaos.killer.errors), *chaos.cancellers.errors[:10]]
    states = Counter(promise.error or promise.state for promise in promises)
    return {
        "ok": not (faults or tasks_left or errors),
        "faults": faults, "left": {"asyncio_tasks": tasks_left} if tasks_left else {}, "errors": errors,
        "tasks": len(promises), "executed": verdict.executed, "recovered": verdict.recovered,
        "cut_answers": _cut_answers(promises, executions, {pid for pid, _ in killed}),
        "ends": {str(state): count for state, count in sorted(states.items(), key=str)},
        "killed": len(set(killed)), "strikes": dict(chaos.killer.strikes), "victims": dict(chaos.killer.victims),
        "given_back": snapshot.given_back, "did": dict(chaos.cancellers.did),
        "crashes": snapshot.crashes, "recycled": snapshot.recycled, "retries": snapshot.retries,
        "timeouts": snapshot.timeouts, "late": snapshot.late,
        "death_to_failed_ms": {
            name: round(value * 1e3, 1) for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
            if (value := percentile(chaos.latencies, share)) is not None
        },
        "seconds": round(took, 1), "tasks_per_second": round(len(promises) / took),
    }  # fmt: skip


def _cut_answers(promises: list[Promise], executions: list[Execution], killed: Collection[int]) -> int:
    """Count the calls that had ended when their worker was killed under them: in the answer, or just before it."""
    ended = {(line.number, line.pid) for line in executions if line.step == ENDED and line.pid in killed}
    return sum((promise.number, promise.blamed_pid) in ended for promise in promises)


def main(argv: list[str]) -> int:
    """Run the script; return 0 if every promise was kept."""
    parser = arguments("chaos", __doc__)
    parser.add_argument("--tasks", type=int, default=200_000, help="tasks, or more until all kills are made (200000)")
    parser.add_argument("--kills", type=int, default=500, help="strikes of the killer (default: 500)")
    parser.add_argument("--seconds", type=float, default=600.0, help="submit no more after so long (default: 600)")
    parser.add_argument("--check", action="store_true", help="judge the time from a death to FAILED too")
    add_common(parser)
    options = parser.parse_args(argv)
    settings = Settings(
        options.tasks, options.kills, options.seed, options.seconds, options.backend, options.patience,
        min(IN_FLIGHT, options.tasks),
    )  # fmt: skip
    with campaign(options.seed) as folder:
        before = Belongings()
        result = asyncio.run(rampage(settings, folder))
        result["left"] |= before.left(min(10.0, options.patience))
    result["ok"] = result["ok"] and not result["left"]
    slowest = result["death_to_failed_ms"].get("p99", 0.0)
    if options.check and slowest > FAST_DEATH * 1e3:
        result["ok"], result["errors"] = False, [*result["errors"], f"death to FAILED: {slowest} ms"]
    return conclude("chaos", {"seed": options.seed, **result}, result["tasks"])
