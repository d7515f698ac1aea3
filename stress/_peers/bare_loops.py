"""No pool at all: each worker gets its part of the work in one call. What the machine itself gives just then."""

import asyncio
from collections.abc import Sequence
from typing import Any

from stress._peers.contract import Cannot, Fn
from stress._peers.futures import SpawnPool

__all__ = ["BareLoops"]


class BareLoops(SpawnPool):
    """A loop in each of some processes, over a part of the items that was dealt out beforehand."""

    async def start(self, workers: int, *, plain: bool = False) -> None:
        await super().start(workers, plain=plain)
        self._workers = workers

    async def call(self, fn: Fn, *args: Any) -> Any:
        raise Cannot("runs no single call")

    async def flood(self, fn: Fn, items: Sequence[Any]) -> Sequence[Any]:
        run = asyncio.get_running_loop().run_in_executor
        parts = [items[first :: self._workers] for first in range(self._workers)]
        answers = await asyncio.gather(*[run(self._pool, _each, fn, part) for part in parts])
        results = [None] * len(items)
        for first, answer in enumerate(answers):
            results[first :: self._workers] = answer
        return results


def _each(fn: Fn, items: Sequence[Any]) -> list[Any]:
    return [fn(item) for item in items]
