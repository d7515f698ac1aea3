"""joblib: ``Parallel`` over its loky backend, with arrays through memory-mapped files."""

import asyncio
from collections.abc import Sequence
from typing import Any

import joblib

from stress._peers.contract import Fn, Peer

__all__ = ["JoblibPeer"]


class JoblibPeer(Peer):
    """``Parallel(n_jobs)``, its workers kept between calls; it blocks, so it runs in a thread beside the loop."""

    async def start(self, workers: int, *, plain: bool = False) -> None:
        self._parallel = joblib.Parallel(n_jobs=workers)
        self._workers = workers
        self._parallel.__enter__()

    async def close(self) -> None:
        self._parallel.__exit__(None, None, None)

    async def map_default(self, fn: Fn, items: Sequence[Any]) -> int:
        return await asyncio.to_thread(self._run, self._parallel, fn, items)

    async def map_tuned(self, fn: Fn, items: Sequence[Any], chunk: int) -> int:
        tuned = joblib.Parallel(n_jobs=self._workers, batch_size=chunk)
        return await asyncio.to_thread(self._run, tuned, fn, items)

    async def send_array(self, fn: Fn, array: Any) -> Any:
        return await asyncio.to_thread(self._run, self._parallel, fn, [array])

    async def receive_array(self, fn: Fn, size: int) -> Any:
        return await asyncio.to_thread(self._run, self._parallel, fn, [size])

    async def share_array(self, fn: Fn, array: Any, tasks: int) -> None:
        await asyncio.to_thread(self._run, self._parallel, fn, [array] * tasks)

    @staticmethod
    def _run(parallel: Any, fn: Fn, items: Sequence[Any]) -> int:
        return len(parallel(joblib.delayed(fn)(item) for item in items))
