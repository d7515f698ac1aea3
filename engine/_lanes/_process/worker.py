"""One worker process as the lane sees it: what it was sent, and what can be asked of it.

Guarantees
    Shared: ``_in_flight``.  Guarded by: ``_lock``, held for a few dict operations and non-blocking system calls.
    ``Attempt.lane_data`` is None from its claim until it is sent, then (worker, number), then ``OVER``;
    ``_claim_lock``, one for the lane and innermost, makes "sent" and "recalled before that" exclude each other.
    ``recall``, ``started``, ``ask_to_stop``, ``ask_for_stacks``, ``kill``, ``describe`` may be called from any thread;
    the rest is the home loop's. Lock order: innermost; no callback runs under it.
    How the tasks get there and back is the subclass's: ``native.py`` over our own protocol, ``_portable`` over loky.
"""

import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from ..._states import Lane
from ..base import Attempt, WorkerInfo
from ..chunk import Chunk
from .child import ExitStatus
from .encoder import Encoded
from .functions import Function
from .reader import Frame
from .usage import UNKNOWN, MemoryUse, usage_of

__all__ = ["OVER", "Worker"]

OVER = (None, 0)  #: the attempt is no longer in the lane
UNEXPECTED = 3.0  #: so many times its expected seconds a task may take, and is not stuck; the machine may be busy


class Worker(ABC):
    """A process that was started, and the tasks that are in it."""

    def __init__(self, name: str, pid: int | None, claim_lock: threading.RLock) -> None:
        self.name = name
        self.pid = pid  #: None until it is known
        self.state = "starting"  #: then "idle", "busy", "retiring" (it takes no more), "dead"
        self.was_starting = self.was_busy = self.was_retiring = False  #: its state when it died
        self.tasks_done = 0
        self.idle_since = 0.0
        self.is_unwanted = False  #: replace it when its task is over
        self.is_poisoned = False  #: an interrupt was raised in it
        self.has_stood_still = False  #: it was sent a task and did not begin it
        self.is_heavy = False  #: it was seen over its memory limit, in the middle of a task
        self.exceeded: dict[int, MemoryUse] = {}  #: tasks that it is being killed for because of what they took
        self.failure = ""  #: what was wrong with what it sent
        self.refusal: Any = None  #: why it could not start: an exception, or (type name, message, traceback)
        self.doomed: set[int] = set()  #: tasks that it is being killed for
        self.timers: dict[int, Any] = {}  #: kills to come, by task
        self.start_timer: Any = None
        self.start_round = self.failures_before = 0  #: of the breaker, when it was started
        self.ready_at = -math.inf  #: when it said hello, on the loop's clock
        self.has_begun = False  #: it died with a task begun, at whatever time
        self._lock = threading.RLock()  # the collector may call us from inside (design/0002)
        self._claim_lock = claim_lock
        self._last = 0
        self._in_flight: dict[int, Attempt] = {}
        self._functions: dict[int, Function] = {}  #: of what is in flight, to measure and foresee; home loop only
        self.last_cost = math.inf  #: what the task that was sent last is expected to take, in seconds
        self.label = name if pid is None else f"{name} (pid {pid})"

    # -- what is in it

    def count(self) -> int:
        """Return how many tasks it was sent and has not answered."""
        return len(self._in_flight)

    def attempt(self, number: int) -> Attempt | None:
        """Return the attempt behind a sequence number, if it is unanswered."""
        return self._in_flight.get(number)

    def attempt_of(self, task_id: int) -> Attempt | None:
        """Return the unanswered attempt of a task."""
        with self._lock:
            return next((a for a in self._in_flight.values() if a.task_id == task_id), None)

    def cost_ahead(self) -> float:
        """Return the seconds that what is in flight is expected to take; infinite where one is not known."""
        if len(self._functions) > 64:  # those of recalled tasks stay behind
            self._functions = {n: f for n, f in self._functions.items() if n in self._in_flight}
        return sum([self._cost(number, attempt) for number, attempt in list(self._in_flight.items())])

    def _cost(self, number: int, attempt: Attempt) -> float:
        if type(attempt.args) is Chunk:
            return attempt.args.expected_seconds
        function = self._functions.get(number)
        return function.seconds if function is not None else math.inf

    def is_at_chunk(self) -> bool:
        """Say whether the first task in line is a chunk."""
        attempt = self._in_flight.get(next(iter(self._in_flight), 0))
        return attempt is not None and type(attempt.args) is Chunk

    def unbegun(self) -> int:
        """Return the number of the first task in line if it has not begun, 0 if it has or if there is none."""
        number = next(iter(self._in_flight), 0)
        return number if number and self.started(number) is None else 0

    def is_stuck(self, seconds: float, most: float) -> bool:
        """Say whether the running task takes longer than that and than expected; its function then counts as slow.

        ``most``: what was expected of it at most; of its function, that may have become much more since it was sent.
        """
        number = next(iter(self._in_flight), 0)
        started = self.started(number) if number else None
        elapsed = time.monotonic() - started if started is not None else 0.0
        function = self._functions.get(number)
        expected = 0.0 if function is None else min(function.seconds, most)
        if elapsed <= max(seconds, UNEXPECTED * expected):
            return False
        if function is not None:
            function.measure(elapsed)
        return True

    def has_begun_after(self, number: int) -> bool:
        """Say whether a task behind ``number`` is in the worker's hands; asked after ``recall_all``."""
        with self._lock:
            return any(other > number for other in self._in_flight)

    def take(self, number: int, seconds: float) -> Attempt | None:
        """Take out the attempt that was answered, and note how long its function took.

        None: the answer is a lie, since a worker answers what it was sent, in that order, and after it began.
        """
        with self._lock:
            if number != next(iter(self._in_flight), 0) or self.last_begun() < number:
                return None
            attempt = self._in_flight.pop(number)
        self.is_heavy = False
        function = self._functions.pop(number, None)
        if function is not None:
            function.measure(seconds)
        attempt.lane_data = OVER
        return attempt

    def take_row(self, frames: list[Frame]) -> list[Attempt]:
        """Take out the attempts that ``frames`` answer, as ``take`` does, up to the first that is not its turn.

        A chunk is not taken either: what ends one is no answer of a task.
        """
        taken: list[Attempt] = []
        durations: dict[Function, list[float]] = {}
        in_flight, functions = self._in_flight, self._functions
        with self._lock:
            begun = self.last_begun()
            for (_, _, number, started, ended, _, _), (expected, attempt) in zip(
                frames, list(in_flight.items()), strict=False
            ):
                if number != expected or number > begun or type(attempt.args) is Chunk:
                    break
                del in_flight[number]
                taken.append(attempt)
                attempt.lane_data = OVER
                function = functions.pop(number, None)
                if function is not None:
                    durations.setdefault(function, []).append(ended - started)
        self.is_heavy = False
        for function, each in durations.items():
            function.measure_row(each)
        return taken

    def running_chunk(self, number: int) -> tuple[Attempt, Chunk] | None:
        """Return the chunk behind a sequence number, if it has begun and is unanswered."""
        with self._lock:
            if number != next(iter(self._in_flight), 0) or self.last_begun() < number:
                return None
            attempt = self._in_flight[number]
        return (attempt, attempt.args) if type(attempt.args) is Chunk else None

    def unanswered(self) -> list[tuple[int, Attempt]]:
        """Return what it was sent and has not answered, by number, oldest first."""
        with self._lock:
            return list(self._in_flight.items())

    def unbegun_behind(self) -> list[Attempt]:
        """Return what the worker has not begun, oldest first, if anything is before it."""
        with self._lock:
            begun = self.last_begun()
            line = [attempt for number, attempt in self._in_flight.items() if number > begun]
            return line if len(self._in_flight) > 1 else []

    def first(self) -> int:
        """Return the number of the first task in line, 0 for none."""
        return next(iter(self._in_flight), 0)

    def stop_chunk(self, number: int) -> None:
        """Have chunk ``number`` begin no further item, and send what is finished.

        How many have begun, ``items_begun`` says for certain a millisecond later.
        """
        raise NotImplementedError("expected a worker that takes chunks")

    def items_begun(self, number: int) -> int:
        """Return how many items of chunk ``number`` have begun."""
        return 0

    def take_all(self) -> list[tuple[int, Attempt]]:
        """Take out what a dead worker has not answered, oldest first; nothing can be recalled from here on."""
        with self._lock:
            left = list(self._in_flight.items())
            self._in_flight.clear()
        for _, attempt in left:
            attempt.lane_data = OVER
        return left

    def hold(self) -> None:  # noqa: B027  # a transport that sends one by one has nothing to do
        """Collect what is sent until ``flush``, if the transport can send it together."""

    def flush(self) -> None:  # noqa: B027  # as hold
        """Send what was collected since ``hold``, if that was called."""

    def take_skipped(self, number: int) -> Attempt | None:
        """Take out task ``number``, which the worker says it has not begun. KeyError: nobody told it not to."""
        if number not in self.timers and number not in self.doomed:
            raise KeyError(number)
        with self._lock:
            return self._in_flight.pop(number, None)

    # -- stopping

    def fresh_bytes(self) -> int:
        """Return what it held before its first task; 0 if that is not known."""
        return 0

    def memory(self) -> MemoryUse | None:
        """Return what it holds and what of that its running task brought; None between tasks, or if nobody knows."""
        return None

    def doom(self) -> bool:
        """Note that everything in it dies by our hand. False: there is nothing in it, or it was doomed before."""
        with self._lock:
            is_new = bool(self._in_flight) and not self.doomed
            self.doomed.update(self._in_flight)
            return is_new

    def note_death(self) -> None:
        """Note that the process has ended, and what it was then."""
        self.was_starting = self.state == "starting"
        self.was_busy = self.state == "busy"
        self.was_retiring = self.state == "retiring"
        self.state = "dead"

    def describe(self) -> WorkerInfo:
        """Describe it at this instant."""
        usage = usage_of(self.pid) if self.pid is not None else UNKNOWN
        with self._lock:
            running = self._in_flight.get(self.last_begun())
            if self.has_ended():  # its pid may be a stranger's by now
                usage = UNKNOWN
        state = "stopped" if usage.is_stopped else self.state
        task_id, task_name = (running.task_id, running.name) if running is not None else (None, None)
        return WorkerInfo(self.name, Lane.PROCESS, self.pid, state, task_id, task_name, self.tasks_done,
                          usage.resident_bytes, usage.cpu_seconds)  # fmt: skip

    # -- what the transport does

    @abstractmethod
    def send(self, attempt: Attempt, encoded: Encoded) -> bool:
        """Send ``attempt``. False: it was recalled meanwhile."""

    def send_row(self, row: list[tuple[Attempt, Encoded]]) -> int:
        """Send attempts of one call, as ``send`` each; return how many were not recalled meanwhile."""
        return sum([self.send(attempt, encoded) for attempt, encoded in row])

    @abstractmethod
    def forget_functions(self, numbers: Iterable[int]) -> None:
        """Have the worker forget functions; those tasks that use them are ahead."""

    @abstractmethod
    def started(self, number: int) -> float | None:
        """Return when task ``number`` began, None if it has not."""

    @abstractmethod
    def last_begun(self) -> int:
        """Return the number of the last task that has begun, 0 for none."""

    @abstractmethod
    def recall(self, number: int) -> tuple[bool, list[Attempt]]:
        """Take task ``number`` back, if the worker has not begun it, and all that lies behind it.

        Return whether it was among them (then it never begins), and the others, oldest first, which are unsent again.
        """

    @abstractmethod
    def recall_all(self) -> list[Attempt]:
        """Take back everything that the worker has not begun, oldest first."""

    @abstractmethod
    def ask_to_stop(self, number: int, grace: float) -> None:
        """Ask for the end of task ``number``."""

    @abstractmethod
    def ask_for_stacks(self, request: int) -> bool:
        """Ask what it does now. False: it cannot be asked."""

    @abstractmethod
    def kill(self) -> None:
        """End the process and its group now."""

    @abstractmethod
    def leave(self) -> None:
        """Let the process end by itself: it runs its exit handlers and leaves."""

    @abstractmethod
    def has_ended(self) -> bool:
        """Say whether the process is known to have ended."""

    @abstractmethod
    def discard(self) -> None:
        """End a process that nobody listens to, and close every descriptor."""

    @abstractmethod
    def exit_status(self) -> ExitStatus:
        """Return how the process has ended; both None where nobody knows."""

    @abstractmethod
    def close(self) -> None:
        """Close every descriptor; the process has ended."""

    @abstractmethod
    def bury(self, seconds: float) -> None:
        """Reap the killed process if it is gone within ``seconds``, and close every descriptor: no loop turns."""

    @abstractmethod
    def forget(self) -> None:
        """In a forked child: close its copies of our descriptors, and touch nothing else."""
