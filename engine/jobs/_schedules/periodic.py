"""What ``@jobs.periodic`` says, checked."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ... import _checks
from .._calls.options import Options
from .._tasks.names import check_name
from .cron import Cron, check_cron, check_zone
from .interval import Interval, check_interval
from .schedule import CATCH_UP, Schedule

if TYPE_CHECKING:
    from .._calls.job_call import JobCall
    from .._tasks.job_task import JobTask

__all__ = ["checked_timetable", "make_schedule"]


def checked_timetable(cron: Any, every: Any, tz: Any) -> Cron | Interval:
    """Return when a schedule is due.

    Raises:
        ValueError: it is never, or not said once.
    """
    if (cron is None) == (every is None):
        raise ValueError('expected a cron expression or every=seconds, got both or neither; say periodic("0 * * * *")')
    if every is None:
        return check_cron(cron, check_zone("UTC" if tz is None else tz))
    if tz is not None:
        raise ValueError("expected every without tz, for its periods are counted in UTC; use a cron expression")
    return check_interval(every)


def make_schedule(
    task: JobTask[..., Any], timetable: Cron | Interval, *, name: Any, catch_up: Any, args: Any, period_as: Any,
    options: Options,
) -> Schedule:  # fmt: skip
    """Return the schedule that enqueues ``task``.

    Raises:
        ValueError: a value is out of range, or the arguments are no whole call.
        TypeError: there is no such option, or none of a schedule.
        JobRefused: an argument does not fit into the lock, or is not what JSON can carry.
    """
    if wrong := options.keys() & {"at", "connection"}:
        raise TypeError(f"expected options that a schedule may have, got {min(wrong)!r}; it says itself when")
    if isinstance(options.get("expires"), datetime):
        raise TypeError("expected expires of a schedule to be seconds, got an instant, the same in all periods")
    schedule = Schedule(
        name=task.name if name is None else check_name("name", name),
        timetable=timetable,
        call=_checked_call(task, args, period_as, options),
        catch_up=_checks.member("catch_up", catch_up, CATCH_UP),
        period_as=period_as,
    )
    schedule.job_of(0.0)  # what cannot be made is found out here
    return schedule


def _checked_call(task: JobTask[..., Any], args: Any, period_as: Any, options: Options) -> JobCall:
    """Return the call of one period, without the argument ``period_as``."""
    if args is not None and not isinstance(args, Mapping):
        raise _checks.wrong("args", "a mapping of the names of arguments to their values", args)
    given = dict(args or {})
    call = task.options(**options).partial(**given)
    if period_as is not None:
        name = _checks.string(period_as)
        if name is None or not task.parameters.takes(name) or name in given:
            raise _checks.wrong("period_as", f"a parameter of {task.name!r} that args does not give", period_as)
        given[name] = None
    if not task.parameters.fits(given):
        missing = ", ".join(sorted(task.parameters.required - given.keys()))
        raise ValueError(f"expected a schedule of {task.name!r} to give each argument, got none for {missing}; "
                         "say args={...}, or period_as=... for the one that is the period")  # fmt: skip
    return call
