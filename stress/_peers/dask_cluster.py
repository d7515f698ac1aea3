"""Dask: its scheduler and one-thread worker processes on this machine (distributed's LocalCluster)."""

from collections.abc import Sequence
from typing import Any

import distributed

from stress._peers.contract import Fn, Handle, Peer

__all__ = ["DaskPeer"]


class DaskPeer(Peer):
    """``distributed.Client`` of a ``LocalCluster`` without dashboard."""

    async def start(self, workers: int, *, plain: bool = False) -> None:
        options = {
            "n_workers": workers,
            "threads_per_worker": 1,
            "processes": True,
            "dashboard_address": None,
            "asynchronous": not plain,
        }
        self._plain = plain
        self._cluster = distributed.LocalCluster(**options) if plain else await distributed.LocalCluster(**options)
        client = distributed.Client(self._cluster, asynchronous=not plain)
        self._client = client if plain else await client

    async def close(self) -> None:
        if self._plain:
            self._client.close()
            self._cluster.close()
        else:
            await self._client.close()
            await self._cluster.close()

    async def call(self, fn: Fn, *args: Any) -> Any:
        return await self._client.submit(fn, *args, pure=False)

    async def flood(self, fn: Fn, items: Sequence[Any]) -> Sequence[Any]:
        submit = self._client.submit
        results: Sequence[Any] = await self._client.gather([submit(fn, item, pure=False) for item in items])
        return results

    def submit(self, fn: Fn, *args: Any) -> Handle:
        handle: Handle = self._client.submit(fn, *args, pure=False)
        return handle

    async def map_default(self, fn: Fn, items: Sequence[Any]) -> int:
        return len(await self._client.gather(self._client.map(fn, items, pure=False)))

    async def map_tuned(self, fn: Fn, items: Sequence[Any], chunk: int) -> int:
        chunks = [items[at : at + chunk] for at in range(0, len(items), chunk)]  # its batch_size only packs messages
        parts = await self._client.gather(self._client.map(_each, [fn] * len(chunks), chunks, pure=False))
        return sum(len(part) for part in parts)

    async def share_array(self, fn: Fn, array: Any, tasks: int) -> None:
        shared = await self._client.scatter(array, broadcast=True)
        await self._client.gather([self._client.submit(fn, shared, pure=False) for _ in range(tasks)])


def _each(fn: Fn, items: Sequence[Any]) -> list[Any]:
    return [fn(item) for item in items]
