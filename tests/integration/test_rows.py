"""Tasks that are claimed, sent and ended in rows; design/0004, "In rows"."""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, Retry, Task
from engine._lanes._process.encoder import Encoder
from engine._lanes._process.feeder import Feeder
from engine._lanes._process.functions import Function
from engine._lanes.base import Attempt, Outcome
from engine._states import Lane
from engine.errors import TaskTimeout
from tests.contracts import functions
from tests.contracts.process_front import native_workers
from tests.integration import row_functions
from tests.support import Interrupted, eventually_async

STUCK = 30.0  #: seconds; a bound for what never happens, not a measurement


async def within(awaitable: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(awaitable, STUCK)


class Pickled:
    """Arrives as ``value``, after ``do`` was called where it is pickled."""

    def __init__(self, do: Callable[[], object], value: int = 0) -> None:
        self.do, self.value = do, value

    def __reduce__(self) -> tuple[Any, ...]:
        self.do()
        return int, (self.value,)


def long_list(last: object) -> list[object]:
    """Give what takes 600 kB as a pickle, and ends with ``last``."""
    return [*[{"n": n, "text": f"text {n}"} for n in range(20_000)], last]


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Give how many each row sent, behind the task before it; every function is taken for a quick one."""
    seen: list[int] = []
    true = Feeder._send_like

    def spy(feeder: Feeder, *args: Any) -> int:
        sent = true(feeder, *args)
        seen.append(sent)
        return sent

    monkeypatch.setattr(Feeder, "_send_like", spy)
    monkeypatch.setattr(Function, "measure", lambda function, seconds: setattr(function, "seconds", 1e-6))
    return seen


async def hold_the_worker(engine: Engine, folder: Path, *quick: Callable[..., Any]) -> Task[Any]:
    """Have the one worker run a task until ``go`` is there; ``quick`` were measured before."""
    for fn in quick:
        await within(engine.submit(fn, 0))
    held = engine.submit(functions.hold, str(folder), "held")
    await eventually_async((folder / "held.begun").exists, STUCK)
    return held


async def test_ctrl_c_where_a_long_one_of_a_row_is_pickled_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rows: list[int]
) -> None:
    """E60: without a thread the loop pickles what is long, and Ctrl-C is raised in there: it goes back too."""
    async with Engine(processes=1) as engine:
        held = await hold_the_worker(engine, tmp_path, row_functions.same)
        feeder = engine._core.processes._feeder
        do = feeder._long.do
        raised: list[object] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: raised.append(context.get("exception")))

        def interrupt(attempt: Any) -> None:
            monkeypatch.setattr(feeder._long, "do", do)
            raise Interrupted

        monkeypatch.setattr(feeder._long, "do", interrupt)
        tasks = [engine.submit(row_functions.same, n if n != 4 else long_list(4)) for n in range(9)]
        (tmp_path / "go").touch()
        assert await within(held) == "held"
        values = await within(asyncio.gather(*tasks))
        assert [value if n != 4 else value[-1] for n, value in enumerate(values)] == list(range(9))
        assert [task.attempt for task in tasks] == [1] * 9
        assert (feeder._long_count, [type(error) for error in raised]) == (0, [Interrupted])


async def test_a_function_that_is_forgotten_in_the_middle_of_its_row_is_sent_anew(
    rows: list[int],
) -> None:
    """E61: so many closures are submitted while a row is pickled that its own one falls out: the next task of it has a
    number that the worker does not know.
    """
    offset = 5

    def closure(value: int) -> int:
        return value + offset

    async with Engine(processes=1) as engine:
        others: list[Task[Any]] = []

        def closure_of(n: int) -> Callable[[], int]:
            return lambda: n + offset

        def submit_others() -> None:
            others.extend([engine.submit(closure_of(n)) for n in range(40)])

        items = [Pickled(submit_others if n == 316 else int, n) for n in range(320)]
        taking = asyncio.ensure_future(
            take_all(engine.options(lane="process", timeout=60).map(closure, items, window=320))
        )
        await asyncio.sleep(0)  # all are in the queue
        behind = [engine.submit(abs, n) for n in range(5)]
        assert await within(taking) == list(range(5, 325))
        assert await within(asyncio.gather(*others, *behind)) == [*range(5, 45), *range(5)]
        assert len(others) == 40
        assert max(rows) > 8


async def take_all(results: Any) -> list[Any]:
    return [value async for value in results]


async def test_what_is_recalled_between_its_pickling_and_its_send_never_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rows: list[int]
) -> None:
    """E194: the row is sent without it."""
    runs = str(tmp_path / "runs")
    true = Encoder.encode_row

    def cancel_two(encoder: Encoder, attempts: list[Attempt]) -> Any:
        row = true(encoder, attempts)
        for attempt in attempts:
            if attempt.args[1] in (3, 5):
                assert attempt.task.cancel()
        return row

    async with Engine(processes=1) as engine:
        held = await hold_the_worker(engine, tmp_path, row_functions.same)
        monkeypatch.setattr(Encoder, "encode_row", cancel_two)
        tasks = [engine.submit(row_functions.note, runs, n) for n in range(9)]
        (tmp_path / "go").touch()
        assert await within(held) == "held"
        found = await within(asyncio.gather(*tasks, return_exceptions=True))
        assert [n for n, each in enumerate(found) if isinstance(each, asyncio.CancelledError)] == [3, 5]
        assert [int(line) for line in Path(runs).read_text().split()] == [0, 1, 2, 4, 6, 7, 8]
        assert max(rows) > 1


async def test_each_of_a_row_has_its_timeout(rows: list[int]) -> None:
    """E194: also one that was claimed behind the first."""
    async with Engine(processes=1) as engine:
        view = engine.options(timeout=0.5, grace=0)
        assert await within(view.submit(row_functions.sleep_at, 0, 99)) == 0
        tasks = [view.submit(row_functions.sleep_at, n, 3) for n in range(9)]
        found = await within(asyncio.gather(*tasks, return_exceptions=True))
        assert [each if n != 3 else type(each) for n, each in enumerate(found)] == [0, 1, 2, TaskTimeout, *range(4, 9)]
        assert max(rows) > 3


async def test_a_filter_that_raises_costs_no_other_of_its_row(tmp_path: Path) -> None:
    """E62: a late answer of a task that is tried again is logged, and a filter of the program raises in there."""

    def object_to(record: logging.LogRecord) -> bool:
        raise LookupError("a filter that is broken")

    async with Engine(processes=1) as engine:
        held = await hold_the_worker(engine, tmp_path)
        view = engine.options(retry=Retry(base_delay=0), timeout=60)
        tasks = [view.submit(row_functions.same, n) for n in range(3)]
        scheduler = engine._core.scheduler
        first = scheduler.claim(Lane.PROCESS)
        assert first is not None
        row = [first, *scheduler.claim_like(first, 5)]
        assert [attempt.task for attempt in row] == tasks
        first.expired = True
        log = logging.getLogger("engine")
        before, filtered = log.level, log.filters[:]
        log.setLevel(logging.INFO)
        log.addFilter(object_to)
        try:
            with pytest.raises(LookupError):
                scheduler.end_row([(each, Outcome(each.args[0], started_at=time.monotonic())) for each in row])
        finally:
            log.setLevel(before)
            log.filters[:] = filtered
        assert await within(asyncio.gather(*tasks[1:])) == [1, 2]
        (tmp_path / "go").touch()
        assert await within(held) == "held"
        assert await within(tasks[0]) == 0
        assert tasks[0].attempt == 2


async def test_a_token_that_an_item_left_is_of_no_use_to_the_next() -> None:
    """E63: an item resets a variable to what it was before, and leaves a token of in between: it is of that item."""
    async with Engine(processes=1) as engine:
        view = engine.options(lane="process")
        values = await within(take_all(view.map(row_functions.keep_a_token, [0, 1] * 2000)))
        assert set(values[::2]) == {"kept"}
        assert set(values[1::2]) == {"nothing"}


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("clock", ["runs", "stands still"])
async def test_a_worker_that_is_idle_takes_no_processor(clock: str) -> None:
    """E64: after quick successions and slow ones; also where a task left the clock of the worker standing still."""
    async with Engine(processes=1) as engine:
        pid = await within(engine.submit(os.getpid if clock == "runs" else row_functions.stop_the_clock))
        for pause in (0.0, 0.0001, 0.0005):
            for n in range(200):
                assert await within(engine.submit(row_functions.same, n)) == n
                end = time.monotonic() + pause
                while time.monotonic() < end:
                    pass
            before = cpu_seconds(pid)
            await asyncio.sleep(0.5)
            assert cpu_seconds(pid) - before < 0.1


async def test_a_worker_that_says_that_its_task_took_no_time_breaks_nothing(tmp_path: Path) -> None:
    """E66: the time that lies ahead is divided by it."""
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
    async with Engine(processes=1) as engine:
        tasks = [engine.submit(row_functions.run_in_no_time, str(tmp_path / "told")) for _ in range(9)]
        assert await within(tasks[0]) == 1
        native_workers(engine)[0].kill()
        outcomes = await within(asyncio.gather(*tasks, return_exceptions=True))
        assert outcomes[1:] == ["true"] * 8
    assert complaints == []


async def test_the_queue_keeps_its_order_around_what_is_long(tmp_path: Path, rows: list[int]) -> None:
    """Long ones are pickled elsewhere and may come later; the others keep their order, also where a row is given up."""
    runs = tmp_path / "runs"
    async with Engine(processes=1) as engine:
        await within(engine.submit(row_functions.quick, str(tmp_path / "before"), 0))
        held = await hold_the_worker(engine, tmp_path)
        is_long = {n for n in range(60) if n in (5, 6, 7, 8, 9, 10, 31, 47)}
        tasks = [
            engine.submit(row_functions.quick, str(runs), n, long_list(n) if n in is_long else None) for n in range(60)
        ]
        (tmp_path / "go").touch()
        assert await within(held) == "held"
        assert await within(asyncio.gather(*tasks)) == list(range(60))
    order = list(map(int, runs.read_text().split()))
    assert sorted(order) == list(range(60))
    assert [n for n in order if n not in is_long] == [n for n in range(60) if n not in is_long]
    assert max(rows) > 8


async def test_everybody_who_waits_for_room_is_woken_by_a_row(tmp_path: Path, rows: list[int]) -> None:
    """A row makes room for as many as it takes; each of those that wait in ``run`` and ``map`` has a turn."""
    async with Engine(processes=1, max_pending=20) as engine:
        held = await hold_the_worker(engine, tmp_path, row_functions.same)
        for n in range(20):
            engine.submit(row_functions.same, n)
        waiting = [asyncio.ensure_future(engine.run(row_functions.same, n)) for n in range(100)]
        mapped = asyncio.ensure_future(
            take_all(engine.options(timeout=60, lane="process").map(row_functions.same, range(100), window=50))
        )
        await asyncio.sleep(0)
        (tmp_path / "go").touch()
        assert await within(held) == "held"
        assert await within(asyncio.gather(*waiting)) == list(range(100))
        assert await within(mapped) == list(range(100))
        assert engine.snapshot().queue_depth == 0
        assert max(rows) > 8


@pytest.mark.parametrize("how", ["wait", "cancel what waits", "cancel all"])
@pytest.mark.parametrize("where", ["pickling", "callback"])
async def test_a_stop_that_comes_in_the_middle_of_rows_ends_each_task_once(
    how: str, where: str, rows: list[int]
) -> None:
    """Asked for while a row is pickled, or by a done callback of one of its tasks; other callbacks raise and exit."""
    engine = await Engine(processes=2).start()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: None)
    await within(engine.submit(row_functions.same, 0))
    told: list[Task[Any]] = []
    stops: list[Any] = []

    def stop() -> None:
        kind: dict[str, Any] = {"cancel what waits": {"cancel_pending": True}, "cancel all": {"timeout": 0.0}}
        loop.call_soon(lambda: stops.append(loop.create_task(engine.stop(**kind.get(how, {})))))

    def tell(task: Task[Any]) -> None:
        told.append(task)
        if task is tasks[150] and where == "callback":
            stop()
        if task in tasks[150:160]:
            raise SystemExit if task in tasks[155:] else ValueError

    tasks = [
        engine.submit(row_functions.same, Pickled(stop if n == 150 and where == "pickling" else int, n))
        for n in range(300)
    ]
    for task in tasks:
        task.add_done_callback(tell)
    await eventually_async(lambda: stops, STUCK)
    report = await within(stops[0])
    await asyncio.sleep(0)
    assert sorted(told, key=id) == sorted(tasks, key=id)
    values = [task.result() if not task.cancelled() else n for n, task in enumerate(tasks)]
    assert values == list(range(300))
    cancelled = sum(task.cancelled() for task in tasks)
    assert (report.completed, report.failed, report.cancelled) == (301 - cancelled, 0, cancelled)
    assert how != "wait" or not cancelled
    assert max(rows) > 8


async def test_ctrl_c_where_the_function_of_a_row_is_pickled_anew_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rows: list[int]
) -> None:
    """E209: another thread's closures made it forgotten, and Ctrl-C is raised where it is pickled: all go back."""
    async with Engine(processes=1) as engine:
        held = await hold_the_worker(engine, tmp_path, row_functions.same)
        feeder = engine._core.processes._feeder
        claim_like = feeder._front.claim_like
        raised: list[object] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: raised.append(context.get("exception")))
        functions_of = feeder._functions
        get = functions_of.get

        def interrupt(*args: Any, **kwargs: Any) -> Any:
            monkeypatch.setattr(functions_of, "get", get)
            raise Interrupted

        def claim_and_forget(*args: Any) -> Any:
            claimed = claim_like(*args)
            monkeypatch.setattr(feeder._front, "claim_like", claim_like)
            monkeypatch.setattr(functions_of, "get", interrupt)
            return claimed

        monkeypatch.setattr(feeder._front, "claim_like", claim_and_forget)
        tasks = [engine.submit(row_functions.same, n) for n in range(9)]
        (tmp_path / "go").touch()
        assert await within(held) == "held"
        assert await within(asyncio.gather(*tasks)) == list(range(9))
        assert [task.attempt for task in tasks] == [1] * 9
        assert [type(error) for error in raised] == [Interrupted]


async def test_a_late_value_in_a_row_is_logged_where_its_task_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """E209: nobody else will ever hear why; the row around it ends as ever."""
    caplog.set_level(logging.INFO, "engine")
    async with Engine(processes=1) as engine:
        held = await hold_the_worker(engine, tmp_path)
        view = engine.options(retry=Retry(base_delay=0), timeout=60)
        tasks = [view.submit(row_functions.same, n) for n in range(3)]
        scheduler = engine._core.scheduler
        first = scheduler.claim(Lane.PROCESS)
        assert first is not None
        row = [first, *scheduler.claim_like(first, 5)]
        first.expired = True
        at = time.monotonic()
        scheduler.return_row([(each, each.args[0], at, at) for each in row], "process-1")
        assert [record.getMessage() for record in caplog.records if "attempt 1 failed" in record.getMessage()]
        (tmp_path / "go").touch()
        assert await within(held) == "held"
        assert await within(asyncio.gather(*tasks)) == [0, 1, 2]
        assert [task.attempt for task in tasks] == [2, 1, 1]
