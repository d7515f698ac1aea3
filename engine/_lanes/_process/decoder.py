"""A worker's answer as an Outcome.

What is short and holds only harmless types (``_wire.harmless``) is rebuilt on the loop. Anything else is rebuilt on a
thread of its own kind (``decoder_threads``): its unpickling may raise, exit or sleep, and then fails its own task only.
What happens in C there cannot be contained: it may crash this process, or keep the GIL.

Guarantees
    ``settle`` and ``close`` are called on the home loop, the rest from any thread. The attempt's end is reported once,
    on the loop or on a thread. Nothing that a worker sends makes ``settle`` raise.
"""

import asyncio
import functools
import pickle
from collections.abc import Callable
from typing import Any

from ..._wire.frames import CANCELLED, NOT_DECODED, NOT_ENCODED, PICKLES, PLAIN, VALUE, VALUES
from ..._wire.harmless import load_harmless
from ..base import Attempt, Outcome
from ..chunk import Chunk, Item
from .decoder_threads import DecoderThreads, Job
from .failure_report import FailureReport, decode_error, read_failure
from .pieces import Pieces, PiecesFile
from .reader import Frame
from .settings import Counters

__all__ = ["Decoder"]

_TOO_MANY = "it answered more items than it was sent"
_THERE: Any = object()  #: in place of a value that is rebuilt on a thread
LOOP_BYTES = 256 << 10  #: longer pickles hold the loop too long


class Decoder:
    """Decodes answers and reports them through ``end``."""

    def __init__(
        self,
        end: Callable[[Any, Outcome], None],
        return_row: Callable[[list[tuple[Attempt, Any, float, float]], str], None],
        loop: asyncio.AbstractEventLoop,
        counters: Counters | None = None,
        on_room: Callable[[], None] | None = None,
    ) -> None:
        self._end = end
        self._return_row = return_row
        self._threads = DecoderThreads(end, loop, counters if counters is not None else Counters(), on_room)
        self.is_full = self._threads.is_full
        self.started = self._threads.started

    def give_up(self, attempt: Attempt) -> None:
        """Report the end of ``attempt``, nobody waiting any more for what is decoded of it."""
        if type(attempt.args) is Chunk:
            attempt.args.give_up()
        self._threads.give_up(attempt)

    def settle(self, attempt: Attempt | Item, frame: Frame, worker: str) -> str:
        """Report how ``attempt`` ended, now or, where its value is not known to be harmless, from a thread.

        Return what is wrong with the answer itself, empty if nothing is.
        """
        kind, outcome = frame.kind, _outcome(frame, worker)
        if kind == VALUE:
            outcome.value = _value_here(frame)
            if outcome.value is _THERE:
                self._settle_value_there(attempt, outcome, frame)
            else:
                self._end(attempt, outcome)
            return ""
        if kind == VALUES and type(attempt) is not Item:
            self._settle_chunk(attempt, outcome, frame)  # type: ignore[arg-type]  # not narrowed by exact type
            return ""
        if kind != CANCELLED:
            return self._settle_error(attempt, outcome, frame)
        outcome.cancelled = True
        self._end(attempt, outcome)
        return ""

    def settle_row(self, row: list[tuple[Attempt, Frame]], worker: str) -> None:
        """Report what attempts returned: together, but for those whose value is rebuilt on a thread."""
        returned: list[tuple[Attempt, Any, float, float]] = []
        for attempt, frame in row:
            value = _value_here(frame)
            if value is _THERE:
                self._settle_value_there(attempt, _outcome(frame, worker), frame)
            else:
                returned.append((attempt, value, frame.started, frame.ended))
        self._return_row(returned, worker)

    # -- chunks (design/0011)

    def take_part(self, attempt: Attempt, chunk: Chunk, frame: Frame, worker: str) -> str:
        """Take the answers to the next items of ``chunk``, or to one; return what is wrong with them."""
        if frame.kind == VALUES:
            return self._take_values(attempt, chunk, frame, worker)
        item = chunk.next_item(attempt, _frame_bytes(frame))
        if item is None:
            return "" if chunk.is_over else _TOO_MANY
        return self.settle(item, frame, worker)

    def _take_values(self, attempt: Attempt, chunk: Chunk, frame: Frame, worker: str) -> str:
        payload = frame.payload.join() if type(frame.payload) is Pieces else frame.payload
        try:
            values = load_harmless(payload) if len(payload) <= LOOP_BYTES else None
        except Exception:
            values = None
        if type(values) is not list:
            return "it sent a list of values that is none"
        if not chunk.awaits(len(values)):
            return _TOO_MANY
        if frame.flags & PICKLES:
            frame = frame._replace(kind=VALUE, payload=payload)
            self._take_pickles(attempt, chunk, frame, worker, values)
            return ""
        chunk.put(values, len(payload))
        return ""

    def _take_pickles(self, attempt: Attempt, chunk: Chunk, frame: Frame, worker: str, values: list[Any]) -> None:
        """Take values some of which were pickled each on its own; one that is not rebuilt here is by a thread."""
        size = len(frame.payload) // len(values)
        ready: list[Any] = []
        for value in values:
            if type(value) is bytes:
                try:
                    value = load_harmless(value)
                except Exception:
                    chunk.put(ready, size * len(ready))
                    ready = []
                    item = chunk.next_item(attempt, size)
                    if item is not None:
                        self.settle(item, frame._replace(payload=value), worker)
                    continue
            ready.append(value)
        chunk.put(ready, size * len(ready))

    def settle_single(self, attempt: Attempt, chunk: Chunk, frame: Frame, worker: str) -> str:
        """Report how the item of a single ``chunk`` ended, and the chunk with it; return what is wrong with that."""
        if frame.kind == CANCELLED:  # it was asked for, or the item has raised it: either way the chunk is no more
            return self.settle(attempt, frame, worker)
        chunk.begun = 1
        item = chunk.next_item(attempt, _frame_bytes(frame))
        problem = "" if item is None else self.settle(item, frame, worker)
        self._settle_chunk(attempt, _outcome(frame, worker), frame)
        return problem

    def _settle_chunk(self, attempt: Attempt, outcome: Outcome, frame: Frame) -> None:
        """Report the end of a chunk, once all that it answered is decoded."""
        chunk: Chunk = attempt.args
        chunk.seconds = frame.ended - frame.started
        end = functools.partial(self._end, attempt, outcome)
        if not chunk.hold(end):
            end()

    def close(self) -> None:
        """Have the threads end when they have done their jobs."""
        self._threads.close()

    # -- values

    def _settle_value_there(self, attempt: Attempt | Item, outcome: Outcome, frame: Frame) -> None:
        payload, buffers = frame.payload, frame.buffers
        size = payload.size if type(payload) is Pieces else len(payload)

        def work() -> Outcome:
            outcome.value = pickle.Unpickler(PiecesFile(payload), buffers=_joined(buffers)).load()
            return outcome

        def give_up(error: BaseException) -> Outcome:
            return _failed(outcome, decode_error(attempt, error))

        self._threads.do(Job(attempt, size, frame.started, work, give_up))

    # -- errors

    def _settle_error(self, attempt: Attempt | Item, outcome: Outcome, frame: Frame) -> str:
        outcome.retryable = frame.kind not in (NOT_DECODED, NOT_ENCODED)
        payload = frame.payload.join() if type(frame.payload) is Pieces else frame.payload
        try:
            report = read_failure(attempt, frame.kind, payload)
        except Exception as error:  # a report that no worker of ours wrote
            self._end(attempt, _failed(outcome, decode_error(attempt, error)))
            return "it sent a report of an exception that is none"
        pickled = report.pickled
        if pickled is None:
            self._end(attempt, _failed(outcome, report.error()))
        elif not self._raise_here(attempt, outcome, report, pickled):
            self._raise_there(attempt, outcome, report, pickled)
        return ""

    def _raise_here(self, attempt: Attempt | Item, outcome: Outcome, report: FailureReport, pickled: bytes) -> bool:
        if not report.is_harmless or len(pickled) > LOOP_BYTES:
            return False
        try:
            outcome.error = report.error(load_harmless(pickled))
        except Exception:  # a thread finds out which
            return False
        self._end(attempt, outcome)
        return True

    def _raise_there(self, attempt: Attempt | Item, outcome: Outcome, report: FailureReport, pickled: bytes) -> None:
        def work() -> Outcome:
            outcome.error = report.error(pickle.loads(pickled))
            return outcome

        def give_up(error: BaseException) -> Outcome:  # its class may exist in the worker only, or run anything
            return _failed(outcome, report.error())

        self._threads.do(Job(attempt, len(pickled), outcome.started_at, work, give_up))


def _value_here(frame: Frame) -> Any:
    """Rebuild a value that is short and harmless; ``_THERE`` if it is neither, or fails: a thread finds out why."""
    payload, buffers = frame.payload, frame.buffers
    if not frame.flags & PLAIN or type(payload) is Pieces or len(payload) > LOOP_BYTES:
        return _THERE
    if buffers:
        if any(type(buffer) is Pieces and buffer.size > LOOP_BYTES for buffer in buffers):
            return _THERE
        buffers = _joined(buffers)
    try:
        return load_harmless(payload, buffers or ())
    except Exception:
        return _THERE


def _outcome(frame: Frame, worker: str) -> Outcome:
    return Outcome(None, None, False, frame.started, frame.ended, worker)


def _frame_bytes(frame: Frame) -> int:
    """Return how much ``frame`` carries."""
    pieces = [frame.payload, *(frame.buffers or ())]
    return sum([piece.size if type(piece) is Pieces else memoryview(piece).nbytes for piece in pieces])


def _joined(buffers: list[Any] | None) -> list[Any]:
    return [buffer.join() if type(buffer) is Pieces else buffer for buffer in buffers or ()]


def _failed(outcome: Outcome, error: BaseException) -> Outcome:
    """Return a copy of ``outcome`` that failed: a thread may still be writing to the first one."""
    return Outcome(
        error=error, started_at=outcome.started_at, completed_at=outcome.completed_at, worker=outcome.worker,
        retryable=outcome.retryable,
    )  # fmt: skip
