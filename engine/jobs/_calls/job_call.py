"""A call that may be enqueued, as a value, and what follows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ... import _checks
from ..._options import value_of
from .._json.codec import decode_args
from ..errors import JobRefused
from .options import PLAIN, EnqueueOptions, merge_options

if TYPE_CHECKING:
    from typing import Unpack

    from .._job import Job
    from .._reply import Reply
    from .._tasks.job_task import JobTask
    from .options import Options

__all__ = ["MOST_STEPS", "FollowUp", "JobCall", "options_with_then"]

MOST_STEPS = 50  #: that follow each other


@dataclass(frozen=True, slots=True)
class JobCall:
    """A call of a task with its options: what ``enqueue`` would keep. Immutable; its arguments are JSON already."""

    task: JobTask[..., Any]
    text: str  #: of the arguments
    said: EnqueueOptions = PLAIN
    is_whole: bool = True  #: else an argument is missing, which is to be the result of the job before

    @property
    def args(self) -> dict[str, Any]:
        """Give the arguments as the function will get them."""
        return decode_args(self.text)

    @property
    def steps(self) -> int:
        """Give how many jobs follow each other here, this one counted."""
        return 1 + max((each.call.steps for each in self.said.then), default=0)

    def options(self, **given: Unpack[Options]) -> JobCall:
        """Return the same call with these options laid over its own; ``then`` adds to what follows this one."""
        return replace(self, said=options_with_then(self.task, self.said, given))

    def then(self, call: JobCall, result_as: str | None = None) -> JobCall:
        """Return this call with ``call`` to follow the last one of its chain.

        It is enqueued in the transaction that records the completion of that one, which is its ``parent``. So in
        ``a.then(b).then(c)`` c begins when b has completed; ``a.options(then=[b, c])`` has both follow a.
        With ``result_as`` the result of that one becomes that argument of ``call``, which is made with ``partial``
        then. Where ``call`` has a ``queueing_lock`` that is taken by then, it is left out.

        Raises:
            JobRefused: the calls do not fit each other, or several follow here, so that none of them is the last.
        """
        if not self.said.then:
            return replace(self, said=replace(self.said, then=(_checked(self.task, call, result_as),)))
        if len(self.said.then) > 1:
            raise JobRefused(
                f"expected one job to be the last after {self.task.name!r}, got {len(self.said.then)} that follow it "
                "side by side; say .then(...) of one of them, or options(then=[...]) for another beside them"
            )
        [after] = self.said.then
        longer = replace(after, call=after.call.then(call, result_as))
        _check_steps(longer.call)
        return replace(self, said=replace(self.said, then=(longer,)))

    def enqueue(self) -> Reply[Job]:
        """Keep it until it is done; the reply has the job once it is durable."""
        return self.task.jobs.enqueue(self)

    def __repr__(self) -> str:
        return f"<JobCall {self.task.name!r}{f', {self.steps} steps' if self.said.then else ''}>"


@dataclass(frozen=True, slots=True)
class FollowUp:
    """A call, and which of its arguments is the result of the one it follows."""

    call: JobCall
    result_as: str | None


def options_with_then(task: JobTask[..., Any], base: EnqueueOptions, given: Options) -> EnqueueOptions:
    """Return ``base`` with ``given`` laid over it, checked, for a call of ``task``."""
    merged = merge_options(base, given)
    if merged.queue is not base.queue and (queue := value_of(merged.queue)) is not None:
        task.jobs.catalog.check_queue("queue", queue)
    after = given.get("then")
    if after is None:
        return merged
    calls: Sequence[Any] = after if isinstance(after, (list, tuple)) else (after,)
    return replace(merged, then=merged.then + tuple(_checked(task, call, None) for call in calls))


def _check_steps(call: JobCall) -> None:
    """Refuse what is too long to follow another."""
    if call.steps >= MOST_STEPS:
        raise JobRefused(f"expected at most {MOST_STEPS} jobs in a row, got more; have the last one enqueue the next")


def _checked(task: JobTask[..., Any], call: Any, result_as: Any) -> FollowUp:
    """Return ``call`` as what follows a call of ``task``, if it can."""
    if not _checks.is_a(call, JobCall):
        raise _checks.wrong("what follows", "a JobCall", call, "make one with task.call(...)")
    if call.task.jobs is not task.jobs:
        raise JobRefused(f"expected what follows to be of the same Jobs, got {call.task!r} after {task!r}")
    if call.said.connection is not None:
        raise JobRefused("expected what follows to have no connection of its own, for it is enqueued by the worker")
    _check_steps(call)
    given = dict.fromkeys(call.args)
    parameters = call.task.parameters
    if result_as is not None:
        name = _checks.string(result_as)
        if name is None or not parameters.takes(name):
            raise _checks.wrong("result_as", f"the name of an argument of {call.task.name!r}", result_as)
        if name in given:
            raise JobRefused(f"expected {name!r} to be the result of the job before, got it in the call as well")
        given[name] = None
        result_as = name
    if not parameters.fits(given):
        missing = ", ".join(sorted(parameters.required - given.keys()))
        raise JobRefused(f"expected a whole call of {call.task.name!r}, got one without {missing}; say result_as=...")
    return FollowUp(call, result_as)
