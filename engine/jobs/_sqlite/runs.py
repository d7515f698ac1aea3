"""RUNNING rows: finding them, and how they leave that state. The one place where a run's end changes a row."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from engine import TaskState

from .._moment import Moment
from .._moves import FAILURES_KEPT, Standing, after_end, after_rescue
from .._records import End, Ending, Failure, Gate
from .damage import check_kinds, reads
from .library import apsw
from .locks import open_next

__all__ = ["Change", "Run", "add_failures", "complete", "leave", "runs_of_holders", "runs_of_ids"]

_COLUMNS = (
    "SELECT id, token, name, lock, attempt, crashes, max_crashes, suspect, alone, cancel_requested FROM jobs"
    " WHERE state = 'running' AND "
)
_MOST = 1 << 53  #: what is counted is far below

# Of a run that nobody waits behind and that is no suspect's: nothing of its row decides how it stands then. Each ending
# is [id, token, result].
_COMPLETE = (
    "UPDATE jobs SET state = 'completed', gate = NULL, cancel_requested = 0, due_steady = NULL, completed_at = ?1,"
    " result = json_each.value ->> 2, holder = NULL FROM json_each(?2)"
    " WHERE jobs.id = json_each.value ->> 0 AND token = json_each.value ->> 1 AND state = 'running' AND lock IS NULL"
    f" AND suspect = 0 AND alone = 0 AND attempt BETWEEN 0 AND {_MOST - 1} AND crashes BETWEEN 0 AND {_MOST - 1}"
    f" AND max_crashes BETWEEN 0 AND {_MOST - 1} RETURNING jobs.id"
)
_SHORT = 1000  #: characters of a result that travels in a list of many


class Run(NamedTuple):
    """A RUNNING row."""

    id: int
    token: int
    name: str
    lock: str | None
    attempt: int
    crashes: int
    max_crashes: int
    suspect: int
    alone: int
    cancel_requested: int

    def after_end(self, end: End, delay: float) -> Standing:
        """Return how it stands when it has ended."""
        return _after_end(self[4:], end, 1.0 if delay > 0 else 0.0)

    def after_rescue(self) -> Standing:
        """Return how it stands when its holder is gone."""
        return after_rescue(_standing(self[4:]))


class Change(NamedTuple):
    """How a run leaves RUNNING."""

    run: Run
    after: Standing
    delay: float = 0.0
    result: str | None = None


def _standing(row: tuple[int, ...]) -> Standing:
    attempt, crashes, max_crashes, *flags = row
    return Standing(TaskState.RUNNING, None, attempt, crashes, max_crashes, *map(bool, flags))


@functools.lru_cache(maxsize=1024)  # nearly all rows stand alike; deciding anew costs more than writing the row
def _after_end(row: tuple[int, ...], end: End, delay: float) -> Standing:
    return after_end(_standing(row), end, delay=delay)


@reads
def runs_of_ids(connection: apsw.Connection, ids: Iterable[int]) -> dict[int, Run]:
    """Return those of ``ids`` that run."""
    rows = connection.execute(_COLUMNS + "id IN (SELECT value FROM json_each(?))", (json.dumps(list(ids)),))
    return {row[0]: _run_of(row) for row in rows}


@reads
def runs_of_holders(connection: apsw.Connection, holders: Iterable[int]) -> list[Run]:
    """Return what runs for ``holders``, in the order of ids."""
    rows = connection.execute(_COLUMNS + "holder IN (SELECT value FROM json_each(?))", (json.dumps(list(holders)),))
    return [_run_of(row) for row in sorted(rows)]


def _run_of(row: tuple[Any, ...]) -> Run:
    check_kinds(row, "int int text text? int int int int int int")
    if not all(0 <= number < _MOST for number in row[4:7]):
        raise ValueError(f"counts of {row[4:7]} in job {row[0]}")
    return Run._make(row)


def complete(connection: apsw.Connection, endings: Sequence[Ending], now: Moment) -> set[int]:
    """End those runs that are ended by one statement, which are nearly all there ever are; return their ids.

    It costs a third of what ``leave`` does. ``endings`` are of different jobs.
    """
    plain = [(ending.id, ending.token, ending.result) for ending in endings if _is_plain(ending)]
    listed = json.dumps(plain, ensure_ascii=False)  # what no database takes is refused here, as anywhere
    try:
        return {row[0] for row in connection.execute(_COMPLETE, (now.wall, listed))}
    except apsw.ConstraintError:  # a value of another type is somewhere in one of them: whoever reads it says where
        return set()


def _is_plain(ending: Ending) -> bool:
    is_all = ending.failure is None and not ending.follow_ups
    return ending.end is End.COMPLETED and is_all and len(ending.result or "") <= _SHORT


def leave(connection: apsw.Connection, changes: Sequence[Change], now: Moment) -> None:
    """Take rows out of RUNNING, and open those that waited for their locks."""
    connection.executemany(
        "UPDATE jobs SET state = ?, gate = ?, attempt = ?, crashes = ?, suspect = ?, alone = 0, cancel_requested = ?,"
        " due_steady = ?, completed_at = ?, result = ?, holder = NULL WHERE id = ?",
        [_values(change, now) for change in changes],
    )
    for change in changes:
        if change.run.lock is not None:
            open_next(connection, change.run.lock)


def _values(change: Change, now: Moment) -> tuple[Any, ...]:
    after = change.after
    due = now.steady + change.delay if after.gate is Gate.LATER else None
    ended = None if after.state is TaskState.PENDING else now.wall
    return (
        after.state.value, after.gate, after.attempt, after.crashes, after.suspect, after.cancel_requested,
        due, ended, change.result, change.run.id,
    )  # fmt: skip


def add_failures(connection: apsw.Connection, failures: Sequence[tuple[int, Failure]]) -> None:
    """Add to the histories of jobs, and forget what is older than their last ``FAILURES_KEPT``."""
    for job, failure in failures:
        connection.execute(
            "INSERT INTO failures (job, at, attempt, token, kind, error, worker, traceback)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (job, failure.at, failure.attempt, failure.token, *map(_encodable, _texts(failure))),
        )
        if failure.token > FAILURES_KEPT:  # a run adds one at most
            connection.execute(
                "DELETE FROM failures WHERE job = ?1 AND id <="
                " (SELECT id FROM failures WHERE job = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
                (job, FAILURES_KEPT),
            )


def _texts(failure: Failure) -> tuple[str, str, str, str]:
    return (failure.kind, failure.error, failure.worker, failure.traceback)


def _encodable(text: str) -> str:
    """Return ``text`` without lone surrogates: an error's message may carry a file's name that is no Unicode.

    The end of a run must not fail because of what an error says.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="backslashreplace").decode()
    return text
