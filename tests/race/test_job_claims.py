"""Claims whose answer comes when things have changed."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from engine import Engine, TaskState
from engine.jobs._book import Book
from engine.jobs._jobs import Jobs
from engine.jobs._memory.store import MemoryStore
from engine.jobs._moment import Moment
from engine.jobs._records import NewJob
from engine.jobs._reply import Reply, wake
from engine.jobs._worker.worker import Worker
from engine.jobs.errors import StoreFull
from tests.integration.job_support import Bench
from tests.support import eventually_async

PENDING, COMPLETED = TaskState.PENDING, TaskState.COMPLETED


class SlowStore(MemoryStore):
    """Does everything at once, and keeps the answers of claims back while ``is_slow``."""

    def __init__(self) -> None:
        super().__init__()
        self.is_slow = False
        self.errors: list[Exception] = []  #: that the next claims fail with
        self.kept: list[Callable[[], None]] = []  #: how to give the answers

    def write(self, operation: Callable[[Book, Moment], Any], *, keep: bool = False) -> Reply[Any]:
        if operation.__module__ != "engine.jobs._worker.feeder":
            return super().write(operation, keep=keep)
        if self.errors:
            return Reply.failed(self.errors.pop())
        answered = super().write(operation, keep=keep)
        if not self.is_slow:
            return answered
        answer = answered.result()
        late: Reply[Any] = Reply()
        self.kept.append(lambda: wake(late.settle(answer)))
        return late

    def answer(self) -> None:
        """Give the answers now, and be slow no more."""
        self.is_slow = False
        for give in self.kept:
            give()


async def a_claim_under_way(bench: Bench, store: SlowStore, worker: Worker) -> int:
    """Enqueue a job, and have the worker's claim of it done and not answered."""
    await worker.start()
    store.is_slow = True
    (job,) = await bench.enqueue("work")
    await eventually_async(lambda: store.kept)
    assert (await bench.look(job)).state is TaskState.RUNNING
    return job


@pytest.fixture
def store() -> SlowStore:
    return SlowStore()


@pytest.fixture
def bench(store: SlowStore) -> Bench:
    jobs = Jobs(store)

    async def work() -> None:
        ran.append(1)

    jobs.task(name="work")(work)
    ran.clear()
    return Bench(jobs)


ran: list[int] = []


async def test_what_a_claim_brings_to_a_worker_that_stops_is_given_back(bench: Bench, store: SlowStore) -> None:
    """N11: stop waits for the claim that is under way, runs nothing of it, and no attempt is used."""
    async with Engine(processes=1, threads=1) as engine:
        worker = bench.jobs.worker(engine)
        job = await a_claim_under_way(bench, store, worker)
        stopping = asyncio.create_task(worker.stop())
        await eventually_async(lambda: "draining" in repr(worker))
        store.answer()
        await stopping
    info = await bench.look(job)
    assert (info.state, info.attempt, info.holder, ran) == (PENDING, 0, None, [])
    assert worker.statistics().given_back == 1


async def test_what_a_claim_brings_to_a_holder_that_is_lost_by_then_is_not_run(bench: Bench, store: SlowStore) -> None:
    """J1: others have taken it; here it runs once, under the new holder."""
    async with Engine(processes=1, threads=1) as engine:
        worker = bench.jobs.worker(engine)
        job = await a_claim_under_way(bench, store, worker)
        await bench.rescue_all()
        await eventually_async(lambda: worker.statistics().lost_leases == 1)
        store.answer()
        (info,) = await bench.ended(job)
        assert (info.state, info.token, ran) == (COMPLETED, 2, [1])
        assert worker.statistics().claimed == 1
        await worker.stop()


async def test_a_claim_that_fails_is_made_again(
    bench: Bench, store: SlowStore, caplog: pytest.LogCaptureFixture
) -> None:
    """E126: a store that is full for a while costs nothing but time."""
    async with Engine(processes=1, threads=1) as engine, bench.jobs.worker(engine) as worker:
        await bench.ended(*await bench.enqueue("work"))
        store.errors = [StoreFull(), OSError("odd")]
        (info,) = await bench.ended(*await bench.enqueue("work"))
        assert info.state is COMPLETED
        assert store.errors == []
        assert "no job could be claimed" in caplog.text
        assert worker.statistics().unrecorded == 0


async def test_what_is_enqueued_while_a_claim_finds_nothing_is_claimed_next(bench: Bench, store: SlowStore) -> None:
    """J14: the listener's flag is cleared before the claim (design/0014, 11): no wake-up is lost."""
    async with Engine(processes=1, threads=1) as engine, bench.jobs.worker(engine):
        store.is_slow = True
        store.write(lambda book, now: None)  # news, and nothing to claim
        await eventually_async(lambda: store.kept)
        (job,) = await bench.enqueue("work")  # committed after the claim, before its answer
        store.answer()
        (info,) = await bench.ended(job)
        assert info.state is COMPLETED


async def test_a_worker_whose_store_is_closed_under_it_claims_no_more_and_stops(
    bench: Bench, store: SlowStore, caplog: pytest.LogCaptureFixture
) -> None:
    """E126: and says so."""
    async with Engine(processes=1, threads=1) as engine, bench.jobs.worker(engine):
        new = NewJob(queue="default", name="work", args="{}", delay=0.02)
        await store.write(lambda book, now: book.enqueue([new], now))
        store.close()
        await eventually_async(lambda: "was closed under its worker" in caplog.text)
