"""Which lane a call goes to."""

import functools
import inspect
from collections.abc import Callable
from types import CoroutineType, ModuleType
from typing import Any

from . import _checks
from ._states import Lane

__all__ = ["is_async_callable", "is_fleeting", "refuse_uncallable", "route", "unwrapped"]

_PARTIALS_MOST = 100


def route(fn: Callable[..., Any], asked: Lane | None, default: Lane) -> Lane:
    """Return the lane for ``fn``: coroutine functions go to the loop, others where asked, else to ``default``.

    Raises:
        TypeError: ``fn`` is not callable (a coroutine object, say), or the lane asked for cannot run it.
    """
    refuse_uncallable(fn)
    if is_async_callable(fn):
        if asked in (Lane.THREAD, Lane.PROCESS):
            raise TypeError(
                f"expected fn to be a plain function for lane={asked.value!r}, got the coroutine function "
                f"{_checks.shown(fn)}; use lane='loop' or leave lane out"
            )
        return Lane.LOOP
    lane = asked or default
    if lane is Lane.LOOP:
        if asked is None:
            return Lane.THREAD
        raise TypeError(
            f"expected fn to be a coroutine function for lane='loop', got {_checks.shown(fn)}; use lane='thread'"
        )
    if _is_generator_callable(fn):
        raise TypeError(
            f"expected fn to be a plain function, got the generator function {_checks.shown(fn)}; "
            "have it return a list, or submit the consumer of the generator"
        )
    return lane


def refuse_uncallable(fn: object) -> None:
    """Raise TypeError unless ``fn`` can be called; nothing of its own code runs."""
    if callable(fn):
        return
    if type(fn) is CoroutineType:
        fn.close()  # or Python would warn that it was never awaited, on top of our error
        raise TypeError(f"expected fn to be a callable, got {_checks.shown(fn)}; pass the function, not its call")
    raise TypeError(f"expected fn to be a callable, got {_checks.shown(fn)}")


def is_async_callable(fn: Callable[..., Any]) -> bool:
    """Say whether calling ``fn`` gives a coroutine: also through ``partial`` and an async ``__call__``."""
    fn = unwrapped(fn)
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(_call_of(fn))


def _is_generator_callable(fn: Callable[..., Any]) -> bool:
    fn = unwrapped(fn)
    return any(
        test(candidate)
        for candidate in (fn, _call_of(fn))
        for test in (inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    )


def unwrapped(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function inside nested partials."""
    for _ in range(_PARTIALS_MOST):
        if not isinstance(fn, functools.partial):
            return fn
        fn = fn.func
    raise TypeError(f"expected fn to be at most {_PARTIALS_MOST} partials deep, got more, or one that holds itself")


def _call_of(fn: Callable[..., Any]) -> Any:
    """Return the ``__call__`` of an object's class; for a class, None, since calling it makes an instance."""
    return None if isinstance(fn, type) else type(fn).__call__


def is_fleeting(fn: Callable[..., Any]) -> bool:
    """Say whether remembering ``fn`` keeps what it holds: it is a closure, a lambda, or bound to an object."""
    owner = getattr(fn, "__self__", None)
    return "<" in getattr(fn, "__qualname__", "<") or not (owner is None or isinstance(owner, ModuleType | type))
