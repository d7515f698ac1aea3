"""Values about jobs: what is enqueued, claimed, ended and looked at.

Of ``Claimed`` and ``Ending`` each job makes one: named tuples are made in a fifth of the time of frozen dataclasses.
"""

import enum
from dataclasses import dataclass, field
from typing import NamedTuple

from engine import TaskState

__all__ = [
    "Cancelled",
    "Claim",
    "Claimed",
    "Claims",
    "End",
    "Ending",
    "Failure",
    "Filter",
    "Gate",
    "HolderInfo",
    "JobInfo",
    "NewHolder",
    "NewJob",
    "QueueStatistics",
    "Rescued",
    "Statistics",
]


class Gate(enum.IntEnum):
    """What a PENDING job waits for; design/0014."""

    READY = 0
    LATER = 1
    LOCKED = 2
    ALONE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """What becomes a row. Everything in it has been checked; of ``delay`` and ``at`` one is None at least."""

    queue: str
    name: str
    args: str  #: the text of a JSON object
    priority: int = 0
    delay: float | None = None  #: seconds from now until it may start
    at: float | None = None  #: seconds since the epoch, on the wall's clock, from which it may start
    expires_in: float | None = None  #: seconds from now after which it is cancelled if it was never claimed
    expires_at: float | None = None  #: the same as an instant of the wall's clock
    lock: str | None = None  #: of the jobs with one lock only one runs at a time
    queueing_lock: str | None = None  #: of the jobs with one queueing lock only one waits for its first claim
    max_crashes: int = 3  #: deaths of worker processes, or of an engine that ran nothing else, until it is FAILED
    then: str | None = None  #: the text of a JSON array of what is enqueued when it has completed
    parent: int | None = None  #: the job that this one follows
    schedule: str | None = None  #: the period's name, for a job that a schedule enqueued


@dataclass(frozen=True, slots=True, kw_only=True)
class NewHolder:
    """A worker that wants to hold jobs."""

    name: str  #: what people see: "host:pid:name"
    pid: int
    pid_started: float  #: in the unit of the system; with ``pid`` and ``namespace`` it names one process
    namespace: str  #: of pids; empty where there is no such thing
    lease: float  #: seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class HolderInfo:
    """A holder at one instant."""

    id: int
    name: str
    pid: int
    pid_started: float
    namespace: str
    boot: str
    lease: float
    lease_until: float  #: on the steady clock of ``boot``
    started_at: float  #: UTC
    running: int = 0  #: jobs that it holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a holder asks for: at most ``limit`` jobs, from each queue at most its own number."""

    holder: int
    queues: dict[str, int]  #: queue -> how many may be claimed there now
    limit: int
    passed_over: frozenset[str] = frozenset()  #: names of tasks whose lane has no room
    look_ahead: int = 1000  #: rows per queue that are looked at
    alone: bool = False  #: claim one suspect, to run with nothing beside it; ``limit`` and the rooms do not matter


class Claimed(NamedTuple):
    """A job that is the claimer's until its token is not that of the row any more."""

    id: int
    token: int
    queue: str
    name: str
    args: str
    attempt: int  #: this one's number, from 1
    priority: int
    crashes: int
    created_at: float
    lock: str | None
    alone: bool
    max_crashes: int = 3
    then: str | None = None  #: as in NewJob: what its worker hands back as ``Ending.follow_ups``


@dataclass(frozen=True, slots=True)
class Claims:
    """The answer to a Claim."""

    jobs: tuple[Claimed, ...]
    suspects: bool  #: suspects wait in these queues (those of ``jobs`` not counted)
    next_due: float | None  #: seconds until a job that is LATER in these queues may be due; 0 to claim again at once


class End(enum.StrEnum):
    """How a run ended, as its worker says."""

    COMPLETED = "completed"
    FAILED = "failed"  #: for good
    CANCELLED = "cancelled"
    RETRY = "retry"  #: failed, and is to run again; uses an attempt
    SNOOZE = "snooze"  #: asked to run later, or nobody knew its name; uses none
    GIVE_BACK = "give back"  #: was stopped by a drain, or never started; uses none
    CRASH = "crash"  #: its worker process died; counts against ``max_crashes`` and uses none


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one run did not complete."""

    at: float  #: UTC
    attempt: int
    token: int
    kind: str  #: "error", "timeout", "crash", "lost" (its engine died or lost its lease), "damaged" (its row), ...
    error: str  #: type and message, on one line
    traceback: str = ""
    worker: str = ""  #: who ran it


class Ending(NamedTuple):
    """One run and how it ended."""

    id: int
    token: int
    end: End
    result: str | None = None  #: JSON, of COMPLETED
    failure: Failure | None = None  #: added to the history
    delay: float = 0.0  #: seconds until the next run, of RETRY, SNOOZE and CRASH
    follow_ups: tuple[NewJob, ...] = ()  #: enqueued with COMPLETED, each with ``parent`` set


@dataclass(frozen=True, slots=True)
class Rescued:
    """A job that was taken from a holder that died or lost its lease."""

    id: int
    name: str
    holder: str
    state: TaskState  #: PENDING, or FAILED or CANCELLED where it ends it
    crashes: int


class Cancelled(enum.StrEnum):
    """What a wish to cancel found."""

    NOW = "now"  #: it was PENDING and is CANCELLED
    ASKED = "asked"  #: it runs; its worker stops it
    TOO_LATE = "too late"  #: it has ended
    UNKNOWN = "unknown"  #: there is no such job


@dataclass(frozen=True, slots=True, kw_only=True)
class JobInfo:
    """One row at one instant."""

    id: int
    queue: str
    name: str
    args: str
    state: TaskState
    gate: Gate | None
    attempt: int  #: attempts begun, but those given back
    token: int  #: claims
    crashes: int
    suspect: bool
    cancel_requested: bool
    priority: int
    max_crashes: int
    lock: str | None
    queueing_lock: str | None
    created_at: float  #: UTC, as the next three
    due_at: float | None  #: from when it may run, of a LATER one; UTC, or as UTC as a duration can be told
    started_at: float | None  #: the last claim
    completed_at: float | None  #: of a terminal state
    expires_at: float | None  #: UTC, or as UTC as a duration can be told
    holder: str | None  #: who runs it
    lease_until: float | None  #: UTC, of a RUNNING one
    result: str | None
    progress: str | None
    parent: int | None
    schedule: str | None
    error: str | None  #: of the last failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which jobs a look wants, newest id first unless ``oldest_first``. Empty means all."""

    ids: tuple[int, ...] = ()
    states: tuple[TaskState, ...] = ()
    queues: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    parent: int | None = None  #: those that follow this job
    below: int | None = None  #: ids below this one (above it, where ``oldest_first``): the next page
    limit: int = 100
    oldest_first: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStatistics:
    """One queue at one instant: how many jobs are where."""

    queue: str
    paused: bool = False
    ready: int = 0
    later: int = 0
    locked: int = 0
    suspects: int = 0
    running: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    oldest_ready: float | None = None  #: seconds since the READY job with the lowest id was enqueued, at least 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """The whole store at one instant."""

    queues: tuple[QueueStatistics, ...] = ()
    holders: tuple[HolderInfo, ...] = ()
    counters: dict[str, int] = field(
        default_factory=dict
    )  #: since the file was made: "fenced", "rescued", "lost_holders"
