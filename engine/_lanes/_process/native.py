"""A worker of our own protocol: a child process behind three sockets, a start page and a lifeline.

Guarantees
    Shared: ``_in_flight``, ``_backlog``, ``_is_open``, and the descriptors that ``send``, ``recall``, ``started`` and
    ``kill`` use.  Guarded by: ``_lock``, held for a few dict operations and non-blocking system calls.
    ``recall``, ``started``, ``ask_to_stop`` and ``kill`` may be called from any thread; the rest is the home loop's.
    A task is begun by the worker or taken back by ``recall``, never both: the start page decides. What is taken back is
    not sent again under its number, so the worker sees rising numbers.
"""

import collections
import contextlib
import socket
import struct
import threading
from collections.abc import Iterable
from typing import Any

from ..._wire.frames import CANCEL, CHUNK, CONTROL, FLUSH, INLINE_BYTES, SETUP, STACKS, STREAM
from ..base import Attempt
from .child import Child, ExitStatus
from .encoder import Encoded, bulk_frame, definition_frame, forget_frame, header
from .outbox import Outbox
from .reader import Reader
from .usage import MemoryUse, private_bytes_of
from .worker import OVER, Worker

__all__ = ["NativeWorker"]

_GRACE = struct.Struct("<d")
_HOW = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL  # where SIGPIPE has its default, a dead worker would end the program
_SCRAP = memoryview(bytearray(1 << 17))  # what is taken out of sockets; nobody reads it
_FENCE = threading.Lock()  # between our store to a page and our load from it; the worker has one of its own

TASKS_IN_A_PACKET = 64


class NativeWorker(Worker):
    """A started process of ours."""

    def __init__(self, name: str, child: Child, loop: Any, claim_lock: threading.RLock) -> None:
        super().__init__(name, child.pid, claim_lock)
        self.child = child
        self.reader = Reader(child.stream)
        self.outbox = Outbox(loop, child.stream)
        self.known: set[int] = set()  #: functions it has been sent
        self._loop = loop
        self._is_open = True
        self._backlog: collections.deque[bytes] = collections.deque()
        self._is_watching = False
        self._is_holding = False  #: packets are collected
        self._forbidden = 0  #: no task up to this one begins any more, unless it has

    def set_up(self, setup: bytes) -> None:
        """Send what the worker should set up before it says hello."""
        self.outbox.push(STREAM.pack(SETUP, 0, len(setup)), setup)

    def adopt_pidfd(self, fd: int) -> None:
        """Take the worker's own pidfd in place of ours; under the lock, as ``kill`` may come from any thread."""
        with self._lock:
            self.child.adopt_pidfd(fd)

    # -- to it

    def send(self, attempt: Attempt, encoded: Encoded) -> bool:
        """Send ``attempt``; what the socket does not take goes out when it does. False: it was recalled meanwhile."""
        return bool(self.send_row([(attempt, encoded)]))

    def send_row(self, row: list[tuple[Attempt, Encoded]]) -> int:
        """Send attempts of one call, as ``send`` each; return how many were not recalled meanwhile."""
        if not row:
            return 0
        last = None
        for _, (function, _, _) in row:  # of one call all the same, but it may have got a new number in between
            if function is not last and function is not None and function.number not in self.known:
                self.known.add(function.number)
                self.outbox.push(definition_frame(function))
            last = function
        packets: list[bytes] = []
        bulks: list[tuple[int, list[Any]]] = []
        with self._lock:
            with self._claim_lock:
                for attempt, encoded in row:
                    if attempt.lane_data is not None:
                        continue
                    number = self._last + 1
                    packet, bulk = header(attempt, encoded, number)
                    attempt.lane_data = (self, number)
                    self._last = number
                    self._in_flight[number] = attempt
                    attempt.worker = self.label
                    packets.append(packet)
                    if encoded.function is not None and not encoded.flags & CHUNK:
                        self._functions[number] = encoded.function
                    if bulk:
                        bulks.append((number, bulk))
            if self._is_holding or self._backlog:
                self._backlog.extend(packets)
            else:
                for at, packet in enumerate(packets):
                    if not self._put(packet):
                        self._backlog.extend(packets[at:])
                        break
        for number, bulk in bulks:
            self.outbox.push(bulk_frame(number, bulk), *bulk)
        self.last_cost = self._cost(self._last, row[-1][0])
        if self._backlog and not self._is_holding:
            self._watch()
        return len(packets)

    def hold(self) -> None:
        """Collect what is sent until ``flush``, for as few packets as it fits: each costs as much as a task."""
        self._is_holding = True

    def flush(self) -> None:
        """Send what was collected since ``hold``, if that was called."""
        if self._is_holding:
            self._is_holding = False
            if self._backlog:
                self._send_backlog()

    def _put(self, packet: bytes) -> bool:
        """Hand ``packet`` to the kernel. False: the socket is full. A dead worker's packet goes nowhere, like it."""
        try:
            self.child.tasks.send(packet, _HOW)
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
            while packets := self._take_a_packet():
                if not self._put(b"".join(packets)):
                    self._backlog.extendleft(reversed(packets))
                    break
            is_done = not self._backlog
        if not is_done:
            self._watch()
        elif self._is_watching:
            self._is_watching = False
            self._loop.remove_writer(self.child.tasks.fileno())

    def _take_a_packet(self) -> list[bytes]:
        """Take the tasks that go into the next packet out of the backlog.

        A signal handler, as asyncio's for Ctrl-C, may take back all that is in the backlog between any two steps; what
        is sent or put back all the same may not begin, so the worker skips it.
        """
        backlog = self._backlog
        if len(backlog) <= TASKS_IN_A_PACKET:
            packets = list(backlog)
            if sum(map(len, packets)) <= INLINE_BYTES:
                backlog.clear()
                return packets
        packets = []
        size = 0
        try:
            while len(packets) < TASKS_IN_A_PACKET:
                packet = self._backlog.popleft()
                size += len(packet)
                if packets and size > INLINE_BYTES:
                    self._backlog.appendleft(packet)
                    break
                packets.append(packet)
        except IndexError:  # that was all
            pass
        return packets

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

    def last_begun(self) -> int:
        """Return the number of the last task begun, from the start page."""
        page = self.child.page
        return page.last() if page is not None else 0

    def recall(self, number: int) -> tuple[bool, list[Attempt]]:
        """Take task ``number`` back, and with it all that the worker has not begun.

        Return whether the task was among them (then it never begins), and the others, oldest first, which are unsent
        again.
        """
        with self._lock:
            wanted = self._in_flight.get(number)
            taken = self._take_back() if wanted is not None else []
            if wanted is None or wanted not in taken:
                return False, taken
            wanted.lane_data = OVER
            taken.remove(wanted)
            return True, taken

    def recall_all(self) -> list[Attempt]:
        """Take back everything that the worker has not begun, oldest first."""
        with self._lock:
            return self._take_back()

    def _take_back(self) -> list[Attempt]:
        """Have the page say what the worker has begun and that it may begin no more, then empty the socket; see 0004.

        In this order: the worker may receive a packet between two of ours, and if it could still begin that one, those
        that we took out, with lower numbers, would seem begun. For the same reason nothing is sent again.
        """
        page = self.child.page
        if page is None or not self._in_flight or not self._is_open:
            return []
        page.forbid(self._last)
        self._forbidden = self._last
        with _FENCE:
            last = page.last()
        self._backlog.clear()
        try:
            while True:
                self.child.kept.recv_into(_SCRAP, 0, socket.MSG_DONTWAIT)
        except OSError:  # EAGAIN: that was all
            pass
        attempts = [self._in_flight.pop(number) for number in list(self._in_flight) if number > last]
        for attempt in attempts:
            attempt.lane_data = None
        return attempts

    def take_skipped(self, number: int) -> Attempt | None:
        """Take out task ``number``, which the worker says it has not begun.

        None: it was taken back before. KeyError: nobody had told the worker not to begin it.
        """
        with self._lock:
            if number > self._forbidden and number not in self.timers and number not in self.doomed:
                raise KeyError(number)
            if number != next(iter(self._in_flight), 0):
                return None
            self._functions.pop(number, None)
            attempt = self._in_flight.pop(number)
            attempt.lane_data = None
            return attempt

    def stop_chunk(self, number: int) -> None:
        """Have chunk ``number`` begin no further item, and send what is finished."""
        with self._lock:
            if self.child.page is not None:
                self.child.page.forbid_items(number)
        self._say(CONTROL.pack(FLUSH, number))

    def items_begun(self, number: int) -> int:
        """Return how many items of chunk ``number`` have begun."""
        with self._lock:
            page = self.child.page
            return page.items_begun(number) if page is not None else 0

    def take_all(self) -> list[tuple[int, Attempt]]:
        """Take out what a dead worker has not answered, what was never sent included."""
        with self._lock:
            self._backlog.clear()
            return super().take_all()

    # -- stopping

    def fresh_bytes(self) -> int:
        """Return what it held before its first task, from the start page."""
        with self._lock:
            page = self.child.page
            return page.fresh() if page is not None else 0

    def memory(self) -> MemoryUse | None:
        """Return what it holds now, and what it held before its running task, from the start page."""
        with self._lock:
            page = self.child.page
            if page is None:
                return None
            number, fresh, before = page.last(), page.fresh(), page.weight()
            if number not in self._in_flight:
                return None
            total = private_bytes_of(self.child.pid)
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
                self.child.control.send(message, _HOW)
            except OSError:
                return False
            return True

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

    def has_ended(self) -> bool:
        """Ask the pidfd; asked under the lock, as ``close`` may come meanwhile."""
        with self._lock:
            return not self._is_open or self.child.has_ended()

    def exit_status(self) -> ExitStatus:
        """Reap the ended process, and return how it ended."""
        return self.child.reap()

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
        self.outbox.close()
        self.child.discard()
        self.close()

    def bury(self, seconds: float) -> None:
        """Reap the killed process if it is gone within ``seconds``, and close every descriptor: no loop turns."""
        if self.child.has_ended(seconds):
            self.child.reap()
        with contextlib.suppress(RuntimeError):  # "Event loop is closed": then nothing is watched any more
            self.outbox.close()
        with contextlib.suppress(RuntimeError):  # as above
            self.close()

    def forget(self) -> None:
        """In a forked child: close its copies of our descriptors, and touch nothing else."""
        self._is_open = False
        self.child.forget()
