"""``InlineEngine`` and a real BlockingEngine, given the same calls, agree on what becomes of each."""

import dataclasses
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from engine import BlockingEngine, EngineFull, Lane, Priority, Retry, Task, TaskState
from engine._records import describe_error
from engine.testing import InlineEngine, eventually
from tests.contracts import functions
from tests.contracts.functions import mark


@dataclasses.dataclass(frozen=True)
class Job:
    """One call, and what happens to it before it can run."""

    kind: str
    failures: int = 0
    attempts: int = 1
    gives_up: bool = False
    priority: int = 0
    is_cancelled: bool = False


@dataclasses.dataclass(frozen=True)
class Ended:
    """What became of one call, as far as the two engines must agree."""

    state: TaskState
    value: Any
    error: str | None
    last_error: str | None
    attempt: int
    calls: int


JOBS = st.builds(
    Job,
    kind=st.sampled_from(["value", "fail", "exit", "unrebuildable", "no result", "no argument", "late"]),
    failures=st.integers(0, 3),
    attempts=st.integers(1, 3),
    gives_up=st.booleans(),
    priority=st.sampled_from([*Priority, 3]),
    is_cancelled=st.sampled_from([False, False, False, True]),
)
NO_ARGUMENT = "no argument"


class Unrebuildable(Exception):
    """Cannot be rebuilt: its __init__ takes other arguments than it passes on."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)


def do(folder: str, name: str, kind: str, failures: int, extra: object = None) -> object:
    """Do one job: note the call; fail as often as told, then do what its kind says."""
    mark(f"{folder}/order", name)
    calls = Path(f"{folder}/order").read_text().split().count(name)
    if calls <= failures:
        raise OSError(f"failure {calls} of {name}")
    if kind == "fail":
        raise ValueError(name)
    if kind == "exit":
        raise SystemExit(3)
    if kind == "unrebuildable":
        raise Unrebuildable(3, name)
    return (x for x in name) if kind == "no result" else name


async def do_async(folder: str, name: str, kind: str, failures: int, extra: object = None) -> object:
    """Do the same in the loop lane."""
    return do(folder, name, kind, failures, extra)


async def hold_async(folder: str, name: str) -> str:
    """Hold the only slot of the loop lane."""
    import asyncio

    mark(f"{folder}/{name}.begun")
    while not Path(f"{folder}/go").exists():  # as another process would see it
        await asyncio.sleep(0.001)
    return name


def submitted(engine: BlockingEngine, lane: Lane, job: Job, number: int, folder: Path) -> Task[Any] | None:
    """Submit ``job`` to ``engine``; None if that was full."""
    retry = Retry(max_attempts=job.attempts, base_delay=0.001, jitter=0, give_up_on=(OSError,) if job.gives_up else ())
    view = engine.options(priority=job.priority, retry=retry, name=f"job-{number}")
    if lane is not Lane.LOOP:
        view = view.options(lane=lane)
    if job.kind == "late":
        view = view.options(total_timeout=0.0001)
    extra = (x for x in "") if job.kind == NO_ARGUMENT else None
    try:
        call: Any = do_async if lane is Lane.LOOP else do
        task: Task[Any] = view.submit(call, str(folder), f"job-{number}", job.kind, job.failures, extra)
    except EngineFull:
        return None
    return task


def ended(task: Task[Any] | None, calls: int) -> Ended | None:
    """Wait for ``task``, and say what became of it."""
    if task is None:
        return None
    eventually(task.done, 30)
    error = None if task.cancelled() else task.exception()
    value = task.result() if task.state is TaskState.COMPLETED else None
    shown = value if isinstance(value, str) else type(value).__name__
    return Ended(task.state, shown, describe_error(error), task.info().last_error, task.attempt, calls)


def play(engine: BlockingEngine, lane: Lane, jobs: list[Job], folder: Path) -> tuple[list[Ended | None], list[str]]:
    """Give ``engine``, whose only slot is held meanwhile, all jobs; return their ends, and the order of first calls."""
    hold: Any = hold_async if lane is Lane.LOOP else functions.hold
    if isinstance(engine, InlineEngine) and lane is not Lane.LOOP:  # there nothing else would run meanwhile anyway
        (folder / "go").touch()
    holder = (engine if lane is Lane.LOOP else engine.options(lane=lane)).submit(hold, str(folder), "holder")
    if isinstance(engine, InlineEngine):
        engine.run_until_idle()
    else:
        eventually((folder / "holder.begun").exists, 30)
    (folder / "order").touch()
    tasks = [submitted(engine, lane, job, number, folder) for number, job in enumerate(jobs)]
    for task, job in zip(tasks, jobs, strict=True):
        if task is not None and job.is_cancelled:
            task.cancel()
    late = [task for task, job in zip(tasks, jobs, strict=True) if task is not None and job.kind == "late"]
    if isinstance(engine, InlineEngine):
        engine.clock.advance(0.01)
    eventually(lambda: all(task.done() for task in late), 30)
    (folder / "go").touch()
    assert holder.result() == "holder"
    for task in tasks:
        if task is not None:
            task.exception() if not task.cancelled() else None
    order = (folder / "order").read_text().split()
    calls = Counter(order)
    return [ended(task, calls[f"job-{n}"]) for n, task in enumerate(tasks)], list(dict.fromkeys(order))


def agree(lane: Lane, jobs: list[Job], max_pending: int | None) -> None:
    # A real one is late by itself, in any instant: then it makes room, and may be over before it is cancelled.
    jobs = [
        dataclasses.replace(job, kind="value" if max_pending else job.kind, is_cancelled=False)
        if job.kind == "late"
        else job
        for job in jobs
    ]
    slots: dict[str, Any] = {"processes": 1, "threads": 1, "coroutines": 1, "max_pending": max_pending}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("real", "inline"):
            (Path(folder) / name).mkdir()
        with InlineEngine(autorun=False, check_pickle=True, **slots) as inline:
            mine = play(inline, lane, jobs, Path(folder) / "inline")
        with BlockingEngine(**slots) as real:
            theirs = play(real, lane, jobs, Path(folder) / "real")
        assert mine == theirs
        report, other = inline.stop(), real.stop()
        assert dataclasses.replace(report, seconds=0) == dataclasses.replace(other, seconds=0)
        assert inline.snapshot().retries == real.snapshot().retries
        assert inline.snapshot().timeouts == real.snapshot().timeouts


CASES = st.lists(JOBS, max_size=8), st.sampled_from([None, None, 2, 4])
SLOW = [HealthCheck.too_slow]
QUICK = [Phase.explicit, Phase.reuse, Phase.generate]  # each step of shrinking would start workers


@pytest.mark.parametrize("lane", [Lane.THREAD, Lane.LOOP])
@settings(max_examples=20, suppress_health_check=SLOW, phases=QUICK)
@given(jobs=CASES[0], max_pending=CASES[1])
def test_they_agree(lane: Lane, jobs: list[Job], max_pending: int | None) -> None:
    agree(lane, jobs, max_pending)


@settings(max_examples=4, suppress_health_check=SLOW, phases=QUICK)
@given(jobs=CASES[0], max_pending=CASES[1])
def test_they_agree_on_process_tasks(jobs: list[Job], max_pending: int | None) -> None:
    agree(Lane.PROCESS, jobs, max_pending)
