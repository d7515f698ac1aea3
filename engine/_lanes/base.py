"""The contract between the engine and a lane.

A lane *pulls*: it claims an attempt whenever it has a free slot, and parks when there is none (``Front.claim``
answers None and remembers to call ``Lane.wake`` once, at the next submit). So there is no queue inside a lane, and a
task that is not claimed yet can be cancelled or overtaken by a more urgent one without asking anybody.

Every claimed attempt leaves a lane by exactly one of three doors: ``Front.end`` (it is over), ``Front.give_back`` (it
never started and goes back to its place in the queue), or ``recall`` returning True (it never started, never will,
and the caller takes it from there). ``Front.abandon`` is not a door: an abandoned attempt still ends, some day.
"""

import contextvars
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from .. import _current
from .._mailbox import Mailbox
from .._records import Call
from .._states import Lane as LaneName

__all__ = ["Attempt", "Front", "Lane", "Outcome", "Taker", "WorkerInfo", "new_attempt"]


class Attempt:
    """One try of one task, from its claim until it is over.

    The engine makes it by ``new_attempt``, a lane runs it. ``lane_data`` is the lane's own; ``task`` is the engine's.
    """

    __slots__ = (
        "args", "abandoned", "callbacks", "cancel_requested", "context", "ending", "expired", "fn", "grace",
        "interrupted", "kwargs", "lane", "lane_data", "loop", "name", "number", "over", "recalling", "started_at",
        "task", "task_id", "timeout", "timer", "waits", "wake", "worker",
    )  # fmt: skip

    task_id: int
    number: int  #: 1 for the first try
    name: str
    fn: Callable[..., Any] | None  #: fn, args and kwargs are dropped when the attempt is over
    args: Any  #: or, in the process lane, a Chunk: many calls at once (``_lanes.chunk``)
    kwargs: dict[str, Any]
    lane: LaneName
    timeout: float | None  #: seconds from its start, None for none
    grace: float  #: seconds between asking it to stop and force
    context: Any  #: the submitter's; for the process lane its exported variables ("pkg.mod:var" → value)
    loop: Any  #: the event loop that submitted it, for the loop lane
    task: Any
    worker: str | None  #: what runs it, for people
    started_at: float | None  #: monotonic, once known
    cancel_requested: bool  #: read by current_task() in the thread and loop lanes
    expired: bool  #: its timeout struck
    interrupted: bool  #: Lane.interrupt was called for it
    abandoned: bool
    over: bool
    ending: tuple[float | None, Any] | None  #: decided, not done: the pause until a retry, who waits
    wake: Callable[[], None] | None  #: whom to wake, as its slot is free; as above
    recalling: bool  #: somebody takes it back from its worker
    waits: int  #: how many unfinished tasks of the same engine it waits for
    timer: Any
    callbacks: list[Callable[[], None]] | None  #: called once when it is over
    lane_data: Any

    @property
    def full_name(self) -> str:
        """Give its name and what it works for, as the submitter's context says: "send, job 5"."""
        context = self.context  # read once: another thread drops it
        if self.abandoned or not isinstance(context, contextvars.Context):
            return self.name  # of an abandoned one that is it, for its context goes before the last line about it
        subject = context.get(_current.subject)
        return self.name if subject is None else f"{self.name}, {subject}"


def new_attempt(
    call: Call,
    task_id: int,
    number: int,
    args: Any,
    kwargs: dict[str, Any],
    context: Any = None,
    loop: Any = None,
    task: Any = None,
) -> Attempt:
    """Make the attempt ``number`` of ``call``: a function, as a class costs a quarter more to call."""
    attempt = _blank(Attempt)
    attempt.task_id = task_id
    attempt.number = number
    attempt.name = call.name
    attempt.fn = call.fn
    attempt.args = args
    attempt.kwargs = kwargs
    attempt.lane = call.lane
    attempt.timeout = call.timeout
    attempt.grace = call.grace
    attempt.context = context
    attempt.loop = loop
    attempt.task = task
    attempt.worker = None
    attempt.started_at = None
    attempt.cancel_requested = False
    attempt.expired = False
    attempt.interrupted = False
    attempt.abandoned = False
    attempt.over = False
    attempt.ending = None
    attempt.wake = None
    attempt.recalling = False
    attempt.waits = 0
    attempt.timer = None
    attempt.callbacks = None
    attempt.lane_data = None
    return attempt


_blank = object.__new__


@dataclass(slots=True)
class Outcome:
    """How an attempt ended. Exactly one of three: an ``error``, ``cancelled``, else ``value``."""

    value: Any = None
    error: BaseException | None = None
    cancelled: bool = False  #: it ended because it was asked to (TaskCancelled, or a coroutine's CancelledError)
    started_at: float | None = None  #: monotonic; None means that it never entered user code (e.g. bad arguments)
    completed_at: float | None = None  #: monotonic; None means "now"
    worker: str | None = None  #: who ran it, such as "process-3 (pid 4711)"
    retryable: bool = True  #: False for pickling and start-up errors


class Taker(Protocol):
    """Who claims, where an exception may strike at any instant: what it has claimed is in here before it counts."""

    name: str  #: such as "thread-1"
    claimed: Attempt | None


class Front(Protocol):
    """What a lane may ask of the engine in front of it. Every method may be called from any thread."""

    def claim(self, lane: LaneName, taker: Taker | None = None, *, begin_on: Mailbox | None = None) -> Attempt | None:
        """Take the next attempt for ``lane``, and begin it if its coroutine belongs to the loop of ``begin_on``.

        None parks the lane: its ``wake`` is called once at the next submit.
        """

    def take(self, lane: LaneName, taker: Taker) -> Attempt | None:
        """Claim and begin the next attempt for ``lane``, on a thread of the lane's; it ends by ``end_taken``."""

    def claim_like(self, attempt: Attempt, most: int) -> list[Attempt]:
        """Take up to ``most`` further attempts of the call of ``attempt``, while no other task comes first."""

    def mend(self, lane: LaneName, attempt: Attempt | None) -> None:
        """Put in order what an exception broke off in a taker of ``lane``; give its ``attempt`` back if unbegun."""

    def free(self) -> None:
        """Leave the section that an exception thrown into this taker's thread may have left it in."""

    def let_overtake(self, lane: LaneName, attempts: Iterable[Attempt]) -> None:
        """Have ``overtake`` of ``lane`` called, once, at the next submit that is more urgent than one of ``attempts``.

        Also at the first one that is more urgent than what was claimed since.
        """

    def is_overtaken(self, line: list[Attempt]) -> bool:
        """Say whether a task waits, or stands in ``line``, that is more urgent than one before it."""

    def has_ready(self, lane: LaneName) -> int:
        """Count the tasks that wait to be claimed by ``lane``; none parks it, as a claim does."""

    def park(self, lane: LaneName) -> None:
        """Have the lane's ``wake`` called at the next submit, though tasks may wait already."""

    def begin(self, attempt: Attempt, at: float) -> bool:
        """Record that ``attempt`` starts at monotonic ``at``. False: it was cancelled meanwhile, do not run it."""

    def end(self, attempt: Attempt, outcome: Outcome) -> None:
        """Record how ``attempt`` ended, and free its slot."""

    def end_taken(self, attempt: Attempt, outcome: Outcome) -> None:
        """Record how an ``attempt`` that ``take`` gave ended: as ``end``, at less cost."""

    def return_taken(self, attempt: Attempt, value: Any) -> None:
        """Record that an ``attempt`` that ``take`` gave returned ``value``: as ``end_taken``, at less cost."""

    def returned(self, attempt: Attempt, value: Any) -> None:
        """Record that ``attempt``, which has begun, returned ``value``: as ``end``, at less cost."""

    def return_row(self, row: list[tuple[Attempt, Any, float, float]], worker: str) -> None:
        """Record that attempts ran on ``worker`` and returned: each with its value, its start and its end.

        As ``end`` for each, in that order, at less cost.
        """

    def give_back(self, attempt: Attempt) -> None:
        """Put ``attempt``, which never started, back at the head of its queue; no attempt is used."""

    def abandon(self, attempt: Attempt) -> bool:
        """Record that ``attempt`` cannot be stopped. True: its slot is given away and the lane may refill it."""

    def progress(self, attempt: Attempt, done: float, total: float | None, message: str) -> None:
        """Record how far ``attempt`` says it is."""

    def regrow(self, lane: LaneName) -> None:
        """Give back the right to one more taker, which could not be made; it is tried again if work waits for it."""

    def fail_ready(self, lane: LaneName, error: BaseException) -> None:
        """Fail every task that waits for ``lane``: no worker can run them."""


class Lane(Protocol):
    """What the engine may ask of a lane. Called on the engine's home loop unless another word is said."""

    name: LaneName

    def wake(self) -> None:
        """Look for work: there may be something to claim. Any thread; never blocks; cheap."""

    def started(self, attempt: Attempt) -> float | None:
        """Return the monotonic instant at which ``attempt`` entered user code, None if it has not. Any thread."""

    def recall(self, attempt: Attempt) -> bool:
        """Take ``attempt`` back if it has not started. True: it never did and never will, and the lane forgets it.

        Any thread. False: it has started, or is over.
        """

    def has_answered(self, attempt: Attempt) -> bool:
        """Say whether the end of ``attempt`` has arrived here already, though it may not have been reported yet.

        A timer asks before it strikes: it may be late itself, and what had arrived by then wins.
        """

    def interrupt(self, attempt: Attempt) -> None:
        """Ask a started attempt to stop, and see to it that it has after ``attempt.grace`` seconds. Idempotent."""

    def workers(self) -> list["WorkerInfo"]:
        """Describe every worker. Any thread."""

    def stacks(self) -> dict[str, str]:
        """Return what each worker is doing now, as formatted stacks by worker. Any thread."""

    async def warm_up(self) -> None:
        """Start every worker, and return when they can take work."""

    async def restart(self) -> None:
        """Replace every worker: idle ones now, busy ones when their attempt is over."""

    async def close(self, grace: float) -> None:
        """Let idle workers leave, kill after ``grace`` seconds what has not left. No attempt is in the lane."""

    def kill(self) -> None:
        """End every worker at once, without waiting. Any thread; the last resort at interpreter exit."""


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """One worker thread or process at one instant."""

    name: str  #: such as "process-3"
    lane: LaneName
    pid: int | None  #: None for threads
    state: str  #: "starting", "idle", "busy", "retiring", "abandoned", or "stopped" (by SIGSTOP or a debugger)
    task_id: int | None  #: what it runs
    task_name: str | None
    tasks_done: int
    rss_bytes: int | None  #: resident memory; None for threads
    cpu_seconds: float | None  #: user and system time so far; None for threads
