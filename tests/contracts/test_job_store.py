"""What every store of jobs promises: answers on any thread and any loop, listeners, leases, an end."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine import TaskState
from engine.jobs._book import Book
from engine.jobs._memory.store import MemoryStore
from engine.jobs._moment import Moment
from engine.jobs._records import (
    Claim,
    Claimed,
    End,
    Ending,
    Failure,
    Filter,
    HolderInfo,
    JobInfo,
    NewHolder,
    NewJob,
    Rescued,
)
from engine.jobs._sqlite import boot as _boot
from engine.jobs._sqlite.store import SQLiteStore
from engine.jobs._store import Store
from engine.jobs.errors import AlreadyEnqueued, StoreClosed
from tests.contracts.job_books import START
from tests.support import eventually

PATIENCE = 20.0
JOB = NewJob(queue="q", name="f", args="{}")

OnRescue = Callable[[list[Rescued]], object]
#: Name -> what makes a store of that kind in a folder. A new one joins here.
MAKERS: dict[str, Callable[[Path, OnRescue], Store]] = {
    "memory": lambda folder, on_rescue: MemoryStore(on_rescue=on_rescue),
    "sqlite": lambda folder, on_rescue: SQLiteStore(folder / "jobs.db", "normal", on_rescue=on_rescue),
}


@pytest.fixture
def rescued() -> list[Rescued]:
    """Collect what the store rescues."""
    return []


@pytest.fixture(params=list(MAKERS))
def store(request: pytest.FixtureRequest, tmp_path: Path, rescued: list[Rescued]) -> Iterator[Store]:
    """Give a store of each kind in turn."""
    made = MAKERS[request.param](tmp_path, rescued.extend)
    yield made
    made.close()


def enqueue(book: Book, now: Moment) -> int:
    """Enqueue a job."""
    return book.enqueue([JOB], now)[0]


def enqueue_once(book: Book, now: Moment) -> int:
    """Enqueue a job of which one may wait."""
    return book.enqueue([NewJob(queue="q", name="f", args="{}", queueing_lock="daily")], now)[0]


def ids_in(store: Store) -> list[int]:
    """Return all jobs, the oldest first."""
    found = store.read(lambda book, now: book.find(Filter(limit=10**6, oldest_first=True)))
    return [job.id for job in found.result(PATIENCE)]


def job(store: Store, job_id: int) -> JobInfo:
    """Look at one job."""
    (info,) = store.read(lambda book, now: book.find(Filter(ids=(job_id,)))).result(PATIENCE)
    return info


def holders(store: Store) -> dict[int, HolderInfo]:
    """Return who is there."""
    statistics = store.read(lambda book, now: book.statistics(now)).result(PATIENCE)
    return {each.id: each for each in statistics.holders}


def claim(store: Store, holder: int) -> tuple[Claimed, ...]:
    """Claim what there is."""
    wanted = Claim(holder=holder, queues={"q": 10}, limit=10)
    return store.write(lambda book, now: book.claim(wanted, now)).result(PATIENCE).jobs


def this_process(lease: float) -> NewHolder:
    """Return a holder that is alive."""
    me = _boot.this_process()
    return NewHolder(name="w", pid=me.pid, pid_started=me.started, namespace=me.namespace, lease=lease)


# -- answers ----------------------------------------------------------------------------------------------------------


def test_what_is_written_is_answered_and_read(store: Store) -> None:
    first = store.write(enqueue).result(PATIENCE)
    second = store.write(enqueue, keep=True).result(PATIENCE)
    assert ids_in(store) == [first, second]


def test_an_error_of_an_operation_is_the_answer_of_its_own_writer_alone(store: Store) -> None:
    first, refused, after = store.write(enqueue_once), store.write(enqueue_once), store.write(enqueue)
    job_id = first.result(PATIENCE)
    with pytest.raises(AlreadyEnqueued) as error:
        refused.result(PATIENCE)
    assert error.value.job_id == job_id
    assert ids_in(store) == [job_id, after.result(PATIENCE)]


def test_an_operation_that_raises_half_way_has_changed_nothing(store: Store) -> None:
    """J12: whichever verbs it had called, and nobody hears of it."""
    holder = store.write(lambda book, now: book.hold(this_process(30.0), now)).result(PATIENCE)
    other = store.write(lambda book, now: book.hold(this_process(30.0), now)).result(PATIENCE)
    locked = NewJob(queue="q", name="f", args="{}", lock="l")
    for _ in range(6):
        store.write(lambda book, now: book.enqueue([locked, JOB], now)).result(PATIENCE)
    runs = claim(store, holder)
    store.write(lambda book, now: book.end([Ending(runs[1].id, runs[1].token, End.FAILED)], now)).result(PATIENCE)

    def look(book: Book, now: Moment) -> object:
        return book.find(Filter()), book.statistics(START), book.last_tick("s"), book.failures(runs[0].id)

    def do_much_and_fail(book: Book, now: Moment) -> None:
        failure = Failure(now.wall, 1, 1, "error", "E")
        book.enqueue([NewJob(queue="new", name="g", args="{}", queueing_lock="u", delay=5.0)], now)
        book.enqueue_many(locked, ["1", "2"], now)
        book.claim(Claim(holder=other, queues={"q": 2}, limit=2), now)
        book.end([Ending(runs[0].id, runs[0].token, End.RETRY, failure=failure), Ending(99, 1, End.FAILED)], now)
        book.cancel(runs[2].id, now)
        book.cancel(runs[2].id + 1, now)
        book.report(runs[2].id, runs[2].token, "1")
        book.requeue(runs[1].id, now)
        book.end([Ending(runs[3].id, runs[3].token, End.COMPLETED)], now)
        book.prune([TaskState.COMPLETED], now.wall + 9, 9)
        book.pause("q", True)
        book.tick("s", now.wall, JOB, now)
        book.hold(this_process(5.0), now)
        book.let_go(holder, now)
        book.rescue(now, lambda info: True)
        raise ZeroDivisionError

    before = store.read(look).result(PATIENCE)
    with pytest.raises(ZeroDivisionError):
        store.write(do_much_and_fail).result(PATIENCE)
    assert store.read(look).result(PATIENCE) == before
    new = store.write(enqueue).result(PATIENCE)
    store.write(lambda book, now: book.end([Ending(runs[0].id, runs[0].token, End.COMPLETED)], now)).result(PATIENCE)
    assert [run.id for run in claim(store, other)] == [runs[0].id + 2, new]


def test_an_error_of_a_look_is_its_answer(store: Store) -> None:
    def fail(book: Book, now: Moment) -> None:
        raise ZeroDivisionError

    reply = store.read(fail)
    with pytest.raises(ZeroDivisionError):
        reply.result(PATIENCE)
    assert ids_in(store) == []


def test_the_operations_of_one_thread_are_done_in_their_order(store: Store) -> None:
    replies = [store.write(enqueue) for _ in range(100)]
    ids = [reply.result(PATIENCE) for reply in replies]
    assert ids == sorted(ids)
    assert ids_in(store) == ids


def test_many_threads_write_and_each_has_its_own_answer(store: Store) -> None:
    together = threading.Barrier(8)

    def work(_: int) -> list[int]:
        together.wait(PATIENCE)
        return [store.write(enqueue).result(PATIENCE) for _ in range(25)]

    with ThreadPoolExecutor(8) as pool:
        ids = [each for part in pool.map(work, range(8)) for each in part]
    assert sorted(ids) == ids_in(store)
    assert len(set(ids)) == 200


def test_of_many_threads_that_enqueue_with_one_queueing_lock_one_does(store: Store) -> None:
    """J10: the others are told which job was there first."""
    together = threading.Barrier(16)

    def work(_: int) -> int:
        together.wait(PATIENCE)
        replies = [store.write(enqueue_once) for _ in range(4)]
        done = 0
        for reply in replies:
            try:
                reply.result(PATIENCE)
            except AlreadyEnqueued as error:
                seen[error.job_id] += 1
            else:
                done += 1
        return done

    seen: Counter[int | None] = Counter()
    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(work, range(16))) == 1
    assert seen == {ids_in(store)[0]: 63}


def test_each_loop_is_answered_on_its_own_thread(store: Store) -> None:
    """N15: coroutines of several loops, and threads, on one store."""
    together = threading.Barrier(3)

    async def ask() -> tuple[int, int]:
        thread = threading.get_ident()
        job_id = await store.write(enqueue)
        assert threading.get_ident() == thread
        return job_id, len(await store.read(lambda book, now: book.find(Filter(ids=(job_id,)))))

    async def ask_often() -> list[tuple[int, int]]:
        return await asyncio.wait_for(asyncio.gather(*[ask() for _ in range(30)]), PATIENCE)

    def run(_: int) -> list[tuple[int, int]]:
        together.wait(PATIENCE)
        return asyncio.run(ask_often())

    with ThreadPoolExecutor(3) as pool:
        answers = [each for part in pool.map(run, range(3)) for each in part]
    assert sorted(job_id for job_id, _ in answers) == ids_in(store)
    assert {found for _, found in answers} == {1}


async def test_a_coroutine_that_is_cancelled_while_it_waits_takes_nothing_back(store: Store) -> None:
    """J15: the job is there though who asked for it waits no more."""

    async def wait() -> int:
        return await store.write(enqueue)

    waiter = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    waiter.cancel()
    await asyncio.wait([waiter], timeout=PATIENCE)
    after = await store.write(enqueue)
    assert [info.id for info in await store.read(lambda book, now: book.find(Filter()))] == [after, after - 1]


def test_an_operation_is_told_the_time_of_the_store(store: Store) -> None:
    before, told, after = store.now(), store.write(lambda book, now: now).result(PATIENCE), store.now()
    assert before.steady <= told.steady <= after.steady
    assert before.boot == told.boot == after.boot
    assert abs(told.wall - time.time()) < 60


# -- listeners --------------------------------------------------------------------------------------------------------


def test_a_listener_hears_of_what_was_changed_after_it_was_changed(store: Store) -> None:
    seen: list[list[int]] = []
    heard = threading.Event()
    store.listen(heard.set)
    for number in range(1, 4):
        store.write(enqueue).result(PATIENCE)
        assert heard.wait(PATIENCE)
        heard.clear()
        seen.append(ids_in(store))
        assert len(seen[-1]) == number


def test_a_listener_hears_nothing_once_it_is_stopped(store: Store) -> None:
    calls: list[str] = []
    stop = store.listen(lambda: calls.append("stopped"))
    store.listen(lambda: calls.append("listens"))
    stop()
    stop()
    store.write(enqueue).result(PATIENCE)
    eventually(lambda: calls, PATIENCE, "the other listener to hear")
    assert set(calls) == {"listens"}


def test_nobody_hears_of_what_changed_nothing(store: Store) -> None:
    """J14: a worker whose claims find nothing would call itself to the next one for ever."""
    calls: list[str] = []
    heard = threading.Event()
    holder = store.write(lambda book, now: book.hold(this_process(30.0), now)).result(PATIENCE)
    store.write(enqueue).result(PATIENCE)
    assert len(claim(store, holder)) == 1
    held = store.hold(this_process(30.0), lambda: None).result(PATIENCE)
    eventually(lambda: len(holders(store)) == 2, PATIENCE, "both to hold")
    settled = threading.Event()
    stop = store.listen(settled.set)
    store.write(enqueue).result(PATIENCE)
    assert settled.wait(PATIENCE)
    stop()
    store.listen(lambda: calls.append("heard"))
    for _ in range(20):
        assert (
            store.write(lambda book, now: book.claim(Claim(holder=held, queues={"no": 1}, limit=1), now))
            .result(PATIENCE)
            .jobs
            == ()
        )
        assert store.write(lambda book, now: book.requeue(99, now)).result(PATIENCE) is False
    assert calls == []
    store.listen(heard.set)
    store.write(enqueue).result(PATIENCE)
    assert heard.wait(PATIENCE)


def test_a_listener_that_fails_harms_nobody(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    heard = threading.Event()

    def fail() -> None:
        raise ZeroDivisionError

    store.listen(fail)
    store.listen(heard.set)
    store.write(enqueue).result(PATIENCE)
    assert heard.wait(PATIENCE)
    eventually(lambda: "ZeroDivisionError" in caplog.text, PATIENCE, "the log to say so")
    assert len(ids_in(store)) == 1


# -- holders ----------------------------------------------------------------------------------------------------------


def test_a_lease_is_kept_for_as_long_as_its_holder_wants(store: Store) -> None:
    """J2: a run of ten leases' length stays with its worker."""
    lost: list[str] = []
    holder = store.hold(this_process(0.1), lambda: lost.append("lost")).result(PATIENCE)
    job_id = store.write(enqueue).result(PATIENCE)
    (run,) = claim(store, holder)
    first = holders(store)[holder].lease_until
    eventually(lambda: holders(store)[holder].lease_until > first + 1.0, PATIENCE, "ten leases to be over")
    info = job(store, job_id)
    assert (info.state, info.token, lost) == (TaskState.RUNNING, run.token, [])


def test_who_has_lost_its_lease_is_told_once(store: Store) -> None:
    """J1: whoever took it away; what it held is a suspect, and letting go of it gives nothing back."""
    lost: list[str] = []
    holder = store.hold(this_process(0.3), lambda: lost.append("first")).result(PATIENCE)
    other = store.hold(this_process(0.3), lambda: lost.append("other")).result(PATIENCE)
    job_id = store.write(enqueue).result(PATIENCE)
    claim(store, holder)
    store.write(lambda book, now: book.rescue(now, lambda info: info.id == holder)).result(PATIENCE)
    eventually(lambda: lost, PATIENCE, "the holder to be told")
    assert job(store, job_id).suspect
    before = holders(store)[other].lease_until
    eventually(lambda: holders(store)[other].lease_until > before, PATIENCE, "the other to be renewed")
    assert lost == ["first"]
    assert store.let_go(holder).result(PATIENCE) == 0


def test_whoever_holds_has_the_jobs_of_lost_holders_rescued(store: Store, rescued: list[Rescued]) -> None:
    """J11: those whose lease is over, and that nobody renews."""
    short = this_process(0.1)
    gone = store.write(lambda book, now: book.hold(short, now)).result(PATIENCE)
    job_id = store.write(enqueue).result(PATIENCE)
    claim(store, gone)
    heard = threading.Event()
    store.listen(heard.set)
    holder = store.hold(this_process(30.0), lambda: None).result(PATIENCE)
    eventually(lambda: job(store, job_id).state is TaskState.PENDING, PATIENCE, "the job to be rescued")
    eventually(lambda: [each.id for each in rescued] == [job_id], PATIENCE, "the store to say so")
    assert job(store, job_id).suspect
    assert set(holders(store)) == {holder}
    assert heard.wait(PATIENCE)


def test_who_lets_go_gives_back_what_it_has_and_hears_no_more(store: Store) -> None:
    """N11: no attempt is used."""
    lost: list[str] = []
    holder = store.hold(this_process(0.3), lambda: lost.append("lost")).result(PATIENCE)
    job_id = store.write(enqueue).result(PATIENCE)
    claim(store, holder)
    assert store.let_go(holder).result(PATIENCE) == 1
    info = job(store, job_id)
    assert (info.state, info.attempt, info.suspect) == (TaskState.PENDING, 0, False)
    assert store.let_go(holder).result(PATIENCE) == 0
    other = store.hold(this_process(0.3), lambda: None).result(PATIENCE)
    before = holders(store)[other].lease_until
    eventually(lambda: holders(store)[other].lease_until > before, PATIENCE, "a renewal")
    assert set(holders(store)) == {other}
    assert lost == []


def test_the_jobs_of_a_lease_that_is_forsaken_are_rescued_when_it_is_over(store: Store, rescued: list[Rescued]) -> None:
    """E200: its holder is alive, is told nothing, and until then what it holds is its own."""
    lost: list[str] = []
    holder = store.hold(this_process(0.5), lambda: lost.append("lost")).result(PATIENCE)
    other = store.hold(this_process(30.0), lambda: None).result(PATIENCE)
    kept, ended = store.write(enqueue).result(PATIENCE), store.write(enqueue).result(PATIENCE)
    _, run = claim(store, holder)
    store.forsake(holder)
    ending = Ending(run.id, run.token, End.COMPLETED, "null")
    assert store.write(lambda book, now: book.end([ending], now)).result(PATIENCE) == [TaskState.COMPLETED]
    eventually(lambda: job(store, kept).suspect, PATIENCE, "the job to be rescued")
    assert set(holders(store)) == {other}
    assert [each.id for each in rescued] == [kept]
    assert job(store, ended).state is TaskState.COMPLETED
    assert lost == []


# -- the end ----------------------------------------------------------------------------------------------------------


def test_a_store_is_opened_by_its_first_use_and_opening_it_again_is_nothing(store: Store) -> None:
    job_id = store.write(enqueue).result(PATIENCE)
    store.open()
    store.open()
    assert ids_in(store) == [job_id]
    assert store.name


def test_what_was_asked_before_the_end_is_answered(store: Store) -> None:
    replies = [store.write(enqueue) for _ in range(50)]
    store.close()
    ids = [reply.result(PATIENCE) for reply in replies]
    assert len(set(ids)) == 50


@pytest.mark.parametrize("is_used", [True, False])
def test_after_the_end_everything_is_refused(store: Store, is_used: bool) -> None:
    if is_used:
        store.hold(this_process(30.0), lambda: None).result(PATIENCE)
    store.close()
    store.close()
    uses: list[Callable[[], object]] = [
        store.open,
        lambda: store.write(enqueue),
        lambda: store.read(enqueue),
        lambda: store.listen(lambda: None),
        lambda: store.hold(this_process(30.0), lambda: None),
        lambda: store.let_go(1),
        lambda: store.forsake(1),
    ]
    for use in uses:
        with pytest.raises(StoreClosed, match="close"):
            use()


def test_an_end_while_threads_write_answers_or_refuses_each(store: Store) -> None:
    """N2: nobody waits for an answer that does not come."""
    together = threading.Barrier(5)

    def work(_: int) -> tuple[int, int]:
        done = 0
        together.wait(PATIENCE)
        for number in range(10_000):
            try:
                store.write(enqueue).result(PATIENCE)
                done += 1
            except StoreClosed:
                return done, number
        raise AssertionError("expected the store to be closed")

    with ThreadPoolExecutor(4) as pool:
        parts = pool.map(work, range(4))
        store.open()
        together.wait(PATIENCE)
        store.close()
        assert all(done == number for done, number in parts)


def test_a_connection_of_another_kind_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="connect"):
        store.write_in(object(), enqueue)
    assert ids_in(store) == []
