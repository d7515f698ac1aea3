"""What a hostile tester found, each with its story: user code that raises where nobody expects it."""

import asyncio
import functools
import gc
import logging
import os
import subprocess
import sys
import threading
import weakref
from typing import Any

import pytest

from engine import BlockingEngine, Engine, EngineClosed, Lane, TaskState, WorkerCrashed, WorkerStartupError, io
from engine._lanes._process.functions import MAX_CLOSURES
from tests.integration import hostile
from tests.sent_ahead import send_ahead
from tests.support import REPOSITORY, eventually_async

STUCK = 30.0  #: seconds; a bound for what never happens


@pytest.mark.parametrize("name", hostile.HOSTILE)
@pytest.mark.parametrize("lane", ["process", "thread", "loop"])
async def test_an_exception_that_fights_back_fails_its_task_and_nothing_else(
    name: str, lane: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """S7, S8, E188: its ``__str__`` exits, it can be given no cause nor attribute, its class does not tell its name."""
    monkeypatch.setenv(hostile.PARENT, str(os.getpid()))
    async with Engine(processes=1, threads=1) as engine:
        if lane == "loop":
            task = engine.submit(hostile.raise_hostile_soon, name)
        else:
            task = engine.options(lane=lane).submit(hostile.raise_hostile, name)
        await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), STUCK)
        assert task.state is TaskState.FAILED
        error = task.exception()
        assert name in (getattr(error, "type_name", "") or type.__dict__["__name__"].__get__(type(error)))
        after = engine.options(lane="process" if lane == "process" else "thread").submit(hostile.give_custom)
        assert isinstance(await asyncio.wait_for(after, STUCK), hostile.Custom)


@pytest.mark.parametrize("lane", ["thread", "process"])
async def test_a_coroutine_that_a_plain_function_returns_is_refused(lane: str) -> None:
    """Never a silently unawaited coroutine: it would be dropped, with a warning that names nobody."""
    async with Engine(processes=1, threads=1) as engine:
        with pytest.raises(TypeError, match="submit the coroutine function itself"):
            await engine.options(lane=lane).run(hostile.give_coroutine)


async def test_what_a_worker_said_last_on_sys_stderr_is_evidence() -> None:
    """W3: not only what C code wrote to the descriptor."""
    async with Engine(processes=1) as engine:
        with pytest.raises(WorkerCrashed) as caught:
            await engine.run(hostile.complain_and_leave)
    assert "boom detail" in caught.value.stderr


class _Broken(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        raise RuntimeError("a filter of user code")


def _log(i: int) -> int:
    logging.getLogger("hostile.words").warning("word %d", i)
    return i


async def test_a_filter_that_raises_costs_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    """Records are passed on between answers of one burst; what raised there threw the others away."""
    logger, broken = logging.getLogger("hostile.words"), _Broken()
    logger.addFilter(broken)
    try:
        async with Engine(processes=1) as engine:
            tasks = [engine.submit(_log, i) for i in range(20)]
            assert await asyncio.wait_for(asyncio.gather(*tasks), STUCK) == list(range(20))
    finally:
        logger.removeFilter(broken)
    assert "could not be passed on" in caplog.text


# -- starting and stopping --------------------------------------------------------------------------------------------


async def test_an_initializer_that_cannot_be_pickled_is_never_skipped(caplog: pytest.LogCaptureFixture) -> None:
    """The second start used to go without it."""
    async with Engine(processes=1, initializer=print, initargs=(threading.Lock(),)) as engine:
        with pytest.raises(WorkerStartupError, match="initializer"):
            await asyncio.wait_for(engine.run(abs, -1), STUCK)
        with pytest.raises(WorkerStartupError, match="initializer"):
            await asyncio.wait_for(engine.warm_up(), STUCK)


async def test_a_warm_up_that_is_overtaken_by_the_stop_says_so() -> None:
    """It used to answer as if the workers were ready."""
    engine = await Engine(processes=8).start()
    warming = asyncio.ensure_future(engine.warm_up())
    await asyncio.sleep(0)
    await engine.stop(timeout=0)
    with pytest.raises(EngineClosed):
        await warming


async def test_stop_is_bounded_though_a_running_thread_submits_without_end() -> None:
    """While it drains, tasks may submit from inside; once the time is over nobody may."""

    def submit_for_ever(engine: Engine) -> None:
        while True:
            try:
                engine.options(lane="thread").submit(hostile.give_custom)
            except EngineClosed:
                return

    engine = await Engine(threads=1, grace=0.1).start()
    task = engine.options(lane="thread").submit(submit_for_ever, engine)
    await eventually_async(lambda: task.state is TaskState.RUNNING)
    report = await asyncio.wait_for(engine.stop(timeout=0.1), STUCK)
    assert report.submitted == report.completed + report.failed + report.cancelled


async def test_a_task_that_waits_for_itself_is_told_so() -> None:
    """In the loop and thread lanes it waited for ever."""
    async with Engine(threads=1) as engine:
        known: list[Any] = []
        listed = asyncio.Event()

        async def wait_for_myself() -> None:
            await listed.wait()
            await known[0]

        known.append(engine.submit(wait_for_myself))
        listed.set()
        with pytest.raises(RuntimeError, match="got itself"):
            await asyncio.wait_for(asyncio.shield(known[0]), STUCK)


# -- functions --------------------------------------------------------------------------------------------------------


@io(timeout=60)
def fetch(prefix: str, url: str) -> str:
    return f"{prefix}{url}"


class Service:
    @io
    @staticmethod
    def above() -> None:
        """Decorated above @staticmethod."""

    @io
    def __call__(self) -> None:
        """Decorated as the object's call."""


def test_a_decorator_is_found_through_partial_staticmethod_and_call() -> None:
    """A partial of an @io function went to a worker process, without its timeout."""
    with Engine(threads=1, processes=1) as engine:
        task = engine.submit(functools.partial(fetch, "https://"), "x")
        assert task.result(STUCK) == "https://x"
        tasks: list[Any] = [task, engine.submit(Service.above), engine.submit(Service())]
        assert [each.lane for each in tasks] == [Lane.THREAD] * 3


def test_a_partial_that_holds_itself_is_refused() -> None:
    """It sent submit into an endless loop."""
    knot = functools.partial(abs)
    knot.__setstate__((knot, (), {}, {}))  # type: ignore[attr-defined]  # how pickle would
    with Engine(threads=1) as engine, pytest.raises(TypeError, match="holds itself"):
        engine.submit(knot)
    knot.__setstate__((abs, (), {}, {}))  # type: ignore[attr-defined]  # or nobody could collect it


MAIN = """
import functools
from engine import Engine

@functools.cache
def model(name):
    print("loaded", flush=True)
    return {"name": name}

def predict(x):
    return model("m")["name"] + x

@functools.lru_cache
def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

with Engine(processes=1) as engine:
    print(engine.run(predict, "1"), engine.run(predict, "2"), engine.run(fibonacci, 60))
"""


def test_cached_functions_of_the_main_script_travel_and_keep_their_cache_in_the_worker() -> None:
    """The natural way to load a model once: pickle only knows such functions by name, and __main__ is another there."""
    run = subprocess.run([sys.executable, "-c", MAIN], capture_output=True, text=True, timeout=60, cwd=REPOSITORY)
    assert run.returncode == 0, run.stderr
    assert "m1 m2 1548008755920" in run.stdout
    assert run.stdout.count("loaded") == 1


async def test_what_closures_captured_is_let_go() -> None:
    """Five hundred of them, with all they held, used to be kept."""
    kept = []
    async with Engine(processes=1, threads=1) as engine:
        for _ in range(3 * MAX_CLOSURES):
            captured = hostile.Custom()
            kept.append(weakref.ref(captured))
            await engine.run(_defaulting(captured))
            await engine.run(_holding(captured))
            del captured
        gc.collect()
        alive = sum(each() is not None for each in kept)
        assert alive <= MAX_CLOSURES + 2


def _defaulting(captured: Any) -> Any:
    return lambda held=captured: held is None


def _holding(captured: Any) -> Any:
    def closure() -> bool:
        return captured is None

    return closure


def test_a_task_submitted_to_a_group_while_a_sibling_fails_is_cancelled() -> None:
    """1. submit looks: nobody failed. 2. A sibling fails; all that is listed is cancelled. 3. The new one is listed."""
    release = threading.Event()

    def wait() -> None:
        release.wait(STUCK)

    def submit_one_while_another_fails(engine: BlockingEngine) -> None:
        with engine.options(lane="thread").group() as group:
            submit: Any = group._engine.submit

            def submit_after_the_failure(fn: Any, *args: Any) -> Any:
                failing = submit(hostile.raise_hostile, "Frozen")
                group._tasks.append(failing)
                with pytest.raises(hostile.Frozen):
                    failing.result(STUCK)
                group._settled(failing)
                return submit(fn, *args)

            vars(group._engine)["submit"] = submit_after_the_failure  # the forced order
            assert group.submit(wait).cancelled()

    with Engine(threads=3, grace=0.0) as engine:
        try:
            with pytest.raises(ExceptionGroup):
                submit_one_while_another_fails(engine)
        finally:
            release.set()


# -- recall -----------------------------------------------------------------------------------------------------------


async def test_a_packet_taken_in_the_middle_of_a_recall_leaves_the_numbers_rising(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A7: 1. recall receives packets 2 and 3. 2. The worker takes 4. 3. What recall sent again came behind 4, with a
    lower number: a death then blamed tasks that had never begun. Now nothing is sent again under its old number."""
    send_ahead(monkeypatch, 6)
    async with Engine(processes=1, grace=0.2) as engine:
        await engine.run(abs, -1)
        release = threading.Event()
        lane = engine._core.processes
        (worker,) = lane._pool.workers
        blocked = engine.submit(_wait_for_line, _pipe := os.pipe())
        os.close(_pipe[0])
        try:
            tasks = [engine.submit(abs, -i) for i in range(5)]
            await eventually_async(lambda: worker.count() == 6)
            before = list(worker._in_flight)
            assert tasks[2].cancel()
            await eventually_async(lambda: worker.count() == 5)
            after = [number for number in worker._in_flight if number not in before]
            assert min(after) > max(before)
        finally:
            release.set()
            os.close(_pipe[1])
            blocked.cancel()
        assert await asyncio.gather(*(task for task in tasks if not task.cancelled())) == [0, 1, 3, 4]


def _wait_for_line(pipe: tuple[int, int]) -> None:
    threading.Event().wait(STUCK)
