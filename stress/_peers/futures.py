"""The executors of the standard library, as asyncio uses them: ``run_in_executor``."""

import asyncio
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

from stress._peers.contract import Fn, Handle, Peer

__all__ = ["ExecutorPeer", "ForkPool", "SpawnPool", "ThreadPool"]


class ExecutorPeer(Peer):
    """Any ``Executor``."""

    _pool: Executor

    def make(self, workers: int) -> Executor:
        """Make the executor."""
        raise NotImplementedError

    async def start(self, workers: int, *, plain: bool = False) -> None:
        self._pool = self.make(workers)

    async def close(self) -> None:
        await asyncio.to_thread(self._pool.shutdown)

    async def call(self, fn: Fn, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, fn, *args)

    async def flood(self, fn: Fn, items: Sequence[Any]) -> Sequence[Any]:
        run = asyncio.get_running_loop().run_in_executor
        return await asyncio.gather(*[run(self._pool, fn, item) for item in items])

    def submit(self, fn: Fn, *args: Any) -> Handle:
        return self._pool.submit(fn, *args)

    async def map_default(self, fn: Fn, items: Sequence[Any]) -> int:
        return await asyncio.to_thread(lambda: sum(1 for _ in self._pool.map(fn, items)))

    async def map_tuned(self, fn: Fn, items: Sequence[Any], chunk: int) -> int:
        return await asyncio.to_thread(lambda: sum(1 for _ in self._pool.map(fn, items, chunksize=chunk)))


class ForkPool(ExecutorPeer):
    """ProcessPoolExecutor whose workers are forks."""

    def make(self, workers: int) -> Executor:
        return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("fork"))


class SpawnPool(ExecutorPeer):
    """ProcessPoolExecutor whose workers are new interpreters."""

    def make(self, workers: int) -> Executor:
        return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


class ThreadPool(ExecutorPeer):
    """ThreadPoolExecutor."""

    def make(self, workers: int) -> Executor:
        return ThreadPoolExecutor(workers)
