"""``@task``, ``@cpu`` and ``@io``: options that a function carries with it."""

from collections.abc import Callable
from typing import Any, TypeVar, overload

from ._options import DEFAULT, mark, merge_options
from ._states import Lane
from .retry import Retry

__all__ = ["cpu", "io", "task"]

F = TypeVar("F", bound=Callable[..., Any])


@overload
def task(fn: F, /) -> F: ...
@overload
def task(
    *, lane: Lane | str | None = None, timeout: float | None = None, total_timeout: float | None = None,
    retry: Retry | None = None, priority: int | None = None, grace: float | None = None, name: str | None = None,
) -> Callable[[F], F]: ...  # fmt: skip
def task(fn: Callable[..., Any] | None = None, /, **given: Any) -> Any:
    """Say how a function runs when it is submitted: ``@task`` or ``@task(lane="thread", timeout=5, ...)``.

    The function itself is returned, so it is still called, imported and pickled as what it is. ``Engine.options``
    wins over what is said here.

    Raises:
        ValueError: an option is out of range.
    """
    return _marked(fn, given)


@overload
def cpu(fn: F, /) -> F: ...
@overload
def cpu(
    *, timeout: float | None = None, total_timeout: float | None = None, retry: Retry | None = None,
    priority: int | None = None, grace: float | None = None, name: str | None = None,
) -> Callable[[F], F]: ...  # fmt: skip
def cpu(fn: Callable[..., Any] | None = None, /, **given: Any) -> Any:
    """Mark a CPU-bound function: it runs in a worker process. The same as ``@task(lane="process", ...)``."""
    return _marked(fn, {**given, "lane": Lane.PROCESS})


@overload
def io(fn: F, /) -> F: ...
@overload
def io(
    *, timeout: float | None = None, total_timeout: float | None = None, retry: Retry | None = None,
    priority: int | None = None, grace: float | None = None, name: str | None = None,
) -> Callable[[F], F]: ...  # fmt: skip
def io(fn: Callable[..., Any] | None = None, /, **given: Any) -> Any:
    """Mark a function that waits for I/O: it runs in a thread. The same as ``@task(lane="thread", ...)``."""
    return _marked(fn, {**given, "lane": Lane.THREAD})


def _marked(fn: Callable[..., Any] | None, given: dict[str, Any]) -> Any:
    options = merge_options(DEFAULT, given)

    def decorate(function: F) -> F:
        mark(function, options)
        return function

    return decorate if fn is None else decorate(fn)
