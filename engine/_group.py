"""Structured groups: no task outlives the block that submitted it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from ._states import TaskState

if TYPE_CHECKING:
    from ._submit import Submitter
    from ._task import Task

__all__ = ["TaskGroup"]

P = ParamSpec("P")
T = TypeVar("T")


class TaskGroup:
    """Made by ``engine.group()``. A task's failure cancels its siblings and the block; cancellation of one does not."""

    def __init__(self, engine: Submitter) -> None:
        self._engine = engine
        self._tasks: set[Task[Any]] = set()
        self._errors: list[BaseException] = []
        self._owner: asyncio.Task[Any] | None = None
        self._owner_cancelled = False
        self._leaving = False
        self._closed = False
        self._empty: asyncio.Future[None] | None = None

    async def __aenter__(self) -> TaskGroup:
        self._owner = asyncio.current_task()
        return self

    @overload
    def submit(self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]: ...
    @overload
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]: ...
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Task[Any]:
        """Submit as the engine does, owned by this group. Call it on the group's own loop.

        Raises:
            RuntimeError: the group has been left, or one of its tasks has failed already.
        """
        if self._closed or self._owner is None:
            raise RuntimeError("expected the group to be open, got one that was left; submit inside its block")
        if self._errors:
            raise RuntimeError("expected the group to be healthy, got one that cancels its tasks after a failure")
        task: Task[Any] = self._engine.submit(fn, *args, **kwargs)
        self._tasks.add(task)
        task.add_done_callback(self._settled)
        return task

    def _settled(self, task: Task[Any]) -> None:
        scheduler = self._engine._core.scheduler
        mailbox = scheduler.waiters.mailbox()
        if task._state is TaskState.FAILED:
            error = task.exception()
            assert error is not None
            self._errors.append(error)
            self._cancel_all()
            if not self._leaving and self._owner is not None and not self._owner_cancelled:
                self._owner_cancelled = True
                self._owner.cancel()

        def over() -> None:
            mailbox.post(self._gone, task)

        if not scheduler.when_over(task, over):
            self._gone(task)

    def _gone(self, task: Task[Any]) -> None:
        self._tasks.discard(task)
        if not self._tasks and self._empty is not None and not self._empty.done():
            self._empty.set_result(None)

    def _cancel_all(self) -> None:
        for task in list(self._tasks):
            task.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._owner is not None
        cancelled = error if isinstance(error, asyncio.CancelledError) else None
        if error is not None:
            self._cancel_all()
        if self._owner_cancelled:
            self._leaving = True
            if self._owner.uncancel() == 0:
                cancelled = None  # the cancellation was ours, to end the block
        self._leaving = True
        while self._tasks:
            self._empty = asyncio.get_running_loop().create_future()
            try:
                await self._empty
            except asyncio.CancelledError as again:
                cancelled = again
                self._cancel_all()
        self._closed = True
        if cancelled is not None and not self._errors:
            raise cancelled
        known = any(each is error for each in self._errors)  # the block awaited the task that failed
        if error is not None and not known and not isinstance(error, asyncio.CancelledError):
            self._errors.append(error)
        if self._errors:
            try:
                raise BaseExceptionGroup(f"{len(self._errors)} task(s) of the group failed", self._errors)
            finally:
                self._errors = []
