"""A task reaches one terminal state, whoever comes first (design/0003; SCENARIOS A4)."""

import asyncio
import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from functools import partial
from types import TracebackType
from typing import Any

import pytest

from engine import Engine, Retry, Task, TaskState
from engine.errors import TaskTimeout, WorkerCrashed
from tests.race.together import STUCK, together
from tests.support import eventually

#: Tasks that race in each lane; ``ENGINE_INTERLEAVINGS=100000`` for a campaign.
RACES = int(os.environ.get("ENGINE_INTERLEAVINGS", "300"))

TERMINAL = {TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED}


def sleep(seconds: float) -> str:
    time.sleep(seconds)
    return "slept"


async def sleep_async(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "slept"


def check(task: Task[Any], rounds: int, answers: list[bool]) -> None:
    """Check what four racers must agree on."""
    assert task.state in TERMINAL
    assert rounds == 1, f"{rounds} rounds of callbacks for {task}"
    if True in answers:
        assert task.state is not TaskState.COMPLETED, f"cancel() said True and {task} completed"
    if task.state is TaskState.CANCELLED:
        assert True in answers
    if task.state is TaskState.FAILED:
        assert isinstance(task.exception(), (TaskTimeout, WorkerCrashed)), task.exception()


@pytest.mark.usefixtures("switching")
@pytest.mark.parametrize("lane", ["thread", "loop"])
def test_cancel_against_complete_against_timeout(rng: random.Random, lane: str) -> None:
    """A4: one terminal state, one callback round, cancel() True never with COMPLETED; the states add up."""
    for _ in range(-(-RACES // 300)):
        race_three(rng, lane)


def race_three(rng: random.Random, lane: str) -> None:
    count = 300
    with Engine(threads=8, default_lane="thread", grace=0.05) as engine:
        rounds: Counter[int] = Counter()
        answers: list[list[bool]] = [[] for _ in range(count)]
        tasks: list[Task[Any]] = []
        for _ in range(count):
            view = engine.options(timeout=rng.uniform(0.0005, 0.004))
            task: Task[Any] = view.submit(sleep if lane == "thread" else sleep_async, rng.uniform(0, 0.003))
            task.add_done_callback(lambda task: rounds.update([task.id]))
            tasks.append(task)

        def cancel(seed: int) -> None:
            mine = random.Random(seed)
            order = list(range(count))
            mine.shuffle(order)
            for number in order:
                if mine.random() < 0.3:
                    eventually(lambda n=number: tasks[n].started_at or tasks[n].done(), STUCK)  # type: ignore[misc]  # a lambda's default
                answers[number].append(tasks[number].cancel())

        together(*[partial(cancel, rng.getrandbits(32)) for _ in range(3)])
        report = engine.stop()
    states = Counter(task.state for task in tasks)
    assert sum(states.values()) == report.submitted == count
    assert (report.completed, report.failed, report.cancelled) == tuple(
        states[state] for state in (TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED)
    )
    for task, said in zip(tasks, answers, strict=True):
        check(task, rounds[task.id], said)


@pytest.mark.usefixtures("switching")
def test_cancel_against_complete_against_timeout_against_crash(rng: random.Random) -> None:
    """A4, with a killer of workers: nobody but the task that ran in a killed worker fails with WorkerCrashed."""
    for _ in range(-(-RACES // 300)):
        race_four(rng)


def race_four(rng: random.Random) -> None:
    count = 20  # each that is killed or times out costs the start of a worker
    killed: set[int] = set()
    over = threading.Event()
    with Engine(processes=2, grace=0.05) as engine:
        engine.warm_up()
        rounds: Counter[int] = Counter()
        answers: list[list[bool]] = [[] for _ in range(count)]
        tasks: list[Task[Any]] = []
        for _ in range(count):
            task = engine.options(timeout=rng.uniform(0.002, 0.05)).submit(sleep, rng.uniform(0, 0.02))
            task.add_done_callback(lambda task: rounds.update([task.id]))
            tasks.append(task)

        def cancel() -> None:
            try:
                for number in rng.sample(range(count), count // 3):
                    task = tasks[number]
                    eventually(lambda task=task: task.started_at or task.done(), STUCK)  # type: ignore[misc]  # a lambda's default
                    answers[number].append(task.cancel())
            finally:
                over.set()

        def kill() -> None:
            mine = random.Random(rng.getrandbits(32))
            while not over.wait(0.02) and len(killed) < count // 4:  # each costs the start of another
                # Of those that have begun a task: one that never does counts as a start that failed.
                pids = [w.pid for w in engine.snapshot().workers if w.pid and w.task_id is not None]
                if pids:
                    pid = mine.choice(pids)
                    killed.add(pid)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

        together(cancel, kill)
        report = engine.stop()
    assert report.submitted == count == report.completed + report.failed + report.cancelled
    for task, said in zip(tasks, answers, strict=True):
        check(task, rounds[task.id], said)
        error = task.exception() if task.state is TaskState.FAILED else None
        if isinstance(error, WorkerCrashed):
            assert error.pid in killed
            assert error.signal_name == "SIGKILL"


@pytest.mark.usefixtures("switching")
def test_a_retry_against_a_cancel_leaves_one_outcome(rng: random.Random) -> None:
    """A15: a retry that is due as the task is cancelled neither runs it again nor revives it."""
    runs: Counter[int] = Counter()

    def stumble(number: int) -> None:
        runs[number] += 1
        raise ValueError(number)

    with Engine(threads=4, default_lane="thread") as engine:
        view = engine.options(retry=Retry(max_attempts=50, base_delay=0.0005, factor=1))
        tasks = [view.submit(stumble, number) for number in range(100)]
        cancelled = [False] * len(tasks)
        at_cancel = [0] * len(tasks)

        def cancel(mine: range) -> None:
            for number in mine:
                eventually(lambda n=number: runs[n] >= 1, STUCK)  # type: ignore[misc]  # a lambda's default
                cancelled[number] = tasks[number].cancel()
                at_cancel[number] = runs[number]

        together(*[partial(cancel, range(k, len(tasks), 4)) for k in range(4)])
        engine.stop()
    for number, task in enumerate(tasks):
        assert task.cancelled() == cancelled[number]
        assert runs[number] <= at_cancel[number] + 1  # the attempt that had begun, at most
        if not task.cancelled():
            assert isinstance(task.exception(), ValueError)


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
def test_cancel_between_the_look_and_the_settling_of_an_end(honest: bool) -> None:
    """1. ``end`` sees a live task. 2. ``cancel`` sees a live task. 3. ``cancel`` settles it. 4. ``end`` settles it.

    The registry's lock keeps 2 from coming between 1 and 4. With a lock that lies it does come, and this test sees it.
    """
    decided = threading.Event()
    cancelled = threading.Event()
    ending: list[bool] = []

    def slow() -> float:
        if ending and not decided.is_set():
            decided.set()
            cancelled.wait(0.2)  # an honest lock keeps the canceller out as long as we are in here
        return time.monotonic()

    answers: list[bool] = []
    broken: list[str] = []
    with Engine(threads=2, default_lane="thread") as engine:
        scheduler = engine._engine._core.scheduler
        end = scheduler.return_taken

        def noted(attempt: Any, value: Any) -> None:
            ending.append(True)
            try:
                end(attempt, value)
            except AssertionError as error:
                broken.append(str(error))

        scheduler.return_taken = noted  # type: ignore[method-assign]  # to hear of an illegal move
        if not honest:
            lying: Any = LyingLock()
            scheduler.registry.lock = lying
        scheduler.now = slow  # it asks when it has looked
        task = engine.submit(sleep, 0)
        assert decided.wait(STUCK)
        answers.append(task.cancel())
        cancelled.set()
        eventually(task.done, STUCK)
        engine.stop(timeout=1)
    if honest:
        assert (task.state, answers, broken) == (TaskState.COMPLETED, [False], [])
    else:
        assert answers == [True]
        assert broken == ["expected a legal move from cancelled, got completed"]
