"""How a pool thread enters the registry's section: without waiting for the lock, and whatever is thrown into it."""

import asyncio
import contextvars
import threading
import weakref
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import pytest

from engine import BlockingEngine, Engine, Lane, Task, TaskState
from engine._lanes.base import Attempt
from engine._lanes.threads import ThreadLane
from tests.race.together import STUCK
from tests.support import eventually


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


def busy_thread(engine: BlockingEngine) -> threading.Event:
    """Keep a pool thread of ``engine`` until the event is set that this returns."""
    begun, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        go_on.wait(STUCK)

    engine.submit(hold)
    assert begun.wait(STUCK)
    return go_on


def test_a_pool_thread_ends_a_task_and_begins_the_next_in_one_section(engine: BlockingEngine) -> None:
    """The half of what a flood's threads have to meet in."""
    go_on = busy_thread(engine)
    lock = odd(engine)
    tasks = contextvars.Context().run(lambda: [engine.submit(abs, -n) for n in range(20)])
    go_on.set()
    eventually(tasks[-1].done, STUCK)  # nobody waits, who would have to be told
    assert lock.tries <= 23  # the end of what held it, one for each task, a look in vain or two


class Lingering:
    """Something of a user's whose end takes until ``over`` is set."""

    def __init__(self, ending: threading.Event, over: threading.Event) -> None:
        self._ending = ending
        self._over = over
        self.waited: list[bool] = []

    def __call__(self) -> None:
        """Do nothing."""

    def __del__(self) -> None:
        self._ending.set()
        self.waited.append(self._over.wait(STUCK))


shelf: list[Any] = []
variable: contextvars.ContextVar[Lingering] = contextvars.ContextVar("variable")


def act(what: Any) -> Any:
    """Do ``what``: call it, take a thing from the shelf, or nothing."""
    if what == "take":
        return shelf.pop()
    return what if what is None else what()


def as_argument(engine: BlockingEngine, lingering: Lingering) -> None:
    engine.submit(act, lingering)


def as_keyword(engine: BlockingEngine, lingering: Lingering) -> None:
    engine.submit(act, what=lingering)


def as_function(engine: BlockingEngine, lingering: Lingering) -> None:
    engine.submit(lingering)


def as_closure(engine: BlockingEngine, lingering: Lingering) -> None:
    engine.submit(lambda: lingering())


def as_method(engine: BlockingEngine, lingering: Lingering) -> None:
    engine.submit(lingering.__call__)


def as_result(engine: BlockingEngine, lingering: Lingering) -> None:
    shelf.append(lingering)
    engine.submit(act, "take")


def as_part_of_result(engine: BlockingEngine, lingering: Lingering) -> None:
    shelf.append([lingering])
    engine.submit(act, "take")


def in_context(engine: BlockingEngine, lingering: Lingering) -> None:
    variable.set(lingering)
    engine.submit(act, None)


def behind_its_handle(engine: BlockingEngine, lingering: Lingering) -> None:
    weakref.finalize(engine.submit(act, None), lingering.__class__.__del__, lingering)


def as_payload_of_its_future(engine: BlockingEngine, lingering: Lingering) -> None:
    future = engine.executor("thread").submit(act, None)
    future.payload = lingering  # type: ignore[attr-defined]  # what users hang on a future


def in_callback_on_a_loop_that_is_closed(engine: BlockingEngine, lingering: Lingering) -> None:
    async def add() -> None:
        contextvars.Context().run(engine.submit, act, None).add_done_callback(lambda _: lingering())

    asyncio.run(add())


def as_result_of_the_task_that_submitted_it(engine: BlockingEngine, lingering: Lingering) -> None:
    shelf.append(lingering)
    engine.submit(outer, engine)


def outer(engine: BlockingEngine) -> Any:
    engine.submit(act, None)
    return shelf.pop()


@pytest.mark.parametrize(
    "submit",
    [
        as_argument, as_keyword, as_function, as_closure, as_method, as_result, as_part_of_result, in_context,
        behind_its_handle, as_payload_of_its_future, in_callback_on_a_loop_that_is_closed,
        as_result_of_the_task_that_submitted_it,
    ],
)  # fmt: skip
def test_no_task_that_has_begun_waits_for_the_end_of_what_another_one_held(
    submit: Callable[[BlockingEngine, Lingering], None],
) -> None:
    """E218: 1. A thread ends a task, and claims and begins the next in the same section. 2. What the first one held
    goes, and its ``__del__`` waits for the next. 3. That would wait for ever, while another thread is free to run it.
    """
    ending, over = threading.Event(), threading.Event()
    lingering = Lingering(ending, over)
    waited = lingering.waited
    with Engine(threads=2, default_lane="thread") as engine:
        first, second = busy_thread(engine), busy_thread(engine)
        contextvars.Context().run(submit, engine, lingering)
        del lingering
        task = engine.submit(act, over.set)
        first.set()  # this thread runs what was submitted; what that held goes with it
        assert ending.wait(STUCK)
        second.set()
        task.result(STUCK)
        eventually(lambda: waited[:1] == [True], STUCK)


def test_a_claim_that_breaks_off_in_the_section_of_an_end_costs_neither_task_anything(
    engine: BlockingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E219: 1. A task ends. 2. Something is thrown in in the claim of the next one, in the same section."""
    registry = engine._engine._core.registry
    claim_locked, complete_locked = registry.claim_locked, registry.complete_locked
    steps: list[tuple[str, int]] = []

    def struck(attempt: Attempt) -> None:
        claim_locked(attempt)
        steps.append(("claim", attempt.task_id))
        if len(steps) == 4:
            raise Late

    def noted(task: Task[Any], *rest: Any) -> Any:
        steps.append(("end", task.id))
        return complete_locked(task, *rest)

    go_on = contextvars.Context().run(busy_thread, engine)
    first, second = contextvars.Context().run(lambda: [engine.submit(abs, -n) for n in (1, 2)])
    held = first.id - 1
    monkeypatch.setattr(registry, "claim_locked", struck)
    monkeypatch.setattr(registry, "complete_locked", noted)
    go_on.set()
    eventually(second.done, STUCK)
    assert (first.result(STUCK), second.result(STUCK)) == (1, 2)
    assert steps == [
        ("end", held), ("claim", first.id), ("end", first.id), ("claim", second.id), ("claim", second.id),
        ("end", second.id),
    ]  # fmt: skip
    assert second.attempt == 1
    assert registry.slots[Lane.THREAD].taken == 0


class Ending:
    """An argument that does something when it goes."""

    def __init__(self, at_end: Callable[[], object]) -> None:
        self.at_end = at_end

    def __del__(self) -> None:
        self.at_end()


def returning(value: Any, held: Ending) -> Any:
    return value


@pytest.mark.parametrize("value", [True, [1]])
def test_the_end_of_an_argument_finds_its_task_ended(engine: BlockingEngine, value: Any) -> None:
    """E220: a ``__del__`` that cancels its own task, or asks for its result."""
    found: list[object] = []
    tasks: list[Task[Any]] = []

    def look() -> None:
        found.append(tasks[0].cancel())
        found.append(tasks[0].result(STUCK))

    go_on = busy_thread(engine)
    tasks.append(contextvars.Context().run(engine.submit, returning, value, Ending(look)))
    engine.submit(abs, -1)
    go_on.set()
    assert tasks[0].result(STUCK) == value
    eventually(lambda: found == [False, value], STUCK)


class Unhashable(type):
    """A class of classes with a comparison, and so without a hash."""

    def __eq__(cls, other: object) -> bool:
        raise RuntimeError("expected nobody to compare classes")


class Odder(metaclass=Unhashable):
    """Its class has no hash."""


def test_a_result_whose_class_has_no_hash_is_a_result(engine: BlockingEngine) -> None:
    """E221: its type was looked up in a set."""
    go_on = busy_thread(engine)
    task = contextvars.Context().run(engine.submit, Odder)
    engine.submit(abs, -1)
    go_on.set()
    assert type(task.result(STUCK)) is Odder
