"""The tables of a file of jobs, their versions, and how an older file becomes a newer one.

``jobs.query()`` reads these tables, so their names are a public face. Times ending in ``_wall``, and those ending in
``_at``, are seconds since the epoch, UTC; those ending in ``_steady``, and ``lease_until``, are on the steady clock
(design/0014). What is not said to have a value is NULL.

| table | a row is | columns besides those that name themselves |
| --- | --- | --- |
| jobs | a job; ``id`` is never used again | ``state`` (pending, running, completed, failed, cancelled) · ``gate`` of a
  pending one: 0 ready, 1 later, 2 locked, 3 alone · ``attempt``, ``token`` (claims), ``crashes`` · ``suspect``,
  ``alone``, ``cancel_requested``: 0 or 1 · ``holder`` of a running one: ``holders.id`` · ``due_*`` of a later one ·
  ``started_at``: its last claim · ``completed_at`` of an ended one · ``args``, ``result``, ``progress``,
  ``follow_ups``: JSON · ``parent``: the job that it follows · ``schedule`` that enqueued it ·
  ``checksum``: of what decides what runs (``_checksum``) |
| failures | a run that did not complete | ``job``: ``jobs.id`` |
| holders | a worker and its lease | ``boot``: of which machine start ``lease_until`` is |
| queues | a queue that is paused | |
| schedules | a period that was ticked | ``last_at``: the latest |
| counters | a count since the file was made | |
| boots | a start of the machine | ``steady_offset``: steady minus the seconds since that start |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..errors import StoreError
from .damage import corrupt

if TYPE_CHECKING:
    import apsw

__all__ = ["APPLICATION_ID", "MIGRATIONS", "Migration", "check_ours", "migrate", "steady_offset", "version_of"]

Migration = Callable[["apsw.Connection"], None]

#: In the header of the file, where SQLite keeps whose a file is.
APPLICATION_ID = 0x656A6F62  # "ejob"

# What is large stands last in a row: the columns before it are read without it.
_TABLES = (
    """
    CREATE TABLE jobs (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        queue TEXT NOT NULL,
        name TEXT NOT NULL,
        state TEXT NOT NULL DEFAULT 'pending',
        gate INTEGER DEFAULT 0,
        priority INTEGER NOT NULL DEFAULT 0,
        attempt INTEGER NOT NULL DEFAULT 0,
        token INTEGER NOT NULL DEFAULT 0,
        crashes INTEGER NOT NULL DEFAULT 0,
        max_crashes INTEGER NOT NULL DEFAULT 3,
        suspect INTEGER NOT NULL DEFAULT 0,
        alone INTEGER NOT NULL DEFAULT 0,
        cancel_requested INTEGER NOT NULL DEFAULT 0,
        holder INTEGER,
        lock TEXT,
        queueing_lock TEXT,
        due_steady REAL,
        due_wall REAL,
        expires_steady REAL,
        expires_wall REAL,
        created_at REAL NOT NULL,
        started_at REAL,
        completed_at REAL,
        parent INTEGER,
        schedule TEXT,
        checksum INTEGER NOT NULL,
        follow_ups TEXT,
        progress TEXT,
        result TEXT,
        args TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE failures (
        id INTEGER PRIMARY KEY,
        job INTEGER NOT NULL,
        at REAL NOT NULL,
        attempt INTEGER NOT NULL,
        token INTEGER NOT NULL,
        kind TEXT NOT NULL,
        error TEXT NOT NULL,
        worker TEXT NOT NULL,
        traceback TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE holders (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL,
        pid INTEGER NOT NULL,
        pid_started REAL NOT NULL,
        namespace TEXT NOT NULL,
        boot TEXT NOT NULL,
        lease REAL NOT NULL,
        lease_until REAL NOT NULL,
        started_at REAL NOT NULL
    ) STRICT
    """,
    "CREATE TABLE queues (name TEXT PRIMARY KEY NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE schedules (name TEXT PRIMARY KEY NOT NULL, last_at REAL NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE counters (name TEXT PRIMARY KEY NOT NULL, value INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE boots (boot TEXT PRIMARY KEY NOT NULL, steady_offset REAL NOT NULL) STRICT, WITHOUT ROWID",
    "INSERT INTO counters VALUES ('fenced', 0), ('lost_holders', 0), ('rescued', 0)",
)

# Each holds the rows of one kind only, so that no verb pays for rows that it is not about. Every index ends with id.
_INDEXES = (
    # claims
    "CREATE INDEX jobs_ready ON jobs (queue, priority DESC) WHERE gate = 0",
    "CREATE INDEX jobs_due_steady ON jobs (queue, due_steady) WHERE gate = 1 AND due_steady IS NOT NULL",
    "CREATE INDEX jobs_due_wall ON jobs (queue, due_wall) WHERE gate = 1 AND due_wall IS NOT NULL",
    "CREATE INDEX jobs_locked ON jobs (lock, queue, priority DESC) WHERE gate = 2",
    "CREATE INDEX jobs_alone ON jobs (queue, priority DESC) WHERE gate = 3",
    "CREATE INDEX jobs_expire_steady ON jobs (expires_steady)"
    " WHERE state = 'pending' AND token = 0 AND expires_steady IS NOT NULL",
    "CREATE INDEX jobs_expire_wall ON jobs (expires_wall)"
    " WHERE state = 'pending' AND token = 0 AND expires_wall IS NOT NULL",
    # what must be one
    "CREATE UNIQUE INDEX jobs_lock ON jobs (lock) WHERE state = 'running' AND lock IS NOT NULL",
    "CREATE UNIQUE INDEX jobs_queueing_lock ON jobs (queueing_lock)"
    " WHERE state = 'pending' AND token = 0 AND queueing_lock IS NOT NULL",
    # rescue, prune, looks
    "CREATE INDEX jobs_running ON jobs (holder, queue) WHERE state = 'running'",
    "CREATE INDEX jobs_ended ON jobs (state, completed_at, id, queue) WHERE completed_at IS NOT NULL",
    "CREATE INDEX jobs_parent ON jobs (parent) WHERE parent IS NOT NULL",
    "CREATE INDEX jobs_failed ON jobs (id) WHERE state = 'failed'",
    "CREATE INDEX failures_job ON failures (job)",
)


def _create(connection: apsw.Connection) -> None:
    """Version 1."""
    for statement in _TABLES + _INDEXES:
        connection.execute(statement)


#: The n-th makes version n + 1 from version n. It runs in a transaction of its own, and neither begins nor ends one. A
#: process that opened the file as version n goes on working while another makes n + 1 of it, so a migration adds.
MIGRATIONS: tuple[Migration, ...] = (_create,)


def version_of(connection: apsw.Connection) -> int:
    """Return the version of the file's tables; 0 if there are none yet."""
    return int(connection.pragma("user_version"))


def check_ours(connection: apsw.Connection, path: str) -> None:
    """Look whether the file is one of jobs, or new, before anything of it is changed.

    Raises:
        StoreError: it belongs to another application, or is newer than this code.
        CorruptStore: its version cannot be.
    """
    _checked_version(connection, path, len(MIGRATIONS))


def migrate(connection: apsw.Connection, path: str, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Bring the tables to the newest version, in one transaction per version.

    Whoever is killed in the middle leaves a whole version, and the next one goes on from there. Of two that do it at
    once, one waits for the other (as long as the connection waits for locks at all), and finds it done.

    Raises:
        StoreError: the file is newer than ``migrations``, or belongs to another application; it was not changed.
    """
    while _checked_version(connection, path, len(migrations)) < len(migrations):
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = _checked_version(connection, path, len(migrations))  # by now another may have done it
            if version < len(migrations):
                migrations[version](connection)
                connection.pragma("application_id", APPLICATION_ID)
                connection.pragma("user_version", version + 1)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _checked_version(connection: apsw.Connection, path: str, newest: int) -> int:
    with connection:  # one snapshot: another may be making the tables
        version = version_of(connection)
        owner = connection.pragma("application_id")
        is_empty = connection.execute("SELECT count(*) FROM sqlite_schema").get == 0
    if owner != APPLICATION_ID and not (owner == version == 0 and is_empty):
        raise StoreError(
            f"expected {path} to be a file of jobs or a new one, got a database of another application; "
            "give the jobs a file of their own",
            path=path,
        )
    if version < 0 or (version == 0 and not is_empty):
        raise corrupt(path, f"tables of version {version}")
    if version > newest:
        raise StoreError(
            f"expected the tables of {path} to be of version {newest} or older, got version {version}; "
            "use the version of engine that made them, or a newer one",
            path=path,
        )
    return version


def steady_offset(connection: apsw.Connection, boot: str, offset: float) -> float:
    """Return the offset of the steady clock of ``boot``: the one that is noted, else ``offset``, which is noted then.

    Called inside a transaction that writes, by each store that opens.
    """
    connection.execute("INSERT OR IGNORE INTO boots VALUES (?, ?)", (boot, offset))
    return float(connection.execute("SELECT steady_offset FROM boots WHERE boot = ?", (boot,)).get)
