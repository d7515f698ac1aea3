"""Listens to one worker: results, control messages, stderr, and its death.

Guarantees
    Home loop only; every read is non-blocking and bounded. Order at a death: results are read to the end, then the
    control socket, then stderr, and only then is the death reported: what the worker finished counts.
    A result that says so (``SPOKE``) is reported after the control messages that were sent before it.
    What has arrived is reported, in order, also where Ctrl-C is raised in between.
    After the first break of the protocol (``worker.failure``) nothing more of that worker is believed.
    A descriptor that a worker sends is closed, but for the pidfd of its hello (design/0008).
"""

import asyncio
import collections
import contextlib
import contextvars
import os
import socket
import struct
from collections.abc import Callable, Iterable
from typing import Any

from ..._wire.frames import CONTROL, CONTROL_BYTES, HELLO, PLAIN, SPOKE, VALUE, FrameError
from .child import is_pidfd_of
from .crash import Stderr
from .hearing import Events, Hearing
from .native import NativeWorker
from .reader import Frame
from .stall import StallWatch
from .worker import Worker

__all__ = ["Watcher"]

_MESSAGE_BYTES = CONTROL_BYTES + 4096
_MANY = 256  # reads in one turn, so that a worker that never stops talking does not hold the loop
_FULL_SOCKET = 16  # reads that empty a full socket buffer (208 KiB by default, 64 KiB at a time), and some
_SHORT_BYTES = 16 << 10  # read at once: answers that are left to lie take no more of the socket's buffer
_LINGER = 0.5  # seconds that a worker may live after its stream or control socket ended


class Watcher:
    """The readers of one worker on the home loop."""

    def __init__(self, worker: Worker, loop: asyncio.AbstractEventLoop, events: Events) -> None:
        assert isinstance(worker, NativeWorker)
        self.worker = worker
        self.stderr = Stderr(worker.child.stderr)
        self._hearing = Hearing(worker, events, self.stderr)
        self._loop = loop
        self._events = events
        self._watched: set[int] = set()
        self._linger: Any = None
        self._unreported: collections.deque[Frame] = collections.deque()
        self._stall = StallWatch(
            loop, worker.reader, worker.child.pid, read=self._read_results, break_off=self._break_off
        )
        self._is_collecting = False  #: answers lie in the kernel until somebody asks for them
        self._read_bytes = 0  #: by the last read
        self.has_lost_control = False
        child = worker.child
        self._control = child.control
        try:
            self._watch(child.stream.fileno(), self._read_results)
            self._watch(child.control.fileno(), self.read_control)
            self._watch(child.stderr, self._read_stderr)
            self._watch(child.pidfd, self._notice_death)
        except OSError:  # the kernel will not watch more (fs.epoll.max_user_watches)
            self.stop()
            raise

    def _watch(self, fd: int, callback: Callable[[], None]) -> None:
        self._loop.add_reader(fd, callback)
        self._watched.add(fd)

    def _unwatch(self, fd: int) -> None:
        if fd in self._watched:
            self._watched.discard(fd)
            self._loop.remove_reader(fd)

    def stop(self) -> None:
        """Take every reader off the loop."""
        self._stall.stop()
        self._unreported.clear()
        self._is_collecting = False
        if self._linger is not None:
            self._linger.cancel()
        while self._watched:
            self._loop.remove_reader(self._watched.pop())

    # -- results

    def collect(self, is_wanted: bool) -> bool:
        """Let answers lie in the kernel, for ``read_collected`` to take many at once; or read each as it comes again.

        Return whether they are left to lie: not where they are long, for the worker would wait for room.
        """
        stream = self.worker.child.stream.fileno()
        if is_wanted and self._read_bytes <= _SHORT_BYTES and not self.worker.reader.is_in_a_frame:
            if stream in self._watched:
                self._unwatch(stream)
                self._is_collecting = True
        elif self._is_collecting:
            with contextlib.suppress(OSError):  # the kernel will not watch more, for now
                self._watch(stream, self._read_results)
                self._is_collecting = False
        return self._is_collecting

    def read_collected(self) -> None:
        """Report the answers that lie in the kernel, if they are left there."""
        if self._is_collecting:
            self._read_results()

    def _read_results(self) -> None:
        reader = self.worker.reader
        arrived = reader.arrived
        try:
            frames = reader.read()
            self._read_bytes = reader.arrived - arrived
        except BlockingIOError:
            return
        except FrameError as error:
            self._break_off(str(error))
            return
        except OSError:  # ECONNRESET: it was killed with tasks unread
            self._end_of_stream()
            return
        self._report(frames)
        if reader.broken is not None:
            self._break_off(str(reader.broken))
        elif reader.is_at_end:
            self._end_of_stream()
        else:
            self._stall.arm()

    def _report(self, frames: Iterable[Frame] = ()) -> None:
        """Report ``frames``, behind those that are left from a turn that Ctrl-C broke off while a task was pickled."""
        self._unreported.extend(frames)
        try:
            while self._unreported and not self.worker.failure:
                row = self._take_row()
                if len(row) > 1:
                    self._events.on_row(self.worker, row)
                    continue
                frame = row[0] if row else self._unreported.popleft()
                if frame.flags & SPOKE:
                    self._drain_control()
                if not self.worker.failure:
                    self._events.on_answer(self.worker, frame)
        finally:
            if self._unreported and not self.worker.failure:
                self._loop.call_soon(self._report, context=contextvars.Context())

    def _take_row(self) -> list[Frame]:
        """Take the frames that come next as far as they are plain values of tasks, and nothing else."""
        row: list[Frame] = []
        unreported = self._unreported
        while unreported and unreported[0].flags == PLAIN and unreported[0].kind == VALUE:
            row.append(unreported.popleft())
        return row

    def _break_off(self, problem: str) -> None:
        """Believe nothing more of a worker that broke the protocol, and have it replaced."""
        self._is_collecting = False
        self._unwatch(self.worker.child.stream.fileno())
        self._unwatch(self._control.fileno())
        if not self.worker.failure:
            self._events.on_nonsense(self.worker, problem)

    def read_results_now(self, until: Callable[[], bool]) -> None:
        """Report what lies in the kernel already, ``until`` that is true; a late timer asks before it strikes."""
        for _ in range(_FULL_SOCKET):
            is_over = not self._is_collecting and self.worker.child.stream.fileno() not in self._watched
            if until() or is_over or self.worker.reader.is_at_end:
                return
            self._read_results()

    def _end_of_stream(self) -> None:
        """Expect its death; a task may also have closed the worker's descriptors, and then it is of no use."""
        self._is_collecting = False
        self._unwatch(self.worker.child.stream.fileno())
        self._expect_death("it closed its result stream")

    def _expect_death(self, problem: str) -> None:
        if self._linger is None and self.worker.state != "dead":
            self._linger = self._loop.call_later(_LINGER, self._break_off, problem)

    def _drain_results(self) -> None:
        self._report()
        while not (self.worker.reader.is_at_end or self.worker.failure):
            try:
                frames = self.worker.reader.read()
            except (BlockingIOError, OSError):
                return
            except FrameError as error:
                self._break_off(str(error))
                return
            self._report(frames)

    # -- control

    def read_control(self) -> None:
        """Handle what waits on the control socket, a bounded number of messages."""
        for _ in range(_MANY):
            if not self._read_message():
                return

    def _drain_control(self) -> None:
        for _ in range(_MANY * 16):
            if not self._read_message():
                return

    def _read_message(self) -> bool:
        if self.worker.failure:
            return False
        try:
            message, descriptors, flags = self._receive()
        except BlockingIOError:
            return False
        except OSError:
            message, descriptors, flags = b"", [], 0
        if not message and not descriptors:
            self.has_lost_control = True
            self._unwatch(self._control.fileno())
            self._expect_death("it closed its control socket")
            return False
        problem = self._handle(message, descriptors, flags)
        for fd in descriptors:
            os.close(fd)
        if problem:
            self._break_off(problem)
        return not problem

    def _receive(self) -> tuple[bytes, list[int], int]:
        """Return one message, the descriptors that came with it, and the flags of ``recvmsg``."""
        is_new = self.worker.state == "starting" or self.worker.was_starting
        space = socket.CMSG_SPACE(4) if is_new else 0  # without space the kernel closes what is sent, and says so
        how = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
        message, ancillary, flags, _ = self._control.recvmsg(_MESSAGE_BYTES, space, how)
        descriptors: list[int] = []
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.extend(struct.unpack(f"{len(data) // 4}i", data[: len(data) // 4 * 4]))
        return message, descriptors, flags

    def _handle(self, message: bytes, descriptors: list[int], flags: int) -> str:
        """Do what ``message`` says; return what is wrong with it, empty if nothing is. Take out what is kept."""
        if flags & socket.MSG_TRUNC:
            return f"it sent a control message of more than {_MESSAGE_BYTES} bytes"
        if len(message) < CONTROL.size:
            return f"it sent a control message of {len(message)} bytes"
        kind, number = CONTROL.unpack_from(message)
        body = message[CONTROL.size :]
        worker = self.worker
        if kind == HELLO and (worker.state == "starting" or worker.was_starting):
            if worker.state != "starting":  # its death was heard of first, and it takes no task
                return ""
            if descriptors and is_pidfd_of(descriptors[0], worker.child.pid):
                self._unwatch(worker.child.pidfd)
                worker.adopt_pidfd(descriptors.pop(0))
                self._watch(worker.child.pidfd, self._notice_death)
            # Without one (MSG_CTRUNC: no descriptor was free here) the pidfd of the start stays in use.
            self._events.on_hello(worker)
        elif descriptors or flags & socket.MSG_CTRUNC:
            return "it sent a descriptor that nobody asked for"
        else:
            return self._hearing.hear(kind, number, body)
        return ""

    # -- stderr and death

    def _read_stderr(self) -> None:
        lines, is_open = self.stderr.read()
        if not is_open:
            self._unwatch(self.worker.child.stderr)
        if lines:
            self._hearing.pass_on(lines)

    def _notice_death(self) -> None:
        worker = self.worker
        if not worker.child.has_ended():
            return
        worker.note_death()
        self._drain_results()
        self._drain_control()
        lines = self.stderr.drain()
        if lines:
            self._hearing.pass_on(lines)
        self.stop()
        self._events.on_death(self.worker)
