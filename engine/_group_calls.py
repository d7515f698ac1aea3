"""submit and options of a group; what both kinds of group and their views share."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Never, ParamSpec, TypeVar, overload

from ._options import NOT_SAID, NotSaid
from ._states import Lane
from .retry import Retry

if TYPE_CHECKING:
    from ._submit import Submitter
    from ._task import Task

__all__ = ["GroupCalls", "failure_of"]

P = ParamSpec("P")
T = TypeVar("T")


class GroupCalls:
    """A group as seen with some options already said. ``engine`` knows them, ``_enter`` knows the group."""

    def __init__(self, engine: Submitter) -> None:
        self._engine = engine

    @overload
    def submit(self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]: ...
    @overload
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]: ...
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Task[Any]:
        """Submit as the engine does, owned by this group. In ``async with``, call it on the group's own loop.

        Raises:
            RuntimeError: the group has been left, or one of its tasks has failed already.
        """
        return self._enter(self._engine, fn, args, kwargs)

    def options(
        self, *, lane: Lane | str | NotSaid | None = NOT_SAID, timeout: float | NotSaid | None = NOT_SAID,
        total_timeout: float | NotSaid | None = NOT_SAID, retry: Retry | NotSaid | None = NOT_SAID,
        priority: int | NotSaid | None = NOT_SAID, grace: float | NotSaid | None = NOT_SAID,
        name: str | NotSaid | None = NOT_SAID, **others: Never,
    ) -> GroupCalls:  # fmt: skip
        """Return the same group with these options for what is submitted through it; see ``Engine.options``."""
        engine = self._engine.options(
            lane=lane, timeout=timeout, total_timeout=total_timeout, retry=retry, priority=priority, grace=grace,
            name=name, **others,
        )  # fmt: skip
        return GroupView(self, engine)

    def _enter(
        self, engine: Submitter, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Task[Any]:
        """Submit to ``engine`` what the group then owns."""
        raise NotImplementedError


class GroupView(GroupCalls):
    """What ``options`` of a group returns."""

    def __init__(self, group: GroupCalls, engine: Submitter) -> None:
        super().__init__(engine)
        self._group = group

    def _enter(
        self, engine: Submitter, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Task[Any]:
        return self._group._enter(engine, fn, args, kwargs)

    def __repr__(self) -> str:
        return f"<view of {self._group!r} through {self._engine!r}>"


def failure_of(tasks: list[BaseException], block: BaseException | None) -> BaseExceptionGroup[BaseException]:
    """Build what a group raises: the failures of its tasks, and that of the block if it is not one of them."""
    if block is None or any(error is block for error in tasks):  # the block awaited the task that failed
        return BaseExceptionGroup(f"{len(tasks)} task(s) of the group failed", tasks)
    if not tasks:
        return BaseExceptionGroup("the block of the group failed", [block])
    return BaseExceptionGroup(f"the block of the group and {len(tasks)} task(s) failed", [*tasks, block])
