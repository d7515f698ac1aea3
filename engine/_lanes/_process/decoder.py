"""A worker's answer as an Outcome.

What holds only built-ins, or types known to be harmless, is decoded on the loop. Anything else is decoded on a helper
thread: its unpickling may raise, exit or sleep, and then fails its own task only.

Guarantees
    ``settle`` is called on the home loop; the attempt's end is reported there or from the helper thread, once.
    Shared with the helper: jobs, through a SimpleQueue, and ``since``, one float that it writes and the loop reads.
"""

import io
import pickle
import sys
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from ..._wire.frames import CANCELLED, NOT_DECODED, NOT_ENCODED, PLAIN, SKIPPED, VALUE
from ...errors import PickleError, RemoteError, RemoteTraceback, ResultDecodeError, TaskDecodeError
from ..base import Attempt, Outcome
from .reader import Frame, Pieces

__all__ = ["Decoder"]

LOOP_BYTES = 256 << 10  #: longer pickles hold the loop too long
STUCK_SECONDS = 30.0  #: a helper thread that decodes one result for longer is left behind

_HARMLESS = frozenset({
    "array", "builtins", "collections", "concurrent.futures._base", "datetime", "decimal", "engine.errors", "fractions",
    "engine._wire.pickling", "ipaddress", "numpy", "pathlib", "uuid",
})  # fmt: skip
_HARMFUL_BUILTINS = frozenset({"eval", "exec", "compile", "open", "input", "breakpoint", "__import__", "exit", "quit"})


class _NotHere(Exception):
    """The pickle names something that is not to be run on the loop."""


class _CarefulUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        is_known = module in _HARMLESS or module.startswith("numpy.")
        if not is_known or module not in sys.modules or (module == "builtins" and name in _HARMFUL_BUILTINS):
            raise _NotHere
        return super().find_class(module, name)


class _YieldingFile(io.BytesIO):
    """Lets other threads run between the pieces that the unpickler reads."""

    def read(self, size: int | None = -1, /) -> bytes:
        time.sleep(0)
        return super().read(size)

    def readinto(self, buffer: Any, /) -> int:
        time.sleep(0)
        return super().readinto(buffer)


class _Helper:
    """One daemon thread that decodes; ``since`` says when its current job began."""

    def __init__(self) -> None:
        self.jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self.since = 0.0
        self.thread = threading.Thread(target=self._run, name="engine-decoder", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while (job := self.jobs.get()) is not None:
            self.since = time.monotonic()
            job()
            del job
            self.since = 0.0


class Decoder:
    """Decodes answers and reports them through ``end``."""

    def __init__(self, end: Callable[[Attempt, Outcome], None]) -> None:
        self._end = end
        self._helper: _Helper | None = None

    def settle(self, attempt: Attempt, frame: Frame, worker: str) -> None:
        """Report how ``attempt`` ended, now or, where its value is not known to be harmless, from the helper."""
        kind = frame.kind
        outcome = Outcome(None, None, False, frame.started, frame.ended, worker)
        if kind == VALUE:
            payload, buffers = frame.payload, frame.buffers
            if buffers is None and frame.flags & PLAIN and len(payload) < LOOP_BYTES:
                try:
                    outcome.value = pickle.loads(payload)
                except Exception as error:  # not what our worker pickled
                    outcome.error = _decode_error(attempt, error)
            elif not self._decode_here(outcome, frame):
                self._later(lambda: self._decode_there(attempt, outcome, frame))
                return
            self._end(attempt, outcome)
        elif kind in (CANCELLED, SKIPPED):
            outcome.cancelled = True
            if kind == SKIPPED:
                outcome.started_at = None
            self._end(attempt, outcome)
        else:
            self._settle_error(attempt, outcome, frame)

    def _decode_here(self, outcome: Outcome, frame: Frame) -> bool:
        """Decode what is small enough and harmless. False: decode it on the helper."""
        if type(frame.payload) is Pieces or len(frame.payload) > LOOP_BYTES:
            return False
        if any(type(buffer) is Pieces and buffer.size > LOOP_BYTES for buffer in frame.buffers or ()):
            return False
        try:
            outcome.value = _CarefulUnpickler(io.BytesIO(frame.payload), buffers=_joined(frame.buffers)).load()
        except Exception:  # not on the list, or it fails: the helper finds out which
            return False
        return True

    def _decode_there(self, attempt: Attempt, outcome: Outcome, frame: Frame) -> None:
        try:
            payload = frame.payload.join() if type(frame.payload) is Pieces else frame.payload
            file = _YieldingFile(payload)
            outcome.value = pickle.Unpickler(file, buffers=_joined(frame.buffers)).load()
        except BaseException as error:  # unpickling runs user code, which may even exit
            outcome.error = _decode_error(attempt, error)
        self._end(attempt, outcome)

    def _settle_error(self, attempt: Attempt, outcome: Outcome, frame: Frame) -> None:
        payload = frame.payload.join() if type(frame.payload) is Pieces else frame.payload
        name, text, trace, pickled = pickle.loads(payload)  # built-ins only, by ``_worker.failures``
        report = _Report(attempt, frame.kind, name, text, trace)
        if pickled is None:
            outcome.error = report.error(None)
        else:
            try:
                outcome.error = report.error(_CarefulUnpickler(io.BytesIO(pickled)).load())
            except Exception:  # not on the list, or it fails: the helper finds out which
                self._later(lambda: self._raise_there(attempt, outcome, report, pickled))
                return
        outcome.retryable = frame.kind not in (NOT_DECODED, NOT_ENCODED)
        self._end(attempt, outcome)

    def _raise_there(self, attempt: Attempt, outcome: Outcome, report: "_Report", pickled: bytes) -> None:
        try:
            error = pickle.loads(pickled)
        except BaseException:  # its class may exist in the worker only, or run anything
            error = None
        outcome.error = report.error(error)
        outcome.retryable = report.kind not in (NOT_DECODED, NOT_ENCODED)
        self._end(attempt, outcome)

    def _later(self, job: Callable[[], None]) -> None:
        helper = self._helper
        if helper is None or (helper.since and time.monotonic() - helper.since > STUCK_SECONDS):
            if helper is not None:
                helper.jobs.put(None)
            helper = self._helper = _Helper()
        helper.jobs.put(job)

    def close(self) -> threading.Thread | None:
        """Have the helper end when it has done its jobs; return its thread."""
        if self._helper is None:
            return None
        helper, self._helper = self._helper, None
        helper.jobs.put(None)
        return helper.thread


class _Report:
    """What a worker says about an exception."""

    def __init__(self, attempt: Attempt, kind: int, name: str, text: str, trace: str) -> None:
        self.kind = kind
        self._attempt = attempt
        self._name = name
        self._text = text
        self._trace = trace

    def error(self, original: Any) -> BaseException:
        """Return the error to raise here, with the remote traceback as the innermost cause."""
        cause: BaseException = RemoteTraceback(self._trace)
        if isinstance(original, BaseException):
            original.__cause__ = cause
            cause = original
        if self.kind in (NOT_DECODED, NOT_ENCODED):
            result = self._pickle_error()
        elif isinstance(original, Exception) and not isinstance(original, StopIteration):
            return original
        else:
            text = f"{self._name}: {self._text}"
            result = RemoteError(text, type_name=self._name, text=self._text, traceback=self._trace)
        result.__cause__ = cause
        return result

    def _pickle_error(self) -> BaseException:
        attempt, got = self._attempt, f"got {self._name}: {self._text[:1000]}"
        if self.kind == NOT_DECODED:
            return TaskDecodeError(
                f"expected task {attempt.task_id} ({attempt.name}) to be rebuilt in the worker, {got}; make sure that"
                " its modules can be imported there, or define the function in the main script",
                what="arguments", where="worker", task_id=attempt.task_id,
            )  # fmt: skip
        return PickleError(
            f"expected the result of task {attempt.task_id} ({attempt.name}) to be picklable, {got}; return plain"
            " data, or use the thread lane",
            what="result", where="worker", task_id=attempt.task_id,
        )  # fmt: skip


def _joined(buffers: list[Any] | None) -> list[Any]:
    return [buffer.join() if type(buffer) is Pieces else buffer for buffer in buffers or ()]


def _decode_error(attempt: Attempt, error: BaseException) -> ResultDecodeError:
    result = ResultDecodeError(
        f"expected the result of task {attempt.task_id} ({attempt.name}) to be rebuilt here, got"
        f" {type(error).__name__}; make sure that its classes can be imported, or return plain data",
        task_id=attempt.task_id,
    )
    result.__cause__ = error
    return result
