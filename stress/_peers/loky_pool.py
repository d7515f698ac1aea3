"""loky: the robust process pool that the engine's workers are started with."""

from concurrent.futures import Executor

import loky

from stress._peers.futures import ExecutorPeer

__all__ = ["LokyPeer"]


class LokyPeer(ExecutorPeer):
    """``loky.ProcessPoolExecutor``."""

    def make(self, workers: int) -> Executor:
        pool: Executor = loky.ProcessPoolExecutor(workers)
        return pool
