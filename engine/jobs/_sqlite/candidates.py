"""Rows that are about to be claimed: looked at as a whole before anything runs, and what becomes of a damaged one."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from types import NoneType
from typing import Any, NamedTuple, TypeVar

from engine import TaskState

from .._moment import Moment
from .._records import Failure
from .checksum import NEVER, begin, goes_on
from .damage import corrupt, reads
from .library import apsw
from .runs import add_failures

__all__ = ["Candidate", "fail", "run_whole"]

T = TypeVar("T")

# Texts as bytes: so one that is no text any more is this row's matter, and not the statement's.
_COLUMNS = (
    "id, token, attempt, priority, crashes, max_crashes, created_at, checksum, CAST(queue AS BLOB),"
    " CAST(name AS BLOB), CAST(args AS BLOB), CAST(lock AS BLOB), CAST(follow_ups AS BLOB)"
)
_BEFORE = _COLUMNS.replace("token, attempt,", "token - 1, attempt - 1,").replace("crashes,", "crashes - ?2,", 1)
_OF_IDS = "id IN (SELECT value FROM json_each(?1))"
# In one statement for those that are as they should be, which are nearly all there ever are.
_RUN = (
    "UPDATE jobs SET state = 'running', gate = NULL, attempt = attempt + 1, token = token + 1, crashes = crashes + ?2,"
    " alone = ?2, holder = ?3, started_at = ?4"
    f" WHERE {_OF_IDS} AND +state = 'pending' AND +gate = ?5 RETURNING {_BEFORE}"
)
_READ = f"SELECT CAST(state AS BLOB), gate, {_COLUMNS} FROM jobs WHERE {_OF_IDS}"
_KINDS = frozenset(
    (int, int, int, int, int, int, float, int, bytes, bytes, bytes, *kinds)
    for kinds in itertools.product((bytes, NoneType), repeat=2)
)
_OTHER_STATES = frozenset(state.value.encode() for state in TaskState if state is not TaskState.PENDING)
_MOST = 1 << 53  #: what is counted is far below

# As a whole, for a value of another type may be anywhere in it, and SQLite writes no such row.
_FAIL = (
    "INSERT OR REPLACE INTO jobs (id, queue, name, state, gate, token, attempt, priority, created_at, started_at,"
    " completed_at, checksum, args) VALUES (?, ?, ?, 'failed', NULL, ?, ?, ?, ?, ?, ?, ?, ?)"
)
# The lock of the damaged row cannot be trusted, so who waited behind it is unknown: all look again.
_UNLOCK = "UPDATE jobs SET gate = CASE suspect WHEN 0 THEN 0 ELSE 3 END WHERE gate = 2"

_logger = logging.getLogger("engine.jobs")


class Candidate(NamedTuple):
    """A row as it was before it is claimed."""

    id: int
    token: int
    attempt: int
    priority: int
    crashes: int
    max_crashes: int
    created_at: float
    checksum: int
    queue: bytes
    name: bytes
    args: bytes
    lock: bytes | None
    then: bytes | None


@reads
def run_whole(
    connection: apsw.Connection, ids: Sequence[int], gate: int, values: tuple[int, int, float]
) -> tuple[list[Candidate], list[Candidate]]:
    """Make rows RUNNING that an index of those behind ``gate`` gave; ``values``: alone, the holder, when.

    Returns those that are whole, in the order of ``ids``, and those that are damaged: they are to be failed.

    Raises:
        CorruptStore: the index gave one twice, or one that is not there, or that has ended.
    """
    try:
        rows = _run(connection, ids, gate, values)
    except apsw.ConstraintError:  # a value of another type is somewhere in one of them
        rows = {}
    damaged = [row for row in rows.values() if not _is_whole(row)]
    if len(rows) < len(ids):
        if len(set(ids)) < len(ids):
            raise ValueError("a job twice in an index")
        rest = _look(connection, [id for id in ids if id not in rows], gate)
        damaged += [row for row, is_pending in rest if not is_pending or not _is_whole(row)]
        rows.update(_run(connection, [row.id for row, _ in rest if row not in damaged], gate, values))
    if not damaged:
        return [rows[id] for id in ids], damaged
    gone = {row.id for row in damaged}
    return [rows[id] for id in ids if id not in gone], damaged


def _run(
    connection: apsw.Connection, ids: Sequence[int], gate: int, values: tuple[int, int, float]
) -> dict[int, Candidate]:
    rows = connection.execute(_RUN, (json.dumps(ids), *values, gate))
    return {row[0]: Candidate._make(row) for row in rows}


def _look(connection: apsw.Connection, ids: Sequence[int], gate: int) -> list[tuple[Candidate, bool]]:
    """Return rows that would not run, and whether they are PENDING."""
    found = connection.execute(_READ, (json.dumps(ids),)).fetchall()
    if len(found) < len(ids):
        raise ValueError(f"{len(found)} rows where an index has {len(ids)}")
    for state, is_behind, id, *_ in found:
        if state in _OTHER_STATES or is_behind != gate:
            raise ValueError(f"job {id} in an index, in which it is not")
    return [(Candidate._make(row[2:]), row[0] == b"pending") for row in found]


def _is_whole(row: Candidate) -> bool:
    """Say whether a row is as it was enqueued."""
    if tuple(map(type, row)) not in _KINDS:
        return False
    if not (0 <= row.token < _MOST and 0 <= row.attempt < _MOST and 0 <= row.crashes < _MOST):
        return False
    return goes_on(row.args, begin(row.queue, row.name, row.lock, row.then)) == row.checksum


def fail(connection: apsw.Connection, damaged: Sequence[Candidate], now: Moment) -> None:
    """End rows that are damaged as FAILED, with the reason; what is left of their texts can be looked at."""
    path = connection.filename
    failures: list[tuple[int, Failure]] = []
    for row in damaged:
        token, attempt = _int(row.token) + 1, _int(row.attempt) + 1
        connection.execute(_FAIL, (
            row.id, _text(row.queue), _text(row.name), token, attempt, _int(row.priority), _or(row.created_at, float,
            now.wall), now.wall, now.wall, NEVER, _text(row.args),
        ))  # fmt: skip
        why = f"CorruptStore: {corrupt(path, f'job {row.id} with another checksum')}"
        failures.append((row.id, Failure(now.wall, attempt, token, "damaged", why)))
    add_failures(connection, failures)
    connection.execute(_UNLOCK)
    _logger.error(
        "%d jobs of %s are not as they were enqueued, and FAILED without a run: %s; look at the disk, and restore the "
        "file from a copy", len(damaged), path, _some(row.id for row in damaged),
    )  # fmt: skip


def _int(value: Any) -> int:
    """Return a number of the row, or another one where it cannot be counted up."""
    return _or(value, int, 0) % _MOST


def _or(value: Any, kind: Callable[..., T], otherwise: T) -> T:
    return value if type(value) is kind else otherwise


def _text(value: Any) -> str:
    return value.decode(errors="backslashreplace") if type(value) is bytes else ""


def _some(ids: Iterable[int]) -> str:
    listed = list(ids)
    return ", ".join(map(str, listed[:10])) + (", ..." if len(listed) > 10 else "")
