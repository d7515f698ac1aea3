"""The handle: its outcome, its callbacks, the asyncio protocol, from several loops and threads."""

import asyncio
import concurrent.futures
import contextvars
import functools
import gc
import itertools
import logging
import os
import pickle
import random
import selectors
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, Lane, PickleError, Task, TaskInfo, TaskState
from tests.support import eventually, eventually_async

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")

#: Interleavings of the same-tick test; the full campaign takes 100,000.
INTERLEAVINGS = int(os.environ.get("ENGINE_INTERLEAVINGS", "2000"))


class Gate:
    """Holds functions until it is opened."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.opened = threading.Event()

    def hold(self, value: object = None) -> object:
        self.started.set()
        assert self.opened.wait(30)
        return value

    async def hold_async(self, value: object = None) -> object:
        self.started.set()
        while not self.opened.is_set():
            await asyncio.sleep(0.001)
        return value


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Give a gate that is open at the end, so that no thread is left behind it."""
    gate = Gate()
    yield gate
    gate.opened.set()


def fail(text: str = "on purpose") -> None:
    raise ValueError(text)


async def fail_async(text: str = "on purpose") -> None:
    raise ValueError(text)


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


# -- its outcome ------------------------------------------------------------------------------------------------------


async def test_a_completed_task_gives_its_result_to_everyone_who_asks() -> None:
    async with Engine() as engine:
        task = engine.submit(double, 4)
        assert not task.done()
        assert await task == 8
        assert await task == 8
        assert (task.result(), task.exception(), task.done(), task.cancelled()) == (8, None, True, False)


async def test_a_failed_task_raises_what_its_function_raised() -> None:
    async with Engine(threads=1) as engine:
        for task in (engine.options(lane="thread").submit(fail), engine.submit(fail_async)):
            with pytest.raises(ValueError, match="on purpose"):
                await task
            with pytest.raises(ValueError, match="on purpose"):
                task.result()
            assert isinstance(task.exception(), ValueError)
            assert (task.state, task.done(), task.cancelled()) == (TaskState.FAILED, True, False)


async def test_raising_a_failure_again_and_again_does_not_lengthen_its_traceback() -> None:
    """Else it would keep every asker's frame, and what is in it, alive."""
    async with Engine(threads=1) as engine:
        task = engine.options(lane="thread").submit(fail)
        lengths = []
        for _ in range(10):
            with pytest.raises(ValueError, match="on purpose") as caught:
                await task
            lengths.append(len(traceback.extract_tb(caught.value.__traceback__)))
    assert lengths[-1] == lengths[0]


async def test_result_on_a_loops_thread_never_waits(gate: Gate) -> None:
    async with Engine(threads=1) as engine:
        task = engine.options(lane="thread").submit(gate.hold, 5)
        for ask in (task.result, task.exception):
            with pytest.raises(
                asyncio.InvalidStateError, match=r"expected task 1 \(Gate\.hold\) to be done, .*; use await"
            ):
                ask()
        gate.opened.set()
        await task
        assert task.result() == 5


def test_result_on_a_plain_thread_waits(gate: Gate) -> None:
    with Engine(threads=1) as engine:
        task = engine.options(lane="thread").submit(gate.hold, 5)
        with pytest.raises(TimeoutError, match=r"expected task 1 \(Gate\.hold\) to be done within 0\.01 s, got"):
            task.result(timeout=0.01)
        with pytest.raises(TimeoutError):
            task.exception(timeout=0)
        assert not task.done()
        gate.opened.set()
        assert task.result(timeout=10) == 5
        assert task.exception() is None


@pytest.mark.parametrize(
    "timeout", [-1, float("nan"), float("inf"), 1e18, True, "1", 10**400], ids=lambda v: str(v)[:9]
)
def test_a_bad_timeout_is_refused_whether_or_not_the_task_is_done(gate: Gate, timeout: Any) -> None:
    """Row T5."""
    with Engine(threads=1) as engine:
        task = engine.options(lane="thread").submit(gate.hold)
        for _ in range(2):
            for ask in (task.result, task.exception):
                with pytest.raises(ValueError, match=r"^expected timeout to be .+, got .+"):
                    ask(timeout=timeout)
            gate.opened.set()
            task.result(timeout=10)


async def test_a_cancelled_task_raises_the_cancelled_error_of_the_place(gate: Gate) -> None:
    async with Engine(threads=1) as engine:
        task = engine.options(lane="thread").submit(gate.hold)
        assert task.cancel("enough")
        with pytest.raises(asyncio.CancelledError, match="enough"):
            await task
        with pytest.raises(asyncio.CancelledError, match="enough"):
            task.result()
        with pytest.raises(asyncio.CancelledError):
            task.exception()
        elsewhere = await asyncio.to_thread(_what_result_raises, task)
        assert isinstance(elsewhere, concurrent.futures.CancelledError)
        assert str(elsewhere) == "enough"
        gate.opened.set()


def _what_result_raises(task: Task[Any]) -> BaseException | None:
    try:
        task.result()
    except BaseException as error:
        return error
    return None


async def test_cancel_says_whether_the_task_was_live(gate: Gate) -> None:
    """Row A5: twice, after done."""
    async with Engine(threads=1) as engine:
        done = engine.submit(double, 4)
        await done
        assert not done.cancel()
        assert done.result() == 8
        task = engine.options(lane="thread").submit(gate.hold)
        assert task.cancel()
        assert not task.cancel()
        assert task.cancelled()
        gate.opened.set()


# -- what it is -------------------------------------------------------------------------------------------------------


async def test_a_task_says_what_it_is(gate: Gate) -> None:
    async with Engine(threads=1) as engine:
        task = engine.options(lane="thread", name="holder").submit(gate.hold)
        await eventually_async(gate.started.is_set)
        assert (task.id, task.name, task.lane, task.state, task.attempt) == (
            1, "holder", Lane.THREAD, TaskState.RUNNING, 1,
        )  # fmt: skip
        assert task.worker == "thread-1"
        assert repr(task) == "<Task 1 holder running in thread>"
        assert task.completed_at is None
        gate.opened.set()
        await task
        assert task.worker == "thread-1"
        assert repr(task) == "<Task 1 holder completed in thread>"


async def test_timestamps_are_strictly_ordered_also_for_tasks_that_take_no_time() -> None:
    async with Engine(threads=2) as engine:
        before = time.time()
        thread = engine.options(lane="thread")
        tasks: list[Task[Any]] = [engine.submit(double, n) for n in range(100)]
        tasks += [thread.submit(abs, n) for n in range(100)]
        await asyncio.gather(*tasks)
        after = time.time()
        seen: list[Task[Any] | TaskInfo] = [*tasks, *engine.tasks()]
        for each in seen:
            assert each.started_at is not None
            assert each.completed_at is not None
            assert each.created_at < each.started_at < each.completed_at
            assert before - 1 < each.created_at < after + 1
        assert len(seen) == 400


async def test_timestamps_tell_how_long_it_waited_and_ran() -> None:
    go = threading.Event()
    async with Engine(threads=1) as engine:
        thread = engine.options(lane="thread")
        first, second = thread.submit(go.wait, 0.05), thread.submit(abs, -1)
        await second
        for seen in (first, engine.tasks()[0]):
            assert seen.started_at is not None
            assert seen.completed_at is not None
            assert seen.completed_at - seen.started_at > 0.045
        assert second.started_at is not None
        assert second.started_at - second.created_at > 0.045


async def test_a_task_that_never_started_has_no_start(gate: Gate) -> None:
    async with Engine(threads=1) as engine:
        thread = engine.options(lane="thread")
        thread.submit(gate.hold)
        task = thread.submit(abs, 1)
        task.cancel()
        gate.opened.set()
        assert task.started_at is None
        assert task.completed_at is not None
        assert task.created_at < task.completed_at
        assert task.attempt == 0
        assert task.worker is None


async def test_ids_ascend_and_are_unique_over_the_lanes() -> None:
    async with Engine(threads=1) as engine:
        tasks: list[Task[Any]] = [
            engine.submit(double, n) if n % 2 else engine.options(lane="thread").submit(abs, n) for n in range(10)
        ]
        assert [task.id for task in tasks] == list(range(1, 11))
        await asyncio.gather(*tasks)


async def test_a_task_does_not_pickle_and_says_what_to_do() -> None:
    async with Engine() as engine:
        task = engine.submit(double, 1)
        with pytest.raises((TypeError, PickleError), match="pass the task's result instead"):
            pickle.dumps(task)
        await task


# -- callbacks --------------------------------------------------------------------------------------------------------


async def test_callbacks_run_in_order_on_the_loop_that_added_them_in_their_context(gate: Gate) -> None:
    seen: list[tuple[int, str, int]] = []
    here = threading.get_ident()

    def look(number: int, _: Task[Any]) -> None:
        seen.append((number, variable.get(), threading.get_ident()))

    async with Engine(threads=1) as engine:
        task = engine.options(lane="thread").submit(gate.hold)
        for number in range(3):
            variable.set(f"value {number}")
            task.add_done_callback(functools.partial(look, number))
        context = contextvars.copy_context()
        context.run(variable.set, "given")
        task.add_done_callback(functools.partial(look, 3), context=context)
        variable.set("later")
        gate.opened.set()
        await task
        await eventually_async(lambda: len(seen) == 4)
    assert seen == [(0, "value 0", here), (1, "value 1", here), (2, "value 2", here), (3, "given", here)]


async def test_a_callback_added_after_the_end_is_called_soon_and_not_at_once() -> None:
    async with Engine() as engine:
        task = engine.submit(double, 4)
        await task
        seen: list[Task[int]] = []
        task.add_done_callback(seen.append)
        assert seen == []
        await eventually_async(lambda: seen == [task])


async def test_a_removed_callback_is_not_called(gate: Gate) -> None:
    seen: list[object] = []
    async with Engine(threads=1) as engine:
        task = engine.options(lane="thread").submit(gate.hold)
        task.add_done_callback(seen.append)
        task.add_done_callback(seen.append)
        task.add_done_callback(lambda _: seen.append("kept"))
        assert task.remove_done_callback(seen.append) == 2
        assert task.remove_done_callback(seen.append) == 0
        gate.opened.set()
        await task
        await eventually_async(lambda: seen)
    assert seen == ["kept"]


async def test_a_callback_that_raises_is_logged_and_disturbs_nobody(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    """Row N14, the loop's part."""
    seen: list[object] = []

    def broken(_: object) -> None:
        raise RuntimeError("broken callback")

    async with Engine(threads=1) as engine:
        task = engine.options(lane="thread").submit(gate.hold, 5)
        task.add_done_callback(broken)
        task.add_done_callback(seen.append)
        with caplog.at_level(logging.ERROR, "asyncio"):
            gate.opened.set()
            assert await task == 5
            await eventually_async(lambda: seen)
        assert "broken callback" in caplog.text
        assert await engine.run(double, 1) == 2


def test_a_callback_of_a_plain_thread_runs_on_the_engines_loop(gate: Gate) -> None:
    seen: list[str] = []
    with Engine(threads=1, name="mine") as engine:
        task = engine.options(lane="thread").submit(gate.hold)
        task.add_done_callback(lambda _: seen.append(threading.current_thread().name))
        gate.opened.set()
        task.result(timeout=10)
        eventually(lambda: seen == ["mine-loop"])


# -- asyncio's tools --------------------------------------------------------------------------------------------------


async def test_gather_takes_tasks_of_all_lanes() -> None:
    async with Engine(threads=2) as engine:
        thread = engine.options(lane="thread")
        tasks: list[Task[int]] = [engine.submit(double, 1), thread.submit(abs, -3), engine.submit(double, 2)]
        assert await asyncio.gather(*tasks) == [2, 3, 4]
        outcomes = await asyncio.gather(thread.submit(fail), thread.submit(abs, -1), return_exceptions=True)
        assert isinstance(outcomes[0], ValueError)
        assert outcomes[1] == 1


async def test_cancelling_a_gather_cancels_its_tasks(gate: Gate) -> None:
    async with Engine(threads=2) as engine:
        thread = engine.options(lane="thread")
        tasks = [thread.submit(gate.hold), thread.submit(gate.hold)]
        gathered = asyncio.gather(*tasks)
        await asyncio.sleep(0)
        gathered.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gathered
        assert all(task.cancelled() for task in tasks)
        gate.opened.set()


async def test_wait_gives_what_is_done_and_what_is_pending(gate: Gate) -> None:
    async with Engine(threads=2) as engine:
        thread = engine.options(lane="thread")
        slow, quick = thread.submit(gate.hold), thread.submit(abs, -1)
        waited: Any = [slow, quick]
        done, pending = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        assert (done, pending) == ({quick}, {slow})
        gate.opened.set()
        done, pending = await asyncio.wait(waited)
        assert (done, pending) == ({quick, slow}, set())


async def test_as_completed_gives_each_result_once() -> None:
    async with Engine(threads=2) as engine:
        tasks: Any = [engine.options(lane="thread").submit(abs, -n) for n in range(20)]
        assert sorted([await each for each in asyncio.as_completed(tasks)]) == list(range(20))


async def test_wait_for_returns_after_its_timeout_whatever_the_task_does(gate: Gate) -> None:
    """Row A2: and so the task is cancelled."""
    async with Engine(threads=1, grace=0.05) as engine:
        task = engine.options(lane="thread").submit(gate.hold)
        await eventually_async(gate.started.is_set)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(task, 0.01)
        assert task.cancelled()
        assert not gate.opened.is_set()
        gate.opened.set()


async def test_wait_for_gives_a_result_that_comes_in_time() -> None:
    async with Engine(threads=1) as engine:
        assert await asyncio.wait_for(engine.options(lane="thread").submit(abs, -1), 30) == 1
        assert await asyncio.wait_for(engine.submit(double, 1), 30) == 2


async def test_cancelling_an_await_cancels_the_task(gate: Gate) -> None:
    """Row A2."""
    async with Engine(threads=1) as engine:
        task = engine.options(lane="thread").submit(gate.hold)

        awaiting = asyncio.Event()

        async def wait() -> object:
            awaiting.set()
            return await task

        waiter = asyncio.create_task(wait())
        await awaiting.wait()
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert task.cancelled()
        gate.opened.set()


async def test_a_shield_keeps_the_task(gate: Gate) -> None:
    """Row A2."""
    async with Engine(threads=1) as engine:
        task = engine.options(lane="thread").submit(gate.hold, 5)
        shield = asyncio.shield(task)
        shield.cancel()
        with pytest.raises(asyncio.CancelledError):
            await shield
        assert not task.done()
        gate.opened.set()
        assert await task == 5


async def test_a_running_process_task_that_is_cancelled_is_really_killed(tmp_path: Path) -> None:
    """Row A2: where run_in_executor would let it run on."""
    marker = tmp_path / "pid"
    async with Engine(processes=1, grace=0.1) as engine:
        task = engine.submit(_spin, str(marker))
        pid = int(await eventually_async(lambda: marker.exists() and marker.read_text()))
        assert task.cancel()
        assert task.cancelled()
        await eventually_async(lambda: not _alive(pid))
        assert await engine.run(abs, -5) == 5


def _spin(marker: str) -> None:
    signal.signal(signal.SIGURG, signal.SIG_IGN)  # deaf to the polite request too
    with open(marker + ".new", "w") as file:
        file.write(str(os.getpid()))
    os.rename(marker + ".new", marker)
    while True:
        pass


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_a_task_group_of_asyncio_takes_run() -> None:
    async with Engine(threads=2) as engine:
        thread = engine.options(lane="thread")
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(thread.run(abs, -n)) for n in range(5)]
        assert [task.result() for task in tasks] == [0, 1, 2, 3, 4]
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(thread.run(fail))
        assert caught.group_contains(ValueError, match="on purpose")


async def test_asyncios_timeout_ends_an_await() -> None:
    async with Engine() as engine:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await engine.run(asyncio.sleep, 30)
        assert [info.state for info in engine.tasks()] == [TaskState.CANCELLED]


async def test_an_await_outside_asyncio_is_an_error_not_a_hang(gate: Gate) -> None:
    async with Engine(threads=1) as engine:
        task = engine.options(lane="thread").submit(gate.hold)
        steps = task.__await__()
        assert next(steps) is task
        with pytest.raises(RuntimeError, match="await was not used with a task of asyncio"):
            next(steps)
        gate.opened.set()


# -- several loops ----------------------------------------------------------------------------------------------------


def _loop_factories() -> list[Any]:
    factories: list[Any] = [pytest.param(asyncio.new_event_loop, id="asyncio")]
    try:
        import uvloop
    except ImportError:
        return factories
    return [*factories, pytest.param(uvloop.new_event_loop, id="uvloop")]


@pytest.mark.parametrize("factory", _loop_factories())
def test_one_task_is_awaited_from_many_loops_at_once(
    gate: Gate, factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Row N15: each is woken on its own loop, through each of asyncio's tools."""
    outcomes: list[object] = []
    ready = threading.Barrier(5)

    async def await_it(task: Task[Any]) -> None:
        waiting = [
            asyncio.ensure_future(asyncio.wait_for(task, 30)),
            asyncio.ensure_future(asyncio.shield(task)),
            asyncio.gather(task),
        ]
        await asyncio.sleep(0)
        ready.wait(10)
        outcomes.append(await task)
        outcomes.extend([await waiting[0], await waiting[1], (await waiting[2])[0]])

    def own_loop(task: Task[Any]) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(await_it(task))

    with Engine(threads=1) as engine:
        task = engine.options(lane="thread").submit(gate.hold, "it")
        threads = [threading.Thread(target=own_loop, args=(task,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        ready.wait(10)
        gate.opened.set()
        for thread in threads:
            thread.join(30)
    assert outcomes == ["it"] * 16


def test_a_loop_that_closed_before_the_result_came_disturbs_nobody(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    """Row A1: no "Event loop is closed" trace."""
    with Engine(threads=1) as engine, caplog.at_level(logging.DEBUG):
        task = engine.options(lane="thread").submit(gate.hold, 5)
        loop = asyncio.new_event_loop()

        async def add() -> None:
            task.add_done_callback(print)

        loop.run_until_complete(add())
        loop.close()
        gate.opened.set()
        assert task.result(timeout=10) == 5
        assert engine.run(double, 2) == 4
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_get_loop_answers_the_loop_that_asks(gate: Gate) -> None:
    async with Engine(threads=1) as engine:
        task = engine.options(lane="thread").submit(gate.hold)
        home = asyncio.get_running_loop()
        assert task.get_loop() is home
        assert await asyncio.to_thread(task.get_loop) is home

        async def elsewhere() -> bool:
            return task.get_loop() is asyncio.get_running_loop() is not home

        assert await asyncio.to_thread(asyncio.run, elsewhere())
        gate.opened.set()


# -- the same tick ----------------------------------------------------------------------------------------------------


class FakeSelector(selectors.DefaultSelector):
    """Never waits: it moves its loop's clock instead."""

    skipped = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout:
            self.skipped += timeout
        return super().select(0 if timeout is not None else None)


class FakeClockLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only when it has nothing to do."""

    def __init__(self) -> None:
        self.fake = FakeSelector()
        super().__init__(self.fake)

    def time(self) -> float:
        return self.fake.skipped


def test_a_cancellation_that_meets_a_timeout_or_a_result_in_one_tick_is_never_swallowed() -> None:
    """Row A3: whoever comes first, the waiter that was cancelled ends cancelled, and the task in one state."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    endings: set[tuple[str, TaskState]] = set()

    async def release(event: asyncio.Event) -> str:
        await event.wait()
        return "done"

    async def wait(task: Task[str], limit: float) -> str:
        async with asyncio.timeout(limit):
            return await task

    async def one(engine: Engine) -> None:
        loop = asyncio.get_running_loop()
        event = asyncio.Event()
        task = engine.submit(release, event)
        cancelled_live = False
        waiter = asyncio.create_task(wait(task, rng.choice([1.0, 1.0, 2.0])))

        def cancel() -> None:
            nonlocal cancelled_live
            cancelled_live = waiter.cancel()

        acts: list[Callable[[], object]] = [event.set, cancel, task.cancel, lambda: None]
        rng.shuffle(acts)
        for act in acts[: rng.randrange(1, 4)]:
            depth = rng.randrange(3)  # as many turns of the loop later, in the same instant

            def at(depth: int = depth, act: Callable[[], object] = act) -> None:
                if depth:
                    loop.call_soon(at, depth - 1, act)
                else:
                    act()

            loop.call_at(loop.time() + 1.0, at)
        (outcome,) = await asyncio.gather(waiter, return_exceptions=True)
        if cancelled_live:
            assert waiter.cancelled(), f"the cancellation was swallowed: {outcome!r}"
        event.set()
        (left,) = await asyncio.gather(task, return_exceptions=True)
        assert task.done()
        assert (task.state is TaskState.COMPLETED) == (left == "done")
        endings.add((type(outcome).__name__, task.state))

    async def main() -> None:
        async with Engine() as engine:
            for _ in range(INTERLEAVINGS):
                await one(engine)
            snapshot = engine.snapshot()
            assert snapshot.count(TaskState.COMPLETED) + snapshot.count(TaskState.CANCELLED) == INTERLEAVINGS

    with asyncio.Runner(loop_factory=FakeClockLoop) as runner:
        runner.run(main())
    met = itertools.product(["str"], [TaskState.COMPLETED])
    assert {*met, ("TimeoutError", TaskState.CANCELLED), ("CancelledError", TaskState.CANCELLED)} <= endings


# -- failures that nobody asked about ---------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [fail, fail_async])
async def test_a_failure_that_nobody_retrieved_is_logged_once_with_its_traceback(
    function: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """As soon as the task is dropped: no cycle waits for the collector."""
    gc.collect()
    gc.disable()
    try:
        async with Engine(threads=1, default_lane="thread") as engine:
            with caplog.at_level(logging.ERROR, "engine"):
                task = engine.submit(function, "unseen")
                await eventually_async(task.done)
                assert caplog.records == []
                del task
                await eventually_async(lambda: caplog.records)
    finally:
        gc.enable()
    gc.collect()
    (record,) = caplog.records
    assert "failed and nobody retrieved its exception" in record.getMessage()
    assert "unseen" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[0] is ValueError


@pytest.mark.parametrize("retrieve", ["await", "gather", "result", "exception"])
async def test_a_failure_that_was_retrieved_is_not_logged(retrieve: str, caplog: pytest.LogCaptureFixture) -> None:
    async with Engine(threads=1) as engine:
        with caplog.at_level(logging.ERROR, "engine"):
            task: Task[Any] = engine.options(lane="thread").submit(fail)
            await eventually_async(task.done)
            if retrieve == "exception":
                assert task.exception() is not None
            elif retrieve == "gather":
                await asyncio.gather(task, return_exceptions=True)
            else:
                with pytest.raises(ValueError, match="on purpose"):
                    task.result() if retrieve == "result" else await task
            del task
            gc.collect()
    assert caplog.records == []
