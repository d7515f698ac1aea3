"""The way of tasks that are done back to the home loop: whoever settles one notes it, one call takes all of a burst.

``Task.add_done_callback`` would be a call of the loop for each, and costs five times as much.

Guarantees
    Shared: ``_arrived``, a deque, and ``_is_called``. No lock: who notes appends first and looks at the flag then; who
    takes clears the flag first and then takes all. So either this taker finds it, or another one is called.
    ``note`` is for any thread, and may be called from inside whatever settles the task: it does nothing else. ``take``
    is called on the home loop, in the context in which this was made, for each task that was noted, in that order.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable
from typing import Any

from engine import Task

from .run import Run

__all__ = ["Arrivals"]


class Arrivals:
    """Calls ``take(run, task)`` soon after the task of the run was done."""

    def __init__(self, take: Callable[[Run, Task[Any]], None]) -> None:
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._arrived: deque[tuple[Run, Task[Any]]] = deque()
        self._is_called = False

    def note(self, run: Run, task: Task[Any]) -> None:
        """Note that ``task`` is done."""
        self._arrived.append((run, task))
        if not self._is_called:
            self._call()

    def _call(self) -> None:
        self._is_called = True
        is_here = asyncio._get_running_loop() is self._loop
        call_soon = self._loop.call_soon if is_here else self._loop.call_soon_threadsafe
        try:
            call_soon(self._take_all, context=self._context)
        except RuntimeError:  # the loop is closed: nobody is left to take it
            pass

    def _take_all(self) -> None:
        self._is_called = False
        try:
            while self._arrived:
                run, task = self._arrived.popleft()
                try:
                    self._take(run, task)
                except Exception as error:  # the rest of the burst must not go with it
                    message = f"Exception at the end of job {run.job.id}"
                    self._loop.call_exception_handler({"message": message, "exception": error})
        finally:
            if self._arrived:  # Ctrl-C: whoever catches it and lets the loop turn again finds the rest
                self._call()
