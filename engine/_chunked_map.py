"""Results of ``engine.map`` where items of a quick function travel many at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from . import _checks
from ._chunks import CHUNKS_PER_SLOT, Chunks
from ._mailbox import Mailbox
from ._map import MapResults, is_asynchronous
from ._states import Lane

if TYPE_CHECKING:
    from ._core import Core
    from ._records import Call
    from ._submit import Submitter

__all__ = ["ChunkedMap", "chunks_of_map"]

T = TypeVar("T")

TURN_SECONDS = 0.002  #: for which a reader may be given results without the loop turning
LEAST, MOST = 8, 1024  #: results at a time


def chunks_of_map(
    core: Core, call: Call, iterables: tuple[Any, ...], *, ordered: bool, window: int | None,
    return_exceptions: bool, cancelled: type[BaseException],
) -> Chunks | None:  # fmt: skip
    """Return what is in hand of a map whose items may travel together; None: each must be a task of its own.

    So it is where something is said of each attempt (a timeout, a retry), or of how many tasks a worker runs, where the
    window is too narrow, and where the source is asynchronous.
    """
    settings = core.settings
    says_something = call.timeout is not None or call.total_timeout is not None or call.retry is not None
    if call.lane is not Lane.PROCESS or says_something or settings.max_tasks_per_worker is not None:
        return None
    if not core.processes.takes_chunks:
        return None
    ordered = _checks.flag("ordered", ordered)
    return_exceptions = _checks.flag("return_exceptions", return_exceptions)
    slots = core.size(call.lane)
    if window is not None and _checks.positive_int("window", window) < 2 * CHUNKS_PER_SLOT * slots:
        return None
    if is_asynchronous(iterables):
        return None
    is_rows = len(iterables) > 1
    source = zip(*iterables, strict=False) if is_rows else iterables[0]
    if type(source) is not range:
        source = iter(source)
    return Chunks(
        core, call, source, is_rows=is_rows, ordered=ordered, window=window,
        slots=slots, return_exceptions=return_exceptions, cancelled=cancelled,
    )  # fmt: skip


class ChunkedMap(MapResults[T]):
    """Results of a map whose items travel in chunks."""

    def __init__(self, engine: Submitter, chunks: Chunks) -> None:
        self._engine = engine
        self._chunks = chunks
        self._ready: Iterator[T] = iter(())  #: results at hand
        self._slice = LEAST
        self._turned_at = 0.0

    async def __anext__(self) -> T:
        for value in self._ready:
            return value
        try:
            return await self._next()
        except BaseException:
            await self.aclose()
            raise

    async def _next(self) -> T:
        chunks, core = self._chunks, self._engine._core
        given = False
        await self._turn()
        while True:
            for value in self._ready:  # another reader has left some: nothing is read ahead of them
                if given:
                    core.pass_room_on()
                return value
            room = chunks.fill()
            if given and not room:
                core.pass_room_on()  # we may not have used what we were given
            self._ready = iter(chunks.take(self._slice))
            for value in self._ready:
                return value
            if chunks.is_done():
                raise StopAsyncIteration if chunks.refused is None else chunks.refused
            given = await self._wait(room)
            self._turned_at = time.monotonic()

    async def _turn(self) -> None:
        """Let the loop turn if it has not for long; take as many results at a time as the reader deals with in that."""
        now = time.monotonic()
        elapsed = now - self._turned_at
        if elapsed < TURN_SECONDS / 2:
            self._slice = min(2 * self._slice, MOST)
        elif elapsed > TURN_SECONDS:
            self._slice = max(self._slice // 2, LEAST)
        if elapsed > TURN_SECONDS / 2:
            await asyncio.sleep(0)
            self._turned_at = time.monotonic()

    async def _wait_lending(self, room: bool) -> bool:
        loop = asyncio.get_running_loop()
        progress: asyncio.Future[None] = loop.create_future()
        core = self._engine._core
        waker = _Waker(core.scheduler.waiters.mailbox(), progress)
        if not self._chunks.wake_once(waker):
            return False
        waiters: list[Any] = [progress]
        mine = core.room() if room else None
        if mine is not None:
            core.pass_room_on()
            waiters.append(mine)
        try:
            if mine is None:
                await progress
            else:
                await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            if mine is not None and mine.done():
                core.pass_room_on()  # the room we were given is somebody else's now
            raise
        finally:
            self._chunks.forget_waker(waker)
            given = mine is not None and not mine.cancel()
        return given

    async def _wait(self, room: bool) -> bool:
        waiters = self._engine._core.scheduler.waiters
        lender = waiters.lend()
        try:
            return await self._wait_lending(room)
        finally:
            waiters.reclaim(lender)

    async def aclose(self) -> None:
        """Cancel what is in the window and close the source. Idempotent."""
        self._ready = iter(())
        self._chunks.close()

    def __del__(self) -> None:
        chunks = self.__dict__.get("_chunks")
        if chunks is not None:
            chunks.let_go()


class _Waker:
    """Sets a future, from any thread; on its own loop at once, which saves the loop a turn."""

    def __init__(self, mailbox: Mailbox, future: asyncio.Future[None]) -> None:
        self._mailbox = mailbox
        self._future = future

    def __call__(self) -> None:
        if self._mailbox.is_here():
            self._set()
        else:
            self._mailbox.post(self._set)

    def _set(self) -> None:
        if not self._future.done():
            self._future.set_result(None)
