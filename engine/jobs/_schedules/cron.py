"""When a cron expression fires, in a zone whose clock is put forward and back. Pure.

The parser is that of the package ``cronsim``, asked for times of day without a zone; what becomes of those at a
transition is decided here. (Its own walk through a zone takes steps of whole hours. Where the clock is moved by half of
one, at Lord Howe, it loses periods; and in the hour that comes twice it may answer with an instant that is past.)

Source: the rules are those of Debian's cron.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from ... import _checks
from .._tasks.names import MOST

__all__ = ["Cron", "check_cron", "check_zone"]

_EPOCH = datetime(1970, 1, 1)
_SECOND = timedelta(seconds=1)
_HOUR = 3600
_DAY = 86_400
_WIDEST = 26 * _HOUR  #: more than any zone's clock was ever moved by
_LOOKS = 200  #: at parts of a search that each are a day, a transition or a jump to the next match

_MOST = 120  #: characters: so the longest list of numbers is read in a few hundredths of a millisecond
_FIELDS = "minute hour day-of-month month day-of-week"


@dataclass(frozen=True, slots=True)
class Cron:
    """The instants of one expression of five fields in one zone; ``check_cron`` makes it.

    With neither the minute nor the hour field beginning with ``*`` it names times of day. Each fires once a day: at its
    first occurrence where the clock is put back over it, at the instant of the change where the clock is put forward
    over it. Otherwise it names a rhythm, and fires at each instant at which the clock on the wall matches: twice where
    that shows a time twice, and not at times that it never shows. Of several that fall on one instant there is one.
    """

    text: str
    zone: ZoneInfo

    def next_after(self, instant: float) -> float | None:
        """Return the first instant after ``instant`` (both UTC, in seconds) at which it fires; None if it never does.

        Bounded: at most fifty years are searched.
        """
        second = int(instant // 1)
        found = self._next_of_rhythm(second) if self._is_rhythm else self._next_time_of_day(second)
        return None if found is None else float(found)

    def __str__(self) -> str:
        return f"{self.text} ({self.zone.key})"

    @property
    def _is_rhythm(self) -> bool:
        minute, hour = self.text.split()[:2]
        return minute.startswith("*") or hour.startswith("*")

    # -- times of day

    def _next_time_of_day(self, second: int) -> int | None:
        shown = self._shown_at(second)
        while (time := _next_match(self.text, shown)) is not None:
            at = self._first_at(time)
            if at > second:  # else this is the second time that the clock shows ``time``
                return at
            shown = time
        return None

    def _first_at(self, time: datetime) -> int:
        """Return the first instant at which the clock shows ``time``, or at which it is put forward over it."""
        at = int(time.replace(tzinfo=self.zone, fold=0).timestamp())
        if self._shown_at(at) == time:
            return at
        return self._change_in(int(time.replace(tzinfo=self.zone, fold=1).timestamp()), at)

    # -- rhythms

    def _next_of_rhythm(self, second: int) -> int | None:
        start = second + 1  # no instant from here on has been looked at
        for _ in range(_LOOKS):
            time = _next_match(self.text, self._shown_at(start) - _SECOND)
            if time is None:
                return None
            at = int((time - _EPOCH).total_seconds()) - self._offset_at(start)  # unless the clock is moved before
            day = start + _DAY
            change = self._first_change(start, min(at, day))
            if change is not None:
                start = change
            elif at <= day:
                return at
            else:  # nothing matches before ``time``, and nothing is shown again that was before ``start``
                start = max(day, at - _WIDEST)
        return None

    def _first_change(self, start: int, end: int) -> int | None:
        """Return the first instant in (start, end] at which the clock is moved."""
        before = self._offset_at(start)
        for at in (*range(start + _HOUR, end, _HOUR), end):
            if self._offset_at(at) != before:
                return self._change_in(max(start, at - _HOUR), at)
        return None

    # -- the zone

    def _change_in(self, before: int, after: int) -> int:
        """Return the first instant at which the clock is as moved as it is at ``after``, and is not at ``before``."""
        offset = self._offset_at(after)
        while after - before > 1:
            middle = (before + after) // 2
            if self._offset_at(middle) == offset:
                after = middle
            else:
                before = middle
        return after

    def _offset_at(self, second: int) -> int:
        offset = datetime.fromtimestamp(second, self.zone).utcoffset()
        assert offset is not None
        return int(offset.total_seconds())

    def _shown_at(self, second: int) -> datetime:
        return datetime.fromtimestamp(second, self.zone).replace(tzinfo=None, fold=0)


#: What crons have words for, and what to say here.
_SHORT = {
    "@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
}  # fmt: skip


def check_cron(value: Any, zone: ZoneInfo) -> Cron:
    """Return what ``value`` says, if it says something and can be searched quickly.

    Raises:
        ValueError: it is no expression of five fields, or it never fires.
        ImportError: the package ``cronsim`` is not installed.
    """
    text = _checks.string(value)
    if text is None or not 0 < len(text) <= _MOST or not text.isascii() or len(text.split()) != 5:
        remedy = "use every=1.0 for periods shorter than a minute" if text and len(text.split()) == 6 else ""
        if text in _SHORT:
            remedy = f"say {_SHORT[text]!r}"
        raise _checks.wrong("a cron expression", f"five fields ({_FIELDS}), at most {_MOST} characters", value, remedy)
    text = " ".join(text.split())
    try:
        first = _next_match(text, datetime(2000, 1, 1))
    except _parser().CronSimError as error:
        expected = f"one whose fields ({_FIELDS}) are in their ranges, on a day that exists"
        raise _checks.wrong("a cron expression", expected, text, str(error)) from None
    if first is None:
        raise _checks.wrong("a cron expression", "one that fires", text, "there is no such day in fifty years")
    return Cron(text, zone)


def check_zone(value: Any) -> ZoneInfo:
    """Return the zone of this name.

    Raises:
        ValueError: there is none.
    """
    name = _checks.string(value)
    try:
        if name and len(name) <= MOST:
            return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # of a name that is none, or that is a folder
        pass
    remedy = "where the system has none, install tzdata"
    if _checks.is_a(value, tzinfo):
        remedy = f"say its name: tz={'UTC' if value is UTC else getattr(value, 'key', None) or 'Europe/Berlin'!r}"
    raise _checks.wrong("tz", "a zone of the IANA database such as 'Europe/Berlin'", value, remedy)


@lru_cache(maxsize=1)
def _parser() -> Any:
    try:
        import cronsim
    except ImportError:
        raise ImportError(
            "expected the package cronsim to be installed for cron expressions; pip install 'hybrid-engine[jobs]'"
        ) from None
    return cronsim


def _next_match(text: str, time: datetime) -> datetime | None:
    """Return the first time after ``time``, neither with a zone, that matches; None if none does in fifty years."""
    found: datetime | None = next(_parser().CronSim(text, time), None)
    return found
