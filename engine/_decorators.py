"""``@task``, ``@cpu`` and ``@io``: options that a function carries with it."""

import functools
import inspect
import operator
from collections.abc import Callable
from typing import Any, TypeVar, get_args, overload

from . import _checks
from ._options import DEFAULT, NOT_SAID, NotSaid, TaskOptions, mark, merge_options
from ._states import Lane
from .retry import Retry

__all__ = ["cpu", "io", "task"]

F = TypeVar("F", bound=Callable[..., Any])


def _sayable(option: Any) -> Any:
    """Return the type of what may be said of an option, without the word for not saying it."""
    return functools.reduce(operator.or_, [kind for kind in get_args(option) if kind is not NotSaid])


def _show_options(*, without: str = "") -> Callable[[F], F]:
    """Give a decorator the signature that ``help`` shows: the fields of TaskOptions, which are written down once."""

    def sign(decorator: F) -> F:
        first = inspect.Parameter("fn", inspect.Parameter.POSITIONAL_ONLY, default=None)
        options = (
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=NOT_SAID, annotation=_sayable(kind))
            for name, kind in TaskOptions.__annotations__.items()
            if name != without
        )
        vars(decorator)["__signature__"] = inspect.Signature([first, *options])
        return decorator

    return sign


@overload
def task(fn: F, /) -> F: ...
@overload
def task(
    *, lane: Lane | str | None = ..., timeout: float | None = ..., total_timeout: float | None = ...,
    retry: Retry | None = ..., priority: int | None = ..., grace: float | None = ..., name: str | None = ...,
) -> Callable[[F], F]: ...  # fmt: skip
@_show_options()
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
    *, timeout: float | None = ..., total_timeout: float | None = ..., retry: Retry | None = ...,
    priority: int | None = ..., grace: float | None = ..., name: str | None = ...,
) -> Callable[[F], F]: ...  # fmt: skip
@_show_options(without="lane")
def cpu(fn: Callable[..., Any] | None = None, /, **given: Any) -> Any:
    """Mark a CPU-bound function: it runs in a worker process. The same as ``@task(lane="process", ...)``."""
    return _marked(fn, _with_lane("cpu", Lane.PROCESS, given))


@overload
def io(fn: F, /) -> F: ...
@overload
def io(
    *, timeout: float | None = ..., total_timeout: float | None = ..., retry: Retry | None = ...,
    priority: int | None = ..., grace: float | None = ..., name: str | None = ...,
) -> Callable[[F], F]: ...  # fmt: skip
@_show_options(without="lane")
def io(fn: Callable[..., Any] | None = None, /, **given: Any) -> Any:
    """Mark a function that waits for I/O: it runs in a thread. The same as ``@task(lane="thread", ...)``."""
    return _marked(fn, _with_lane("io", Lane.THREAD, given))


def _with_lane(decorator: str, lane: Lane, given: dict[str, Any]) -> dict[str, Any]:
    if "lane" in given:
        raise TypeError(
            f"expected {decorator} to get no lane, which it says itself, got {_checks.shown(given['lane'])}; "
            "use task(lane=...)"
        )
    return {**given, "lane": lane}


def _marked(fn: Callable[..., Any] | None, given: dict[str, Any]) -> Any:
    options = merge_options(DEFAULT, given)

    def decorate(function: F) -> F:
        mark(function, options)
        return function

    return decorate if fn is None else decorate(fn)
