"""The small thread of a worker that listens while the main thread works: cancel, stacks."""

import _socket
import _thread
import select
import struct
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable

from .._wire.frames import CANCEL, CONTROL, FLUSH, STACKS
from .interrupts import Interrupts
from .voice import Voice

__all__ = ["Control", "SocketControl"]

GRACE = struct.Struct("<d")


class Control(ABC):
    """Serves what the parent asks until it asks no more."""

    def __init__(self, interrupts: Interrupts, voice: Voice) -> None:
        self._interrupts = interrupts
        self._voice = voice

    def start(self) -> None:
        """Start the thread; it ends with the process."""
        _thread.start_new_thread(self._serve, ())

    @abstractmethod
    def _serve(self) -> None:
        """Obey one message after the other, and press cooperative tasks in between."""

    def _obey(self, message: bytes) -> None:
        kind, number = CONTROL.unpack_from(message)
        if kind == CANCEL:
            self._interrupts.cancel(number, GRACE.unpack_from(message, CONTROL.size)[0])
        elif kind == STACKS:
            self._voice.say(STACKS, number, _stacks().encode("utf-8", "backslashreplace"))


class SocketControl(Control):
    """Listens on the control socket."""

    def __init__(
        self, sock: _socket.socket, interrupts: Interrupts, voice: Voice, flush: Callable[[int], None]
    ) -> None:
        super().__init__(interrupts, voice)
        self._sock = sock
        self._flush = flush

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self._sock.fileno(), select.POLLIN)
        while True:
            wait = self._interrupts.press()
            if not poll.poll(None if wait is None else max(1, int(wait * 1000) + 1)):
                continue
            message = self._sock.recv(1 << 12)
            if not message:
                return
            kind, number = CONTROL.unpack_from(message)
            if kind == FLUSH:
                self._flush(number)
            else:
                self._obey(message)


def _stacks() -> str:
    """Format what every thread but this one does now."""
    import threading
    import traceback

    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = []
    for ident, frame in sys._current_frames().items():
        if ident != _thread.get_ident():
            parts.append(f"Thread {names.get(ident, ident)}:\n" + "".join(traceback.format_stack(frame)[-30:]))
    return "\n".join(parts)
