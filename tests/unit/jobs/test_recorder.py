"""The way of endings into the store."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from engine import TaskState
from engine.jobs._book import Book
from engine.jobs._memory.store import MemoryStore
from engine.jobs._moment import Moment
from engine.jobs._records import Claim, Claimed, End, Ending, Failure, Filter, NewHolder, NewJob
from engine.jobs._reply import Reply
from engine.jobs._worker import recorder as _recorder
from engine.jobs._worker.recorder import Recorder
from engine.jobs.errors import StoreError, StoreFull
from tests.support import eventually_async

HOLDER = NewHolder(name="h", pid=1, pid_started=0.0, namespace="", lease=30.0)


class CountingStore(MemoryStore):
    """Counts writes, and refuses those for which ``refusals`` has an error."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0
        self.refusals: list[Exception | None] = []

    def write(self, operation: Callable[[Book, Moment], Any], *, keep: bool = False) -> Reply[Any]:
        self.writes += 1
        refusal = self.refusals.pop(0) if self.refusals else None
        if refusal is not None:
            raise refusal
        return super().write(operation, keep=keep)


async def claimed(store: MemoryStore, jobs: int) -> Sequence[Claimed]:
    new = NewJob(queue="default", name="work", args="{}")
    holder = await store.hold(HOLDER, lambda: None)
    await store.write(lambda book, now: book.enqueue([new] * jobs, now))
    claim = Claim(holder=holder, queues={"default": jobs}, limit=jobs)
    return (await store.write(lambda book, now: book.claim(claim, now))).jobs


async def test_the_endings_of_one_turn_of_the_loop_are_one_write() -> None:
    store, told = CountingStore(), dict[int, object]()
    recorder = Recorder(store, "w", lambda ending, what: told.__setitem__(ending.id, what))
    jobs = await claimed(store, 20)
    store.writes = 0
    for job in jobs:
        recorder.add(Ending(job.id, job.token, End.COMPLETED, result="1"))
    assert recorder.unrecorded == 20
    await recorder.settled()
    assert store.writes == 1
    assert told == {job.id: TaskState.COMPLETED for job in jobs}


async def test_an_ending_that_has_lost_its_claim_is_told_of_as_fenced() -> None:
    """J1: nothing of it is recorded."""
    store, told = CountingStore(), list[object]()
    recorder = Recorder(store, "w", lambda ending, what: told.append(what))
    (job,) = await claimed(store, 1)
    recorder.add(Ending(job.id, job.token + 1, End.COMPLETED, result="1"))
    await recorder.settled()
    assert told == [None]


async def test_endings_that_a_store_has_no_room_for_are_offered_until_it_has() -> None:
    """E126: a full store costs no ending."""
    store, told = CountingStore(), list[object]()
    recorder = Recorder(store, "w", lambda ending, what: told.append(what))
    (job,) = await claimed(store, 1)
    store.refusals = [StoreFull(), StoreFull()]
    recorder.add(Ending(job.id, job.token, End.COMPLETED))
    await recorder.settled()
    assert told == [TaskState.COMPLETED]


async def test_an_ending_that_the_book_refuses_fails_its_own_job_only() -> None:
    """E126: the others of its turn are recorded; its effects are done, so it is not run again."""
    store, told = CountingStore(), dict[int, object]()
    recorder = Recorder(store, "w", lambda ending, what: told.__setitem__(ending.id, what))
    good, bad = await claimed(store, 2)
    refusal = ValueError("a follow-up of the second")
    store.refusals = [refusal, None, refusal]
    recorder.add(Ending(good.id, good.token, End.COMPLETED))
    recorder.add(Ending(bad.id, bad.token, End.COMPLETED))
    await recorder.settled()
    assert told == {good.id: TaskState.COMPLETED, bad.id: TaskState.FAILED}
    (info,) = await store.read(lambda book, now: book.find(Filter(ids=(bad.id,))))
    assert info.error == "ValueError: a follow-up of the second"


@pytest.mark.parametrize("end", [End.FAILED, End.RETRY, End.SNOOZE, End.CRASH, End.CANCELLED])
async def test_an_end_of_any_kind_that_the_book_refuses_fails_its_job(end: End) -> None:
    """E200: it says why, and how the run had ended; else its row would be RUNNING for as long as the worker lives."""
    store, told = CountingStore(), list[object]()
    recorder = Recorder(store, "w", lambda ending, what: told.append(what))
    (job,) = await claimed(store, 1)
    failure = Failure(0.0, 1, job.token, "error", "OSError: the run's own")
    store.refusals = [OverflowError("no such delay")]
    recorder.add(Ending(job.id, job.token, end, failure=failure, delay=1.0))
    await recorder.settled()
    assert told == [TaskState.FAILED]
    (found,) = await store.read(lambda book, now: book.failures(job.id))
    assert (found.kind, found.error) == ("ending", "OverflowError: no such delay")
    assert f"the run had ended as '{end.value}': OSError: the run's own" in found.traceback


async def test_what_the_book_refuses_in_any_form_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """E200: whoever holds it hears, and can let go."""
    store, told = CountingStore(), list[object]()
    recorder = Recorder(store, "w", lambda ending, what: told.append(what))
    (job,) = await claimed(store, 1)
    refusals = [ValueError("first"), ValueError("again")]
    store.refusals = list(refusals)
    recorder.add(Ending(job.id, job.token, End.RETRY))
    await recorder.settled()
    assert told == refusals[1:]
    assert recorder.unrecorded == 0
    assert "could not be recorded" in caplog.text


async def test_a_job_whose_giving_back_the_book_refuses_is_not_failed() -> None:
    """E200: it need not have run at all."""
    store, told = CountingStore(), list[object]()
    recorder = Recorder(store, "w", lambda ending, what: told.append(what))
    (job,) = await claimed(store, 1)
    refusal = ValueError("a defect")
    store.refusals = [refusal]
    recorder.add(Ending(job.id, job.token, End.GIVE_BACK))
    await recorder.settled()
    assert told == [refusal]


async def test_what_cannot_be_recorded_at_all_is_told_of_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    store, told = CountingStore(), list[object]()
    recorder = Recorder(store, "w", lambda ending, what: told.append(what))
    (job,) = await claimed(store, 1)
    store.close()
    recorder.add(Ending(job.id, job.token, End.COMPLETED))
    await recorder.settled()
    assert [type(what).__name__ for what in told] == ["StoreClosed"]
    assert "could not be recorded" in caplog.text


async def test_an_ending_that_a_store_refuses_for_now_is_offered_until_it_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """E151: given up, its job would be RUNNING, and hold its lock, for as long as the worker lives."""
    monkeypatch.setattr(_recorder, "_AGAIN_AFTER", 0.001)
    store, told = CountingStore(), dict[int, object]()
    recorder = Recorder(store, "w", lambda ending, what: told.update({ending.id: what}))
    first, second = await claimed(store, 2)
    store.refusals = [StoreError("both"), StoreError("the first"), None, StoreError("the first, again")]
    for job in (first, second):
        recorder.add(Ending(job.id, job.token, End.COMPLETED, "null"))
    await recorder.settled()
    assert told == {first.id: TaskState.COMPLETED, second.id: TaskState.COMPLETED}
    assert not store.refusals


async def test_closing_ends_the_wait_for_room() -> None:
    store = CountingStore()
    recorder = Recorder(store, "w", lambda ending, what: None)
    (job,) = await claimed(store, 1)
    store.refusals = [StoreFull()] * 10_000
    recorder.add(Ending(job.id, job.token, End.COMPLETED))
    await eventually_async(lambda: len(store.refusals) < 10_000)
    recorder.close()
    await eventually_async(lambda: len(asyncio.all_tasks()) == 1)
    assert recorder.unrecorded == 1
