"""What every competitor is asked to do; each says by ``Cannot`` what it has no way to do."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

__all__ = ["Cannot", "Fn", "Handle", "Peer"]

Fn = Callable[..., Any]


class Cannot(Exception):
    """A competitor has no such thing; the text says what it lacks."""


class Handle(Protocol):
    """What a plain thread gets for one submitted call."""

    def result(self) -> Any:
        """Wait for the result."""

    def done(self) -> bool:
        """Say whether it has ended."""

    def cancel(self) -> Any:
        """Take the call back if it has not begun."""


class Peer:
    """A pool of workers behind one contract. ``start`` comes first and ``close`` last."""

    name = ""  #: in tables; given by ``make``

    async def start(self, workers: int, *, plain: bool = False) -> None:
        """Make the pool; ``plain`` says that plain threads will use it, and no event loop."""
        raise NotImplementedError

    async def close(self) -> None:
        """End the pool."""
        raise NotImplementedError

    async def call(self, fn: Fn, *args: Any) -> Any:
        """Run one call and return its result."""
        raise Cannot("runs no single call")

    async def flood(self, fn: Fn, items: Sequence[Any]) -> Sequence[Any]:
        """Submit a call for each item, one by one from the loop, and wait for all."""
        return await asyncio.gather(*[self.call(fn, item) for item in items])

    async def urgent(self, fn: Fn, *args: Any) -> Any:
        """Run one call before all that waits."""
        raise Cannot("has no priorities")

    def submit(self, fn: Fn, *args: Any) -> Handle:
        """Submit one call from a plain thread."""
        raise Cannot("is not for plain threads")

    def submit_low(self, fn: Fn, *args: Any) -> Handle:
        """Submit one call that may wait behind all others."""
        return self.submit(fn, *args)

    async def map_default(self, fn: Fn, items: Sequence[Any]) -> int:
        """Map with the settings that it has by itself; return the number of results."""
        raise Cannot("has no map")

    async def map_tuned(self, fn: Fn, items: Sequence[Any], chunk: int) -> int:
        """Map with a chunk size chosen by hand."""
        raise Cannot("has no chunks")

    async def send_array(self, fn: Fn, array: Any) -> Any:
        """Call ``fn`` with a large array in the way meant for that."""
        return await self.call(fn, array)

    async def receive_array(self, fn: Fn, size: int) -> Any:
        """Return the large array that ``fn(size)`` gives."""
        return await self.call(fn, size)

    async def share_array(self, fn: Fn, array: Any, tasks: int) -> None:
        """Call ``fn`` with one array ``tasks`` times in the way meant for that."""
        await asyncio.gather(*[self.call(fn, array) for _ in range(tasks)])
