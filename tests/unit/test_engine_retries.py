"""Attempts: what is tried again, when, and what ends it."""

import asyncio
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from engine import (
    RemoteError,
    Retry,
    Task,
    TaskState,
    TaskTimeout,
    checkpoint,
    current_task,
)
from tests.support import eventually_async
from tests.unit.gates import LANES, Counted, Flaky, Gate, on, small


@pytest.mark.parametrize("lane", LANES)
async def test_a_failure_is_tried_again_as_often_as_the_policy_says(lane: str) -> None:
    async with small() as engine:
        flaky = Flaky(2)
        task = engine.options(retry=Retry(max_attempts=3, base_delay=0)).submit(on(lane, flaky))
        assert await task == 3
        assert (task.attempt, flaky.attempts) == (3, [1, 2, 3])
        hopeless = Flaky(9)
        with pytest.raises(OSError, match="flaky"):
            await engine.options(retry=Retry(max_attempts=3, base_delay=0)).run(on(lane, hopeless))
        assert hopeless.attempts == [1, 2, 3]
        snapshot = engine.snapshot()
        assert snapshot.retries == 4
        assert (snapshot.count(TaskState.COMPLETED), snapshot.count(TaskState.FAILED)) == (1, 1)


@pytest.mark.parametrize("lane", LANES)
async def test_an_error_that_the_policy_does_not_name_is_not_tried_again(lane: str) -> None:
    async with small() as engine:
        flaky = Flaky(1, KeyError)
        with pytest.raises(KeyError):
            await engine.options(retry=Retry(base_delay=0, on=(OSError,))).run(on(lane, flaky))
        assert flaky.attempts == [1]


async def test_the_pause_between_attempts_takes_its_jitter_from_the_injected_random_numbers() -> None:
    """Row A15."""
    async with small() as engine:
        asked: list[float] = []

        def rng() -> float:
            asked.append(0.5)
            return 0.5

        engine._core.scheduler.rng = rng
        pauses: list[float] = []
        deadlines: Any = engine._core.scheduler.deadlines
        original = deadlines.retry_after

        def retry_after(task: Task[Any], seconds: float) -> None:
            pauses.append(seconds)
            original(task, 0)

        deadlines.retry_after = retry_after
        policy = Retry(max_attempts=4, base_delay=8, factor=2, max_delay=20, jitter=0.5)
        assert await engine.options(retry=policy).run(Flaky(3)) == 4
        assert pauses == [8, 16, 20]
        assert asked == [0.5] * 3


@pytest.mark.parametrize("lane", LANES)
async def test_a_task_that_is_cancelled_in_its_backoff_does_not_run_again(lane: str) -> None:
    """Row A5: in backoff."""
    async with small() as engine:
        flaky = Flaky(9)
        task = engine.options(retry=Retry(base_delay=30)).submit(on(lane, flaky))
        await eventually_async(lambda: engine.snapshot().retries == 1)
        assert task.state is TaskState.PENDING
        assert task.cancel()
        assert task.cancelled()
        assert task.started_at is not None
    assert flaky.attempts == [1]


@pytest.mark.parametrize("lane", LANES)
async def test_a_total_timeout_strikes_in_the_backoff(lane: str) -> None:
    async with small() as engine:
        flaky = Flaky(9)
        with pytest.raises(TaskTimeout) as caught:
            await engine.options(retry=Retry(base_delay=30), total_timeout=0.05).run(on(lane, flaky))
        assert (caught.value.scope, caught.value.attempt) == ("total", 1)
    assert flaky.attempts == [1]


@pytest.mark.parametrize("lane", LANES)
async def test_a_retry_that_meets_the_stop_is_accounted_for(lane: str) -> None:
    """Row A15: retry racing shutdown; a drain waits for it, a stop with a timeout cancels it."""
    engine = await small().start()
    task = engine.options(retry=Retry(base_delay=0.01)).submit(on(lane, Flaky(2)))
    report = await engine.stop()
    assert (task.result(), report.completed) == (3, 1)

    engine = await small().start()
    task = engine.options(retry=Retry(base_delay=30)).submit(on(lane, Flaky(2)))
    await eventually_async(lambda: engine.snapshot().retries == 1)
    report = await engine.stop(timeout=0)
    assert task.cancelled()
    assert (report.submitted, report.cancelled, report.cancelled_by_stop) == (1, 1, 1)


@pytest.mark.parametrize("lane", LANES)
async def test_a_timeout_with_attempts_left_does_not_settle(lane: str) -> None:
    running = Counted()
    attempts: list[int] = []

    def thread() -> str:
        with running:
            attempts.append(current_task().attempt)
            if len(attempts) == 3:
                return "third"
            while not current_task().cancel_requested:
                running.pause()
            running.pause()  # attempts never overlap: the next one waits for the end of this
            return "too late"

    async def loop() -> str:
        with running:
            attempts.append(current_task().attempt)
            if len(attempts) == 3:
                return "third"
            try:
                await asyncio.sleep(30)
            finally:
                await asyncio.sleep(0.01)
            return "never"

    async with small(grace=30, threads=4, coroutines=4) as engine:
        policy = Retry(max_attempts=3, base_delay=0)
        task = engine.options(retry=policy, timeout=0.05).submit(thread if lane == "thread" else loop)
        assert await task == "third"
        assert (attempts, running.most, task.attempt) == ([1, 2, 3], 1, 3)
        snapshot = engine.snapshot()
        assert (snapshot.timeouts, snapshot.retries) == (2, 2)


def _returns_late_at_first(attempts: list[int]) -> int:
    attempts.append(current_task().attempt)
    if len(attempts) == 1:
        while not current_task().cancel_requested:
            time.sleep(0.001)
    return len(attempts)


async def test_what_returns_too_late_is_tried_again_with_its_arguments() -> None:
    """They are there until nothing is tried again."""
    attempts: list[int] = []
    async with small(grace=30) as engine:
        policy = engine.options(lane="thread", timeout=0.05, retry=Retry(max_attempts=2, base_delay=0))
        assert await policy.run(_returns_late_at_first, attempts) == 2
    assert attempts == [1, 2]


@pytest.mark.parametrize("lane", LANES)
async def test_an_abandoned_attempt_is_not_tried_again(lane: str, stubborn: Gate) -> None:
    async with small() as engine:
        task = engine.options(retry=Retry(max_attempts=3, base_delay=0), timeout=0.02).submit(stubborn.on(lane))
        with pytest.raises(TaskTimeout):
            await task
        assert (task.attempt, engine.snapshot().retries) == (1, 0)
        stubborn.opened.set()
        await eventually_async(lambda: engine.snapshot().late == 1)


class Stubborn(ConnectionError):
    """Cannot be rebuilt by pickle, as many a custom exception: its arguments are not those of its base class."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"{host}:{port}")


def _fail_and_count(path: str) -> None:
    with open(path, "a") as file:
        file.write("x")
    raise Stubborn("db", 5432)


@pytest.mark.parametrize(
    ("policy", "runs"),
    [({"on": (Stubborn,)}, 3), ({"on": (ConnectionError,)}, 3), ({"on": (KeyError,)}, 1),
     ({"give_up_on": (Stubborn,)}, 1), ({"give_up_on": (OSError,)}, 1), ({"give_up_on": (KeyError,)}, 3)],
)  # fmt: skip
@pytest.mark.parametrize("backend", ["native", "loky"])
async def test_a_policy_sees_what_a_remote_error_stands_for(
    backend: str, policy: dict[str, Any], runs: int, tmp_path: Path
) -> None:
    """E1: the policy once saw a RemoteError alone, so ``on`` and ``give_up_on`` did the opposite of what they say."""
    path = tmp_path / "runs"
    async with small(process_backend=backend) as engine:
        retry = Retry(max_attempts=3, base_delay=0, **policy)
        task = engine.options(lane="process", retry=retry).submit(_fail_and_count, str(path))
        with pytest.raises(RemoteError, match="db:5432") as caught:
            await task
    assert len(path.read_text()) == runs
    assert caught.value.stands_for(OSError)
    assert "missing 1 required positional argument" in caught.value.__notes__[0]


async def test_a_failed_attempt_that_is_tried_again_is_logged(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """E3: nobody else would ever see its error; a crash is worth a warning."""
    caplog.set_level(logging.INFO, "engine")
    async with small() as engine:
        trying = engine.options(retry=Retry(base_delay=0), name="flaky")
        assert await trying.submit(Flaky(1)) == 2
        assert await trying.options(lane="process").submit(_exit_once, str(tmp_path / "been")) == "alive"
    failed, crashed = [record for record in caplog.records if "attempt 1 failed" in record.getMessage()]
    assert (failed.levelname, crashed.levelname) == ("INFO", "WARNING")
    assert "(flaky)" in failed.getMessage()
    assert "exited with code 5" in crashed.getMessage()


def _exit_once(path: str) -> str:
    if not os.path.exists(path):
        open(path, "w").close()
        os._exit(5)
    return "alive"


@pytest.mark.parametrize("lane", LANES)
async def test_a_total_timeout_says_what_the_last_attempt_died_of(lane: str) -> None:
    """E16: the time runs out in the pause between two attempts."""
    async with small() as engine:
        policy = Retry(max_attempts=9, base_delay=60)
        task = engine.options(retry=policy, total_timeout=0.2).submit(on(lane, Flaky(9)))
        with pytest.raises(TaskTimeout, match=r" total_timeout=0\.2 s; its last failure: OSError: flaky$") as caught:
            await task
        assert caught.value.scope == "total"
        assert isinstance(caught.value.__cause__, OSError)
        (info,) = engine.tasks()
        assert (info.last_error, info) == ("OSError: flaky", task.info())
        assert info.error is not None
        assert info.error.startswith("TaskTimeout: ")


@pytest.mark.parametrize("lane", LANES)
async def test_a_total_timeout_in_a_later_attempt_says_what_the_one_before_died_of(lane: str, gate: Gate) -> None:
    """E16: and one that met no failure has no cause."""
    hold = gate.on(lane)

    def first_fails(failed: list[int]) -> Any:
        if not failed:
            failed.append(1)
            raise LookupError("first")
        return hold()

    async def first_fails_on_the_loop(failed: list[int]) -> Any:
        return await first_fails(failed)

    async with small() as engine:
        options = engine.options(retry=Retry(base_delay=0), total_timeout=0.5)
        for fn, args, cause in ((first_fails if lane == "thread" else first_fails_on_the_loop, ([],), LookupError),
                                (hold, (), type(None))):  # fmt: skip
            with pytest.raises(TaskTimeout) as caught:
                await options.run(fn, *args)
            assert type(caught.value.__cause__) is cause
            gate.opened.set()
            gate.opened = threading.Event()
        assert [info.last_error for info in engine.tasks()] == ["LookupError: first", None]


@pytest.mark.parametrize("lane", LANES)
async def test_the_last_error_is_seen_while_a_task_waits_for_its_next_attempt_and_ever_after(lane: str) -> None:
    """E16: a task that succeeds at last still says why it took so long."""
    async with small() as engine:
        task = engine.options(retry=Retry(base_delay=60)).submit(on(lane, Flaky(1)))
        await eventually_async(lambda: engine.snapshot().retries == 1)
        assert (task.info().last_error, task.info().error) == ("OSError: flaky", None)
        task.cancel()
        await engine.options(retry=Retry(base_delay=0)).run(on(lane, Flaky(1)))
        with pytest.raises(OSError, match="flaky"):
            await engine.options(retry=Retry(max_attempts=2, base_delay=0)).run(on(lane, Flaky(2)))
        assert [(info.state.value, info.error, info.last_error) for info in engine.tasks()] == [
            ("cancelled", None, "OSError: flaky"),
            ("completed", None, "OSError: flaky"),
            ("failed", "OSError: flaky", "OSError: flaky"),
        ]


async def test_an_attempt_that_timed_out_is_the_last_error_too() -> None:
    """E16: in each lane, with and without a further attempt."""
    async with small() as engine:
        for lane, fn in (("loop", asyncio.sleep), ("thread", _sleeps), ("process", time.sleep)):
            for policy in (None, Retry(max_attempts=2, base_delay=0)):
                where = lane if lane != "loop" else None
                with pytest.raises(TaskTimeout):
                    await engine.options(lane=where, timeout=0.05, retry=policy).run(fn, 30)
                info = engine.tasks()[-1]
                assert info.last_error == info.error
                assert info.last_error is not None
                assert info.last_error.startswith("TaskTimeout: ")


def _sleeps(seconds: float) -> None:
    """Sleep, and look meanwhile whether to stop."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        checkpoint()
        threading.Event().wait(0.002)


async def test_a_coroutine_that_is_abandoned_at_its_total_timeout_says_so(gate: Gate) -> None:
    """E16: the record of it has its error."""
    gate.swallows = 1000
    async with small() as engine:
        with pytest.raises(TaskTimeout):
            await engine.options(total_timeout=0.05).run(gate.hold_loop)
        gate.opened.set()
        (info,) = engine.tasks()
        assert info.error is not None
        assert "total_timeout" in info.error
