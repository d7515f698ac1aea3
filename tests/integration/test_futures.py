"""The executors of ``engine.futures`` and ``engine.executor()``: what code for ``concurrent.futures`` relies on.

CPython's own tests of executors run against them too (``tests/compat``); here is what those do not ask. design/0013.
"""

import asyncio
import concurrent.futures
import contextvars
import gc
import itertools
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, as_completed, wait
from typing import Any

import pytest

from engine import BlockingEngine, Engine, Retry, Snapshot, TaskState, current_task
from engine.errors import EngineClosed, EngineFull, PickleError, RemoteError, RemoteTraceback
from engine.futures import (
    BrokenProcessPool,
    BrokenThreadPool,
    CallFuture,
    EngineExecutor,
    ProcessExecutor,
    ResultDecodeError,
    TaskDecodeError,
    ThreadExecutor,
    WorkerCrashed,
    WorkerStartupError,
)
from tests.contracts import functions
from tests.integration import hostile_data as data
from tests.support import eventually

STUCK = 30.0  #: seconds; a bound for what never happens, not a measurement

Make = Callable[[], EngineExecutor]


@pytest.fixture
def engine() -> Iterator[BlockingEngine]:
    with Engine(processes=2, threads=2) as engine:
        yield engine


@pytest.fixture(params=["process", "thread", "over an engine"])
def executor(request: pytest.FixtureRequest) -> Iterator[EngineExecutor]:
    """Give each kind of executor in turn."""
    if request.param == "over an engine":
        with Engine(processes=2) as engine, engine.executor() as over:
            yield over
        return
    with (ProcessExecutor if request.param == "process" else ThreadExecutor)(2) as own:
        yield own


def touch_and_sleep(path: str, seconds: float) -> None:
    functions.mark(path)
    time.sleep(seconds)


def give_when(path: str, value: int) -> int:
    """Return ``value`` once there is ``path``."""
    while not os.path.exists(path):
        time.sleep(0.005)
    return value


def touch_and_wait(path: str) -> None:
    """Run until somebody takes the trace away."""
    functions.mark(path)
    while os.path.exists(path):
        time.sleep(0.01)


# -- futures ----------------------------------------------------------------------------------------------------------


def test_it_is_a_real_future_of_a_real_executor(executor: EngineExecutor) -> None:
    future = executor.submit(pow, 2, 8)
    assert isinstance(executor, concurrent.futures.Executor)
    assert isinstance(future, concurrent.futures.Future)
    assert future.result(STUCK) == 256
    assert future.done()
    assert not future.running()
    assert future.exception() is None
    assert future.task.state is TaskState.COMPLETED
    assert "finished" in repr(future)


def test_every_argument_goes_to_the_function(executor: EngineExecutor) -> None:
    future = executor.submit(dict, self=1, fn=2, args=3, kwargs=4, timeout=5)
    assert future.result(STUCK) == {"self": 1, "fn": 2, "args": 3, "kwargs": 4, "timeout": 5}


def test_a_failure_arrives_with_its_traceback_and_is_not_logged(
    executor: EngineExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    future = executor.submit(functions.fail, "no")
    error = future.exception(STUCK)
    assert type(error) is ValueError
    with pytest.raises(ValueError, match="no"):
        future.result()
    del error, future
    gc.collect()
    assert not caplog.records  # the standard executors say nothing either


def test_wait_and_as_completed_take_them(executor: EngineExecutor) -> None:
    futures = [executor.submit(functions.give, n) for n in range(20)]
    assert sorted(future.result() for future in as_completed(futures, STUCK)) == list(range(20))
    assert wait(futures, STUCK).not_done == set()


def test_result_waits_for_its_timeout_only(executor: EngineExecutor) -> None:
    future = executor.submit(time.sleep, 0.5)
    for call in (future.result, future.exception):
        with pytest.raises(TimeoutError):
            call(0.01)
        with pytest.raises(TimeoutError):
            call(-1)
    assert future.result(STUCK) is None


def test_cancel_of_what_waits_and_of_what_runs(executor: EngineExecutor, tmp_path: Any) -> None:
    """As the standard says: True, and it never runs; False once it runs. ``task.cancel`` stops it all the same."""
    marks = [str(tmp_path / str(n)) for n in range(12)]
    running = [executor.submit(touch_and_wait, path) for path in marks[:2]]
    eventually(lambda: all(map(os.path.exists, marks[:2])))
    assert all(future.running() for future in running)
    waiting = [executor.submit(touch_and_sleep, path, 0.0) for path in marks[2:]]
    assert [future.cancel() for future in waiting] == [True] * 10
    assert all(future.cancelled() and future.done() and future.cancel() for future in waiting)
    assert [future.cancel() for future in running] == [False, False]
    assert not any(future.done() for future in running)
    assert wait(waiting, STUCK).not_done == set()
    with pytest.raises(CancelledError):
        waiting[0].result()
    for future in running:
        assert future.task.cancel()
        assert wait([future], STUCK).done == {future}
        assert future.cancelled()
    assert [os.path.exists(path) for path in marks] == [True, True] + [False] * 10
    for path in marks[:2]:  # a thread cannot be killed
        os.remove(path)


def test_callbacks_come_once_in_order_on_one_thread_and_disturb_nobody(
    executor: EngineExecutor, caplog: pytest.LogCaptureFixture, tmp_path: Any
) -> None:
    """N14: callbacks that raise, or exit, are logged where ``concurrent.futures`` logs them; the others run."""
    called: list[tuple[int, str]] = []

    def note(future: concurrent.futures.Future[int]) -> None:
        called.append((future.result(), threading.current_thread().name))

    def bad(future: concurrent.futures.Future[int]) -> None:
        raise (SystemExit, ValueError, KeyboardInterrupt)[future.result() % 3]("in a callback")

    gate = str(tmp_path / "gate")
    futures = [executor.submit(give_when, gate, n) for n in range(9)]
    for future in futures:
        future.add_done_callback(note)
        future.add_done_callback(bad)
    functions.mark(gate)
    executor.shutdown()
    assert sorted(n for n, _ in called) == list(range(9))
    assert len({thread for _, thread in called}) == 1
    assert threading.current_thread().name not in {thread for _, thread in called}
    assert [record.name for record in caplog.records] == ["concurrent.futures"] * 9


def test_chains_of_callbacks_a_hundred_deep(executor: EngineExecutor) -> None:
    """N14: each callback submits the next call; three chains at once."""
    done = threading.Semaphore(0)

    def link(left: int) -> Callable[[concurrent.futures.Future[int]], None]:
        def submit(future: concurrent.futures.Future[int]) -> None:
            if left:
                executor.submit(functions.give, future.result() + 1).add_done_callback(link(left - 1))
            else:
                done.release(future.result())

        return submit

    for _ in range(3):
        executor.submit(functions.give, 0).add_done_callback(link(100))
    for _ in range(300):
        assert done.acquire(timeout=STUCK)


def test_a_slow_callback_holds_up_later_callbacks_and_nothing_else(executor: EngineExecutor, tmp_path: Any) -> None:
    """N14: results, submits and waits go on while a callback sleeps."""
    release, is_in, later = threading.Event(), threading.Event(), threading.Event()

    def slow(_: object) -> None:
        is_in.set()
        assert release.wait(STUCK)

    gates = [str(tmp_path / "first"), str(tmp_path / "second")]
    executor.submit(give_when, gates[0], 1).add_done_callback(slow)
    functions.mark(gates[0])
    assert is_in.wait(STUCK)
    after = executor.submit(give_when, gates[1], 2)
    after.add_done_callback(lambda _: later.set())
    functions.mark(gates[1])
    assert after.result(STUCK) == 2
    assert list(executor.map(functions.give, range(50))) == list(range(50))
    assert not later.is_set()
    release.set()
    assert later.wait(STUCK)


def test_a_callback_added_late_is_called_at_once(executor: EngineExecutor) -> None:
    future = executor.submit(functions.give, 1)
    future.result(STUCK)
    here: list[threading.Thread] = []
    future.add_done_callback(lambda _: here.append(threading.current_thread()))
    assert here == [threading.current_thread()]


def test_a_future_and_its_result_are_dropped_with_their_last_user() -> None:
    with ThreadExecutor(1) as executor:
        future = executor.submit(set, "abc")
        kept = weakref.ref(future), weakref.ref(future.result(STUCK))
        del future
        eventually(lambda: gc.collect() is not None and [ref() for ref in kept] == [None, None])


# -- map --------------------------------------------------------------------------------------------------------------


def test_map_is_in_order_and_eager(executor: EngineExecutor, tmp_path: Any) -> None:
    assert list(executor.map(pow, range(30), itertools.count())) == [n**n for n in range(30)]
    assert list(executor.map(pow, range(30), range(30), chunksize=7)) == [n**n for n in range(30)]
    assert list(executor.map(functions.give, [])) == []
    marks = [str(tmp_path / str(n)) for n in range(6)]
    executor.map(functions.touch, marks)  # nobody iterates
    eventually(lambda: all(os.path.exists(path) for path in marks))


@pytest.mark.parametrize("chunksize", [1, 3])
def test_map_stops_at_a_failure_and_cancels_the_rest(chunksize: int) -> None:
    with ProcessExecutor(1) as executor:
        results = executor.map(int, ["1", "2", "3", "x", *["5"] * 500], chunksize=chunksize)
        assert [next(results) for _ in range(3)] == [1, 2, 3]
        with pytest.raises(ValueError, match="invalid literal"):
            next(results)
        assert list(results) == []


def test_map_times_out_and_what_it_left_never_runs(executor: EngineExecutor, tmp_path: Any) -> None:
    marks = [str(tmp_path / str(n)) for n in range(20)]
    results = executor.map(touch_and_sleep, marks, [1.0] * 20, timeout=0.3)
    with pytest.raises(TimeoutError):
        next(results)
    executor.shutdown()
    assert sum(map(os.path.exists, marks)) < 20


def test_map_reads_no_further_than_its_buffer() -> None:
    read = 0

    def source() -> Iterator[int]:
        nonlocal read
        while True:
            read += 1
            yield read

    with ThreadExecutor(2) as executor:
        results = executor.map(functions.give, source(), buffersize=5)
        assert read == 5
        assert [next(results) for _ in range(10)] == list(range(1, 11))
        assert read == 15
        assert isinstance(results, Iterator)
        del results


def test_a_source_that_raises_leaves_nothing_waiting() -> None:
    def source() -> Iterator[float]:
        yield from [0.3] * 20
        raise KeyError("in the source")

    with ProcessExecutor(1) as executor:
        started = time.monotonic()
        with pytest.raises(KeyError):
            executor.map(time.sleep, source())
        assert executor.snapshot().count(TaskState.CANCELLED) > 10
    assert time.monotonic() - started < STUCK


@pytest.mark.parametrize("bad", [{"chunksize": 0}, {"chunksize": "2"}, {"buffersize": 0}, {"buffersize": 1.5}])
def test_map_refuses_what_makes_no_sense(executor: EngineExecutor, bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"expected {next(iter(bad))} to be a positive integer, got"):
        executor.map(functions.give, [1], **bad)


# -- from begin to end ------------------------------------------------------------------------------------------------


def test_submit_after_shutdown(executor: EngineExecutor) -> None:
    """N1: RuntimeError, in the words of the standard executors."""
    executor.shutdown()
    executor.shutdown()
    for call in (lambda: executor.submit(int), lambda: executor.map(int, "12")):
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            call()


def test_an_executor_that_was_never_used_starts_nothing() -> None:
    before = threading.active_count()
    for executor in (ProcessExecutor(), ThreadExecutor()):
        assert "has not started" in repr(executor)
        assert threading.active_count() == before
        executor.shutdown()
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.submit(int)


@pytest.mark.parametrize("is_cancelling", [False, True])
def test_shutdown_with_fifty_queued(is_cancelling: bool) -> None:
    """N3: all of them run, or more than twenty never do; what has begun ends by itself."""
    executor = ProcessExecutor(5)
    futures = [executor.submit(time.sleep, 0.05) for _ in range(50)]
    eventually(lambda: futures[0].running() or futures[0].done())
    executor.shutdown(cancel_futures=is_cancelling)
    assert all(future.done() for future in futures)
    cancelled = sum(future.cancelled() for future in futures)
    assert (20 < cancelled < 50) if is_cancelling else cancelled == 0
    assert all(future.exception() is None for future in futures if not future.cancelled())


def test_shutdown_without_waiting_lets_the_work_end() -> None:
    executor = ProcessExecutor(2)
    futures = [executor.submit(functions.give, n) for n in range(20)]
    executor.shutdown(wait=False)
    assert [future.result(STUCK) for future in futures] == list(range(20))
    executor.shutdown()


def test_shutdown_of_one_executor_is_not_that_of_its_engine(engine: BlockingEngine) -> None:
    first, second = engine.executor(), engine.executor("thread")
    future = first.submit(time.sleep, 0.1)
    other = second.submit(functions.give, 2)
    first.shutdown()
    assert future.done()
    with pytest.raises(RuntimeError, match="after shutdown"):
        first.submit(int)
    assert other.result(STUCK) == 2
    assert second.submit(functions.give, 3).result(STUCK) == 3
    assert engine.run(functions.give, 4) == 4


def test_shutdown_from_inside() -> None:
    """N5: from a call and from a callback of its own it cannot wait for itself, and does not."""
    for executor in (ThreadExecutor(2), ProcessExecutor(2)):
        inside = threading.Event()

        def end(_: object, executor: EngineExecutor = executor, inside: threading.Event = inside) -> None:
            executor.shutdown()
            inside.set()

        executor.submit(functions.give, 1).add_done_callback(end)
        assert inside.wait(STUCK)
        executor.shutdown()
    executor = ThreadExecutor(2)
    executor.submit(executor.shutdown).result(STUCK)
    executor.shutdown()


def test_dropped_with_work_pending_it_finishes_that_and_ends() -> None:
    """N6: every future resolves; the leak check of the tests sees that threads and processes are gone."""
    futures = []
    before = set(threading.enumerate())
    for make in (ProcessExecutor, ThreadExecutor):
        executor = make(1)
        futures += [executor.submit(functions.give, n) for n in range(10)]
        del executor
    assert [future.result(STUCK) for future in futures] == [*range(10), *range(10)]
    eventually(lambda: set(threading.enumerate()) <= before)


def test_an_engine_that_ends_first_ends_the_futures() -> None:
    with Engine(processes=1) as engine:
        executor = engine.executor()
        running, waiting = executor.submit(time.sleep, 60), executor.submit(int)
        eventually(running.running)
        engine.stop(timeout=0)
        assert running.cancelled()
        assert waiting.cancelled()
        with pytest.raises(EngineClosed):
            executor.submit(int)
        executor.shutdown()
    with pytest.raises(EngineClosed, match="not started"):
        Engine().executor()


def test_more_tasks_than_the_engine_takes() -> None:
    with Engine(processes=1, max_pending=2) as engine, engine.executor() as executor:
        futures: list[CallFuture[None]] = []
        with pytest.raises(EngineFull):
            futures.extend(executor.submit(time.sleep, 0.05) for _ in range(100))
        assert wait(futures, STUCK).not_done == set()


def test_recycling_with_a_backlog_loses_nothing() -> None:
    """W13: ``max_tasks_per_child`` of 1 and 2, also when shut down at once, or dropped."""
    for most in (1, 2):
        executor = ProcessExecutor(2, max_tasks_per_child=most)
        futures = [executor.submit(os.getpid) for _ in range(12)]
        executor.shutdown(wait=most == 1)
        pids = [future.result(STUCK) for future in futures]
        assert max(pids.count(pid) for pid in pids) <= most
        executor.shutdown()


# -- crashes and hostile data -----------------------------------------------------------------------------------------


def test_a_crash_costs_one_call() -> None:
    """W1: it fails with what is a WorkerCrashed and a BrokenProcessPool; the pool heals."""
    with ProcessExecutor(2) as executor:
        running = executor.submit(time.sleep, 60)
        others = [executor.submit(functions.give, n) for n in range(40)]
        pid = eventually(lambda: next((w.pid for w in executor.snapshot().workers if w.task_name == "sleep"), None))
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        error = running.exception(STUCK)
        assert isinstance(error, WorkerCrashed)
        assert isinstance(error, BrokenProcessPool)
        assert (error.pid, error.signal_name, error.may_have_run) == (pid, "SIGKILL", True)
        assert "SIGKILL" in str(error)
        assert [future.result(STUCK) for future in others] == list(range(40))
        assert executor.submit(functions.give, 1).result(STUCK) == 1
        assert not executor._broken


def test_a_pool_that_is_to_break_breaks() -> None:
    """W1: ``broken_on_crash=True`` is the standard's behaviour: every future fails, and so does every submit."""
    with ProcessExecutor(2, broken_on_crash=True) as executor:
        futures = [executor.submit(time.sleep, 60) for _ in range(6)]
        eventually(lambda: any(future.running() for future in futures))
        os.kill(next(worker.pid for worker in executor.snapshot().workers if worker.pid and worker.task_id), 9)
        assert {isinstance(future.exception(STUCK), BrokenProcessPool) for future in futures} == {True}
        assert executor._broken
        with pytest.raises(BrokenProcessPool, match="broken_on_crash=False"):
            executor.submit(int)


@pytest.mark.parametrize("force", [False, True], ids=["terminate", "kill"])
def test_ending_the_workers_by_hand(force: bool) -> None:
    """As Python 3.14: what runs fails, what waits is cancelled, the executor is shut down."""
    executor = ProcessExecutor(2)
    futures = [executor.submit(time.sleep, 60) for _ in range(6)]
    eventually(lambda: sum(future.running() for future in futures) == 2)
    (executor.kill_workers if force else executor.terminate_workers)()
    assert [type(future.exception(STUCK)) for future in futures[:2]] == [BrokenProcessPool] * 2
    assert all(future.cancelled() for future in futures[2:])
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(int)
    executor.shutdown()
    unused = ProcessExecutor()
    unused.kill_workers()
    unused.terminate_workers()


def test_hostile_data_costs_its_own_call() -> None:
    """S1, S2, S3, S4, S5: each future fails with what the standard pool raises, or breaks with; the others go on."""
    bad: list[tuple[tuple[Any, ...], type[BaseException], type[BaseException]]] = [
        ((functions.give, threading.Lock()), PickleError, pickle.PicklingError),
        ((data.give, data.DoesWhenPickled(data.throw, SystemExit(3))), PickleError, pickle.PicklingError),
        ((data.give, data.DoesWhenLoaded(sys.exit, 3)), TaskDecodeError, BrokenProcessPool),
        ((data.give, data.DoesWhenLoaded(os._exit, 3)), WorkerCrashed, BrokenProcessPool),
        ((data.DoesWhenPickled, data.throw, RuntimeError("no")), PickleError, pickle.PicklingError),
        ((data.DoesWhenPickled, os._exit, 3), WorkerCrashed, BrokenProcessPool),
        ((data.DoesWhenLoaded, data.throw, RuntimeError("no")), ResultDecodeError, BrokenProcessPool),
        ((data.DoesWhenLoaded, sys.exit, 3), ResultDecodeError, BrokenProcessPool),
    ]
    with ProcessExecutor(2) as executor:
        pairs = [(executor.submit(*call), executor.submit(functions.give, n)) for n, (call, _, _) in enumerate(bad)]
        for n, (failing, fine) in enumerate(pairs):
            error = failing.exception(STUCK)
            assert isinstance(error, bad[n][1]), (n, error)
            assert isinstance(error, bad[n][2]), (n, error)
            assert fine.result(STUCK) == n


def test_exits_arrive_as_they_were_raised() -> None:
    with ProcessExecutor(1) as executor, ThreadExecutor(1) as threads:
        for each in (executor, threads):
            for error in (SystemExit(3), KeyboardInterrupt("no"), GeneratorExit()):
                assert type(each.submit(functions.throw, error).exception(STUCK)) is type(error)
            assert isinstance(each.submit(functions.throw, StopIteration(5)).exception(STUCK), RemoteError)
        failure = executor.submit(functions.fail, "no").exception(STUCK)
        assert isinstance(failure.__cause__ if failure else None, RemoteTraceback)


def exit_when_it_begins() -> None:
    os._exit(7)


def test_workers_that_cannot_start() -> None:
    """W9 through this face: BrokenProcessPool with the cause; a pool that is to break stays so."""
    for breaks in (False, True):
        with ProcessExecutor(1, initializer=exit_when_it_begins, broken_on_crash=breaks) as executor:
            error = executor.submit(int).exception(STUCK)
            assert isinstance(error, WorkerStartupError)
            assert isinstance(error, BrokenProcessPool)
            assert executor._broken is breaks


# -- threads ----------------------------------------------------------------------------------------------------------

here = threading.local()
setting: contextvars.ContextVar[str] = contextvars.ContextVar("setting", default="none")


def prepare(value: str) -> None:
    here.value = value


def test_a_thread_is_prepared_once() -> None:
    with ThreadExecutor(2, "Special", prepare, ("ready",)) as executor:
        futures = [executor.submit(lambda: (here.value, threading.current_thread().name)) for _ in range(20)]
        seen = [future.result(STUCK) for future in futures]
        assert {value for value, _ in seen} == {"ready"}
        assert all(name.startswith("Special") for _, name in seen)
        assert futures[0].task.name.endswith("<lambda>")


def test_an_initializer_that_raises_breaks_the_pool(caplog: pytest.LogCaptureFixture) -> None:
    go = threading.Event()

    def fail_later() -> None:
        assert go.wait(STUCK)
        raise ValueError("no")

    with ThreadExecutor(1, initializer=fail_later) as executor:
        futures = [executor.submit(time.sleep, 0) for _ in range(5)]
        go.set()
        assert {type(future.exception(STUCK)) for future in futures} == {BrokenThreadPool}
        with pytest.raises(BrokenThreadPool):
            executor.submit(int)
        assert executor._broken
    assert caplog.records[0].name == "concurrent.futures"


def test_a_call_in_a_thread_sees_its_submitters_context_and_nests() -> None:
    with ThreadExecutor(1) as executor:
        token = setting.set("mine")
        try:
            assert executor.submit(setting.get).result(STUCK) == "mine"
        finally:
            setting.reset(token)
        assert (
            executor.submit(lambda: executor.submit(lambda: executor.submit(int, "3").result()).result()).result() == 3
        )
        with pytest.raises(BrokenProcessPool):  # an error of the user's own is passed on, and breaks no thread pool
            executor.submit(functions.throw, BrokenProcessPool("mine")).result(STUCK)
        assert not executor._broken


async def test_asyncio_takes_them() -> None:
    loop = asyncio.get_running_loop()
    with ThreadExecutor(2) as threads, ProcessExecutor(1) as processes:
        assert await loop.run_in_executor(threads, functions.give, 1) == 1
        assert await asyncio.gather(*(loop.run_in_executor(processes, functions.give, n) for n in range(100))) == [
            *range(100)
        ]
        slow = loop.run_in_executor(processes, time.sleep, 60)
        queued = [loop.run_in_executor(processes, int) for _ in range(5)]
        await asyncio.sleep(0.05)
        for future in queued:
            future.cancel()
        assert [type(each) for each in await asyncio.gather(*queued, return_exceptions=True)] == [
            asyncio.CancelledError
        ] * 5
        slow.cancel()
        processes.kill_workers()


def test_it_can_be_the_default_executor_of_a_loop() -> None:
    async def main() -> str:
        asyncio.get_running_loop().set_default_executor(ThreadExecutor(2, "mine"))
        return await asyncio.to_thread(lambda: threading.current_thread().name)

    assert asyncio.run(main()).startswith("mine")
    eventually(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("mine")])


async def test_an_executor_of_an_engine_on_the_running_loop() -> None:
    """Its futures are awaited there; waiting for them in the ordinary way would hold up the loop that they need."""
    async with Engine(processes=1) as engine:
        executor = engine.executor()
        future = executor.submit(time.sleep, 0.1)
        with pytest.raises(RuntimeError, match="another thread than the engine's own loop"):
            future.result(STUCK)
        with pytest.raises(RuntimeError, match="another thread than the engine's own loop"):
            executor.shutdown()
        await asyncio.wrap_future(future)
        executor.shutdown()


# -- options and settings ---------------------------------------------------------------------------------------------


def fail_at_first(path: str) -> int:
    functions.mark(path)
    attempt = current_task().attempt
    if attempt == 1:
        raise OSError("the first time")
    return attempt


def test_an_executor_keeps_the_options_of_its_view(engine: BlockingEngine, tmp_path: Any) -> None:
    retry = Retry(max_attempts=2, base_delay=0.01)
    with engine.options(retry=retry, name="again").executor("thread") as executor:
        future = executor.submit(fail_at_first, str(tmp_path / "mark"))
        assert future.result(STUCK) == 2
        assert future.task.name == "again"
        assert "retry" in repr(executor)
    with engine.options(timeout=0.1).executor() as executor, pytest.raises(TimeoutError, match=r"timeout=0\.1"):
        executor.submit(time.sleep, 60).result(STUCK)


async def double(n: int) -> int:
    await asyncio.sleep(0)
    return 2 * n


def test_an_executor_over_coroutines(engine: BlockingEngine) -> None:
    with engine.executor("loop") as executor:
        assert [future.result(STUCK) for future in [executor.submit(double, n) for n in range(5)]] == [0, 2, 4, 6, 8]


FORK = multiprocessing.get_context("fork")


@pytest.mark.parametrize(
    ("kind", "settings", "error", "text"),
    [
        (ProcessExecutor, {"max_workers": 0}, ValueError, "max_workers must be greater than 0"),
        (ThreadExecutor, {"max_workers": -1}, ValueError, "max_workers must be greater than 0"),
        (ProcessExecutor, {"max_workers": "2"}, TypeError, "expected max_workers to be a positive integer, got '2'"),
        (ProcessExecutor, {"max_tasks_per_child": 0}, ValueError, "max_tasks_per_child must be >= 1"),
        (ProcessExecutor, {"max_tasks_per_child": 1.5}, TypeError, "expected max_tasks_per_child"),
        (ProcessExecutor, {"initializer": 3}, TypeError, "expected initializer to be a callable, got 3"),
        (ThreadExecutor, {"initializer": "x"}, TypeError, "expected initializer to be a callable"),
        (ProcessExecutor, {"mp_context": "spawn"}, ValueError, "expected mp_context to be a context"),
        (
            ProcessExecutor,
            {"mp_context": FORK},
            ValueError,
            "expected mp_context to be one that starts processes fresh",
        ),
        (ProcessExecutor, {"broken_on_crash": 1}, ValueError, "expected broken_on_crash to be True or False"),
    ],
)
def test_bad_settings(kind: Any, settings: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        kind(**settings)


def test_bad_calls(executor: EngineExecutor) -> None:
    bad: Any
    for bad in (3, double):
        with pytest.raises(TypeError):
            executor.submit(bad, 1)
    with pytest.raises(ValueError, match="lane"):
        Engine().executor("procces")
    executor.shutdown()  # nothing is open


def test_looking_inside() -> None:
    with ProcessExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        future: CallFuture[int] = executor.submit(functions.give, 1)
        assert future.result(STUCK) == 1
        assert isinstance(executor.snapshot(), Snapshot)
        assert executor.engine.tasks()[0].id == future.task.id
        assert executor._max_workers == 1
