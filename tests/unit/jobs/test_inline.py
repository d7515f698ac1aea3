"""Jobs on the caller's thread, in virtual time: the worker's rules without a worker."""

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw
import pytest

from engine import Progress, Retry, TaskState, current_task
from engine.jobs import Jobs, MemoryStore, SQLiteStore, current_job, snooze
from engine.testing import VirtualClock

PENDING, COMPLETED, FAILED = TaskState.PENDING, TaskState.COMPLETED, TaskState.FAILED
MIDNIGHT = datetime(2025, 3, 29, tzinfo=UTC)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def jobs(clock: VirtualClock) -> Iterator[Jobs]:
    with Jobs(MemoryStore(clock=clock, epoch=MIDNIGHT.timestamp())) as jobs:
        yield jobs


def test_what_is_due_runs_and_time_stands_still(jobs: Jobs, clock: VirtualClock) -> None:
    @jobs.task
    def add(a: int, b: int) -> int:
        return a + b

    now, later = add.enqueue(1, 2).result(), add.options(delay=60).enqueue(3, 4).result()
    assert jobs.run_inline() == 1
    assert now.refresh().result().result() == 3
    assert later.refresh().result().state is PENDING
    assert clock.now() == 0.0
    assert jobs.run_inline() == 0


def test_retries_come_at_their_instants_within_the_time_that_passes(jobs: Jobs, clock: VirtualClock) -> None:
    tried = []

    @jobs.task(retry=Retry(max_attempts=4, base_delay=60, max_delay=600))
    def fetch() -> str:
        tried.append(clock.now())
        if len(tried) < 4:
            raise ConnectionError("not yet")
        return "there"

    job = fetch.enqueue().result()
    assert jobs.run_inline(within=200) == 3
    assert job.refresh().result().state is PENDING
    assert clock.now() == 200.0
    assert jobs.run_inline(within=220) == 1
    assert tried == [0.0, 60.0, 180.0, 420.0]
    assert job.refresh().result().result() == "there"
    assert [failure.attempt for failure in job.failures().result()] == [1, 2, 3]


def test_a_failure_ends_as_the_worker_would_have_it(jobs: Jobs) -> None:
    seen = []

    @jobs.on_failed
    def note(job: Any, error: BaseException) -> None:
        seen.append((job.name, type(error)))

    @jobs.before_run
    async def begin(job: Any) -> None:
        seen.append(("begin", job.name))

    @jobs.task(name="fail")
    def fail() -> None:
        raise ValueError("no")

    @jobs.task(name="circle")
    def circle() -> object:
        return object()

    failed, refused = fail.enqueue().result(), circle.enqueue().result()
    assert jobs.run_inline() == 2
    assert failed.refresh().result().error == "ValueError: no"
    assert refused.refresh().result().state is FAILED
    assert seen[:2] == [("begin", "fail"), ("fail", ValueError)]


def test_coroutines_sleep_and_time_out_in_virtual_time(jobs: Jobs, clock: VirtualClock) -> None:
    @jobs.task(timeout=10)
    async def wait(seconds: float) -> float:
        await asyncio.sleep(seconds)
        return clock.now()

    @jobs.task(timeout=10, lane="thread")
    def hold(seconds: float) -> None:
        clock.sleep(seconds)

    short, long, held = (task.enqueue(n).result() for task, n in ((wait, 5), (wait, 3600), (hold, 3600)))
    assert jobs.run_inline() == 3
    assert short.refresh().result().result() == 5.0
    for job in (long, held):
        assert (job.refresh().result().error or "") == "TaskTimeout: the run took longer than its timeout of 10 s"


def test_a_job_snoozes_tells_its_progress_and_enqueues_others(jobs: Jobs) -> None:
    @jobs.task
    def child(n: int) -> int:
        return n

    @jobs.task
    def parent() -> None:
        job = current_job()
        assert job is not None
        if job.token == 1:
            snooze(30)
        running = current_task()
        assert running is not None
        running.progress(1, 2, "half")
        child.enqueue(7).result()

    job = parent.options(then=child.call(5)).enqueue().result()
    assert jobs.run_inline() == 1
    assert jobs.run_inline(within=30) == 3
    ended = job.refresh().result()
    assert (ended.state, ended.attempt) == (COMPLETED, 1)
    assert ended.progress is not None
    assert ended.progress.message == "half"
    results = {each.result() for each in jobs.list(names=child.name).result()}
    assert results == {7, 5}


def test_schedules_enqueue_and_their_jobs_run_at_their_instants(jobs: Jobs, clock: VirtualClock) -> None:
    """T3: the night on which the clock in Berlin skips an hour."""
    nights = []

    @jobs.periodic("30 2 * * *", tz="Europe/Berlin", period_as="night")
    def report(night: str) -> None:
        nights.append((night, clock.now() / 3600))

    assert jobs.run_inline(within=3 * 24 * 3600) == 3
    assert nights == [
        ("2025-03-29T02:30:00+01:00", 1.5),
        ("2025-03-30T03:00:00+02:00", 25.0),
        ("2025-03-31T02:30:00+02:00", 48.5),
    ]


@pytest.mark.parametrize(("catch_up", "count"), [("none", 0), ("last", 1)])
def test_time_that_passes_while_nobody_looks_is_missed(
    jobs: Jobs, clock: VirtualClock, catch_up: str, count: int
) -> None:
    """T4."""

    @jobs.periodic("0 * * * *", catch_up=catch_up)
    def often() -> None: ...

    assert jobs.run_inline() == 0
    clock.advance(24 * 3600 + 120)
    assert jobs.run_inline() == count


def test_order_and_locks_are_those_of_a_worker_and_a_limit_ends_it(jobs: Jobs) -> None:
    order = []

    @jobs.task(lock="one")
    def note(text: str) -> None:
        order.append(text)

    note.enqueue("first").result()
    note.enqueue("second").result()
    note.options(priority="high").enqueue("urgent").result()
    assert jobs.run_inline(limit=2) == 2
    assert order == ["urgent", "first"]
    assert jobs.run_inline() == 1


def test_a_job_that_always_enqueues_another_is_ended_by_the_limit(jobs: Jobs) -> None:
    @jobs.task
    def again() -> None:
        again.enqueue().result()

    again.enqueue().result()
    assert jobs.run_inline(limit=50) == 50


async def test_it_runs_inside_a_loop_too(jobs: Jobs) -> None:
    @jobs.task
    async def greet() -> str:
        return "hello"

    job = await greet.enqueue()
    assert jobs.run_inline() == 1
    assert (await job.refresh()).result() == "hello"
    assert asyncio.get_running_loop().is_running()


def test_a_name_that_nobody_has_registered_fails_with_the_reason_and_nothing_stays_held(jobs: Jobs) -> None:
    @jobs.task(name="gone")
    def gone() -> None: ...

    job, other = gone.enqueue().result(), Jobs(jobs.store)
    other.task(name="here")(gone.fn)
    assert other.run_inline(within=3600) >= 2
    ended = job.refresh().result()
    assert ended.state is FAILED
    assert "expected the name of a registered task, got 'gone'" in (ended.error or "")
    assert jobs.statistics().result().holders == ()


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), True, "60", 1e18, None])
def test_a_duration_that_is_none_is_refused(jobs: Jobs, value: Any) -> None:
    """T5."""
    with pytest.raises(ValueError, match="expected within to be a finite number of seconds"):
        jobs.run_inline(within=value)
    with pytest.raises(ValueError, match="expected limit to be"):
        jobs.run_inline(limit=-1)


def test_a_file_runs_what_is_due_now_and_cannot_let_time_pass(tmp_path: Path) -> None:
    with Jobs(SQLiteStore(tmp_path / "jobs.db", "normal")) as jobs:

        @jobs.task(retry=Retry(max_attempts=2, base_delay=3600))
        def fail(text: str) -> None:
            raise ValueError(text)

        @jobs.task
        async def join(parts: list[str]) -> str:
            return "".join(parts)

        failed, joined = fail.enqueue("no").result(), join.enqueue(["a", "b"]).result()
        assert jobs.run_inline() == 2
        assert joined.refresh().result().result() == "ab"
        assert failed.refresh().result().state is PENDING
        with pytest.raises(ValueError, match="expected a store in virtual time, to run what comes due within 60 s"):
            jobs.run_inline(within=60)
        assert jobs.statistics().result().holders == ()


def test_no_virtual_time_passes_while_a_file_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """E217: also where another process has the file for longer than an inline engine waits for just any thread."""
    monkeypatch.setattr("engine._inline.core._PATIENCE", 0.01)
    with (
        Jobs(SQLiteStore(tmp_path / "jobs.db", "normal")) as jobs,
        closing(apsw.Connection(str(tmp_path / "jobs.db"))) as other,
    ):

        @jobs.task(timeout=60)
        async def enqueue_next() -> int:
            other.execute("BEGIN IMMEDIATE")
            threading.Timer(0.2, other.execute, ["COMMIT"]).start()
            job = await add.enqueue(1)
            return (await job.refresh().within(5)).id

        @jobs.task
        def add(a: int) -> int:
            return a + 1

        first = enqueue_next.enqueue().result()
        assert jobs.run_inline() == 2
        following = first.refresh().result().result()
        assert jobs.get(following).result().result() == 2


async def test_a_file_runs_inside_a_loop_too(tmp_path: Path) -> None:
    async with Jobs(SQLiteStore(tmp_path / "jobs.db", "normal")) as jobs:

        @jobs.task
        def add(a: int) -> int:
            return a + 1

        job = await add.enqueue(1)
        assert jobs.run_inline() == 1
        assert (await job.refresh()).result() == 2


def test_a_name_that_nobody_registers_for_an_hour_fails(jobs: Jobs) -> None:
    """J6: in no time here."""
    work = Jobs(jobs.store).task(name="gone")(lambda: None)
    jobs.task(name="other")(lambda: None)
    job = work.enqueue().result()
    jobs.run_inline(within=3000)
    assert (job.refresh().result().state, job.refresh().result().attempt) == (PENDING, 0)
    jobs.run_inline(within=1000)
    assert job.refresh().result().state is FAILED


def test_progress_whose_message_is_no_text_is_seen(jobs: Jobs) -> None:
    """E185: a file's name may have half a surrogate pair."""

    @jobs.task(name="walk")
    def walk() -> None:
        current_task().progress(1, 2, os.fsdecode(b"\xff\0"))

    job = walk.enqueue().result()
    jobs.run_inline()
    assert jobs.get(job.id).result().progress == Progress(1.0, 2.0, "\\udcff\\x00")
