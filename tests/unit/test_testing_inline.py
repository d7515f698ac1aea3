"""``InlineEngine``: the engine's rules on the caller's thread, in virtual time."""

import asyncio
import concurrent.futures
import contextvars
import gc
import itertools
import logging
import threading
import warnings
from collections.abc import AsyncIterator, Iterator

import pytest

from engine import (
    BlockingEngine,
    Engine,
    EngineClosed,
    EngineFull,
    PickleError,
    Priority,
    RemoteError,
    Retry,
    Task,
    TaskCancelled,
    TaskState,
    TaskTimeout,
    WorkerStartupError,
    checkpoint,
    current_task,
    io,
)
from engine._blocking_calls import BlockingCalls
from engine.testing import InlineEngine, VirtualClock

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="nothing")
CALLED: list[str] = []


@pytest.fixture
def engine() -> Iterator[InlineEngine]:
    with InlineEngine() as engine:
        yield engine


@pytest.fixture
def manual() -> Iterator[InlineEngine]:
    """Give an engine that runs nothing before it is told to."""
    with InlineEngine(autorun=False) as engine:
        yield engine


def double(n: int) -> int:
    return 2 * n


def fail(text: str) -> None:
    raise ValueError(text)


def note(text: str) -> None:
    CALLED.append(text)


async def nap(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


class Flaky:
    """Fails so many times; notes when it was called."""

    def __init__(self, clock: VirtualClock, failures: int) -> None:
        self.clock = clock
        self.failures = failures
        self.calls: list[float] = []

    def __call__(self) -> int:
        self.calls.append(self.clock.now())
        if len(self.calls) <= self.failures:
            raise OSError(f"failure {len(self.calls)}")
        return len(self.calls)


# -- what it is -------------------------------------------------------------------------------------------------------


def test_it_is_a_blocking_engine_whose_tasks_are_tasks(engine: InlineEngine) -> None:
    assert isinstance(engine, BlockingEngine)
    task = engine.submit(double, 2)
    assert isinstance(task, Task)
    assert (task.state, task.result(), task.attempt, task.worker) == (TaskState.COMPLETED, 4, 1, "inline")


def test_it_starts_no_thread_and_no_process(engine: InlineEngine) -> None:
    before = threading.active_count()
    main = threading.get_ident()
    assert engine.run(threading.get_ident) == main
    assert engine.options(lane="thread").run(threading.get_ident) == main
    assert engine.run(nap, 5) == 5
    assert threading.active_count() == before
    assert engine.snapshot().workers == ()


def test_what_takes_a_blocking_engine_gets_all_its_methods(engine: InlineEngine) -> None:
    assert engine.run(double, 1) == 2
    assert list(engine.map(double, [1, 2, 3])) == [2, 4, 6]
    assert list(engine.map(pow, itertools.count(), [2, 2], ordered=False, window=1)) == [0, 1]
    with engine.group() as group:
        tasks = [group.submit(double, 1), group.options(name="second").submit(double, 2)]
    assert [task.result() for task in tasks] == [2, 4]
    assert engine.options(name="mine").submit(double, 1).name == "mine"
    assert [info.name for info in engine.tasks(name="mine")] == ["mine"]
    assert engine.get(1) == engine.tasks()[0]
    with engine.share([1, 2]) as shared:
        assert engine.run(len, shared) == 2
    engine.warm_up()
    engine.restart_workers()
    assert engine.stacks() == {}
    assert engine.process_backend in ("native", "loky")
    assert engine.snapshot().count(TaskState.COMPLETED) == 10
    report = engine.stop()
    assert (report.submitted, report.completed, report.clean) == (10, 10, True)
    assert engine.stop() == report
    assert repr(engine) == "<InlineEngine 'engine' closed at 0 s>"
    with pytest.raises(EngineClosed, match="cannot schedule new futures after shutdown"):
        engine.submit(double, 1)


def test_it_is_checked_as_an_engine_is() -> None:
    with pytest.raises(ValueError, match="expected processes to be a positive integer, got 0"):
        InlineEngine(processes=0)
    with pytest.raises(ValueError, match="expected autorun to be True or False, got 1"):
        InlineEngine(autorun=1)  # type: ignore[arg-type]  # it is what is tested
    with pytest.raises(ValueError, match="expected clock to be a VirtualClock, got 3"):
        InlineEngine(clock=3)  # type: ignore[arg-type]  # as above
    with pytest.raises(EngineClosed, match="has not started"):
        InlineEngine().submit(double, 1)
    assert InlineEngine().stop().submitted == 0
    with InlineEngine() as engine:
        with pytest.raises(TypeError, match="expected fn to be a callable"):
            engine.submit(3)  # type: ignore[call-overload]  # as above
        with pytest.raises(RuntimeError, match="or create a new Engine"):
            engine.start()


def test_another_thread_is_refused(engine: InlineEngine) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool, pytest.raises(RuntimeError, match="use a real engine where"):
        pool.submit(engine.submit, double, 1).result()


def test_one_that_is_dropped_closes_its_loop() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine = InlineEngine().start()
        engine.run(double, 1)
        engine.submit(nap, 1000)
        del engine
        gc.collect()


# -- outcomes ---------------------------------------------------------------------------------------------------------


def test_an_error_is_raised_where_somebody_asks(engine: InlineEngine) -> None:
    task = engine.submit(fail, "no luck")
    with pytest.raises(ValueError, match="no luck"):
        task.result()
    assert task.info().error == "ValueError: no luck"
    results = list(engine.map(int, ["1", "two"], return_exceptions=True))
    assert results[0] == 1
    assert isinstance(results[1], ValueError)
    with pytest.raises(RemoteError, match="SystemExit"):
        engine.run(exit, 3)


def test_a_failure_that_nobody_asks_for_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), InlineEngine() as engine:
        engine.submit(fail, "forgotten")
        gc.collect()
    assert "failed and nobody retrieved its exception: ValueError: forgotten" in caplog.text


def test_done_callbacks_are_called_and_may_submit(engine: InlineEngine) -> None:
    further: list[Task[int]] = []
    engine.submit(double, 1).add_done_callback(lambda task: further.append(engine.submit(double, task.result())))
    engine.run_until_idle()
    assert [task.result() for task in further] == [4]


def test_context_variables_go_where_they_go_in_the_engine() -> None:
    with InlineEngine() as engine:
        VARIABLE.set("something")
        assert engine.run(VARIABLE.get) == "nothing"
        assert engine.options(lane="thread").run(VARIABLE.get) == "something"
    with InlineEngine(context=(f"{__name__}:VARIABLE",)) as engine:
        assert engine.run(VARIABLE.get) == "something"
    VARIABLE.set("nothing")


def test_the_initializer_is_called_before_the_first_process_task() -> None:
    CALLED.clear()
    with InlineEngine(initializer=note, initargs=("ready",)) as engine:
        engine.options(lane="thread").run(note, "thread")
        engine.run(note, "process")
    assert CALLED == ["thread", "ready", "process"]
    with InlineEngine(initializer=fail, initargs=("not ready",)) as engine, pytest.raises(WorkerStartupError) as caught:
        engine.run(double, 1)
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_coroutine_that_swallows_its_cancellation_is_abandoned(caplog: pytest.LogCaptureFixture) -> None:
    async def stubborn() -> None:
        while True:
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                pass

    with InlineEngine() as engine:
        task = engine.submit(stubborn)
        report = engine.stop(timeout=5)
    assert (task.cancelled(), report.abandoned, engine.clock.now()) == (True, 1, 5.5)
    assert "was asked to stop, did not, and was abandoned" in caplog.text
    gc.collect()
    assert "destroyed" not in caplog.text


def test_a_virtual_hour_is_not_slow(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")
    with InlineEngine() as engine:

        async def move() -> None:
            engine.clock.advance(3600)

        engine.run(move)
    assert "took" not in caplog.text


def test_a_keyboard_interrupt_of_the_program_passes_through(caplog: pytest.LogCaptureFixture) -> None:
    import signal

    gc.collect()
    with InlineEngine() as engine:
        with pytest.raises(KeyboardInterrupt):
            engine.submit(signal.raise_signal, signal.SIGINT)
        assert engine.tasks()[0].state is TaskState.FAILED
        assert engine.run(double, 1) == 2
    gc.collect()
    assert caplog.text == ""


# -- tasks that wait for tasks ----------------------------------------------------------------------------------------


def test_a_thread_task_waits_for_another_one(engine: InlineEngine) -> None:
    def outer(depth: int) -> int:
        return depth and 1 + engine.options(lane="thread").submit(outer, depth - 1).result()

    assert engine.options(lane="thread").run(outer, 9) == 9


def test_a_coroutine_awaits_a_task_of_each_lane(engine: InlineEngine) -> None:
    async def outer() -> tuple[int, float, float]:
        first, second, third = await asyncio.gather(
            engine.submit(double, 1), engine.submit(nap, 3), engine.submit(nap, 5)
        )
        return first, second, third

    assert engine.run(outer) == (2, 3, 5)
    assert engine.clock.now() == 5


def test_a_process_task_may_not_submit_as_in_a_worker(engine: InlineEngine) -> None:
    with pytest.raises(PickleError, match="where there is no engine"):
        engine.run(lambda: engine.submit(double, 1))


def test_a_wait_that_nothing_can_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine._inline.core._PATIENCE", 0.01)
    with InlineEngine() as engine:
        task = engine.submit(asyncio.Event().wait)
        with pytest.raises(RuntimeError, match=r"got none.*task 1 \(Event.wait\) running"):
            task.result()
        task.cancel()


def test_a_wait_for_a_real_thread_ends(engine: InlineEngine) -> None:
    async def outer() -> int:
        return await asyncio.to_thread(double, 2)

    assert engine.run(outer) == 4


async def test_a_test_that_is_a_coroutine_awaits_its_tasks() -> None:
    with InlineEngine() as engine:
        assert await engine.submit(double, 1) == 2
        assert await engine.submit(nap, 100) == 100
        assert sum(await asyncio.gather(engine.submit(nap, 5), engine.submit(double, 3))) == 11
        assert engine.run(nap, 1) == 1


def test_an_asynchronous_source_is_read(engine: InlineEngine) -> None:
    async def source() -> AsyncIterator[int]:
        for number in range(3):
            await asyncio.sleep(1)
            yield number

    assert list(engine.map(double, source())) == [0, 2, 4]


# -- virtual time -----------------------------------------------------------------------------------------------------


def test_attempts_come_when_the_clock_says_so(engine: InlineEngine) -> None:
    flaky = Flaky(engine.clock, 2)
    task = engine.options(retry=Retry(max_attempts=3, base_delay=10)).submit(flaky)
    assert (task.state, task.attempt) == (TaskState.PENDING, 1)
    engine.clock.advance(9.9)
    assert task.attempt == 1
    engine.clock.advance(0.2)
    assert task.attempt == 2
    engine.clock.advance(60)
    assert task.result() == 3
    assert flaky.calls == [0, 10, 30]


def test_who_waits_has_the_clock_go_on(engine: InlineEngine) -> None:
    flaky = Flaky(engine.clock, 2)
    assert engine.options(retry=Retry(base_delay=3600, factor=1, max_delay=3600)).run(flaky) == 3
    assert flaky.calls == [0, 3600, 7200]
    assert engine.snapshot().retries == 2


def test_the_jitter_comes_from_the_given_numbers() -> None:
    with InlineEngine(rng=lambda: 1.0) as engine:
        engine.options(retry=Retry(base_delay=10, jitter=0.5)).run(Flaky(engine.clock, 1))
        assert engine.clock.now() == 15


@pytest.mark.parametrize("lane", ["thread", "process"])
def test_a_task_that_takes_too_long_times_out_at_its_deadline(engine: InlineEngine, lane: str) -> None:
    def work() -> None:
        for _ in range(100):
            engine.clock.sleep(1)
            checkpoint()

    task = engine.options(lane=lane, timeout=60).submit(work)
    with pytest.raises(TaskTimeout) as caught:
        task.result()
    assert (caught.value.timeout, caught.value.scope, engine.clock.now()) == (60, "attempt", 60)
    assert task.started_at is not None
    assert task.completed_at is not None
    assert task.completed_at - task.started_at == pytest.approx(60)
    assert engine.snapshot().timeouts == 1


@pytest.mark.parametrize("is_late", [False, True], ids=["begins", "ends"])
def test_an_answer_of_a_real_thread_that_comes_as_the_wait_begins_or_ends_is_not_missed(
    engine: InlineEngine, monkeypatch: pytest.MonkeyPatch, is_late: bool
) -> None:
    """E132: the loop stood still, the answer was posted, and then the wait for it began. E216: it ended in vain."""
    loop = engine._inline.loop
    asked: list[asyncio.Future[str]] = []
    wait = loop.wait

    def beside_an_answer(seconds: float) -> None:
        if is_late:
            wait(0.0)
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(asked[0].set_result, "an answer"))
        thread.start()
        thread.join()
        if not is_late:
            wait(seconds)

    async def ask() -> str:
        asked.append(loop.create_future())
        return await asked[0]

    monkeypatch.setattr(loop, "wait", beside_an_answer)
    assert engine.run(ask) == "an answer"


class _Answering(VirtualClock):
    """A clock on which a real thread answers while the next instant is looked for."""

    asked: asyncio.Future[str] | None = None

    def settle(self) -> None:
        if self.asked is not None and not self.asked.done():
            self.asked.set_result("an answer")
        super().settle()


@pytest.mark.parametrize("timeout", [None, 60.0])
def test_an_answer_that_comes_as_the_next_instant_is_looked_for_ends_the_wait(
    timeout: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E216: it took five seconds and ended with an error, or with the instant of the timeout."""
    monkeypatch.setattr("engine._inline.core._PATIENCE", 0.01)
    clock = _Answering()
    with InlineEngine(clock=clock) as engine:

        async def ask() -> str:
            clock.asked = asyncio.get_running_loop().create_future()
            return await clock.asked

        assert engine.submit(ask).result(timeout) == "an answer"
        assert clock.now() == 0


def test_no_time_passes_until_a_promise_is_kept(engine: InlineEngine) -> None:
    """E217."""
    loop = engine._inline.loop

    async def ask() -> None:
        answer: asyncio.Future[None] = loop.create_future()
        loop.promise(answer)
        threading.Timer(0.05, loop.call_soon_threadsafe, [answer.set_result, None]).start()
        await answer

    engine.options(timeout=1).run(ask)
    assert engine.clock.now() == 0
    engine.clock.advance(1)
    with pytest.raises(TaskTimeout):
        engine.options(timeout=1).run(nap, 2)


def test_a_promise_that_is_not_kept_holds_nothing_for_ever(
    engine: InlineEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine._inline.loop._PROMISED_SECONDS", 0.01)

    async def ask() -> None:
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        engine._inline.loop.promise(answer)
        await answer

    with pytest.raises(TaskTimeout):
        engine.options(timeout=1).run(ask)
    assert engine.clock.now() == 1


def test_a_thread_task_that_does_not_look_ends_when_it_ends(engine: InlineEngine) -> None:
    task = engine.options(lane="thread", timeout=60).submit(engine.clock.sleep, 100)
    assert isinstance(task.exception(), TaskTimeout)
    assert engine.clock.now() == 100
    assert engine.snapshot().late == 1


def test_a_process_task_that_sleeps_is_interrupted_at_its_deadline(engine: InlineEngine) -> None:
    seen: list[float] = []

    def work() -> None:
        try:
            engine.clock.sleep(100)
        except TaskCancelled:
            seen.append(engine.clock.now())
            raise

    assert isinstance(engine.options(timeout=60).submit(work).exception(), TaskTimeout)
    assert seen == [60]


def test_a_coroutine_that_sleeps_is_cancelled_at_its_deadline(engine: InlineEngine) -> None:
    task = engine.options(timeout=60).submit(nap, 100)
    assert task.state is TaskState.RUNNING
    engine.clock.advance(59)
    assert task.state is TaskState.RUNNING
    engine.clock.advance(1)
    assert isinstance(task.exception(), TaskTimeout)


def test_a_result_that_comes_in_time_wins(engine: InlineEngine) -> None:
    assert engine.options(timeout=60).run(nap, 59) == 59
    engine.options(timeout=60).run(engine.clock.sleep, 59.9)


def test_a_timeout_is_tried_again(engine: InlineEngine) -> None:
    attempts: list[int] = []

    def work() -> None:
        attempts.append(current_task().attempt)
        engine.clock.sleep(100 if len(attempts) == 1 else 1)

    engine.options(timeout=60, retry=Retry(base_delay=5)).run(work)
    assert (attempts, engine.clock.now()) == ([1, 2], 66)


def test_a_total_timeout_covers_the_pauses_and_the_queue(manual: InlineEngine) -> None:
    view = manual.options(retry=Retry(max_attempts=9, base_delay=10, factor=1), total_timeout=25)
    task = view.submit(fail, "again")
    with pytest.raises(TaskTimeout, match="its last failure: ValueError: again") as caught:
        task.result()
    assert (task.attempt, caught.value.scope, manual.clock.now()) == (3, "total", 25)
    queued = manual.options(total_timeout=5).submit(double, 1)
    manual.clock.advance(5)
    assert isinstance(queued.exception(), TaskTimeout)
    assert queued.started_at is None


def test_the_time_that_result_waits_is_virtual(engine: InlineEngine) -> None:
    task = engine.submit(nap, 100)
    with pytest.raises(TimeoutError, match=r"done within 5\.0 s"):
        task.result(timeout=5)
    assert (engine.clock.now(), task.state) == (5, TaskState.RUNNING)
    assert task.result() == 100


def test_current_task_and_progress_work_inside(engine: InlineEngine) -> None:
    def work() -> tuple[int | None, str, float | None]:
        me = current_task()
        me.progress(3, 10, "three of ten")
        return me.id, me.name, me.deadline

    engine.clock.advance(40)
    task = engine.options(name="mine", timeout=2).submit(work)
    assert task.result() == (task.id, "mine", 42)
    assert task.progress is not None
    assert (task.progress.done, task.progress.total, task.progress.message) == (3, 10, "three of ten")


# -- one by one -------------------------------------------------------------------------------------------------------


def test_nothing_runs_before_it_is_told_to_and_the_more_urgent_first(manual: InlineEngine) -> None:
    CALLED.clear()
    for priority, text in [(Priority.LOW, "c"), (Priority.NORMAL, "b"), (Priority.HIGH, "a"), (Priority.LOW, "d")]:
        manual.options(priority=priority, lane="thread" if text in "ad" else "process").submit(note, text)
    assert (CALLED, manual.snapshot().queue_depth) == ([], 4)
    task = manual.run_next()
    assert task is not None
    assert (CALLED, task.id, task.state) == (["a"], 3, TaskState.COMPLETED)
    assert manual.run_until_idle() == 3
    assert CALLED == ["a", "b", "c", "d"]
    assert manual.run_next() is None


def test_a_queued_task_that_is_cancelled_never_runs(manual: InlineEngine) -> None:
    CALLED.clear()
    first, second = manual.submit(note, "first"), manual.options(name="second").submit(note, "second")
    assert first.cancel()
    assert not first.cancel()
    assert manual.cancel(name="second") == 1
    assert manual.run_until_idle() == 0
    assert (CALLED, first.state, second.state) == ([], TaskState.CANCELLED, TaskState.CANCELLED)
    with pytest.raises(concurrent.futures.CancelledError):
        first.result()


def test_a_running_task_is_cancelled_from_inside(engine: InlineEngine) -> None:
    CALLED.clear()

    def work() -> None:
        assert engine.cancel(id=current_task().id) == 1
        note("before")
        checkpoint()
        note("after")

    task = engine.submit(work)
    assert (task.cancelled(), CALLED) == (True, ["before"])


def test_a_coroutine_is_cancelled(engine: InlineEngine) -> None:
    task = engine.submit(nap, 100)
    assert task.cancel()
    engine.run_until_idle()
    assert task.cancelled()
    assert engine.clock.now() == 0


def test_a_full_engine_refuses_and_run_makes_room() -> None:
    with InlineEngine(autorun=False, max_pending=2) as engine:
        tasks = [engine.submit(double, number) for number in range(2)]
        with pytest.raises(EngineFull, match="max_pending=2"):
            engine.submit(double, 3)
        assert engine.run(double, 4) == 8
        assert [task.state for task in tasks] == [TaskState.COMPLETED] * 2
        assert list(engine.map(double, range(9))) == list(range(0, 18, 2))


@pytest.mark.parametrize("autorun", [True, False])
@pytest.mark.parametrize("is_view", [True, False])
def test_a_failure_in_a_group_cancels_the_siblings(autorun: bool, is_view: bool) -> None:
    CALLED.clear()

    def all_three(engine: BlockingCalls) -> None:
        with engine.group() as group:
            group.submit(fail, "first")
            group.submit(note, "second")
            engine.submit(note, "not of the group")
            assert CALLED == []

    with InlineEngine(autorun=autorun) as engine:
        with pytest.raises(ExceptionGroup) as caught:
            all_three(engine.options(timeout=5) if is_view else engine)
        assert [str(error) for error in caught.value.exceptions] == ["first"]
        assert (["not of the group"] if autorun else []) == CALLED
        assert next(info.state for info in engine.tasks(name="note")) is TaskState.CANCELLED


def test_who_waits_in_the_block_of_a_group_has_its_tasks_run(engine: InlineEngine) -> None:
    with engine.group() as group:
        task = group.submit(double, 2)
        assert task.state is TaskState.PENDING
        assert task.result() == 4
        sleeper = group.submit(nap, 5)
        engine.clock.advance(5)
        assert sleeper.done()
    assert engine.submit(double, 1).done()


def test_leaving_runs_what_waits_and_stop_cancels_it(manual: InlineEngine) -> None:
    CALLED.clear()
    with InlineEngine(autorun=False) as engine:
        engine.submit(note, "left")
        engine.options(retry=Retry(base_delay=1000, max_delay=9000)).submit(Flaky(engine.clock, 2))
    assert (CALLED, engine.clock.now()) == (["left"], 3000)
    manual.submit(note, "never")
    report = manual.stop(timeout=0)
    assert (report.cancelled_by_stop, report.seconds) == (1, 0)
    assert CALLED == ["left"]


def test_a_block_that_raises_stops_at_once() -> None:
    CALLED.clear()

    def block() -> None:
        with InlineEngine(autorun=False) as engine:
            engine.submit(note, "never")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        block()
    assert CALLED == []


def test_a_task_stops_its_engine(engine: InlineEngine) -> None:
    task = engine.options(lane="thread").submit(engine.stop)
    report = task.result()
    assert (report.submitted, report.stopping) == (1, 1)
    assert engine.snapshot().phase == "closed"


def test_a_coroutine_and_a_callback_may_stop_their_engine() -> None:
    with InlineEngine() as engine:

        async def stop() -> int:
            return engine.stop(timeout=0).submitted

        task = engine.submit(stop)
        engine.submit(double, 1) if not task.done() else None
    assert engine.snapshot().phase == "closed"
    with InlineEngine() as engine:
        engine.submit(double, 1).add_done_callback(lambda _: engine.stop())
        engine.run_until_idle()
        assert engine.snapshot().phase == "closed"


async def test_a_coroutine_test_stays_the_current_task() -> None:
    me = asyncio.current_task()
    with InlineEngine() as engine:
        assert engine.run(nap, 1) == 1
        assert await asyncio.wait_for(engine.submit(nap, 1), 5) == 1
        assert asyncio.current_task() is me


def test_two_engines_share_a_clock() -> None:
    clock = VirtualClock()
    with InlineEngine(clock=clock) as one, InlineEngine(clock=clock) as other:
        task = other.submit(nap, 3)
        assert one.run(nap, 5) == 5
        assert task.state is TaskState.COMPLETED


def test_decorators_count(engine: InlineEngine) -> None:
    @io(timeout=5, name="read")
    def read() -> float | None:
        return current_task().deadline

    task = engine.submit(read)
    assert (task.name, task.lane, task.result()) == ("read", "thread", 5)


# -- pickle -----------------------------------------------------------------------------------------------------------


class Touchy(Exception):
    """Cannot be rebuilt: its __init__ takes other arguments than it passes on."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def throw_touchy() -> None:
    raise Touchy(3, "touchy")


def make_lock() -> object:
    return threading.Lock()


def test_what_would_not_travel_is_found() -> None:
    with InlineEngine(check_pickle=True) as engine:
        assert engine.run(double, 4) == 8
        data = bytes(100_000)
        assert engine.run(bytes.upper, data) == data
        with pytest.raises(PickleError, match=r"expected the arguments of task 3 \(id\) to be picklable") as caught:
            engine.run(id, threading.Lock())
        assert (caught.value.what, caught.value.where) == ("arguments", "parent")
        with pytest.raises(PickleError, match=r"expected the result of task 4 \(make_lock\) to be picklable"):
            engine.run(make_lock)
        with pytest.raises(RemoteError, match="touchy") as remote:
            engine.run(throw_touchy)
        assert remote.value.stands_for(Touchy)
        with pytest.raises(PickleError, match="cannot submit to its parent's engine"):
            engine.run(id, engine)
        assert engine.options(lane="thread").run(make_lock) is not None


def test_arguments_and_results_are_copies_as_in_a_worker() -> None:
    def grow(items: list[int]) -> list[int]:
        items.append(1)
        return items

    items: list[int] = []
    with InlineEngine(check_pickle=True) as engine:
        assert engine.run(grow, items) == [1]
    assert items == []
    with InlineEngine() as engine:
        assert engine.run(grow, items) is items


def test_a_real_engine_is_not_concerned() -> None:
    with Engine(processes=1) as real, InlineEngine() as inline:
        assert real.run(double, 2) == inline.run(double, 2) == 4


# -- the clock --------------------------------------------------------------------------------------------------------


def test_a_clock_alone_only_counts() -> None:
    clock = VirtualClock(start=100)
    clock.advance(2.5)
    clock.sleep(0)
    clock.sleep(1)
    assert (clock.now(), repr(clock)) == (103.5, "<VirtualClock at 103.5 s>")
    for bad in (-1, float("nan"), "1"):
        with pytest.raises(ValueError, match="expected seconds to be a finite number of seconds, zero or more"):
            clock.advance(bad)  # type: ignore[arg-type]  # it is what is tested
        with pytest.raises(ValueError, match="expected seconds to be"):
            clock.sleep(bad)  # type: ignore[arg-type]  # as above
    with pytest.raises(ValueError, match="expected start to be"):
        VirtualClock(start=-1)


def test_all_that_is_due_is_done_at_its_instant_and_in_order(engine: InlineEngine) -> None:
    seen: list[tuple[float, float]] = []

    async def wake(seconds: float) -> None:
        await asyncio.sleep(seconds)
        seen.append((seconds, engine.clock.now()))

    for seconds in (3, 0.5, 86_400 * 30, 1, 0.5):
        engine.submit(wake, seconds)
    engine.clock.advance(86_400 * 31)
    assert seen == [(0.5, 0.5), (0.5, 0.5), (1, 1), (3, 3), (86_400 * 30, 86_400 * 30)]
    assert engine.clock.now() == 86_400 * 31


@pytest.mark.parametrize("start", [0.1, 1.1, 3e6, 1e9])
def test_a_timeout_that_is_a_rounding_error_early_strikes_all_the_same(start: float) -> None:
    with InlineEngine(clock=VirtualClock(start)) as engine:
        for timeout in (0.1, 0.2, 0.3, 0.7, 1.1):
            began = engine.clock.now()
            assert isinstance(engine.options(timeout=timeout).submit(nap, 9).exception(), TaskTimeout)
            assert engine.clock.now() - began == pytest.approx(timeout, abs=1e-5)


def test_code_that_takes_an_executor_is_tested_inline() -> None:
    """Futures end, and their callbacks are called, on the one thread that there is, when somebody waits."""
    called: list[tuple[int, threading.Thread]] = []
    with InlineEngine(autorun=False) as engine:
        with engine.executor("thread") as executor:
            futures = [executor.submit(abs, -n) for n in range(4)]
            futures[3].add_done_callback(lambda future: called.append((future.result(), threading.current_thread())))
            assert futures[0].cancel()
            assert not futures[1].done()
            assert futures[1].result() == 1
            assert not futures[2].done()
            assert not called
        assert [future.done() for future in futures] == [True] * 4
        assert called == [(3, threading.current_thread())]
        assert list(engine.executor().map(abs, [-5, -6])) == [5, 6]
