"""Being a holder of jobs: at first, again after the lease was lost, and no more.

Guarantees
    Home loop only, but for what the store calls, which posts to it. There is at most one holder at a time; a loss that
    is told of a former one changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Callable

from .._records import NewHolder
from .._reply import Reply
from .._sqlite.boot import this_process
from .._store import Store
from ..errors import StoreClosed, StoreError

__all__ = ["Holding"]

_AGAIN_AFTER = 0.5  #: seconds until a store that gave no holder is asked again
_RESCUED_WITHIN = 1.0  #: seconds after the end of a lease in which somebody has looked

_logger = logging.getLogger("engine.jobs")


class Holding:
    """Holds jobs of ``store`` under ``name``; ``on_lost`` is called after a loss, ``on_held`` when it holds again."""

    def __init__(
        self, store: Store, name: str, lease: float, *, on_lost: Callable[[], object], on_held: Callable[[], object]
    ) -> None:  # fmt: skip
        self._store = store
        self._name = name
        self._lease = lease
        self._on_lost = on_lost
        self._on_held = on_held
        self._loop = asyncio.get_running_loop()
        self._term = 0  #: grows with each time that it becomes a holder
        self._again: asyncio.Task[None] | None = None
        self._late_look: asyncio.TimerHandle | None = None  #: a store in memory rescues only when it is asked something
        self.id: int | None = None  #: under which jobs are held; None while there is none
        self.losses = 0

    async def begin(self) -> None:
        """Become a holder.

        Raises:
            StoreError: the store cannot take one.
        """
        self._term += 1
        process = this_process()
        holder = NewHolder(
            name=self._name, pid=process.pid, pid_started=process.started, namespace=process.namespace,
            lease=self._lease,
        )  # fmt: skip
        reply = self._store.hold(holder, functools.partial(self._hear, self._term))
        try:
            self.id = await reply
        except asyncio.CancelledError:  # it is done all the same
            if not reply.tell(functools.partial(self._let_go_of, reply)):
                self._let_go_of(reply)
            raise

    def _let_go_of(self, reply: Reply[int]) -> None:
        """Be not the holder that nobody has waited for, or its lease would be renewed for ever. Any thread."""
        with contextlib.suppress(StoreError):
            self._store.let_go(reply.result())

    def end(self) -> Reply[int] | None:
        """Be no holder any more, and give back what is held; return what to wait for, if there is anything."""
        self._term += 1
        for each in (self._again, self._late_look):
            if each is not None:
                each.cancel()
        holder, self.id = self.id, None
        try:
            return None if holder is None else self._store.let_go(holder)
        except StoreClosed:  # it has given everything back
            return None

    def leave(self) -> None:
        """Let go of what is held on a loop that is closed. Any thread."""
        holder, self.id = self.id, None
        with contextlib.suppress(StoreError):
            if holder is not None:
                self._store.let_go(holder)

    def _hear(self, term: int) -> None:
        """Hear that the lease is lost, on any thread."""
        try:
            self._loop.call_soon_threadsafe(self._lose, term)
        except RuntimeError:  # the loop is closed
            pass

    def _lose(self, term: int) -> None:
        if term != self._term:
            return
        self.losses += 1
        _logger.warning(
            "%s has lost its lease of %s s; it stops what it runs: others run that", self._name, self._lease
        )
        self._hold_anew()

    def forsake(self) -> None:
        """Let the lease run out over what cannot be ended: it is rescued then, as if we had died, and counted so.

        What else runs is stopped, and given back while there is time.
        """
        if (holder := self.id) is None:
            return
        _logger.error(
            "%s holds what it cannot end: it renews its lease of %s s no more, and stops what it runs; all that comes "
            "again", self._name, self._lease,
        )  # fmt: skip
        with contextlib.suppress(StoreError):  # it is closed, and has given everything back
            self._store.forsake(holder)
        self._late_look = self._loop.call_later(self._lease + _RESCUED_WITHIN, self._on_held)
        self._hold_anew()

    def _hold_anew(self) -> None:
        self.id = None
        self._again = self._loop.create_task(self._begin_again(), name=f"engine.jobs: {self._name} holds again")
        self._on_lost()

    async def _begin_again(self) -> None:
        while True:
            try:
                await self.begin()
            except StoreClosed:
                return
            except StoreError:
                _logger.exception("%s cannot hold jobs of %s; trying again", self._name, self._store.name)
                await asyncio.sleep(_AGAIN_AFTER)
            else:
                self._on_held()
                return
