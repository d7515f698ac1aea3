"""anyio: ``to_process.run_sync`` and ``to_thread.run_sync``, awaited on the loop alone."""

from typing import Any

import anyio
import anyio.to_process
import anyio.to_thread

from stress._peers.contract import Fn, Peer

__all__ = ["AnyioProcesses", "AnyioThreads"]


class AnyioProcesses(Peer):
    """Worker processes over pipes."""

    async def start(self, workers: int, *, plain: bool = False) -> None:
        self._limiter = anyio.CapacityLimiter(workers)

    async def close(self) -> None:
        pass  # its workers end with the event loop

    async def call(self, fn: Fn, *args: Any) -> Any:
        return await anyio.to_process.run_sync(fn, *args, limiter=self._limiter)


class AnyioThreads(AnyioProcesses):
    """Worker threads."""

    async def call(self, fn: Fn, *args: Any) -> Any:
        return await anyio.to_thread.run_sync(fn, *args, limiter=self._limiter)
