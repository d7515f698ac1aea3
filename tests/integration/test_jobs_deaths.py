"""Engines of jobs that are killed or stopped, in processes of their own, over one file."""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, TaskState
from engine.jobs._records import Filter
from tests.integration.job_engines import Child, children_of, make_jobs
from tests.integration.job_support import Bench
from tests.job_stores import hold_still
from tests.support import eventually_async

COMPLETED, FAILED = TaskState.COMPLETED, TaskState.FAILED
LEASE = 0.6

Start = Callable[[], Coroutine[Any, Any, Child]]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    jobs = make_jobs(tmp_path / "jobs.db", LEASE)
    yield Bench(jobs)
    jobs.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with children_of(tmp_path / "jobs.db", LEASE) as starter:
        yield starter


def name_of(bench: Bench, short: str) -> str:
    return next(name for name in bench.jobs.tasks if name.endswith(f".{short}"))


async def test_a_job_that_kills_its_engine_fails_alone_and_the_innocents_beside_it_complete(
    bench: Bench, start: Start
) -> None:
    """J4: the first death charges nobody; run alone as a suspect, the culprit is FAILED after ``max_crashes``."""
    innocents = await bench.enqueue(name_of(bench, "hang_at_first"), 16)
    (culprit,) = await bench.enqueue(name_of(bench, "kill_engine"), priority=-5, max_crashes=2)
    for _ in range(3):  # beside the innocents, then alone, twice
        await (await start()).died(signal.SIGKILL)
    await start()
    infos = await bench.ended(*innocents, culprit)
    assert [info.state for info in infos] == [*[COMPLETED] * 16, FAILED]
    assert {info.crashes for info in infos[:16]} == {0}
    assert infos[16].crashes == 2
    assert [failure.kind for failure in await bench.failures(culprit)] == ["lost"] * 3


async def test_a_stale_worker_does_not_finish_a_job_that_another_has_taken(
    bench: Bench, start: Start, tmp_path: Path
) -> None:
    """J1: stopped for longer than its lease, then continued; its result is refused and counted, and it goes on."""
    go, begun = tmp_path / "go", tmp_path / "go.begun"
    stale = await start()
    (job,) = await bench.enqueue(name_of(bench, "wait_for_file"), args={"path": str(go)})
    await eventually_async(begun.exists)  # the row says so earlier: what is claimed when its lease is lost never begins
    await asyncio.to_thread(hold_still, stale.process, tmp_path / "jobs.db")
    async with Engine(processes=1, threads=1) as engine:
        async with bench.jobs.worker(engine):
            (info,) = await bench.ended(job)
        assert (info.state, info.result) == (COMPLETED, "2")
        go.touch()
        stale.send(signal.SIGCONT)
    (later,) = await bench.enqueue(name_of(bench, "number"), args={"n": 3})
    await bench.ended(later)
    statistics = await stale.statistics()
    assert (statistics["fenced"], statistics["lost_leases"], statistics["completed"]) == (1, 1, 1)
    assert (await bench.look(job)).result == "2"


async def test_a_job_that_holds_up_its_loop_for_longer_than_its_lease_runs_once(bench: Bench, start: Start) -> None:
    """J2: another worker rescues all the while what has no lease."""
    async with Engine(processes=1, threads=1) as engine, bench.jobs.worker(engine) as worker:
        (job,) = await bench.enqueue(name_of(bench, "block"), args={"seconds": 0})
        await bench.ended(job)
        await start()
        (job,) = await bench.enqueue(name_of(bench, "block"), args={"seconds": 4 * LEASE})
        (info,) = await bench.ended(job)
        assert (info.state, info.result, info.token) == (COMPLETED, "1", 1)
        assert worker.statistics().fenced == 0


async def test_the_lock_of_a_killed_engine_is_free_for_the_next(bench: Bench, start: Start) -> None:
    """J11: with the lease, or as soon as the process is seen to be gone."""
    child = await start()
    (first,) = await bench.enqueue(name_of(bench, "hang_at_first"), lock="one")
    await bench.running(first)
    (second,) = await bench.enqueue(name_of(bench, "number"), args={"n": 1}, lock="one")
    child.send(signal.SIGKILL)
    await child.died(signal.SIGKILL)
    async with Engine(processes=1, threads=1) as engine, bench.jobs.worker(engine):
        infos = await bench.ended(first, second)
        assert [(info.state, info.result, info.crashes) for info in infos] == [(COMPLETED, "2", 0), (COMPLETED, "1", 0)]


async def test_an_engine_killed_together_with_its_worker_process_is_resumed(
    bench: Bench, start: Start, tmp_path: Path
) -> None:
    """W11: as where the kernel kills a whole group for its memory; the job runs again."""
    child, pid_file = await start(), tmp_path / "pid"
    (job,) = await bench.enqueue(name_of(bench, "hang_in_process"), args={"pid_file": str(pid_file)})
    pid = int(await eventually_async(lambda: pid_file.exists() and pid_file.read_text()))
    child.send(signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    await child.died(signal.SIGKILL)
    await start()
    (info,) = await bench.ended(job)
    assert (info.state, info.result, info.crashes) == (COMPLETED, "2", 0)


async def test_a_kill_between_a_completion_and_what_follows_leaves_both_or_none(bench: Bench, start: Start) -> None:
    """J12: each job that completed is followed once, wherever the kills came."""
    task = bench.jobs.tasks[name_of(bench, "number")]
    calls = [task.call(n=n).then(task.call(n=-n)) for n in range(1, 301)]
    jobs = [(await reply).id for reply in [bench.jobs.enqueue(call) for call in calls]]

    async def have_completed(least: int) -> bool:
        wanted = Filter(states=(COMPLETED,), limit=1000)
        return len(await bench.store.read(lambda book, now: book.find(wanted))) >= least

    for least in (50, 250, 450):
        child = await start()
        await eventually_async(partial(have_completed, least))
        child.send(signal.SIGKILL)
        await child.died(signal.SIGKILL)
    await start()
    await eventually_async(partial(have_completed, 600))
    rows = await bench.store.read(lambda book, now: book.find(Filter(limit=2000)))
    assert sorted(row.parent for row in rows if row.parent is not None) == sorted(jobs)
