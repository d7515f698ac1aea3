"""What the writer does of its own accord: it renews the leases of this process, and rescues from who is gone."""

from __future__ import annotations

import logging
from collections.abc import Callable

from .._book import Book
from .._moment import Moment
from .._records import NewHolder, Rescued
from ..errors import CorruptStore
from . import boot as _boot
from . import holders as _holders
from .duties import Leases, Rescuer
from .library import apsw
from .opened import Opened
from .transaction import Write

__all__ = ["Keeper"]

_logger = logging.getLogger("engine.jobs")


class Keeper:
    """The holders of this process, and a look at those of others. The writer's thread uses it."""

    def __init__(self, on_rescue: Callable[[list[Rescued]], object]) -> None:
        self._on_rescue = on_rescue
        self._leases = Leases()
        self._rescuer = Rescuer()

    def __bool__(self) -> bool:
        return bool(self._leases)

    def add(self, holder_id: int, holder: NewHolder, on_lost: Callable[[], None], now: Moment) -> None:
        """Renew a lease from now on."""
        self._leases.add(holder_id, holder.lease, on_lost, now)

    def drop(self, holder_id: int) -> None:
        """Renew it no more."""
        self._leases.drop(holder_id)

    def duties(self, opened: Opened) -> list[Write]:
        """Return what is to be written now. What of it fails is due again the next time."""
        if not self._leases:
            self._rescuer.rest()
            return []
        now = opened.clock()
        due = self._leases.due(now)
        writes = [self._renewal(due)] if due else []
        if self._rescuer.is_due(now) and self._is_rescue_due(opened.connection, now):
            writes.append(Write(lambda book, now: book.rescue(now, _boot.is_dead), None, False, self._rescued))
        return writes

    def farewells(self) -> list[Write]:
        """Return what is to be written at the end: everything is given back."""
        holders = self._leases.all()
        for holder in holders:
            self._leases.drop(holder)
        return [Write(_letting_go(holder), None, False) for holder in holders]

    def _renewal(self, holders: list[int]) -> Write:
        def renew(book: Book, now: Moment) -> tuple[set[int], Moment]:
            return book.renew(holders, now), now

        def renewed(answer: tuple[set[int], Moment]) -> None:
            lost, then = answer
            self._leases.renewed(holders, then)
            self._leases.lose(lost)

        return Write(renew, None, False, renewed)

    def _is_rescue_due(self, connection: apsw.Connection, now: Moment) -> bool:
        try:
            holders = _holders.all_holders(connection)
        except (apsw.Error, CorruptStore):  # whoever wants something of the file is told what is wrong with it
            return False
        others = [holder for holder in holders if holder.id not in self._leases]  # ours are renewed before a rescue
        return self._rescuer.decide(others, _boot.is_dead, now)

    def _rescued(self, rescued: list[Rescued]) -> None:
        if not rescued:
            return
        _logger.warning("%d jobs were taken from holders that are gone: %s", len(rescued), _names(rescued))
        try:
            self._on_rescue(rescued)
        except Exception:
            _logger.exception("what was to be told of a rescue failed")


def _letting_go(holder: int) -> Callable[[Book, Moment], int]:
    return lambda book, now: book.let_go(holder, now)


def _names(rescued: list[Rescued]) -> str:
    names = sorted({job.holder for job in rescued})
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
