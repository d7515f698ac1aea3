"""Timers: armed for what lives, forgotten with it, re-armed for the rest; nothing is held by one that nobody needs."""

import asyncio
import gc
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from engine import Engine, Retry
from engine._deadlines import Deadlines
from engine._lanes.base import Attempt, new_attempt
from engine._records import Call
from engine._states import Lane
from engine.errors import TaskTimeout
from tests.support import eventually_async


class Handle:
    def __init__(self) -> None:
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Home:
    """A home loop that notes what is armed, and calls ``meanwhile`` while it does: what another thread does then."""

    def __init__(self) -> None:
        self.loop = self
        self.armed: list[tuple[float, Handle]] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def is_here(self) -> bool:
        return True

    def call_later(self, seconds: float, fn: Callable[..., None], *args: Any) -> Handle:
        self.meanwhile()
        self.armed.append((seconds, Handle()))
        return self.armed[-1][1]


class FakeTask:
    def __init__(self) -> None:
        self.is_done = False
        self._timer: Any = None

    def done(self) -> bool:
        return self.is_done


def nothing(_: object) -> None:
    pass


def timers() -> tuple[Home, Deadlines]:
    home: Any = Home()
    return home, Deadlines(home, nothing, nothing, nothing)


def an_attempt(timeout: float = 5.0) -> Attempt:
    return new_attempt(Call(nothing, "call", Lane.THREAD, timeout), 1, 1, (), {})


def test_a_timer_is_armed_for_the_timeout_or_for_what_is_left_of_it() -> None:
    home, deadlines = timers()
    attempt = an_attempt()
    deadlines.watch(attempt)
    deadlines.watch(attempt, 1.5)
    assert [seconds for seconds, _ in home.armed] == [5.0, 1.5]


@pytest.mark.parametrize("why", ["over", "interrupted"])
def test_none_is_armed_for_what_is_over_or_was_asked_to_stop(why: str) -> None:
    """A timer posted by the claiming thread arrives late: it must not take the place of the one that gives up."""
    home, deadlines = timers()
    attempt = an_attempt()
    setattr(attempt, why, True)
    deadlines.watch(attempt)
    assert (home.armed, attempt.timer) == ([], None)


def test_an_attempt_that_ends_while_its_timer_is_armed_does_not_keep_it() -> None:
    """1. Home: it is not over. 2. Its thread: it is over, and has no timer to forget. 3. Home: here is its timer.

    It would have held the attempt and its task until the timeout.
    """
    home, deadlines = timers()
    attempt = an_attempt()
    home.meanwhile = lambda: setattr(attempt, "over", True)
    deadlines.watch(attempt)
    assert [handle.is_cancelled for _, handle in home.armed] == [True]
    assert attempt.timer is None


def test_a_task_that_settles_while_its_timer_is_armed_does_not_keep_it() -> None:
    """The same for ``total_timeout``."""
    home, deadlines = timers()
    task: Any = FakeTask()
    home.meanwhile = lambda: setattr(task, "is_done", True)
    deadlines.watch_task(task, 5.0)
    assert [handle.is_cancelled for _, handle in home.armed] == [True]
    assert task._timer is None


async def test_a_timeout_counts_from_a_start_that_came_long_after_the_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    """While nobody knows of a start the timer is armed anew, each time for the whole; then for exactly the rest."""
    timeout = 0.2
    async with Engine(processes=1) as engine:
        await engine.warm_up()
        lane: Any = engine._core.processes
        started = lane.started
        asked: list[float] = []

        def late(attempt: Attempt) -> float | None:
            """Know of the start only when the timer has asked three times."""
            asked.append(time.monotonic())
            if len(asked) <= 3:
                return None
            found: float | None = started(attempt)
            return found

        monkeypatch.setattr(lane, "started", late)
        with pytest.raises(TaskTimeout):
            await asyncio.wait_for(engine.options(timeout=timeout).run(time.sleep, 60), 30)
        assert len(asked) >= 4
        assert engine.snapshot().timeouts == 1


async def test_a_timer_that_comes_early_waits_for_the_rest() -> None:
    """A loop may call a timer a clock tick early; the attempt has its whole time all the same."""
    async with Engine(processes=1, threads=1) as engine:
        release = asyncio.Event()
        task = engine.options(timeout=30).submit(release.wait)
        await eventually_async(lambda: task.started_at)
        attempt = task._attempt
        assert attempt is not None
        engine._core.scheduler.endings.expire(attempt)
        assert attempt.timer is not None
        left = attempt.timer.when() - asyncio.get_running_loop().time()
        assert 0 < left <= 30
        release.set()
        assert await task


async def test_a_task_cancelled_between_its_attempts_is_not_held_by_the_pause() -> None:
    """The pause may be an hour, and there may be many."""
    async with Engine(processes=1, threads=1, default_lane="thread") as engine:
        task = engine.options(retry=Retry(max_attempts=2, base_delay=3600.0, max_delay=3600.0)).submit(int, "one")
        await eventually_async(lambda: engine.snapshot().retries == 1)
        kept = weakref.ref(task)
        assert task.cancel()
        del task

        def is_gone() -> bool:
            gc.collect()
            return kept() is None

        await eventually_async(is_gone)
