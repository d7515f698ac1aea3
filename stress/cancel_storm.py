"""Is a cancelled task cancelled, whenever and from wherever it is told so, and does its slot come back?

    python -m stress cancel_storm [--tasks N] [--hard N] [--seed S]

Expected: ``ok``, no fault of any kind, no leak, exit code 0. Of 100,000 loop and thread tasks 51 % are cancelled, from
the loop, from threads, or by themselves: in the queue, when they begin, as they end, in backoff, twice, when they are
done. 1,000 process tasks ignore all that is raised in them, and are killed, by a timeout or a cancel without grace,
among as many that are harmless. At the end each lane must run its full width at once, and not one more; attempts that
could not be stopped are counted, and never more than the lane has slots.
"""

import asyncio
import time
from collections import Counter
from typing import Any

from engine import Engine, Lane
from stress._belongings import Belongings
from stress._campaign import add_common, arguments, backend, campaign, conclude
from stress._ledger import check, read
from stress._storm import Settings, Storm
from stress._told import describe_faults, miscounted, note_now
from stress._width import widths

THREADS, COROUTINES, PROCESSES = 4, 20, 2
GRACE = 0.02


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
    report = await engine.stop(timeout=min(5.0, settings.patience))
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
        if run.abandoned_most[Lane(name)] > 2 * slots:  # those that gave their slot away, and those that keep theirs
            found[f"abandoned in {name}"] = [run.abandoned_most[Lane(name)], 2 * slots]
        if snapshot.lanes[Lane(name)].abandoned:
            found[f"still abandoned in {name}"] = [snapshot.lanes[Lane(name)].abandoned]
    return found


def main(argv: list[str]) -> int:
    """Run the script; return 0 if every promise was kept."""
    parser = arguments("cancel_storm", __doc__)
    parser.add_argument("--tasks", type=int, default=100_000, help="loop and thread tasks (default: 100000)")
    parser.add_argument("--hard", type=int, default=1000, help="process tasks that only a kill ends (default: 1000)")
    add_common(parser)
    options = parser.parse_args(argv)
    settings = Settings(options.tasks, options.hard, options.seed, options.backend, options.patience)
    with campaign(options.seed) as folder:
        before = Belongings()
        result = asyncio.run(storm(settings, folder))
        result["left"] |= before.left(min(10.0, options.patience))
    result["ok"] = result["ok"] and not result["left"]
    return conclude("cancel_storm", {"seed": options.seed, **result}, result["tasks"])
