"""The main loop of a worker: take a packet, run the task, answer."""

import _socket
import contextvars
import os
import pickle
import sys
import time
from types import CoroutineType
from typing import Any

from .. import _checks, _current
from .._wire.frames import (
    ARGS_ONLY,
    CANCELLED,
    ERROR,
    HEAVY,
    NOT_DECODED,
    NOT_ENCODED,
    PLAIN,
    SKIPPED,
    TASK,
    VALUE,
)
from .._wire.page import StartPage
from .._wire.pickling import Packed, Packer, lift
from ..errors import TaskCancelled
from .current import WorkerTask
from .failures import pack_error
from .gauge import Gauge
from .inbox import Broken, ParentGone, Stream
from .interrupts import Interrupts
from .outlet import Outlet
from .voice import Voice

__all__ = ["Runner"]

_NOTHING = Packed(b"", [], True)


class _Undecodable(Exception):
    """The function or its arguments could not be rebuilt; the cause says why."""


class Runner:
    """Runs tasks one after the other on the worker's main thread."""

    def __init__(
        self, tasks: _socket.socket, stream: Stream, outlet: Outlet, page: StartPage, voice: Voice,
        interrupts: Interrupts,
    ) -> None:  # fmt: skip
        self._tasks = tasks
        self._stream = stream
        self._outlet = outlet
        self._page = page
        self._voice = voice
        self._interrupts = interrupts
        self._packer = Packer()
        self._pid = os.getpid()
        self._names: dict[int, str] = {}
        self._buffer = bytearray(1 << 17)
        self._view = memoryview(self._buffer)

    def serve(self, max_tasks: int | None, gauge: Gauge | None = None) -> None:
        """Run tasks until the parent closes the socket, or there were ``max_tasks``: what follows is another's.

        So it is when ``gauge`` says that too much memory is held.

        After an interrupt nothing more is taken, so the parent can take it back; then it kills this process.
        """
        left = -1 if max_tasks is None else max_tasks
        receive, buffer, page, monotonic = self._tasks.recv_into, self._buffer, self._page, time.monotonic
        while left:
            size = receive(buffer)
            if not size:
                return
            started = monotonic()
            header = TASK.unpack_from(buffer)
            page.begin(header[3], started)
            self._run(header, size, started)
            left -= 1
            while self._interrupts.has_raised:
                time.sleep(60)
            if gauge is not None and gauge.is_over():
                self._voice.say(HEAVY, 0, b"")
                return

    def _run(self, header: tuple[Any, ...], size: int, started: float) -> None:
        _, _, attempt, number, task_id, _, _, timeout, _ = header
        deadline = started + timeout if timeout >= 0 else None
        task = WorkerTask(task_id, "", attempt, deadline, self._voice.report)
        if not self._interrupts.enter(number, task):
            self._outlet.answer(SKIPPED, number, started, started, _NOTHING)
            return
        self._voice.task_id = task_id
        _current.worker_task = task
        kind, value = self._call(header, size, task)
        ended = time.monotonic()
        self._interrupts.leave(number)
        if os.getpid() != self._pid:  # the task forked and both returned: only one may answer
            os._exit(0)
        self._answer(kind, number, started, ended, value)
        _current.worker_task = None
        self._voice.task_id = 0

    def _call(self, header: tuple[Any, ...], size: int, task: WorkerTask) -> tuple[int, Any]:
        try:
            fn, args, kwargs, run = self._decode(header, size, task)
            return VALUE, self._interrupts.call(header[3], run, fn, args, kwargs)
        except _Undecodable as error:
            return NOT_DECODED, error.__cause__
        except TaskCancelled as error:
            return CANCELLED, error
        except ParentGone:
            raise
        except BaseException as error:  # whatever a task raises is its answer, SystemExit too
            return ERROR, error

    def _decode(self, header: tuple[Any, ...], size: int, task: WorkerTask) -> tuple[Any, Any, Any, Any]:
        """Return function, arguments, and what to run them with: a fresh context, so that nothing leaks."""
        flags, count, _, number, _, function, length, _, bulk = header
        fn: Any = None
        try:
            self._stream.current = number
            if function:
                task.name, fn = self._stream.function(function)
                if type(fn) is Broken:
                    raise fn.error
            head: Any = self._view[TASK.size : size]
            buffers: list[Any] = []
            if bulk:
                head, buffers = self._stream.segments(number, flags, bytes(head), count, length)
            loaded = pickle.loads(head, buffers=buffers)
            context = contextvars.Context()
            if flags & ARGS_ONLY:
                return fn, loaded, {}, context.run
            args, kwargs, name, exported, given = loaded
            task.name = name or task.name
            if exported:
                context.run(_set_variables, exported)
            return given if fn is None else fn, args, kwargs, context.run
        except ParentGone:
            raise
        except BaseException as error:
            raise _Undecodable from error

    def _answer(self, kind: int, number: int, started: float, ended: float, value: Any) -> None:
        packed, plain = _NOTHING, PLAIN
        if type(value) is CoroutineType:
            kind, value = ERROR, _checks.unawaited(value)
        if kind == VALUE:
            try:
                packed = self._packer.pack(lift(value))
                plain = PLAIN if packed.plain else 0
            except BaseException as error:  # __reduce__ is user code, which may even exit
                kind, value = NOT_ENCODED, error
        if kind not in (VALUE, CANCELLED):
            packed = Packed(pack_error(self._packer, value), [], True)
        self._outlet.answer(kind, number, started, ended, packed, plain)


def _set_variables(exported: dict[str, Any]) -> None:
    for address, value in exported.items():
        module, _, name = address.partition(":")
        __import__(module)
        variable: contextvars.ContextVar[Any] = getattr(sys.modules[module], name)
        variable.set(value)
