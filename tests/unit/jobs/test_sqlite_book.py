"""The book in a file where the contract does not reach: bounds of a claim, hostile texts, errors in the middle."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from engine import TaskState
from engine.jobs._records import End, Ending, Failure, Gate
from engine.jobs._sqlite import claiming as _claiming
from engine.jobs._sqlite.book import SQLiteBook
from engine.jobs.errors import CorruptStore
from tests.contracts.hostile_texts import HOSTILE_TEXTS
from tests.contracts.job_books import START, Desk, failure_of, new_job

from .sqlite_files import dump, open_desk, open_file

MANY = 2 * _claiming.AT_ONCE + 500


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[apsw.Connection]:
    """Give a connection to a fresh file."""
    with open_file(tmp_path / "jobs.db") as connection:
        yield connection


@pytest.fixture
def desk(connection: apsw.Connection) -> Desk:
    """Give a desk whose book is in that file."""
    return open_desk(connection)


def add_many(desk: Desk, number: int = MANY, **options: Any) -> range:
    return desk.do(lambda book, now: book.enqueue_many(new_job(**options), ["{}"] * number, now))


# -- the bounds of a claim


@pytest.mark.parametrize("when", [{"delay": 5.0}, {"at": START.wall + 5.0}])
def test_more_that_is_due_than_a_claim_opens_is_opened_by_the_next_ones(desk: Desk, when: dict[str, Any]) -> None:
    """E107: a claim changes a bounded number of rows, and says that there are more."""
    holder = desk.hold()
    jobs = add_many(desk, **when)
    desk.wait(5.0)
    left = []
    for _ in range(3):
        claims = desk.claim(holder, limit=1)
        assert len(claims.jobs) == 1
        left.append((desk.queue().later, claims.next_due))
    assert left == [(len(jobs) - _claiming.AT_ONCE, 0.0), (len(jobs) - 2 * _claiming.AT_ONCE, 0.0), (0, None)]


@pytest.mark.parametrize("until", [{"expires_in": 5.0}, {"expires_at": START.wall + 5.0}])
def test_what_has_expired_is_not_started_though_there_is_more_than_a_claim_cancels(
    desk: Desk, until: dict[str, Any]
) -> None:
    """E107: it is passed over where it is not cancelled yet."""
    holder = desk.hold()
    add_many(desk, **until)
    desk.wait(5.0)
    fresh = desk.add()
    claimed: list[int] = []
    dues: list[float | None] = []
    while not dues or dues[-1] == 0.0:
        claims = desk.claim(holder)
        claimed += [run.id for run in claims.jobs]
        dues.append(claims.next_due)
    assert claimed == [fresh]
    assert len(dues) == 3
    assert desk.queue().cancelled == MANY


def test_a_row_that_expires_by_both_clocks_is_cancelled_once(desk: Desk) -> None:
    """E107: and counts once."""
    holder = desk.hold()
    add_many(desk, _claiming.AT_ONCE - 1, expires_in=5.0, expires_at=START.wall + 5.0)
    desk.wait(5.0)
    assert desk.claim(holder).next_due is None
    assert desk.queue().cancelled == _claiming.AT_ONCE - 1


def test_more_rows_with_a_held_lock_than_a_claim_locks_do_not_hide_who_could_run(desk: Desk) -> None:
    """E107: each claim gets past a bounded number, and says that there are more."""
    holder = desk.hold()
    add_many(desk, lock="held")
    free = desk.add()
    claimed = []
    for _ in range(4):
        claims = desk.claim(holder, limit=2)
        claimed += [run.id for run in claims.jobs]
        if claims.next_due is None:
            break
    assert claimed == [1, free]
    assert desk.queue().locked == MANY - 1


# -- texts


def test_arguments_in_bulk_come_back_as_they_were(desk: Desk) -> None:
    """X2: they go in as one statement."""
    texts = HOSTILE_TEXTS
    ids = desk.do(lambda book, now: book.enqueue_many(new_job(), texts, now))
    assert [(info.id, info.args) for info in desk.find(limit=10**5)] == list(zip(ids, texts, strict=True))


def test_a_nul_in_a_text_cuts_nothing_off(desk: Desk) -> None:
    """X2: the face refuses it; what has it all the same is whole, and taken for nothing else."""
    holder = desk.hold()
    short, long = desk.add_all([{"queue": "a", "lock": "x"}, {"queue": "a\0b", "lock": "x\0y"}])
    assert [run.id for run in desk.claim(holder, "a\0b").jobs] == [long]
    assert [run.id for run in desk.claim(holder, "a").jobs] == [short]
    assert [info.id for info in desk.find(queues=("a\0b",))] == [long]
    assert desk.info(long).lock == "x\0y"
    first, second = desk.do(lambda book, now: book.enqueue_many(new_job(), ["\0", "a\0b"], now))
    assert (desk.info(first).args, desk.info(second).args) == ("\0", "a\0b")


ODD = "half \ud800 a pair"


def test_half_a_surrogate_pair_is_refused_and_nothing_is_added(connection: apsw.Connection, desk: Desk) -> None:
    """X2: no bytes that are no text get into the file."""
    before = dump(connection)
    for options in ({"queue": ODD}, {"name": ODD}, {"lock": ODD}, {"queueing_lock": ODD}, {"args": ODD}, {"then": ODD}):
        with pytest.raises(UnicodeEncodeError):
            desk.add_all([{}, options, {}])
    with pytest.raises(UnicodeEncodeError):
        desk.do(lambda book, now: book.enqueue_many(new_job(), ["{}", ODD], now))
    assert dump(connection) == before


def test_an_error_whose_message_is_no_text_does_not_keep_its_run_from_ending(desk: Desk) -> None:
    """E108: as the name of a file may be, which the message of an OSError quotes."""
    run_of = desk.hold()
    job = desk.add()
    run = desk.claim_one(run_of)
    assert desk.end(run, End.FAILED, failure=Failure(1.0, 1, 1, "error", ODD, ODD, "me")) is TaskState.FAILED
    (failure,) = desk.failures(job)
    assert failure.error == failure.traceback == "half \\ud800 a pair"


# -- damage


@pytest.mark.parametrize(
    ("value", "looks"),
    [
        ("state = 'pendinh'", {"find", "states"}),
        ("state = CAST(x'70ff' AS TEXT)", {"find", "states", "cancel"}),
        ("gate = 7", {"find"}),
        ("name = CAST(x'ff' AS TEXT)", {"find"}),
        ("queue = CAST(x'ff' AS TEXT)", {"find", "statistics"}),
        ("state = 'completee', gate = NULL, completed_at = 1.0", {"find", "states", "statistics"}),
    ],
)
def test_a_value_that_cannot_be_ours_is_damage_to_whoever_reads_it(tmp_path: Path, value: str, looks: set[str]) -> None:
    """E106: it is told as what it is, and the verbs that do not read it go on."""
    verbs: dict[str, Callable[[Desk], object]] = {
        "find": lambda desk: desk.find(),
        "states": lambda desk: desk.do(lambda book, now: book.states([1])),
        "statistics": lambda desk: desk.do(lambda book, now: book.statistics(now)),
        "claim": lambda desk: desk.claim(1),
        "cancel": lambda desk: desk.cancel(1),
    }
    told: dict[str, CorruptStore] = {}
    for name, verb in verbs.items():
        with open_file(tmp_path / f"{name}.db") as connection:
            desk = open_desk(connection)
            desk.hold()
            desk.add()
            connection.execute(f"UPDATE jobs SET {value}")
            before = dump_bytes(connection)
            try:
                verb(desk)
            except CorruptStore as error:
                told[name] = error
            assert name not in told or dump_bytes(connection) == before
    assert told.keys() == looks
    for name, damage in told.items():
        assert damage.path == str(tmp_path / f"{name}.db")
        assert "as they were written, got: " in str(damage)


@pytest.mark.parametrize("value", ["attempt = -1", "crashes = 1 << 60", "max_crashes = -3"])
def test_a_run_whose_row_was_damaged_meanwhile_is_not_ended(tmp_path: Path, value: str) -> None:
    """E106: whether it ends with others in one statement or alone."""
    with open_file(tmp_path / "jobs.db") as connection:
        desk = open_desk(connection)
        desk.add_all([{}, {}])
        runs = desk.claim(desk.hold()).jobs
        connection.execute(f"UPDATE jobs SET {value} WHERE id = 2")
        before = dump_bytes(connection)
        with pytest.raises(CorruptStore):
            desk.do(lambda book, now: book.end([Ending(run.id, run.token, End.COMPLETED) for run in runs], now))
        assert dump_bytes(connection) == before


def dump_bytes(connection: apsw.Connection) -> object:
    return connection.execute("SELECT id, CAST(state AS BLOB), CAST(queue AS BLOB), gate, token FROM jobs").fetchall()


# -- all or nothing


class Stop(Exception):
    """The error of a statement."""


def prepare(desk: Desk) -> None:
    """Make rows of every kind: three that run, one of them alone; LOCKED, FAILED, expired, due and READY ones."""
    desk.add()
    desk.claim(desk.hold())
    desk.rescue_from(1)
    holder = desk.hold()
    desk.claim(holder, alone=True)
    desk.add_all([{"lock": "l"}, {"lock": "l"}, {}])
    desk.claim(holder)
    job = desk.add()
    run = desk.claim_one(holder)
    desk.end(run, End.FAILED, failure=failure_of(run))
    desk.add_all([{"expires_in": 5.0, "queueing_lock": "k", "lock": "m"}, {"delay": 3.0}, {}])
    desk.wait(5.0)
    assert [desk.state(job) for job in (1, 2, 4)] == [TaskState.RUNNING] * 3
    assert (desk.gate(3), job) == (Gate.LOCKED, 5)


ENDINGS = (
    Ending(1, 2, End.COMPLETED, result="1", follow_ups=(new_job(queueing_lock="k"), new_job())),
    Ending(2, 1, End.RETRY, failure=Failure(1.0, 1, 1, "error", "e"), delay=1.0),
    Ending(4, 1, End.CRASH, failure=Failure(1.0, 1, 1, "crash", "e")),
    Ending(8, 7, End.COMPLETED),
)
#: Each verb that changes something, and how many statements it has at least.
VERBS: dict[str, tuple[int, Callable[[Desk], object]]] = {
    "enqueue": (8, lambda desk: desk.add_all([{}, {"queueing_lock": "k"}, {"queueing_lock": "m"}])),
    "enqueue_many": (1, lambda desk: add_many(desk, 3)),
    "hold": (1, lambda desk: desk.hold()),
    "renew": (4, lambda desk: desk.do(lambda book, now: book.renew([2, 7], now))),
    "let_go": (8, lambda desk: desk.do(lambda book, now: book.let_go(2, now))),
    "rescue": (12, lambda desk: desk.rescue_from(2)),
    "claim": (10, lambda desk: desk.claim(2)),
    "end": (14, lambda desk: desk.do(lambda book, now: book.end(ENDINGS, now))),
    "cancel": (5, lambda desk: desk.cancel(6)),
    "requeue": (1, lambda desk: desk.requeue(5)),
    "prune": (5, lambda desk: desk.do(lambda book, now: book.prune([TaskState.FAILED], now.wall + 99.0, 10))),
    "pause": (1, lambda desk: desk.pause("q")),
    "tick": (7, lambda desk: desk.tick("daily", 5.0, queueing_lock="k")),
}


@pytest.mark.parametrize("verb", VERBS)
def test_an_error_at_any_statement_of_a_verb_changes_nothing(
    connection: apsw.Connection, desk: Desk, verb: str
) -> None:
    """E105: so that the writer may answer it alone, and keep what others did in the same transaction."""
    prepare(desk)
    least, do = VERBS[verb]
    before = dump(connection)
    statement = 1
    while _stopped_before(connection, desk, statement, do):
        assert dump(connection) == before, statement
        statement += 1
    assert statement > least
    assert dump(connection) != before


def _stopped_before(connection: apsw.Connection, desk: Desk, statement: int, do: Callable[[Desk], object]) -> bool:
    """Do a verb, in which one statement raises, in a transaction that is kept; False if it has fewer."""
    seen = 0

    def stop(cursor: apsw.Cursor, sql: str, bindings: object) -> bool:
        nonlocal seen
        seen += 1
        if seen == statement:
            raise Stop
        return True

    def transaction(operation: Callable[[SQLiteBook], object]) -> object:
        connection.execute("BEGIN IMMEDIATE")
        connection.exec_trace = stop
        try:
            return operation(SQLiteBook(connection))
        finally:
            connection.exec_trace = None
            connection.execute("COMMIT")

    stopping = Desk(transaction)
    stopping.now = desk.now
    try:
        do(stopping)
    except Stop:
        return True
    return False


def test_a_verb_for_which_the_file_has_no_room_changes_nothing(connection: apsw.Connection, desk: Desk) -> None:
    """E105: the error is SQLite's own, in the middle of a statement."""
    prepare(desk)
    connection.pragma("max_page_count", int(connection.pragma("page_count")) + 3)
    refused = 0
    for do in (
        lambda: add_many(desk, 1000),
        lambda: desk.add_all([{"args": "x" * 500}] * 200),
        lambda: desk.do(lambda book, now: book.end([Ending(1, 2, End.COMPLETED, result="x" * 50_000)], now)),
        lambda: desk.do(lambda book, now: book.report(1, 2, "x" * 50_000)),
    ):
        before = dump(connection)
        with pytest.raises(apsw.FullError):
            do()
        assert dump(connection) == before
        refused += 1
    assert refused == 4
    connection.pragma("max_page_count", 10**6)
    assert len(add_many(desk, 1000)) == 1000
