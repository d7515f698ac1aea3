"""Exceptions and functions that fight back; imported by worker processes, so it imports nothing heavy."""

import asyncio
import dataclasses
import functools
import os
import sys
from typing import Any

PARENT = "ENGINE_TEST_PARENT"


class Custom:
    """A result that is decoded on the helper thread."""


def give_custom() -> Custom:
    return Custom()


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    why: str = "frozen"


class StrExits(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class StrInterruptsTheParent(Exception):
    def __str__(self) -> str:
        if os.environ.get(PARENT) == str(os.getpid()):
            raise KeyboardInterrupt
        return "fine here"


class NoCause(Exception):
    __cause__ = property(lambda self: None)  # that is the point


class NothingCanBeSet(Exception):
    def __setattr__(self, name: str, value: Any) -> None:
        raise SystemExit


class _Untold(type):
    """A class of classes that tell nobody where they are from, nor what they are called."""

    def __getattribute__(cls, name: str) -> Any:
        if name in ("__module__", "__qualname__", "__name__"):
            raise SystemExit(5)
        return super().__getattribute__(name)


class Untold(Exception, metaclass=_Untold):
    pass


HOSTILE: dict[str, type[Exception]] = {
    type.__dict__["__name__"].__get__(kind): kind
    for kind in (Frozen, StrExits, StrInterruptsTheParent, NoCause, NothingCanBeSet, Untold)
}


def raise_hostile(name: str) -> None:
    raise HOSTILE[name]()


async def raise_hostile_soon(name: str) -> None:
    await asyncio.sleep(0)
    raise HOSTILE[name]()


async def coroutine() -> int:
    return 1


def give_coroutine() -> Any:
    return coroutine()


@functools.cache
def fibonacci(n: int) -> int:
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


def complain_and_leave() -> None:
    print("boom detail", file=sys.stderr, flush=True)
    os._exit(3)
