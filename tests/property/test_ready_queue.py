"""The ready queue does what a plain sorted list does."""

from itertools import takewhile

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from engine._queue import ReadyQueue


class Item:
    """What is queued: one of two calls."""

    queued = False

    def __init__(self, call: str = "one") -> None:
        self._call = call


class QueueAgainstList(RuleBasedStateMachine):
    """The model: (-priority, place, item), sorted; ``first`` takes a place before all others of its priority."""

    queued = Bundle("queued")
    taken = Bundle("taken")

    def __init__(self) -> None:
        super().__init__()
        self.queue: ReadyQueue[Item] = ReadyQueue()
        self.model: list[tuple[int, int, Item]] = []
        self.places = 0

    def _push(self, item: Item, priority: int, first: bool) -> Item:
        self.places += 1
        self.model.append((-priority, -self.places if first else self.places, item))
        self.model.sort(key=lambda row: row[:2])
        self.queue.push(item, priority, first=first)
        return item

    @rule(target=queued, priority=st.integers(-3, 3), first=st.booleans(), call=st.sampled_from(["one", "other"]))
    def push(self, priority: int, first: bool, call: str) -> Item:
        return self._push(Item(call), priority, first)

    @rule(target=queued, item=consumes(taken), priority=st.integers(-3, 3), first=st.booleans())
    def push_again(self, item: Item, priority: int, first: bool) -> Item:
        """A retry, or one that a worker gave back."""
        return self._push(item, priority, first)

    @rule(target=taken)
    def pop(self) -> object:
        item = self.queue.pop()
        if not self.model:
            assert item is None
            return multiple()
        assert item is self.model.pop(0)[2]
        assert not item.queued
        return item

    @rule(target=taken, call=st.sampled_from(["one", "other"]), most=st.integers(1, 4))
    def take_like(self, call: str, most: int) -> object:
        """Of one call and of one priority, while nothing else comes first."""
        row = [entry for entry in self.model if entry[0] == self.model[0][0]]
        expected = [item for _, _, item in takewhile(lambda entry: entry[2]._call == call, row[:most])]
        self.model = self.model[len(expected) :]
        assert self.queue.take_like(call, most) == expected
        assert not any(item.queued for item in expected)
        return multiple(*expected)

    @rule(item=queued)
    def remove(self, item: Item) -> None:
        """Taken out for good, or not there any more; what was popped may have come back."""
        there = [row for row in self.model if row[2] is item]
        assert self.queue.remove(item) == bool(there)
        self.model = [row for row in self.model if row[2] is not item]

    @rule(count=st.integers(60, 90), priority=st.integers(-3, 3))
    def push_and_remove_many(self, count: int, priority: int) -> None:
        """Enough that the queue sweeps."""
        items = [Item() for _ in range(count)]
        for item in items:
            self.queue.push(item, priority)
        for item in items:
            assert self.queue.remove(item)

    @invariant()
    def they_agree(self) -> None:
        assert len(self.queue) == len(self.model)
        assert list(self.queue) == [item for _, _, item in self.model]
        assert all(item.queued for _, _, item in self.model)


QueueAgainstList.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestQueueAgainstList = QueueAgainstList.TestCase
