"""The worker's side where loky's executor carries tasks and answers, and one connection everything else.

Guarantees
    ``boot``, ``get_ready`` and ``run_call`` are called by loky on the main thread, in this order, the last per task.
    Of ``Pipe``: ``_connection`` and ``sent`` are guarded by ``_lock``; any thread may send.
    The task's beginning is told before anything of it is rebuilt, and what is sent before a death is read after it: so
    a task whose beginning the parent has not heard of has not begun.
"""

import faulthandler
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from .._wire.frames import BEGAN, CONTROL, INSTANT
from .._wire.pickling import MEMORY, Packed
from . import logs
from .control import Control
from .current import WorkerTask
from .inbox import Broken, rebuild
from .interrupts import Interrupts
from .outlet import Outlet
from .prepare import adopt, initialize
from .runner import Runner, Undecodable, call_of
from .voice import Printer, Voice, take_over

__all__ = ["Answer", "Call", "boot", "get_ready", "run_call"]

#: Header (as ``_wire.frames.TASK``), function's definition if it is new here, functions to forget, payload, buffers.
Call = tuple[tuple[Any, ...], bytes | None, list[int], bytes, list[tuple[int, Any]]]
#: Kind, flags, start, end, messages sent before it, payload, buffers.
Answer = tuple[int, int, float, float, int, bytes, list[Any]]


class Pipe:
    """The worker's end of the connection."""

    def __init__(self, connection: "Connection[bytes, bytes]") -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self.sent = 0  #: messages that the parent has got, or will get

    def send(self, message: bytes, /) -> None:
        """Send one message whole."""
        with self._lock:
            self._connection.send_bytes(message)
            self.sent += 1

    def receive(self, seconds: float | None) -> bytes | None:
        """Wait for a message; None if none came in time. EOFError, OSError: the parent is gone."""
        return self._connection.recv_bytes(1 << 12) if self._connection.poll(seconds) else None


class PipeControl(Control):
    """Listens on the connection; when the parent is gone, so is this process with all that it has started."""

    def __init__(self, pipe: Pipe, interrupts: Interrupts, voice: Voice) -> None:
        super().__init__(interrupts, voice)
        self._pipe = pipe

    def _serve(self) -> None:
        try:
            while True:
                message = self._pipe.receive(self._interrupts.press())
                if message is not None:
                    self._obey(message)
        except (EOFError, OSError):
            _end_group()


def _end_group() -> None:
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


class CallOutlet(Outlet):
    """Keeps the answer for ``run_call`` to return."""

    def __init__(self, pipe: Pipe, interrupts: Interrupts, voice: Voice, printers: tuple[Printer, Printer]) -> None:
        super().__init__(interrupts, voice, printers)
        self._pipe = pipe
        self._answer: Answer | None = None

    def _write(self, kind: int, number: int, flags: int, started: float, ended: float, packed: Packed) -> None:
        buffers = [_carried(each, buffer) for each, buffer in packed.buffers]
        self._answer = kind, flags, started, ended, self._pipe.sent, packed.payload, buffers

    def take(self) -> Answer:
        """Return the answer, and keep nothing of it."""
        answer, self._answer = self._answer, None
        assert answer is not None
        return answer


def _carried(kind: int, buffer: memoryview) -> Any:
    """Return ``buffer`` as what pickle carries in one piece, and arrives as what it should."""
    return bytearray(buffer) if kind == MEMORY and buffer.readonly else pickle.PickleBuffer(buffer)


_NO_BODY = memoryview(b"")


class CallRunner(Runner):
    """Runs what loky hands over."""

    def __init__(self, pipe: Pipe, outlet: CallOutlet, voice: Voice, interrupts: Interrupts) -> None:
        super().__init__(outlet, voice, interrupts)
        self._pipe = pipe
        self._answers = outlet
        self._functions: dict[int, Any] = {}  #: definitions, and (name, function) once used
        self._at_hand: Call | None = None

    def run(self, call: Call) -> Answer:
        """Run one task and return its answer."""
        started = time.monotonic()
        self._pipe.send(CONTROL.pack(BEGAN, call[0][3]) + INSTANT.pack(started))
        header, definition, forgotten, _, _ = self._at_hand = call
        for number in forgotten:
            self._functions.pop(number, None)
        if definition is not None:
            self._functions[header[5]] = definition
        self._run(header, _NO_BODY, started)
        self._at_hand = None
        return self._answers.take()

    def _decode(self, header: tuple[Any, ...], body: memoryview, task: WorkerTask) -> tuple[Any, Any, Any, Any]:
        assert self._at_hand is not None
        _, _, _, payload, buffers = self._at_hand
        self._at_hand = None
        flags, _, _, _, _, function, _, _, _ = header
        fn: Any = None
        try:
            if function:
                known = self._functions[function]
                if type(known) is bytes:
                    known = self._functions[function] = rebuild(known)
                task.name, fn = known
                if type(fn) is Broken:
                    raise fn.error
            own = [bytearray(data) if kind == MEMORY and type(data) is bytes else data for kind, data in buffers]
            return call_of(fn, flags, pickle.loads(payload, buffers=own), task)
        except BaseException as error:
            raise Undecodable from error


class _Here:
    """What this worker process has: one of each."""

    voice: Voice
    runner: CallRunner


def boot(connection: "Connection[bytes, bytes]", stderr: "Connection[bytes, bytes] | None") -> None:
    """Tie this process to its parent: loky's initializer, called before anything else of ours."""
    if hasattr(os, "setsid"):
        with suppress(OSError):  # it leads a group already
            os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        # The parent may block any, and has blocked SIGPIPE around our start.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGURG, signal.SIGPIPE})
    if stderr is not None:  # elsewhere than on Windows
        while (null := os.open(os.devnull, os.O_RDWR)) <= 2:  # the parent may have a socket of its own there
            os.set_inheritable(null, True)
        os.close(null)
        os.dup2(stderr.fileno(), 2)
        stderr.close()
    if sys.platform != "win32":
        os.set_inheritable(connection.fileno(), False)
    faulthandler.enable(2)
    multiprocessing.set_start_method(None, force=True)  # loky has set its own, which no child of a task would know
    _never_recycle()
    pipe = Pipe(connection)
    _Here.voice = voice = Voice(pipe)
    interrupts = Interrupts()
    outlet = CallOutlet(pipe, interrupts, voice, take_over(voice))
    _Here.runner = CallRunner(pipe, outlet, voice, interrupts)
    PipeControl(pipe, interrupts, voice).start()


def _never_recycle() -> None:
    """Keep loky from replacing this worker when it has grown: the lane decides, and the replacement would be deaf."""
    from loky import process_executor

    process_executor._MAX_MEMORY_LEAK_SIZE = sys.maxsize


def get_ready(pickled: bytes) -> bool:
    """Look like the parent and run the initializer. False: it failed, and the parent was told why."""
    setup = pickle.loads(pickled)
    adopt(setup)
    logs.install(_Here.voice, setup["levels"])
    if not initialize(setup, _Here.voice):
        return False
    _Here.voice.has_spoken = False
    return True


def run_call(call: Call) -> Answer:
    """Run one task."""
    return _Here.runner.run(call)
