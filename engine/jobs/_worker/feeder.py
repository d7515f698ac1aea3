"""When a worker claims, and how much: as soon as there may be work that it has room for, and not more often.

Guarantees
    ``_is_told`` is set by listeners on any thread, everything else belongs to the home loop.
    No wake-up is lost: a listener's flag is cleared before the claim, so what is committed later finds it cleared and
    wakes the feeder again (design/0014, 11).
    A claim that found less than it asked for is repeated only when there is news: from the store, of room where it was
    missing, or of time. Two claims are never closer than ``PACE``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TypeVar

from engine import Lane

from .._book import Book
from .._moment import Moment
from .._records import Claim, Claimed, Claims
from .._store import Store
from ..errors import StoreClosed
from .rooms import BATCH_MOST, Rooms, Step, claim_in_steps, plan_steps

__all__ = ["PACE", "Feeder"]

T = TypeVar("T")

PACE = 0.001  #: seconds

_PAUSE_AFTER_ERROR = 0.5  #: seconds without a claim when the store has refused one
_SUSPECTS_LEFT_ALONE = 1.0  #: seconds in which suspects that nobody could claim are not waited for

_logger = logging.getLogger("engine.jobs")


class Feeder:
    """Claims from ``store`` what ``rooms`` has room for, and gives the jobs to ``take``.

    ``holder`` answers under which id to claim, None while there is none; ``lane_of`` the lane of every task by name;
    ``is_held_up`` whether the store is behind with what has ended, so that there should not be more of it.
    """

    def __init__(
        self, store: Store, rooms: Rooms, *, holder: Callable[[], int | None], lane_of: Callable[[], dict[str, Lane]],
        is_held_up: Callable[[], bool], take: Callable[[Claimed], object],
    ) -> None:  # fmt: skip
        self._store = store
        self._rooms = rooms
        self._holder = holder
        self._lane_of = lane_of
        self._is_held_up = is_held_up
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._is_told = False
        self._timer: asyncio.TimerHandle | None = None
        self._not_before = 0.0  #: when the next claim may be, on the loop's clock
        self._closed_lanes: dict[Lane, float] = {}  #: until when nothing is claimed for them
        self._is_cut = False  #: the last look ended because we had room for no more
        self._missing: set[Lane | str] = set()  #: lanes and queues without room then
        self._suspects = False  #: suspects wait: what runs is to end, then one of them runs alone
        self._suspects_not_before = 0.0
        self._is_alone = False  #: a suspect runs
        self._is_closing = False
        self.claims = 0  #: how many there were
        self.is_claiming = False  #: a claim is under way, or answered and what it brought not yet taken

    # -- news

    def tell(self) -> None:
        """Note that the store has news. Any thread; it is the store's listener."""
        if not self._is_told:
            self._is_told = True
            try:
                self._loop.call_soon_threadsafe(self._news.set)
            except RuntimeError:  # the loop is closed
                pass

    def look(self) -> None:
        """Claim soon, whatever is known."""
        self._news.set()

    def on_room(self, lane: Lane | None, queue: str) -> None:
        """Note that a run is over, or that what has ended is recorded."""
        if self._suspects or self._is_alone:
            if not self._rooms.running:
                self._news.set()
        elif self._is_cut and self._rooms.left * 2 >= min(self._rooms.concurrency, BATCH_MOST):
            self._news.set()
        elif self._is_cut or lane in self._missing or queue in self._missing:
            self._wake_in(PACE)  # others may end meanwhile: one claim for all

    def close_lane(self, lane: Lane, seconds: float) -> None:
        """Claim nothing for ``lane`` for a while: it cannot start anything."""
        self._closed_lanes[lane] = self._loop.time() + seconds
        self._wake_in(seconds)

    def close(self) -> None:
        """Claim no more; ``run`` returns once the claim that is under way is answered."""
        self._is_closing = True
        self._news.set()

    def _wake_in(self, seconds: float) -> None:
        """Look again in ``seconds`` at the latest."""
        at = self._loop.time() + max(PACE, seconds)
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._news.set()

    # -- claims

    async def run(self) -> None:
        """Claim until ``close``."""
        try:
            while not self._is_closing:
                self._news.clear()
                self._is_told = False
                if (early := self._not_before - self._loop.time()) > 0:
                    self._wake_in(early)
                else:
                    self.is_claiming = True
                    try:
                        await self._look()
                    finally:
                        self.is_claiming = False
                await self._news.wait()
        finally:
            if self._timer is not None:
                self._timer.cancel()

    async def _look(self) -> None:
        """Claim once, if there is room, and take what came."""
        holder = self._holder()
        if holder is None:
            return
        if (self._suspects or self._is_alone) and self._loop.time() >= self._suspects_not_before:
            if not self._rooms.running:
                await self._claim_alone(holder)
            return
        steps = () if self._is_held_up() else self._plan()
        if not steps:
            self._is_cut = True
            return
        queues = self._rooms.left_of_queues()
        answer = await self._write(lambda book, now: claim_in_steps(book, now, holder, queues, steps))
        if answer is None or self._holder() != holder:  # what a holder had that is lost is somebody else's
            return
        claims, self._is_cut = answer
        self._suspects = claims.suspects
        self._accept(claims)
        self._missing |= {queue for queue, left in self._rooms.left_of_queues().items() if not left}
        if self._is_cut and self._rooms.left > 0:  # of a lane that a later step passed over, or past the batch
            self._news.set()

    def _plan(self) -> tuple[Step, ...]:
        lane_of, now = self._lane_of(), self._loop.time()
        self._closed_lanes = {lane: until for lane, until in self._closed_lanes.items() if until > now}
        if self._closed_lanes:
            self._wake_in(min(self._closed_lanes.values()) - now)
        left = {lane: 0 if lane in self._closed_lanes else self._rooms.left_of_lane(lane) for lane in Lane}
        self._missing = {lane for lane in set(lane_of.values()) if left[lane] <= 0}
        return plan_steps(self._rooms.left, left, lane_of)

    async def _claim_alone(self, holder: int) -> None:
        self._is_alone = False
        claim = Claim(holder=holder, queues=self._rooms.left_of_queues(), limit=1, alone=True)
        claims = await self._write(lambda book, now: book.claim(claim, now))
        if claims is None or self._holder() != holder:
            return
        self._suspects = claims.suspects
        self._is_alone = bool(claims.jobs)
        if not claims.jobs:  # others run them, or their locks are held: they must not keep us from the rest
            self._suspects_not_before = self._loop.time() + _SUSPECTS_LEFT_ALONE
            self._news.set()
        self._accept(claims)

    def _accept(self, claims: Claims) -> None:
        if claims.next_due is not None:
            self._wake_in(claims.next_due)
        for job in claims.jobs:
            self._take(job)
        if claims.suspects and (pause := self._suspects_not_before - self._loop.time()) > 0:
            self._wake_in(pause)
        elif claims.suspects and not self._rooms.running:
            self._news.set()

    async def _write(self, claim: Callable[[Book, Moment], T]) -> T | None:
        """Have ``claim`` done; None where the store refuses: then it is asked again in a while."""
        self.claims += 1
        self._not_before = self._loop.time() + PACE
        try:
            return await self._store.write(claim)
        except StoreClosed:
            self._is_closing = True
            _logger.error("the store %s was closed under its worker, which claims no more", self._store.name)
        except Exception as error:
            _logger.error("no job could be claimed from %s; trying again", self._store.name, exc_info=error)
            self._not_before = self._loop.time() + _PAUSE_AFTER_ERROR
            self._wake_in(_PAUSE_AFTER_ERROR)
        return None
