"""What a worker says about an exception, as the error to raise here.

The worker sends what any worker can say (type name and those of its bases, message, traceback), and the pickled
exception if it can travel, else why not. So whatever becomes of the pickle, the first three always arrive.
"""

import linecache
import re
from typing import Any

from ..._records import describe_error, named
from ..._wire.frames import NOT_DECODED, NOT_ENCODED
from ..._wire.harmless import load_harmless
from ...errors import (
    PayloadTooLarge,
    PickleError,
    RemoteError,
    RemoteTraceback,
    ResultDecodeError,
    ShareError,
    TaskDecodeError,
)
from .._errors import may_be_raised, not_shared
from ..base import Attempt
from ..chunk import Item
from .encoder import too_large

__all__ = ["FailureReport", "decode_error", "read_failure"]

_WITHOUT_SOURCE = re.compile(r'^  File "([^"\n]+)", line (\d+), in .*\n(?!    )', re.MULTILINE)
_CAUSE: Any = BaseException.__dict__["__cause__"]


class FailureReport:
    """One failure as a worker describes it."""

    def __init__(
        self, attempt: Attempt | Item, kind: int, name: str, text: str, trace: str, pickled: bytes | None,
        is_harmless: bool, type_names: tuple[str, ...] = (), reason: str = "",
    ) -> None:  # fmt: skip
        self.pickled = pickled
        self.is_harmless = is_harmless  #: unpickling it runs nobody's code
        self._type_names = type_names
        self._reason = reason  #: why it could not travel
        self._kind = kind
        self._attempt = attempt
        self._name = name
        self._text = text
        self._trace = trace

    def error(self, original: Any = None) -> BaseException:
        """Return the error to raise here, with the remote traceback as the innermost cause.

        ``original`` is what ``pickled`` gave; None, or anything that is no exception, if it could not be rebuilt.
        """
        cause: BaseException = RemoteTraceback(self._trace)
        if isinstance(original, BaseException):  # or something that says so: the next line raises
            _CAUSE.__set__(original, cause)  # past a __setattr__ or a property of user code (a frozen dataclass)
            cause = original
        if self._kind in (NOT_DECODED, NOT_ENCODED):
            if type(original) is PayloadTooLarge:
                return too_large("result", "worker", self._attempt, original)
            if self._kind == NOT_DECODED and type(original) is ShareError:
                result: BaseException = not_shared(self._attempt, "worker", original)
            else:
                result = self._pickle_error()
        elif isinstance(original, BaseException) and may_be_raised(type(original)):
            return original
        else:
            result = RemoteError(
                named(self._name, self._text),
                type_name=self._name,
                text=self._text,
                traceback=self._trace,
                type_names=self._type_names,
            )
            if not isinstance(original, BaseException):
                why = self._reason or "its class is not to be had here"
                result.add_note(
                    f"It arrives as RemoteError because it could not be rebuilt: {why}. Give the class a __reduce__, or"
                    " pass all arguments on to super().__init__()."
                )
        result.__cause__ = cause
        return result

    def _pickle_error(self) -> BaseException:
        attempt, got = self._attempt, f"got {named(self._name, self._text[:1000])}"
        if self._kind == NOT_DECODED:
            late = self._name in ("ModuleNotFoundError", "ImportError")
            more = ", and call restart_workers() if sys.path has changed since they started" if late else ""
            return TaskDecodeError(
                f"expected task {attempt.task_id} ({attempt.name}) to be rebuilt in the worker, {got}; make sure that"
                f" its modules can be imported there{more}, or define the function in the main script",
                what="arguments", where="worker", task_id=attempt.task_id,
            )  # fmt: skip
        remedy = "return less deeply nested data" if self._name == "RecursionError" else "return plain data"
        return PickleError(
            f"expected the result of task {attempt.task_id} ({attempt.name}) to be picklable, {got}; {remedy}, or use"
            " the thread lane",
            what="result", where="worker", task_id=attempt.task_id,
        )  # fmt: skip


def read_failure(attempt: Attempt | Item, kind: int, payload: bytes) -> FailureReport:
    """Return what the worker reported. Raises whatever comes of a report that ``_worker.failures`` never wrote."""
    name, text, trace, pickled, is_harmless, type_names, reason = load_harmless(payload)
    if not (type(name) is type(text) is type(trace) is type(reason) is str and type(type_names) is tuple):
        raise TypeError("expected a report of texts")
    if not (pickled is None or type(pickled) is bytes) or any(type(each) is not str for each in type_names):
        raise TypeError("expected a report of texts and a pickle")
    trace = _WITHOUT_SOURCE.sub(_with_source, trace)
    return FailureReport(attempt, kind, name, text, trace, pickled, is_harmless is True, type_names, reason)


def decode_error(attempt: Attempt | Item, error: BaseException) -> ResultDecodeError:
    """Build the error of a task whose result could not be rebuilt here."""
    result = ResultDecodeError(
        f"expected the result of task {attempt.task_id} ({attempt.name}) to be rebuilt here, got"
        f" {describe_error(error)}; make sure that its classes can be imported, or return plain data",
        task_id=attempt.task_id,
    )
    result.__cause__ = error
    return result


def _with_source(line: re.Match[str]) -> str:
    """Add to a line of a traceback its source, if that is known here alone: of a notebook's cell, of ``python -c``.

    What is remembered is asked, not the file system: the worker has done so, and the loop must not wait.
    """
    entry, number = linecache.cache.get(line[1]), int(line[2][:9])
    lines = entry[2] if entry is not None and len(entry) == 4 else []  # else it is to be read yet
    return f"{line[0]}    {lines[number - 1].strip()}\n" if 0 < number <= len(lines) else line[0]
