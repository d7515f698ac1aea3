"""The thread that keeps one worker over loky: starts it, listens to it, buries it. What blocks is done here.

Guarantees
    The thread's own: the executor's start and burial, and every read. It hands what it read to the home loop in the
    order of reading, at most ``_MANY`` pieces ahead of it; stacks, which somebody may wait for on the loop, at once.
    The home loop's own: ``stderr``, ``_heard``, ``_waiting``. An answer says how many messages were sent before it, and
    is reported when that many were heard: prints and log records of a task precede its end.
    The death is the last thing handed over, after everything that the worker sent was read.
"""

import asyncio
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from multiprocessing import Pipe
from multiprocessing.connection import wait
from typing import Any

from ..._forks import whole
from ..._wire.frames import BEGAN, CONTROL, CONTROL_BYTES, INSTANT, STACKS
from ..._worker.portable import boot, get_ready
from .._process.child import ExitStatus
from .._process.crash import Stderr
from .._process.hearing import Events, Hearing
from .._process.reader import Frame
from .._process.worker import Worker
from .executor import Executor
from .exits import explained, prepare
from .signals import keep_away
from .worker import LokyWorker

__all__ = ["Keeper"]

_MANY = 256  #: messages handed to the loop and not yet handled
_LOOK_SECONDS = 0.5  #: a child of the worker's may hold the connection open beyond its end; so we look, too
_DRAIN_SECONDS = 2.0
_MESSAGE_BYTES = CONTROL_BYTES + 4096


class Keeper:
    """Listens to one worker from its start to its death."""

    def __init__(self, worker: Worker, loop: asyncio.AbstractEventLoop, events: Events) -> None:
        assert isinstance(worker, LokyWorker)
        self.stderr = Stderr(-1)
        self._worker = worker
        self._loop = loop
        self._events = events
        self._hearing = Hearing(worker, events, self.stderr)
        self._room = threading.Semaphore(_MANY)
        self._heard = 0
        self._waiting: tuple[Frame, int] | None = None
        self._executor: Executor | None = None
        self._sources: list[Any] = []
        self._stderr_end: Any = None
        worker.listener = self
        self._thread = threading.Thread(target=self._keep, name=f"engine-{worker.name}", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # CPython 3.12: no thread once the main thread is done
            raise explained(error) from error

    def join(self, seconds: float) -> None:
        """Wait up to ``seconds`` for its end, which follows the worker's."""
        self._thread.join(seconds)

    # -- its thread

    def _keep(self) -> None:
        status: ExitStatus = None, None
        try:
            with whole():  # loky's imports, its trackers' locks, the start
                self._start()
        except BaseException as error:  # no process, no semaphore, no memory; or the interpreter ends
            self._worker.refusal = explained(error)
            self._drop_what_failed(error)
        else:
            self._listen()
            assert self._executor is not None
            status = self._executor.bury()
            self._drain()
        if self._stderr_end is not None:
            self._stderr_end.close()
        self._executor = None
        self._post(self._report_death, status)

    def _drop_what_failed(self, error: BaseException) -> None:
        """Let go of loky's semaphores here: a thread that the interpreter's end cuts short would leave one half."""
        traceback.clear_frames(error.__traceback__)
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.drop()

    def _start(self) -> None:
        worker = self._worker
        prepare()
        keep_away()
        ours, theirs = Pipe()
        stderr: Any = None
        stderr_end: Any = None
        if sys.platform != "win32":
            stderr, stderr_end = Pipe(duplex=False)
        try:
            self._executor = executor = Executor(boot, (theirs, stderr_end), worker.env)
            future = executor.start(get_ready, worker.setup)
        except BaseException:
            ours.close()
            if stderr is not None:
                stderr.close()
            raise
        finally:
            theirs.close()
            if stderr_end is not None:
                stderr_end.close()
        self._stderr_end = stderr
        self._sources = [ours] if stderr is None else [ours, stderr]
        worker.take_executor(executor, ours)
        future.add_done_callback(lambda done: worker.home.post(self._welcome, done))

    def _listen(self) -> None:
        """Read until the worker's end of the connection is closed, or the process is gone."""
        assert self._executor is not None
        connection = self._sources[0]
        while connection in self._sources:
            ready = wait(self._sources, _LOOK_SECONDS)
            if not ready and self._executor.has_ended():
                return
            self._read(ready)

    def _drain(self) -> None:
        """Read what the dead process has left."""
        end = time.monotonic() + _DRAIN_SECONDS
        while self._sources and time.monotonic() < end and (ready := wait(self._sources, 0)):
            self._read(ready)

    def _read(self, ready: list[Any]) -> None:
        for source in ready:
            try:
                if source is self._stderr_end:
                    self._receive_stderr(os.read(source.fileno(), 1 << 16))
                else:
                    self._receive(source.recv_bytes(_MESSAGE_BYTES))
            except (EOFError, OSError):
                self._sources.remove(source)

    def _receive_stderr(self, data: bytes) -> None:
        if not data:
            raise EOFError
        self._post(self._hear_stderr, data)

    def _receive(self, message: bytes) -> None:
        if len(message) < CONTROL.size:
            raise EOFError  # user code has written there: of no use any more
        kind, number = CONTROL.unpack_from(message)
        body = message[CONTROL.size :]
        if kind == BEGAN and len(body) == INSTANT.size:
            self._worker.note_beginning(number, INSTANT.unpack(body)[0])
        elif kind == STACKS:
            self._worker.note_stacks()
            self._events.on_stacks(self._worker, number, body.decode("utf-8", "replace"))
        self._post(self._hear, kind, number, body)

    def _post(self, fn: Callable[..., None], *args: Any) -> None:
        self._room.acquire(timeout=5.0)  # in vain where the loop has ended with calls still posted
        if not self._worker.home.post(self._handle, fn, args):
            self._room.release()

    # -- the home loop

    def _handle(self, fn: Callable[..., None], args: tuple[Any, ...]) -> None:
        self._room.release()
        fn(*args)

    def _welcome(self, future: "Future[bool]") -> None:
        """Take in the worker, if it is ready; see it off if its initializer failed or it is dying."""
        if future.exception() is None and future.result() is True:
            if self._worker.state == "starting":
                self._events.on_hello(self._worker)
        else:
            self._worker.kill()

    def _hear(self, kind: int, number: int, body: bytes) -> None:
        self._heard += 1
        if kind not in (BEGAN, STACKS) and (problem := self._hearing.hear(kind, number, body)):
            self.on_nonsense(problem)
        if self._waiting is not None and self._heard >= self._waiting[1]:
            self._release()

    def _hear_stderr(self, data: bytes) -> None:
        if lines := self.stderr.feed(data):
            self._hearing.pass_on(lines)

    def on_answer(self, frame: Frame, sent: int) -> None:
        """Report an answer, as soon as the ``sent`` messages before it were heard."""
        self._waiting = (frame, sent)
        if self._heard >= sent:
            self._release()

    def read_results_now(self, until: Callable[[], bool]) -> None:
        """Report the answer if it is here, even before all that was sent before it was heard."""
        self._worker.take_answer()
        self._release()

    def collect(self, is_wanted: bool) -> bool:
        """Leave nothing: each answer is handed over by a thread, and waits for nobody."""
        return False

    def read_collected(self) -> None:
        """Do nothing: none was left."""

    def _release(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._events.on_answer(self._worker, waiting[0])

    def stop(self) -> None:
        """Do nothing: no reader of its is on the loop."""

    def on_nonsense(self, problem: str) -> None:
        """Report that the worker sent what is no answer."""
        self._events.on_nonsense(self._worker, problem)

    def _report_death(self, status: ExitStatus) -> None:
        self._worker.status = status
        self._worker.note_death()
        self._release()
        if lines := self.stderr.finish():
            self._hearing.pass_on(lines)
        self._events.on_death(self._worker)
