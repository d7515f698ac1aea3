"""SCENARIOS N13, N14, A8, A9: tasks that wait for tasks, callbacks, and what is abandoned (design/0009)."""

import asyncio
import concurrent.futures
import contextlib
import itertools
import logging
import random
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from engine import Engine, Lane, Retry, Task, TaskState
from engine._blocking import BlockingEngine
from engine.errors import NestedDeadlock, TaskTimeout
from tests.support import eventually, eventually_async

STUCK = 30.0  #: seconds; a bound for what never happens, not a measurement
SMALL: dict[str, Any] = {"processes": 1, "threads": 1, "coroutines": 1, "grace": 0.05}


def lent(engine: Engine | BlockingEngine) -> list[int]:
    return [lane.lent for lane in engine.snapshot().lanes.values()]


# -- N13: every way of waiting ----------------------------------------------------------------------------------------


async def _wait(task: Task[int]) -> int:
    waited: Any = asyncio.wait
    done, _ = await waited([task], timeout=STUCK)
    return int(done.pop().result())


async def _wait_for(task: Task[int]) -> int:
    return await asyncio.wait_for(task, STUCK)


async def _shield(task: Task[int]) -> int:
    return await asyncio.shield(task)


async def _gather(task: Task[int]) -> int:
    return max(await asyncio.gather(task, task))


async def _as_completed(task: Task[int]) -> int:
    completed: Any = asyncio.as_completed
    for each in completed([task]):
        return int(await each)
    raise AssertionError


async def _timeout(task: Task[int]) -> int:
    async with asyncio.timeout(STUCK):
        return await task


async def _await(task: Task[int]) -> int:
    return await task


AWAITS: dict[str, Callable[[Task[int]], Awaitable[int]]] = {
    "await": _await, "gather": _gather, "wait": _wait, "wait_for": _wait_for, "shield": _shield,
    "as_completed": _as_completed, "timeout": _timeout,
}  # fmt: skip
LOOP_WAYS = [*AWAITS, "run", "map", "map unordered", "group"]


async def nest(engine: Engine, way: str, depth: int) -> int:
    """Wait for one more of us ``depth`` times, in one of the ways of the loop lane."""
    if depth == 0:
        return 0
    if way in AWAITS:
        return 1 + await AWAITS[way](engine.submit(nest, engine, way, depth - 1))
    if way == "run":
        return 1 + await engine.run(nest, engine, way, depth - 1)
    if way == "group":
        async with engine.group() as group:
            task = group.submit(nest, engine, way, depth - 1)
        n: int = task.result()
        return 1 + n
    results = engine.map(nest, [engine], [way], [depth - 1], ordered=way == "map")
    return 1 + max([int(n) async for n in results])


BLOCKING_WAYS = ["result", "result with a timeout", "exception", "run", "map", "map unordered", "group"]


def nest_blocking(engine: BlockingEngine, way: str, depth: int) -> int:
    """Do the same in the thread lane."""
    if depth == 0:
        return 0
    arguments = engine, way, depth - 1
    if way == "run":
        return 1 + engine.run(nest_blocking, *arguments)
    if way == "group":
        with engine.group() as group:
            task = group.submit(nest_blocking, *arguments)
        n: int = task.result()
        return 1 + n
    if way.startswith("map"):
        columns = [[argument] for argument in arguments]
        return 1 + max(int(n) for n in engine.map(nest_blocking, *columns, ordered=way == "map"))
    task = engine.submit(nest_blocking, *arguments)
    if way == "exception":
        error = task.exception()
        if error is not None:
            raise error
        return 1 + task.result()
    return 1 + task.result(STUCK if way == "result with a timeout" else None)


def leaves(error: BaseException) -> list[BaseException]:
    """Give the errors in an ExceptionGroup of ExceptionGroups."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in leaves(each)]
    return [error]


@pytest.mark.parametrize("way", LOOP_WAYS)
async def test_coroutines_nest_to_the_bound_and_are_told_past_it(way: str) -> None:
    """N13: depth 10 in one slot; past the bound NestedDeadlock with the remedy, never a hang, and all is well after."""
    async with Engine(**SMALL) as engine:
        assert await asyncio.wait_for(engine.submit(nest, engine, way, 10), STUCK) == 10
        with pytest.raises((NestedDeadlock, ExceptionGroup)) as caught:
            await asyncio.wait_for(engine.submit(nest, engine, way, 14), STUCK)
        (error,) = leaves(caught.value)
        assert isinstance(error, NestedDeadlock)
        assert "expected at most 10 tasks of the loop lane to wait" in str(error)
        assert "raise coroutines=1" in str(error)
        await eventually_async(lambda: lent(engine) == [0, 0, 0], STUCK)
        assert await asyncio.wait_for(engine.submit(nest, engine, way, 10), STUCK) == 10


@pytest.mark.parametrize("way", BLOCKING_WAYS)
def test_threads_nest_to_the_bound_and_are_told_past_it(way: str) -> None:
    """N13, in the thread lane, with a BlockingEngine."""
    with Engine(**SMALL, default_lane="thread") as engine:
        assert engine.submit(nest_blocking, engine, way, 10).result(STUCK) == 10
        with pytest.raises((NestedDeadlock, ExceptionGroup)) as caught:
            engine.submit(nest_blocking, engine, way, 14).result(STUCK)
        (error,) = leaves(caught.value)
        assert isinstance(error, NestedDeadlock)
        assert "raise threads=1" in str(error)
        eventually(lambda: lent(engine) == [0, 0, 0], STUCK)
        assert engine.submit(nest_blocking, engine, way, 10).result(STUCK) == 10


async def test_more_coroutines_than_ten_times_the_threads_may_wait() -> None:
    """N13: the bound of a lane is ten times its own slots: 100 coroutines that wait are no deadlock with one thread."""
    gate = asyncio.Event()

    async def waits(task: Task[Any]) -> None:
        await asyncio.shield(task)

    async with Engine(processes=1, threads=1) as engine:
        held = engine.submit(gate.wait)
        tasks = [engine.submit(waits, held) for _ in range(100)]
        await eventually_async(lambda: lent(engine)[0] == 100, STUCK)
        gate.set()
        await asyncio.wait_for(asyncio.gather(*tasks), STUCK)


# -- N13: a callback is no wait ---------------------------------------------------------------------------------------


def test_a_task_that_only_adds_a_callback_keeps_its_slot() -> None:
    """N13: else two would run in one slot though neither waits; and twenty of them would be a NestedDeadlock."""
    release, running = threading.Event(), itertools.count()
    most: list[int] = []
    called: list[int] = []

    with Engine(processes=1, threads=1, default_lane="thread") as engine:

        async def held() -> None:
            await eventually_async(release.is_set, STUCK)

        waited = engine.submit(held)

        def work(number: int) -> int:
            waited.add_done_callback(lambda _: called.append(number))
            most.append(next(running))
            time.sleep(0.001)
            assert lent(engine) == [0, 0, 0]
            return number

        assert list(engine.map(work, range(25))) == list(range(25))
        release.set()
        eventually(lambda: sorted(called) == list(range(25)), STUCK)


async def test_a_group_and_an_unordered_map_lend_only_while_they_wait() -> None:
    """N13: between its submits the block of a group computes, and so does who takes from a map."""
    seen: list[list[int]] = []

    async def groups(engine: Engine) -> None:
        async with engine.group() as group:
            group.submit(asyncio.sleep, 0.01)
            seen.append(lent(engine))

    async with Engine(**SMALL) as engine:
        await asyncio.wait_for(engine.submit(groups, engine), STUCK)
        assert seen == [[0, 0, 0]]
        assert lent(engine) == [0, 0, 0]


# -- N13: many at once ------------------------------------------------------------------------------------------------


class Planned(Exception):
    """What a node of a tree raises."""


class Forest:
    """Trees of tasks that wait for tasks, in both lanes, some of which fail, time out or are cancelled."""

    def __init__(self, engine: Engine, seed: int) -> None:
        self.engine = engine
        self.rng = random.Random(seed)
        self.lock = threading.Lock()
        self.tasks: list[Task[Any]] = []

    def plant(self, depth: int) -> Task[Any]:
        with self.lock:
            kind = self.rng.choice(["loop", "thread"])
            timeout = self.rng.choice([None, None, None, self.rng.uniform(0.001, 0.05)])
            plan = self.rng.random(), self.rng.uniform(0, 0.003), self.rng.randrange(1, 4)
        node: Any = self.in_loop if kind == "loop" else self.in_thread
        task: Task[Any] = self.engine.options(lane=kind, timeout=timeout).submit(node, depth, plan)
        with self.lock:
            self.tasks.append(task)
        return task

    async def in_loop(self, depth: int, plan: tuple[float, float, int]) -> None:
        luck, pause, width = plan
        await asyncio.sleep(pause)
        if depth:
            await asyncio.gather(*(self.plant(depth - 1) for _ in range(width)), return_exceptions=luck < 0.5)
        if luck > 0.95:
            raise Planned

    def in_thread(self, depth: int, plan: tuple[float, float, int]) -> None:
        luck, pause, width = plan
        time.sleep(pause)
        if depth:
            for child in [self.plant(depth - 1) for _ in range(width)]:
                with contextlib.suppress(concurrent.futures.CancelledError):
                    error = child.exception()
                    if error is not None and luck > 0.5:
                        raise error
        if luck > 0.95:
            raise Planned


async def test_many_trees_at_once_with_failures_timeouts_and_cancels() -> None:
    """N13: two threads and ten coroutines at once; everything settles, every slot comes back, and it works after."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    async with Engine(processes=1, threads=2, coroutines=10, grace=0.02) as engine:
        forest = Forest(engine, seed)
        roots = [forest.plant(3) for _ in range(30)]
        while not all(task.done() for task in roots):
            with forest.lock:
                task = rng.choice(forest.tasks)
            if rng.random() < 0.3:
                task.cancel()
            await asyncio.sleep(0.001)
        await eventually_async(lambda: not engine._core.registry.live, STUCK)
        await eventually_async(lambda: all(s.taken == 0 for s in engine._core.registry.slots.values()), STUCK)
        snapshot = engine.snapshot()
        assert lent(engine) == [0, 0, 0]
        assert [lane.abandoned for lane in snapshot.lanes.values()] == [0, 0, 0]
        threads = sum(worker.lane is Lane.THREAD for worker in snapshot.workers)
        assert threads <= 12 * 2
        for task in forest.tasks:
            if task.state is TaskState.FAILED:
                assert isinstance(task.exception(), (Planned, TaskTimeout, NestedDeadlock)), task
        states = [sum(task.state is state for task in forest.tasks) for state in TaskState]
        print(f"{len(forest.tasks)} tasks, {states}, {snapshot.abandoned} abandoned, {threads} threads")
        assert await asyncio.wait_for(engine.options(lane="thread").run(abs, -1), STUCK) == 1
        assert await asyncio.wait_for(engine.submit(nest, engine, "await", 10), STUCK) == 10


# -- A8, A9: what is abandoned ----------------------------------------------------------------------------------------


async def test_what_is_abandoned_is_bounded_seen_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    """A8: past the bound tasks wait, and a warning says why; ``stacks`` and ``snapshot`` show who; a late end frees."""
    release = threading.Event()
    caplog.set_level(logging.INFO, "engine")
    async with Engine(processes=1, threads=2, default_lane="thread", grace=0.01) as engine:
        for number in range(4):
            task = engine.options(name=f"stuck-{number}").submit(release.wait)
            await eventually_async(lambda task=task: task.started_at, STUCK)  # type: ignore[misc]  # a lambda's default
            task.cancel()
            await eventually_async(lambda n=number: engine.snapshot().abandoned == n + 1, STUCK)  # type: ignore[misc]  # as above
        snapshot = engine.snapshot()
        assert snapshot.lanes[Lane.THREAD].abandoned == 4
        assert sum(worker.state == "abandoned" for worker in snapshot.workers) == 4
        assert sum("abandoned task" in title for title in engine.stacks()) == 4
        warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert ["keeps its slot" in text for text in warnings] == [False, False, True, True]
        assert "4 abandoned tasks run in the thread lane, more than its 2 slots" in warnings[3]
        waiting = engine.submit(abs, -1)
        await asyncio.sleep(0)
        assert waiting.state is TaskState.PENDING
        release.set()
        assert await asyncio.wait_for(waiting, STUCK) == 1
        await eventually_async(lambda: engine.snapshot().late == 4, STUCK)
        assert engine.snapshot().lanes[Lane.THREAD].abandoned == 0
        await eventually_async(lambda: caplog.text.count("which was abandoned, has ended") == 4, STUCK)


@pytest.mark.parametrize("lane", ["thread", "loop"])
async def test_abandoned_attempts_that_wait_for_others_do_not_starve_them(lane: str) -> None:
    """A8, A9, N13: one gave its slot away, one keeps it, being past the bound; both go on to wait for tasks."""
    release = threading.Event()
    found: list[int] = []

    async def held_loop(engine: Engine) -> None:
        while not release.is_set():
            try:
                await asyncio.sleep(0.002)
            except asyncio.CancelledError:
                pass
        found.append(await engine.submit(nest, engine, "await", 3))

    def held_thread(engine: Engine) -> None:
        release.wait(STUCK)
        found.append(engine.submit(nest_thread, engine, 3).result())

    held: Any = held_thread if lane == "thread" else held_loop
    async with Engine(processes=1, threads=1, coroutines=1, grace=0.01, default_lane="thread") as engine:
        for number in range(2):
            task = engine.submit(held, engine)
            await eventually_async(lambda task=task: task.started_at, STUCK)  # type: ignore[misc]  # a lambda's default
            task.cancel()
            await eventually_async(lambda n=number: engine.snapshot().abandoned == n + 1, STUCK)  # type: ignore[misc]  # as above
        release.set()
        await eventually_async(lambda: found == [3, 3], STUCK)
        await eventually_async(lambda: engine.snapshot().late == 2, STUCK)
        assert lent(engine) == [0, 0, 0]
        assert engine.snapshot().lanes[Lane(lane)].abandoned == 0


def nest_thread(engine: Engine, depth: int) -> int:
    return 0 if depth == 0 else 1 + engine.submit(nest_thread, engine, depth - 1).result()


async def test_a_total_timeout_that_comes_after_the_abandonment_changes_nothing() -> None:
    """A8: it had its one TaskTimeout; the total one, the retries and the late end find it settled."""
    release = threading.Event()
    async with Engine(processes=1, threads=1, default_lane="thread", grace=0.01) as engine:
        view = engine.options(timeout=0.05, total_timeout=0.2, retry=Retry(max_attempts=5, base_delay=0.0))
        task = view.submit(release.wait)
        with pytest.raises(TaskTimeout) as caught:
            await asyncio.wait_for(asyncio.shield(task), STUCK)
        assert caught.value.scope == "attempt"
        ends = time.monotonic() + 0.25  # past its total_timeout
        await eventually_async(lambda: time.monotonic() > ends, STUCK)
        release.set()
        await eventually_async(lambda: engine.snapshot().late == 1, STUCK)
        snapshot = engine.snapshot()
        assert (snapshot.timeouts, snapshot.retries, snapshot.abandoned, task.attempt) == (1, 0, 1, 1)


async def test_a_total_timeout_before_the_abandonment_settles_at_once() -> None:
    """A8: asked to stop by its attempt's timeout, not yet abandoned, with retries left: then the total one strikes."""
    release = threading.Event()
    async with Engine(processes=1, threads=1, default_lane="thread") as engine:
        view = engine.options(timeout=0.05, total_timeout=0.15, grace=1.0, retry=Retry(max_attempts=5, base_delay=0.0))
        task = view.submit(release.wait)
        with pytest.raises(TaskTimeout) as caught:
            await asyncio.wait_for(asyncio.shield(task), STUCK)
        assert (caught.value.scope, engine.snapshot().abandoned) == ("total", 0)
        release.set()
        await eventually_async(lambda: engine.snapshot().late == 1, STUCK)


# -- N14: callbacks ---------------------------------------------------------------------------------------------------


def test_chains_of_callbacks_a_hundred_deep() -> None:
    """N14: three chains in which each callback submits the next; in every lane."""
    ends: list[tuple[str, int]] = []
    with Engine(processes=1, threads=2) as engine:

        def go_on(lane: str, number: int) -> None:
            task = engine.options(lane=lane).submit(abs, -number)
            task.add_done_callback(
                lambda done: go_on(lane, number + 1) if number < 100 else ends.append((lane, number))
            )

        lanes = ["thread", "process", "thread"]
        for lane in lanes:
            go_on(lane, 1)
        eventually(lambda: len(ends) == 3, STUCK)
        assert sorted(ends) == sorted((lane, 100) for lane in lanes)


def exit_python() -> None:
    sys.exit(3)


def interrupt() -> None:
    raise KeyboardInterrupt


def raise_error() -> None:
    raise ValueError("of a callback")


def close_the_loop() -> None:
    asyncio.get_running_loop().close()


@pytest.mark.parametrize("what", [exit_python, interrupt, raise_error, close_the_loop])
def test_a_callback_that_raises_is_logged_and_disturbs_nobody(
    what: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    """N14: SystemExit and KeyboardInterrupt would end the engine's own loop, and every task with it."""
    called: list[str] = []
    with Engine(processes=1, threads=1) as engine:
        gate = threading.Event()
        task = engine.options(lane="thread").submit(gate.wait)
        task.add_done_callback(lambda _: called.append("before"))
        task.add_done_callback(lambda _: what())
        task.add_done_callback(lambda _: called.append("after"))
        gate.set()
        eventually(lambda: called == ["before", "after"], STUCK)
        assert engine.submit(abs, -1).result(STUCK) == 1
    (record,) = [record for record in caplog.records if record.name == "asyncio"]
    assert record.exc_info is not None


async def test_a_callback_that_exits_does_not_end_the_loop_it_was_added_on(caplog: pytest.LogCaptureFixture) -> None:
    """N14: on a loop of the user's too."""
    async with Engine(processes=1, threads=1) as engine:
        task = engine.submit(asyncio.sleep, 0, "slept")
        task.add_done_callback(lambda _: sys.exit(3))
        assert await task == "slept"
        assert await engine.options(lane="thread").run(abs, -1) == 1
    assert any("the loop goes on" in record.getMessage() for record in caplog.records)


def test_a_callback_may_submit_and_cancel_and_is_told_what_would_block() -> None:
    """N14: it runs on the engine's own loop: what would wait there for ever is an error at once."""
    answers: list[Any] = []

    def tries(fn: Callable[[], object]) -> None:
        try:
            answers.append(fn())
        except RuntimeError as error:
            answers.append(str(error).partition(",")[0])

    with Engine(processes=1, threads=1) as engine:
        gate = threading.Event()
        held = engine.options(lane="thread").submit(gate.wait)

        def callback(task: Task[Any]) -> None:
            tries(held.cancel)
            tries(lambda: engine.run(abs, -1))
            tries(lambda: list(engine.map(abs, [-1])))
            tries(lambda: list(engine.map(abs, [-1], ordered=False)))
            engine.submit(abs, -2).add_done_callback(lambda task: answers.append(task.result()))

        engine.submit(abs, -1).add_done_callback(callback)
        eventually(lambda: len(answers) == 5, STUCK)
        gate.set()
        refused = "expected a call from another thread than the engine's own loop"
        assert answers == [True, refused, refused, refused, 2]


def test_a_callback_may_stop_a_blocking_engine() -> None:
    """N14: it is told what there is so far, since on the engine's own loop it cannot wait for the end."""
    reports: list[Any] = []
    with Engine(processes=1, threads=1) as engine:
        engine.submit(abs, -1).add_done_callback(lambda _: reports.append(engine.stop()))
        eventually(lambda: reports, STUCK)
        report = engine.stop()
    assert (report.submitted, report.completed, reports[0].submitted) == (1, 1, 1)
    assert reports[0].seconds >= 0


async def test_a_callback_may_stop_the_engine() -> None:
    """N14: stop is for a coroutine there, and every task is accounted for."""
    stops: list[asyncio.Task[Any]] = []
    async with Engine(processes=1, threads=1) as engine:
        task = engine.options(lane="thread").submit(abs, -1)
        task.add_done_callback(lambda _: stops.append(asyncio.ensure_future(engine.stop())))
        assert await task == 1
        await eventually_async(lambda: stops, STUCK)
        report = await stops[0]
    assert (report.submitted, report.completed) == (1, 1)
