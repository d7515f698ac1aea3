"""Why a run did not complete, as text that fits a row."""

import traceback

from engine import RemoteError

from ._records import Failure

__all__ = ["ERROR_MOST", "TRACEBACK_MOST", "describe", "failure_of"]

ERROR_MOST = 1000  #: characters
TRACEBACK_MOST = 16 << 10  #: characters, half from either end

_DEEPEST = 100  #: frames


def failure_of(
    error: BaseException, kind: str, *, at: float, attempt: int, token: int, worker: str
) -> Failure:  # fmt: skip
    """Return what is kept of ``error``."""
    line, trace = describe(error)
    return Failure(at, attempt, token, kind, line, trace, worker)


def describe(error: BaseException) -> tuple[str, str]:
    """Return type and message on one line, and the traceback with its causes; both bounded, and never raises."""
    try:
        text = str(error)
    except BaseException as broken:  # user code, which may even exit; the run must be recorded all the same
        text = f"<its message could not be had: {type(broken).__name__}>"
    name = type(error).__name__ if type(error) is not RemoteError else ""  # its message begins with the type
    line = " ".join(f"{name}: {text}".strip(": ").split())
    try:
        trace = "".join(traceback.format_exception(error, limit=-_DEEPEST))
    except BaseException as broken:  # as above: notes, causes, groups
        trace = f"{line}\n(its traceback could not be formatted: {type(broken).__name__})\n"
    return _sound(_cut(line, ERROR_MOST, " ... ")), _sound(_cut(trace, TRACEBACK_MOST, "\n...\n"))


def _cut(text: str, most: int, mark: str) -> str:
    if len(text) <= most:
        return text
    half = (most - len(mark)) // 2
    return text[:half] + mark + text[-half:]


def _sound(text: str) -> str:
    """Return ``text`` as every database takes it: no lone surrogate, no NUL."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\x00")
