"""Highest priority first; first in, first out within one; removing holds no memory."""

import gc
import weakref

import pytest

from engine._queue import ReadyQueue


class Item:
    """What may be queued."""

    def __init__(self, name: str = "") -> None:
        self.queued = False
        self.name = name
        self._call = "a call"


def drained(queue: ReadyQueue[Item]) -> list[str]:
    """Pop all."""
    names = []
    while (item := queue.pop()) is not None:
        assert not item.queued
        names.append(item.name)
    return names


def test_an_empty_queue_gives_nothing() -> None:
    queue: ReadyQueue[Item] = ReadyQueue()
    assert queue.pop() is None
    assert len(queue) == 0
    assert not queue.remove(Item())


def test_the_most_urgent_comes_first_and_equals_in_their_order() -> None:
    queue: ReadyQueue[Item] = ReadyQueue()
    for name, priority in [("a", 0), ("b", 10), ("c", 0), ("d", -10), ("e", 10)]:
        queue.push(Item(name), priority)
    assert [item.name for item in queue] == ["b", "e", "a", "c", "d"]
    assert len(queue) == 5
    assert drained(queue) == ["b", "e", "a", "c", "d"]
    assert len(queue) == 0


def test_what_is_pushed_first_overtakes_only_its_own_priority() -> None:
    queue: ReadyQueue[Item] = ReadyQueue()
    for name, priority in [("a", 0), ("b", 10), ("c", 0)]:
        queue.push(Item(name), priority)
    queue.push(Item("back"), 0, first=True)
    assert drained(queue) == ["b", "back", "a", "c"]


def test_an_item_is_removed_once_wherever_it_stands() -> None:
    queue: ReadyQueue[Item] = ReadyQueue()
    items = [Item(str(n)) for n in range(5)]
    for item in items:
        queue.push(item, 0)
    assert queue.remove(items[2])
    assert not queue.remove(items[2])
    assert not items[2].queued
    assert len(queue) == 4
    assert drained(queue) == ["0", "1", "3", "4"]


@pytest.mark.parametrize("count", [1_000, 20_000])
def test_removed_items_hold_no_memory(count: int) -> None:
    queue: ReadyQueue[Item] = ReadyQueue()
    queue.push(Item("stays"), 0)

    def push_and_remove(number: int) -> weakref.ref[Item]:
        item = Item()
        queue.push(item, number % 7)
        queue.remove(item)
        return weakref.ref(item)

    dead = [push_and_remove(number) for number in range(count)]
    gc.collect()
    assert sum(ref() is not None for ref in dead) <= 66  # marked, until they outnumber the live ones by 64
    assert drained(queue) == ["stays"]
