"""Answers of a worker: one write each where they fit the socket, so that what it finished survives it."""

import _socket
from abc import ABC, abstractmethod

from .._wire.frames import MAGIC, RESULT, RETIRE, SEGMENT, SPOKE
from .._wire.pickling import Packed
from .interrupts import Interrupts
from .voice import Printer, Voice

__all__ = ["Outlet", "StreamOutlet"]

COPIED_BYTES = 128 << 10  #: more does not fit the socket's buffer anyway


class Outlet(ABC):
    """Answers tasks; main thread only."""

    def __init__(self, interrupts: Interrupts, voice: Voice, printers: tuple[Printer, Printer]) -> None:
        self._interrupts = interrupts
        self._voice = voice
        self._out, self._err = printers

    def answer(self, kind: int, number: int, started: float, ended: float, packed: Packed, flags: int = 0) -> None:
        """Answer task ``number``; its prints and log records have been sent before."""
        self._out.finish_line()
        self._err.finish_line()
        voice = self._voice
        if voice.has_spoken:
            voice.has_spoken = False
            flags |= SPOKE
        if self._interrupts.has_raised:
            flags |= RETIRE
        self._write(kind, number, flags, started, ended, packed)

    @abstractmethod
    def _write(self, kind: int, number: int, flags: int, started: float, ended: float, packed: Packed) -> None:
        """Hand the answer to the parent."""


class StreamOutlet(Outlet):
    """Writes answers to the stream."""

    def __init__(
        self, sock: _socket.socket, interrupts: Interrupts, voice: Voice, printers: tuple[Printer, Printer]
    ) -> None:
        super().__init__(interrupts, voice, printers)
        self._sock = sock

    def _write(self, kind: int, number: int, flags: int, started: float, ended: float, packed: Packed) -> None:
        payload, buffers, _ = packed
        if not buffers:
            head = RESULT.pack(MAGIC, kind, flags, 0, number, started, ended, len(payload), 0)
            self._send(head, payload)
            return
        bulk = sum([buffer.nbytes for _, buffer in buffers])
        head = RESULT.pack(MAGIC, kind, flags, len(buffers), number, started, ended, len(payload), bulk)
        table = b"".join([SEGMENT.pack(kind, buffer.nbytes) for kind, buffer in buffers])
        self._send(head + table, payload)
        for _, buffer in buffers:
            self._sock.sendall(buffer)

    def _send(self, head: bytes, payload: bytes) -> None:
        """Send both, in one write unless that would copy much."""
        if len(payload) < COPIED_BYTES:
            self._sock.sendall(head + payload)
        else:
            self._sock.sendall(head)
            self._sock.sendall(payload)
