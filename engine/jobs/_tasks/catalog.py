"""What a Jobs knows by name: tasks, hooks, routes, queues. The only place where a row's name finds code.

Guarantees
    Shared: ``_tasks``, ``_schedules``, ``_hooks``, ``_writers``.  Guarded by: ``_lock``, held for a few dict
    operations. Readers take none: what they read is replaced, never changed.  Callers: any thread.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from types import CodeType, FrameType, MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from ... import _checks
from ..errors import UnknownTask
from .job_task import JobTask
from .names import check_name, check_pattern
from .settings import TaskSettings

if TYPE_CHECKING:
    from .._schedules.schedule import Schedule

__all__ = ["HOOKS", "Catalog", "Hook"]

#: Event -> what its hooks are called with.
HOOKS = {
    "before_run": ("job",),
    "after_run": ("job", "result"),
    "on_attempt_failed": ("job", "error"),
    "on_failed": ("job", "error"),
}

Hook = Callable[..., Any]
H = TypeVar("H", bound=Hook)
T = TypeVar("T", bound="JobTask[..., Any]")


class Catalog:
    """Tasks by name, and what is said of all of them."""

    def __init__(
        self, *, routes: Mapping[str, str] | None = None, queues: Iterable[str] | Mapping[str, int | None] | None = None
    ) -> None:
        self._lock = threading.Lock()
        self._tasks: dict[str, JobTask[..., Any]] = {}
        self._schedules: dict[str, Schedule] = {}
        #: Under which execution of its module each task or schedule was defined.
        self._writers: dict[tuple[str, str], CodeType | None] = {}
        self._hooks: dict[str, tuple[Hook, ...]] = dict.fromkeys(HOOKS, ())
        self._declared = _checked_queues(queues)
        self.routes = _checked_routes(routes)  #: pattern of task names -> queue; the first that matches counts
        for queue in self.routes.values():
            self.check_queue("a queue in routes", queue)

    # -- tasks

    @property
    def tasks(self) -> Mapping[str, JobTask[..., Any]]:
        """Give the tasks by name, as they are now."""
        return MappingProxyType(self._tasks)

    def add(self, task: T) -> T:
        """Register ``task``, in the place of one of the same function if its module or notebook cell is run again.

        Raises:
            ValueError: the name is another function's.
        """
        with self._lock:
            self._take_name("task", task.name, task, self._tasks.get(task.name))
            self._tasks = {**self._tasks, task.name: task}
        return task

    def task(self, name: str) -> JobTask[..., Any]:
        """Return the task of this name.

        Raises:
            UnknownTask: there is none.
        """
        found = self.find(name)
        if found is None:
            raise UnknownTask(
                f"expected a registered task, got {_checks.shown(name)}; import the module that defines it, or name it "
                "as it was when the job was enqueued"
            )
        return found

    def find(self, name: str) -> JobTask[..., Any] | None:
        """Return the task of this name, if there is one."""
        return self._tasks.get(name)

    # -- schedules

    @property
    def schedules(self) -> Mapping[str, Schedule]:
        """Give the schedules by name, as they are now."""
        return MappingProxyType(self._schedules)

    def add_schedule(self, schedule: Schedule) -> None:
        """Register ``schedule``, in the place of one that an earlier run of its module or notebook cell made.

        Raises:
            ValueError: the name is another schedule's.
        """
        with self._lock:
            old = self._schedules.get(schedule.name)
            self._take_name("schedule", schedule.name, schedule.call.task, None if old is None else old.call.task)
            self._schedules = {**self._schedules, schedule.name: schedule}

    def _take_name(self, what: str, name: str, task: JobTask[..., Any], old: JobTask[..., Any] | None) -> None:
        """Note who takes a name, from ``old`` if anybody has it. Under the lock.

        Raises:
            ValueError: that is neither nobody nor the same function of an earlier run of its module.
        """
        writer = _execution_of(task.fn)
        if old is not None and not (_same_def(old, task) and writer not in (None, self._writers[what, name])):
            raise _checks.wrong(
                f"the name of a {what}", f"unique, and {_place(old)} has it already", name,
                f"say name=... for {_place(task)}",
            )  # fmt: skip
        self._writers[what, name] = writer

    # -- queues

    @property
    def queues(self) -> Mapping[str, int | None]:
        """Give each queue with its bound of runs at once per worker (None: none): the declared ones, else all named."""
        if self._declared is not None:
            return MappingProxyType(self._declared)
        named = {task.queue: None for task in self._tasks.values()}
        scheduled = {schedule.queue: None for schedule in self._schedules.values()}
        return MappingProxyType({**named, **scheduled, **dict.fromkeys(self.routes.values())})

    def check_queue(self, what: str, value: Any) -> str:
        """Return ``value`` if it may be the name of a queue here.

        Raises:
            ValueError: it is no name, or queues were declared and it is none of them.
        """
        queue = check_name(what, value)
        if self._declared is not None and queue not in self._declared:
            known = ", ".join(repr(each) for each in sorted(self._declared))
            raise _checks.wrong(what, f"one of the declared queues ({known})", queue, "add it to Jobs(queues=...)")
        return queue

    def routed(self, settings: TaskSettings) -> TaskSettings:
        """Return ``settings`` with the queue of the first route that names the task, if one does.

        Raises:
            ValueError: queues were declared, and its queue is none of them.
        """
        route = self.route_of(settings.name)
        if route is not None:
            return replace(settings, queue=self.routes[route])
        self.check_queue("queue", settings.queue)
        return settings

    def route_of(self, name: str) -> str | None:
        """Return the pattern that says where jobs of the task ``name`` go; None where the task does."""
        return next((pattern for pattern in self.routes if fnmatchcase(name, pattern)), None)

    # -- hooks

    def add_hook(self, event: str, hook: H) -> H:
        """Have ``hook`` called at ``event``, after those that were added before.

        Raises:
            TypeError: it cannot be called with what it is given there.
        """
        _checks.member("event", event, tuple(HOOKS))
        _check_hook(event, hook)
        with self._lock:
            self._hooks = {**self._hooks, event: (*self._hooks[event], hook)}
        return hook

    def hooks(self, event: str) -> tuple[Hook, ...]:
        """Return what is to be called at ``event``, in order."""
        return self._hooks[event]


def _same_def(old: JobTask[..., Any], new: JobTask[..., Any]) -> bool:
    return (old.fn.__module__, old.fn.__qualname__) == (new.fn.__module__, new.fn.__qualname__)


def _place(task: JobTask[..., Any]) -> str:
    code = getattr(task.fn, "__code__", None)
    where = "" if code is None else f" ({code.co_filename}:{code.co_firstlineno})"
    return f"{task.fn.__module__}.{task.fn.__qualname__}{where}"


def _execution_of(fn: Callable[..., Any]) -> CodeType | None:
    """Return the code of the outermost call under way in the module of ``fn``: another each time the module is run.

    Two functions of one name in one file have the same; a reloaded module and a cell run again have another one.
    """
    found: CodeType | None = None
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_globals is getattr(fn, "__globals__", None):
            found = frame.f_code
        frame = frame.f_back
    return found


def _check_hook(event: str, hook: Any) -> None:
    names = HOOKS[event]
    expected = f"{event}({', '.join(names)})"
    if not callable(hook):
        raise TypeError(f"expected a hook to be a function, {expected}, got {_checks.shown(hook)}")
    try:
        signature = inspect.signature(hook)
    except (TypeError, ValueError):  # some that are written in C do not say theirs
        return
    try:
        signature.bind(*names)
    except TypeError:
        name = getattr(hook, "__qualname__", type(hook).__qualname__)
        raise TypeError(
            f"expected a hook to take what it is called with, {expected}, got {name}{signature}; write it as "
            f"def {getattr(hook, '__name__', 'hook')}({', '.join(names)})"
        ) from None


def _checked_queues(value: Any) -> dict[str, int | None] | None:
    if value is None:
        return None
    if _checks.is_a(value, str) or not isinstance(value, Iterable):
        raise _checks.wrong("queues", "names of queues, or their names with their bounds", value, 'use queues=["mail"]')
    pairs = value.items() if isinstance(value, Mapping) else ((name, None) for name in value)
    return {
        check_name("a queue in queues", name): None if most is None else _checks.positive_int(f"queues[{name!r}]", most)
        for name, most in pairs
    }


def _checked_routes(value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise _checks.wrong("routes", "a mapping of patterns to queues", value, 'use routes={"reports.*": "slow"}')
    return {
        check_pattern("a pattern in routes", pattern): check_name(f"routes[{pattern!r}]", queue)
        for pattern, queue in value.items()
    }
