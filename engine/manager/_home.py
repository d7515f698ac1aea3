"""The engine that runs a manager's tasks, tied to the event loop on which they run.

Guarantees
    ``open``, ``submit`` and ``close`` are called on the home loop only; the others from anywhere.
    An async generator holds the engine, since a loop closes its generators when it ends (``asyncio.run`` and
    ``loop.shutdown_asyncgens`` do it): so a manager that nobody stopped leaves no idle thread behind its loop.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from engine import Engine, Task

__all__ = ["Home", "on_loop"]

GRACE = 30.0  #: seconds after which a cancelled task that still runs is reported as abandoned; it keeps its slot
UNBOUNDED = 10**9  #: coroutines at once: most of ours wait for their turn, which the ledger decides
FORCE_GRACE = 0.1  #: the same at the end of ``close``, for what had its time already


class Home:
    """One engine on one loop: the loop and thread lanes of a manager."""

    def __init__(self, limit: int, ends: Callable[["Home"], None]) -> None:
        self.loop = asyncio.get_running_loop()
        self._engine = Engine(
            processes=1,
            threads=limit,
            coroutines=UNBOUNDED,
            default_lane="thread",
            grace=FORCE_GRACE,
            history=0,
            name="background",
        )
        self._ends = ends
        self._holder = self._hold()
        self._closing: asyncio.Task[None] | None = None

    @property
    def is_closed(self) -> bool:
        """Say whether nothing can run here any more."""
        return self.loop.is_closed()

    async def open(self) -> None:
        """Start the engine. Never suspends."""
        await anext(self._holder)

    def submit(self, fn: Callable[..., Any], job: Any, name: str) -> Task[Any]:
        """Have ``fn(job)`` run: a coroutine function on the loop, a plain one in a thread."""
        return self._engine.options(name=name[:100] or "task", grace=GRACE).submit(fn, job)

    async def close(self) -> None:
        """Stop the engine, within a second if something does not stop. Idempotent; goes on if its caller goes."""
        if self._closing is None:
            self._closing = self.loop.create_task(self._close(), name="close of background tasks")
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        await self._holder.aclose()

    async def _hold(self) -> AsyncGenerator[None, None]:
        await self._engine.start()
        try:
            yield
        finally:
            self._ends(self)
            await self._engine.stop(timeout=0)


async def on_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Await ``call()`` on ``loop``, whichever runs here. Nothing happens on a loop that does not turn."""
    if asyncio.get_running_loop() is loop:
        await call()
    elif loop.is_running():
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call(), loop))
