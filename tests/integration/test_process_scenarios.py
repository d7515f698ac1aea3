"""SCENARIOS on the process lane, through the public Engine, on both backends; each docstring names its row.

``tests/contracts/test_process_lane.py`` has the same ground for the lane alone, in front of a front that is not ours.
"""

import asyncio
import contextlib
import logging
import os
import random
import signal
import socket
import sys
import threading
import time
import types
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine import Engine, Retry, Task, TaskState
from engine.errors import (
    PickleError,
    RemoteError,
    ResultDecodeError,
    TaskDecodeError,
    WorkerCrashed,
    WorkerStartupError,
)
from tests.contracts import functions
from tests.contracts.process_front import Backend
from tests.integration import process_functions as does
from tests.support import eventually_async

STUCK = 30.0  #: seconds; a bound for what never happens, not a measurement


@pytest.fixture(params=["native", "loky"], autouse=True)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have ``engine_of`` make engines with this process backend."""
    monkeypatch.setattr(Backend, "name", request.param)
    return str(request.param)


def engine_of(**options: Any) -> Engine:
    given: dict[str, Any] = {"process_backend": Backend.name, **options}
    return Engine(**given)


async def failure(task: Task[Any]) -> BaseException:
    """Wait for ``task``, which must fail, and return its error."""
    await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), STUCK)
    error = task.exception()
    assert error is not None
    return error


def _are_done(tasks: list[Task[Any]], count: int) -> bool:
    return sum(task.done() for task in tasks) >= count


async def is_healthy(engine: Engine) -> bool:
    return bool(await asyncio.wait_for(engine.run(functions.give, 42), STUCK) == 42)


# -- W: a worker dies -----------------------------------------------------------------------------------------------


async def test_killed_workers_cost_only_the_task_they_ran(tmp_path: Path, backend: str) -> None:
    """W1 (small): SIGKILL of random busy workers: that task fails with the evidence, everybody else completes."""
    seed = random.randrange(2**32)
    print(f"ENGINE_SEED={seed}")
    rng = random.Random(seed)
    path, count, kills = str(tmp_path / "ran"), 300, 8 if backend == "native" else 5
    killed: list[int] = []
    async with engine_of(processes=2) as engine:
        tasks: list[Task[Any]] = [engine.submit(does.work, path, str(number), 0.002) for number in range(count)]
        while len(killed) < kills and not all(task.done() for task in tasks):
            busy = [worker.pid for worker in engine.snapshot().workers if worker.state == "busy" and worker.pid]
            if busy:
                pid = rng.choice(busy)
                killed.append(pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            done = sum(task.done() for task in tasks)
            wanted = done + 1 + rng.randrange(20)
            await eventually_async(partial(_are_done, tasks, wanted), STUCK)
            if sum(task.done() for task in tasks) > count - 40:
                break
        assert await is_healthy(engine)
        await asyncio.gather(*tasks, return_exceptions=True)
        ran = Counter(line.split()[0] for line in Path(path).read_text().splitlines())
        failed = [task for task in tasks if task.state is TaskState.FAILED]
        for task in failed:
            error = task.exception()
            assert isinstance(error, WorkerCrashed)
            assert error.pid in killed
            assert (error.task_id, error.attempt, error.signal_name) == (task.id, 1, "SIGKILL")
        assert len(failed) <= len(killed)
        assert all(task.state is TaskState.COMPLETED for task in tasks if task not in failed)
        assert max(ran.values()) == 1, "a task ran twice"
        assert len(failed) + len(ran) >= count
        assert engine.snapshot().crashes == len(failed)


@pytest.mark.parametrize(
    ("fn", "args", "name"),
    [
        (does.segfault, (), "SIGSEGV"),
        (does.read_null, (), "SIGSEGV"),
        (does.send, (signal.SIGABRT,), "SIGABRT"),
        (does.send, (signal.SIGBUS,), "SIGBUS"),
        (does.send, (signal.SIGFPE,), "SIGFPE"),
    ],
)
async def test_a_fatal_signal_is_named_with_the_trace_of_the_worker(
    fn: Callable[..., None], args: tuple[Any, ...], name: str
) -> None:
    """W2: the signal's name, and faulthandler's trace of the worker."""
    async with engine_of(processes=1) as engine:
        error = await failure(engine.submit(fn, *args))
        assert isinstance(error, WorkerCrashed)
        assert error.signal_name == name
        assert fn.__name__ in error.stderr
        assert await is_healthy(engine)


@pytest.mark.parametrize(("fn", "code"), [(does.leave, 0), (does.leave, 99), (does.leave_by_libc, 0)])
async def test_an_exit_in_the_middle_of_a_task_is_a_crash(fn: Callable[[int], None], code: int) -> None:
    """W3: with its exit code, also for 0: never a result of None."""
    async with engine_of(processes=1) as engine:
        error = await failure(engine.submit(fn, code))
        assert isinstance(error, WorkerCrashed)
        assert error.exit_code == code
        assert error.signal_name is None
        assert await is_healthy(engine)


@pytest.mark.parametrize(
    "error",
    [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), StopIteration(1), asyncio.CancelledError(), BaseException()],
    ids=lambda error: type(error).__name__,
)
async def test_what_ends_loops_ends_neither_worker_nor_loop(error: BaseException) -> None:
    """W4: RemoteError with the original as its cause, and the same worker goes on."""
    async with engine_of(processes=1) as engine:
        pid = await engine.run(os.getpid)
        arrived = await failure(engine.submit(does.throw, error))
        assert isinstance(arrived, RemoteError)
        assert arrived.type_name.endswith(type(error).__name__)
        assert type(arrived.__cause__) is type(error)
        assert await engine.run(os.getpid) == pid


async def test_a_killed_idle_worker_fails_no_task() -> None:
    """W7: the next submit works."""
    async with engine_of(processes=1) as engine:
        for _ in range(3):
            os.kill(await engine.run(os.getpid), signal.SIGKILL)
            assert await is_healthy(engine)
        assert engine.snapshot().count(TaskState.FAILED) == 0


@pytest.mark.parametrize("fn", [does.leave, does.throw], ids=["exits", "raises"])
async def test_workers_that_never_come_up_fail_what_waits(fn: Callable[..., None]) -> None:
    """W8, W9: after three tries, with what the last one said; and the next submit is tried anew."""
    arguments = (9,) if fn is does.leave else (LookupError("no licence"),)
    async with engine_of(processes=1, initializer=fn, initargs=arguments) as engine:
        for _ in range(2):
            error = await failure(engine.submit(functions.give, 1))
            assert isinstance(error, WorkerStartupError)
            assert ("exited with code 9" if fn is does.leave else "LookupError: no licence") in str(error)
            if fn is does.throw:
                assert "in throw" in str(error.__cause__)
        assert engine.snapshot().count(TaskState.FAILED) == 2


async def test_an_initializer_that_hangs_is_ended_in_time() -> None:
    """W9: after worker_start_timeout."""
    async with engine_of(processes=1, initializer=time.sleep, initargs=(60,), worker_start_timeout=0.5) as engine:
        error = await failure(engine.submit(functions.give, 1))
        assert isinstance(error, WorkerStartupError)
        assert "worker_start_timeout=0.5" in str(error)


@pytest.mark.parametrize("limit", [1, 2])
@pytest.mark.parametrize("stops", [False, True], ids=["drained", "stopped"])
async def test_every_task_ends_while_workers_are_replaced_all_the_time(backend: str, limit: int, stops: bool) -> None:
    """W13: max_tasks_per_worker with a backlog, also when the engine is stopped in the middle of it."""
    count = 40 if backend == "native" else 10  # in 30 s, on a busy machine too
    engine = await engine_of(processes=2, max_tasks_per_worker=limit).start()
    tasks = [engine.submit(os.getpid) for _ in range(count)]
    if stops:
        await eventually_async(partial(_are_done, tasks, 3), STUCK)
    report = await asyncio.wait_for(engine.stop(timeout=0 if stops else None), STUCK)
    assert report.completed + report.cancelled == count
    assert all(task.done() for task in tasks)
    if not stops:
        assert max(Counter(task.result() for task in tasks).values()) <= limit


async def test_a_crash_is_tried_again_where_the_policy_says_so(tmp_path: Path) -> None:
    """Section 4: a retry policy sees WorkerCrashed."""
    path = tmp_path / "lives"

    def die_once() -> str:
        if path.exists():
            return "alive"
        path.touch()
        os._exit(1)

    async with engine_of(processes=1) as engine:
        task = engine.options(retry=Retry(max_attempts=2, base_delay=0.001)).submit(die_once)
        assert await asyncio.wait_for(task, STUCK) == "alive"
        assert task.attempt == 2
        assert engine.snapshot().crashes == 1


# -- S: objects that do not travel ----------------------------------------------------------------------------------


def unpicklable() -> Iterator[Any]:
    yield threading.Lock()
    yield (number for number in range(3))
    yield sys._getframe()
    yield does.RaisesWhenPickled()
    yield does.ExitsWhenPickled()


async def test_bad_arguments_fail_their_own_task_only() -> None:
    """S1, S2: 100 bad among 100 good; the error is on the task, never raised by ``submit``."""
    async with engine_of(processes=2) as engine:
        with socket.socket() as sock:
            bad_ones = [*unpicklable(), sock]
            good, bad = [], []
            for number in range(100):
                good.append(engine.submit(functions.give, number))
                bad.append(engine.submit(functions.give, bad_ones[number % len(bad_ones)]))
            assert await asyncio.wait_for(asyncio.gather(*good), STUCK) == list(range(100))
            for task in bad:
                error = await failure(task)
                assert isinstance(error, PickleError), error
                assert (error.what, error.where) == ("arguments", "parent")
                assert task.started_at is None


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (does.DoesWhenUnpickled(does.throw, ValueError("not here")), TaskDecodeError),
        (does.DoesWhenUnpickled(sys.exit, 3), TaskDecodeError),
        (does.DoesWhenUnpickled(does.segfault), WorkerCrashed),
    ],
    ids=["raises", "exits", "segfaults"],
)
async def test_arguments_that_cannot_be_rebuilt_fail_their_own_task_only(bad: Any, kind: type[Exception]) -> None:
    """S3: an error where it can be told, a crash where the worker dies of it."""
    async with engine_of(processes=1) as engine:
        before, task, behind = (engine.submit(functions.give, x) for x in (1, bad, 2))
        assert await before == 1
        assert isinstance(await failure(task), kind)
        assert await asyncio.wait_for(behind, STUCK) == 2


@pytest.mark.parametrize(
    ("kind", "expected"), [("raises", PickleError), ("exits", PickleError), ("segfaults", WorkerCrashed)]
)
async def test_a_result_that_cannot_be_pickled_fails_its_own_task_only(kind: str, expected: type[Exception]) -> None:
    """S4: told from where it happened."""
    async with engine_of(processes=1) as engine:
        task = engine.submit(does.make_bad_result, kind)
        behind = engine.submit(functions.give, 2)
        error = await failure(task)
        assert isinstance(error, expected)
        if isinstance(error, PickleError):
            assert (error.what, error.where) == ("result", "worker")
        assert await asyncio.wait_for(behind, STUCK) == 2


@pytest.mark.parametrize(("fn", "args"), [(does.throw, (ValueError("not here"),)), (sys.exit, (3,))])
async def test_a_result_that_cannot_be_rebuilt_here_fails_its_own_task_only(
    fn: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    """S5: the parent lives, and so does the worker."""

    def make() -> Any:
        return does.DoesWhenUnpickled(does.DoesWhenUnpickled, fn, *args), Late(fn, args)

    class Late:
        def __init__(self, fn: Any, args: Any) -> None:
            self.how = fn, args

        def __reduce__(self) -> Any:
            return self.how

    async with engine_of(processes=1) as engine:
        error = await failure(engine.submit(make))
        assert isinstance(error, ResultDecodeError)
        assert await is_healthy(engine)


@pytest.mark.parametrize(
    ("fn", "name", "text"),
    [
        (does.raise_three, "ThreeArguments", "123"),
        (does.raise_keyword_only, "KeywordOnly", "code 7"),
        (does.raise_reduces_to_none, "ReducesToNone", "none"),
        (does.raise_reduce_raises, "ReduceRaises", "raises"),
        (does.raise_setstate_raises, "SetstateRaises", "state"),
        (does.raise_cause_cycle, "ValueError", "one"),
        (does.raise_group, "ExceptionGroup", "bad leaf"),
        (does.raise_local, "OnlyHere", "only in the worker"),
        (does.raise_mute, "MuteError", ""),
        (does.raise_huge, "ValueError", "xxx"),
        (does.raise_surrogate, "ValueError", ""),
        (does.raise_deep, "ValueError", "deep"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
async def test_an_awkward_exception_arrives_with_type_message_and_traceback(
    fn: Callable[[], None], name: str, text: str
) -> None:
    """S7, S8: whatever it is, it says what it was and where it was raised."""
    async with engine_of(processes=1) as engine:
        task = engine.submit(fn)
        error = await failure(task)
        said = f"{type(error).__name__} {getattr(error, 'type_name', '')}"
        assert name in said
        if text:
            spoken = str(error) + "".join(str(each) for each in getattr(error, "exceptions", ()))
            assert text in spoken
        trace = error.traceback if isinstance(error, RemoteError) else str(error.__cause__)
        if fn is not does.raise_cause_cycle:
            assert ("in dive" if fn is does.raise_deep else fn.__name__) in trace  # the last 100 of 100,000 frames
        info = engine.get(task.id)
        assert info is not None
        assert info.error is not None
        assert len(info.error) <= 200
        assert await is_healthy(engine)


async def test_arguments_are_pickled_after_submit_returns() -> None:
    """S14: as in the standard executors: a change that comes before the task is sent is seen by it."""
    async with engine_of(processes=1) as engine:
        await engine.warm_up()
        numbers = [1, 2, 3]
        task = engine.submit(does.total, numbers)
        numbers.append(4)  # this loop has not turned: the task is in the queue
        assert await task == 10


# -- N and A --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cancel", [True, False])
async def test_stop_with_fifty_queued(tmp_path: Path, cancel: bool) -> None:
    """N3: with cancel_pending most of 50 are cancelled and never run; without it all run."""
    path = tmp_path / "ran"
    engine = await engine_of(processes=5).start()
    tasks = [engine.submit(does.work, str(path), str(number), 0.01) for number in range(50)]
    await eventually_async(lambda: sum(task.done() for task in tasks) >= 1, STUCK)
    report = await engine.stop(cancel_pending=cancel)
    ran = {line.split()[0] for line in path.read_text().splitlines()}
    assert report.completed == len(ran)
    assert {str(number) for number, task in enumerate(tasks) if task.state is TaskState.COMPLETED} == ran
    if cancel:
        assert report.cancelled > 20
    assert report.completed + report.cancelled == 50
    assert bool(report.cancelled) == cancel


@pytest.mark.parametrize("fn", [does.spin, does.block_all_signals_and_spin, does.child_that_sleeps])
async def test_a_cancelled_running_task_is_truly_killed(tmp_path: Path, fn: Callable[[str], None]) -> None:
    """A2: ``run_in_executor`` lets it burn on; here its process ends, and what it started with it."""
    path = tmp_path / "ran"
    async with engine_of(processes=1, grace=0.1) as engine:
        task = engine.submit(fn, str(path))
        await eventually_async(lambda: path.exists() and path.read_text().endswith("\n"), STUCK)
        worker = psutil.Process(next(worker.pid for worker in engine.snapshot().workers if worker.state == "busy"))
        group = [worker, *worker.children(recursive=True)]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(task, 0.01)
        assert task.cancelled()
        await eventually_async(lambda: not any(_is_alive(process) for process in group), STUCK)
        assert await is_healthy(engine)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def test_cancel_before_any_worker_has_started(tmp_path: Path) -> None:
    """A5, A6: in spawn and before it: the task never runs."""
    async with engine_of(processes=1) as engine:
        before = engine.submit(functions.touch, str(tmp_path / "before"))
        assert before.cancel()
        spawning = engine.submit(functions.touch, str(tmp_path / "spawning"))
        await eventually_async(lambda: engine.snapshot().workers, STUCK)
        assert spawning.cancel()
        assert await is_healthy(engine)
    assert before.cancelled()
    assert spawning.cancelled()
    assert not list(tmp_path.iterdir())


async def test_cancel_of_a_task_whose_worker_is_on_to_the_next() -> None:
    """A7: cancelling A as its worker takes B: B is not lost, nor hit by what was meant for A."""
    rng = random.Random(7)
    async with engine_of(processes=1, grace=0.5) as engine:
        for number in range(150):
            first = engine.submit(functions.give, "a")
            second = engine.submit(functions.give, number)
            for _ in range(rng.randrange(6)):
                await asyncio.sleep(0)
            said = first.cancel()
            assert await asyncio.wait_for(second, STUCK) == number
            await asyncio.gather(first, return_exceptions=True)
            assert first.cancelled() == said


async def test_context_variables_named_to_the_engine_are_seen_and_do_not_leak() -> None:
    """A10: as they were at submit; what a task sets, the next does not see."""
    async with engine_of(processes=1, context=("tests.integration.process_functions:TENANT",)) as engine:
        assert await engine.run(does.tenant) == "nobody"
        token = does.TENANT.set("ann")
        seen = engine.submit(does.tenant)
        does.TENANT.set("bob")
        assert await seen == "ann"
        assert await engine.run(does.tenant) == "bob"
        assert await engine.run(does.set_tenant, "eve") == "eve"
        assert await engine.run(does.tenant) == "bob"
        does.TENANT.reset(token)
        assert await engine.run(does.tenant) == "nobody"
    async with engine_of(processes=1) as engine:
        does.TENANT.set("ann")
        assert await engine.run(does.tenant) == "nobody"


async def test_prints_and_log_records_arrive_with_task_and_worker(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Section 5: they are there when the result is; logging goes through the parent's handlers."""
    async with engine_of(processes=1) as engine:
        with caplog.at_level(logging.INFO):
            task = engine.submit(does.talk, "hello")
            await task
        out, err = capfd.readouterr()
        assert f"task {task.id}] hello\n" in out
        assert f"task {task.id}] hello aside\n" in err
        record = next(record for record in caplog.records if record.name == "app.part")
        assert record.getMessage() == "hello logged"
        assert record.levelno == logging.WARNING
        assert getattr(record, "task_id", None) == task.id
        assert "process-" in getattr(record, "worker", "")


async def test_what_is_flushed_is_there_before_its_line_is_whole(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """E37: it was held until the task's end; as a line, once, and its line feed is not printed again."""
    go_on, seen = tmp_path / "go on", ""
    async with engine_of(processes=1) as engine:
        task = engine.submit(does.half_a_line, str(go_on))

        def is_there() -> bool:
            nonlocal seen
            seen += capfd.readouterr().out
            return seen != ""

        await eventually_async(is_there, STUCK)
        go_on.touch()
        await asyncio.wait_for(task, STUCK)
    tag = f"[process-1 task {task.id}]"
    assert seen + capfd.readouterr().out == f"{tag} half a line\n{tag} the rest\n"


async def test_a_line_that_is_printed_in_a_million_pieces_takes_time_in_proportion(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """E37: each piece copied all that was there before; nothing was said before the end."""
    async with engine_of(processes=1) as engine:
        await asyncio.wait_for(engine.submit(does.dot, 1_000_000), STUCK)
    assert capfd.readouterr().out.count(".") == 1_000_000


async def test_a_process_task_that_would_submit_to_its_parents_engine_gets_a_clear_error() -> None:
    """N13: the engine and its tasks do not travel, and the error says what to do instead."""
    async with engine_of(processes=1) as engine:

        def nested() -> int:
            return int(engine.submit(functions.give, 1).result())

        error = await failure(engine.submit(nested))
        assert isinstance(error, PickleError)
        assert "process task cannot submit to its parent's engine" in str(error)
        error = await failure(engine.submit(functions.give, engine))
        assert isinstance(error, PickleError)
        assert "lane='thread'" in str(error)
        other = engine.submit(functions.give, 1)
        assert isinstance(await failure(engine.submit(functions.give, other)), PickleError)
        assert await other == 1


async def test_a_function_of_main_and_a_lambda_and_a_method_run() -> None:
    """Section 5: what plain pickle cannot carry goes through cloudpickle."""
    module = types.ModuleType("__main__")
    code = "def from_main(x):\n    return helper(x) + 1\ndef helper(x):\n    return x * 10\n"
    exec(code, module.__dict__)
    async with engine_of(processes=1) as engine:
        assert await engine.run(lambda x: x + 1, 1) == 2
        assert await engine.run("-".join, ["a", "b"]) == "a-b"
        assert await engine.run(module.from_main, 2) == 21
