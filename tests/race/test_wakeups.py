"""No wake-up is lost (design/0002): the interleavings are forced by a queue that waits, and by a lock that lies."""

import asyncio
import threading
from functools import partial
from types import TracebackType
from typing import Any

import pytest

from engine import Engine, TaskState
from engine._lanes.threads import ThreadLane
from engine._limits import Slots
from engine._mailbox import Mailbox
from engine._states import Lane
from tests.race.together import STUCK, together
from tests.support import eventually, eventually_async


def give(value: int) -> int:
    return value


def test_a_thread_that_is_parked_and_not_yet_asleep_is_woken() -> None:
    """1. A: claim, finds nothing, is counted as parked. 2. B: submit, puts a token. 3. A: ``tokens.get()``."""
    with Engine(threads=1, default_lane="thread") as engine:
        lane: Any = engine._engine._core.lanes[Lane.THREAD]
        tokens = lane._tokens
        parked, submitted = threading.Event(), threading.Event()

        class Late:
            def get(self) -> object:
                parked.set()
                assert submitted.wait(STUCK)
                return tokens.get()

            def put(self, token: object) -> None:
                tokens.put(token)

        lane._tokens = Late()
        first = engine.submit(give, 1)  # starts the one thread, which then looks again and finds nothing
        assert parked.wait(STUCK)
        second = engine.submit(give, 2)
        submitted.set()
        assert first.result(STUCK) == 1
        assert second.result(STUCK) == 2


class LyingLock:
    """A lock that lets everybody in."""

    def acquire(self, blocking: bool = True) -> bool:
        return True

    def release(self) -> None:
        pass

    def __enter__(self) -> bool:
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass


@pytest.mark.parametrize("honest", [True, False], ids=["a lock", "a lock that lies"])
def test_a_submit_between_the_look_and_the_parking(monkeypatch: pytest.MonkeyPatch, honest: bool) -> None:
    """1. A: claim, finds nothing. 2. B: submit, pushes, sees nobody parked. 3. A is counted as parked, and sleeps.

    The lock keeps 2 from coming between 1 and 3. With a lock that lies the task lies in the queue and nobody is woken.
    """
    with Engine(threads=1, default_lane="thread") as engine:
        core = engine._engine._core
        assert engine.run(give, 0) == 0
        slots = core.registry.slots[Lane.THREAD]
        eventually(lambda: slots.parked == 1, STUCK)
        looked, submitted = threading.Event(), threading.Event()
        park = Slots.park

        def slow_park(self: Slots) -> None:
            if self is slots and not looked.is_set():
                looked.set()
                submitted.wait(0.2)  # an honest lock keeps the submit out as long as we are in here
            park(self)

        monkeypatch.setattr(Slots, "park", slow_park)
        true = core.registry.lock
        if not honest:
            lying: Any = LyingLock()
            core.registry.lock = lying
        with core.registry.lock:
            slots.parked -= 1
        core.lanes[Lane.THREAD].wake()  # the thread looks, and finds nothing
        assert looked.wait(STUCK)
        task = engine.submit(give, 1)
        submitted.set()
        core.registry.lock = true
        if honest:
            assert task.result(STUCK) == 1
        else:
            eventually(lambda: slots.parked == 1, STUCK)  # it is counted as parked, while a task waits
            assert task.state is TaskState.PENDING
            core.lanes[Lane.THREAD].wake()
            assert task.result(STUCK) == 1


@pytest.mark.usefixtures("switching")
def test_every_submit_from_many_threads_is_taken_by_threads_that_fall_asleep_all_the_time() -> None:
    """Each waits for its own task before the next, so the pool is idle again and again."""
    with Engine(threads=3, default_lane="thread") as engine:

        def work() -> None:
            for number in range(150):
                assert engine.submit(give, number).result(STUCK) == number

        together(*[work] * 8)


@pytest.mark.usefixtures("switching")
def test_room_that_opens_goes_to_somebody_who_waits_for_it() -> None:
    """A14: ``run`` from many threads through a bound of one; a lost wake-up would leave one waiting for ever."""
    with Engine(threads=2, max_pending=1, default_lane="thread") as engine:

        def work() -> None:
            for number in range(60):
                assert engine.run(give, number) == number

        together(*[work] * 8)


async def test_room_given_to_one_that_is_cancelled_is_passed_on() -> None:
    """A14: cancelled while it waits for room, with the room already given to it."""
    go = threading.Event()
    async with Engine(threads=1, max_pending=1, default_lane="thread") as engine:
        blocker = engine.submit(go.wait, STUCK)
        await eventually_async(lambda: blocker.state is TaskState.RUNNING, STUCK)
        queued = engine.submit(give, 0)
        first, second = (asyncio.ensure_future(engine.run(give, number)) for number in (1, 2))
        await eventually_async(lambda: len(engine._core.registry.room_waiters) == 2, STUCK)
        queued.cancel()  # the first is given room, and hears of it in the next turn
        first.cancel()
        go.set()
        assert await asyncio.wait_for(second, STUCK) == 2
        assert first.cancelled()


@pytest.mark.usefixtures("switching")
async def test_a_mailbox_calls_each_once_and_in_the_order_of_its_poster() -> None:
    """0002, Mailboxes: a post lands in the list that is drained, or wakes the loop again."""
    mailbox = Mailbox(asyncio.get_running_loop())
    seen: list[tuple[int, int]] = []
    count, posters = 500, 6

    def post(poster: int) -> None:
        for number in range(count):
            assert mailbox.post(seen.append, (poster, number))

    await asyncio.to_thread(together, *[partial(post, poster) for poster in range(posters)])
    await eventually_async(lambda: len(seen) == count * posters, STUCK)
    for poster in range(posters):
        assert [number for who, number in seen if who == poster] == list(range(count))


def test_nested_waits_lend_their_slots_and_wake_takers() -> None:
    """N13: depth 10 with one slot; each level waits for the next, in the only thread there is."""
    with Engine(threads=1, default_lane="thread") as engine:

        def nest(depth: int) -> int:
            return 0 if depth == 0 else 1 + engine.submit(nest, depth - 1).result(STUCK)

        assert engine.submit(nest, 10).result(STUCK) == 10
        assert engine.snapshot().lanes[Lane.THREAD].lent == 0


@pytest.mark.usefixtures("switching")
def test_many_nested_waits_at_once_never_starve() -> None:
    """N13: six trees at once in two slots: 18 wait at once, within the 20 that may."""
    with Engine(threads=2, default_lane="thread") as engine:

        def tree(depth: int) -> int:
            if depth == 0:
                return 1
            return sum(task.result(STUCK) for task in [engine.submit(tree, depth - 1) for _ in range(2)])

        tasks = [engine.submit(tree, 2) for _ in range(6)]
        assert [task.result(STUCK) for task in tasks] == [4] * 6
        slots = engine._engine._core.registry.slots[Lane.THREAD]
        eventually(lambda: slots.taken == slots.lent == 0, STUCK)
        assert isinstance(engine._engine._core.lanes[Lane.THREAD], ThreadLane)
