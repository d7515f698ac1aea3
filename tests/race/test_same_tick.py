"""Several things in one turn of the loop, on a clock that lies: time jumps to the next timer (SCENARIOS A3)."""

import asyncio
import random
import sys
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from engine import Engine, Retry, Task, TaskState
from engine.errors import TaskTimeout

ROUNDS = 1000  #: a full campaign is 100,000


class FakeClockLoop(asyncio.SelectorEventLoop):
    """An event loop that never waits: when nothing is ready, it is at once the time of the next timer."""

    fake = 1000.0

    def time(self) -> float:
        return self.fake

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]  # asyncio's own, the same in 3.11 to 3.14
            self.fake = max(self.fake, self._scheduled[0]._when)  # type: ignore[attr-defined]  # as above
        super()._run_once()  # type: ignore[misc]  # as above


@pytest.fixture
def on_fake_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Coroutine[Any, Any, None]]], None]:
    """Give a function that runs a coroutine function on a fake clock, which the engine reads too."""

    def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        loop = FakeClockLoop()
        for module in ("_scheduler", "_lanes.loop"):
            monkeypatch.setattr(f"engine.{module}.now", loop.time)
        try:
            loop.run_until_complete(main())
        finally:
            loop.close()

    return run


async def last(seconds: float, outcome: str) -> str:
    """Take ``seconds``, then end as ``outcome`` says."""
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        if outcome == "swallow":
            return "swallowed"
        raise
    if outcome == "fail":
        raise ValueError(outcome)
    return outcome


def test_wait_for_cancel_timeout_and_completion_in_one_tick(
    rng: random.Random, on_fake_clock: Callable[[Callable[[], Coroutine[Any, Any, None]]], None]
) -> None:
    """A3, A4: whatever falls into one tick, a cancellation is never swallowed and a task ends once."""
    seen: Counter[str] = Counter()

    async def one(engine: Engine) -> None:
        def tick() -> int:
            return rng.choice([0, 1, 1, 2])

        outcome = rng.choice(["value", "value", "fail", "swallow"])
        timeout = rng.choice([None, None, 1, 2])
        retry = rng.choice([None, None, Retry(max_attempts=2, base_delay=1, jitter=0)])
        view = engine.options(timeout=timeout, total_timeout=rng.choice([None, None, 1, 2, 3]), retry=retry)
        task: Task[str] = view.submit(last, tick(), outcome)
        rounds: list[TaskState] = []
        answers: list[bool] = []
        task.add_done_callback(lambda done: rounds.append(done.state))
        loop = asyncio.get_running_loop()
        limit = tick() if rng.random() < 0.5 else None

        async def wait() -> str:
            return await asyncio.wait_for(task, limit)

        waiter = loop.create_task(wait())
        asked: list[bool] = []
        if rng.random() < 0.4:
            loop.call_later(tick(), lambda: asked.append(waiter.cancel()))
        if rng.random() < 0.4:
            loop.call_later(tick(), lambda: answers.append(task.cancel()))
        both: list[Any] = [waiter, task]
        await asyncio.wait(both)
        while not rounds or (asked == [] and len(answers) == 0 and not waiter.done()):
            await asyncio.sleep(1)
        await asyncio.sleep(4)  # every timer has fired by now
        assert rounds == [task.state]
        if True in answers:
            assert task.state is not TaskState.COMPLETED
        if True in asked and not waiter.cancelled():
            # As with asyncio's own futures: an error raised while being cancelled, or a timeout that came first, shows.
            # ``wait_for`` of 3.11 also gives the value of what was done as the cancel came.
            was_done = sys.version_info < (3, 12) and limit is not None and task.state is TaskState.COMPLETED
            assert isinstance(waiter.exception(), (TimeoutError, ValueError)) or was_done, waiter
        if task.state is TaskState.COMPLETED:
            assert task.result() in ("value", "swallow")
        if task.state is TaskState.FAILED:
            assert isinstance(task.exception(), (TaskTimeout, ValueError))
        if not waiter.cancelled():
            waiter.exception()
        seen[task.state.value] += 1
        seen[f"waiter {'cancelled' if waiter.cancelled() else type(waiter.exception()).__name__}"] += 1

    async def main() -> None:
        async with Engine(threads=1, processes=1, coroutines=100_000) as engine:
            for _ in range(ROUNDS // 100):
                await asyncio.gather(*[one(engine) for _ in range(100)])
            snapshot = engine.snapshot()
            assert sum(snapshot.count(state) for state in TaskState) == ROUNDS // 100 * 100
            assert snapshot.count(TaskState.PENDING) == snapshot.count(TaskState.RUNNING) == 0
            assert not engine._core.registry.attempts

    on_fake_clock(main)
    for state in ("completed", "failed", "cancelled", "waiter cancelled", "waiter TimeoutError", "waiter NoneType"):
        assert seen[state] > 10, seen


def test_a_clock_that_jumps_strikes_nobody_early(
    on_fake_clock: Callable[[Callable[[], Coroutine[Any, Any, None]]], None],
) -> None:
    """A timer that fires before its attempt's time is over, by the clock that counts, arms itself again."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        async with Engine(threads=1, processes=1) as engine:
            task = engine.options(timeout=10).submit(last, 8, "value")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert task._attempt is not None
            task._attempt.timer.cancel()
            engine._core.scheduler.endings.expire(task._attempt)  # as a clock would that fires ten seconds early
            assert not task.done()
            started = loop.time()
            assert await task == "value"
            assert loop.time() - started == pytest.approx(8)
            slow = engine.options(timeout=10).submit(last, 20, "value")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert slow._attempt is not None
            slow._attempt.timer.cancel()
            engine._core.scheduler.endings.expire(slow._attempt)
            with pytest.raises(TaskTimeout):
                await slow
            assert loop.time() - started == pytest.approx(18)

    on_fake_clock(main)
