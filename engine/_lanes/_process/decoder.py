"""A worker's answer as an Outcome.

What holds only built-ins, or types known to be harmless, is decoded on the loop. Anything else is decoded on a helper
thread: its unpickling may raise, exit or sleep, and then fails its own task only.

Guarantees
    ``settle`` is called on the home loop; the attempt's end is reported there or from the helper thread, once: of the
    helper and the watch that leaves it behind, ``_Job.take`` chooses one under the job's lock.
    Shared with the helper: jobs, through a SimpleQueue; ``job``, ``began`` and ``is_left``, each one store of one side.
"""

import asyncio
import contextvars
import dataclasses
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


_CAUSE: Any = BaseException.__dict__["__cause__"]


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


class _Job:
    """One answer to decode; whoever takes it first, the helper or the one who watches it, reports its end."""

    def __init__(self, attempt: Attempt, outcome: Outcome, work: Callable[[], None]) -> None:
        self.attempt = attempt
        self.outcome = outcome
        self.work = work
        self.began: float | None = None
        self._lock = threading.Lock()
        self._is_taken = False

    def take(self) -> bool:
        """Say whether the caller is the one to report this job's end."""
        with self._lock:
            is_mine, self._is_taken = not self._is_taken, True
            return is_mine


class _Helper:
    """One daemon thread that decodes what is queued, until it is told to leave or is left behind."""

    def __init__(self, jobs: "SimpleQueue[_Job | None]", end: Callable[[Attempt, Outcome], None]) -> None:
        self._jobs = jobs
        self._end = end
        self.job: _Job | None = None
        self.is_left = False
        self.thread = threading.Thread(target=self._run, name="engine-decoder", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while not self.is_left and (job := self._jobs.get()) is not None:
            job.began = time.monotonic()
            self.job = job
            try:
                job.work()
            except BaseException as error:  # user code in what it touched; the helper must go on
                job.outcome.error = _decode_error(job.attempt, error)
            self.job = None
            if job.take():
                self._end(job.attempt, job.outcome)
            del job


class Decoder:
    """Decodes answers and reports them through ``end``."""

    def __init__(self, end: Callable[[Attempt, Outcome], None], loop: asyncio.AbstractEventLoop) -> None:
        self._end = end
        self._loop = loop
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._helper: _Helper | None = None
        self._timer: Any = None

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
                self._later(attempt, outcome, lambda: _decode_there(attempt, outcome, frame))
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

    def _settle_error(self, attempt: Attempt, outcome: Outcome, frame: Frame) -> None:
        payload = frame.payload.join() if type(frame.payload) is Pieces else frame.payload
        name, text, trace, pickled = pickle.loads(payload)  # built-ins only, by ``_worker.failures``
        report = _Report(attempt, frame.kind, name, text, trace)
        outcome.retryable = frame.kind not in (NOT_DECODED, NOT_ENCODED)
        if pickled is None:
            outcome.error = report.error(None)
        else:
            try:
                outcome.error = report.error(_CarefulUnpickler(io.BytesIO(pickled)).load())
            except Exception:  # not on the list, or it fails: the helper finds out which
                self._later(attempt, outcome, lambda: _raise_there(outcome, report, pickled))
                return
        self._end(attempt, outcome)

    def _later(self, attempt: Attempt, outcome: Outcome, work: Callable[[], None]) -> None:
        """Have ``work`` done by the helper, and watch that it does not take for ever."""
        if self._helper is None:
            try:
                self._helper = _Helper(self._jobs, self._end)
            except RuntimeError as error:  # the system gives no thread now; the next answer tries again
                outcome.error = _decode_error(attempt, error)
                self._end(attempt, outcome)
                return
        self._jobs.put(_Job(attempt, outcome, work))
        if self._timer is None:
            self._timer = self._loop.call_later(STUCK_SECONDS / 4, self._watch, context=contextvars.Context())

    def _watch(self) -> None:
        """Leave a helper behind that is stuck: its job fails, and another one takes over the queue."""
        self._timer = None
        helper = self._helper
        if helper is None:
            return
        job = helper.job
        if job is not None and job.began is not None and time.monotonic() - job.began > STUCK_SECONDS:
            helper.is_left = True
            self._helper = _Helper(self._jobs, self._end)
            if job.take():
                error = _decode_error(job.attempt, TimeoutError(f"decoding took more than {STUCK_SECONDS} s"))
                self._end(job.attempt, dataclasses.replace(job.outcome, value=None, error=error))
        if helper.job is not None or not self._jobs.empty():
            self._timer = self._loop.call_later(STUCK_SECONDS / 4, self._watch, context=contextvars.Context())

    def close(self) -> threading.Thread | None:
        """Have the helper end when it has done its jobs; return its thread."""
        if self._timer is not None:
            self._timer.cancel()
        if self._helper is None:
            return None
        helper, self._helper = self._helper, None
        self._jobs.put(None)
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
            _CAUSE.__set__(original, cause)  # past a __setattr__ or a property of user code (a frozen dataclass)
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


def _decode_there(attempt: Attempt, outcome: Outcome, frame: Frame) -> None:
    try:
        payload = frame.payload.join() if type(frame.payload) is Pieces else frame.payload
        outcome.value = pickle.Unpickler(_YieldingFile(payload), buffers=_joined(frame.buffers)).load()
    except BaseException as error:  # unpickling runs user code, which may even exit
        outcome.error = _decode_error(attempt, error)


def _raise_there(outcome: Outcome, report: _Report, pickled: bytes) -> None:
    try:
        error = pickle.loads(pickled)
    except BaseException:  # its class may exist in the worker only, or run anything
        error = None
    outcome.error = report.error(error)


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
