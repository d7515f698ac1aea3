"""How many attempts of a lane may run at once: slots, lent slots, abandoned attempts.

Plain counters without a lock of their own: the registry's guards them. ``room`` is exact at every instant; ``parked``
and ``spawnable`` only say whom to wake when there is both room and work (design/0002).
"""

from collections.abc import Callable

__all__ = ["Slots"]


class Slots:
    """The slots of one lane. ``limit`` None means that the lane bounds itself (one worker process per slot)."""

    __slots__ = ("abandoned", "grow", "lent", "limit", "parked", "parked_most", "spawnable", "taken", "wake")

    def __init__(self, limit: int | None, *, takers: int = 1, spawnable: int = 0) -> None:
        self.limit = limit
        self.taken = 0  #: attempts claimed and not over
        self.lent = 0  #: of these, those that wait for another task of this engine
        self.abandoned = 0  #: of these, those whose slot was given away
        self.parked = 0 if spawnable else 1  #: takers that found nothing and are to be woken
        self.parked_most = takers
        self.spawnable = spawnable  #: takers that could still be made
        self.wake: Callable[[], None] = _nobody
        self.grow: Callable[[], None] = _nobody

    def has_room(self) -> bool:
        """Say whether one more attempt may be claimed."""
        return self.limit is None or self.taken - self.lent - self.abandoned < self.limit

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
        if self.spawnable:
            self.spawnable -= 1
            return self.grow
        return None

    def lend(self) -> None:
        """Give a waiting attempt's slot to others."""
        self.lent += 1
        self._one_more_taker()

    def reclaim(self) -> None:
        """End one lending; until an attempt ends there may be one more running than ``limit``."""
        self.lent -= 1
        if self.spawnable:
            self.spawnable -= 1

    def abandon(self) -> bool:
        """Give an unstoppable attempt's slot away; False when ``limit`` of them are abandoned already."""
        if self.limit is not None and self.abandoned >= self.limit:
            return False
        self.abandoned += 1
        self._one_more_taker()
        return True

    def _one_more_taker(self) -> None:
        if self.grow is not _nobody:
            self.spawnable += 1


def _nobody() -> None:
    """Stand in until the lane is opened."""
