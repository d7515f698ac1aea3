"""What a verb costs does not depend on the rows that it is not about. Measured in SQLite's own steps, not in time."""

from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from engine import TaskState
from engine.jobs._records import End, Ending, Gate
from engine.jobs._sqlite.checksum import begin, goes_on
from tests.contracts.job_books import Desk, failure_of, new_job

from .sqlite_files import open_desk, open_file, statements

OTHERS = 200_000

#: Rows that nobody can claim: as many as that in all, and a claim has to find its own among them.
_FILL = f"""
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {OTHERS})
    INSERT INTO jobs (queue, name, args, created_at, state, gate, priority, token, completed_at, lock, due_steady,
        due_wall, expires_steady, checksum)
    SELECT 'q', 'f', '{{}}', 1.0,
        CASE i % 5 WHEN 0 THEN 'completed' WHEN 1 THEN 'failed' ELSE 'pending' END,
        CASE i % 5 WHEN 2 THEN 1 WHEN 3 THEN 2 WHEN 4 THEN 0 END,
        i % 7, CASE WHEN i % 5 < 2 THEN 1 ELSE 0 END,
        CASE WHEN i % 5 < 2 THEN 1.0 + i END,
        CASE i % 5 WHEN 3 THEN 'x' || (i % 100) WHEN 0 THEN 'x' || (i % 100) END,
        CASE WHEN i % 10 = 2 THEN 9e9 + i END, CASE WHEN i % 10 = 7 THEN 9e9 + i END,
        CASE WHEN i % 5 > 1 AND i % 3 = 0 THEN 9e9 END, {goes_on(b"{}", begin(b"other", b"f", None, None))}
    FROM n
"""
# Those with i % 5 = 4 are ready, but in another queue.
_ASIDE = "UPDATE jobs SET queue = 'other' WHERE gate = 0"


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[apsw.Connection]:
    """Give a connection to a fresh file."""
    with open_file(tmp_path / "jobs.db") as connection:
        yield connection


def fill(connection: apsw.Connection) -> None:
    with connection:
        connection.execute(_FILL)
        connection.execute(_ASIDE)


# -- plans


def work(desk: Desk) -> None:
    """Use every verb that changes something, in every way that has statements of its own."""
    holder = desk.hold()
    desk.add_all([{}, {"lock": "l", "queueing_lock": "k"}, {"lock": "l"}, {"delay": 5.0}, {"at": desk.now.wall + 5}])
    desk.do(lambda book, now: book.enqueue_many(new_job(), ["{}"] * 10, now))
    desk.add(queueing_lock="e", expires_in=1.0)
    desk.add(expires_at=desk.now.wall + 1.0)
    desk.wait(10.0)
    desk.add(queueing_lock="e")
    runs = desk.claim(holder, "q", "p").jobs
    desk.do(lambda book, now: book.cancels_asked([holder]))
    desk.do(lambda book, now: book.report(runs[0].id, runs[0].token, "1"))
    desk.cancel(runs[0].id)
    desk.cancel(desk.add(lock="l"))
    desk.end(runs[0])
    for run, end in zip(runs[1:], End, strict=False):
        desk.end(run, end, failure=failure_of(run), delay=1.0, follow_ups=(new_job(queueing_lock="e"),))
    desk.rescue_from(holder)
    holder = desk.hold()
    desk.do(lambda book, now: book.renew([holder, 99], now))
    desk.claim(holder, alone=True)
    desk.do(lambda book, now: book.let_go(holder, now))
    desk.requeue(runs[0].id)
    desk.pause("q")
    desk.pause("q", False)
    desk.tick("daily", 5.0)
    desk.do(lambda book, now: book.prune([TaskState.FAILED, TaskState.COMPLETED], now.wall + 9.0, 100))


def test_no_statement_that_changes_something_scans_or_sorts(connection: apsw.Connection) -> None:
    """Q16: each finds its rows through an index, in the order in which it wants them."""
    desk = open_desk(connection)
    with statements(connection) as seen:
        work(desk)
    plans = {statement.sql: statement.plan for statement in seen if statement.plan}
    assert len(plans) > 30
    wrong = {sql: plan for sql, plan in plans.items() if any(_is_slow(line) for line in plan)}
    assert wrong == {}
    assert [statement.sql for statement in seen if statement.sorts and "json_each" not in statement.sql] == []


#: What is scanned because all of it is wanted: values that are bound, and the workers.
_FEW = ("SCAN json_each", "SCAN CONSTANT ROW", "SCAN holders", "SCAN 10-ROW VALUES CLAUSE", "SCAN 10 CONSTANT ROWS")


def _is_slow(line: str) -> bool:
    is_scan = line.startswith("SCAN") and not line.startswith(_FEW)
    return is_scan or ("TEMP B-TREE" in line and "DISTINCT" not in line)


def test_a_statement_is_planned_once_whatever_is_bound(connection: apsw.Connection) -> None:
    """E109: not again for each claim, which would cost more than the claim."""
    desk = open_desk(connection)
    planned: list[tuple[object, ...]] = []

    def note(what: int, *more: object) -> int:  # SQLite asks it for each thing that a statement does, when it plans it
        if what != apsw.SQLITE_SAVEPOINT:
            planned.append((what, *more))
        return apsw.SQLITE_OK

    def run(queue: str) -> None:
        desk.add(queue=queue, delay=1.0)
        desk.wait(1.0)
        desk.finish(holder, queue)

    connection.authorizer = note
    holder = desk.hold()
    run("a")
    assert planned
    planned.clear()
    run("b")
    run("c")
    connection.authorizer = None
    assert planned == []


# -- steps


def claim_some(desk: Desk) -> None:
    assert len(desk.claim(1, limit=10).jobs) == 10


def find_nothing(desk: Desk) -> None:
    assert desk.claim(1, "empty").jobs == ()


def end_some(desk: Desk) -> None:
    runs = desk.claim(1, limit=10).jobs
    desk.do(lambda book, now: book.end([Ending(run.id, run.token, End.FAILED) for run in runs], now))


def free_a_lock(desk: Desk) -> None:
    desk.add_all([{"queue": "locks", "lock": "mine"}, {"queue": "locks", "lock": "mine"}])
    first, *none = desk.claim(1, "locks").jobs
    assert none == []
    desk.end(first)
    assert desk.gate(first.id + 1) is Gate.READY


def enqueue_some(desk: Desk) -> None:
    desk.add_all([{"queueing_lock": f"lock {number}", "expires_in": 5.0} for number in range(10)])


def expire_them(desk: Desk) -> None:
    desk.wait(5.0)
    desk.claim(1, "empty")


def rescue_all(desk: Desk) -> None:
    assert len(desk.rescue_from(1)) == 10


VERBS = (claim_some, find_nothing, end_some, free_a_lock, enqueue_some, expire_them, rescue_all)


def test_a_verb_takes_as_many_steps_among_200_000_other_rows_as_among_none(tmp_path: Path) -> None:
    """Q16: finished, later, locked ones, ready ones of another queue."""
    with open_file(tmp_path / "empty.db") as empty, open_file(tmp_path / "full.db") as full:
        fill(full)
        took = [list(steps_of_verbs(connection)) for connection in (empty, full)]
    for verb, (alone, among) in zip(VERBS, zip(*took, strict=True), strict=True):
        assert 30 < among < alone * 1.1 + 20, (verb.__name__, alone, among)


def steps_of_verbs(connection: apsw.Connection) -> Iterator[int]:
    desk = open_desk(connection)
    desk.hold()
    desk.add_all([{} for _ in range(30)])
    for verb in VERBS:
        with statements(connection) as seen:
            verb(desk)
        yield sum(statement.steps for statement in seen)


def test_among_200_000_rows_the_order_is_that_of_priority_and_then_of_age(connection: apsw.Connection) -> None:
    """Q17: exact, also where the most urgent were enqueued last, and over two queues."""
    fill(connection)
    desk = open_desk(connection)
    holder = desk.hold()
    expected = connection.execute("SELECT id FROM jobs WHERE gate = 0 ORDER BY priority DESC, id LIMIT 2000").fetchall()
    more = desk.add_all([{"queue": "q", "priority": 6}, {"queue": "q", "priority": 7}, {"queue": "q", "priority": 7}])
    ids = [row[0] for row in expected]
    claimed = [run.id for _ in range(10) for run in desk.claim(holder, "q", "other", limit=100).jobs]
    assert claimed == (more[1:] + ids)[:1000]


# -- looks


def test_looks_read_no_more_rows_than_they_give_and_counts_read_indexes_only(connection: apsw.Connection) -> None:
    """Q16: looks too, from which the command line and the awaited jobs live."""
    fill(connection)
    connection.execute("UPDATE jobs SET state = 'completed' WHERE state = 'failed' AND id > 20")
    desk = open_desk(connection)
    looks: list[Callable[[], object]] = [
        lambda: desk.find(limit=10, oldest_first=False),
        lambda: desk.find(limit=10, oldest_first=False, below=5000, states=tuple(TaskState)),
        lambda: desk.find(limit=10, oldest_first=False, states=(TaskState.FAILED,)),
        lambda: desk.find(limit=10, states=(TaskState.RUNNING,)),
        lambda: desk.find(ids=tuple(range(10, 20))),
        lambda: desk.find(parent=5),
        lambda: desk.failures(5),
        lambda: desk.do(lambda book, now: book.states(list(range(1, 11)))),
        lambda: desk.do(lambda book, now: book.cancels_asked([1])),
        lambda: desk.do(lambda book, now: book.last_tick("daily")),
    ]
    for number, look in enumerate(looks):
        with statements(connection) as seen:
            look()
        assert sum(statement.steps for statement in seen) < 3000, number
    with statements(connection) as seen:
        desk.queue()
    (plan,) = (statement.plan for statement in seen if "UNION ALL" in statement.sql)
    assert [line for line in plan if "jobs" in line and "COVERING INDEX" not in line] == []
    assert len(plan) > 7
