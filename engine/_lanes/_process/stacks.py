"""Asks every worker what it does now, and waits a short while for the answers.

Guarantees
    Shared: ``_answers``, ``_request``.  Guarded by: ``_changed`` (a Condition), held for dict operations and the wait.
    Callers of ``collect``: any thread; on the home loop's own thread it reads the control sockets itself, since nobody
    else would. ``answer`` may be called from any thread.
"""

import asyncio
import select
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ..._mailbox import Mailbox
from .native import NativeWorker
from .worker import Worker

__all__ = ["StackCollector"]

SECONDS = 0.25
_SILENT = "no answer within 0.25 s: probably in C code that holds the GIL"
_STOPPED = "stopped by SIGSTOP or a debugger; let it go on with: kill -CONT {pid}"


class StackCollector:
    """Collects one text per worker."""

    def __init__(self, home: Mailbox) -> None:
        self._home = home
        self._changed = threading.Condition()
        self._answers: dict[int, dict[str, str]] = {}
        self._request = 0

    def collect(self, workers: Sequence[Worker], watchers: Mapping[Worker, Any]) -> dict[str, str]:
        """Return the stacks of ``workers`` by name, with a note for each that did not answer in time."""
        with self._changed:
            self._request += 1
            request = self._request
            self._answers[request] = {}
        notes = {w.name: _STOPPED.format(pid=w.pid) for w in workers if w.describe().state == "stopped"}
        asked = [w for w in workers if w.state != "starting" and w.name not in notes and w.ask_for_stacks(request)]
        end = time.monotonic() + SECONDS
        if asyncio._get_running_loop() is self._home.loop:
            self._read(request, asked, watchers, end)
        with self._changed:
            self._changed.wait_for(lambda: len(self._answers[request]) >= len(asked), max(0.0, end - time.monotonic()))
            answers = self._answers.pop(request)
        return {worker.name: answers.get(worker.name) or notes.get(worker.name, _SILENT) for worker in workers}

    def _read(self, request: int, asked: Sequence[Worker], watchers: Mapping[Worker, Any], end: float) -> None:
        poll = select.poll()
        ours = [worker for worker in asked if isinstance(worker, NativeWorker) and worker in watchers]
        by_fd = {worker.child.control.fileno(): watchers[worker] for worker in ours}
        if not by_fd:  # workers over loky have a thread that listens
            return
        for fd in by_fd:
            poll.register(fd, select.POLLIN)
        while by_fd and len(self._answers[request]) < len(asked) and (left := end - time.monotonic()) > 0:
            for fd, _ in poll.poll(left * 1000):
                by_fd[fd].read_control()
                if by_fd[fd].has_lost_control:
                    poll.unregister(fd)
                    del by_fd[fd]

    def answer(self, worker: Worker, request: int, text: str) -> None:
        """Take the answer of ``worker``; one that comes too late is dropped."""
        with self._changed:
            if request in self._answers:
                self._answers[request][worker.name] = text
                self._changed.notify_all()
