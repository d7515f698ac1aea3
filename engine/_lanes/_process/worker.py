"""One worker process as the lane sees it: what it was sent, what it has begun, how to take it back.

Guarantees
    Shared: ``_in_flight``, ``_backlog``, ``_is_open``, and the descriptors that ``send``, ``recall``, ``started`` and
    ``kill`` use.  Guarded by: ``_lock``, held for a few dict operations and non-blocking system calls.
    ``Attempt.lane_data`` is None from its claim until it is sent, then (worker, number), then ``OVER``;
    ``_claim_lock``, one for the lane and innermost, makes "sent" and "recalled before that" exclude each other.
    ``recall``, ``started``, ``ask_to_stop``, ``kill``, ``describe`` may be called from any thread; the rest is the
    home loop's. Lock order: innermost; no callback runs under it.
    A packet leaves the socket once: either the worker received it, or ``recall`` did. So a recalled task never runs.
    ``recall`` takes out all packets and sends none of them again, so the worker sees rising numbers.
"""

import collections
import math
import socket
import struct
import threading
import time
from collections.abc import Iterable
from typing import Any

from ..._states import Lane
from ..._wire.frames import CANCEL, CONTROL, SETUP, STACKS, STREAM, TASK
from ..base import Attempt, WorkerInfo
from .child import Child
from .encoder import Encoded, bulk_frame, definition_frame, forget_frame, header
from .functions import Function
from .outbox import Outbox
from .reader import Reader
from .usage import UNKNOWN, MemoryUse, private_bytes_of, usage_of

__all__ = ["OVER", "Worker"]

OVER = (None, 0)  #: the attempt is no longer in the lane
_GRACE = struct.Struct("<d")
_NUMBER = 3  # index of the sequence number in a task header


class Worker:
    """A started process, and the tasks that are in it."""

    def __init__(self, name: str, child: Child, loop: Any, claim_lock: threading.RLock) -> None:
        self.name = name
        self.pid = child.pid
        self.label = f"{name} (pid {child.pid})"
        self.child = child
        self.state = "starting"  #: then "idle", "busy", "retiring" (it takes no more), "dead"
        self.reader = Reader(child.stream)
        self.outbox = Outbox(loop, child.stream)
        self.known: set[int] = set()  #: functions it has been sent
        self.was_starting = self.was_busy = False  #: its state when it died
        self.tasks_done = 0
        self.idle_since = 0.0
        self.is_unwanted = False  #: replace it when its task is over
        self.is_poisoned = False  #: an interrupt was raised in it
        self.is_heavy = False  #: it was seen over its memory limit, in the middle of a task
        self.exceeded: dict[int, MemoryUse] = {}  #: tasks that it is being killed for because of what they took
        self.failure = ""  #: what was wrong with what it sent
        self.refusal: Any = None  #: why its initializer failed: (type name, message, traceback)
        self.doomed: set[int] = set()  #: tasks that it is being killed for
        self.timers: dict[int, Any] = {}  #: kills to come, by task
        self.start_timer: Any = None
        self.start_round = self.failures_before = 0  #: of the breaker, when it was started
        self.ready_at = -math.inf  #: when it said hello, on the loop's clock
        self.has_begun = False  #: it died with a task begun, at whatever time
        self._loop = loop
        self._lock = threading.RLock()  # the collector may call us from inside (design/0002)
        self._claim_lock = claim_lock
        self._is_open = True
        self._last = 0
        self._in_flight: dict[int, Attempt] = {}
        self._functions: dict[int, Function] = {}  #: of what is in flight, to measure and foresee; home loop only
        self.last_cost = math.inf  #: what the task that was sent last is expected to take, in seconds
        self._backlog: collections.deque[bytes] = collections.deque()
        self._is_watching = False

    def set_up(self, setup: bytes) -> None:
        """Send what the worker should set up before it says hello."""
        self.outbox.push(STREAM.pack(SETUP, 0, len(setup)), setup)

    def adopt_pidfd(self, fd: int) -> None:
        """Take the worker's own pidfd in place of ours; under the lock, as ``kill`` may come from any thread."""
        with self._lock:
            self.child.adopt_pidfd(fd)

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
        known = self._functions
        return sum([known[n].seconds if n in known else math.inf for n in list(self._in_flight)])

    def is_stuck(self, seconds: float) -> bool:
        """Say whether the running task takes longer than that; its function then counts as slow."""
        number = next(iter(self._in_flight), 0)
        started = self.started(number) if number else None
        elapsed = time.monotonic() - started if started is not None else 0.0
        if elapsed <= seconds:
            return False
        if number in self._functions:
            self._functions[number].measure(elapsed)
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
            page = self.child.page
            if number != next(iter(self._in_flight), 0) or (page is not None and page.last() < number):
                return None
            attempt = self._in_flight.pop(number)
        self.is_heavy = False
        function = self._functions.pop(number, None)
        if function is not None:
            function.measure(seconds)
        attempt.lane_data = OVER
        return attempt

    def take_all(self) -> list[tuple[int, Attempt]]:
        """Take out what a dead worker has not answered, oldest first; nothing can be recalled from here on."""
        with self._lock:
            left = list(self._in_flight.items())
            self._in_flight.clear()
            self._backlog.clear()
        for _, attempt in left:
            attempt.lane_data = OVER
        return left

    # -- to it

    def send(self, attempt: Attempt, encoded: Encoded) -> bool:
        """Send ``attempt``; what the socket does not take goes out when it does. False: it was recalled meanwhile."""
        function = encoded.function
        if function is not None and function.number not in self.known:
            self.known.add(function.number)
            self.outbox.push(definition_frame(function))
        with self._lock:
            self._last = number = self._last + 1
            packet, bulk = header(attempt, encoded, number)
            sent = (self, number)
            with self._claim_lock:
                if attempt.lane_data is not None:
                    return False
                attempt.lane_data = sent
            self._in_flight[number] = attempt
            attempt.worker = self.label
            if self._backlog or not self._put(packet):
                self._backlog.append(packet)
        self.last_cost = math.inf
        if function is not None:
            self._functions[number] = function
            self.last_cost = function.seconds
        if bulk:
            self.outbox.push(bulk_frame(number, bulk), *bulk)
        if self._backlog:
            self._watch()
        return True

    def _put(self, packet: bytes) -> bool:
        """Hand ``packet`` to the kernel. False: the socket is full. A dead worker's packet goes nowhere, like it."""
        try:
            self.child.tasks.send(packet, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:  # its death is noticed through the pidfd, and gives this task back
            pass
        return True

    def _watch(self) -> None:
        """Have the backlog sent as soon as the socket takes it."""
        if not self._is_watching and self._is_open:
            self._is_watching = True
            self._loop.add_writer(self.child.tasks.fileno(), self._send_backlog)

    def _send_backlog(self) -> None:
        with self._lock:
            while self._backlog and self._put(self._backlog[0]):
                self._backlog.popleft()
            if self._backlog:
                return
        self._is_watching = False
        self._loop.remove_writer(self.child.tasks.fileno())

    def forget_functions(self, numbers: Iterable[int]) -> None:
        """Have the worker forget functions; those tasks that use them are ahead in the stream."""
        for number in numbers:
            if number in self.known:
                self.known.discard(number)
                self.outbox.push(forget_frame(number))

    # -- taking back

    def started(self, number: int) -> float | None:
        """Return when task ``number`` began, None if it has not."""
        with self._lock:
            page = self.child.page
            return page.started(number) if page is not None else None

    def recall(self, number: int) -> tuple[bool, list[Attempt]]:
        """Take task ``number`` back from the kernel, and with it all that the worker has not received.

        Return whether the task was among them (then the worker never saw it and never will), and the others, oldest
        first, which are unsent again.
        """
        with self._lock:
            if number not in self._in_flight or not self._is_open:
                return False, []
            wanted = self._in_flight[number]
            taken = self._take_back()
            if wanted not in taken:
                return False, taken
            wanted.lane_data = OVER
            taken.remove(wanted)
            return True, taken

    def recall_all(self) -> list[Attempt]:
        """Take back everything that the worker has not received, oldest first."""
        with self._lock:
            return self._take_back() if self._is_open else []

    def _take_back(self) -> list[Attempt]:
        """Receive what the worker has not: the kernel decides, packet by packet, who gets which.

        The worker may receive one between two of ours. So none is sent again: behind that one it would come with a
        lower number, and the start page tells by rising numbers what has begun.
        """
        packets: list[bytes] = []
        try:
            while True:
                packets.append(self.child.kept.recv(1 << 17, socket.MSG_DONTWAIT))
        except OSError:  # EAGAIN: that was all
            pass
        packets.extend(self._backlog)
        self._backlog.clear()
        attempts = [self._in_flight.pop(TASK.unpack_from(packet)[_NUMBER]) for packet in packets]
        for attempt in attempts:
            attempt.lane_data = None
        return attempts

    # -- stopping

    def fresh_bytes(self) -> int:
        """Return what it held before its first task; 0 if that is not known."""
        with self._lock:
            page = self.child.page
            return page.fresh() if page is not None else 0

    def memory(self) -> MemoryUse | None:
        """Return what it holds and what of that its running task brought; None between tasks, or if nobody knows."""
        with self._lock:
            page = self.child.page
            if page is None:
                return None
            number, fresh, before = page.last(), page.fresh(), page.weight()
            if number not in self._in_flight:
                return None
            total = private_bytes_of(self.pid)
            if total is None or page.last() != number or self.child.has_ended():  # as in describe
                return None
            return MemoryUse(number, fresh, before, total)

    def ask_to_stop(self, number: int, grace: float) -> None:
        """Ask for the end of task ``number``; a full socket means that the kill will have to do."""
        self._say(CONTROL.pack(CANCEL, number) + _GRACE.pack(grace))

    def ask_for_stacks(self, request: int) -> bool:
        """Ask what it does now."""
        return self._say(CONTROL.pack(STACKS, request))

    def _say(self, message: bytes) -> bool:
        with self._lock:
            if not self._is_open:
                return False
            try:
                self.child.control.send(message, socket.MSG_DONTWAIT)
            except OSError:
                return False
            return True

    def doom(self) -> bool:
        """Note that everything in it dies by our hand. False: there is nothing in it, or it was doomed before."""
        with self._lock:
            is_new = bool(self._in_flight) and not self.doomed
            self.doomed.update(self._in_flight)
            return is_new

    def kill(self) -> None:
        """End the process and its group now."""
        with self._lock:
            if self._is_open:
                self.child.kill()

    def leave(self) -> None:
        """Let the process end by itself: it runs its exit handlers and leaves."""
        self.state = "retiring"
        with self._lock:
            if self._is_open:
                self.child.tasks.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close every descriptor; the process has ended."""
        self.state = "dead"
        if self._is_watching:
            self._is_watching = False
            self._loop.remove_writer(self.child.tasks.fileno())
        self.outbox.close()
        with self._lock:
            self._is_open = False
            self.child.close()

    def discard(self) -> None:
        """End a process that nobody listens to, and close every descriptor."""
        self.child.discard()
        self.close()

    def forget(self) -> None:
        """In a forked child: close its copies of our descriptors, and touch nothing else."""
        self._is_open = False
        self.child.forget()

    def describe(self) -> WorkerInfo:
        """Describe it at this instant."""
        usage = usage_of(self.pid)
        with self._lock:
            page = self.child.page
            running = self._in_flight.get(page.last()) if page is not None else None
            if not self._is_open or self.child.has_ended():  # its pid may be a stranger's by now
                usage = UNKNOWN
        state = "stopped" if usage.is_stopped else self.state
        task_id, task_name = (running.task_id, running.name) if running is not None else (None, None)
        return WorkerInfo(self.name, Lane.PROCESS, self.pid, state, task_id, task_name, self.tasks_done,
                          usage.resident_bytes, usage.cpu_seconds)  # fmt: skip
