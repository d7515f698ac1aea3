"""mpire: a process pool made for maps."""

import asyncio
from collections.abc import Sequence
from typing import Any

import mpire

from stress._peers.contract import Fn, Peer

__all__ = ["MpirePeer"]


class MpirePeer(Peer):
    """``mpire.WorkerPool`` with its default start method (fork) and its workers kept."""

    async def start(self, workers: int, *, plain: bool = False) -> None:
        self._pool = mpire.WorkerPool(workers, keep_alive=True)

    async def close(self) -> None:
        await asyncio.to_thread(self._pool.stop_and_join)

    async def call(self, fn: Fn, *args: Any) -> Any:
        return await self._begin(fn, args)

    async def flood(self, fn: Fn, items: Sequence[Any]) -> Sequence[Any]:
        return await asyncio.gather(*[self._begin(fn, (item,)) for item in items])

    async def map_default(self, fn: Fn, items: Sequence[Any]) -> int:
        return len(await asyncio.to_thread(self._pool.map, fn, items))

    async def map_tuned(self, fn: Fn, items: Sequence[Any], chunk: int) -> int:
        return len(await asyncio.to_thread(self._pool.map, fn, items, chunk_size=chunk))

    async def receive_array(self, fn: Fn, size: int) -> Any:
        return await self._begin(fn, (size,))

    def _begin(self, fn: Fn, args: tuple[Any, ...]) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def on_loop(value: Any) -> None:
            loop.call_soon_threadsafe(future.set_result, value)

        def failed(error: BaseException) -> None:
            loop.call_soon_threadsafe(future.set_exception, error)

        self._pool.apply_async(fn, args, callback=on_loop, error_callback=failed)
        return future
