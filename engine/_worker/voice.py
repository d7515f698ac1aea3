"""What a worker says besides results: prints, log records, progress; all over the control socket.

Guarantees
    Shared: the control socket; a packet is sent whole, so it needs no lock. Each stream's unfinished line, of
    at most ``CONTROL_BYTES`` characters and what one write left over, is guarded by an RLock of its own (the C one: an
    interrupt does not leave it held). Callers: any thread of the worker.
    ``has_spoken`` is set before the packet is sent, so a result that says "read the control socket first" is right.
"""

import io
import sys
import threading
from typing import Any, Protocol

from .._wire.frames import CONTROL, CONTROL_BYTES, LOG, PRINT, PROGRESS

__all__ = ["Printer", "Voice", "take_over"]


class Sender(Protocol):
    """Sends whole messages: a packet socket, or the worker's end of a pipe."""

    def send(self, message: bytes, /) -> object:
        """Send ``message``; OSError: nobody is there."""


class Voice:
    """Sends messages tagged with the running task."""

    def __init__(self, control: Sender) -> None:
        self._control = control
        self.task_id = 0  #: of the running task, 0 between tasks
        self.has_spoken = False

    def say(self, kind: int, number: int, body: bytes) -> None:
        """Send one message, cut to what fits a packet; the parent being gone is not our problem."""
        self.has_spoken = True
        try:
            self._control.send(CONTROL.pack(kind, number) + body[:CONTROL_BYTES])
        except OSError:
            pass

    def say_fields(self, kind: int, number: int, fields: object) -> None:
        """Send ``fields`` as JSON."""
        import json

        self.say(kind, number, json.dumps(fields, default=_text).encode("utf-8", "backslashreplace"))

    def report(self, task_id: int, progress: object) -> None:
        """Send how far a task is."""
        self.say_fields(PROGRESS, task_id, progress)

    def print_text(self, stream: int, text: str) -> None:
        """Send what was printed on ``stream`` (1 or 2), in pieces that fit."""
        data = text.encode("utf-8", "backslashreplace")
        for start in range(0, len(data), CONTROL_BYTES - 1):
            self.say(PRINT, self.task_id, bytes([stream]) + data[start : start + CONTROL_BYTES - 1])

    def log(self, fields: dict[str, Any]) -> None:
        """Send a log record, with its long texts cut so that it fits a packet."""
        for key in ("msg", "exc_text", "stack_info"):
            text = fields.get(key)
            if text and len(text) > 4000:
                fields[key] = text[:2000] + " ... " + text[-2000:]
        self.say_fields(LOG, self.task_id, fields)


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception as error:  # user code; the report must still be made
        return f"<{type(value).__name__} whose str raised {type(error).__name__}>"


class Printer(io.TextIOBase):
    """``sys.stdout`` and ``sys.stderr`` of a worker: lines go to the parent's when they are whole, or flushed."""

    def __init__(self, voice: Voice, stream: int) -> None:
        super().__init__()
        self._voice = voice
        self._stream = stream
        self._lock = threading.RLock()
        self.pieces: list[str] = []  #: of the unfinished line; never another list
        self._length = 0
        self.is_cut = False  #: the unfinished line's beginning went out, where a line feed was put behind it

    @property
    def encoding(self) -> str:  # type: ignore[override]  # typeshed has a plain attribute
        """Name the encoding that a program may ask for."""
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]  # as above
        """Name how unprintable text is handled."""
        return "backslashreplace"

    @property
    def buffer(self) -> "_Bytes":
        """Give what takes bytes, as the text streams of the standard library do."""
        return _Bytes(self)

    def fileno(self) -> int:
        """Give the descriptor, for subprocesses and faulthandler."""
        return self._stream

    def writable(self) -> bool:
        """Say yes."""
        return True

    def write(self, text: str) -> int:
        """Keep ``text`` until its line is whole."""
        if not isinstance(text, str):
            raise TypeError(f"expected text to be a str, got {type(text).__name__}")
        with self._lock:
            end = text.rfind("\n") + 1
            if not end and self._length + len(text) >= CONTROL_BYTES:
                end = len(text)  # it is sent in pieces anyway
            ready = self._take(text[:end]) if end else ""
            if end < len(text):
                self.pieces.append(text[end:])
                self._length += len(text) - end
        self._send(ready)
        return len(text)

    def flush(self) -> None:
        """Send what there is of an unfinished line, as a line: a progress bar is seen."""
        if self.pieces:
            with self._lock:
                ready = self._take("").strip("\r")
            self._send(ready)

    def _take(self, more: str) -> str:
        """Return the unfinished line and ``more``, less a line feed that the parent has put there already."""
        text = "".join([*self.pieces, more])
        self.pieces.clear()
        self._length = 0
        is_cut, self.is_cut = self.is_cut, not text.endswith("\n")
        return text[1:] if is_cut and text.startswith("\n") else text

    def _send(self, text: str) -> None:
        if text:
            self._voice.print_text(self._stream, text)

    def reconfigure(self, **options: Any) -> None:
        """Accept what a program sets on a text stream: here nothing of it can differ."""
        self.flush()

    def finish_line(self) -> None:
        """Send what there is of an unfinished line; what comes next begins a line."""
        self.flush()
        self.is_cut = False


class _Bytes(io.RawIOBase):
    """Takes the bytes that a program writes below the text layer."""

    def __init__(self, printer: Printer) -> None:
        super().__init__()
        self._printer = printer

    def writable(self) -> bool:
        """Say yes."""
        return True

    def write(self, data: Any, /) -> int:
        """Print ``data`` as text."""
        raw = bytes(data)
        self._printer.write(raw.decode("utf-8", "backslashreplace"))
        return len(raw)


def take_over(voice: Voice) -> tuple[Printer, Printer]:
    """Put printers in the place of ``sys.stdout`` and ``sys.stderr``."""
    printers = Printer(voice, 1), Printer(voice, 2)
    sys.stdout, sys.stderr = printers
    return printers
