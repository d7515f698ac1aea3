"""Long arguments of nested objects are pickled on a thread, and the loop turns meanwhile."""

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from engine import Engine, TaskTimeout
from engine._lanes._process.feeder import LONG_AT_ONCE
from engine.errors import PickleError, WorkerStartupError
from tests.support import eventually_async

STUCK = 30.0  #: seconds; a bound for what never happens, not a measurement


@pytest.fixture(params=["native", "loky"])
def backend(request: pytest.FixtureRequest) -> Any:
    return request.param


async def within(awaitable: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(awaitable, STUCK)


def nested(last: object = 0, size: int = 40_000) -> list[object]:
    """Give what takes 600 kB as a pickle, and ends with ``last``."""
    return [*[{"n": n, "text": f"text {n}"} for n in range(size // 2)], last]


class Pickled:
    """Arrives as "pickled", after ``do`` was called where it is pickled."""

    def __init__(self, do: Callable[[], object]) -> None:
        self.do = do

    def __reduce__(self) -> tuple[Any, ...]:
        self.do()
        return str, ("pickled",)


class Gate:
    """A Pickled that says when it is reached, and waits for ``open``."""

    def __init__(self) -> None:
        self.reached, self.open = threading.Event(), threading.Event()
        self.argument = nested(Pickled(self._pass))

    def _pass(self) -> None:
        self.reached.set()
        assert self.open.wait(STUCK)


def last_of(items: list[Any]) -> Any:
    return items[-1]


def fail() -> None:
    raise ValueError("no")


async def test_what_is_long_is_pickled_on_another_thread(backend: Any) -> None:
    where: list[int] = []
    mark = Pickled(lambda: where.append(threading.get_ident()))
    async with Engine(processes=1, process_backend=backend) as engine:
        assert await within(engine.run(last_of, [mark])) == "pickled"
        assert where == [threading.get_ident()]
        where.clear()
        assert await within(engine.run(last_of, nested(mark))) == "pickled"
        assert len(where) == 1
        assert where != [threading.get_ident()]
        assert await within(engine.run(len, nested())) == 20_001


async def test_the_loop_turns_and_others_run_while_it_is_pickled() -> None:
    async with Engine(processes=1) as engine:
        gate = Gate()
        task = engine.submit(last_of, gate.argument)
        await eventually_async(gate.reached.is_set, STUCK)
        assert await within(engine.run(os.getpid)) != os.getpid()
        assert not task.done()
        gate.open.set()
        assert await within(task) == "pickled"


async def test_what_is_cancelled_while_it_is_pickled_never_runs() -> None:
    async with Engine(processes=1) as engine:
        gate = Gate()
        task = engine.submit(last_of, gate.argument)
        await eventually_async(gate.reached.is_set, STUCK)
        assert task.cancel()
        assert task.cancelled()
        gate.open.set()
        assert await within(engine.run(last_of, nested(3))) == 3
        assert task.started_at is None


async def test_a_total_timeout_strikes_while_it_is_pickled() -> None:
    async with Engine(processes=1) as engine:
        gate = Gate()
        task = engine.options(total_timeout=0.05).submit(last_of, gate.argument)
        with pytest.raises(TaskTimeout):
            await within(task)
        gate.open.set()


async def test_what_cannot_be_pickled_is_told_as_ever() -> None:
    async with Engine(processes=1) as engine:
        with pytest.raises(PickleError, match=r"arguments of task .* \(last_of\) to be picklable, got ValueError: no"):
            await within(engine.run(last_of, nested(Pickled(fail))))
        assert await within(engine.run(last_of, nested(3))) == 3


async def test_what_has_no_importable_name_travels_by_value() -> None:
    def local(n: int) -> int:
        return n + 1

    async with Engine(processes=1) as engine:
        found = await within(engine.run(last_of, nested(local)))
        assert found(1) == 2


async def test_more_than_may_be_held_wait_in_the_queue_and_keep_their_order(backend: Any) -> None:
    order: list[int] = []
    async with Engine(processes=1, process_backend=backend) as engine:
        gate = Gate()
        tasks = [engine.submit(last_of, gate.argument)]
        tasks += [engine.submit(last_of, nested(n)) for n in range(2 * LONG_AT_ONCE)]
        for task in tasks:
            task.add_done_callback(lambda task: order.append(task.result()))
        await eventually_async(lambda: engine.snapshot().given_back > 0, STUCK)
        feeder = engine._core.processes._feeder
        assert feeder._long_count == LONG_AT_ONCE
        gate.open.set()
        assert await within(asyncio.gather(*tasks)) == ["pickled", *range(2 * LONG_AT_ONCE)]
        assert order == ["pickled", *range(2 * LONG_AT_ONCE)]
        assert [task.attempt for task in tasks] == [1] * len(tasks)
        assert feeder._long_count == 0


async def test_a_stop_does_not_wait_for_what_is_pickled() -> None:
    gate = Gate()
    async with Engine(processes=1, grace=0.1) as engine:
        task = engine.submit(last_of, gate.argument)
        await eventually_async(gate.reached.is_set, STUCK)
        report = await within(engine.stop(timeout=0))
        assert task.cancelled()
        assert (report.submitted, report.cancelled) == (1, 1)
    gate.open.set()


async def test_what_is_packed_fails_when_no_worker_can_start() -> None:
    async with Engine(processes=1, initializer=fail) as engine:
        with pytest.raises(WorkerStartupError):
            await within(engine.run(len, nested()))


async def test_a_worker_is_started_for_what_was_packed_after_the_last_one_left() -> None:
    async with Engine(processes=1, worker_idle_timeout=0.05) as engine:
        gate = Gate()
        task = engine.submit(last_of, gate.argument)
        await eventually_async(lambda: gate.reached.is_set() and not engine.snapshot().workers, STUCK)
        gate.open.set()
        assert await within(task) == "pickled"


async def test_a_child_forked_while_it_is_pickled_ends_there() -> None:
    children: list[int] = []

    def fork() -> None:
        children.append(os.fork())

    async with Engine(processes=1) as engine:
        assert await within(engine.run(last_of, nested(Pickled(fork)))) == "pickled"
    assert os.waitpid(children[0], 0) == (children[0], 0)


async def test_without_a_thread_it_is_pickled_here(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Engine(processes=1) as engine:
        assert await within(engine.run(last_of, [1])) == 1

        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            assert await within(engine.run(last_of, nested(3))) == 3


async def test_ctrl_c_where_it_is_pickled_here_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a thread the loop does it, so Ctrl-C may be raised in there: the task goes back to its place."""
    async with Engine(processes=1) as engine:
        assert await within(engine.run(last_of, [1])) == 1
        feeder = engine._core.processes._feeder
        do = feeder._long.do

        def interrupt(attempt: Any) -> None:
            monkeypatch.setattr(feeder._long, "do", do)
            raise KeyboardInterrupt

        monkeypatch.setattr(feeder._long, "do", interrupt)
        task = engine.submit(last_of, nested(3))
        with pytest.raises(KeyboardInterrupt):
            engine._core.processes._pool.pump()
        assert await within(task) == 3
        assert task.attempt == 1
        assert feeder._long_count == 0
