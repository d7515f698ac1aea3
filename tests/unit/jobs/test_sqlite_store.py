"""A store in a file: what is asked is done, committed and answered."""

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import pytest

from engine import TaskState
from engine.jobs._book import Book
from engine.jobs._moment import Moment
from engine.jobs._records import Filter, NewJob, Rescued
from engine.jobs._sqlite.book import SQLiteBook
from engine.jobs._sqlite.store import SQLiteStore
from engine.jobs.errors import AlreadyEnqueued, StoreClosed, StoreError, StoreFull
from tests.job_stores import JOB, PATIENCE, claim_all, enqueue, holder, ids_in, opened
from tests.support import eventually


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    opened = SQLiteStore(tmp_path / "jobs.db")
    yield opened
    opened.close()


def test_what_is_answered_is_read_by_another_store(store: SQLiteStore, tmp_path: Path) -> None:
    job_id = store.write(enqueue).result(PATIENCE)
    other = SQLiteStore(tmp_path / "jobs.db")
    try:
        assert ids_in(other) == [job_id]
    finally:
        other.close()


async def test_many_coroutines_await_each_its_own_commit(store: SQLiteStore) -> None:
    async def ask() -> int:
        return await store.write(enqueue)

    ids = await asyncio.gather(*[ask() for _ in range(500)])
    found = await store.read(lambda book, now: book.find(Filter(limit=1000)))
    assert sorted(ids, reverse=True) == [job.id for job in found]
    assert len(set(ids)) == 500


def test_an_operation_that_raises_answers_itself_only(store: SQLiteStore) -> None:
    locked = NewJob(queue="q", name="job", args="{}", queueing_lock="one")
    replies = [store.write(lambda book, now: book.enqueue([locked], now)) for _ in range(20)]
    replies += [store.write(lambda book, now: book.enqueue([JOB], now)) for _ in range(5)]
    kinds: list[type] = []
    for reply in replies:
        try:
            kinds.append(type(reply.result(PATIENCE)))
        except AlreadyEnqueued:
            kinds.append(AlreadyEnqueued)
    assert sorted(kind.__name__ for kind in kinds) == ["AlreadyEnqueued"] * 19 + ["list"] * 6
    assert len(ids_in(store)) == 6


def test_an_operation_that_raises_half_way_has_changed_nothing_and_spoils_no_other(store: SQLiteStore) -> None:
    def half(book: Book, now: Moment) -> None:
        book.enqueue([JOB], now)
        raise ArithmeticError("half way")

    gate = threading.Event()
    store.write(lambda book, now: gate.wait(PATIENCE))  # the others make one transaction behind it
    good = [store.write(enqueue) for _ in range(3)]
    bad = [store.write(half) for _ in range(3)]
    good += [store.write(enqueue) for _ in range(3)]
    gate.set()
    ids = [reply.result(PATIENCE) for reply in good]
    for reply in bad:
        with pytest.raises(ArithmeticError):
            reply.result(PATIENCE)
    assert ids_in(store) == ids


def test_operations_of_one_thread_are_done_in_their_order(store: SQLiteStore) -> None:
    seen: list[int] = []

    def noted(number: int, book: Book, now: Moment) -> None:
        seen.append(number)

    replies = [store.write(partial(noted, n)) for n in range(3000)]
    replies[-1].result(PATIENCE)
    assert seen == list(range(3000))


def test_a_listener_hears_own_commits_and_those_of_others(
    store: SQLiteStore, tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    heard = threading.Event()
    stop = store.listen(heard.set)
    other = SQLiteStore(tmp_path / "jobs.db")
    try:
        eventually(heard.is_set)  # it looks once when somebody begins to listen
        for writer in (store, other, store):
            heard.clear()
            writer.write(enqueue).result(PATIENCE)
            assert heard.wait(PATIENCE)
    finally:
        stop()
        other.close()


def test_a_transaction_that_changed_nothing_tells_nobody(store: SQLiteStore) -> None:
    called: list[int] = []
    store.listen(lambda: called.append(1))
    store.write(enqueue).result(PATIENCE)
    store.write(lambda book, now: None).result(PATIENCE)  # by now the listener has heard of the first
    before = len(called)
    for _ in range(20):
        store.write(lambda book, now: book.cancels_asked([1])).result(PATIENCE)
    assert len(called) <= before + 1  # the first look for others' commits may come in between


def test_close_finishes_what_waits_and_then_refuses(store: SQLiteStore, tmp_path: Path) -> None:
    replies = [store.write(enqueue) for _ in range(500)]
    store.close()
    assert len({reply.result(0) for reply in replies}) == 500
    for ask in (lambda: store.write(enqueue), lambda: store.read(enqueue), lambda: store.query("SELECT 1"), store.open):
        with pytest.raises(StoreClosed, match=r"jobs\.db after close"):
            ask()
    store.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["jobs.db"]


def test_a_store_that_was_never_used_makes_no_file(tmp_path: Path) -> None:
    SQLiteStore(tmp_path / "jobs.db").close()
    assert list(tmp_path.iterdir()) == []


def test_a_full_queue_refuses_a_loop_and_has_a_thread_wait(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "jobs.db", max_waiting=10)
    gate = threading.Event()
    began = threading.Event()

    def block(book: Book, now: Moment) -> None:
        began.set()
        gate.wait(PATIENCE)

    async def flood() -> None:
        for _ in range(20):
            store.write(enqueue)

    try:
        store.write(block)
        assert began.wait(PATIENCE)
        with pytest.raises(StoreFull, match="expected fewer than 10 operations to wait"):
            asyncio.run(flood())
        store.write(enqueue, keep=True)  # an end of a run is let in
        waiting = threading.Thread(target=lambda: store.write(enqueue).result(PATIENCE))
        waiting.start()
        gate.set()
        waiting.join(PATIENCE)
        assert not waiting.is_alive()
        assert len(ids_in(store)) == 12
    finally:
        gate.set()
        store.close()


def test_close_gives_back_what_is_held(store: SQLiteStore, tmp_path: Path) -> None:
    store.hold(holder(), lambda: None).result(PATIENCE)
    store.close()
    other = SQLiteStore(tmp_path / "jobs.db")
    try:
        assert other.read(lambda book, now: book.statistics(now)).result(PATIENCE).holders == ()
    finally:
        other.close()


def test_a_callers_transaction_is_all_or_nothing_and_is_noticed(store: SQLiteStore) -> None:
    heard = threading.Event()
    store.listen(heard.set)
    connection = store.connect()
    connection.execute("CREATE TABLE mine (a)")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO mine VALUES (1)")
    store.write_in(connection, enqueue)
    connection.execute("ROLLBACK")
    assert ids_in(store) == []
    store.write(lambda book, now: None).result(PATIENCE)
    heard.clear()
    with connection:
        connection.execute("INSERT INTO mine VALUES (2)")
        job_id = store.write_in(connection, enqueue)
    assert heard.wait(PATIENCE)
    assert ids_in(store) == [job_id]
    assert store.query("SELECT a FROM mine").result(PATIENCE) == [{"a": 2}]
    connection.close()


def test_a_strange_connection_and_one_without_a_transaction_are_refused(store: SQLiteStore) -> None:
    connection = store.connect()
    with pytest.raises(ValueError, match="expected connection to be inside a transaction"):
        store.write_in(connection, enqueue)
    connection.close()
    for strange in (connection, object(), None):
        with pytest.raises(ValueError, match=r"expected connection to be one that connect\(\) of this store gave"):
            store.write_in(strange, enqueue)


WRITES = [
    "DELETE FROM jobs",
    "INSERT INTO queues VALUES ('x')",
    "CREATE TABLE x (a)",
    "ATTACH 'other.db' AS other",
    "PRAGMA user_version = 7",
    "PRAGMA journal_mode = DELETE",
    "BEGIN IMMEDIATE",
    "CREATE TEMP TABLE x (a)",
]


@pytest.mark.parametrize("sql", WRITES)
def test_a_query_that_writes_is_refused(store: SQLiteStore, sql: str) -> None:
    with pytest.raises(StoreError, match="expected a query that only reads"):
        store.query(sql).result(PATIENCE)
    assert store.query("SELECT count(*) AS n FROM jobs").result(PATIENCE) == [{"n": 0}]


def test_a_query_that_is_wrong_or_takes_for_ever_says_so(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "jobs.db", query_seconds=0.05)
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"
    try:
        for sql, said in (
            ("SELEKT 1", "expected a query that SQLite understands"),
            ("SELECT 1; SELECT 2", "expected one statement"),
            ("SELECT 1 AS a, 2 AS a", "expected columns of different names, got a, a"),
            (endless, r"expected the query to end within 0\.05 s"),
        ):
            with pytest.raises(StoreError, match=said):
                store.query(sql).result(PATIENCE)
        assert store.query("SELECT ? AS a", (5,)).result(PATIENCE) == [{"a": 5}]
    finally:
        store.close()


@pytest.mark.parametrize("path", ["", ":memory:", "file:jobs.db", "a\0b", 7, None])
def test_what_is_no_path_is_refused(path: Any) -> None:
    with pytest.raises(ValueError, match="expected path to be the path of a file"):
        SQLiteStore(path)


@pytest.mark.parametrize("statement", ["CREATE TABLE theirs (x)", "PRAGMA user_version = 99"])
def test_a_database_of_somebody_else_is_left_as_it_is_to_the_byte(tmp_path: Path, statement: str) -> None:
    """Q14: another application's file, which has a rollback journal and keeps it."""
    path = tmp_path / "theirs.db"
    theirs = apsw.Connection(str(path))
    theirs.execute(statement)
    theirs.close()
    before = path.read_bytes()
    store = SQLiteStore(path)
    with pytest.raises(StoreError, match="another application"):
        store.open()
    store.close()
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["theirs.db"]


def test_writes_wait_for_a_transaction_of_another_and_close_waits_its_time_only(tmp_path: Path) -> None:
    """Q8: somebody else holds the file: nobody hears of it before the end."""
    store = SQLiteStore(tmp_path / "jobs.db", close_seconds=0.2)
    other = SQLiteStore(tmp_path / "jobs.db")
    somebody_else = ThreadPoolExecutor(1)
    try:
        store.open()
        connection = other.connect()
        somebody_else.submit(connection.execute, "BEGIN IMMEDIATE").result(PATIENCE)
        waits = store.write(enqueue)
        with pytest.raises(TimeoutError):
            waits.result(0.2)
        connection.execute("COMMIT")
        job_id = waits.result(PATIENCE)
        somebody_else.submit(connection.execute, "BEGIN IMMEDIATE").result(PATIENCE)
        given_up = store.write(enqueue)
        store.close()
        with pytest.raises(StoreError, match=r"to become free.*another process holds a transaction open"):
            given_up.result(PATIENCE)
        connection.execute("COMMIT")
        connection.close()
        assert ids_in(other) == [job_id]
    finally:
        store.close()
        other.close()
        somebody_else.shutdown()


def test_a_holder_whose_letting_go_is_refused_keeps_nothing(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E180: its lease is renewed no more, so what it held comes again while its process lives."""

    def refuse(book: SQLiteBook, holder: int, now: Moment) -> int:
        raise apsw.IOError("disk I/O error")

    def is_pending() -> bool:
        (found,) = store.read(lambda book, now: book.find(Filter())).result(PATIENCE)
        return found.state is TaskState.PENDING

    store.write(enqueue).result(PATIENCE)
    first = store.hold(holder(lease=0.5), lambda: None).result(PATIENCE)
    store.hold(holder(), lambda: None).result(PATIENCE)  # so that somebody rescues
    assert len(claim_all(store, first)) == 1
    with monkeypatch.context() as patch:
        patch.setattr(SQLiteBook, "let_go", refuse)
        with pytest.raises(StoreError, match="disk I/O error"):
            store.let_go(first).result(PATIENCE)
    eventually(is_pending, PATIENCE, "it was taken from its holder")


def test_nobody_waits_for_an_answer_on_the_thread_that_answers(tmp_path: Path) -> None:
    """E184: what hears of a rescue asks for more, and waits for it."""
    heard: list[object] = []

    def on_rescue(rescued: list[Rescued]) -> None:
        reply = mine.write(enqueue)
        try:
            heard.append(reply.result(PATIENCE))
        except RuntimeError as error:
            heard.append(str(error))

    with opened(tmp_path / "jobs.db", on_rescue=on_rescue) as mine:
        first = mine.write(lambda book, now: book.hold(holder(lease=0.001), now)).result(PATIENCE)  # nobody renews it
        mine.write(enqueue).result(PATIENCE)
        assert len(claim_all(mine, first)) == 1
        mine.hold(holder(), lambda: None).result(PATIENCE)
        eventually(lambda: heard, PATIENCE, "it was rescued")
        assert "expected result() to be called on a thread that answers nobody" in str(heard)
        eventually(lambda: len(ids_in(mine)) == 2, PATIENCE, "what was asked is done")


def test_a_clock_that_fails_for_a_while_ends_no_thread(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """E187: a test that replaces ``time.time``, say; who asks meanwhile is told, and the leases are kept later on."""
    broken = threading.Event()

    def clock() -> Moment:
        if broken.is_set():
            raise RuntimeError("no time")
        return Moment(1e9, 1e9, "boot")

    with opened(tmp_path / "jobs.db", clock=clock) as mine:
        mine.hold(holder(), lambda: None).result(PATIENCE)
        broken.set()
        for _ in range(3):
            with pytest.raises(RuntimeError, match="no time"):
                mine.write(enqueue).result(PATIENCE)
        with pytest.raises(RuntimeError, match="no time"):
            mine.hold(holder(), lambda: None).result(PATIENCE)
        broken.clear()
        assert mine.write(enqueue).result(PATIENCE) == 1
        lines = [record.message for record in caplog.records if "could not be looked after" in record.message]
        assert len(lines) == 1
