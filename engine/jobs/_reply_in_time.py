"""The answer of a store, waited for so long and no longer; and why it is late."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any, TypeVar

from .. import _checks
from ._reply import Late, Reply, Waiter

__all__ = ["InTime"]

T = TypeVar("T")

_LATE_SECONDS = 0.5  #: that it may take to tell why


class InTime(Reply[T]):
    """The answer of another reply, unless it takes too long."""

    __slots__ = ("_inner", "_late", "_timeout")

    def __init__(self, inner: Reply[T], timeout: float | None, late: Late | None) -> None:
        super().__init__()
        self._inner = inner
        self._timeout = timeout
        self._late = late

    def done(self) -> bool:
        return self._inner.done()

    def result(self, timeout: float | None = None) -> T:
        own = self._timeout
        if timeout is not None:
            timeout = _checks.seconds("timeout", timeout, zero=True)
        limit = own if timeout is None else timeout if own is None else min(timeout, own)
        try:
            return self._inner.result(limit)
        except TimeoutError:
            if limit is None or self._late is None or self._inner.done():  # what was answered is one
                raise
            raise TimeoutError(_told_late(self._late, limit)) from None
        finally:
            del self  # as in Reply.result

    def __await__(self) -> Generator[Any, None, T]:
        return self._wait().__await__()

    async def _wait(self) -> T:
        try:
            async with asyncio.timeout(self._timeout):
                return await self._inner
        except TimeoutError as error:
            if self._inner.done():  # what was answered is one
                raise
            assert self._timeout is not None
            raise TimeoutError(await _late_on_loop(self._late, self._timeout)) from error
        finally:
            del self  # as in Reply.result

    def _add(self, waiter: Waiter) -> bool:
        return self._inner._add(waiter)

    def _outcome(self) -> T:
        return self._inner._outcome()


async def _late_on_loop(late: Late | None, seconds: float) -> str:
    if late is not None:
        try:
            return await late(seconds).within(_LATE_SECONDS)
        except Exception:  # whoever waited is to hear of his own timeout
            pass
    return f"expected an answer within {seconds} s, got nothing yet; it goes on"


def _told_late(late: Late, seconds: float) -> str:
    try:
        return late(seconds).result(_LATE_SECONDS)
    except Exception:  # as on a loop
        return f"expected an answer within {seconds} s, got nothing yet; it goes on"
