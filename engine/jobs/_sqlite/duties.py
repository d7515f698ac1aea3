"""When to renew which lease, and when to take from others what they have lost. Decisions; the clock is an argument."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .._moment import Moment
from .._moves import is_over
from .._records import HolderInfo

__all__ = ["Leases", "Rescuer"]

RENEWALS_PER_LEASE = 3
LOOK_SECONDS = 0.5  #: between two looks for holders that are gone

_logger = logging.getLogger("engine.jobs")


@dataclass(slots=True)
class _Held:
    lease: float
    due: float  #: on the steady clock
    on_lost: Callable[[], None]


class Leases:
    """The holders of this process whose leases are renewed. One thread uses it."""

    def __init__(self) -> None:
        self._held: dict[int, _Held] = {}

    def __bool__(self) -> bool:
        return bool(self._held)

    def __contains__(self, holder: int) -> bool:
        return holder in self._held

    def all(self) -> list[int]:
        """Return the holders."""
        return list(self._held)

    def add(self, holder: int, lease: float, on_lost: Callable[[], None], now: Moment) -> None:
        """Renew the lease of ``holder`` from now on."""
        self._held[holder] = _Held(lease, now.steady + lease / RENEWALS_PER_LEASE, on_lost)

    def drop(self, holder: int) -> None:
        """Renew it no more."""
        self._held.pop(holder, None)

    def due(self, now: Moment) -> list[int]:
        """Return the holders whose leases are to be renewed now."""
        return [holder for holder, held in self._held.items() if held.due <= now.steady]

    def wait(self, now: Moment) -> float:
        """Return the seconds until the next one is due."""
        return max(0.0, min(held.due for held in self._held.values()) - now.steady)

    def renewed(self, holders: Iterable[int], now: Moment) -> None:
        """Note that the leases of ``holders`` began anew."""
        for holder in holders:
            if held := self._held.get(holder):
                held.due = now.steady + held.lease / RENEWALS_PER_LEASE

    def lose(self, holders: Iterable[int]) -> None:
        """Tell those that have lost their leases, once, and forget them."""
        for holder in holders:
            if held := self._held.pop(holder, None):
                _logger.warning("holder %d has lost its lease of %s s: it renewed too late", holder, held.lease)
                try:
                    held.on_lost()
                except Exception:
                    _logger.exception("what was to be told of a lost lease failed")


class Rescuer:
    """Decides when to look for holders that are gone, and whether to believe what it sees. One thread uses it.

    A rescuer that comes late (it was stopped, or the machine was suspended) sees leases that are over because everybody
    was late. So it gives the others a third of a lease to renew first.
    """

    def __init__(self) -> None:
        self._last_look: float | None = None
        self._patient_until = 0.0

    def rest(self) -> None:
        """Nobody holds here: no look is due, and so none is late."""
        self._last_look = None

    def is_due(self, now: Moment) -> bool:
        """Say whether it is time to look."""
        return self._last_look is None or not 0 <= now.steady - self._last_look < LOOK_SECONDS

    def decide(self, holders: Iterable[HolderInfo], is_dead: Callable[[HolderInfo], bool], now: Moment) -> bool:
        """Say whether to rescue now, having looked at ``holders``."""
        late = 0.0 if self._last_look is None else now.steady - self._last_look - LOOK_SECONDS
        self._last_look = now.steady
        gone = [holder for holder in holders if is_over(holder, now) or is_dead(holder)]
        if late > 0:
            waits = [holder.lease / RENEWALS_PER_LEASE for holder in gone if late > holder.lease / RENEWALS_PER_LEASE]
            self._patient_until = max([self._patient_until, *(now.steady + wait for wait in waits)])
        return bool(gone) and now.steady >= self._patient_until
