"""What ``@jobs.task`` may say: one frozen value, checked where it enters."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from engine import Lane, Priority, Retry

from ... import _checks
from ..._options import decorated_options, value_of
from .._calls.misspelt import meant
from .._duration import duration
from .names import check_name

__all__ = ["DRAIN_TIMEOUT", "TaskSettings", "check_priority", "checked_settings"]

DRAIN_TIMEOUT = 30.0  #: seconds that leaving a worker waits, where nobody says otherwise


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSettings:
    """How the jobs of a task are kept and run, where ``options`` says nothing else."""

    name: str  #: unique in a catalog; what rows are called by
    queue: str = "default"
    lane: Lane | None = None  #: where runs go; None as the engine routes
    timeout: float | None = None  #: seconds per run
    retry: Retry | None = None  #: None tries once
    priority: int = 0  #: higher first
    max_crashes: int = 3  #: deaths of what runs it until it is FAILED
    lock: str | None = None  #: of the jobs with one lock only one runs at a time
    expires: float | None = None  #: seconds from the enqueue after which it is not started any more


def checked_settings(fn: Callable[..., Any], given: dict[str, Any]) -> TaskSettings:
    """Return what ``given`` says, checked; for the rest, what ``@cpu``, ``@io`` or ``@task`` said of ``fn``.

    Raises:
        ValueError: a value is out of range.
        TypeError: a name is no setting.
    """
    known = {field.name for field in fields(TaskSettings)}
    if unknown := sorted(given.keys() - known):
        found = f"got {unknown[0]!r}{_remedy_of(unknown[0], known)}"
        raise TypeError(f"expected settings among {', '.join(sorted(known))}, {found}")
    below = decorated_options(fn)
    said = {name: value_of(getattr(below, name)) for name in ("lane", "timeout", "retry", "priority")}
    said |= {name: _CHECKS[name](value) for name, value in given.items() if value is not None}
    said.setdefault("name", None)
    said["name"] = said["name"] or _default_name(fn)
    return TaskSettings(**{name: v for name, v in said.items() if v is not None})


def _remedy_of(name: str, known: set[str]) -> str:
    """Return what to do about a setting that there is not, with a semicolon before it."""
    if name in _OF_ONE_JOB:
        return f"; say it of one job: .options({name}=...).enqueue(...)"
    if name in _OF_RETRY:
        return "; say retry=Retry(max_attempts=...)"
    return meant(name, known)


_OF_ONE_JOB = frozenset({"at", "connection", "delay", "queueing_lock", "then"})
_OF_RETRY = frozenset({"attempts", "max_attempts", "max_retries", "retries"})  #: as others call it


def check_priority(value: Any) -> int:
    """Return ``value`` as a priority: an int, a member of Priority, or its name in small letters."""
    name = _checks.string(value)
    exact = _checks.integer(value) if name is None else _NAMED.get(name)
    if exact is None or not -1000 <= exact <= 1000:
        names = ", ".join(repr(each) for each in _NAMED)
        raise _checks.wrong("priority", f"an integer from -1000 to 1000, or one of {names}", value)
    return exact


_NAMED = {each.name.lower(): int(each) for each in Priority}


_TYPED = ("<stdin>", "<string>", "<python-input")  #: what code that is in no file has for the name of one


def _default_name(fn: Callable[..., Any]) -> str:
    """Return ``module.qualname``, the same whether its file is run as a script or imported.

    Raises:
        ValueError: it would name another function tomorrow, or nothing that a worker can import.
    """
    module, typed = fn.__module__, getattr(fn.__code__, "co_filename", "")
    if fn.__name__ == "<lambda>":
        raise ValueError(f"expected a function with a name, got {_checks.shown(fn)}; use def, or say name=...")
    if module == "__main__":
        main = sys.modules["__main__"]
        spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
        if spec is None and (not file or file == typed) and typed.startswith(_TYPED):
            raise ValueError(
                f"expected name=... for what is typed in or given to -c, got {_checks.shown(fn)} without one: no "
                "worker can import it by the name of its module; say name=..., or put it into a file"
            )
        module = spec.name if spec is not None else Path(file).stem if file else module
    return check_name("the name of a task", f"{module}.{fn.__qualname__}", remedy="say name=...")


def _check_lane(value: Any) -> Lane:
    return value if type(value) is Lane else Lane(_checks.member("lane", value, tuple(lane.value for lane in Lane)))


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "name": lambda value: check_name("name", value),
    "queue": lambda value: check_name("queue", value),
    "lane": _check_lane,
    "timeout": lambda value: duration("timeout", value, remedy="use timeout=None for no timeout"),
    "retry": lambda value: _checks.instance("retry", value, Retry, "a Retry such as Retry(max_attempts=3)"),
    "priority": check_priority,
    "max_crashes": lambda value: _checks.positive_int("max_crashes", value),
    "lock": lambda value: check_name("lock", value),
    "expires": lambda value: duration("expires", value, remedy="use expires=None for never"),
}
