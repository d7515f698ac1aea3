"""Interrupts reach the task they were meant for, and no other."""

import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from engine._worker.current import WorkerTask
from engine._worker.interrupts import Interrupts
from engine.errors import TaskCancelled


@pytest.fixture
def interrupts() -> Iterator[Interrupts]:
    before = signal.getsignal(signal.SIGURG)
    yield Interrupts()
    signal.signal(signal.SIGURG, before)


def make_task(number: int) -> WorkerTask:
    return WorkerTask(number, "task", 1, None, lambda task_id, fields: None)


def run(interrupts: Interrupts, number: int, fn: Callable[[], object]) -> object:
    if not interrupts.enter(number, make_task(number)):
        return "skipped"
    try:
        return interrupts.call(number, lambda f: f(), fn, (), {})
    except TaskCancelled:
        return "cancelled"
    finally:
        interrupts.leave(number)


def test_a_cancel_before_the_task_is_taken_skips_it_and_only_it(interrupts: Interrupts) -> None:
    interrupts.cancel(2, 1.0)
    assert run(interrupts, 1, lambda: "ran") == "ran"
    assert run(interrupts, 2, lambda: "ran") == "skipped"
    assert run(interrupts, 3, lambda: "ran") == "ran"
    assert not interrupts.has_raised


def test_a_cancel_between_taking_and_calling_is_raised_in_the_call(interrupts: Interrupts) -> None:
    assert interrupts.enter(1, make_task(1))
    interrupts.cancel(1, 1.0)  # the handler runs here, and finds nobody inside user code
    with pytest.raises(TaskCancelled):
        interrupts.call(1, lambda f: f(), lambda: "ran", (), {})
    interrupts.leave(1)


def test_a_cancel_after_the_end_reaches_nobody(interrupts: Interrupts) -> None:
    assert run(interrupts, 1, lambda: "ran") == "ran"
    interrupts.cancel(1, 1.0)
    assert run(interrupts, 2, lambda: "ran") == "ran"
    assert not interrupts.has_raised


def test_a_cooperative_task_is_asked_first_and_interrupted_when_it_does_not_end(interrupts: Interrupts) -> None:
    task = make_task(1)
    assert not task.cancel_requested
    assert interrupts.enter(1, task)
    interrupts.cancel(1, 0.02)
    assert task.cancel_requested
    assert not interrupts.has_raised
    wait = interrupts.press()
    assert wait is not None
    assert 0 < wait <= 0.01
    presser = threading.Thread(target=lambda: (time.sleep(wait + 0.005), interrupts.press()))
    presser.start()
    with pytest.raises(TaskCancelled):
        interrupts.call(1, lambda f: f(), lambda: time.sleep(10), (), {})
    presser.join()
    interrupts.leave(1)
    assert interrupts.press() is None


def test_a_storm_of_cancels_never_hits_a_task_it_was_not_meant_for(interrupts: Interrupts) -> None:
    is_over = threading.Event()
    meant: set[int] = set()
    now = [0]

    def storm() -> None:
        while not is_over.is_set():
            number = now[0] + 1
            meant.add(number)
            interrupts.cancel(number, 0)
            interrupts.cancel(number - 1, 0) if number - 1 in meant else None

    thread = threading.Thread(target=storm)
    thread.start()
    wrong = []
    for number in range(1, 4001):
        now[0] = number
        if run(interrupts, number, lambda: sum(range(200))) in ("cancelled", "skipped") and number not in meant:
            wrong.append(number)
    is_over.set()
    thread.join()
    assert wrong == []
