"""Submitting against stopping: what was accepted is accounted for, the rest got EngineClosed (SCENARIOS N2)."""

import asyncio
import random
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from engine import BlockingEngine, Engine, EngineClosed, ShutdownReport, Task, TaskState
from engine._stop import Stopper
from tests.race.together import STUCK, together

SUBMITTERS = 8


def nothing(value: int) -> int:
    return value


async def nothing_async(value: int) -> int:
    return value


def until_closed(engine: BlockingEngine, fn: Callable[..., Any], accepted: list[Task[Any]]) -> Callable[[], None]:
    """Make a function that submits until it is refused."""

    def submit() -> None:
        try:
            for number in range(100_000):
                accepted.append(engine.submit(fn, number))
        except EngineClosed:
            pass

    return submit


@pytest.mark.usefixtures("switching")
@pytest.mark.parametrize(
    "stop",
    [{"timeout": 0}, {"timeout": 0.002}, {}, {"cancel_pending": True}],
    ids=["at once", "soon", "drain", "drop"],
)
def test_what_a_stop_accepted_it_accounts_for(rng: random.Random, stop: dict[str, Any]) -> None:
    """N2: many threads submit while one stops: accepted = completed + cancelled + failed."""
    for _ in range(8):
        accepted: list[list[Task[Any]]] = [[] for _ in range(SUBMITTERS)]
        reports: list[ShutdownReport] = []
        engine = Engine(threads=2, processes=1, default_lane="thread", coroutines=3).__enter__()

        def end(engine: BlockingEngine = engine, reports: list[ShutdownReport] = reports) -> None:
            time.sleep(rng.random() * 0.01)  # not to wait for something: to hit another instant each time
            reports.append(engine.stop(**stop))

        fns = [nothing, nothing_async]
        together(end, *[until_closed(engine, fns[i % 2], each) for i, each in enumerate(accepted)])
        tasks = [task for each in accepted for task in each]
        (report,) = reports
        ended = {state: sum(task.state is state for task in tasks) for state in TaskState}
        assert ended[TaskState.PENDING] == ended[TaskState.RUNNING] == ended[TaskState.FAILED] == 0
        assert (report.submitted, report.completed, report.cancelled, report.failed) == (
            len(tasks), ended[TaskState.COMPLETED], ended[TaskState.CANCELLED], 0
        )  # fmt: skip
        with pytest.raises(EngineClosed):
            engine.submit(nothing, 1)


def _stop(engine: BlockingEngine, reports: list[ShutdownReport]) -> None:
    reports.append(engine.stop())


@pytest.mark.usefixtures("switching")
def test_whoever_stops_at_the_same_time_gets_the_same_report() -> None:
    """Idempotent, also when many do it at once: the private loop must not end under one that still waits for it."""
    for _ in range(30):
        engine = Engine(threads=1, default_lane="thread").__enter__()
        engine.submit(nothing, 1)
        reports: list[ShutdownReport] = []
        together(*[partial(_stop, engine, reports)] * 6)
        assert len(reports) == 6
        assert len(set(reports)) == 1


def test_a_stop_that_comes_late_still_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """1. A looks: there is no report yet. 2. B stops the engine, and with it the loop. 3. A asks that loop."""
    first_is_through = threading.Event()
    engine = Engine(threads=1, default_lane="thread").__enter__()
    on_loop = BlockingEngine._on_loop

    def late(self: BlockingEngine, coroutine: Any) -> Any:
        if threading.current_thread().name == "late":
            first_is_through.wait(1.0)  # it may also be that the first one waits for us: then nothing is late
        return on_loop(self, coroutine)

    monkeypatch.setattr(BlockingEngine, "_on_loop", late)
    reports: list[ShutdownReport] = []
    thread = threading.Thread(target=lambda: reports.append(engine.stop()), name="late", daemon=True)
    thread.start()
    reports.append(engine.stop())
    first_is_through.set()
    thread.join(STUCK)
    assert len(reports) == 2
    assert reports[0] == reports[1]


@pytest.mark.parametrize("kind", ["thread", "loop"])
def test_who_waits_for_room_when_the_engine_stops_is_refused_and_never_hangs(kind: str) -> None:
    """A14, N2: many wait for one place; the stop frees one place and must wake them all."""
    go = threading.Event()
    engine = Engine(threads=1, max_pending=1, default_lane="thread", grace=0.05).__enter__()
    running = engine.submit(go.wait, STUCK)
    while running.state is not TaskState.RUNNING:
        time.sleep(0.001)
    engine.submit(nothing, 1)
    outcomes: list[str] = []

    def wait_for_room() -> None:
        try:
            if kind == "thread":
                engine.run(nothing, 2)
            else:
                asyncio.run(engine._engine.run(nothing, 2))
            outcomes.append("ran")
        except EngineClosed:
            outcomes.append("closed")
        except BaseException as error:  # a cancelled task, where its place came before the stop
            outcomes.append(type(error).__name__)

    threads = [threading.Thread(target=wait_for_room, daemon=True) for _ in range(10)]
    for thread in threads:
        thread.start()
    core = engine._engine._core
    while len(core.registry.room_waiters) < 10:
        time.sleep(0.001)
    engine.stop(timeout=0)
    go.set()
    for thread in threads:
        thread.join(5.0)
    assert outcomes == ["closed"] * 10


async def test_a_task_that_an_abandoned_one_submits_at_the_last_moment_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """1. The stop sees that all is quiet. 2. An abandoned thread submits from inside, and is accepted. 3. It closes.

    What was accepted between the look and the closing must end too.
    """
    go, asked = threading.Event(), threading.Event()
    late: list[Task[int]] = []
    refused: list[EngineClosed] = []
    engine = await Engine(threads=1, default_lane="thread", grace=0.01).start()
    until_quiet = Stopper._until_quiet

    def deaf() -> None:
        assert go.wait(STUCK)
        try:
            late.append(engine.submit(nothing_async, 1))
        except EngineClosed as error:
            refused.append(error)
        asked.set()

    async def then_submit(self: Stopper, seconds: float | None) -> bool:
        quiet = await until_quiet(self, seconds)
        go.set()
        assert asked.wait(STUCK)
        return quiet

    monkeypatch.setattr(Stopper, "_until_quiet", then_submit)
    task = engine.submit(deaf)
    while task.state is not TaskState.RUNNING:
        await asyncio.sleep(0.001)
    report = await asyncio.wait_for(engine.stop(timeout=0), STUCK)
    assert len(late) + len(refused) == 1
    assert all(each.done() for each in late)
    assert report.submitted == report.completed + report.cancelled + report.failed


def test_retries_and_submits_from_inside_are_accepted_while_it_drains() -> None:
    """Section 8: leaving waits for work that the accepted work brings."""
    with Engine(threads=3, default_lane="thread") as engine:
        family: list[Task[Any]] = []

        def parent(depth: int) -> int:
            if depth:
                family.append(engine.submit(parent, depth - 1))
            return depth

        family.append(engine.submit(parent, 20))
    assert len(family) == 21
    assert all(task.state is TaskState.COMPLETED for task in family)
