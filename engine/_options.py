"""How a task is to run: one frozen value, checked where it enters."""

import enum
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

from . import _checks
from ._routing import unwrapped
from ._states import Lane
from .retry import Retry

__all__ = [
    "DEFAULT",
    "NOT_SAID",
    "NotSaid",
    "TaskOptions",
    "decorated_options",
    "mark",
    "merge_options",
    "said_by",
    "value_of",
]

V = TypeVar("V")

#: The attribute under which ``@task`` keeps its options on the function itself, which stays a plain callable.
MARK = "__engine_options__"


class NotSaid(enum.Enum):
    """The default of every option: it stays as a decorator or an earlier view said. None takes back what they said."""

    NOT_SAID = "not said"

    def __repr__(self) -> str:
        return "<not said>"


NOT_SAID: Final = NotSaid.NOT_SAID


class TaskOptions(NamedTuple):
    """What the decorators and ``Engine.options`` take; ``NOT_SAID`` leaves an option to whoever was asked before."""

    lane: Lane | NotSaid | None = NOT_SAID  #: where to run; None routes by the kind of function
    timeout: float | NotSaid | None = NOT_SAID  #: seconds per attempt, from its start; None for no limit
    total_timeout: float | NotSaid | None = NOT_SAID  #: seconds from submit, over queueing, attempts and backoff
    retry: Retry | NotSaid | None = NOT_SAID  #: None tries once
    priority: int | NotSaid | None = NOT_SAID  #: higher first; None is Priority.NORMAL
    grace: float | NotSaid | None = NOT_SAID  #: seconds between asking a task to stop and force; None: the engine's
    name: str | NotSaid | None = NOT_SAID  #: what people see; None is the function's qualified name


DEFAULT = TaskOptions()


def merge_options(base: TaskOptions, given: dict[str, Any]) -> TaskOptions:
    """Return ``base`` with what ``given`` says laid over it, checked.

    Raises:
        ValueError: a value is out of range.
        TypeError: a name is not an option.
    """
    for name in given:
        if name not in TaskOptions._fields:
            raise _checks.no_such("options", TaskOptions._fields, name)
    said = {name: value for name, value in given.items() if value is not NOT_SAID}
    return base._replace(**{name: None if value is None else _CHECKS[name](value) for name, value in said.items()})


def value_of(option: V | NotSaid | None) -> V | None:
    """Return what an option says in the end; None where nobody said anything."""
    return None if isinstance(option, NotSaid) else option


def over(base: TaskOptions, stronger: TaskOptions) -> TaskOptions:
    """Return ``base`` with every option that ``stronger`` says taken from it."""
    if stronger is DEFAULT or base is stronger:
        return base
    return base._replace(**said_by(stronger))


def said_by(options: TaskOptions) -> dict[str, Any]:
    """Return what ``options`` say, by name."""
    return {name: value for name, value in options._asdict().items() if value is not NOT_SAID}


def mark(fn: Callable[..., Any], options: TaskOptions) -> None:
    """Remember ``options`` on ``fn`` itself, so that pickle still finds it by name and it stays a plain callable."""
    if isinstance(fn, (staticmethod, classmethod)):
        fn = fn.__func__
    try:
        setattr(fn, MARK, options)
    except (AttributeError, TypeError) as error:
        remedy = "wrap it in a def, or use engine.options(...)"
        raise TypeError(
            f"expected fn to be a function that takes attributes, got {_checks.shown(fn)}; {remedy}"
        ) from error


def decorated_options(fn: Callable[..., Any]) -> TaskOptions:
    """Return what a decorator said of ``fn``, of the function in a partial, or of an object's ``__call__``."""
    fn = unwrapped(fn)
    found = getattr(fn, MARK, None)
    if not isinstance(found, TaskOptions) and not isinstance(fn, type):
        found = getattr(getattr(type(fn), "__call__", None), MARK, None)  # noqa: B004  # its attribute is wanted
    return found if isinstance(found, TaskOptions) else DEFAULT


def _lane(value: Any) -> Lane:
    if type(value) is Lane:
        return value
    return Lane(_checks.member("lane", value, tuple(lane.value for lane in Lane)))


def _timeout(name: str) -> Callable[[Any], float]:
    return lambda value: _checks.seconds(name, value, remedy=f"use {name}=None for no timeout")


def _priority(value: Any) -> int:
    exact = _checks.integer(value)
    if exact is None or not -1000 <= exact <= 1000:
        raise _checks.wrong("priority", "an integer from -1000 to 1000", value, "use Priority.HIGH, NORMAL or LOW")
    return exact


def _retry(value: Any) -> Any:
    return _checks.instance("retry", value, Retry, "a Retry such as Retry(max_attempts=3)")


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "lane": _lane,
    "timeout": _timeout("timeout"),
    "total_timeout": _timeout("total_timeout"),
    "retry": _retry,
    "priority": _priority,
    "grace": lambda value: _checks.seconds("grace", value, zero=True),
    "name": lambda value: _checks.text("name", value, most=200),
}
