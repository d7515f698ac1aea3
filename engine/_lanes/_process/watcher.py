"""Listens to one worker: results, control messages, stderr, and its death.

Guarantees
    Home loop only; every read is non-blocking and bounded. Order at a death: results are read to the end, then the
    control socket, then stderr, and only then is the death reported: what the worker finished counts.
    A result that says so (``SPOKE``) is reported after the control messages that were sent before it.
"""

import asyncio
import logging
import pickle
import socket
import struct
from collections.abc import Callable
from typing import Any, Protocol

from ..._wire.frames import CONTROL, CONTROL_BYTES, HEAVY, HELLO, PRINT, PROGRESS, REFUSED, SPOKE, STACKS, FrameError
from .crash import Stderr
from .reader import Frame
from .reports import forward_print, forward_report, read_fields
from .worker import Worker

__all__ = ["Events", "Watcher"]

log = logging.getLogger("engine")

_MESSAGE_BYTES = CONTROL_BYTES + 4096
_MANY = 256  # reads in one turn, so that a worker that never stops talking does not hold the loop
_FULL_SOCKET = 16  # reads that empty a full socket buffer (208 KiB by default, 64 KiB at a time), and some
_LINGER = 0.5  # seconds that a worker may live after its stream ended


class Events(Protocol):
    """What a watcher reports."""

    def on_hello(self, worker: Worker) -> None:
        """The worker can take tasks."""

    def on_answer(self, worker: Worker, frame: Frame) -> None:
        """The worker answered a task."""

    def on_heavy(self, worker: Worker) -> None:
        """The worker is over its memory limit and takes no further task."""

    def on_nonsense(self, worker: Worker, problem: str) -> None:
        """The worker sent what is no frame."""

    def on_stacks(self, worker: Worker, request: int, text: str) -> None:
        """The worker says what it does."""

    def on_progress(self, worker: Worker, task_id: int, done: float, total: float | None, message: str) -> None:
        """A task says how far it is."""

    def on_death(self, worker: Worker) -> None:
        """The process has ended, and everything that it sent was reported."""


class Watcher:
    """The readers of one worker on the home loop."""

    def __init__(self, worker: Worker, loop: asyncio.AbstractEventLoop, events: Events) -> None:
        self.worker = worker
        self.stderr = Stderr(worker.child.stderr)
        self._loop = loop
        self._events = events
        self._watched: set[int] = set()
        self._linger: Any = None
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
        if self._linger is not None:
            self._linger.cancel()
        while self._watched:
            self._loop.remove_reader(self._watched.pop())

    # -- results

    def _read_results(self) -> None:
        try:
            frames = self.worker.reader.read()
        except BlockingIOError:
            return
        except FrameError as error:
            self._unwatch(self.worker.child.stream.fileno())
            self._events.on_nonsense(self.worker, str(error))
            return
        except OSError:  # ECONNRESET: it was killed with tasks unread
            self._end_of_stream()
            return
        for frame in frames:
            if frame.flags & SPOKE:
                self._drain_control()
            self._events.on_answer(self.worker, frame)
        if self.worker.reader.is_at_end:
            self._end_of_stream()

    def read_results_now(self, until: Callable[[], bool]) -> None:
        """Report what lies in the kernel already, ``until`` that is true; a late timer asks before it strikes."""
        for _ in range(_FULL_SOCKET):
            if until() or self.worker.child.stream.fileno() not in self._watched or self.worker.reader.is_at_end:
                return
            self._read_results()

    def _end_of_stream(self) -> None:
        """Expect its death; a task may also have closed the worker's descriptors, and then it is of no use."""
        self._unwatch(self.worker.child.stream.fileno())
        if self._linger is None and self.worker.state != "dead":
            self._linger = self._loop.call_later(_LINGER, self._closed_but_alive)

    def _closed_but_alive(self) -> None:
        self._events.on_nonsense(self.worker, "it closed its result stream")

    def _drain_results(self) -> None:
        while not self.worker.reader.is_at_end:
            try:
                frames = self.worker.reader.read()
            except (BlockingIOError, FrameError, OSError):
                return
            for frame in frames:
                self._events.on_answer(self.worker, frame)

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
        try:
            if self.worker.state == "starting" or self.worker.was_starting:
                message = self._receive_with_descriptor()
            else:
                message = self._control.recv(_MESSAGE_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            message = b""
        if not message:
            self.has_lost_control = True
            self._unwatch(self._control.fileno())
            return False
        kind, number = CONTROL.unpack_from(message)
        self._handle(kind, number, message[CONTROL.size :])
        return True

    def _receive_with_descriptor(self) -> bytes:
        flags = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
        message, ancillary, _, _ = self._control.recvmsg(_MESSAGE_BYTES, socket.CMSG_SPACE(4), flags)
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                self._unwatch(self.worker.child.pidfd)
                self.worker.adopt_pidfd(struct.unpack("i", data[:4])[0])
                self._watch(self.worker.child.pidfd, self._notice_death)
        # Without one (MSG_CTRUNC: no descriptor was free here) the pidfd of the start stays in use.
        return message

    def _handle(self, kind: int, number: int, body: bytes) -> None:
        worker = self.worker
        if kind == HELLO:
            if worker.state == "starting":  # else its death was heard of first, and it takes no task
                self._events.on_hello(worker)
        elif kind == REFUSED:
            worker.refusal = _refusal(body)
        elif kind == HEAVY:
            self._events.on_heavy(worker)
        elif kind == STACKS:
            self._events.on_stacks(worker, number, body.decode("utf-8", "replace"))
        elif kind == PROGRESS:
            fields = read_fields(body)
            if fields is not None:
                self._events.on_progress(worker, number, *fields)
        else:
            if kind == PRINT and body[:1] == b"\x02":
                self.stderr.keep(body[1:])
            self._forward(lambda: forward_report(kind, number, body, worker.name))

    @staticmethod
    def _forward(report: Callable[[], None]) -> None:
        """Pass on what a worker said; a handler, filter or stream of user code that raises costs nothing else."""
        try:
            report()
        except Exception:
            log.exception("what a worker process said could not be passed on")

    # -- stderr and death

    def _read_stderr(self) -> None:
        lines, is_open = self.stderr.read()
        if not is_open:
            self._unwatch(self.worker.child.stderr)
        if lines:
            self._forward(lambda: forward_print(2, lines, f"[{self.worker.name}] "))

    def _notice_death(self) -> None:
        worker = self.worker
        if not worker.child.has_ended():
            return
        worker.was_starting = worker.state == "starting"
        worker.was_busy = worker.state == "busy"
        worker.state = "dead"
        self._drain_results()
        self._drain_control()
        lines = self.stderr.drain()
        if lines:
            self._forward(lambda: forward_print(2, lines, f"[{self.worker.name}] "))
        self.stop()
        self._events.on_death(self.worker)


def _refusal(body: bytes) -> Any:
    try:
        return pickle.loads(body)  # three texts, by ``_worker.main``
    except Exception:  # cut short by its death
        return ("Exception", "unknown", "")
