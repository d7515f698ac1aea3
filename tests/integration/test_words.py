"""What people read when something is not as it should be: it names who it is about, what came, and what to do."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import pytest

from engine import BlockingEngine, Engine, EngineClosed, Progress, Retry, TaskTimeout
from engine._wire import pickling
from engine.errors import PayloadTooLarge, PickleError, RemoteError, ResultDecodeError
from tests.integration import word_functions as does
from tests.support import eventually_async

STUCK = 30.0  #: seconds; a bound for what never happens, not a measurement
BACKENDS: list[Literal["native", "loky"]] = ["native", "loky"]


# -- progress -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["float64", "float32", "int64", "uint8"])
async def test_numbers_of_numpy_arrive_as_numbers(kind: str, backend: Literal["native", "loky"]) -> None:
    """E20: not as their texts."""
    pytest.importorskip("numpy")
    async with Engine(processes=1, threads=1, process_backend=backend) as engine:
        for lane in ("process", "thread"):
            task = engine.options(lane=lane).submit(does.report_numpy, kind)
            await asyncio.wait_for(task, STUCK)
            assert task.progress == Progress(3, 8, "third")
            assert type(task.progress.done) is type(task.progress.total) is (float if "float" in kind else int)


@pytest.mark.parametrize("value", [Fraction(1, 4), Decimal("0.25"), 0.25])
async def test_other_numbers_arrive_as_floats_in_every_lane(value: Any) -> None:
    """E20."""
    async with Engine(processes=1, threads=1) as engine:
        tasks = [engine.options(lane=lane).submit(does.report, value, value) for lane in ("process", "thread")]
        tasks.append(engine.submit(does.report_on_the_loop, value, value))
        await asyncio.wait_for(asyncio.gather(*tasks), STUCK)
        assert [task.progress for task in tasks] == [Progress(0.25, 0.25, "")] * 3


@pytest.mark.parametrize(("done", "total"), [("3", None), (None, 4), ([3], None), (3, "many")])
async def test_progress_that_is_no_number_is_refused_where_it_is_said(done: Any, total: Any) -> None:
    """E20: in every lane alike."""
    name = "total" if done == 3 else "done"
    async with Engine(processes=1, threads=1) as engine:
        for lane in ("process", "thread"):
            with pytest.raises(ValueError, match=f"^expected {name} to be a number, got "):
                await engine.options(lane=lane).run(does.report, done, total)


# -- what cannot travel ---------------------------------------------------------------------------------------------


async def test_arguments_that_cannot_be_pickled_name_the_task_and_its_function() -> None:
    """E21: also where the task has a name of its own."""
    async with Engine(processes=1) as engine:
        for view, whom in (
            (engine.options(name="nightly"), r"\(nightly\) for tests\.integration\.word_functions\.receive to be"),
            (engine.options(), r"\(receive\) to be"),
        ):
            with pytest.raises(PickleError, match=r"^expected the arguments of task \d " + whom + " picklable, got "):
                await view.run(does.receive, threading.Lock())


async def test_a_text_file_as_argument_is_told_what_to_do(tmp_path: Path) -> None:
    """E21: open it inside the function."""
    async with Engine(processes=1) as engine:
        with (
            open(tmp_path / "text", "w") as file,
            pytest.raises(PickleError, match=r"TextIOWrapper.* open files, "),
        ):
            await engine.run(does.receive, file)


@pytest.mark.parametrize(("words", "told"), [((), "got Silent;"), (("not here",), "got Silent: not here;")])
async def test_a_result_that_cannot_be_rebuilt_says_type_and_message(words: tuple[str, ...], told: str) -> None:
    """E21: with no colon before nothing."""
    async with Engine(processes=1) as engine:
        with pytest.raises(ResultDecodeError) as caught:
            await engine.run(does.make, *words)
        assert told in str(caught.value)
        assert isinstance(caught.value.__cause__, does.Silent)


async def test_an_exception_without_a_message_is_its_type_alone() -> None:
    """E21."""
    async with Engine(processes=1, threads=1) as engine:
        for lane in ("process", "thread"):
            with pytest.raises(does.Silent):
                await engine.options(lane=lane).run(does.fail)
            with pytest.raises(RemoteError) as caught:
                await engine.options(lane=lane).run(_interrupt)
            assert str(caught.value).endswith("KeyboardInterrupt")
        assert {info.error for info in engine.tasks()} == {
            "Silent", "RemoteError: KeyboardInterrupt", "RemoteError: the task raised KeyboardInterrupt",
        }  # fmt: skip


def _interrupt() -> None:
    raise KeyboardInterrupt


async def test_sizes_are_told_exactly_and_as_people_read_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """E21: with the remedy."""
    async with Engine(processes=1) as engine:
        monkeypatch.setattr(pickling, "MAX_PAYLOAD_BYTES", 3 << 19)
        with pytest.raises(PayloadTooLarge) as caught:
            await engine.run(does.receive, bytes(1 << 21))
        text = str(caught.value)
        assert text.startswith("expected the arguments of task 1 (receive) to be at most 1,572,864 bytes (0.00 GiB),")
        assert text.endswith("or more; send a path, or send them in parts")
    assert pickling.readable(9 << 30) == "9,663,676,416 bytes (9.00 GiB)"


# -- which task -----------------------------------------------------------------------------------------------------


async def test_a_task_has_one_form_in_every_message(caplog: pytest.LogCaptureFixture) -> None:
    """E21: "task 20 (name)"."""
    gate = threading.Event()
    caplog.set_level(logging.INFO, "engine")
    async with Engine(threads=1, processes=1, grace=0.02, default_lane="thread") as engine:
        with pytest.raises(TaskTimeout, match=r"^task 1 \(one\) did not end within timeout="):
            await engine.options(name="one", timeout=0.02).run(gate.wait, STUCK)
        await eventually_async(lambda: "task 1 (one) was asked to stop" in caplog.text)
        assert any("abandoned task 1 (one)" in title for title in engine.stacks())
        with pytest.raises(TaskTimeout, match=r"^task 2 \(two\) did not end within total_timeout="):
            await engine.options(name="two", lane="process", total_timeout=0.02).run(time.sleep, STUCK)
        gate.set()
        await eventually_async(lambda: "task 1 (one), which was abandoned, has ended" in caplog.text)
        three = engine.options(name="three", retry=Retry(max_attempts=2, base_delay=0)).submit(int, "x")
        with contextlib.suppress(ValueError):
            await asyncio.shield(three)
        assert "task 3 (three): attempt 1 failed" in caplog.text
        engine.options(name="four").submit(int, "x")
        await eventually_async(lambda: "task 4 (four) failed and nobody retrieved" in caplog.text)


# -- a loop that pickling holds up ----------------------------------------------------------------------------------


class SlowToPickle:
    """Holds the loop until it was told of, with a bound should it never be."""

    def __init__(self, told: threading.Event) -> None:
        self.told = told

    def __reduce__(self) -> Any:
        self.told.wait(STUCK)
        return int, ()


@pytest.fixture
def words_of_the_watchdog() -> Iterator[tuple[threading.Event, list[str]]]:
    told, texts = threading.Event(), []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            texts.append(record.getMessage())
            told.set()

    ear = Ear()
    logging.getLogger("engine.watchdog").addHandler(ear)
    yield told, texts
    logging.getLogger("engine.watchdog").removeHandler(ear)


@pytest.mark.parametrize("backend", BACKENDS)
async def test_a_loop_that_pickling_holds_up_names_the_task_and_its_function(
    words_of_the_watchdog: tuple[threading.Event, list[str]], backend: Literal["native", "loky"]
) -> None:
    """E21: not the engine's own code, in which it is; and says what to do about it."""
    told, texts = words_of_the_watchdog
    async with Engine(processes=1, process_backend=backend) as engine:
        assert await engine.options(name="nightly").run(does.receive, SlowToPickle(told)) == 1
    assert "pickling the arguments of task 1 (nightly) for tests.integration.word_functions.receive" in texts[0]
    assert "send less" in texts[0]


# -- an engine that is used in another way than it is meant -----------------------------------------------------------


def test_a_blocking_engine_may_be_started_and_stopped_by_hand() -> None:
    """E18: where a ``with`` has no place."""
    engine = BlockingEngine(threads=1, default_lane="thread")
    assert engine.start() is engine
    try:
        assert engine.run(abs, -1) == 1
        with pytest.raises(
            RuntimeError, match=r"^expected an engine that has not been started, got one that runs; use"
        ):
            engine.start()
    finally:
        engine.stop()
    for again in (engine.start, engine.__enter__):
        with pytest.raises(RuntimeError, match=r"^expected an engine that has not .*, got one that has stopped; an "):
            again()


async def test_an_engine_that_is_started_again_says_what_it_is() -> None:
    """E18: and the remedy; by whichever way."""
    engine = await Engine(threads=1).start()
    with pytest.raises(RuntimeError, match=r"got one that runs; use it as it is, or create a new Engine$"):
        await engine.start()
    with pytest.raises(RuntimeError, match=r"got one that runs; use it as it is, or create a new Engine$"):
        engine.__enter__()
    await engine.stop()
    with pytest.raises(RuntimeError, match=r"got one that has stopped; an engine lives once: create a new Engine$"):
        await engine.start()


async def test_a_blocking_engine_in_an_async_with_says_which_with_it_wants() -> None:
    """E18: and nothing was started."""
    engine: Any = BlockingEngine(threads=1)
    with pytest.raises(
        TypeError, match=r"^expected a BlockingEngine to be entered with 'with', got 'async with'; use "
    ):
        async with engine:
            pass
    assert engine.stop().submitted == 0


async def test_who_comes_after_the_end_is_told_that_it_has_stopped() -> None:
    """E18: and who comes during it, that it is stopping."""
    gate = threading.Event()
    async with Engine(threads=1, default_lane="thread") as engine:
        engine.submit(gate.wait, STUCK)
        stopping = asyncio.ensure_future(engine.stop())
        await eventually_async(lambda: engine.snapshot().phase == "draining")
        with pytest.raises(EngineClosed, match=r"^expected the engine to be running, got one that is stopping: "):
            engine.submit(abs, -1)
        gate.set()
        await stopping
        with pytest.raises(EngineClosed, match=r"^expected the engine to be running, got one that has stopped: "):
            engine.submit(abs, -1)
