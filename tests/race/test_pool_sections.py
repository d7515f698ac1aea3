"""How a pool thread enters the registry's section: without waiting for the lock, and whatever is thrown into it."""

import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import pytest

from engine import BlockingEngine, Engine, TaskState
from engine._lanes.base import Attempt
from engine._lanes.threads import ThreadLane
from tests.race.together import STUCK


class Late(Exception):
    """What another thread throws."""


class Odd:
    """The registry's lock, which refuses pool threads, or has something thrown at them as they have taken it."""

    def __init__(self, true: Any, *, refusals: int = 0, strikes: frozenset[int] = frozenset()) -> None:
        self._true = true
        self.refusals = refusals  #: tries that fail as if somebody was inside
        self.strikes = strikes  #: the numbers of the tries that succeed and raise
        self.tries = 0
        self.waits = 0  #: how often a pool thread called ``acquire`` to wait

    def acquire(self, blocking: bool = True) -> bool:
        if blocking:
            self.waits += 1
            return bool(self._true.acquire())
        if self.refusals:
            self.refusals -= 1
            return False
        taken = bool(self._true.acquire(False))
        if taken:
            self.tries += 1
            if self.tries in self.strikes:
                raise Late
        return taken

    def release(self) -> None:
        self._true.release()

    def __enter__(self) -> bool:
        return bool(self._true.__enter__())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._true.__exit__(kind, error, traceback)


@pytest.fixture
def engine() -> Iterator[BlockingEngine]:
    with Engine(threads=1, default_lane="thread") as engine:
        yield engine


def odd(engine: BlockingEngine, **ways: Any) -> Odd:
    """Give ``engine`` an odd lock while its one thread is busy; what is submitted behind meets it."""
    registry = engine._engine._core.registry
    lock: Any = Odd(registry.lock, **ways)
    registry.lock = lock
    return lock  # type: ignore[no-any-return]  # it is no RLock for mypy


def test_a_pool_thread_asks_again_for_a_lock_that_is_held_and_does_not_wait_for_it(engine: BlockingEngine) -> None:
    """E68: 1. A submitting thread is switched off inside the section. 2. A pool thread waits for the lock: it has given
    the GIL away, so it gets the lock and not the GIL. 3. The submitter meets the lock, and waits. So it goes on: from
    then on each of them runs until it needs the lock, and every task costs several switches of threads.
    """
    lock = odd(engine, refusals=7)
    assert [task.result(STUCK) for task in [engine.submit(abs, -n) for n in range(20)]] == list(range(20))
    assert (lock.refusals, lock.waits) == (0, 0)


def test_a_pool_thread_that_is_refused_for_long_waits_for_the_lock_after_all(engine: BlockingEngine) -> None:
    """E69: who is in the section may be in there for long, and a thread that only asks may never be lucky."""
    lock = odd(engine, refusals=150)
    assert engine.submit(abs, -1).result(STUCK) == 1
    assert engine.submit(abs, -2).result(STUCK) == 2
    assert (lock.refusals, lock.waits) == (0, 1)


@pytest.mark.parametrize("first", range(1, 5))
@pytest.mark.parametrize("count", [1, 2, 3])
def test_what_is_thrown_into_a_pool_thread_as_it_gets_the_lock_does_not_leave_it_held(
    engine: BlockingEngine, first: int, count: int
) -> None:
    """E70: everybody else would wait for it for ever. A task that had not begun runs all the same."""
    lock = odd(engine, strikes=frozenset(range(first, first + count)))
    tasks = [engine.submit(abs, -n) for n in range(4)]
    ended = [task.exception(STUCK) or task.result() for task in tasks]
    assert all(type(value) is Late or value == n for n, value in enumerate(ended))
    assert sum(type(value) is Late for value in ended) <= count
    assert engine.submit(abs, -9).result(STUCK) == 9
    assert lock.tries >= first + count


def test_a_pool_thread_that_ends_of_what_is_thrown_into_it_gives_the_lock_back(
    engine: BlockingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E71: one exception came right behind another, so a new thread goes on in its place."""
    goes_on = ThreadLane._goes_on
    names: list[str] = []

    def struck_twice(lane: ThreadLane, worker: Any) -> bool:
        names.append(threading.current_thread().name)
        if len(names) == 1:
            engine._engine._core.registry.lock.acquire()
            raise Late
        return goes_on(lane, worker)

    monkeypatch.setattr(ThreadLane, "_goes_on", struck_twice)
    assert engine.submit(abs, -1).result(STUCK) == 1
    assert len(names) == 2


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_what_is_thrown_between_the_begin_and_the_function_uses_up_no_attempt(
    engine: BlockingEngine, is_cancelled: bool
) -> None:
    """E72: the task was charged with it, and its function had never been called."""
    scheduler = engine._engine._core.scheduler
    watch = scheduler.deadlines.watch
    seen: list[Attempt] = []
    runs: list[int] = []

    def struck(attempt: Attempt, *rest: Any) -> None:
        seen.append(attempt)
        if len(seen) == 1:
            assert attempt.task._state is TaskState.RUNNING
            if is_cancelled:
                attempt.task.cancel()
            raise Late
        watch(attempt, *rest)

    scheduler.deadlines.watch = struck  # type: ignore[method-assign, assignment]  # the moment behind the section
    task = engine.options(timeout=STUCK).submit(runs.append, 1)
    assert engine.submit(abs, -1).result(STUCK) == 1
    if is_cancelled:
        assert (task.state, runs) == (TaskState.CANCELLED, [])
    else:
        assert (task.exception(STUCK), task.attempt, runs) == (None, 1, [1])
    assert seen[0].over
    assert engine.snapshot().count(TaskState.RUNNING) == 0
