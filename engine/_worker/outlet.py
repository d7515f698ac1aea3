"""Answers of a worker: one write each where they fit the socket, so that what it finished survives it."""

import _socket
import time
from abc import ABC, abstractmethod

from .._wire.frames import MAGIC, PART, RESULT, RETIRE, SEGMENT, SPOKE
from .._wire.pickling import Packed
from .interrupts import Interrupts
from .parts import Parts
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
        self.finish_lines()
        voice = self._voice
        if voice.has_spoken:
            voice.has_spoken = False
            flags |= SPOKE
        if self._interrupts.has_raised:
            flags |= RETIRE
        self._write(kind, number, flags, started, ended, packed)

    def finish_lines(self) -> None:
        """Send what there is of unfinished lines."""
        for printer in (self._out, self._err):
            if printer.pieces or printer.is_cut:
                printer.finish_line()

    def open_lines(self) -> tuple[list[str], list[str]]:
        """Return what is empty while no line is unfinished, on either stream."""
        return self._out.pieces, self._err.pieces

    @abstractmethod
    def _write(self, kind: int, number: int, flags: int, started: float, ended: float, packed: Packed) -> None:
        """Hand the answer to the parent."""


class StreamOutlet(Outlet):
    """Writes answers to the stream."""

    def __init__(
        self, sock: _socket.socket, interrupts: Interrupts, voice: Voice, printers: tuple[Printer, Printer],
        parts: Parts,
    ) -> None:  # fmt: skip
        super().__init__(interrupts, voice, printers)
        self._sock = sock
        self._parts = parts

    def part(self, kind: int, number: int, started: float, packed: Packed, flags: int) -> None:
        """Answer the next item of the chunk ``number``; soon, and before what is answered later."""
        self.finish_lines()
        flags |= PART | (SPOKE if self._voice.has_spoken else 0)
        head = _header(kind, number, flags, started, time.monotonic(), packed)
        self._parts.add(head + packed.payload, [buffer for _, buffer in packed.buffers])

    def _write(self, kind: int, number: int, flags: int, started: float, ended: float, packed: Packed) -> None:
        payload, buffers, _ = packed
        head = _header(kind, number, flags, started, ended, packed)
        if self._parts.number:
            head = self._parts.close() + head
        if len(payload) < COPIED_BYTES:
            self._sock.sendall(head + payload)
        else:
            self._sock.sendall(head)
            self._sock.sendall(payload)
        for _, buffer in buffers:
            self._sock.sendall(buffer)


def _header(kind: int, number: int, flags: int, started: float, ended: float, packed: Packed) -> bytes:
    """Return header and table of an answer."""
    payload, buffers, _ = packed
    if not buffers:
        return RESULT.pack(MAGIC, kind, flags, 0, number, started, ended, len(payload), 0)
    bulk = sum([buffer.nbytes for _, buffer in buffers])
    head = RESULT.pack(MAGIC, kind, flags, len(buffers), number, started, ended, len(payload), bulk)
    return head + b"".join([SEGMENT.pack(kind, buffer.nbytes) for kind, buffer in buffers])
