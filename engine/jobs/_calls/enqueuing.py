"""What can be enqueued: a task, or one with options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from .._json.codec import encode_args
from .job_call import JobCall, options_with_then
from .options import PLAIN, EnqueueOptions

if TYPE_CHECKING:
    from typing import Unpack

    from .._job import Job
    from .._reply import Reply
    from .._tasks.job_task import JobTask
    from .options import Options

__all__ = ["Enqueuing", "TaskView"]

P = ParamSpec("P")
R = TypeVar("R")


class Enqueuing(Generic[P, R]):
    """``enqueue`` and its kin; every argument is the function's own, and is checked against its signature here."""

    __slots__ = ()

    _task: JobTask[P, R]
    _said: EnqueueOptions

    def enqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> Reply[Job]:
        """Keep this call until it is done: ``await`` the reply, or ``.result()`` on a thread without a loop.

        The reply has the job once it is durable. At least one run of it will end.

        Raises:
            TypeError: the function does not take these arguments.
            PayloadRefused: JSON cannot carry them, or they are too large.
            AlreadyEnqueued: a job with this queueing lock waits (in the reply).
            StoreFull: too many writes wait.
        """
        return self._task.jobs.enqueue(self.call(*args, **kwargs))

    def call(self, /, *args: P.args, **kwargs: P.kwargs) -> JobCall:
        """Return the call as a value that may be enqueued, once or often, or follow another; raises as ``enqueue``."""
        task = self._task
        text = encode_args(task.parameters.bind(task.name, args, kwargs), task.jobs.max_args_bytes)
        return JobCall(task, text, self._said)

    def partial(self, /, *args: Any, **kwargs: Any) -> JobCall:
        """Return a call that lacks an argument, which is to be the result of the job that it follows."""
        task = self._task
        bound = task.parameters.bind_partial(task.name, args, kwargs)
        text = encode_args(bound, task.jobs.max_args_bytes)
        return JobCall(task, text, self._said, task.parameters.fits(bound))

    def options(self, /, **given: Unpack[Options]) -> TaskView[P, R]:
        """Return the task with options for what is enqueued through it.

        Raises:
            ValueError: one is out of range, or a delay and an instant are both said.
            TypeError: there is no such option.
        """
        return TaskView(self._task, options_with_then(self._task, self._said, given))


class TaskView(Enqueuing[P, R]):
    """A task with options."""

    __slots__ = ("_said", "_task")

    def __init__(self, task: JobTask[P, R], said: EnqueueOptions = PLAIN) -> None:
        self._task = task
        self._said = said

    if not TYPE_CHECKING:  # a type checker says it by itself

        def __call__(self, *_: Any, **__: Any) -> Any:
            raise TypeError(
                f"expected .enqueue(...) or .call(...) behind {self._task.name}.options(...), got a call; without "
                "options it is the function's own"
            )

    def __repr__(self) -> str:
        return f"<JobTask {self._task.name!r} with options>"
