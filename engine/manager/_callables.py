"""What may be given to a manager, and how it is called."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from .. import _checks

__all__ = ["check_callable", "is_async", "text_of"]


def check_callable(coroutine: Any) -> None:
    """Refuse what cannot be called, a coroutine object above all.

    Raises:
        TypeError: ``coroutine`` is not a callable, or is a generator function, whose call would run nothing.
    """
    remedy = ""
    if inspect.iscoroutine(coroutine):
        coroutine.close()  # or Python would warn that it was never awaited, on top of our error
        remedy = "; pass the function, not its call"
    if not callable(coroutine):
        raise TypeError(f"expected coroutine to be a callable, got {_checks.shown(coroutine)}{remedy}")
    function = _unwrapped(coroutine)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"expected coroutine to be a callable that returns an awaitable, or a plain function, got the generator "
            f"function {_checks.shown(coroutine)}; submit the consumer of the generator"
        )


def is_async(function: Callable[..., Any]) -> bool:
    """Say whether calling ``function`` gives a coroutine: also through ``partial`` and an async ``__call__``."""
    function = _unwrapped(function)
    if inspect.iscoroutinefunction(function):
        return True
    return not isinstance(function, type) and inspect.iscoroutinefunction(type(function).__call__)


def text_of(error: BaseException) -> str:
    """Return ``str(error)``, which is user code and may raise."""
    try:
        return str(error)
    except Exception as broken:
        return f"<{type(error).__name__} whose str() raised {type(broken).__name__}>"


def _unwrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    while isinstance(function, functools.partial):
        function = function.func
    return function
