"""What of a task's exception can be raised again where it is awaited."""

import traceback

from .._records import describe_error, type_name
from ..errors import RemoteError, ShareError
from .base import Attempt
from .chunk import Item

__all__ = ["arrived", "may_be_raised", "not_shared"]


def may_be_raised(kind: type) -> bool:
    """Say whether an error of exactly this class ends neither the loop that awaits it, nor who iterates over results.

    SystemExit, KeyboardInterrupt, GeneratorExit and every other class outside Exception would, and StopIteration and
    StopAsyncIteration.
    """
    return issubclass(kind, Exception) and not issubclass(kind, (StopIteration, StopAsyncIteration))


def arrived(error: BaseException) -> BaseException:
    """Return ``error`` itself, or a RemoteError caused by it where it may not be raised."""
    kind = type(error)  # isinstance would ask the error for its __class__, which is user code
    if may_be_raised(kind):
        return error
    text = describe_error(error) or ""
    remote = RemoteError(
        f"the task raised {text}",
        type_name=type_name(kind),
        text=text.partition(": ")[2],
        traceback=_formatted(error),
    )
    remote.__cause__ = error
    return remote


def not_shared(attempt: Attempt | Item, where: str, error: ShareError) -> ShareError:
    """Say whose argument it was that ``error`` is about."""
    return ShareError(
        f"expected what is shared with task {attempt.task_id} ({attempt.name}) to be open, {error.reason}",
        reason=error.reason, where=where, task_id=attempt.task_id,
    )  # fmt: skip


def _formatted(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except BaseException as broken:  # a __str__ of user code, which may even exit; the task must still end
        return f"<its traceback could not be formatted: {type(broken).__name__}>"
