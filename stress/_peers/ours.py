"""The engine itself, in its three lanes, behind the contract of its competitors."""

from collections.abc import Sequence
from typing import Any

from engine import BlockingEngine, Engine, Lane, Priority
from stress._peers.contract import Cannot, Fn, Handle, Peer

__all__ = ["EngineLoop", "EnginePeer", "EngineThreads"]


class EnginePeer(Peer):
    """The process lane with default settings."""

    lane = Lane.PROCESS
    _engine: Any  #: an Engine or a BlockingEngine, by ``plain``

    async def start(self, workers: int, *, plain: bool = False) -> None:
        options: dict[str, Any] = {"processes": workers, "threads": workers, "default_lane": self._default}
        self._engine = BlockingEngine(**options).start() if plain else await Engine(**options).start()
        self._view = self._engine.options(lane=self.lane) if self.lane is not Lane.LOOP else self._engine
        self._low = self._view.options(priority=Priority.LOW)
        self._high = self._view.options(priority=Priority.HIGH)
        self._plain = plain

    @property
    def _default(self) -> str:
        return "process" if self.lane is Lane.PROCESS else "thread"

    async def close(self) -> None:
        if self._plain:
            self._engine.stop(5)
        else:
            await self._engine.stop(5)

    async def call(self, fn: Fn, *args: Any) -> Any:
        return await self._view.submit(fn, *args)

    async def flood(self, fn: Fn, items: Sequence[Any]) -> Sequence[Any]:
        submit = self._view.submit
        tasks = [submit(fn, item) for item in items]
        return [await task for task in tasks]

    async def urgent(self, fn: Fn, *args: Any) -> Any:
        return await self._high.submit(fn, *args)

    def submit(self, fn: Fn, *args: Any) -> Handle:
        handle: Handle = self._view.submit(fn, *args)
        return handle

    def submit_low(self, fn: Fn, *args: Any) -> Handle:
        handle: Handle = self._low.submit(fn, *args)
        return handle

    async def map_default(self, fn: Fn, items: Sequence[Any]) -> int:
        count = 0
        async for _ in self._view.map(fn, items):
            count += 1
        return count

    async def map_tuned(self, fn: Fn, items: Sequence[Any], chunk: int) -> int:
        return await self.map_default(fn, items)  # nothing is tuned: that is the promise

    async def share_array(self, fn: Fn, array: Any, tasks: int) -> None:
        if not hasattr(self._engine, "share"):
            raise Cannot("not built: engine.share")
        await super().share_array(fn, self._engine.share(array), tasks)


class EngineThreads(EnginePeer):
    """The thread lane."""

    lane = Lane.THREAD


class EngineLoop(EnginePeer):
    """The loop lane: functions are coroutine functions."""

    lane = Lane.LOOP
