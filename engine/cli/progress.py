"""How far the demo is: one line that is rewritten on a terminal, a plain line now and then elsewhere."""

import os
import shutil
import time
from collections.abc import Callable
from typing import TextIO

from .totals import Totals
from .units import count, duration, size

__all__ = ["LIVE_EVERY", "PLAIN_EVERY", "LiveLine", "Progress", "is_live"]

LIVE_EVERY = 0.1  #: seconds between two states of the live line
PLAIN_EVERY = 2.0  #: seconds between two plain lines
_BAR = 20  #: characters


def is_live(stream: TextIO) -> bool:
    """Say whether ``stream`` is a terminal that can go back to the start of a line."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


class LiveLine:
    """One line of a terminal that is written again and again."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._width = 0  #: of what is on the screen

    def write(self, text: str) -> None:
        """Put ``text`` in the place of what is there, as much of it as one line takes."""
        columns = shutil.get_terminal_size().columns
        text = text[: max(columns - 1, 10)]
        self._stream.write("\r" + text.ljust(min(self._width, columns - 1)))
        self._stream.flush()
        self._width = len(text)

    def leave(self) -> None:
        """Go to the next line, if there is anything on this one."""
        if self._width:
            self._stream.write("\n")
            self._stream.flush()


class Progress:
    """Shows how many of ``expected`` files are in ``totals``; its cost is one look at the clock for each file."""

    def __init__(
        self, stream: TextIO, totals: Totals, expected: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream
        self._totals = totals
        self._expected = expected
        self._already = totals.done  #: of a run that goes on with an earlier one
        self._clock = clock
        self._live = LiveLine(stream) if is_live(stream) else None
        self._every = LIVE_EVERY if self._live else PLAIN_EVERY
        self._began = clock()
        self._next = self._began if self._live else self._began + self._every

    def show(self) -> None:
        """Show the state, if the last one is old enough."""
        now = self._clock()
        if now >= self._next:
            self._next = now + self._every
            self._write(now)

    def close(self) -> None:
        """Show the last state, and leave the line."""
        self._write(self._clock())
        if self._live:
            self._live.leave()

    def _write(self, now: float) -> None:
        text = self._text(now - self._began)
        if self._live:
            self._live.write(f"{_bar(self._totals.done, self._expected)}  {text}")
        else:
            self._stream.write(f"{text}\n")
            self._stream.flush()

    def _text(self, seconds: float) -> str:
        totals, done = self._totals, self._totals.done
        parts = [f"{done:,} of {count(self._expected, 'file')}", size(totals.size_bytes)]
        here = done - self._already
        if done and seconds > 0:
            parts.append(f"{here / seconds:,.0f} files/s")
        if done >= self._expected:
            parts.append(f"done in {duration(seconds)}")
        elif here:
            parts.append(f"{duration(seconds / here * (self._expected - done))} left")
        return ", ".join(parts)


def _bar(done: int, expected: int) -> str:
    filled = _BAR * done // max(expected, 1)
    return f"[{'#' * filled}{'.' * (_BAR - filled)}]"
