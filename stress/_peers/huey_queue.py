"""Huey's SqliteHuey with a thread that works on it, at the durability that ours has by default."""

import time

from huey import SqliteHuey

from stress._peers.queues import QueuePeer

__all__ = ["HueyQueue"]


class HueyQueue(QueuePeer):
    """One file; ``fsync=True`` makes every commit wait for the disk."""

    async def open(self, path: str) -> None:
        self._huey = SqliteHuey(filename=path, fsync=True)
        self._done = 0

        @self._huey.task()  # type: ignore[untyped-decorator]  # huey has no types
        def nothing(number: int) -> None:
            self._done += 1

        self._nothing = nothing

    async def shut(self) -> None:
        self._huey.storage.close()

    async def enqueue(self, jobs: int, callers: int) -> None:
        for _ in range(jobs):  # one caller: several threads only wait for each other's lock on the file
            self._nothing(1)

    async def work(self, jobs: int) -> None:
        consumer = self._huey.create_consumer(workers=1, periodic=False, initial_delay=0.001, max_delay=0.001)
        consumer.start()
        while self._done < jobs:
            time.sleep(0.01)
        consumer.stop(graceful=True)
