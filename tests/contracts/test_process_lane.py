"""The process lane against its contract: real worker processes behind a front that is a queue and a dictionary.

Each test runs on both backends. What only our own protocol does is in ``test_native_protocol.py``.
"""

import asyncio
import collections
import contextlib
import datetime
import functools
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine._lanes._process import breaker, child, decoder_threads, pool
from engine._lanes.base import Attempt
from engine._lanes.processes import ProcessLane
from engine.errors import (
    PickleError,
    RemoteError,
    RemoteTraceback,
    ResultDecodeError,
    TaskDecodeError,
    WorkerCrashed,
    WorkerStartupError,
)
from tests.contracts.process_front import Backend, FakeFront, lane_of, new_lane, started, status
from tests.contracts.process_tasks import (
    DiesWhenLoaded,
    ExitsWhenLoaded,
    ExitsWhenPickled,
    add,
    append_line,
    append_number,
    child_pid,
    clean_up,
    close_descriptors,
    cooperate,
    describe_buffer,
    die,
    exit_handler,
    fill,
    hold_the_gil,
    identity,
    leave_early,
    leave_thread,
    make_exits_when_loaded,
    make_exits_when_pickled,
    make_sleeps_when_loaded,
    nest,
    pass_gate,
    pid,
    prepare,
    raise_cancelled,
    raise_group,
    raise_huge,
    raise_it,
    raise_local,
    raise_surrogate,
    raise_three,
    raise_unprintable,
    read_colour,
    recurse,
    refuse,
    report,
    say,
    set_colour,
    spin,
    start_late,
    swallow,
    touch_and_wait,
    write_nonsense,
)
from tests.support import REPOSITORY, eventually, eventually_async

np = pytest.importorskip("numpy")


@pytest.fixture(params=["native", "loky"], autouse=True)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have ``lane_of`` make lanes of this backend."""
    monkeypatch.setattr(Backend, "name", request.param)
    return str(request.param)


# -- values


async def test_a_value_comes_back_with_exact_times_and_the_name_of_its_worker() -> None:
    async with lane_of() as (front, _):
        before = time.monotonic()
        outcome = await front.run(add, 2, kwargs={"b": 40})
        assert outcome.value == 42
        assert outcome.started_at is not None
        assert outcome.completed_at is not None
        assert before < outcome.started_at <= outcome.completed_at < time.monotonic()
        assert outcome.worker is not None
        assert outcome.worker.startswith("process-1 (pid ")


async def test_two_workers_start_for_two_tasks_and_run_them_at_once(tmp_path: Path) -> None:
    async with lane_of(2) as (front, lane):
        first = front.submit(touch_and_wait, str(tmp_path / "a"), 0.3)
        second = front.submit(touch_and_wait, str(tmp_path / "b"), 0.3)
        await started(lane, first)
        await started(lane, second)
        assert len(lane.workers()) == 2
        assert (await front.outcome(first)).value == "done"
        assert (await front.outcome(second)).value == "done"


async def test_a_task_submitted_while_a_lone_worker_is_busy_gets_a_worker_of_its_own(tmp_path: Path) -> None:
    async with lane_of(2) as (front, lane):
        first = front.submit(touch_and_wait, str(tmp_path / "a"), 5.0)
        await started(lane, first)
        assert await front.value(add, 1) == 2
        assert first.task_id not in front.outcomes
        lane.interrupt(first)
        await front.outcome(first)


@pytest.mark.parametrize(
    "fn",
    [lambda n: n + 1, functools.partial(add, b=1), (41).__add__, add],
    ids=["lambda", "partial", "method", "function"],
)
async def test_every_kind_of_callable_runs(fn: Callable[..., Any]) -> None:
    async with lane_of() as (front, _):
        assert await front.value(fn, 1, name="call") in (2, 42)


async def test_a_closure_is_pickled_once_at_its_first_submit() -> None:
    cell = [1]

    def read() -> int:
        return cell[0]

    async with lane_of() as (front, lane):
        lane.snapshot_function(read)
        cell[0] = 2
        assert await front.value(read) == 1
        assert await front.value(read) == 1


async def test_a_function_that_cannot_be_pickled_fails_its_task_with_the_cause() -> None:
    lock = threading.Lock()
    async with lane_of() as (front, lane):
        fn = lambda: lock  # noqa: E731 - a lambda is what is tested
        lane.snapshot_function(fn)
        outcome = await front.run(fn)
        assert isinstance(outcome.error, PickleError)
        assert outcome.error.what == "function"
        assert isinstance(outcome.error.__cause__, TypeError)
        assert not outcome.retryable
        assert await front.value(add, 1) == 2


async def test_more_functions_than_the_table_holds_still_run(monkeypatch: pytest.MonkeyPatch) -> None:
    async with lane_of(2) as (front, lane):
        monkeypatch.setattr(lane._functions, "_limit", 3)
        functions = [eval(f"lambda: {n}") for n in range(12)]
        for _ in range(2):
            attempts = [front.submit(fn) for fn in functions]
            assert [(await front.outcome(attempt)).value for attempt in attempts] == list(range(12))


# -- big payloads

SIZES = [0, 1, (64 << 10) - 1, 64 << 10, (64 << 10) + 1, 1 << 20, 10_000_003]


@pytest.mark.parametrize("kind", ["bytes", "bytearray", "memoryview"])
async def test_a_buffer_arrives_as_what_it_was_in_both_directions(kind: str) -> None:
    async with lane_of() as (front, _):
        for size in SIZES:
            value = fill(kind, size)
            name, count, head, _ = await front.value(describe_buffer, value)
            assert (name, count, head) == (kind, size, bytes(value[:3]))
            back = await front.value(fill, kind, size)
            assert type(back) is type(value)
            assert back == value
            assert await front.value(identity, value) == value


async def test_an_array_arrives_writable_and_whole() -> None:
    async with lane_of() as (front, _):
        for size in (0, 1, 8191, 8192, 8193, 1_250_000):
            array = np.arange(size, dtype=np.float64)
            back = await front.value(identity, array)
            assert back.flags.writeable
            assert np.array_equal(back, array)
            both = await front.value(identity, {"a": array, "b": [array[::2], b"x" * 100_000]})
            assert np.array_equal(both["b"][0], array[::2])


async def test_a_long_pickle_without_buffers_arrives() -> None:
    async with lane_of() as (front, _):
        value = [{"n": n, "s": str(n)} for n in range(60_000)]
        assert await front.value(identity, value) == value


async def test_many_big_arguments_in_a_row_do_not_block_one_another() -> None:
    async with lane_of(2) as (front, _):
        attempts = [front.submit(identity, bytes([n]) * 3_000_000) for n in range(20)]
        for n, attempt in enumerate(attempts):
            assert (await front.outcome(attempt)).value == bytes([n]) * 3_000_000


# -- bad arguments and results


async def test_bad_arguments_fail_alone_among_good_ones() -> None:
    async with lane_of(2) as (front, _):
        bad = [threading.Lock(), (n for n in "ab"), sys._getframe(), ExitsWhenPickled()]
        attempts: list[tuple[int | None, Attempt]] = []
        for n in range(40):
            attempts.append((None, front.submit(identity, bad[n % len(bad)])))
            attempts.append((n, front.submit(identity, n)))
        for expected, attempt in attempts:
            outcome = await front.outcome(attempt)
            if expected is None:
                assert isinstance(outcome.error, PickleError)
                assert (outcome.error.what, outcome.error.where) == ("arguments", "parent")
                assert outcome.error.task_id == attempt.task_id
                assert outcome.error.__cause__ is not None
                assert not outcome.retryable
                assert outcome.started_at is None
            else:
                assert outcome.value == expected


async def test_arguments_that_exit_when_loaded_fail_their_task_and_keep_the_worker() -> None:
    async with lane_of() as (front, _):
        worker = await front.value(pid)
        outcome = await front.run(identity, ExitsWhenLoaded())
        assert isinstance(outcome.error, TaskDecodeError)
        assert isinstance(outcome.error.__cause__, SystemExit)
        assert not outcome.retryable
        assert await front.value(pid) == worker


async def test_arguments_that_kill_the_worker_when_loaded_are_charged_to_their_task() -> None:
    async with lane_of() as (front, _):
        outcome = await front.run(identity, DiesWhenLoaded(os.getpid()))
        assert isinstance(outcome.error, WorkerCrashed)
        assert outcome.error.exit_code == 5
        assert await front.value(add, 1) == 2


async def test_a_result_that_cannot_be_pickled_fails_its_task_and_keeps_the_worker() -> None:
    async with lane_of() as (front, _):
        worker = await front.value(pid)
        for fn in (threading.Lock, make_exits_when_pickled):
            outcome = await front.run(fn)
            assert isinstance(outcome.error, PickleError)
            assert (outcome.error.what, outcome.error.where) == ("result", "worker")
        assert await front.value(pid) == worker


async def test_a_result_that_exits_when_loaded_fails_its_task_only() -> None:
    async with lane_of() as (front, _):
        outcome = await front.run(make_exits_when_loaded)
        assert isinstance(outcome.error, ResultDecodeError)
        assert isinstance(outcome.error.__cause__, SystemExit)
        assert await front.value(identity, datetime.date(2020, 1, 1)) == datetime.date(2020, 1, 1)


async def test_data_nested_too_deep_fails_its_task_in_both_directions() -> None:
    async with lane_of() as (front, _):
        argument = await front.run(identity, nest())
        assert isinstance(argument.error, PickleError)
        assert isinstance(argument.error.__cause__, RecursionError)
        result = await front.run(nest)
        assert isinstance(result.error, PickleError)
        assert result.error.what == "result"
        assert await front.value(add, 1) == 2


# -- exceptions


async def test_an_exception_arrives_with_its_type_and_its_remote_traceback() -> None:
    async with lane_of() as (front, _):
        error = ValueError("bad", 3)
        error.add_note("a note")
        outcome = await front.run(raise_it, error)
        assert type(outcome.error) is ValueError
        assert outcome.error.args == ("bad", 3)
        assert outcome.error.__notes__ == ["a note"]
        assert isinstance(outcome.error.__cause__, RemoteTraceback)
        assert "in raise_it" in str(outcome.error.__cause__)
        assert outcome.retryable


@pytest.mark.parametrize(
    "error",
    [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), StopIteration(5), asyncio.CancelledError(), BaseException()],
    ids=lambda error: type(error).__name__,
)
async def test_what_would_end_the_callers_loop_arrives_as_a_remote_error(error: BaseException) -> None:
    async with lane_of() as (front, _):
        worker = await front.value(pid)
        outcome = await front.run(raise_it, error)
        assert isinstance(outcome.error, RemoteError)
        assert type(outcome.error.__cause__) is type(error)
        assert "raise_it" in outcome.error.traceback
        assert await front.value(pid) == worker


@pytest.mark.parametrize(
    ("fn", "name"),
    [
        (raise_three, "ThreeArguments"), (raise_unprintable, "UnprintableError"), (raise_huge, "ValueError"),
        (raise_surrogate, "OSError"), (recurse, "RecursionError"), (raise_local, "Local"),
    ],
)  # fmt: skip
async def test_an_awkward_exception_still_says_what_it_was(fn: Callable[[], None], name: str) -> None:
    async with lane_of() as (front, _):
        outcome = await front.run(fn)
        error = outcome.error
        assert error is not None
        if isinstance(error, RemoteError):
            assert error.type_name.endswith(name)
            assert len(error.text) < 70_000
        else:
            assert type(error).__name__ == name
        assert isinstance(error.__cause__, RemoteTraceback)
        assert name in error.__cause__.traceback
        assert len(error.__cause__.traceback) < 140_000
        assert await front.value(add, 1) == 2


async def test_only_the_bad_leaf_of_a_group_is_replaced() -> None:
    async with lane_of() as (front, _):
        error = (await front.run(raise_group)).error
        assert isinstance(error, ExceptionGroup)
        assert [type(leaf) for leaf in error.exceptions] == [ValueError, RemoteError]


async def test_task_cancelled_out_of_a_task_is_a_cancellation() -> None:
    async with lane_of() as (front, _):
        outcome = await front.run(raise_cancelled)
        assert outcome.cancelled
        assert outcome.error is None


# -- crashes


@pytest.mark.parametrize(
    ("how", "code", "signal_name"),
    [
        ("kill", None, "SIGKILL"), ("segv", None, "SIGSEGV"), ("abort", None, "SIGABRT"), ("exit0", 0, None),
        ("exit99", 99, None), ("cexit", 0, None),
    ],
)  # fmt: skip
async def test_a_crash_is_charged_to_its_task_with_the_evidence(
    how: str, code: int | None, signal_name: str | None
) -> None:
    async with lane_of(2) as (front, lane):
        attempt = front.submit(die, how)
        outcome = await front.outcome(attempt)
        error = outcome.error
        assert isinstance(error, WorkerCrashed)
        assert (error.exit_code, error.signal_name) == (code, signal_name)
        assert (error.task_id, error.attempt, error.may_have_run) == (attempt.task_id, 1, True)
        assert error.pid is not None
        assert outcome.retryable
        assert outcome.started_at is not None
        if how == "segv":
            assert "Segmentation fault" in error.stderr
            assert "in die" in error.stderr
        assert lane.counters.crashes == 1
        assert await front.value(add, 1) == 2


async def test_a_killed_idle_worker_fails_nobody() -> None:
    async with lane_of() as (front, lane):
        os.kill(await front.value(pid), signal.SIGKILL)
        assert await front.value(add, 1) == 2
        assert lane.counters.crashes == 0


async def test_a_worker_reaped_by_other_code_is_no_success(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On a kernel that does not remember; tests/integration/test_time_and_blame.py has one that does."""
    monkeypatch.setattr(child, "_GET_INFO", 0)
    async with lane_of() as (front, _):
        worker = await front.value(pid)
        attempt = front.submit(touch_and_wait, str(tmp_path / "began"), 60.0)
        await eventually_async((tmp_path / "began").exists)
        os.kill(worker, signal.SIGKILL)
        try:
            os.waitpid(worker, 0)
            known = None
        except ChildProcessError:  # loky's thread was quicker, and so it is known
            known = "SIGKILL"
        error = (await front.outcome(attempt)).error
        assert isinstance(error, WorkerCrashed)
        assert (error.exit_code, error.signal_name) == (None, known)


@pytest.mark.parametrize("fn", [close_descriptors, write_nonsense])
async def test_a_worker_that_breaks_the_protocol_is_replaced_and_its_task_told(fn: Callable[[], None]) -> None:
    async with lane_of() as (front, _):
        error = (await front.run(fn)).error
        assert isinstance(error, WorkerCrashed)
        assert await front.value(add, 1) == 2


# -- interrupt


@pytest.mark.parametrize("fn", [spin, functools.partial(touch_and_wait, seconds=60.0)], ids=["loop", "sleep"])
async def test_an_interrupted_task_ends_at_once_and_its_worker_is_replaced(fn: Any, tmp_path: Path) -> None:
    async with lane_of() as (front, lane):
        worker = await front.value(pid)
        attempt = front.submit(fn, str(tmp_path / "began"), grace=10.0)
        await eventually_async((tmp_path / "began").exists)
        before = time.monotonic()
        lane.interrupt(attempt)
        lane.interrupt(attempt)
        outcome = await front.outcome(attempt)
        assert outcome.cancelled
        assert time.monotonic() - before < 5
        assert await front.value(pid) != worker
        assert (lane.counters.retired, lane.counters.killed, lane.counters.crashes) == (1, 0, 0)


async def test_a_task_that_swallows_its_interrupt_is_killed_after_its_grace(tmp_path: Path) -> None:
    async with lane_of() as (front, lane):
        attempt = front.submit(swallow, str(tmp_path / "began"), grace=0.1)
        await eventually_async((tmp_path / "began").exists)
        lane.interrupt(attempt)
        outcome = await front.outcome(attempt)
        assert outcome.cancelled
        assert outcome.error is None
        assert outcome.started_at is not None
        assert await front.value(add, 1) == 2
        assert (lane.counters.killed, lane.counters.crashes) == (1, 0)


async def test_no_grace_kills_at_once(tmp_path: Path) -> None:
    async with lane_of() as (front, lane):
        attempt = front.submit(swallow, str(tmp_path / "began"), grace=0)
        await eventually_async((tmp_path / "began").exists)
        lane.interrupt(attempt)
        assert (await front.outcome(attempt)).cancelled
        assert lane.counters.killed == 1


async def test_the_finally_of_an_interrupted_task_runs(tmp_path: Path) -> None:
    async with lane_of() as (front, lane):
        attempt = front.submit(clean_up, str(tmp_path / "began"), str(tmp_path / "cleaned"), grace=10.0)
        await eventually_async((tmp_path / "began").exists)
        lane.interrupt(attempt)
        assert (await front.outcome(attempt)).cancelled
        assert (tmp_path / "cleaned").exists()


async def test_a_cancel_met_in_a_checkpoint_keeps_the_worker(tmp_path: Path) -> None:
    async with lane_of() as (front, lane):
        worker = await front.value(pid)
        attempt = front.submit(cooperate, str(tmp_path / "began"), grace=10.0)
        await eventually_async((tmp_path / "began").exists)
        lane.interrupt(attempt)
        assert (await front.outcome(attempt)).cancelled
        assert await front.value(pid) == worker
        assert lane.counters.retired == 0


async def test_a_slow_task_does_not_strand_those_sent_behind_it(tmp_path: Path) -> None:
    async with lane_of(processes=2) as (front, lane):
        await lane.warm_up()
        for attempt in [front.submit(pass_gate, "") for _ in range(200)]:
            await front.outcome(attempt)
        gate = tmp_path / "gate"
        quick = [front.submit(pass_gate, "") for _ in range(20)]
        slow = front.submit(pass_gate, str(gate))
        quick += [front.submit(pass_gate, "") for _ in range(200)]
        for attempt in quick:
            assert (await front.outcome(attempt)).error is None
        assert slow.task_id not in front.outcomes
        gate.touch()
        assert (await front.outcome(slow)).error is None


async def test_a_function_of_unknown_cost_has_nothing_sent_behind_it(tmp_path: Path) -> None:
    async with lane_of(processes=1) as (front, lane):
        await lane.warm_up()
        slow = front.submit(pass_gate, str(tmp_path / "gate"))
        for _ in range(50):
            front.submit(pass_gate, "")
        await started(lane, slow)
        await eventually_async(lambda: lane.workers()[0].task_id == slow.task_id)
        assert len(front.ready) == 50
        (tmp_path / "gate").touch()
        await front.outcome(slow)
        await eventually_async(lambda: len(front.outcomes) == 51)


async def test_a_spare_takes_the_place_of_a_killed_worker(tmp_path: Path) -> None:
    async with lane_of() as (front, lane):
        lane.arm_spare()
        attempt = front.submit(swallow, str(tmp_path / "began"), grace=0)
        await eventually_async((tmp_path / "began").exists)
        await eventually_async(lambda: [worker.state for worker in lane.workers()].count("idle") == 1)
        spare = next(worker.pid for worker in lane.workers() if worker.state == "idle")
        waiting = front.submit(pid)
        lane.interrupt(attempt)
        assert (await front.outcome(attempt)).cancelled
        assert (await front.outcome(waiting)).value == spare


# -- what workers say


async def test_prints_logs_and_warnings_reach_the_parent_with_their_task(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with lane_of() as (front, _):
        attempt = front.submit(say, "hello")
        assert (await front.outcome(attempt)).error is None
        tag = f"[process-1 task {attempt.task_id}] hello\n"
        records = {record.name: record for record in caplog.records}
        assert records["tests.worker"].getMessage() == "logged hello"
        assert vars(records["tests.worker"])["task_id"] == attempt.task_id
        assert vars(records["tests.worker"])["worker"] == "process-1"
        assert "warned hello" in records["py.warnings"].getMessage()
        out, err = capsys.readouterr()
        assert out == tag
        assert tag in err
        await eventually_async(lambda: "[process-1] raw hello\n" in err + capsys.readouterr().err)


async def test_a_task_knows_itself_and_reports_progress() -> None:
    async with lane_of() as (front, _):
        attempt = front.submit(report, name="mine", timeout=5.0)
        assert (await front.outcome(attempt)).value == (attempt.task_id, "mine", 1, True)
        assert front.reports == [(attempt.task_id, 1, 2, "half")]


async def test_stacks_name_the_function_that_runs_and_workers_describe_themselves(tmp_path: Path) -> None:
    async with lane_of() as (front, lane):
        attempt = front.submit(touch_and_wait, str(tmp_path / "began"), 60.0, grace=0)
        await eventually_async((tmp_path / "began").exists)
        assert "in touch_and_wait" in lane.stacks()["process-1"]
        assert "in touch_and_wait" in (await asyncio.to_thread(lane.stacks))["process-1"]
        (info,) = lane.workers()
        assert (info.state, info.task_id, info.name) == ("busy", attempt.task_id, "process-1")
        assert info.rss_bytes is not None
        assert info.rss_bytes > 1 << 20
        lane.interrupt(attempt)
        await front.outcome(attempt)


async def test_stacks_of_a_worker_that_holds_the_gil_do_not_wait_for_it(tmp_path: Path) -> None:
    async with lane_of() as (front, lane):
        attempt = front.submit(hold_the_gil, str(tmp_path / "began"))
        await eventually_async((tmp_path / "began").exists)
        before = time.monotonic()
        assert "no answer" in lane.stacks()["process-1"]
        assert time.monotonic() - before < 0.6
        await front.outcome(attempt)


# -- workers come and go


async def test_the_initializer_runs_before_the_first_task() -> None:
    async with lane_of(initializer=prepare, initargs=("yes",)) as (front, _):
        assert await front.value(os.getenv, "PREPARED") == "yes"


@pytest.mark.parametrize(("fn", "text"), [(refuse, "LookupError: no licence"), (leave_early, "exited with code 3")])
async def test_an_initializer_that_fails_three_times_fails_what_waits_and_is_tried_again(
    fn: Callable[[], None], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "PAUSE_SECONDS", 0.01)
    async with lane_of(initializer=fn) as (front, lane):
        for _ in range(2):
            outcome = await front.run(add, 1)
            assert isinstance(outcome.error, WorkerStartupError)
            assert text in str(outcome.error)
        assert lane.counters.start_failures >= 4
        with pytest.raises(WorkerStartupError):
            await lane.warm_up()


async def test_an_initializer_that_hangs_counts_as_failed() -> None:
    async with lane_of(initializer=time.sleep, initargs=(60,), worker_start_timeout=0.3) as (front, _):
        error = (await front.run(add, 1)).error
        assert isinstance(error, WorkerStartupError)
        assert "was not ready within worker_start_timeout" in str(error)


async def test_warm_up_starts_all_workers_and_an_idle_one_leaves_in_time() -> None:
    async with lane_of(2, worker_idle_timeout=0.2) as (_, lane):
        await lane.warm_up()
        assert [worker.state for worker in lane.workers()] == ["idle", "idle"]
        await eventually_async(lambda: not lane.workers())


async def test_a_worker_that_leaves_soon_after_its_hello_has_not_failed_to_start() -> None:
    """E140: an idle timeout below a second, many times over: each worker leaves by itself, and the next one starts."""
    async with lane_of(worker_idle_timeout=0.001) as (_, lane):
        for started in range(1, 5):
            await lane.warm_up()
            await eventually_async(lambda: not lane.workers())
            assert (lane.counters.started, lane.counters.start_failures) == (started, 0)


async def test_warm_up_waits_for_the_last_worker_though_the_first_is_idle_for_long(tmp_path: Path) -> None:
    """E140: a worker that starts while the others have been idle for longer than they may."""
    first = tmp_path / "first"
    async with lane_of(2, worker_idle_timeout=0.001, initializer=start_late, initargs=(str(first),)) as (_, lane):
        await asyncio.wait_for(lane.warm_up(), 60)
        assert lane.counters.started == 2


async def test_a_worker_is_recycled_after_its_number_of_tasks() -> None:
    async with lane_of(max_tasks_per_worker=2) as (front, lane):
        pids = [await front.value(pid) for _ in range(6)]
        assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4] == pids[5]
        await eventually_async(lambda: lane.counters.recycled == 3)


async def test_restart_replaces_idle_workers_now_and_busy_ones_when_they_are_done(tmp_path: Path) -> None:
    async with lane_of(2) as (front, lane):
        await lane.warm_up()
        attempt = front.submit(touch_and_wait, str(tmp_path / "began"), 0.2)
        await started(lane, attempt)
        old = {worker.pid for worker in lane.workers()}
        await lane.restart()
        assert (await front.outcome(attempt)).value == "done"
        assert await front.value(pid) not in old


async def test_close_lets_exit_handlers_run(tmp_path: Path) -> None:
    async with lane_of() as (front, _):
        await front.value(exit_handler, str(tmp_path / "left"))
    assert (tmp_path / "left").exists()


async def test_close_kills_what_does_not_leave() -> None:
    front = FakeFront()
    lane = front.lane = new_lane(front, 2)
    await front.value(leave_thread)
    before = time.monotonic()
    await lane.close(0.2)
    assert time.monotonic() - before < 2
    assert lane.workers() == []


async def test_kill_from_another_thread_ends_every_worker() -> None:
    async with lane_of(2) as (_, lane):
        await lane.warm_up()
        await asyncio.to_thread(lane.kill)
        await eventually_async(lambda: not lane.workers())


async def test_the_children_of_a_worker_go_with_it() -> None:
    async with lane_of() as (front, lane):
        child = await front.value(child_pid)
        lane.kill()
        await eventually_async(lambda: not Path(f"/proc/{child}").exists() or "Z" in status(child))


async def test_the_environment_limits_inner_threads_unless_the_user_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    async with lane_of(inner_threads=3) as (front, _):
        assert await front.value(os.getenv, "OMP_NUM_THREADS") == "3"
        assert await front.value(os.getenv, "MKL_NUM_THREADS") == "7"


async def test_no_task_is_lost_or_run_twice_while_workers_are_killed_at_random(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, backend: str
) -> None:
    total, kills = (3000, 15) if backend == "native" else (300, 6)
    if backend == "native":
        monkeypatch.setattr(pool, "SEND_AHEAD", 6)
    async with lane_of(2) as (front, lane):
        attempts = [front.submit(append_number, str(tmp_path), n) for n in range(total)]
        for _ in range(kills):
            count = len(front.outcomes)
            await eventually_async(functools.partial(front.has_ended, min(count + total // 30, total - 10)))
            for worker in lane.workers():
                if worker.state == "busy" and worker.pid is not None:
                    with contextlib.suppress(ProcessLookupError):  # the last one, and loky has reaped it
                        os.kill(worker.pid, signal.SIGKILL)
                    break
        outcomes = [await front.outcome(attempt) for attempt in attempts]
        runs = collections.Counter(int(line) for path in tmp_path.iterdir() for line in path.read_text().split())
        for n, outcome in enumerate(outcomes):
            if outcome.error is None:
                assert runs[n] == 1
            else:
                assert isinstance(outcome.error, WorkerCrashed)
                assert runs[n] <= 1


# -- the parent ends, forks, or has another loop

PARENT = """
import asyncio, sys, time
from tests.contracts.process_front import Backend, lane_of
from tests.contracts.process_tasks import hold_the_gil_for_ever, child_pid, pid

Backend.name = sys.argv[1]

async def main():
    async with lane_of(2) as (front, lane):
        await lane.warm_up()
        child = await front.value(child_pid)
        front.submit(hold_the_gil_for_ever)
        print(child, *[worker.pid for worker in lane.workers()], flush=True)
        time.sleep(60)

asyncio.run(main())
"""


def test_no_worker_and_no_child_of_one_outlives_a_killed_parent(backend: str) -> None:
    command = [sys.executable, "-c", PARENT, backend]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=REPOSITORY) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 3
        parent.kill()
    eventually(lambda: all(status(number) == "Z" for number in pids))


async def test_a_forked_child_closes_its_copies_and_the_workers_go_on() -> None:
    async with lane_of(2) as (front, lane):
        await lane.warm_up()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: a fork of a process with threads
            child = os.fork()
        if not child:
            code = 1
            try:
                lane.forget_in_child()
                code = 0 if lane.workers() == [] else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert [worker.state for worker in lane.workers()] == ["idle", "idle"]
        assert await front.value(add, 1) == 2


def test_the_lane_runs_on_uvloop() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        async with lane_of(2) as (front, lane):
            attempts = [front.submit(add, n) for n in range(500)]
            assert [(await front.outcome(attempt)).value for attempt in attempts] == list(range(1, 501))
            assert await front.value(identity, b"x" * 5_000_000) == b"x" * 5_000_000
            assert isinstance((await front.run(die, "kill")).error, WorkerCrashed)
            assert await front.value(add, 1) == 2
            lane.interrupt(sleeper := front.submit(touch_and_wait, "/dev/null", 60.0))
            await started(lane, sleeper)
            lane.interrupt(sleeper)
            assert (await front.outcome(sleeper)).cancelled

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


async def test_a_result_that_decodes_for_ever_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_threads, "SECONDS", 0.2)
    async with lane_of(2) as (front, _):
        stuck = front.submit(make_sleeps_when_loaded, 2.0)
        await front.run(make_exits_when_loaded)
        outcome = await front.outcome(stuck)
        assert isinstance(outcome.error, ResultDecodeError)
        assert isinstance(outcome.error.__cause__, TimeoutError)
        assert isinstance((await front.run(make_exits_when_loaded)).error, ResultDecodeError)


async def test_a_task_recalled_while_it_is_pickled_never_runs(tmp_path: Path) -> None:
    async with lane_of() as (front, lane):
        await lane.warm_up()
        recaller = RecallsWhenPickled(lane)
        attempt = recaller.attempt = front.submit(append_line, str(tmp_path / "runs"), recaller)
        await eventually_async(lambda: recaller.answer is not None)
        assert recaller.answer is True
        assert await front.value(add, 1) == 2
        assert attempt.task_id not in front.outcomes
        assert not (tmp_path / "runs").exists()


class RecallsWhenPickled:
    def __init__(self, lane: ProcessLane) -> None:
        self.lane = lane
        self.attempt: Attempt | None = None
        self.answer: bool | None = None

    def __reduce__(self) -> Any:
        assert self.attempt is not None
        self.answer = self.lane.recall(self.attempt)
        return int, (1,)


async def test_exported_context_variables_are_set_for_their_task_only() -> None:
    address = "tests.contracts.process_tasks:colour"
    async with lane_of() as (front, _):
        assert await front.value(read_colour, context={address: "red"}) == "red"
        assert await front.value(read_colour) == "none"
        assert await front.value(set_colour) == "blue"
        assert await front.value(read_colour) == "none"
