"""Views and groups of an inline engine: inside the block of a group nothing runs until somebody waits."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Never, cast

from .._blocking_calls import BlockingCalls
from .._blocking_group import BlockingTaskGroup
from .._options import NOT_SAID, NotSaid
from .._states import Lane
from ..retry import Retry

if TYPE_CHECKING:
    from .core import InlineCore

__all__ = ["InlineCalls"]


class InlineTaskGroup(BlockingTaskGroup):
    """A group whose tasks run when its block is left, or somebody waits: so a failure finds siblings to cancel."""

    def __enter__(self) -> InlineTaskGroup:
        self._inline.groups += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        core = self._inline
        core.groups -= 1
        try:
            super().__exit__(kind, error, traceback)
        finally:
            core.after_submit()  # what was submitted in the block, and not through the group

    @property
    def _inline(self) -> InlineCore:
        return cast("InlineCore", self._engine._core)


class InlineCalls(BlockingCalls):
    """What InlineEngine and its views share."""

    def options(
        self, *, lane: Lane | str | NotSaid | None = NOT_SAID, timeout: float | NotSaid | None = NOT_SAID,
        total_timeout: float | NotSaid | None = NOT_SAID, retry: Retry | NotSaid | None = NOT_SAID,
        priority: int | NotSaid | None = NOT_SAID, grace: float | NotSaid | None = NOT_SAID,
        name: str | NotSaid | None = NOT_SAID, **others: Never,
    ) -> BlockingCalls:  # fmt: skip
        """Return the same engine with these options for what is submitted through it, as ``Engine.options`` does."""
        view = super().options(
            lane=lane, timeout=timeout, total_timeout=total_timeout, retry=retry, priority=priority, grace=grace,
            name=name, **others,
        )  # fmt: skip
        return InlineCalls(view._inner)

    def group(self) -> BlockingTaskGroup:
        """Return a structured group for a plain ``with``; its tasks run when the block is left."""
        return InlineTaskGroup(self._inner)
