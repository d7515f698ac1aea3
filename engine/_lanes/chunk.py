"""Many calls of one function that travel as one attempt: the items of a map; design/0011.

An attempt whose ``args`` are a Chunk runs the function on each of its items, in order. The lane reports the answers
here as they come, and the end of the attempt to the front, as of any other. What a chunk will not run, it offers to its
owner: items behind one that takes long, behind a crash, or in a chunk that nobody can tell which item broke.
A chunk that was made of one item is a task to its worker.

Guarantees
    Shared: every field.  Guarded by: ``lock``, the owner's, held for a few list operations; the owner is called
    outside.
    The lane's calls come from the home loop, ``settle`` also from a decoder thread.
    Each item is answered, offered to the owner, or left to it when the attempt has ended: once, whatever happens.
    ``size`` only becomes smaller; items beyond it are no longer this chunk's.
"""

import math
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from .base import Attempt, Outcome

__all__ = ["Chunk", "Item", "Owner"]


class Owner(Protocol):
    """Whose items they are."""

    def progressed(self) -> None:
        """More items are settled."""

    def take_back(self, chunk: "Chunk", items: Sequence[Any], *, one_by_one: bool) -> None:
        """Take items that ``chunk`` does not run, the last of its own: to have them run elsewhere, before its end."""


class Chunk:
    """Items on their way. ``results`` has one entry for each; the first ``ready`` are settled."""

    __slots__ = (
        "answered", "begun", "expected_seconds", "failures", "given", "held", "is_divided", "is_over", "is_rows",
        "items", "lock", "owner", "pending", "ready", "received_bytes", "results", "seconds", "sent_bytes", "size",
        "stopped_at", "task",
    )  # fmt: skip

    def __init__(
        self,
        owner: Owner,
        lock: threading.RLock,
        items: Sequence[Any],
        *,
        is_rows: bool,
        expected_seconds: float = math.inf,
    ) -> None:
        self.owner = owner
        self.lock = lock
        self.items = items
        self.task: Any = None  #: the front's; set before a lane has it
        self.is_rows = is_rows  #: each item is a tuple of arguments, else the only argument
        self.expected_seconds = expected_seconds  #: infinite where nobody knows
        self.size = len(items)
        self.results: list[Any] = [None] * self.size
        self.failures: dict[int, Outcome] = {}  #: of items that have no value
        self.answered = 0  #: items of which the answer has arrived, though it may still be decoded
        self.ready = 0
        self.given = 0  #: the owner's: how many it has taken out
        self.begun = 0  #: items that had begun when somebody looked last
        self.stopped_at: float | None = None  #: when the worker was told to begin no further item
        self.is_divided = False  #: items were cut off, and the owner has not put them in their place yet
        self.is_over = False  #: the attempt has ended; what comes late is dropped
        self.pending: set[int] = set()  #: items of which the answer is being decoded
        self.held: Callable[[], None] | None = None  #: the end of the attempt, until these are decoded
        self.seconds = 0.0  #: what all its items took together
        self.sent_bytes = self.received_bytes = 0

    @property
    def is_single(self) -> bool:
        """Say whether it travels as a task: one call, and one answer, which is the item's and the end."""
        return len(self.items) == 1

    # -- answers

    def put(self, values: list[Any], size_bytes: int) -> bool:
        """Take the values of the next items. False: not so many have begun."""
        with self.lock:
            if self.is_over:
                return True
            start, end = self.answered, self.answered + len(values)
            if end > min(self.size, self.begun):
                return False
            self.results[start:end] = values
            self.answered = end
            self.received_bytes += size_bytes
            self._advance()
        self.owner.progressed()
        return True

    def awaits(self, count: int) -> bool:
        """Say whether so many items have begun and are not answered."""
        return self.is_over or self.answered + count <= min(self.size, self.begun)

    def next_item(self, attempt: Attempt, size_bytes: int) -> "Item | None":
        """Return the next item, whose answer has come and is to be settled; None: none has begun."""
        with self.lock:
            if self.answered >= min(self.size, self.begun):
                return None
            index = self.answered
            self.answered += 1
            self.received_bytes += size_bytes
            self.pending.add(index)
        return Item(self, index, attempt)

    def settle(self, index: int, outcome: Outcome) -> None:
        """Note what became of an item whose answer was decoded."""
        held = None
        with self.lock:
            self.pending.discard(index)
            if not self.is_over:
                if outcome.error is None and not outcome.cancelled:
                    self.results[index] = outcome.value
                else:
                    self.failures[index] = outcome
            if not self.pending:
                held, self.held = self.held, None
            self._advance()
        self.owner.progressed()
        if held is not None:
            held()

    def _advance(self) -> None:
        if not self.is_over:  # else the owner has said what became of all
            self.ready = min(self.pending, default=self.answered)

    def give_up(self) -> None:
        """Wait for nothing more: the attempt is no longer wanted."""
        with self.lock:  # what is being decoded stays ``pending``: its owner ends it with the attempt
            held, self.held = self.held, None
        if held is not None:
            held()

    # -- the end

    def hold(self, end: Callable[[], None]) -> bool:
        """Have ``end`` called once what has arrived is decoded. False: it is."""
        with self.lock:
            if self.pending:
                self.held = end
            return bool(self.pending)

    def cut(self, begun: int, *, one_by_one: bool = False) -> None:
        """Offer the items that have not begun: the worker was told to begin no more."""
        with self.lock:
            rest = self._cut_locked(max(begun, self.answered))
        if rest:
            self.owner.take_back(self, rest, one_by_one=one_by_one)

    def _cut_locked(self, start: int) -> Sequence[Any]:
        rest = [] if self.is_over else self.items[start : self.size]
        if rest:
            self.size = start
            self.is_divided = True
            del self.results[start:]
        return rest

    def offer_rest(self) -> None:
        """Offer what has not been answered: the worker did not run it."""
        with self.lock:
            rest = self._cut_locked(self.answered)
        if rest:
            self.owner.take_back(self, rest, one_by_one=False)

    def ending(self, outcome: Outcome) -> None:
        """Be told how the attempt ended, before its task is: what was not run goes to others.

        An error before the first item began may be any item's fault: they run one by one, and the one is found.
        """
        if outcome.error is None:
            return
        with self.lock:
            begun = max(self.begun, self.answered)
            is_unknown = not begun and self.size > 1
            rest = self._cut_locked(begun) if begun or is_unknown else []
        if rest:
            self.owner.take_back(self, rest, one_by_one=is_unknown)


class Item:
    """One item whose answer is being decoded, in the place of its attempt."""

    __slots__ = ("chunk", "index", "name", "number", "task_id")

    def __init__(self, chunk: Chunk, index: int, attempt: Attempt) -> None:
        self.chunk = chunk
        self.index = index
        self.task_id = attempt.task_id
        self.name = attempt.name
        self.number = attempt.number

    def settle(self, outcome: Outcome) -> None:
        """Note what became of it."""
        self.chunk.settle(self.index, outcome)
