"""Who writes beside a transaction of his own would wait for himself."""

import asyncio
import contextlib
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
