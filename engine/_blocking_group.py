"""Structured groups for plain threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from ._blocking_calls import wait_anywhere
from ._group_calls import GroupCalls, failure_of
from ._latch import Latch
from ._states import TaskState
from ._submit import Submitter
from ._task import Task
from .errors import NestedDeadlock

__all__ = ["BlockingTaskGroup"]


class BlockingTaskGroup(GroupCalls):
    """Made by ``group()``: leaving the block waits for every task; a failure cancels the siblings."""

    def __init__(self, engine: Submitter) -> None:
        super().__init__(engine)
        self._tasks: list[Task[Any]] = []
        self._lock = threading.RLock()  # the collector may settle a task of ours from inside (design/0002)
        self._failed = False
        self._closed = False

    def __enter__(self) -> BlockingTaskGroup:
        return self

    def _enter(
        self, engine: Submitter, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Task[Any]:
        with self._lock:
            if self._closed:
                raise RuntimeError("expected the group to be open, got one that was left; submit inside its block")
            if self._failed:
                raise RuntimeError("expected the group to be healthy, got one that cancels its tasks after a failure")
        task = engine._submit_at_home(fn, args, kwargs)
        with self._lock:
            self._tasks.append(task)
            failed = self._failed
        if failed:  # meanwhile, and the siblings were cancelled without this one
            task.cancel()
        if not self._engine._core.scheduler.waiters.add(task, self._settled, waits=False):
            self._settled(task)
        return task

    def _settled(self, task: Task[Any]) -> None:
        if task._state is TaskState.FAILED:
            with self._lock:
                self._failed = True
            self._cancel_all()

    def _cancel_all(self) -> None:
        with self._lock:
            tasks = list(self._tasks)
        for task in tasks:
            task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._engine._is_forked:  # the tasks are the parent process's
            return
        if error is not None:
            self._cancel_all()
        waiters = self._engine._core.scheduler.waiters
        try:
            lender = waiters.lend()
        except NestedDeadlock as refusal:  # what is cancelled needs no slot of others to end
            lender, error = None, error or refusal
            self._cancel_all()
        try:
            errors = self._failures()
        finally:
            waiters.reclaim(lender)
        with self._lock:
            self._closed = True
        if error is not None and not isinstance(error, Exception):
            return  # KeyboardInterrupt and the like go on as they are
        if errors or error is not None:
            raise failure_of(errors, error)

    def _failures(self) -> list[BaseException]:
        """Wait for every task and slot, those that are submitted meanwhile included; return what failed."""
        errors: list[BaseException] = []
        seen = 0
        while seen < len(self._tasks):
            task = self._tasks[seen]
            seen += 1
            wait_anywhere(task, lends=False)
            over = Latch()
            if self._engine._core.scheduler.when_over(task, over.set):
                self._engine._core.scheduler.wait(over)
            if task._state is TaskState.FAILED:
                failure = task.exception()
                assert failure is not None
                errors.append(failure)
        return errors

    def __repr__(self) -> str:
        with self._lock:
            state = "left" if self._closed else "failed" if self._failed else "open"
            unfinished = sum(not task.done() for task in self._tasks)
        return f"<BlockingTaskGroup {state}, {unfinished} unfinished>"
