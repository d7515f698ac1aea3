"""How workers begin and end where something is in the way: a cancel, a lock, a lost lease, a loop that ends."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from engine import BlockingEngine, Engine, Retry, TaskState
from engine.jobs import CurrentJob, Jobs, MemoryStore, Worker, current_job
from engine.jobs._book import Book
from engine.jobs._memory.book import MemoryBook
from engine.jobs._moment import Moment
from engine.jobs._records import End, Ending
from engine.jobs._sqlite.book import SQLiteBook
from tests.support import eventually, eventually_async

PATIENCE = 20.0

BOOKS = pytest.mark.parametrize("kind", [MemoryBook, SQLiteBook])


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    with Jobs(tmp_path / "jobs.db", lease=2.0, synchronous="normal") as jobs:
        yield jobs


async def holders(jobs: Jobs) -> int:
    return len((await jobs.statistics()).holders)


async def state_of(jobs: Jobs, job_id: int) -> TaskState:
    return (await jobs.get(job_id)).state


async def test_a_run_that_fails_when_its_lease_is_lost_does_not_end_its_worker(jobs: Jobs) -> None:
    """E145: what it ends with says nothing about its engine."""
    started = asyncio.Event()

    @jobs.task(name="stubborn")
    async def stubborn() -> int:
        job = current_job()
        if job is not None and job.token > 1:
            return job.token
        started.set()
        try:
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            raise RuntimeError("closing it failed") from None
        return 0

    async with Engine(threads=1) as engine, jobs.worker(engine) as worker:
        job = await stubborn.enqueue()
        await started.wait()
        await jobs.store.write(lambda book, now: book.rescue(now, lambda holder: True))
        done = await job.wait(timeout=PATIENCE)
    assert (done.state, done.result()) == (TaskState.COMPLETED, 2)
    assert worker.statistics().lost_leases >= 1


async def test_a_hook_that_lets_a_cancelled_error_out_changes_nothing(jobs: Jobs) -> None:
    """E146: its job is not given back for it, again and again."""
    called: list[str] = []

    @jobs.task(name="plain")
    async def plain() -> int:
        return 1

    @jobs.before_run
    async def first(job: CurrentJob) -> None:
        called.append("before")
        raise asyncio.CancelledError

    @jobs.after_run
    async def last(job: CurrentJob, result: int) -> None:
        called.append("after")
        raise asyncio.CancelledError

    async with Engine(threads=1) as engine, jobs.worker(engine) as worker:
        done = await (await plain.enqueue()).wait(timeout=PATIENCE)
    assert (done.state, called) == (TaskState.COMPLETED, ["before", "after"])
    assert worker.statistics().given_back == 0


async def test_a_stop_that_is_cancelled_does_not_hang_the_next(jobs: Jobs) -> None:
    """E147: it abandons what it could not wait for; so the worker has stopped."""
    started, is_over = asyncio.Event(), asyncio.Event()

    @jobs.task(name="deaf")
    async def deaf() -> None:
        started.set()
        while not is_over.is_set():
            try:
                await is_over.wait()
            except asyncio.CancelledError:
                continue

    async with Engine(threads=1) as engine:
        worker = await jobs.worker(engine).start()
        job = await deaf.enqueue()
        await started.wait()
        first = asyncio.create_task(worker.stop(0))
        await eventually_async(lambda: _is_stopping(worker), PATIENCE, "the worker is stopping")
        second = asyncio.create_task(worker.stop(0))
        await asyncio.sleep(0)
        first.cancel()
        try:
            await asyncio.wait_for(second, PATIENCE)
            await asyncio.wait_for(worker.stop(), PATIENCE)
            await jobs.store.write(lambda book, now: None)  # what the worker asked for was before it
            assert await holders(jobs) == 0
            assert await state_of(jobs, job.id) is TaskState.PENDING
        finally:
            is_over.set()


async def _is_stopping(worker: Worker) -> bool:
    return " stopping," in repr(worker)


async def test_a_worker_that_is_stopped_before_it_runs_stays_so(jobs: Jobs) -> None:
    """E147: at once, while it starts, twice; of two that start one, one is refused."""
    async with Engine(threads=1) as engine:
        unused = jobs.worker(engine)
        await unused.stop()
        await unused.stop()
        early = jobs.worker(engine)
        start = asyncio.create_task(early.start())
        await asyncio.sleep(0)
        await early.stop()
        with pytest.raises(RuntimeError, match="not stopped before it has started"):
            await start
        twice = jobs.worker(engine)
        second = (await asyncio.gather(twice.start(), twice.start(), return_exceptions=True))[1]
        assert isinstance(second, RuntimeError)
        assert await holders(jobs) == 1
        await twice.stop()
        assert await holders(jobs) == 0


async def test_a_worker_stops_while_somebody_keeps_the_store_to_himself(jobs: Jobs) -> None:
    """E148: also when a claim is under way, which is not answered before that; what it brings is given back."""

    @jobs.task(name="plain")
    async def plain() -> int:
        return 1

    connection = jobs.connect()
    async with Engine(threads=1) as engine:
        worker = await jobs.worker(engine).start()
        claims = worker.statistics().claims
        with connection:
            job = plain.options(connection=connection).enqueue()
            worker._feeder.look()
            await eventually_async(lambda: _has_claimed(worker, claims), PATIENCE, "a claim is under way")
            assert await asyncio.wait_for(worker.drain(0), PATIENCE) is False
            stopping = asyncio.create_task(worker.stop(0))
            await eventually_async(lambda: _is_stopping(worker), PATIENCE, "the worker is stopping")
        await asyncio.wait_for(stopping, PATIENCE)
        assert await state_of(jobs, (await job).id) is TaskState.PENDING
        assert await holders(jobs) == 0
    connection.close()


async def _has_claimed(worker: Worker, claims: int) -> bool:
    return worker.statistics().claims > claims


async def test_a_start_that_is_cancelled_leaves_no_holder(jobs: Jobs) -> None:
    """E149: its lease would be renewed for as long as the process lives."""
    connection = jobs.connect()
    async with Engine(threads=1) as engine:
        with connection:  # so that nobody becomes a holder meanwhile
            starts = [asyncio.create_task(jobs.worker(engine).start()) for _ in range(3)]
            await asyncio.sleep(0)
            for start in starts:
                start.cancel()
            await asyncio.wait(starts)

        async def are_gone() -> bool:
            return await holders(jobs) == 0

        await jobs.store.write(lambda book, now: None)  # those holders were there by then
        await eventually_async(are_gone, PATIENCE, "nobody holds")
    connection.close()


@pytest.mark.parametrize("is_left", [True, False])
def test_what_runs_when_its_loop_ends_comes_again(jobs: Jobs, is_left: bool) -> None:
    """E150: `asyncio.run` cancels all tasks at its end, those of jobs too; nobody need have stopped the worker."""
    started = asyncio.Event()
    serving: asyncio.Task[None] | None = None

    @jobs.task(name="long")
    async def long() -> None:
        started.set()
        await asyncio.sleep(PATIENCE)

    async def serve() -> None:
        async with Engine(threads=1) as engine, jobs.worker(engine):
            await asyncio.Event().wait()

    async def main() -> int:
        nonlocal serving
        if is_left:
            serving = asyncio.create_task(serve())
        else:
            engine = await Engine(threads=1).start()
            await jobs.worker(engine).start()
        job = await long.enqueue()
        await started.wait()
        return job.id

    job_id = asyncio.run(main())
    jobs.store.write(lambda book, now: None).result(PATIENCE)  # what the worker asked for was before it
    job = jobs.get(job_id).result(PATIENCE)
    assert (job.state, job.attempt, job.failures().result(PATIENCE)) == (TaskState.PENDING, 0, ())
    assert jobs.statistics().result(PATIENCE).holders == ()


def test_what_a_worker_holds_whose_loop_was_closed_under_it_comes_again(jobs: Jobs) -> None:
    """E152: no task hears of it; the store's listener does, with the next commit of anybody."""
    runs = threading.Event()

    @jobs.task(name="long", lane="thread")
    def long() -> None:
        runs.set()
        is_over.wait(PATIENCE)

    is_over = threading.Event()
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)  # of tasks that are destroyed
    with BlockingEngine(threads=1) as engine:
        worker = loop.run_until_complete(jobs.worker(engine._engine).start())
        job = long.enqueue().result(PATIENCE)
        loop.run_until_complete(asyncio.to_thread(runs.wait, PATIENCE))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        eventually(lambda: jobs.statistics().result(PATIENCE).holders == (), PATIENCE, "nobody holds")
        assert jobs.get(job.id).result(PATIENCE).state is TaskState.PENDING
        is_over.set()
    del worker


def refuse(monkeypatch: pytest.MonkeyPatch, kind: type[Book], job_id: int, *ends: End) -> None:
    """Have books of ``kind`` refuse to end the runs of one job in these ways."""
    end = kind.end

    def refusing(self: Book, endings: Sequence[Ending], now: Moment) -> list[TaskState | None]:
        if any(each.id == job_id and each.end in ends for each in endings):
            raise ZeroDivisionError("a defect of the book")
        return end(self, endings, now)

    monkeypatch.setattr(kind, "end", refusing)


@BOOKS
async def test_an_attempt_whose_end_the_book_refuses_fails_its_job(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: type[Book]
) -> None:
    """E200: with the reason; the worker claims on."""
    with Jobs(MemoryStore() if kind is MemoryBook else tmp_path / "jobs.db", lease=2.0) as jobs:

        @jobs.task(name="fails", retry=Retry(max_attempts=3, base_delay=0.0))
        async def fails() -> None:
            raise OSError("its own")

        refuse(monkeypatch, kind, 1, End.RETRY)
        async with Engine(threads=1) as engine, jobs.worker(engine):
            refused = await (await fails.enqueue()).wait(timeout=PATIENCE)
            other = await (await fails.enqueue()).wait(timeout=PATIENCE)
        assert (refused.state, refused.error) == (TaskState.FAILED, "ZeroDivisionError: a defect of the book")
        assert (other.state, other.attempt) == (TaskState.FAILED, 3)


@BOOKS
async def test_a_job_whose_end_the_book_refuses_in_any_form_is_rescued_like_one_whose_worker_died(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: type[Book]
) -> None:
    """E200: and fails in the end; what runs beside it is given back, and the worker claims on."""
    with Jobs(MemoryStore() if kind is MemoryBook else tmp_path / "jobs.db", lease=0.3) as jobs:
        tokens: list[int] = []
        is_open = asyncio.Event()

        @jobs.task(name="stuck", max_crashes=1)
        async def stuck() -> None:
            await is_open.wait()

        @jobs.task(name="beside")
        async def beside() -> None:
            job = current_job()
            assert job is not None
            tokens.append(job.token)
            if job.token == 1:
                is_open.set()
                await asyncio.sleep(PATIENCE)

        refuse(monkeypatch, kind, 1, End.COMPLETED, End.FAILED)
        async with Engine(threads=1) as engine, jobs.worker(engine):
            first, second = await stuck.enqueue(), await beside.enqueue()
            done = await first.wait(timeout=PATIENCE)
            other = await second.wait(timeout=PATIENCE)
        assert (done.state, done.crashes, other.state, tokens) == (TaskState.FAILED, 1, TaskState.COMPLETED, [1, 2])
        assert [each.kind for each in await done.failures()] == ["lost", "lost"]
        assert "holds what it cannot end" in caplog.text


async def test_a_job_that_awaits_the_end_of_its_own_worker_is_told_so(jobs: Jobs) -> None:
    """E189: the worker waits for the job; as a task beside the job, which then ends, it is waited for by nobody."""
    asked: list[asyncio.Task[None]] = []

    @jobs.task(name="ends_its_worker")
    async def ends_its_worker() -> list[str]:
        await asyncio.sleep(0)
        told = []
        for wait in (worker.stop, worker.drain):
            try:
                await wait()
            except RuntimeError as error:
                told.append(str(error))
        asked.append(asyncio.create_task(worker.stop()))
        return told

    async with Engine(threads=1) as engine:
        worker = await jobs.worker(engine).start()
        job = await ends_its_worker.enqueue()
        told = (await job.wait(timeout=PATIENCE)).result()
        await asyncio.wait_for(asked[0], PATIENCE)
        assert await holders(jobs) == 0
    assert len(told) == 2
    assert told[0].startswith(
        f"expected the worker to be waited for by others than its own jobs, got job {job.id} (ends"
    )
