"""Who writes beside a transaction of his own would wait for himself."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from engine.jobs import Jobs, StoreError
from tests.unit.jobs.by_hand import HOLDER, PATIENCE

REFUSED = r"expected options\(connection=...\) inside your own transaction, got a write beside it"


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    with Jobs(tmp_path / "jobs.db") as opened:
        opened.task(name="send")(_send)
        yield opened


def _send(to: str) -> None: ...


@pytest.fixture
def connection(jobs: Jobs) -> Iterator[Any]:
    with contextlib.closing(jobs.connect()) as opened:
        yield opened


def by_with(connection: Any) -> None:
    connection.__enter__()


def by_begin(connection: Any) -> None:
    connection.execute("BEGIN IMMEDIATE")


def by_cursor(connection: Any) -> None:
    connection.cursor().execute("BEGIN EXCLUSIVE")


def by_first_write(connection: Any) -> None:
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO orders VALUES (?)", [(1,)])


@pytest.mark.parametrize("begin", [by_with, by_begin, by_cursor, by_first_write])
def test_a_write_beside_ones_own_transaction_is_refused_at_once(
    jobs: Jobs, connection: Any, begin: Callable[[Any], None]
) -> None:
    """E161: it would wait for the transaction, and the transaction for it; afterwards it is as ever."""
    send = jobs.tasks["send"]
    connection.execute("CREATE TABLE orders (id)")
    begin(connection)
    for write in (
        lambda: send.enqueue(to="x"),
        lambda: jobs.enqueue_many(send, [{"to": "x"}]),
        lambda: jobs.cancel(1),
        lambda: jobs.pause("default"),
        lambda: jobs.store.hold(HOLDER, lambda: None),
    ):
        with pytest.raises(StoreError, match=REFUSED):
            write()
    send.options(connection=connection).enqueue(to="inside").result(PATIENCE)
    assert jobs.list().result(PATIENCE) == []  # to read is no harm
    connection.execute("COMMIT")
    send.enqueue(to="after").result(PATIENCE)
    assert [job.args["to"] for job in jobs.list().result(PATIENCE)] == ["after", "inside"]


def test_a_transaction_that_only_reads_is_in_nobodys_way(jobs: Jobs, connection: Any) -> None:
    """E161: SQLite lets others write meanwhile."""
    connection.execute("BEGIN")
    assert connection.execute("SELECT count(*) FROM jobs").get == 0
    jobs.tasks["send"].enqueue(to="x").result(PATIENCE)
    connection.execute("COMMIT")


def test_other_threads_wait_for_the_transaction(jobs: Jobs, connection: Any) -> None:
    """E161: theirs is carried out once it has ended, also where the connection was made by them."""
    send = jobs.tasks["send"]
    with ThreadPoolExecutor(1) as pool:
        with connection:
            waiting = pool.submit(send.enqueue, to="x").result(PATIENCE)
            assert not waiting.done()
        assert waiting.result(PATIENCE).id == 1


def test_other_coroutines_wait_for_the_transaction(jobs: Jobs, connection: Any) -> None:
    """E161: they are on the thread of the one whose transaction it is, and are not refused."""
    send = jobs.tasks["send"]

    async def enqueue() -> Any:
        return send.enqueue(to="x")

    async def main() -> int:
        with connection:
            waiting = await asyncio.create_task(enqueue())
            with pytest.raises(StoreError, match=REFUSED):
                send.enqueue(to="x")
        return (await waiting).id  # type: ignore[no-any-return]  # an id is an int

    assert asyncio.run(main()) == 1


def test_a_with_of_another_coroutine_on_the_same_connection_is_refused(connection: Any) -> None:
    """E170: it would be a savepoint of the first one's transaction, and be undone with it after it was acknowledged."""
    connection.execute("CREATE TABLE orders (what)")

    async def handle(what: str, go_on: asyncio.Event) -> None:
        with connection:
            connection.execute("INSERT INTO orders VALUES (?)", (what,))
            with connection:  # one's own is a savepoint, as ever
                await go_on.wait()

    async def main() -> None:
        go_on = asyncio.Event()
        first = asyncio.create_task(handle("first", go_on))
        await asyncio.sleep(0)
        with pytest.raises(StoreError, match="inside the with of another thread or coroutine"):
            await handle("second", go_on)
        go_on.set()
        await first
        await handle("third", go_on)

    asyncio.run(asyncio.wait_for(main(), PATIENCE))
    assert connection.execute("SELECT what FROM orders").fetchall() == [("first",), ("third",)]


def test_a_with_of_another_thread_on_the_same_connection_is_refused(jobs: Jobs, connection: Any) -> None:
    """E170: but a thread may be given work in the transaction of whoever waits for it."""
    send = jobs.tasks["send"]
    with ThreadPoolExecutor(1) as pool, connection:
        with pytest.raises(StoreError, match="inside the with of another thread or coroutine"):
            pool.submit(connection.__enter__).result(PATIENCE)
        pool.submit(send.options(connection=connection).enqueue, to="x").result(PATIENCE)
    assert [job.args["to"] for job in jobs.list().result(PATIENCE)] == ["x"]


@pytest.mark.parametrize("begin", [by_with, by_begin, by_cursor, by_first_write])
def test_a_thread_does_not_wait_for_a_transaction_of_its_own(
    jobs: Jobs, connection: Any, begin: Callable[[Any], None]
) -> None:
    """E171: on another connection, be it in another coroutine: the loop would stand still, and so the one awaited."""
    connection.execute("CREATE TABLE orders (id)")
    with contextlib.closing(jobs.connect()) as other:
        with connection:
            connection.execute("INSERT INTO orders VALUES (0)")
            with pytest.raises(StoreError, match="got one that is open on this thread, on another connection"):
                begin(other)
        if other.in_transaction:  # its BEGIN wrote nothing
            other.execute("ROLLBACK")
        with other:
            other.execute("INSERT INTO orders VALUES (1)")
    assert connection.execute("SELECT count(*) FROM orders").get == 2


def test_another_threads_transaction_is_waited_for(jobs: Jobs, connection: Any) -> None:
    """E171: it goes on meanwhile."""
    connection.execute("CREATE TABLE orders (id)")
    is_waiting = threading.Event()

    def insert() -> None:
        with contextlib.closing(jobs.connect()) as other:
            is_waiting.set()
            with other:
                other.execute("INSERT INTO orders VALUES (1)")

    with ThreadPoolExecutor(1) as pool:
        with connection:
            connection.execute("INSERT INTO orders VALUES (0)")
            waiting = pool.submit(insert)
            assert is_waiting.wait(PATIENCE)
        waiting.result(PATIENCE)
    assert connection.execute("SELECT count(*) FROM orders").get == 2


def test_a_write_through_another_store_of_the_same_file_is_refused_too(
    jobs: Jobs, connection: Any, tmp_path: Path
) -> None:
    """E204: by whatever path; it would wait for its own thread all the same. Another file is another matter."""
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "jobs.db")
    with Jobs(tmp_path / "jobs.db") as second, Jobs(link) as third, Jobs(tmp_path / "other.db") as other:
        for each in (second, third, other):
            each.task(name="send")(_send)
        with connection:
            connection.execute("CREATE TABLE orders (id)")
            for each in (second, third):
                with pytest.raises(StoreError, match=REFUSED):
                    each.tasks["send"].enqueue(to="x")
            other.tasks["send"].enqueue(to="x").result(PATIENCE)
            with (
                contextlib.closing(second.connect()) as beside,
                pytest.raises(StoreError, match="on this thread, on another connection"),
            ):
                beside.execute("BEGIN IMMEDIATE")
        second.tasks["send"].enqueue(to="after").result(PATIENCE)
        assert [job.args["to"] for job in jobs.list().result(PATIENCE)] == ["after"]
