"""Stopping from everywhere: during start, from callbacks, tasks, other loops; twice, at once (N5, N8, R2)."""

import asyncio
import contextlib
import itertools
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from engine import BlockingEngine, Engine, EngineClosed, ShutdownReport, TaskState, WorkerStartupError
from tests.integration import hostile
from tests.support import eventually, eventually_async

STUCK = 30.0


def accounts(report: ShutdownReport) -> bool:
    """Say whether the report accounts for every task."""
    return report.submitted == report.completed + report.failed + report.cancelled + report.stopping


def hold_start(path: str) -> None:
    """Be an initializer that takes its time."""
    Path(path).write_text("here")
    time.sleep(STUCK)


@pytest.mark.parametrize("call", ["warm_up", "restart_workers", "run", "submit", "map", "again"])
def test_whatever_comes_after_the_stop_is_refused(call: str) -> None:
    """N1, N5: EngineClosed, never "Event loop is closed"."""
    with Engine(threads=1, processes=1, default_lane="thread") as engine:
        assert engine.run(abs, -1) == 1
    calls: dict[str, Callable[[], Any]] = {
        "warm_up": engine.warm_up, "restart_workers": engine.restart_workers, "run": lambda: engine.run(abs, 1),
        "submit": lambda: engine.submit(abs, 1), "map": lambda: list(engine.map(abs, [1])),
    }  # fmt: skip
    if call == "again":
        assert engine.stop() == engine.stop(timeout=0)
        return
    with pytest.raises(EngineClosed, match="cannot schedule new futures after shutdown"):
        calls[call]()


async def test_the_same_of_an_async_engine() -> None:
    """N1: ``warm_up`` would start workers that nobody ends."""
    async with Engine(processes=1) as engine:
        pass
    for call in (engine.warm_up, engine.restart_workers):
        with pytest.raises(EngineClosed):
            await call()
    assert (await engine.stop()).clean


def test_a_stop_overtakes_a_warm_up(tmp_path: Path) -> None:
    """N5: the initializer still runs; who waits for the workers is told, and the stop takes no longer than it says."""
    engine = Engine(processes=1, initializer=hold_start, initargs=(str(tmp_path / "here"),)).__enter__()
    errors: list[BaseException] = []

    def warm_up() -> None:
        try:
            engine.warm_up()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=warm_up)
    thread.start()
    eventually((tmp_path / "here").exists, STUCK)
    task = engine.submit(abs, -1)
    report = engine.stop(timeout=0.01)
    thread.join(STUCK)
    assert [type(error) for error in errors] == [EngineClosed]
    assert task.cancelled()
    assert (report.submitted, report.cancelled, accounts(report)) == (1, 1, True)


def test_a_stop_while_another_thread_starts_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """N5. 1. ``__enter__`` has its thread. 2. ``stop`` finds no loop yet. 3. The engine starts: it must still stop."""
    begun, go = threading.Event(), threading.Event()
    start = Engine.start

    async def slow(self: Engine) -> Engine:
        begun.set()
        go.wait(STUCK)
        return await start(self)

    monkeypatch.setattr(Engine, "start", slow)
    engine = BlockingEngine(threads=1)
    reports: list[ShutdownReport] = []
    starter = threading.Thread(target=engine.__enter__)
    starter.start()
    assert begun.wait(STUCK)
    stopper = threading.Thread(target=lambda: reports.append(engine.stop(timeout=0)))
    stopper.start()
    go.set()
    for thread in (starter, stopper):
        thread.join(STUCK)
    with pytest.raises(EngineClosed):
        engine.submit(abs, -1)
    assert [report.submitted for report in reports] == [0]


@pytest.mark.parametrize("where", ["callback", "coroutine"])
def test_a_stop_on_the_engines_own_loop_begins_and_does_not_wait(where: str) -> None:
    """N5: it would wait for the thread on which it waits."""
    reports: list[ShutdownReport] = []
    engine = Engine(threads=1, default_lane="thread").__enter__()

    async def stops() -> None:
        reports.append(engine.stop())

    if where == "callback":
        engine.submit(abs, -1).add_done_callback(lambda _: reports.append(engine.stop()))
    else:
        engine.submit(stops)
    eventually(lambda: reports, STUCK)
    assert accounts(reports[0])
    assert accounts(engine.stop())
    assert engine.stop().completed == 1


@pytest.mark.parametrize("lane", ["thread", "loop"])
async def test_a_task_may_stop_its_engine_while_others_run(lane: str) -> None:
    """N5: the others are waited for; the one that asks is accounted for as stopping."""
    engine = await Engine(threads=2, coroutines=2, default_lane="thread").start()
    home = asyncio.get_running_loop()
    other = engine.submit(time.sleep, 0.05)

    def in_thread() -> ShutdownReport:
        return asyncio.run_coroutine_threadsafe(engine.stop(), home).result(STUCK)

    async def on_loop() -> ShutdownReport:
        return await engine.stop()

    task: Any = engine.submit(in_thread if lane == "thread" else on_loop)
    if lane == "thread":  # it asks through a coroutine of its own, so nobody knows that it waits: only a timeout helps
        await eventually_async(lambda: engine.snapshot().phase == "draining", STUCK)
        await engine.stop(timeout=0.2)
    else:
        report = await asyncio.wait_for(task, STUCK)
        assert (report.stopping, accounts(report)) == (1, True)
    assert other.done()


def test_of_several_stops_the_most_hurried_wins_whoever_comes_first() -> None:
    """N5: from many threads at once, with different timeouts; all get the same report."""
    engine = Engine(threads=1, default_lane="thread", grace=0.05).__enter__()
    go = threading.Event()
    engine.submit(go.wait, STUCK)
    reports: list[ShutdownReport] = []
    timeouts = [None, 1000.0, 0.05, 500.0, None]
    threads = [threading.Thread(target=lambda t=t: reports.append(engine.stop(t))) for t in timeouts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(STUCK)
    go.set()
    assert len(reports) == 5
    assert len(set(reports)) == 1
    assert (reports[0].cancelled, reports[0].abandoned) == (1, 1)


def test_a_stop_with_a_timeout_returns_though_a_coroutine_blocks_the_private_loop() -> None:
    """A9: nothing turns there any more; the engine is ended from outside, and tidies up when the loop is free."""
    go = threading.Event()
    engine = Engine(processes=1, threads=1, grace=0.01).__enter__()

    async def block() -> None:
        go.wait(STUCK)

    running = engine.submit(time.sleep, STUCK)
    eventually(lambda: running.state is TaskState.RUNNING, STUCK)
    blocked = engine.submit(block)
    eventually(lambda: blocked.state is TaskState.RUNNING, STUCK)
    report = engine.stop(timeout=0)
    assert running.cancelled()
    assert blocked.cancelled()
    assert (report.submitted, report.cancelled, accounts(report)) == (2, 2, True)
    go.set()  # the fixture waits for the private loop's thread, and for the worker


async def test_whoever_cancels_all_tasks_of_the_loop_hurries_the_stop_and_does_not_break_it() -> None:
    """N5, N10: ``for task in asyncio.all_tasks(): task.cancel()`` is what a second Ctrl-C does, and many a program."""
    engine = await Engine(processes=1, threads=1, default_lane="thread", grace=0.05).start()
    go = threading.Event()
    task = engine.submit(go.wait, STUCK)
    await eventually_async(lambda: task.state is TaskState.RUNNING, STUCK)
    stop = asyncio.create_task(engine.stop())
    await eventually_async(lambda: engine.snapshot().phase == "draining", STUCK)
    for each in asyncio.all_tasks() - {asyncio.current_task(), stop}:
        if each.get_name().startswith("stop of"):
            each.cancel()
    report = await asyncio.wait_for(stop, STUCK)
    go.set()
    assert (report.cancelled, report.abandoned, accounts(report)) == (1, 1, True)


async def test_a_stop_that_was_cancelled_before_its_first_step_still_happens() -> None:
    """1. ``begin`` makes the asyncio task. 2. It is cancelled in the same turn: its coroutine never runs a line."""
    engine = await Engine(threads=1, default_lane="thread").start()
    stopper = engine._core.stopper
    stopper.begin(None)
    assert stopper.task is not None
    stopper.task.cancel()
    assert accounts(await asyncio.wait_for(engine.stop(), STUCK))


@pytest.mark.parametrize("lane", ["thread", "process"])
async def test_a_thread_that_cannot_be_started_fails_its_task_and_hangs_nobody(
    lane: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """N8: as in finalisation; in the process lane the thread is the one that decodes what may be harmful."""
    async with Engine(processes=1, threads=1) as engine:
        start = threading.Thread.start

        def refuse(self: threading.Thread) -> None:
            if "engine" in self.name:
                raise RuntimeError("can't create new thread at interpreter shutdown")
            start(self)

        monkeypatch.setattr(threading.Thread, "start", refuse)
        fn: Any = abs if lane == "thread" else hostile.give_custom
        task = engine.options(lane=lane).submit(fn, *([-1] if lane == "thread" else []))
        with pytest.raises(WorkerStartupError if lane == "thread" else Exception) as caught:
            await asyncio.wait_for(task, STUCK)
        assert "can't create new thread" in str(caught.value) + str(caught.value.__cause__)
        monkeypatch.undo()
        again = engine.options(lane=lane).submit(fn, *([-1] if lane == "thread" else []))
        assert await asyncio.wait_for(again, STUCK) is not None


def test_an_engine_that_gets_no_thread_says_so_and_can_be_started_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """N8: of a BlockingEngine; nothing is left half started."""
    engine = BlockingEngine(threads=1)

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        engine.__enter__()
    assert engine.stop().submitted == 0
    monkeypatch.undo()
    with engine:
        assert engine.options(lane="thread").run(abs, -1) == 1


async def test_engines_come_and_go_and_nothing_of_them_stays() -> None:
    """R2: descriptors, threads, zombies, after six of each kind (``stress`` opens 200); the fixture looks for more."""

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    def blocking() -> None:
        with Engine(processes=1, threads=1) as engine:
            engine.submit(abs, -1)
            engine.options(lane="thread").submit(abs, -1)

    async with Engine(processes=1, threads=1) as engine:
        await engine.run(abs, -1)
    before, threads = descriptors(), threading.active_count()
    for _ in range(6):
        async with Engine(processes=1, threads=1) as engine:
            engine.submit(abs, -1)
            engine.options(lane="thread").submit(abs, -1)
    assert (descriptors(), threading.active_count()) == (before, threads)
    for _ in range(6):
        await asyncio.to_thread(blocking)
    await asyncio.get_running_loop().shutdown_default_executor()
    eventually(lambda: threading.active_count() == threads, STUCK)
    assert descriptors() == before
    with contextlib.suppress(ChildProcessError):
        assert os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None  # no zombie


# -- a map that somebody reads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_stop_lets_a_map_give_what_it_had_submitted(ordered: bool) -> None:
    """E2: it used to cancel its whole window, and the report called that clean."""
    got: list[int] = []
    go = threading.Event()

    def wait(number: int) -> int:
        assert go.wait(30)
        return number

    engine = await Engine(threads=2, default_lane="thread").start()

    async def read() -> None:
        async for number in engine.map(wait, itertools.count(), ordered=ordered, window=6):
            got.append(number)

    reader = asyncio.create_task(read())
    await eventually_async(lambda: engine.snapshot().count(TaskState.RUNNING) == 2)
    stop = asyncio.create_task(engine.stop(timeout=30))
    await eventually_async(lambda: engine.snapshot().phase == "draining")
    go.set()
    report = await stop
    with pytest.raises(EngineClosed):
        await reader
    assert sorted(got) == list(range(len(got)))
    assert len(got) == report.submitted == report.completed >= 6
    assert report.clean


@pytest.mark.parametrize("ordered", [True, False])
def test_a_stop_lets_a_blocking_map_give_what_it_had_submitted(ordered: bool) -> None:
    """E2: as above, read by a plain thread."""
    got: list[int] = []
    go = threading.Event()

    def wait(number: int) -> int:
        assert go.wait(30)
        return number

    def read() -> str:
        try:
            for number in engine.map(wait, itertools.count(), ordered=ordered, window=6):
                got.append(number)
        except EngineClosed:
            return "closed"
        return "ended"

    with BlockingEngine(threads=2, default_lane="thread") as engine, ThreadPoolExecutor(2) as others:
        reader = others.submit(read)
        eventually(lambda: engine.snapshot().count(TaskState.RUNNING) == 2)
        eventually(lambda: engine.snapshot().count(TaskState.PENDING) == 4)  # its window is full
        stop = others.submit(engine.stop, 30)
        eventually(lambda: engine.snapshot().phase == "draining")
        go.set()
        report = stop.result(30)
        assert reader.result(30) == "closed"
    assert len(got) == report.submitted == report.completed >= 6
    assert report.clean
