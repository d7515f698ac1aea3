"""Slots: who may run, whose slot is lent, whose is given away, and whom to wake."""

from engine._limits import Slots


def nothing() -> None:
    pass


def growing(limit: int) -> Slots:
    """Make slots as the thread lane has them: threads are started on demand."""
    slots = Slots(limit, takers=11 * limit, spawnable=limit)
    slots.wake, slots.grow = nothing, (lambda: None)
    return slots


def test_a_limit_counts_what_is_taken_and_neither_lent_nor_abandoned() -> None:
    slots = Slots(2)
    assert slots.has_room()
    slots.taken = 2
    assert not slots.has_room()
    slots.lend()
    assert slots.has_room()
    slots.reclaim()
    assert not slots.has_room()
    assert slots.abandon()
    assert slots.has_room()


def test_without_a_limit_there_is_always_room() -> None:
    slots = Slots(None)
    slots.taken = 10_000
    assert slots.has_room()


def test_at_most_as_many_attempts_are_abandoned_as_there_are_slots() -> None:
    slots = Slots(2)
    assert [slots.abandon() for _ in range(4)] == [True, True, False, False]
    assert (slots.abandoned, slots.in_other_hands()) == (4, 2)
    slots.recover()
    assert (slots.abandoned, slots.in_other_hands()) == (3, 2), "the next of them gives its slot away"


def test_what_waits_and_is_abandoned_counts_once() -> None:
    slots = growing(2)
    slots.taken = 1
    slots.lend()
    slots.abandon(waits=True)
    assert (slots.in_other_hands(), slots.spawnable) == (1, 3)
    slots.reclaim(abandoned=True)
    assert (slots.in_other_hands(), slots.spawnable) == (1, 3), "it waits no more, and stays abandoned"
    slots.lend(abandoned=True)
    assert slots.in_other_hands() == 1
    slots.reclaim(abandoned=True)
    slots.recover()
    assert (slots.in_other_hands(), slots.spawnable) == (0, 2)


def test_lending_again_and_again_makes_no_more_takers() -> None:
    """A taker was made for a lent slot that came back since: it is there for the next one."""
    slots = growing(2)
    made = 0
    for _ in range(100):
        slots.taken = 2
        slots.lend()
        made += slots.to_wake() is slots.grow
        slots.taken = 3
        slots.reclaim()
        slots.taken = 1
        made += slots.to_wake() is slots.grow
    assert made == 3


def test_abandoned_attempts_that_end_leave_no_taker_to_be_made() -> None:
    """Each of them lets one more thread be made; a thousand that came and went must not let a burst make a thousand."""
    slots = growing(2)
    for _ in range(1000):
        slots.abandon()
        slots.recover()
    assert slots.spawnable == 2


def test_nobody_is_woken_without_room() -> None:
    slots = growing(1)
    slots.taken = 1
    assert slots.to_wake() is None


def test_a_parked_taker_is_woken_before_a_new_one_is_made() -> None:
    slots = growing(2)
    assert slots.to_wake() is slots.grow
    slots.park()
    assert slots.to_wake() is slots.wake
    assert slots.to_wake() is slots.grow
    assert slots.to_wake() is None


def test_a_lane_with_one_pump_is_parked_from_the_start_and_once() -> None:
    slots = Slots(5)
    slots.wake = nothing
    for _ in range(3):
        slots.park()
    assert slots.to_wake() is slots.wake
    assert slots.to_wake() is None


def test_a_lent_slot_needs_one_more_taker_and_a_reclaimed_one_does_not() -> None:
    slots = growing(1)
    assert slots.to_wake() is slots.grow
    slots.taken = 1
    slots.lend()
    assert slots.spawnable == 1
    slots.reclaim()
    assert slots.spawnable == 0
