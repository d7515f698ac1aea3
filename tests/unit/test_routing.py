"""Which lane a call goes to."""

import asyncio
import functools
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from engine import Lane
from engine._routing import is_async_callable, route


def plain() -> None:
    pass


async def coroutine() -> None:
    pass


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


class AsyncCall:
    """An object with an async ``__call__``."""

    async def __call__(self) -> None:
        pass

    async def method(self) -> None:
        pass


class GeneratorCall:
    """An object whose call gives a generator."""

    def __call__(self) -> Iterator[int]:
        yield 1


ASYNC: list[Callable[..., Any]] = [
    coroutine,
    functools.partial(coroutine),
    functools.partial(functools.partial(coroutine)),
    AsyncCall(),
    functools.partial(AsyncCall()),
    AsyncCall().method,
]
PLAIN: list[Callable[..., Any]] = [plain, functools.partial(plain), len, AsyncCall, str.upper, "x".upper, lambda: None]
GENERATORS: list[Callable[..., Any]] = [
    generator,
    async_generator,
    functools.partial(generator),
    functools.partial(async_generator),
    GeneratorCall(),
]


@pytest.mark.parametrize("fn", ASYNC, ids=ascii)
@pytest.mark.parametrize("asked", [None, Lane.LOOP])
@pytest.mark.parametrize("default", [Lane.THREAD, Lane.PROCESS])
def test_a_coroutine_function_goes_to_the_loop(fn: Callable[..., Any], asked: Lane | None, default: Lane) -> None:
    assert route(fn, asked, default) is Lane.LOOP


@pytest.mark.parametrize("fn", ASYNC, ids=ascii)
@pytest.mark.parametrize("asked", [Lane.THREAD, Lane.PROCESS])
def test_a_coroutine_function_is_refused_elsewhere(fn: Callable[..., Any], asked: Lane) -> None:
    with pytest.raises(TypeError, match=f"expected fn to be a plain function for lane='{asked.value}', got the corout"):
        route(fn, asked, Lane.PROCESS)


@pytest.mark.parametrize("fn", PLAIN, ids=ascii)
def test_a_plain_function_goes_where_it_was_asked_to_else_to_the_default(fn: Callable[..., Any]) -> None:
    assert route(fn, None, Lane.PROCESS) is Lane.PROCESS
    assert route(fn, None, Lane.THREAD) is Lane.THREAD
    assert route(fn, Lane.THREAD, Lane.PROCESS) is Lane.THREAD
    assert route(fn, Lane.PROCESS, Lane.THREAD) is Lane.PROCESS


@pytest.mark.parametrize("fn", PLAIN, ids=ascii)
def test_a_plain_function_is_refused_by_the_loop(fn: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match=r"expected fn to be a coroutine function for lane='loop', got .*lane='thread'"):
        route(fn, Lane.LOOP, Lane.PROCESS)


@pytest.mark.parametrize("fn", GENERATORS, ids=ascii)
@pytest.mark.parametrize("asked", [None, Lane.THREAD, Lane.PROCESS])
def test_a_generator_function_is_refused(fn: Callable[..., Any], asked: Lane | None) -> None:
    with pytest.raises(TypeError, match="expected fn to be a plain function, got the generator function"):
        route(fn, asked, Lane.PROCESS)


@pytest.mark.parametrize("fn", GENERATORS, ids=ascii)
def test_a_generator_function_is_refused_by_the_loop_too(fn: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match="expected fn to be a coroutine function"):
        route(fn, Lane.LOOP, Lane.PROCESS)


@pytest.mark.parametrize("fn", [None, 5, "f", object()], ids=lambda value: type(value).__name__)
def test_what_cannot_be_called_is_refused(fn: Any) -> None:
    with pytest.raises(TypeError, match="expected fn to be a callable, got"):
        route(fn, None, Lane.PROCESS)


def test_a_coroutine_object_is_refused_without_a_warning_that_nobody_awaited_it() -> None:
    called: Any = coroutine()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TypeError, match=r"expected fn to be a callable, got.*pass the function, not its call"):
            route(called, None, Lane.PROCESS)
        del called


def test_a_class_is_called_not_awaited_even_if_its_instances_are_async() -> None:
    assert not is_async_callable(AsyncCall)
    assert is_async_callable(AsyncCall())
    called = AsyncCall()()
    assert asyncio.iscoroutine(called)
    called.close()
