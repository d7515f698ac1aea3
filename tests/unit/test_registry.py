"""Admission, moves, slots and history under one lock."""

import itertools
from types import SimpleNamespace
from typing import Any

import pytest

from engine import EngineFull, Lane, TaskState
from engine._lanes.base import Attempt, new_attempt
from engine._limits import Slots
from engine._records import Call
from engine._registry import Registry
from engine._task import Task

_instants = itertools.count(100)


def nothing() -> None:
    pass


def registry(max_pending: int | None = None, history: int = 10, limit: int = 1) -> Registry:
    """Make a registry whose lanes are all as small as ``limit``."""
    return Registry(max_pending=max_pending, history=history, slots={lane: Slots(limit) for lane in Lane})


def task_of(name: str = "f", priority: int = 0) -> Task[Any]:
    """Make a task that no scheduler knows."""
    call = Call(nothing, name, Lane.THREAD, priority=priority)
    anybody: Any = SimpleNamespace(report_unretrieved=lambda *_: None)
    return Task(anybody, 0, call, ("argument",), None, float(next(_instants)), 1_700_000_000.0)


def claim(shared: Registry) -> Task[Any] | None:
    """Do what the scheduler does in a claim."""
    task = shared.next_locked(Lane.THREAD)
    if task is not None:
        attempt = new_attempt(task._call, task.id, task._attempts + 1, (), {}, task=task)
        shared.claim_locked(attempt)
    return task


def attempt_of(task: Task[Any]) -> Attempt:
    """Give what the claim has made."""
    assert task._attempt is not None
    return task._attempt


def test_ids_ascend_in_the_order_of_admission() -> None:
    shared = registry()
    tasks = [task_of() for _ in range(3)]
    with shared.lock:
        for task in tasks:
            shared.admit_locked(task)
    assert [task.id for task in tasks] == [1, 2, 3]
    assert list(shared.live) == [1, 2, 3]
    assert shared.counts[Lane.THREAD][TaskState.PENDING] == 3


def test_a_task_past_the_bound_is_refused_and_leaves_no_trace() -> None:
    shared = registry(max_pending=2)
    with shared.lock:
        shared.admit_locked(task_of())
        shared.admit_locked(task_of())
        with pytest.raises(EngineFull, match=r"expected fewer than max_pending=2 waiting tasks, got 2") as caught:
            shared.admit_locked(task_of())
    assert caught.value.max_pending == 2
    assert shared.last_id == len(shared.live) == shared.counts[Lane.THREAD][TaskState.PENDING] == 2
    assert shared.is_full()


def test_a_claim_makes_room_again() -> None:
    shared = registry(max_pending=1)
    with shared.lock:
        shared.admit_locked(task_of())
        assert claim(shared) is not None
        assert shared.waiting == 0
        shared.admit_locked(task_of())


def test_a_task_that_a_worker_gives_back_counts_as_waiting_again() -> None:
    """Else each one would widen the bound by one for the rest of the engine's life."""
    shared = registry(max_pending=1, limit=5)
    task = task_of()
    with shared.lock:
        shared.admit_locked(task)
        for _ in range(3):
            assert claim(shared) is task
            assert shared.waiting == 0
            shared.release_locked(attempt_of(task))
            shared.requeue_locked(task, first=True)
            assert shared.waiting == 1
        shared.settle_locked(task, TaskState.CANCELLED, 1e6)
        assert shared.waiting == 0


def test_a_retry_passes_the_bound() -> None:
    shared = registry(max_pending=1)
    first, second = task_of(), task_of()
    with shared.lock:
        shared.admit_locked(first)
        assert claim(shared) is first
        attempt = attempt_of(first)
        shared.start_locked(first, attempt, 1e6)
        shared.admit_locked(second)
        shared.release_locked(attempt)
        shared.move_locked(first, TaskState.PENDING)
        shared.requeue_locked(first)
        assert shared.waiting == 1
        assert claim(shared) is second


def test_a_lane_without_room_gets_nothing_and_is_parked() -> None:
    shared = registry(limit=1)
    slots = shared.slots[Lane.THREAD]
    slots.parked = 0
    with shared.lock:
        shared.admit_locked(task_of())
        shared.admit_locked(task_of())
        assert claim(shared) is not None
        assert claim(shared) is None
    assert slots.parked == 1
    assert slots.taken == 1


def test_a_terminal_state_is_final() -> None:
    shared = registry()
    task = task_of()
    with shared.lock:
        shared.admit_locked(task)
        shared.settle_locked(task, TaskState.CANCELLED, 1e6)
        for state in TaskState:
            with pytest.raises(AssertionError, match="expected a legal move"):
                shared.move_locked(task, state)
    assert task.cancelled()


def test_settling_drops_the_arguments_and_keeps_a_record() -> None:
    shared = registry()
    task = task_of("named")
    with shared.lock:
        shared.admit_locked(task)
        shared.settle_locked(task, TaskState.FAILED, 1e6, error=ValueError("no"), error_text="ValueError: no")
    assert task._args == ()
    assert not shared.live
    assert len(shared.ready[Lane.THREAD]) == 0
    (info,) = shared.infos()
    assert (info.id, info.name, info.state, info.error) == (1, "named", TaskState.FAILED, "ValueError: no")
    assert info.started_at is None
    assert info.completed_at is not None
    assert info.created_at < info.completed_at


@pytest.mark.parametrize("history", [0, 1, 3])
def test_history_is_bounded(history: int) -> None:
    shared = registry(history=history)
    with shared.lock:
        for _ in range(5):
            task = task_of()
            shared.admit_locked(task)
            shared.settle_locked(task, TaskState.CANCELLED, 1e6)
    assert [info.id for info in shared.infos()] == [1, 2, 3, 4, 5][5 - history :]


def test_instants_that_tie_are_told_apart() -> None:
    shared = registry()
    task = task_of()
    with shared.lock:
        shared.admit_locked(task)
        assert claim(shared) is task
        attempt = attempt_of(task)
        shared.start_locked(task, attempt, task._created)
        shared.release_locked(attempt)
        shared.settle_locked(task, TaskState.COMPLETED, task._created)
    assert task.started_at is not None
    assert task.completed_at is not None
    assert task.created_at < task.started_at < task.completed_at
    (info,) = shared.infos()
    assert info.started_at is not None
    assert info.completed_at is not None
    assert info.created_at < info.started_at < info.completed_at


def test_an_attempt_that_waits_for_two_tasks_lends_its_slot_once() -> None:
    shared = registry()
    task = task_of()
    with shared.lock:
        shared.admit_locked(task)
        claim(shared)
        attempt = attempt_of(task)
        slots = shared.slots[Lane.THREAD]
        shared.waits_locked(attempt)
        shared.waits_locked(attempt)
        assert slots.lent == 1
        shared.waited_locked(attempt)
        assert slots.lent == 1
        shared.waited_locked(attempt)
        shared.waited_locked(attempt)
        assert slots.lent == 0


def test_an_attempt_that_ends_while_it_waits_gives_its_lent_slot_up() -> None:
    shared = registry()
    task = task_of()
    with shared.lock:
        shared.admit_locked(task)
        claim(shared)
        attempt = attempt_of(task)
        shared.waits_locked(attempt)
        shared.release_locked(attempt)
        shared.waited_locked(attempt)
        slots = shared.slots[Lane.THREAD]
        assert (slots.taken, slots.lent) == (0, 0)


def test_the_registry_is_quiet_when_nothing_is_live_and_no_attempt_runs() -> None:
    shared = registry()
    task = task_of()
    with shared.lock:
        assert shared.is_quiet_locked()
        shared.admit_locked(task)
        assert not shared.is_quiet_locked()
        shared.exempt.add(task.id)
        assert shared.is_quiet_locked()
        claim(shared)
        assert shared.is_quiet_locked()
        shared.exempt.clear()
        assert not shared.is_quiet_locked()


def test_a_waiter_for_room_is_called_only_where_there_is_room() -> None:
    shared = registry(max_pending=1)
    shared.room_waiters[nothing] = None
    with shared.lock:
        shared.admit_locked(task_of())
        assert shared.room_opened_locked() is None
        claim(shared)
        assert shared.room_opened_locked() is nothing
        assert shared.room_opened_locked() is None


def test_who_is_being_told_of_room_is_told_once_more_at_most() -> None:
    """What was thrown in struck between the two lines that move it: a room opened for it would be nobody's."""
    shared = registry(max_pending=1)
    shared.room_waiters[nothing] = shared.opening[nothing] = None
    with shared.lock:
        shared.mend_taker_locked(Lane.THREAD, None)
        assert shared.room_opened_locked() is None
        assert list(shared.opening) == [nothing]
