"""How many attempts of a lane may run at once: slots, lent slots, abandoned attempts.

Plain counters without a lock of their own: the registry's guards them. ``room`` is exact at every instant; ``parked``
and ``spawnable`` only say whom to wake when there is both room and work (design/0002).
"""

from collections.abc import Callable
from math import inf

__all__ = ["Slots"]


class Slots:
    """The slots of one lane. ``limit`` None means that the lane bounds itself (one worker process per slot)."""

    __slots__ = (
        "abandoned", "abandoned_lent", "floor", "grow", "lent", "limit", "overtake", "parked", "parked_most",
        "spawnable", "taken", "wake",
    )  # fmt: skip

    def __init__(self, limit: int | None, *, takers: int = 1, spawnable: int = 0) -> None:
        self.limit = limit
        self.taken = 0  #: attempts claimed and not over
        self.lent = 0  #: of these, those that wait for another task of this engine
        self.abandoned = 0  #: of these, those that nobody waits for any more and that still run
        self.abandoned_lent = 0  #: of the abandoned, those that wait for another task: their slot is lent already
        self.parked = 0 if spawnable else 1  #: takers that found nothing and are to be woken
        self.parked_most = takers
        #: Takers that could still be made: ``limit`` and those in other hands, less those made; below zero when slots
        #: came back for which takers had been made, so that lending again and again makes no more of them.
        self.spawnable = spawnable
        #: The lowest priority that was claimed and may lie unbegun with a taker: a submit above it calls ``overtake``,
        #: once. None: what is claimed begins.
        self.floor: float | None = None
        self.overtake: Callable[[], None] = _nobody
        self.wake: Callable[[], None] = _nobody
        self.grow: Callable[[], None] = _nobody

    def in_other_hands(self) -> int:
        """Count the slots that their attempts do not need: all that are lent, and of the abandoned ``limit`` at most.

        What is abandoned beyond that keeps its slot, so that a function which never stops cannot fill a process with
        threads; it gives it away as soon as one of the others has ended.
        """
        given = self.abandoned - self.abandoned_lent
        return self.lent + (given if self.limit is None else min(given, self.limit))

    def has_room(self) -> bool:
        """Say whether one more attempt may be claimed."""
        return self.limit is None or self.taken - self.in_other_hands() < self.limit

    def park(self) -> None:
        """Note that a taker found nothing to claim."""
        if self.parked < self.parked_most:
            self.parked += 1

    def to_wake(self) -> Callable[[], None] | None:
        """Choose whom to wake, given that work is ready: call the answer outside the lock."""
        if not self.has_room():
            return None
        if self.parked:
            self.parked -= 1
            return self.wake
        if self.spawnable > 0:
            self.spawnable -= 1
            return self.grow
        return None

    def to_wake_for(self, priority: int) -> Callable[[], None] | None:
        """Choose whom to wake for one more task of ``priority``: as ``to_wake``, or who lets it overtake others."""
        if self.floor is not None and priority > self.floor:  # first: nobody who is woken may be free
            self.floor = inf
            return self.overtake
        return self.to_wake() if self.parked or self.spawnable > 0 else None

    def note_claim(self, priority: int) -> None:
        """Note that a task of ``priority`` was claimed."""
        if self.floor is not None and priority < self.floor:
            self.floor = priority

    def lend(self, *, abandoned: bool = False) -> None:
        """Give a waiting attempt's slot to others."""
        before = self.in_other_hands()
        self.lent += 1
        self.abandoned_lent += abandoned
        self._adjust_takers(before)

    def reclaim(self, *, abandoned: bool = False) -> None:
        """End one lending; until an attempt ends there may be one more running than ``limit``."""
        before = self.in_other_hands()
        self.lent -= 1
        self.abandoned_lent -= abandoned
        self._adjust_takers(before)

    def abandon(self, *, waits: bool = False) -> bool:
        """Give an unstoppable attempt's slot away; False when ``limit`` of them are given away already."""
        before = self.in_other_hands()
        self.abandoned += 1
        self.abandoned_lent += waits
        self._adjust_takers(before)
        return waits or self.in_other_hands() > before

    def recover(self) -> None:
        """Note that an abandoned attempt, which waits for nothing, is over after all."""
        before = self.in_other_hands()
        self.abandoned -= 1
        self._adjust_takers(before)

    def _adjust_takers(self, before: int) -> None:
        """Let one taker more be made for each slot that passed into other hands, one less for each that came back."""
        if self.grow is not _nobody:
            self.spawnable += self.in_other_hands() - before


def _nobody() -> None:
    """Stand in until the lane is opened."""
