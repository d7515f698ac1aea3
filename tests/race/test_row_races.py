"""Rows of tiny tasks with everything that may happen to one of them; whatever it is, each task ends once."""

import contextlib
import itertools
import os
import random
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, Retry, Task, TaskState
from engine.errors import EngineFull, PickleError, TaskTimeout, WorkerCrashed
from tests.integration import row_functions
from tests.race.together import STUCK, together

#: Tasks of each round; ``ENGINE_INTERLEAVINGS=100000`` for a campaign.
RACES = int(os.environ.get("ENGINE_INTERLEAVINGS", "300"))
COUNT = 400

TERMINAL = {TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED}


class Does:
    """Arrives as None, after ``what`` was done where it is pickled."""

    def __init__(self, what: Any) -> None:
        self.what = what

    def __reduce__(self) -> tuple[Any, ...]:
        self.what()
        return type(None), ()


def exit_with_a_word() -> None:
    raise SystemExit("in a __reduce__")


class Campaign:
    """One engine, and what was submitted to it."""

    def __init__(self, engine: Any, rng: random.Random, runs: Path, harm: float) -> None:
        self.engine, self.rng, self.runs, self.harm = engine, rng, str(runs), harm
        self.tasks: dict[int, Task[Any]] = {}
        self.told: Counter[int] = Counter()
        self.answers: dict[int, list[bool]] = {}
        self.views = [
            engine, engine, engine, engine.options(priority=-5), engine.options(priority=5),
            engine.options(timeout=0.05), engine.options(timeout=0.05, retry=Retry(base_delay=0)),
            engine.options(retry=Retry(base_delay=0.001, on=(WorkerCrashed,))),
        ]  # fmt: skip
        self.numbers = itertools.count(1)

    def given(self) -> Any:
        """Give an argument: most are nothing, some are long, some are big, some do something when they are pickled."""
        dice = self.rng.random()
        if dice < 0.94:
            return None
        if dice < 0.945:
            return [{"n": n} for n in range(30_000)]
        if dice < 0.955:
            return bytes(200_000)
        if dice < 0.965:
            return bytearray(70_000)
        return Does(self.rng.choice([self.cancel_one, self.cancel_one, self.submit_one, exit_with_a_word]))

    def cancel_one(self) -> None:
        numbers = list(self.tasks)
        if numbers:
            number = self.rng.choice(numbers[-60:])
            self.answers.setdefault(number, []).append(self.tasks[number].cancel())

    def submit_one(self) -> None:
        with contextlib.suppress(EngineFull):
            self.submit(self.rng.choice(self.views), self.rng.choice(row_functions.HONEST))

    def submit(self, view: Any, fn: Any) -> None:
        fn = self.rng.choice(row_functions.HARMFUL) if self.rng.random() < self.harm else fn
        number = next(self.numbers)
        task = view.submit(fn, self.runs, number, self.given())
        self.tasks[number] = task
        task.add_done_callback(lambda task: self.told.update([task.id]))

    def submit_many(self, count: int) -> None:
        """Submit the same again and again, as programs do, so that there are rows."""
        view, fn = self.engine, row_functions.quick
        end = time.monotonic() + STUCK
        while count and time.monotonic() < end:
            if self.rng.random() < 0.05:
                view, fn = self.rng.choice(self.views), self.rng.choice(row_functions.HONEST)
            try:
                self.submit(view, fn)
                count -= 1
            except EngineFull:
                time.sleep(0.001)

    def cancel_many(self, count: int) -> None:
        for _ in range(count):
            self.cancel_one()

    def run_many(self, count: int, base: int) -> None:
        """Wait for room and for the value, again and again."""
        for number in range(base, base - count, -1):
            try:
                assert self.engine.run(row_functions.quick, self.runs, number) == number
            except WorkerCrashed:
                assert self.harm

    def check(self) -> None:
        runs = Counter(map(int, Path(self.runs).read_text().split()))
        for number, task in self.tasks.items():
            assert task.state in TERMINAL, task
            assert self.told[task.id] == 1, task
            assert runs[number] <= max(task.attempt, 1), f"{task} ran {runs[number]} times"
            if task.state is TaskState.COMPLETED:
                assert (task.result(), runs[number] > 0) == (number, True), task
                assert True not in self.answers.get(number, []), f"cancel() said True, and {task} completed"
            elif task.state is TaskState.CANCELLED:
                assert True in self.answers.get(number, []), task
            else:
                assert isinstance(task.exception(), (WorkerCrashed, TaskTimeout, PickleError)), task.exception()


@pytest.mark.usefixtures("switching")
@pytest.mark.parametrize("max_tasks", [None, 40])
@pytest.mark.parametrize("harm", [0.0, 0.02])
def test_every_task_of_every_row_ends_once(
    rng: random.Random, tmp_path: Path, harm: float, max_tasks: int | None
) -> None:
    """A4, E61: cancels, kills, lies and user code in the pickling: one end, one run for each attempt, true counters."""
    for turn in range(-(-RACES // 1000)):
        with Engine(processes=2, max_pending=150, grace=0.2, max_tasks_per_worker=max_tasks) as engine:
            for _ in range(60):
                engine.run(row_functions.quick, str(tmp_path / "before"), 0)
            campaign = Campaign(engine, rng, tmp_path / f"runs{turn}", harm)
            together(
                *[partial(campaign.submit_many, COUNT // 2) for _ in range(2)],
                partial(campaign.cancel_many, COUNT // 4),
                *[partial(campaign.run_many, COUNT // 8, -1000 * n - 1) for n in range(3)],
            )
            for task in list(campaign.tasks.values()):
                with contextlib.suppress(BaseException):
                    task.result(timeout=STUCK)
            report = engine.stop()
            snapshot = engine.snapshot()
        campaign.check()
        states = Counter(task.state for task in campaign.tasks.values())
        assert report.submitted == report.completed + report.failed + report.cancelled
        assert report.cancelled == states[TaskState.CANCELLED]
        assert (snapshot.queue_depth, snapshot.count(TaskState.PENDING), snapshot.count(TaskState.RUNNING)) == (0, 0, 0)
        assert harm or snapshot.malformed == snapshot.crashes == 0
