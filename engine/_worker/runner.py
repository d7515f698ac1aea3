"""The run of one task in a worker: rebuild it, call it, answer."""

import contextvars
import os
import time
from abc import ABC, abstractmethod
from types import CoroutineType
from typing import Any

from .. import _checks, _current, _lineage
from .._wire.frames import ARGS_ONLY, CANCELLED, ERROR, NOT_DECODED, NOT_ENCODED, PLAIN, SKIPPED, VALUE
from .._wire.pickling import Packed, Packer, lift
from ..errors import TaskCancelled
from .current import WorkerTask, set_variables
from .failures import pack_error
from .inbox import ParentGone
from .interrupts import Interrupts
from .outlet import Outlet
from .voice import Voice

__all__ = ["Runner", "Undecodable", "call_of"]

_NOTHING = Packed(b"", [], True)


class Undecodable(Exception):
    """The function or its arguments could not be rebuilt; the cause says why."""


class Runner(ABC):
    """Runs tasks one after the other on the worker's main thread; how they come is the subclass's."""

    def __init__(self, outlet: Outlet, voice: Voice, interrupts: Interrupts) -> None:
        self._outlet = outlet
        self._voice = voice
        self._interrupts = interrupts
        self._packer = Packer()
        self._forks = _lineage.forks

    def _run(self, header: tuple[Any, ...], body: memoryview, started: float) -> bool:
        """Run one task and answer. False: it was not begun, as its sender had second thoughts."""
        _, _, attempt, number, task_id, _, _, timeout, _ = header
        deadline = started + timeout if timeout >= 0 else None
        task = WorkerTask(task_id, "", attempt, deadline, self._voice.report)
        if not self._interrupts.enter(number, task) or not self._may_begin(number):
            self._interrupts.leave(number)
            self._skip(number, started)
            return False
        self._voice.task_id = task_id
        _current.worker_task = task
        kind, value = self._call(header, body, task)
        ended = time.monotonic()
        self._interrupts.leave(number)
        if self._forks != _lineage.forks:
            self._leave_if_forked()
        self._answer(kind, number, started, ended, value)
        del value  # an error's traceback reaches this frame: together they would keep the arguments
        _current.worker_task = None
        self._voice.task_id = 0
        return True

    def _skip(self, number: int, at: float) -> None:
        """Answer that task ``number`` was not begun."""
        self._outlet.answer(SKIPPED, number, at, at, _NOTHING)

    def _may_begin(self, number: int) -> bool:
        """Say whether task ``number`` may begin; asked once ``enter`` has taken it, behind its lock."""
        return True

    def _call(self, header: tuple[Any, ...], body: memoryview, task: WorkerTask) -> tuple[int, Any]:
        try:
            fn, args, kwargs, run = self._decode(header, body, task)
            return VALUE, self._interrupts.call(header[3], run, fn, args, kwargs)
        except Undecodable as error:
            return NOT_DECODED, error.__cause__
        except TaskCancelled as error:
            return CANCELLED, error
        except ParentGone:
            raise
        except BaseException as error:  # whatever a task raises is its answer, SystemExit too
            return ERROR, error

    @abstractmethod
    def _decode(self, header: tuple[Any, ...], body: memoryview, task: WorkerTask) -> tuple[Any, Any, Any, Any]:
        """Return function, arguments, and what to run them with: a fresh context, so that nothing leaks.

        Undecodable: they cannot be rebuilt here.
        """

    def _answer(self, kind: int, number: int, started: float, ended: float, value: Any) -> None:
        kind, packed, plain = self._pack(kind, value)
        if self._forks != _lineage.forks:
            self._leave_if_forked()
        self._outlet.answer(kind, number, started, ended, packed, plain)

    def _pack(self, kind: int, value: Any) -> tuple[int, Packed, int]:
        """Return what to answer: ``kind``, or what became of it, the packed ``value``, and PLAIN if it is."""
        packed, plain = _NOTHING, PLAIN
        if type(value) is CoroutineType:
            kind, value = ERROR, _checks.unawaited(value)
        if kind == VALUE:
            try:
                packed = self._packer.pack(lift(value))
                plain = PLAIN if packed.plain else 0
            except BaseException as error:  # __reduce__ is user code, which may even exit
                kind, value = NOT_ENCODED, error
        if kind in (ERROR, NOT_DECODED, NOT_ENCODED):
            packed = Packed(pack_error(self._packer, value), [], True)
        return kind, packed, plain

    def _leave_if_forked(self) -> None:
        """End a child that the task, or the pickling of its result, has forked and that came back: one may answer."""
        if _lineage.forks != self._forks:
            os._exit(0)


def call_of(fn: Any, flags: int, loaded: Any, task: WorkerTask) -> tuple[Any, Any, Any, Any]:
    """Return function, arguments and runner of what was pickled; ``fn`` is None if the function is in there too."""
    context = contextvars.Context()
    if flags & ARGS_ONLY:
        return fn, loaded, {}, context.run
    args, kwargs, name, exported, given = loaded
    task.name = name or task.name
    if exported:
        context.run(set_variables, exported)
    return given if fn is None else fn, args, kwargs, context.run
