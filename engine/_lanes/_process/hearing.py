"""What a worker says besides results, heard: refusal, memory, stacks, progress, prints, log records."""

import logging
from collections.abc import Callable
from typing import Any, Protocol

from ..._wire.frames import HEAVY, LOG, PRINT, PROGRESS, REFUSED, STACKS
from ..._wire.harmless import load_harmless
from .crash import Stderr
from .reader import Frame
from .reports import forward_print, forward_report, read_fields
from .worker import Worker

__all__ = ["Events", "Hearing"]

log = logging.getLogger("engine")


class Events(Protocol):
    """What those who listen to a worker report."""

    tags_prints: bool  #: whether lines that a worker prints begin with its name, and its task's number

    def on_hello(self, worker: Worker) -> None:
        """The worker can take tasks."""

    def on_answer(self, worker: Worker, frame: Frame) -> None:
        """The worker answered a task."""

    def on_row(self, worker: Worker, frames: list[Frame]) -> None:
        """The worker answered several tasks, each with a value that is marked as plain and nothing else."""

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


class Hearing:
    """Hands on the messages of one worker; home loop only."""

    def __init__(self, worker: Worker, events: Events, stderr: Stderr) -> None:
        self._worker = worker
        self._events = events
        self._stderr = stderr

    def hear(self, kind: int, number: int, body: bytes) -> str:
        """Hand on one message; return what is wrong with it, empty if nothing is."""
        worker = self._worker
        if kind == REFUSED:
            worker.refusal = _refusal(body)
        elif kind == HEAVY:
            self._events.on_heavy(worker)
        elif kind == STACKS:
            self._events.on_stacks(worker, number, body.decode("utf-8", "replace"))
        elif kind == PROGRESS:
            return self._take_progress(number, read_fields(body))
        elif kind in (PRINT, LOG):
            if kind == PRINT and body[:1] == b"\x02":
                self._stderr.keep(body[1:])
            self._forward(lambda: forward_report(kind, number, body, worker.name, self._events.tags_prints))
        else:
            return f"it sent a control message of kind {kind} in state {worker.state}"
        return ""

    def _take_progress(self, task_id: int, fields: Any) -> str:
        if fields is None:  # it was too long, and cut
            return ""
        if type(fields) is not list or len(fields) != 3:
            return "it sent a progress report that is none"
        if [type(each) for each in fields] not in _PROGRESS:
            return ""
        self._events.on_progress(self._worker, task_id, *fields)
        return ""

    def pass_on(self, lines: str) -> None:
        """Pass on what it wrote to descriptor 2."""
        tag = f"[{self._worker.name}] " if self._events.tags_prints else ""
        self._forward(lambda: forward_print(2, lines, tag))

    @staticmethod
    def _forward(report: Callable[[], None]) -> None:
        """Pass on what a worker said; a handler, filter or stream of user code that raises costs nothing else."""
        try:
            report()
        except Exception:
            log.exception("what a worker process said could not be passed on")


#: The types of done, total and message, as ``_current.report`` makes them and JSON keeps them.
_PROGRESS = [[done, total, str] for done in (int, float) for total in (int, float, type(None))]


def _refusal(body: bytes) -> Any:
    try:
        name, text, trace = load_harmless(body)  # by ``_worker.prepare``
        return str(name), str(text), str(trace)
    except Exception:  # cut short by its death
        return ("Exception", "unknown", "")
