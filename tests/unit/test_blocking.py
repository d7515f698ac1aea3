"""The same engine without an event loop of one's own."""

# ruff: noqa: PT012  (leaving a block is what is tested, so the block is inside raises)

import asyncio
import concurrent.futures
import gc
import itertools
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from engine import (
    BlockingEngine,
    BlockingTaskGroup,
    Engine,
    EngineClosed,
    EngineFull,
    NestedDeadlock,
    PickleError,
    TaskState,
    TaskTimeout,
    checkpoint,
)
from tests.support import eventually, eventually_async


def small(**settings: Any) -> Engine:
    """Make an engine with two threads."""
    return Engine(**{"threads": 2, "coroutines": 2, "default_lane": "thread", "grace": 0.05, **settings})


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Give an event that is set at the end, so that nothing is left behind it."""
    event = threading.Event()
    yield event
    event.set()


def fail(text: str = "on purpose") -> None:
    raise ValueError(text)


def until_cancelled() -> None:
    """Run until asked to stop."""
    while True:
        checkpoint()
        threading.Event().wait(0.001)


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


async def numbers(stop: int) -> AsyncIterator[int]:
    for number in range(stop):
        await asyncio.sleep(0)
        yield number


# -- running ----------------------------------------------------------------------------------------------------------


def test_with_gives_a_blocking_engine() -> None:
    with small(name="mine") as engine:
        assert isinstance(engine, BlockingEngine)
        assert engine.run(abs, -1) == 1
        assert engine.run(double, 2) == 4
        assert engine.submit(abs, -3).result(10) == 3
        assert engine.options(name="x").run(abs, -4) == 4
        assert [info.name for info in engine.tasks()] == ["abs", "double", "abs", "x"]
        assert engine.get(1) == engine.tasks()[0]
        assert engine.snapshot().count(TaskState.COMPLETED) == 4
        assert any("mine-loop" in thread.name for thread in threading.enumerate())
        assert "mine" in repr(engine)


def test_it_may_be_made_by_name_and_checks_its_settings() -> None:
    with BlockingEngine(threads=1, default_lane="thread") as engine:
        assert engine.run(abs, -1) == 1
    with pytest.raises(ValueError, match=r"^expected threads to be a positive integer, got 0$"):
        BlockingEngine(threads=0)


def test_it_lives_once() -> None:
    made = small()
    with made as engine:
        with pytest.raises(RuntimeError, match="expected an engine that has not been started"):
            made.__enter__()
        with pytest.raises(RuntimeError, match="expected an engine that has not been started"):
            engine.__enter__()
    with pytest.raises(RuntimeError, match="expected an engine that has not been started"):
        made.__enter__()


def test_stopping_one_that_never_started_reports_that_nothing_was_done() -> None:
    engine = BlockingEngine(threads=1, default_lane="thread")
    assert engine.stop(timeout=1).submitted == 0
    with engine:
        assert engine.run(abs, -1) == 1
    assert engine.stop().submitted == 1


def test_a_view_says_what_was_said() -> None:
    with small(name="mine") as engine:
        assert repr(engine) == "<BlockingEngine 'mine' running>"
        view = engine.options(lane="thread", timeout=5).options(name="x")
        assert repr(view) == "<BlockingEngine 'mine' running with lane='thread', timeout=5.0, name='x'>"
        with view.group() as group:
            assert repr(group) == "<BlockingTaskGroup open, 0 unfinished>"
        assert repr(group) == "<BlockingTaskGroup left, 0 unfinished>"


def test_the_options_of_a_group_are_for_what_is_submitted_through_them() -> None:
    with small() as engine:
        with pytest.raises(ExceptionGroup, match=r"^1 task\(s\) of the group failed") as caught:  # noqa: SIM117 - one statement each
            with engine.group() as group:
                sibling = group.submit(until_cancelled)
                task = group.options(name="mine").options(timeout=0.05, lane="thread").submit(until_cancelled)
        assert (task.name, sibling.name, sibling.cancelled()) == ("mine", "until_cancelled", True)
        assert [type(error) for error in caught.value.exceptions] == [TaskTimeout]
        with pytest.raises(RuntimeError, match="expected the group to be open"):
            group.options(name="late").submit(abs, 1)


def test_a_group_says_what_of_it_failed() -> None:
    with small() as engine:
        with pytest.raises(ExceptionGroup, match=r"^the block of the group failed$"), engine.group():
            raise OSError("of the block")
        with pytest.raises(ExceptionGroup, match=r"^the block of the group and 1 task\(s\) failed$"):  # noqa: SIM117 - one statement each
            with engine.group() as group:
                task = group.submit(fail)
                eventually(task.done)
                raise OSError("of the block")


def test_a_refused_wait_cancels_the_child_that_run_submitted() -> None:
    """The eleventh nested ``run`` of one thread raises NestedDeadlock; its child does not run on unseen."""

    def nest(depth: int) -> None:
        if depth:
            engine.run(nest, depth - 1)

    with small(threads=1) as engine:
        with pytest.raises(NestedDeadlock):
            engine.run(nest, 12)
        last = max(engine.tasks(), key=lambda info: info.id)
        assert (last.id, last.state, last.started_at) == (12, TaskState.CANCELLED, None)


def test_an_error_is_raised_by_run() -> None:
    with small() as engine:
        with pytest.raises(ValueError, match="on purpose"):
            engine.run(fail)
        with pytest.raises(TypeError, match="expected fn to be a callable"):
            engine.run(5)  # type: ignore[call-overload]  # that it is refused is what is tested


def test_a_cancelled_task_raises_the_cancelled_error_of_threads(release: threading.Event) -> None:
    with small() as engine:
        task = engine.submit(release.wait, 30)
        threading.Timer(0.01, task.cancel).start()
        with pytest.raises(concurrent.futures.CancelledError):
            task.result(10)
        release.set()


def test_run_waits_for_room(release: threading.Event) -> None:
    """Row A14."""
    with small(threads=1, max_pending=1) as engine:
        held = engine.submit(release.wait, 30)
        eventually(lambda: held.state is TaskState.RUNNING)
        queued = engine.submit(abs, -1)
        with pytest.raises(EngineFull):
            engine.submit(abs, -2)
        results: list[int] = []
        threads = [threading.Thread(target=lambda n=n: results.append(engine.run(abs, -n))) for n in range(20)]
        for thread in threads:
            thread.start()
        eventually(lambda: len(engine._engine._core.registry.room_waiters) == 20)
        assert results == []
        release.set()
        for thread in threads:
            thread.join(10)
        assert sorted(results) == list(range(20))
        assert (held.result(10), queued.result(10)) == (True, 1)


def test_those_who_wait_for_room_are_told_when_the_engine_stops(release: threading.Event) -> None:
    """Row N1."""
    outcomes: list[BaseException] = []
    with small(threads=1, max_pending=1) as engine:
        held = engine.submit(release.wait, 30)
        eventually(lambda: held.state is TaskState.RUNNING)
        engine.submit(abs, -1)

        def wait() -> None:
            try:
                engine.run(abs, -2)
            except EngineClosed as error:
                outcomes.append(error)

        threads = [threading.Thread(target=wait) for _ in range(10)]
        for thread in threads:
            thread.start()
        eventually(lambda: len(engine._engine._core.registry.room_waiters) == 10)
        stopper = threading.Thread(target=engine.stop)
        stopper.start()
        for thread in threads:
            thread.join(10)
        assert len(outcomes) == 10
        release.set()
        stopper.join(10)


def test_it_outlives_any_asyncio_run() -> None:
    async def use(engine: BlockingEngine) -> int:
        return await engine.submit(double, 2)

    with small() as engine:
        assert [asyncio.run(use(engine)) for _ in range(3)] == [4, 4, 4]
        assert engine.run(abs, -1) == 1


async def test_it_works_inside_a_running_loops_thread() -> None:
    """In a notebook a loop runs already, and a cell uses the engine as plain code does."""
    with small() as engine:
        assert engine.run(abs, -1) == 1
        assert list(engine.map(abs, [-1, -2, -3])) == [1, 2, 3]
        assert sorted(engine.map(abs, [-1, -2, -3], ordered=False)) == [1, 2, 3]
        with engine.group() as group:
            task = group.submit(abs, -5)
        assert task.result() == 5
        with pytest.raises(ValueError, match="on purpose"):
            engine.run(fail)
        unfinished = engine.submit(until_cancelled)
        with pytest.raises(asyncio.InvalidStateError, match="use await task: a thread that runs a loop"):
            unfinished.result(10)
        assert unfinished.cancel()
        awaited = engine.submit(abs, -6)
        assert await awaited == 6
        engine.warm_up()
        assert engine.stop().clean


async def test_what_it_waits_for_runs_on_its_own_loop() -> None:
    """E89: in a notebook's cell a coroutine was sent to the loop of the cell, which waits for it: for ever."""
    with small() as engine:
        assert engine.run(double, 2) == 4
        assert list(engine.map(double, range(3))) == [0, 2, 4]
        assert sorted(engine.map(double, range(3), ordered=False)) == [0, 2, 4]
        with engine.group() as group:
            task = group.submit(double, 5)
        assert task.result() == 10
        assert await engine.submit(double, 6) == 12  # whoever awaits lets its loop turn


async def test_leaving_does_not_wait_for_the_loop_that_it_holds_up(caplog: pytest.LogCaptureFixture) -> None:
    """E89: coroutines of a cell's loop that are submitted and not awaited end cancelled; a word says so."""
    seen: list[str] = []

    async def wait() -> None:
        seen.append("began")
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    with small() as engine:
        begun = engine.submit(wait)
        await eventually_async(lambda: seen == ["began"])
        others = [engine.submit(double, 1), engine.submit(abs, -1)]
    assert begun.cancelled()
    assert (others[0].done(), others[1].result()) == (True, 1)
    assert "which holds up the loop, got 2 that had not; they were cancelled" in caplog.text
    await eventually_async(lambda: seen == ["began", "cancelled"])


def test_its_methods_refuse_to_block_its_own_loop() -> None:
    with small() as engine:

        async def misuse() -> str:
            with pytest.raises(RuntimeError, match="expected a call from another thread than the engine's own loop"):
                engine.warm_up()
            return "told"

        loops: list[str] = []
        task = engine.submit(misuse)
        loops.append(task.result(10))
        assert loops == ["told"]


def test_it_does_not_pickle_and_says_what_to_do() -> None:
    with small() as engine, pytest.raises(PickleError, match="a process task cannot submit to its parent's engine"):
        engine.__reduce__()


# -- stopping ---------------------------------------------------------------------------------------------------------


def test_leaving_waits_for_all_accepted_work() -> None:
    with small() as engine:
        tasks = [engine.submit(abs, -n) for n in range(30)]
    assert [task.result() for task in tasks] == list(range(30))
    with pytest.raises(EngineClosed, match="cannot schedule new futures"):
        engine.submit(abs, 1)
    with pytest.raises(EngineClosed):
        engine.run(abs, 1)
    with pytest.raises(EngineClosed):
        next(engine.map(abs, [1]))


def test_leaving_with_an_exception_cancels_at_once() -> None:
    tasks = []
    with pytest.raises(OSError, match="of the block"), small() as engine:
        tasks += [engine.submit(until_cancelled) for _ in range(5)]
        raise OSError("of the block")
    assert all(task.cancelled() for task in tasks)


def test_stop_is_idempotent_from_any_thread(release: threading.Event) -> None:
    """Row N5."""
    reports = []
    with small() as engine:
        engine.submit(release.wait, 30)
        threads = [threading.Thread(target=lambda: reports.append(engine.stop())) for _ in range(8)]
        for thread in threads:
            thread.start()
        release.set()
        for thread in threads:
            thread.join(10)
        reports.append(engine.stop(timeout=0))
    assert len(reports) == 9
    assert len(set(reports)) == 1
    assert (reports[0].submitted, reports[0].completed) == (1, 1)


def test_a_bad_timeout_is_refused_and_stops_nothing() -> None:
    """Row T5."""
    with small() as engine:
        for timeout in (-1, float("nan"), True):
            with pytest.raises(ValueError, match=r"^expected timeout to be .+, got .+"):
                engine.stop(timeout=timeout)
        assert engine.run(abs, -1) == 1


# -- map --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [None, 1, 3])
def test_map_is_an_iterator_in_either_order(window: int | None) -> None:
    with small() as engine:
        assert list(engine.map(abs, range(0, -50, -1), window=window)) == list(range(50))
        assert sorted(engine.map(abs, range(0, -50, -1), window=window, ordered=False)) == list(range(50))
        assert list(engine.map(double, range(5), window=window)) == [0, 2, 4, 6, 8]
        assert list(engine.map(abs, [])) == []


def test_map_reads_several_and_asynchronous_iterables() -> None:
    with small() as engine:
        assert list(engine.map(pow, [1, 2, 3], [2, 2])) == [1, 4]
        assert list(engine.map(abs, numbers(10))) == list(range(10))
        assert sorted(engine.map(max, numbers(5), itertools.count(2), ordered=False)) == [2, 3, 4, 5, 6]


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("window", [1, 3, 8])
def test_map_never_reads_ahead_of_its_window(ordered: bool, window: int) -> None:
    read: list[int] = []

    def source() -> Iterator[int]:
        for number in itertools.count():
            read.append(number)
            yield number

    with small() as engine:
        results = engine.map(abs, source(), ordered=ordered, window=window)
        for taken in range(1, 31):
            next(results)
            assert len(read) <= taken + window - 1
        results.close()
        results.close()
        assert list(results) == []


@pytest.mark.parametrize("ordered", [True, False])
def test_breaking_a_map_cancels_its_window(ordered: bool, release: threading.Event) -> None:
    def hold(number: int) -> int:
        if number:
            release.wait(30)
        return number

    with small() as engine:
        for number in engine.map(hold, itertools.count(), ordered=ordered, window=6):
            assert number == 0
            break
        gc.collect()
        eventually(lambda: engine.snapshot().count(TaskState.CANCELLED) == 5)
        release.set()
        assert engine.run(abs, -1) == 1


@pytest.mark.parametrize("ordered", [True, False])
def test_the_first_failure_of_a_map_is_raised_and_cancels_the_rest(ordered: bool) -> None:
    def fail_at_five(number: int) -> int:
        if number == 5:
            raise ValueError("five")
        return number

    with small() as engine:
        results = engine.map(fail_at_five, itertools.count(), ordered=ordered, window=4)
        with pytest.raises(ValueError, match="five"):
            list(results)
        assert list(results) == []
        caught = list(engine.map(fail_at_five, [4, 5, 6], return_exceptions=True))
        assert [type(result) for result in caught] == [int, ValueError, int]


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("bound", [1, 3])
def test_maps_of_several_threads_share_the_room(ordered: bool, bound: int) -> None:
    """Row A14."""
    found: list[list[int]] = []
    with small(max_pending=bound) as engine:
        threads = [
            threading.Thread(target=lambda: found.append(list(engine.map(abs, range(50), ordered=ordered))))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert engine._engine._core.registry.waiting == 0
    assert [sorted(results) for results in found] == [list(range(50))] * 4


def test_what_is_bad_in_a_map_is_refused_before_anything_is_read() -> None:
    """Row T5."""
    with small() as engine:
        source = iter([1])
        for window in (0, -1, True, "4", 1.5):
            options: dict[str, Any] = {"window": window}
            with pytest.raises(ValueError, match=r"^expected window to be a positive integer, .*got"):
                engine.map(abs, source, **options)
        for name in ("ordered", "return_exceptions"):
            flags: dict[str, Any] = {name: 1}
            with pytest.raises(ValueError, match=f"^expected {name} to be True or False, got 1"):
                engine.map(abs, source, **flags)
        with pytest.raises(TypeError, match="expected map to get iterables, got 5"):
            engine.map(abs, 5)  # type: ignore[call-overload]  # that it is refused is what is tested
        assert next(source) == 1


# -- groups -----------------------------------------------------------------------------------------------------------


def test_a_group_waits_for_its_tasks() -> None:
    with small() as engine:
        with engine.group() as group:
            assert isinstance(group, BlockingTaskGroup)
            tasks = [group.submit(abs, -n) for n in range(10)]
        assert [task.result(0) for task in tasks] == list(range(10))
        with pytest.raises(RuntimeError, match="expected the group to be open, got one that was left"):
            group.submit(abs, 1)


def test_a_failure_cancels_the_siblings() -> None:
    with small() as engine:
        with pytest.raises(ExceptionGroup) as caught, engine.group() as group:
            sibling = group.submit(until_cancelled)
            group.submit(fail)
        assert [str(error) for error in caught.value.exceptions] == ["on purpose"]
        assert sibling.cancelled()


def test_a_failure_that_the_body_asks_for_is_raised_once() -> None:
    with small() as engine:
        with pytest.raises(ExceptionGroup) as caught, engine.group() as group:
            group.submit(fail).result(10)
        assert [str(error) for error in caught.value.exceptions] == ["on purpose"]


def test_an_error_of_the_body_cancels_the_tasks() -> None:
    with small() as engine:
        with pytest.raises(ExceptionGroup) as caught, engine.group() as group:
            task = group.submit(until_cancelled)
            raise OSError("of the body")
        assert [str(error) for error in caught.value.exceptions] == ["of the body"]
        assert task.cancelled()


def test_a_keyboard_interrupt_leaves_a_group_as_what_it_is() -> None:
    with small() as engine:
        with pytest.raises(KeyboardInterrupt), engine.group() as group:
            task = group.submit(until_cancelled)
            raise KeyboardInterrupt
        assert task.cancelled()


def test_a_failed_group_takes_nothing() -> None:
    with small() as engine:
        with pytest.raises(ExceptionGroup) as caught, engine.group() as group:
            task = group.submit(fail)
            eventually(lambda: group._failed)
            with pytest.raises(RuntimeError, match="expected the group to be healthy"):
                group.submit(abs, 1)
        assert len(caught.value.exceptions) == 1
        assert task.done()


def test_a_group_waits_until_the_slots_are_free() -> None:
    left = threading.Event()

    def slow_to_leave() -> None:
        try:
            until_cancelled()
        finally:
            threading.Event().wait(0.02)
            left.set()

    with small(grace=30) as engine:
        with pytest.raises(ExceptionGroup), engine.group() as group:
            task = group.submit(slow_to_leave)
            eventually(lambda: task.state is TaskState.RUNNING)
            raise OSError("of the body")
        assert left.is_set()


def test_a_failure_that_a_group_raised_is_not_logged_as_unseen(caplog: pytest.LogCaptureFixture) -> None:
    with small() as engine, caplog.at_level(logging.ERROR, "engine"):
        with pytest.raises(ExceptionGroup), engine.group() as group:
            group.submit(fail)
        gc.collect()
    assert caplog.records == []
