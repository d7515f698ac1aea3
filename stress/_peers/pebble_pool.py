"""Pebble: a process pool with timeouts."""

import asyncio
import multiprocessing
from collections.abc import Sequence
from typing import Any

import pebble

from stress._peers.contract import Fn, Handle, Peer

__all__ = ["PebblePeer"]


class PebblePeer(Peer):
    """``pebble.ProcessPool``."""

    async def start(self, workers: int, *, plain: bool = False) -> None:
        self._pool = pebble.ProcessPool(workers, context=multiprocessing.get_context("spawn"))

    async def close(self) -> None:
        self._pool.stop()
        await asyncio.to_thread(self._pool.join)

    async def call(self, fn: Fn, *args: Any) -> Any:
        return await asyncio.wrap_future(self._pool.schedule(fn, args=args))

    async def flood(self, fn: Fn, items: Sequence[Any]) -> Sequence[Any]:
        schedule = self._pool.schedule
        return await asyncio.gather(*[asyncio.wrap_future(schedule(fn, args=(item,))) for item in items])

    def submit(self, fn: Fn, *args: Any) -> Handle:
        handle: Handle = self._pool.schedule(fn, args=args)
        return handle

    async def map_default(self, fn: Fn, items: Sequence[Any]) -> int:
        return await asyncio.to_thread(lambda: sum(1 for _ in self._pool.map(fn, items).result()))

    async def map_tuned(self, fn: Fn, items: Sequence[Any], chunk: int) -> int:
        return await asyncio.to_thread(lambda: sum(1 for _ in self._pool.map(fn, items, chunksize=chunk).result()))
