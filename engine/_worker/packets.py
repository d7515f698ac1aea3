"""The main loop of a worker of our own protocol: take a packet, run the task in it."""

import pickle
import time
from collections.abc import Callable
from sys import getrefcount
from typing import Any

from .. import _lineage
from .._wire.frames import CANCELLED, CHUNK, ERROR, HEAVY, NOT_DECODED, TASK, VALUE, VALUES, inline_size
from .._wire.page import ITEM, ITEM_BITS, NO_ITEMS_OF, StartPage
from ..errors import TaskCancelled
from .current import WorkerTask
from .gauge import Gauge
from .inbox import Broken, ParentGone, Stream
from .interrupts import Interrupts, context_with
from .outlet import StreamOutlet
from .packet_socket import PacketSocket
from .parts import ATOMS, INT_MAX, INT_MIN, SHORT, SMALL_BYTES, Parts
from .runner import Runner, Undecodable, call_of
from .voice import Voice

__all__ = ["PacketRunner"]


class PacketRunner(Runner):
    """Runs what comes in packets."""

    def __init__(
        self, tasks: PacketSocket, stream: Stream, outlet: StreamOutlet, page: StartPage, voice: Voice,
        interrupts: Interrupts, parts: Parts,
    ) -> None:  # fmt: skip
        super().__init__(outlet, voice, interrupts)
        self._stream_outlet = outlet
        self._parts = parts
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
        receive, buffer = self._tasks.receive, self._buffer
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

    def _call(self, header: tuple[Any, ...], body: memoryview, task: WorkerTask) -> tuple[int, Any]:
        return self._call_items(header, body, task) if header[0] & CHUNK else super()._call(header, body, task)

    def _decode(self, header: tuple[Any, ...], body: memoryview, task: WorkerTask) -> tuple[Any, Any, Any, Any]:
        """Return function, arguments, and what to run them with: a fresh context, so that nothing leaks."""
        fn, loaded = self._load(header, body, task)
        return call_of(fn, header[0], loaded, task)

    def _load(self, header: tuple[Any, ...], body: memoryview, task: WorkerTask) -> tuple[Any, Any]:
        """Return the function, None if it is in there too, and what was pickled. Undecodable: it cannot be rebuilt."""
        flags, count, _, number, _, function, length, _, bulk = header
        fn: Any = None
        try:
            self._stream.current = number
            if function:
                task.name, fn = self._stream.function(function)
                if type(fn) is Broken:
                    raise fn.error
            head: Any = body
            if not bulk:
                return fn, pickle.loads(head)
            head, buffers = self._stream.segments(number, flags, bytes(head), count, length)
            return fn, pickle.loads(head, buffers=buffers)
        except ParentGone:
            raise
        except BaseException as error:
            raise Undecodable from error

    # -- chunks: many items of a map as one task (design/0011)

    def _call_items(self, header: tuple[Any, ...], body: memoryview, task: WorkerTask) -> tuple[int, Any]:
        """Run the items of a chunk; their answers are in the parts."""
        number, started = header[3], time.monotonic()
        try:
            fn, (items, is_rows, task.name, exported, given) = self._load(header, body, task)
        except Undecodable as error:
            return NOT_DECODED, error.__cause__
        fn = given if fn is None else fn
        try:
            context_with(exported)
        except BaseException as error:  # a module that is not there: each item's answer, as it is a task's
            fn, exported = _failing(error), None
        self._parts.open(number, started)
        return self._run_items(number, items, fn, exported, started, is_rows=is_rows)

    def _run_items(
        self, number: int, items: Any, fn: Any, exported: dict[str, Any] | None, started: float, *, is_rows: bool
    ) -> tuple[int, Any]:
        """Run one item after the other, each in a fresh context, until one may not begin.

        0.18 µs each, so what can be is in local names, and the ``try`` of ``Interrupts.call`` is repeated here, where
        nothing loops inside it either: a closure that holds it takes a tenth of what an item costs altogether.
        """
        parts, words, interrupts, forks = self._parts, self._page.numbers, self._interrupts, self._forks
        done, atoms, low, high = parts.values.append, ATOMS, INT_MIN, INT_MAX
        printed, complained = self._stream_outlet.open_lines()
        targets = interrupts.targets
        context = context_with(exported)
        call, unshared = context.run, getrefcount(context)  # the call has a reference too
        value: Any
        for word, item in enumerate(items, (number << ITEM_BITS) + 1):
            words[ITEM] = word
            if words[NO_ITEMS_OF] == number or interrupts.has_raised:
                words[ITEM] = word - 1  # this one has not begun
                return VALUES, None
            kind = VALUE
            try:
                try:
                    interrupts.region = number
                    if targets:
                        interrupts.raise_if_asked()
                    value = call(fn, *item) if is_rows else call(fn, item)
                finally:
                    interrupts.region = 0
                    if context or getrefcount(context) != unshared:  # else nothing was set, and no token is left
                        context = context_with(exported)
                        call = context.run
            except TaskCancelled as error:
                kind, value = CANCELLED, error
            except BaseException as error:  # whatever an item raises is its answer, SystemExit too
                kind, value = ERROR, error
            if forks != _lineage.forks:
                self._leave_if_forked()
            if printed or complained:
                self._stream_outlet.finish_lines()
            if kind == VALUE:
                kind_of = type(value)
                if (
                    low <= value <= high
                    if kind_of is int
                    else kind_of in atoms or (kind_of is str and len(value) <= SHORT)
                ):
                    done(value)
                    continue
            if interrupts.has_raised:
                return CANCELLED, value
            self._answer_item(kind, number, started, value)
        return VALUES, None

    def _answer_item(self, kind: int, number: int, started: float, value: Any) -> None:
        """Answer an item that failed, or whose value is pickled now: it may change."""
        kind, packed, plain = self._pack(kind, value)
        self._leave_if_forked()
        if kind == VALUE and plain and not packed.buffers and len(packed.payload) <= SMALL_BYTES:
            self._parts.add_pickled(packed.payload)
        else:
            self._stream_outlet.part(kind, number, started, packed, plain)


def _failing(error: BaseException) -> Callable[..., Any]:
    """Return a function that raises ``error``, which does not grow with each call."""
    at = error.__traceback__

    def fail(*args: Any) -> Any:
        raise error.with_traceback(at)

    return fail
