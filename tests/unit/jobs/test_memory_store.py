"""The store in memory: virtual time, leases without a thread, and what it refuses."""

import threading
import time

import pytest

from engine import TaskState
from engine.jobs._book import Book
from engine.jobs._memory.store import MemoryStore
from engine.jobs._moment import Moment
from engine.jobs._records import Claim, Claims, Filter, JobInfo, NewHolder, NewJob
from engine.jobs.errors import StoreError
from engine.testing import VirtualClock
from tests.integration.exits import run_program

DAY = 86_400.0


def enqueue(store: MemoryStore, **options: float) -> int:
    """Enqueue a job."""
    new = NewJob(queue="q", name="f", args="{}", **options)  # type: ignore[arg-type]  # times only
    return store.write(lambda book, now: book.enqueue([new], now)).result()[0]


def claim(store: MemoryStore, holder: int) -> Claims:
    """Claim what there is."""
    wanted = Claim(holder=holder, queues={"q": 10}, limit=10)
    return store.write(lambda book, now: book.claim(wanted, now)).result()


def jobs(store: MemoryStore) -> list[JobInfo]:
    """Look at all jobs."""
    return store.read(lambda book, now: book.find(Filter(oldest_first=True))).result()


def new_holder(lease: float = 30.0) -> NewHolder:
    """Return a holder."""
    return NewHolder(name="w", pid=1, pid_started=0.0, namespace="", lease=lease)


def lost() -> None:
    """Fail: nobody took the lease."""
    raise AssertionError("expected the lease to be kept, got on_lost()")


def test_what_is_delayed_comes_due_as_virtual_time_passes() -> None:
    """T1: and nothing waits for it."""
    clock = VirtualClock()
    store = MemoryStore(clock=clock, epoch=1000.0)
    holder = store.hold(new_holder(), lost).result()
    delayed, timed = enqueue(store, delay=DAY), enqueue(store, at=1000.0 + 2 * DAY)
    assert claim(store, holder) == Claims((), suspects=False, next_due=DAY)
    clock.advance(DAY)
    assert [run.id for run in claim(store, holder).jobs] == [delayed]
    clock.advance(DAY)
    assert [run.id for run in claim(store, holder).jobs] == [timed]
    assert store.now() == Moment(1000.0 + 2 * DAY, 1000.0 + 2 * DAY, store.now().boot)
    assert [job.started_at for job in jobs(store)] == [1000.0 + DAY, 1000.0 + 2 * DAY]


def test_who_holds_is_renewed_however_far_virtual_time_jumps() -> None:
    """J2: as if a thread had renewed it all the time; who is not held by the store loses its lease."""
    clock = VirtualClock(start=5.0)
    store = MemoryStore(clock=clock)
    held = store.hold(new_holder(1.0), lost).result()
    other = store.write(lambda book, now: book.hold(new_holder(1.0), now)).result()
    enqueue(store)
    claim(store, held)
    enqueue(store)
    claim(store, other)
    clock.advance(DAY)
    assert [(job.state, job.suspect) for job in jobs(store)] == [
        (TaskState.RUNNING, False),
        (TaskState.PENDING, True),
    ]


def test_virtual_time_begins_at_the_present() -> None:
    clock = VirtualClock(start=77.0)
    store = MemoryStore(clock=clock)
    assert abs(store.now().wall - time.time()) < 60
    before = store.now()
    clock.advance(3.5)
    assert store.now().wall - before.wall == pytest.approx(3.5)


def test_real_time_does_not_go_back_when_somebody_sets_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """T1: of the two clocks only the wall's is set."""
    store = MemoryStore()
    before = store.now()
    monkeypatch.setattr(time, "time", lambda: before.wall - DAY)
    after = store.now()
    assert after.wall == before.wall - DAY
    assert before.steady <= after.steady < before.steady + 60


def test_the_store_has_no_thread() -> None:
    threads = threading.enumerate()
    store = MemoryStore()
    store.hold(new_holder(0.01), lost).result()
    enqueue(store)
    assert threading.enumerate() == threads
    store.close()


def test_the_end_gives_back_what_is_held_and_is_heard_of() -> None:
    """N11: who waits for work, or for a job, looks again and finds the store closed."""
    store = MemoryStore()
    book = store.read(lambda book, now: book).result()
    holder = store.hold(new_holder(), lost).result()
    enqueue(store)
    claim(store, holder)
    heard: list[str] = []
    store.listen(lambda: heard.append("closed"))
    store.close()
    (job,) = book.find(Filter())
    assert (job.state, job.attempt, job.suspect) == (TaskState.PENDING, 0, False)
    assert heard == ["closed"]


def test_a_listener_may_ask_the_store() -> None:
    """J14: it is called when the lock is free again."""
    store = MemoryStore()
    seen: list[int] = []
    store.listen(lambda: seen.append(len(jobs(store))))
    enqueue(store)
    enqueue(store)
    assert seen == [1, 2]


def test_what_an_answer_holds_does_not_change_the_store() -> None:
    store = MemoryStore()
    enqueue(store)

    def spoil(book: Book, now: Moment) -> None:
        book.statistics(now).counters["fenced"] = 99
        book.find(Filter()).clear()
        book.failures(1).append(None)  # type: ignore[arg-type]  # it is a copy that is spoilt
        book.states([1]).clear()

    store.read(spoil).result()
    statistics = store.read(lambda book, now: book.statistics(now)).result()
    assert statistics.counters["fenced"] == 0
    assert len(jobs(store)) == 1
    assert store.read(lambda book, now: book.failures(1)).result() == []


def test_what_needs_a_database_says_so() -> None:
    store = MemoryStore()
    for use in (store.connect, lambda: store.query("SELECT 1")):
        with pytest.raises(StoreError, match=r"use a file: Jobs\('jobs.db'\)"):
            use()
    assert store.name == "memory"
    assert repr(store) == "<MemoryStore open>"
    store.close()
    assert repr(store) == "<MemoryStore closed>"


def test_a_forked_child_is_refused() -> None:
    """E103: what was enqueued before the fork would run in both processes."""
    ended = run_program("""
from engine.jobs._memory.store import MemoryStore
from engine.jobs._records import Filter, NewHolder, NewJob
from engine.jobs.errors import StoreError

store = MemoryStore()
new = NewJob(queue="q", name="f", args="{}")
store.write(lambda book, now: book.enqueue([new], now)).result()
look = lambda book, now: len(book.find(Filter()))
store._lock.acquire()  # as a thread has it that is not there any more in the child
pid = os.fork()
if pid == 0:
    for use in (store.open, lambda: store.write(look), lambda: store.read(look), lambda: store.listen(print),
                lambda: store.let_go(1)):
        try:
            use()
        except StoreError as error:
            assert "forked child" in str(error)
        else:
            os._exit(3)
    store.close()
    os._exit(7)
store._lock.release()
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), store.read(look).result())
""")
    assert (ended.code, ended.stderr, ended.stdout) == (0, "", "7 1\n")
