"""What lies ahead in a worker: it is overtaken by what is more urgent, and its answers are read many at once."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, Priority, Task
from engine._lanes._process import ahead, collecting, overtaking
from engine._lanes._process.native import NativeWorker
from engine._lanes._process.watcher import Watcher
from engine._states import Lane
from engine.errors import WorkerCrashed
from tests.contracts import functions
from tests.contracts.process_front import native_workers
from tests.integration import row_functions
from tests.support import Interrupted, eventually_async

STUCK = 30.0  #: seconds; a bound for what never happens, not a measurement


async def within(awaitable: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(awaitable, STUCK)


def every_task_takes(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Have the lane expect that of every task, and take none for stuck."""
    monkeypatch.setattr(NativeWorker, "_cost", lambda worker, number, attempt: seconds)
    monkeypatch.setattr(ahead, "STUCK_SECONDS", 600.0)


async def fill_the_worker(
    engine: Engine, folder: Path, count: int, *behind: Callable[[Any], Any]
) -> tuple[NativeWorker, list[Task[Any]]]:
    """Have the one worker run a task until ``go`` is there, with others behind it, of low priority: so many notes, and
    ``behind``, each called with 3.
    """
    low = engine.options(priority=Priority.LOW)
    runs = str(folder / "runs")
    tasks: list[Task[Any]] = [low.submit(row_functions.same, 0), low.submit(functions.hold, str(folder), "held")]
    tasks += [low.submit(row_functions.note, runs, number) for number in range(count)]
    tasks += [low.submit(fn, 3) for fn in behind]
    await eventually_async((folder / "held.begun").exists, STUCK)
    (worker,) = native_workers(engine)
    assert worker.count() > 2
    return worker, tasks


def is_in(worker: NativeWorker, task: Task[Any]) -> bool:
    return any(attempt.task is task for _, attempt in worker.unanswered())


def watcher_of(engine: Engine, worker: NativeWorker) -> Watcher:
    watcher = engine._core.processes._pool.watchers[worker]
    assert isinstance(watcher, Watcher)
    return watcher


async def test_what_is_more_urgent_goes_before_what_was_sent_ahead(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """E191: the worker has not begun what lies in it: it comes back, and runs in its turn, once."""
    every_task_takes(monkeypatch, 0.001)
    async with Engine(processes=1) as engine:
        worker, tasks = await fill_the_worker(engine, tmp_path, 8)
        runs = str(tmp_path / "runs")
        normal = engine.submit(row_functions.note, runs, 10)
        await eventually_async(lambda: is_in(worker, normal), STUCK)
        high = engine.options(priority=Priority.HIGH)
        urgent = [high.submit(row_functions.note, runs, number) for number in (20, 21)]
        await eventually_async(lambda: is_in(worker, urgent[0]) and is_in(worker, urgent[1]), STUCK)
        (tmp_path / "go").touch()
        await within(asyncio.gather(*tasks, normal, *urgent))
        assert [int(line) for line in Path(runs).read_text().split()] == [20, 21, 10, *range(8)]
        assert {task.attempt for task in [*tasks, normal, *urgent]} == {1}


async def test_what_is_over_sooner_than_it_is_taken_back_is_not_overtaken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """E191: some microseconds of work stay where they are."""
    every_task_takes(monkeypatch, 1e-6)
    async with Engine(processes=1) as engine:
        worker, tasks = await fill_the_worker(engine, tmp_path, 8)
        before = worker.unanswered()
        urgent = engine.options(priority=Priority.HIGH).submit(row_functions.note, str(tmp_path / "runs"), 20)
        engine._core.processes._pool.overtake()
        assert worker.unanswered() == before
        (tmp_path / "go").touch()
        await within(asyncio.gather(*tasks, urgent))
        assert sorted(int(line) for line in (tmp_path / "runs").read_text().split()) == [*range(8), 20]


@pytest.mark.parametrize(("is_hurried", "least", "most"), [(False, 17, 64), (True, 2, 16)])
async def test_less_is_sent_ahead_for_a_while_once_something_more_urgent_has_come(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, is_hurried: bool, least: int, most: int
) -> None:
    """E191: more of it may come, and would wait behind what is over soon."""
    every_task_takes(monkeypatch, 1e-6)
    monkeypatch.setattr(overtaking, "HURRY_SECONDS", 600.0)
    async with Engine(processes=1) as engine:
        if is_hurried:
            engine._core.processes._pool.overtake()
        worker, tasks = await fill_the_worker(engine, tmp_path, 100)
        assert least <= worker.count() <= most
        (tmp_path / "go").touch()
        await within(asyncio.gather(*tasks))


@pytest.mark.parametrize(("seconds", "waiting", "count"), [(0.005, 9, 2), (0.005, 2, 2), (0.005, 1, 1), (0.02, 9, 1)])
async def test_one_task_of_some_milliseconds_lies_behind_another_while_many_wait(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seconds: float, waiting: int, count: int
) -> None:
    """E210: a worker that is done has its next one there; not where others could have it, nor behind a long one."""
    every_task_takes(monkeypatch, seconds)
    async with Engine(processes=1) as engine:
        await within(engine.submit(row_functions.same, 0))
        held = engine.submit(functions.hold, str(tmp_path), "held")
        tasks = [engine.submit(row_functions.same, number) for number in range(waiting)]
        await eventually_async((tmp_path / "held.begun").exists, STUCK)
        (worker,) = native_workers(engine)
        engine._core.processes._pool.refill(worker)  # as an answer does
        assert worker.count() == count
        assert not watcher_of(engine, worker)._is_collecting
        (tmp_path / "go").touch()
        assert await within(asyncio.gather(held, *tasks)) == ["held", *range(waiting)]
        assert {task.attempt for task in [held, *tasks]} == {1}


async def _with_one_behind(engine: Engine, *folders: Path) -> tuple[list[Task[Any]], list[Task[Any]], NativeWorker]:
    """Return a task in each worker that waits for its go, 40 more, and the first worker, which has one of these too."""
    held = [engine.submit(functions.hold, str(folder), "held") for folder in folders]
    await eventually_async(lambda: all((folder / "held.begun").exists() for folder in folders), STUCK)
    tasks = [engine.submit(row_functions.same, number) for number in range(40)]
    (worker,) = [each for each in native_workers(engine) if is_in(each, held[0])]
    engine._core.processes._pool.refill(worker)
    assert worker.count() == 2
    return [*held], [*tasks], worker


async def test_a_task_behind_one_of_some_milliseconds_is_taken_back_if_that_takes_long(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """E210: another worker runs it, though the one in front never ends."""
    monkeypatch.setattr(NativeWorker, "_cost", lambda worker, number, attempt: 0.005)
    before, first, second = [tmp_path / name for name in ("before", "first", "second")]
    for folder in (before, first, second):
        folder.mkdir()
    (before / "go").touch()
    async with Engine(processes=2) as engine:
        await within(asyncio.gather(*[engine.submit(functions.hold, str(before), name) for name in "abcd"]))
        held, tasks, _ = await _with_one_behind(engine, first, second)
        (second / "go").touch()
        assert await within(asyncio.gather(held[1], *tasks)) == ["held", *range(40)]
        assert not held[0].done()
        (first / "go").touch()
        assert await within(held[0]) == "held"
        assert {task.attempt for task in [*held, *tasks]} == {1}


async def test_a_task_is_taken_back_from_behind_one_whose_function_is_found_to_take_long_meanwhile(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """E213: another run of that function ends after ten minutes: so long may the one in front not keep what is behind.

    Where many become slow at once, each that was found to be stuck made the next one wait three times as long.
    """
    monkeypatch.setattr(NativeWorker, "_cost", lambda worker, number, attempt: 0.005)
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    async with Engine(processes=2) as engine:
        held, tasks, worker = await _with_one_behind(engine, first, second)
        worker._functions[worker.first()].measure(600.0)
        (second / "go").touch()
        assert await within(asyncio.gather(held[1], *tasks)) == ["held", *range(40)]
        assert not held[0].done()
        (first / "go").touch()
        assert await within(held[0]) == "held"


async def test_answers_that_were_left_to_lie_survive_their_worker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """E192: nobody has read them when it dies: they count all the same, and one task is charged."""
    every_task_takes(monkeypatch, 0.001)
    async with Engine(processes=1) as engine:
        same = row_functions.same
        worker, tasks = await fill_the_worker(engine, tmp_path, 3, row_functions.end_the_process, same, same, same)
        last = tasks.pop(5)
        assert is_in(worker, last)
        watcher = watcher_of(engine, worker)
        await eventually_async(lambda: watcher._is_collecting, STUCK)
        monkeypatch.setattr(
            Watcher, "read_collected", lambda watcher: None
        )  # nothing is read any more but at its death
        (tmp_path / "go").touch()
        with pytest.raises(WorkerCrashed) as caught:
            await within(last)
        assert caught.value.task_id == last.id
        assert await within(asyncio.gather(*tasks)) == [0, "held", 0, 1, 2, 3, 3, 3]
        assert {task.attempt for task in [*tasks, last]} == {1}


async def test_an_answer_is_read_though_all_behind_it_was_cancelled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """E192: there was ample work when it was left to lie; it is cancelled, and the running task is the last one."""
    every_task_takes(monkeypatch, 0.001)
    async with Engine(processes=1) as engine:
        worker, tasks = await fill_the_worker(engine, tmp_path, 8)
        watcher = watcher_of(engine, worker)
        await eventually_async(lambda: watcher._is_collecting, STUCK)
        for task in tasks[2:]:
            task.cancel()
        await eventually_async(lambda: not watcher._is_collecting, STUCK)
        (tmp_path / "go").touch()
        assert await within(tasks[1]) == "held"
        assert not (tmp_path / "runs").exists()


async def test_a_worker_whose_last_task_was_taken_back_is_sent_nothing_ahead() -> None:
    """E192: another thread takes it back between two steps of ours."""
    async with Engine(processes=1) as engine:
        await within(engine.submit(row_functions.same, 1))
        (worker,) = native_workers(engine)
        assert worker.count() == 0
        engine._core.processes._pool._ahead.send(worker)
        assert worker.count() == 0


async def test_ctrl_c_in_the_look_leaves_no_answer_unread(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """E192: it breaks off the look that reads what was left: the next look comes all the same."""
    every_task_takes(monkeypatch, 0.001)
    true = Watcher.read_collected
    raised: list[object] = []

    def interrupted(watcher: Watcher) -> None:
        monkeypatch.setattr(Watcher, "read_collected", true)
        raise Interrupted

    async with Engine(processes=1) as engine:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: raised.append(context.get("exception")))
        worker, tasks = await fill_the_worker(engine, tmp_path, 8)
        watcher = watcher_of(engine, worker)
        await eventually_async(lambda: watcher._is_collecting, STUCK)
        monkeypatch.setattr(Watcher, "read_collected", interrupted)
        await eventually_async(lambda: bool(raised), STUCK)
        (tmp_path / "go").touch()
        assert await within(asyncio.gather(*tasks)) == [0, "held", *range(8)]
        assert [type(error) for error in raised] == [Interrupted]


async def test_what_is_more_urgent_does_not_stay_behind_what_it_was_sent_with(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """E206: an answer that was read in the same turn had the worker fed, before anybody looked what is overtaken."""
    every_task_takes(monkeypatch, 0.001)
    async with Engine(processes=1) as engine:
        worker, tasks = await fill_the_worker(engine, tmp_path, 8)
        runs = str(tmp_path / "runs")
        monkeypatch.setattr(ahead, "AHEAD_SECONDS", 1.0)
        urgent = engine.options(priority=Priority.HIGH).submit(row_functions.note, runs, 20)
        engine._core.processes._pool.refill(worker)  # before the overtaking, which is posted
        assert [attempt.task for _, attempt in worker.unanswered()].index(urgent) > 1
        await eventually_async(lambda: [each.task for _, each in worker.unanswered()].index(urgent) == 1, STUCK)
        (tmp_path / "go").touch()
        await within(asyncio.gather(*tasks, urgent))
        assert [int(line) for line in Path(runs).read_text().split()] == [20, *range(8)]


async def test_what_is_more_urgent_goes_first_though_nothing_else_waits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """E207: the queue was empty, so the submit wakes the lane; but no worker is free, and one holds unbegun tasks."""
    every_task_takes(monkeypatch, 0.001)
    async with Engine(processes=1) as engine:
        worker, tasks = await fill_the_worker(engine, tmp_path, 3)
        runs = str(tmp_path / "runs")
        waiting = [task for task in tasks[1:] if not is_in(worker, task)]
        for task in waiting:
            task.cancel()
        engine._core.processes._pool.refill(worker)  # as an answer does: it finds nothing, and the lane is parked
        assert engine._core.registry.slots[Lane.PROCESS].parked
        urgent = engine.options(priority=Priority.HIGH).submit(row_functions.note, runs, 20)
        await eventually_async(lambda: is_in(worker, urgent), STUCK)
        (tmp_path / "go").touch()
        rest = [task for task in tasks if task not in waiting]
        await within(asyncio.gather(*rest, urgent))
        order = [int(line) for line in Path(runs).read_text().split()]
        assert (order[0], len(order)) == (20, len(rest) - 1)


async def test_answers_of_a_worker_that_had_run_out_of_work_are_read_as_they_come(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """E208: its tasks take less than was expected, so what was ample work is done before anybody looks."""
    every_task_takes(monkeypatch, 0.001)
    wanted: list[bool] = []
    async with Engine(processes=1) as engine:
        worker, tasks = await fill_the_worker(engine, tmp_path, 30)
        watcher = watcher_of(engine, worker)
        await eventually_async(lambda: watcher._is_collecting, STUCK)
        collect = Watcher.collect

        def note(watcher: Watcher, is_wanted: bool) -> bool:
            wanted.append(is_wanted)
            return collect(watcher, is_wanted)

        monkeypatch.setattr(Watcher, "collect", note)
        monkeypatch.setattr(collecting, "WATCHED_SECONDS", 600.0)
        with monkeypatch.context() as late:
            late.setattr(Watcher, "read_collected", lambda watcher: None)
            (tmp_path / "go").touch()
            await eventually_async(lambda: wanted or not worker.unbegun_behind(), STUCK)
        await within(asyncio.gather(*tasks))
        assert wanted == [False]
