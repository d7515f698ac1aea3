"""A worker over loky: one executor, one process, at most one task in it.

Guarantees
    Shared: ``_executor``, ``_connection``, ``_began``, ``_handed_over``, ``_is_doomed``, ``_unanswered`` and, of the
    base, ``_in_flight``.  Guarded by: ``_lock``.  ``started``, ``ask_to_stop``, ``ask_for_stacks``, ``kill``,
    ``describe`` and ``note_*`` may be called from any thread; the rest is the home loop's. Nothing that blocks is
    called: what does is the keeper's.
    No function's cost is known here (``_functions`` stays empty), so nothing is sent ahead: at most one task is in it.
    A task that was handed over cannot be recalled. Its beginning is heard of before its answer and before its worker's
    death is reported, so a dead worker's task that was not heard of has not begun.
"""

import contextlib
import math
import pickle
import struct
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from ..._mailbox import Mailbox
from ..._wire.frames import CANCEL, CONTROL, NOT_DECODED, NOT_ENCODED, PLAIN, STACKS, VALUE
from ..._worker.failures import describe
from ..._worker.portable import Answer, Call, run_call
from .._process.child import ExitStatus
from .._process.encoder import Encoded
from .._process.reader import Frame
from .._process.worker import Worker
from ..base import Attempt
from .executor import Executor, is_loss
from .signals import unbroken

__all__ = ["LokyWorker"]

_GRACE = struct.Struct("<d")
_MANY_REQUESTS = 32  #: stacks asked for and not got: asking on would fill the pipe, and then block


class LokyWorker(Worker):
    """A process of loky's."""

    def __init__(
        self, name: str, setup: bytes, env: dict[str, str], home: Mailbox, claim_lock: threading.RLock
    ) -> None:
        super().__init__(name, None, claim_lock)
        self.setup = setup
        self.env = env
        self.home = home
        self.known: set[int] = set()  #: functions it has been sent
        self.status: ExitStatus = None, None
        self.listener: Any = None
        self._executor: Executor | None = None
        self._connection: Connection[bytes, bytes] | None = None
        self._is_doomed = False
        self._began: tuple[int, float] = (0, 0.0)
        self._handed_over = 0.0
        self._forgotten: list[int] = []
        self._unanswered = 0
        self._done: tuple[int, Future[Answer]] | None = None  #: an answer that the loop has not taken

    # -- from its keeper

    def take_executor(self, executor: Executor, connection: "Connection[bytes, bytes]") -> None:
        """Take what its keeper has started; it may have been killed meanwhile."""
        with self._lock:
            self._executor, self._connection = executor, connection
            self.pid = executor.pid
            self.label = f"{self.name} (pid {self.pid})"
            is_doomed = self._is_doomed
        if is_doomed:
            self.kill()

    def note_beginning(self, number: int, at: float) -> None:
        """Note that task ``number`` has begun, by the worker's clock, which is ours too."""
        with self._lock:
            if self._last >= number > self._began[0]:
                self._began = (number, min(max(at, self._handed_over), time.monotonic()))

    def note_stacks(self) -> None:
        """Note that a request for stacks was answered."""
        with self._lock:
            self._unanswered -= 1

    # -- tasks

    def send(self, attempt: Attempt, encoded: Encoded) -> bool:
        """Hand ``attempt`` over. False: it was recalled meanwhile. A dead worker's task goes nowhere, like it."""
        with self._lock:
            self._last = number = self._last + 1
            with self._claim_lock:
                if attempt.lane_data is not None:
                    return False
                attempt.lane_data = (self, number)
            self._in_flight[number] = attempt
            attempt.worker = self.label
            self._handed_over = time.monotonic()
            executor = self._executor
        try:
            assert executor is not None
            future = executor.submit(run_call, self._call(attempt, encoded, number))
        except (RuntimeError, OSError):  # broken, or the interpreter ends; its death gives this task back
            self.kill()
            return True
        future.add_done_callback(partial(self._answered, number))
        return True

    def _call(self, attempt: Attempt, encoded: Encoded, number: int) -> Call:
        function, flags, (payload, buffers, _) = encoded
        definition = None
        if function is not None and function.number not in self.known:
            self.known.add(function.number)
            definition = function.definition
        timeout = -1.0 if attempt.timeout is None else attempt.timeout
        fid = 0 if function is None else function.number
        header = (flags, len(buffers), attempt.number, number, attempt.task_id, fid, len(payload), timeout, 0)
        forgotten, self._forgotten = self._forgotten, []
        carried = [(kind, pickle.PickleBuffer(buffer)) for kind, buffer in buffers]
        return header, definition, forgotten, payload, carried

    def _answered(self, number: int, future: "Future[Answer]") -> None:
        """Called by loky's thread."""
        with self._lock:
            self._done = (number, future)
        self.home.post(self.take_answer)

    def take_answer(self) -> None:
        """Report the answer that has come, if that has not been done."""
        with self._lock:
            done, self._done = self._done, None
        if done is None:
            return
        number, future = done
        error = future.exception()
        if error is None:
            try:
                frame, sent = _frame(number, future.result())
            except (TypeError, ValueError):  # user code has answered in our place
                self.listener.on_nonsense("it sent what is no answer")
                return
        elif is_loss(error):
            self.kill()  # if it is not dead yet; its keeper reports the death
            return
        else:  # too large for the memory, or for loky
            frame, sent = self._refused(number, error), 0
        self.note_beginning(number, frame.started)
        self.listener.on_answer(frame, sent)

    def _refused(self, number: int, error: BaseException) -> Frame:
        """Return the answer to a task that loky could not carry there, or whose answer it could not carry back."""
        kind, now = NOT_ENCODED if self.last_begun() >= number else NOT_DECODED, time.monotonic()
        payload = pickle.dumps((*describe(error), None, False, (), ""), 5)
        return Frame(kind, PLAIN, number, self.started(number) or now, now, payload, None)

    def forget_functions(self, numbers: Iterable[int]) -> None:
        """Have the worker forget functions, with the next task."""
        for number in numbers:
            if number in self.known:
                self.known.discard(number)
                self._forgotten.append(number)

    def started(self, number: int) -> float | None:
        """Return when task ``number`` began; until that is heard of, when it was handed over."""
        with self._lock:
            if self._began[0] >= number:
                return self._began[1]
            return self._handed_over if number in self._in_flight else None

    def last_begun(self) -> int:
        """Return the number of the last task that was heard to begin."""
        with self._lock:
            return self._began[0]

    def recall(self, number: int) -> tuple[bool, list[Attempt]]:
        """Answer no: what loky was given it does not give back."""
        return False, []

    def recall_all(self) -> list[Attempt]:
        """Return nothing, for the same reason."""
        return []

    # -- stopping

    def ask_to_stop(self, number: int, grace: float) -> None:
        """Ask for the end of task ``number``."""
        self._say(CONTROL.pack(CANCEL, number) + _GRACE.pack(grace))

    def ask_for_stacks(self, request: int) -> bool:
        """Ask what it does now, unless it has left many such questions open."""
        with self._lock:
            if self._unanswered >= _MANY_REQUESTS:
                return False
            self._unanswered += 1
        return self._say(CONTROL.pack(STACKS, request))

    def _say(self, message: bytes) -> bool:
        with self._lock:
            if self._connection is None:
                return False
            try:
                with unbroken():
                    self._connection.send_bytes(message)
            except (OSError, ValueError):  # it is dead, or dying
                return False
            return True

    def kill(self) -> None:
        """End the process and its group now, or as soon as it has been started."""
        with self._lock:
            self._is_doomed = True
            executor = self._executor
        if executor is not None:
            executor.kill()

    def leave(self) -> None:
        """Let the process end by itself: it runs its exit handlers and leaves."""
        self.state = "retiring"
        with self._lock:
            executor = self._executor
        if executor is not None:
            with contextlib.suppress(RuntimeError, OSError):
                executor.leave()

    def has_ended(self) -> bool:
        """Say whether the process is known to have ended."""
        with self._lock:
            return self._executor is None or self._executor.has_ended()

    def discard(self) -> None:
        """Kill a process that nobody listens to, if there is one."""
        self.kill()
        self.close()

    def exit_status(self) -> ExitStatus:
        """Return how the process has ended, as its keeper saw it."""
        return self.status

    def close(self) -> None:
        """Close the connection; the process has ended."""
        self.state = "dead"
        with self._lock:
            connection, self._connection = self._connection, None
            executor, self._executor = self._executor, None
        if connection is not None:
            connection.close()
        if executor is not None:
            executor.drop()

    def bury(self, seconds: float) -> None:
        """Wait up to ``seconds`` for the keeper to see the killed process off, and close the connection."""
        if self.listener is not None:
            self.listener.join(seconds)
        self.close()

    def forget(self) -> None:
        """In a forked child: close its copy of the connection, and keep all else from touching the process."""
        if self._connection is not None:
            self._connection.close()
        if self._executor is not None:
            self._executor.forget()


def _frame(number: int, answer: Answer) -> tuple[Frame, int]:
    """Return an answer as a frame, and how many messages came before it. TypeError, ValueError: it is none."""
    kind, flags, started, ended, sent, payload, buffers = answer
    numbers_are_true = VALUE <= kind <= NOT_ENCODED and 0.0 <= started <= ended < math.inf and flags >= 0 <= sent
    if not numbers_are_true or type(payload) is not bytes or type(buffers) is not list:
        raise ValueError
    return Frame(int(kind), int(flags), number, float(started), float(ended), payload, buffers or None), int(sent)
