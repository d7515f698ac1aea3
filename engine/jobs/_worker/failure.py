"""Why a run did not complete, as text that fits a row."""

import os
import re
import traceback

import engine
from engine import RemoteError, WorkerCrashed
from engine.errors import RemoteTraceback

from ... import _checks
from .._records import Failure

__all__ = ["ERROR_MOST", "TRACEBACK_MOST", "describe", "failure_of", "sound"]

ERROR_MOST = 1000  #: characters
TRACEBACK_MOST = 16 << 10  #: characters, half from either end

_DEEPEST = 100  #: frames

_HEAD = "Traceback (most recent call last):\n"
_OURS = re.escape(os.path.dirname(os.path.abspath(engine.__file__))) + r"[/\\](?:_|jobs[/\\]|testing[/\\])"
#: Finds the frames between an engine's loop, thread or worker process and the function.
_ABOVE_THE_FUNCTION = f'(?m)^{re.escape(_HEAD)}(?:  File "{_OURS}[^"\\n]*".*\\n(?:    .*\\n)*)+(?=  File ")'


def failure_of(
    error: BaseException, kind: str, *, at: float, attempt: int, token: int, worker: str
) -> Failure:  # fmt: skip
    """Return what is kept of ``error``."""
    line, trace = describe(error)
    return Failure(at, attempt, token, kind, line, trace, worker)


def describe(error: BaseException) -> tuple[str, str]:
    """Return type and message on one line, and the traceback with its causes; both bounded, and never raises.

    The traceback begins in the user's function.
    """
    line = _line(error)
    try:
        trace = re.sub(_ABOVE_THE_FUNCTION, lambda _: _HEAD, _formatted(error))
    except BaseException as broken:  # as above: notes, causes, groups
        trace = f"{line}\n(its traceback could not be formatted: {_name_of(type(broken))})\n"
    return sound(_cut(line, ERROR_MOST, " ... ")), sound(_cut(trace, TRACEBACK_MOST, "\n...\n"))


def _line(error: BaseException) -> str:
    """Return type and message, whatever the error and its class do when they are asked for them."""
    name = _name_of(type(error)) if type(error) is not RemoteError else ""  # its message begins with the type
    try:
        text = _checks.string(str(error))  # exactly: what __str__ gives may be of a class with methods of its own
    except BaseException as broken:  # user code, which may even exit; the run must be recorded all the same
        text = f"<its message could not be had: {_name_of(type(broken))}>"
    return " ".join(f"{name}: {text}".strip(": ").split())


def _name_of(kind: type) -> str:
    """Return the name of a class whose metaclass may answer anything."""
    return str(type.__dict__["__name__"].__get__(kind))


def _formatted(error: BaseException) -> str:
    """Return the traceback with its causes; of what a worker process raised, that process's text."""
    cause = error.__cause__
    is_remote = error.__traceback__ is None  # else it was raised here, by a function that used an engine itself
    if is_remote and type(error) is RemoteError and error.traceback:
        return _line_ended(error.traceback) + "".join(f"{note}\n" for note in getattr(error, "__notes__", ()))
    if not is_remote or type(cause) is not RemoteTraceback:
        return "".join(traceback.format_exception(error, limit=-_DEEPEST))
    if _checks.is_a(error, WorkerCrashed):  # its cause is what the worker printed
        return "".join(traceback.format_exception_only(error)) + _line_ended(cause.traceback)
    return _line_ended(cause.traceback)


def _line_ended(text: str) -> str:
    return text if text.endswith("\n") else f"{text}\n"


def _cut(text: str, most: int, mark: str) -> str:
    if len(text) <= most:
        return text
    half = (most - len(mark)) // 2
    return text[:half] + mark + text[-half:]


def sound(text: str) -> str:
    """Return ``text`` as every database takes it: no lone surrogate, no NUL."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\x00")
