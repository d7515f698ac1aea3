"""Calls that must pass ``mypy --strict``: they are part of its ordinary run, and are never executed."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from typing import assert_type

from engine import BlockingEngine, BlockingTaskGroup, Engine, Lane, Priority, Retry, Shared, Task, cpu, io, task
from engine.jobs import Job, JobCall, Jobs, JobTask, Reply
from engine.testing import CHECKS, InlineEngine, LaneKit, VirtualClock, check_lane


def plain(number: int, text: str = "", *, flag: bool = False) -> list[str]:
    return [text] * number


async def coroutine(number: int) -> bytes:
    return b"x" * number


@cpu(timeout=30, retry=Retry(max_attempts=3))
def decorated(number: int) -> float:
    return float(number)


@io
def bare(text: str) -> int:
    return len(text)


@task(lane=Lane.LOOP, priority=Priority.HIGH, name="it")
async def decorated_coroutine(number: int) -> str:
    return str(number)


class Work:
    """A callable object with a method."""

    def __call__(self, number: int) -> str:
        return str(number)

    def method(self, number: int) -> bytes:
        return bytes(number)


async def numbers() -> AsyncIterator[int]:
    yield 1


async def submit_and_run(engine: Engine) -> None:
    assert_type(engine.submit(plain, 1), Task[list[str]])
    assert_type(engine.submit(plain, 1, "x", flag=True), Task[list[str]])
    assert_type(engine.submit(plain, number=1, text="x"), Task[list[str]])
    assert_type(engine.submit(coroutine, 1), Task[bytes])
    assert_type(engine.submit(decorated, 1), Task[float])
    assert_type(engine.submit(bare, "x"), Task[int])
    assert_type(engine.submit(decorated_coroutine, 1), Task[str])
    assert_type(engine.submit(Work(), 1), Task[str])
    assert_type(engine.submit(Work().method, 1), Task[bytes])
    assert_type(engine.submit(functools.partial(plain, 1), text="x"), Task[list[str]])
    assert_type(engine.submit(lambda: 5), Task[int])
    assert_type(await engine.submit(plain, 1), list[str])
    assert_type(await engine.submit(coroutine, 1), bytes)
    assert_type(await engine.run(plain, 1), list[str])
    assert_type(await engine.run(coroutine, 1), bytes)
    assert_type(engine.submit(plain, 1).result(), list[str])
    assert_type(engine.submit(plain, 1).result(timeout=1.0), list[str])
    assert_type(engine.submit(plain, 1).exception(), BaseException | None)
    view = engine.options(lane="thread", timeout=5, priority=Priority.LOW, retry=Retry())
    assert_type(await view.run(plain, 1), list[str])
    assert_type(view.submit(coroutine, 1), Task[bytes])


async def through_asyncio(engine: Engine) -> None:
    assert_type(await asyncio.gather(engine.submit(plain, 1), engine.submit(coroutine, 1)), tuple[list[str], bytes])
    assert_type(await asyncio.wait_for(engine.submit(plain, 1), 1), list[str])
    assert_type(await asyncio.shield(engine.submit(coroutine, 1)), bytes)
    async with asyncio.TaskGroup() as group:
        assert_type(group.create_task(engine.run(plain, 1)), asyncio.Task[list[str]])
    engine.submit(plain, 1).add_done_callback(lambda done: print(done.result()))


async def through_map_and_group(engine: Engine) -> None:
    async for strings in engine.map(plain, [1, 2]):
        assert_type(strings, list[str])
    async for octets in engine.map(coroutine, numbers(), ordered=False, window=3):
        assert_type(octets, bytes)
    async with engine.group() as group:
        assert_type(group.submit(plain, 1), Task[list[str]])
        assert_type(group.options(timeout=5).submit(coroutine, 1), Task[bytes])
        assert_type(group.submit(coroutine, 1), Task[bytes])


def blocking() -> None:
    with Engine(processes=1) as engine:
        assert_type(engine, BlockingEngine)
        assert_type(engine.submit(plain, 1), Task[list[str]])
        assert_type(engine.run(plain, 1), list[str])
        assert_type(engine.run(coroutine, 1), bytes)
        for strings in engine.map(plain, [1, 2]):
            assert_type(strings, list[str])
        with engine.group() as group:
            assert_type(group, BlockingTaskGroup)
            assert_type(group.submit(coroutine, 1), Task[bytes])
        assert_type(engine.options(timeout=5).run(decorated, 1), float)


def decorated_functions_stay_what_they_are() -> None:
    assert_type(decorated(1), float)
    assert_type(bare("x"), int)
    same: Callable[[int], float] = decorated
    assert same is decorated


def a_task_of_a_subtype_is_a_task(engine: Engine) -> Task[object]:
    narrow: Task[list[str]] = engine.submit(plain, 1)
    return narrow


async def a_shared_object_passes_for_what_it_holds(engine: Engine) -> None:
    shared = engine.share([1, 2])
    assert_type(shared, Shared[list[int]])
    assert_type(shared.value, list[int])
    assert_type(shared.size_bytes, int)
    assert_type(engine.submit(sum_of, shared), Task[int])
    assert_type(await engine.run(sum_of, shared), int)
    with Engine() as blocking, blocking.options(timeout=5).share("text") as text:
        assert_type(text, Shared[str])
        assert_type(blocking.run(bare, text), int)


def sum_of(numbers: list[int]) -> int:
    return sum(numbers)


def takes_a_blocking_engine(engine: BlockingEngine) -> int:
    return engine.run(bare, "x")


def an_inline_engine_is_one(engine: InlineEngine, clock: VirtualClock) -> None:
    assert_type(engine.submit(plain, 1), Task[list[str]])
    assert_type(engine.run(coroutine, 1), bytes)
    assert_type(list(engine.map(decorated, [1])), list[float])
    assert_type(engine.clock, VirtualClock)
    assert_type(clock.now(), float)
    assert_type(takes_a_blocking_engine(engine), int)
    with InlineEngine(clock=clock, autorun=False, processes=1) as another:
        assert_type(another, InlineEngine)
        another.run_next()


def a_lane_is_checked() -> None:
    check_lane(Lane.THREAD, Engine)
    kit = LaneKit(Lane.LOOP)
    assert_type(kit.engine(3), Engine)
    assert_type(list(CHECKS), list[str])


def jobs_are_typed_as_their_functions(jobs: Jobs) -> None:
    @jobs.task(queue="mail", timeout=5, priority="high", retry=Retry())
    def send(to: str, copies: int = 1) -> list[str]:
        return [to] * copies

    @jobs.task
    async def fetch(url: str) -> bytes:
        return url.encode()

    assert_type(send("x", copies=2), list[str])
    assert_type(send.enqueue(to="x"), Reply[Job])
    assert_type(send.options(delay=5, lock="x").enqueue("x", 2), Reply[Job])
    assert_type(fetch.call("x").then(send.partial(copies=2), result_as="to"), JobCall)
    assert_type(jobs.enqueue(fetch.call(url="x")), Reply[Job])
    assert_type(jobs.enqueue_many(send.options(queue="q"), [{"to": "x"}]).result(), list[int])
    assert_type(jobs.list(states="failed").result(5.0), list[Job])
    print(jobs.tasks["x"], JobTask)


async def jobs_are_awaited(jobs: Jobs, fetch: JobTask[[str], bytes]) -> None:
    job = await fetch.enqueue("x")
    assert_type(job, Job)
    assert_type(await job.wait(timeout=5), Job)
    assert_type(await jobs.get(job.id), Job)
    assert_type(fetch("x"), bytes)
