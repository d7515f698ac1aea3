"""The main loop of a worker of our own protocol: take a packet, run the task in it."""

import _socket
import pickle
import time
from typing import Any

from .._wire.frames import HEAVY, TASK, inline_size
from .._wire.page import StartPage
from .current import WorkerTask
from .gauge import Gauge
from .inbox import Broken, ParentGone, Stream
from .interrupts import Interrupts
from .outlet import Outlet
from .runner import Runner, Undecodable, call_of
from .voice import Voice

__all__ = ["PacketRunner"]


class PacketRunner(Runner):
    """Runs what comes in packets."""

    def __init__(
        self, tasks: _socket.socket, stream: Stream, outlet: Outlet, page: StartPage, voice: Voice,
        interrupts: Interrupts,
    ) -> None:  # fmt: skip
        super().__init__(outlet, voice, interrupts)
        self._tasks = tasks
        self._stream = stream
        self._page = page
        self._buffer = bytearray(1 << 17)
        self._view = memoryview(self._buffer)

    def serve(self, max_tasks: int | None, gauge: Gauge | None = None) -> None:
        """Run tasks until the parent closes the socket, or there were ``max_tasks``: what follows is another's.

        So it is when ``gauge`` says that too much memory is held.

        After an interrupt nothing more is begun, so the parent can take it back; then it kills this process.
        """
        left = -1 if max_tasks is None else max_tasks
        receive, buffer = self._tasks.recv_into, self._buffer
        while size := receive(buffer):
            at = 0
            while at < size:
                header = TASK.unpack_from(buffer, at)
                start = at + TASK.size
                at = start + inline_size(header)
                if self._take(header, self._view[start:at]):
                    left -= 1
                while self._interrupts.has_raised:
                    time.sleep(60)
                if gauge is not None and gauge.is_over():
                    self._voice.say(HEAVY, 0, b"")
                    return
                if not left:
                    return

    def _take(self, header: tuple[Any, ...], body: memoryview) -> bool:
        """Run one task, unless it was taken back; say whether it has run."""
        number, started = header[3], time.monotonic()
        if self._page.begin(number, started):
            return self._run(header, body, started)
        self._skip(number, started)
        return False

    def _may_begin(self, number: int) -> bool:
        return self._page.may_begin(number)

    def _decode(self, header: tuple[Any, ...], body: memoryview, task: WorkerTask) -> tuple[Any, Any, Any, Any]:
        """Return function, arguments, and what to run them with: a fresh context, so that nothing leaks."""
        flags, count, _, number, _, function, length, _, bulk = header
        fn: Any = None
        try:
            self._stream.current = number
            if function:
                task.name, fn = self._stream.function(function)
                if type(fn) is Broken:
                    raise fn.error
            head: Any = body
            buffers: list[Any] = []
            if bulk:
                head, buffers = self._stream.segments(number, flags, bytes(head), count, length)
            return call_of(fn, flags, pickle.loads(head, buffers=buffers), task)
        except ParentGone:
            raise
        except BaseException as error:
            raise Undecodable from error
