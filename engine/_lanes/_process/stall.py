"""Notices a worker that sends a part of an answer and then nothing.

Guarantees
    Home loop only. What is there is read before anybody is judged; a loop that did not turn, or a program that was
    stopped and continued, counts as one look however long it was, and a worker that is itself stopped is never judged.
"""

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

from .reader import Reader
from .usage import usage_of

__all__ = ["StallWatch"]

STALL_SECONDS = 30.0  #: a worker that sends nothing for so long in the middle of an answer is replaced
LOOKS = 8  #: how often it is looked at in that time


class StallWatch:
    """Looks at one worker's reader from time to time, while a frame is incomplete."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        reader: Reader,
        pid: int,
        *,
        read: Callable[[], None],
        break_off: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._reader = reader
        self._pid = pid
        self._read = read
        self._break_off = break_off
        self._timer: Any = None
        self._quiet_looks = 0
        self._arrived = 0

    def arm(self) -> None:
        """Begin to look, if a frame is incomplete and nobody looks yet; called after each read."""
        if self._timer is None and self._reader.is_in_a_frame:
            self._quiet_looks, self._arrived = 0, self._reader.arrived
            self._look_later()

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look_later(self) -> None:
        self._timer = self._loop.call_later(STALL_SECONDS / LOOKS, self._look, context=contextvars.Context())

    def _look(self) -> None:
        """Take what is there first, then judge: is this a worker that will never finish its answer?"""
        self._read()
        self._timer = None
        reader = self._reader
        if reader.broken is not None or reader.is_at_end or not reader.is_in_a_frame:
            return
        if reader.arrived != self._arrived or usage_of(self._pid).is_stopped:
            self._quiet_looks, self._arrived = 0, reader.arrived
        else:
            self._quiet_looks += 1
        if self._quiet_looks < LOOKS:
            self._look_later()
        else:
            self._break_off(f"it sent a part of an answer and then nothing for {STALL_SECONDS} s")
