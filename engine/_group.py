"""Structured groups: no task outlives the block that submitted it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ._group_calls import GroupCalls, failure_of
from ._states import TaskState
from .errors import NestedDeadlock

if TYPE_CHECKING:
    from ._submit import Submitter
    from ._task import Task

__all__ = ["TaskGroup"]


class TaskGroup(GroupCalls):
    """Made by ``engine.group()``. A task's failure cancels its siblings and the block; cancellation of one does not."""

    def __init__(self, engine: Submitter) -> None:
        super().__init__(engine)
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

    def _enter(
        self, engine: Submitter, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Task[Any]:
        if self._closed or self._owner is None:
            raise RuntimeError("expected the group to be open, got one that was left; submit inside its block")
        if self._errors:
            raise RuntimeError("expected the group to be healthy, got one that cancels its tasks after a failure")
        task: Task[Any] = engine.submit(fn, *args, **kwargs)
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
        if self._engine._is_forked:  # the tasks are the parent process's
            return
        cancelled = error if isinstance(error, asyncio.CancelledError) else None
        if error is not None:
            self._cancel_all()
        if self._owner_cancelled:
            self._leaving = True
            if self._owner.uncancel() == 0:
                cancelled = None  # the cancellation was ours, to end the block
        self._leaving = True
        waiters = self._engine._core.scheduler.waiters
        try:
            lender = waiters.lend() if self._tasks else None
        except NestedDeadlock as refusal:  # what is cancelled needs no slot of others to end
            lender, error = None, error or refusal
            self._cancel_all()
        try:
            cancelled = await self._until_empty() or cancelled
        finally:
            waiters.reclaim(lender)
        self._closed = True
        if cancelled is not None and not self._errors:
            raise cancelled
        block = None if isinstance(error, asyncio.CancelledError) else error
        if self._errors or block is not None:
            try:
                raise failure_of(self._errors, block)
            finally:
                self._errors = []

    async def _until_empty(self) -> asyncio.CancelledError | None:
        """Wait for every task and slot; return the cancellation that came meanwhile, if one did."""
        cancelled = None
        while self._tasks:
            self._empty = asyncio.get_running_loop().create_future()
            try:
                await self._empty
            except asyncio.CancelledError as again:
                cancelled = again
                self._cancel_all()
        return cancelled

    def __repr__(self) -> str:
        state = "left" if self._closed else "failed" if self._errors else "open" if self._owner else "not entered"
        return f"<TaskGroup {state}, {sum(not task.done() for task in self._tasks)} unfinished>"
