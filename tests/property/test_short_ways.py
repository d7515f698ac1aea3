"""The written-out ways of pool threads do what the long ones do, whatever happens in between."""

from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from engine import Lane, TaskState
from engine._lanes.base import Attempt, Outcome
from engine._limits import Slots
from engine._records import Call
from engine._registry import Registry
from engine._scheduler import Scheduler
from engine._task import Task


def nothing() -> None:
    pass


class World:
    """An engine without loop and lanes, whose pool threads go the short way or the long one."""

    def __init__(self, *, is_short: bool) -> None:
        self.is_short = is_short
        self.seen: list[Any] = []
        self.slots = Slots(2, takers=2, spawnable=1)
        self.slots.wake = lambda: self.seen.append("wake")
        self.slots.grow = lambda: self.seen.append("grow")
        self.slots.overtake = lambda: self.seen.append("overtake")
        others = {lane: Slots(1) for lane in Lane}
        self.registry = Registry(max_pending=5, history=50, slots={**others, Lane.THREAD: self.slots})
        home: Any = SimpleNamespace(loop=SimpleNamespace(is_closed=lambda: False), post=lambda *_: True, is_here=bool)
        self.scheduler = Scheduler(self.registry, home, ())
        self.scheduler.lanes[Lane.THREAD] = SimpleNamespace(interrupt=lambda _: None)
        self.at = 100.0
        self.scheduler.now = lambda: self.at
        self.scheduler.wall = lambda: 0.0
        self.tasks: list[Task[Any]] = []
        self.running: list[Attempt] = []
        self.taker: Any = SimpleNamespace(name="thread-1", claimed=None)

    def do(self, step: str, number: int) -> None:
        """Take one step, at an instant of its own."""
        self.at += 1
        getattr(self, step)(number)

    def submit(self, number: int) -> None:
        """Accept a task of one of three priorities, unless there are too many."""
        if not self.registry.is_full():
            call = Call(nothing, "f", Lane.THREAD, priority=number % 3)
            task = self.scheduler.admission.submit(call, (number,), {"key": 1} if number % 2 else None)
            task._forgive()
            self.tasks.append(task)

    def take(self, _: int) -> None:
        """Claim and begin."""
        if self.is_short:
            attempt = self.scheduler.take(Lane.THREAD, self.taker)
        else:
            attempt = self.scheduler.claim(Lane.THREAD, self.taker)
            if attempt is not None:
                attempt.worker = self.taker.name
                assert self.scheduler.begin(attempt, self.at)
        if attempt is not None:
            self.running.append(attempt)

    def end(self, number: int) -> None:
        """End one of those that run, by a value."""
        if self.running:
            attempt = self.running.pop(number % len(self.running))
            if self.is_short:
                self.scheduler.return_taken(attempt, number)
            else:
                self.scheduler.end(attempt, Outcome(value=number))

    def cancel(self, number: int) -> None:
        """Cancel a task, whatever became of it."""
        if self.tasks:
            self.tasks[number % len(self.tasks)].cancel()

    def abandon(self, number: int) -> None:
        """Give up on one of those that run."""
        if self.running:
            self.scheduler.abandon(self.running[number % len(self.running)])

    def wait(self, number: int) -> None:
        """Wait for a task that is not over."""
        if self.tasks and not (task := self.tasks[number % len(self.tasks)]).done():
            waiters = task._waiters or []
            task._waiters = [*waiters, (lambda done: self.seen.append(done.id), None, None, None)]

    def lend(self, number: int) -> None:
        """Have one of those that run wait for another task, for good."""
        if self.running and not (attempt := self.running[number % len(self.running)]).abandoned:
            with self.registry.lock:
                self.registry.waits_locked(attempt)

    def rare(self, number: int) -> None:
        """Have one of those that run report how far it is."""
        if self.running:
            self.scheduler.progress(self.running[number % len(self.running)], 1, 2, "half")

    def expire(self, number: int) -> None:
        """Let the timeout of one of those that run be over."""
        if self.running:
            self.running[number % len(self.running)].expired = True

    def room(self, _: int) -> None:
        """Wait for room, as those do who were refused."""
        self.registry.room_waiters[lambda: self.seen.append("room")] = None
        self.scheduler.open_room()

    def floor(self, number: int) -> None:
        """Have a more urgent submit overtake what was claimed."""
        self.slots.floor = number % 3

    def quiet(self, _: int) -> None:
        """Wait for quiet."""
        self.registry.quiet_waiters[:] = [lambda: self.seen.append("quiet")]

    def picture(self) -> Any:
        """Give all that there is."""
        registry, slots = self.registry, self.slots
        return (
            [[_plain(getattr(task, name)) for name in Task.__slots__ if name not in _THEIR_OWN] for task in self.tasks],
            [[_plain(getattr(each, name)) for name in Attempt.__slots__] for each in self.running],
            [getattr(slots, name) for name in Slots.__slots__ if name not in ("wake", "grow", "overtake")],
            registry.counts, registry.waiting, sorted(registry.live), list(registry.history),
            sorted(each.task_id for each in registry.attempts), [task.id for task in registry.ready[Lane.THREAD]],
            self.scheduler.counters, len(registry.room_waiters), self.seen,
        )  # fmt: skip


_THEIR_OWN = frozenset({"__weakref__", "_scheduler"})
STEPS = ["submit", "take", "end", "cancel", "abandon", "wait", "lend", "rare", "expire", "room", "floor", "quiet"]


def _plain(value: Any) -> Any:
    """Give what can be compared between two worlds."""
    if isinstance(value, (int, float, str, tuple, type(None), TaskState, dict)):
        return value
    return value.number if isinstance(value, Attempt) else len(value) if isinstance(value, list) else type(value)


@settings(max_examples=400)
@given(
    st.lists(
        st.tuples(st.sampled_from(STEPS + ["submit", "take", "end"] * 3), st.integers(0, 5)), min_size=10, max_size=60
    )
)
def test_the_short_ways_of_pool_threads_leave_all_as_the_long_ones_do(steps: list[tuple[str, int]]) -> None:
    short, long = World(is_short=True), World(is_short=False)
    for step, number in steps:
        short.do(step, number)
        long.do(step, number)
        assert short.picture() == long.picture()
