"""Futures of executors: cancel against begin, shutdown against submit, a break against both; locks that stay held.

The interleavings are in design/0013.
"""

import concurrent.futures
import contextlib
import functools
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, EngineForked, Lane, NestedDeadlock, TaskState
from engine.futures import (
    BrokenProcessPool,
    CallFuture,
    EngineExecutor,
    ProcessExecutor,
    ThreadExecutor,
    _call_future,
)
from tests.contracts import functions
from tests.race.together import STUCK, together
from tests.support import eventually

# -- cancel against begin ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ProcessExecutor, ThreadExecutor])
@pytest.mark.usefixtures("switching")
def test_a_cancelled_future_never_ran_and_any_other_did(
    kind: type[ProcessExecutor | ThreadExecutor], tmp_path: Path, rng: random.Random
) -> None:
    """Four threads cancel what two workers begin; each future is one or the other, and the traces say the same."""
    marks = [str(tmp_path / str(n)) for n in range(200)]
    with kind(2) as executor:
        executor.submit(functions.touch, str(tmp_path / "warm")).result(STUCK)
        futures = [executor.submit(functions.touch, path) for path in marks]
        said: list[tuple[CallFuture[str], bool]] = []

        def cancel(seed: int) -> None:
            own = random.Random(seed)
            for future in own.sample(futures, len(futures)):
                said.append((future, future.cancel()))

        together(*(functools.partial(cancel, rng.randrange(2**32)) for _ in range(4)))
        assert wait(futures, STUCK).not_done == set()
    ran = [os.path.exists(path) for path in marks]
    assert [future.cancelled() for future in futures] == [not each for each in ran]
    assert all(not future.cancelled() or future.task.state is TaskState.CANCELLED for future in futures)
    assert all(answer == future.cancelled() for future, answer in said if answer)


@contextlib.contextmanager
def sent_to_a_stopped_worker(executor: ProcessExecutor) -> Iterator[tuple[CallFuture[int], int]]:
    """Give a call that lies in the socket of a worker which takes nothing, and the worker's pid."""
    executor.submit(functions.give, 1).result(STUCK)
    pid = executor.snapshot().workers[0].pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        eventually(lambda: executor.snapshot().workers[0].state == "stopped")
        future = executor.submit(functions.give, 7)
        eventually(lambda: future.task._attempt is not None and future.task._attempt.lane_data is not None)
        yield future, pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("recalled", [True, False])
def test_a_full_cancel_while_the_future_takes_its_call_back(recalled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """``task.cancel()`` comes between recall and its record: the call ends cancelled, whichever way the recall went."""
    with ProcessExecutor(1) as executor, sent_to_a_stopped_worker(executor) as (sent, _):
        lane = executor.engine._engine._core.lanes[Lane.PROCESS]
        recall = lane.recall

        def meanwhile(attempt: Any) -> bool:
            monkeypatch.setattr(lane, "recall", recall)
            together(sent.task.cancel)
            return recall(attempt) if recalled else False

        monkeypatch.setattr(lane, "recall", meanwhile)
        assert sent.cancel() is recalled
        assert wait([sent], STUCK).done == {sent}
        assert sent.cancelled()


def test_a_worker_that_dies_while_the_future_takes_its_call_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call is back in the queue by then, or claimed anew: it is cancelled there, or runs; never both."""
    with ProcessExecutor(1) as executor, sent_to_a_stopped_worker(executor) as (sent, pid):
        lane = executor.engine._engine._core.lanes[Lane.PROCESS]
        recall, before = lane.recall, sent.task._attempt

        def meanwhile(attempt: Any) -> bool:
            monkeypatch.setattr(lane, "recall", recall)
            os.kill(pid, signal.SIGKILL)
            eventually(lambda: sent.task._attempt is not before)
            return recall(attempt)

        monkeypatch.setattr(lane, "recall", meanwhile)
        cancelled = sent.cancel()
        assert wait([sent], STUCK).done == {sent}
        assert sent.cancelled() is cancelled
        assert cancelled or sent.result() == 7


# -- locks that users hold --------------------------------------------------------------------------------------------


def test_who_settles_a_task_waits_for_no_lock_of_its_future() -> None:
    """A thread holds the lock of one future, as ``wait`` does for a moment: the engine goes on, and so do others."""
    with ThreadExecutor(1) as executor:
        begun, go = threading.Event(), threading.Event()

        def begin_and_wait() -> bool:
            begun.set()
            return go.wait(STUCK)

        held = executor.submit(begin_and_wait)
        assert begun.wait(STUCK)
        with held._condition:
            go.set()
            assert executor.submit(functions.give, 1).result(STUCK) == 1  # by the thread that has settled ``held``
            assert held.task.done()
            assert held._state == "PENDING"
        assert held.result(STUCK) is True


def test_a_lock_that_stays_held_costs_its_own_future_some_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a Ctrl-C in ``Condition.__exit__`` leaves it: callbacks of others come, and the shutdown ends."""
    monkeypatch.setattr(_call_future, "_HELD_SECONDS", 0.2)
    with ThreadExecutor(1) as executor:
        go = threading.Event()
        broken = executor.submit(go.wait, STUCK)
        leave, is_held = threading.Event(), threading.Event()

        def hold() -> None:
            broken._condition.acquire()
            is_held.set()
            leave.wait(STUCK)  # a thread that ended would give its identity, and so the lock, to another one

        holder = threading.Thread(target=hold)
        holder.start()
        assert is_held.wait(STUCK)
        go.set()
        called = threading.Event()
        executor.submit(time.sleep, 0.05).add_done_callback(lambda _: called.set())
        assert called.wait(STUCK)
        assert broken.result(STUCK) is True
        leave.set()
        holder.join()


# -- shutdown against submit ------------------------------------------------------------------------------------------


def storm(make: Callable[[], EngineExecutor], rounds: int, threads: int) -> None:
    for _ in range(rounds):
        executor = make()
        accepted: list[concurrent.futures.Future[int]] = []
        refused: list[str] = []

        def submit(executor: EngineExecutor = executor, accepted: Any = accepted, refused: Any = refused) -> None:
            for n in range(20):
                try:
                    accepted.append(executor.submit(functions.give, n))
                except RuntimeError as error:
                    refused.append(str(error))

        together(*[submit] * threads, executor.shutdown)
        assert len(accepted) + len(refused) == 20 * threads
        assert all("cannot schedule new futures after shutdown" in text for text in refused)
        assert wait(accepted, STUCK).not_done == set()
        assert sorted(future.result() for future in accepted) is not None
        executor.shutdown()


def test_many_threads_submit_while_one_shuts_down() -> None:
    """N2: what was accepted is done, the rest was refused; the first submit and the shutdown may come at once."""
    storm(lambda: ThreadExecutor(2), rounds=20, threads=16)
    storm(lambda: ProcessExecutor(1), rounds=3, threads=8)
    with Engine(processes=1, threads=2) as engine:
        storm(lambda: engine.executor("thread"), rounds=20, threads=16)
        storm(engine.executor, rounds=5, threads=8)


def test_eight_threads_shut_down_at_once() -> None:
    """N5: during the first submit too."""
    for _ in range(10):
        executor = ThreadExecutor(1)
        futures: list[CallFuture[int]] = []

        def begin(executor: ThreadExecutor = executor, futures: list[CallFuture[int]] = futures) -> None:
            with contextlib.suppress(RuntimeError):
                futures.append(executor.submit(functions.give, 1))

        together(begin, *[executor.shutdown] * 8)
        assert [future.result(STUCK) for future in futures] in ([], [1])


def test_a_pool_breaks_while_threads_submit() -> None:
    """W1: every future ends: with its result, or as BrokenProcessPool; each later submit is refused as such."""
    for _ in range(3):
        executor = ProcessExecutor(2, broken_on_crash=True)
        executor.submit(functions.give, 1).result(STUCK)
        pids = [worker.pid for worker in executor.snapshot().workers if worker.pid]
        futures: list[CallFuture[int]] = []

        def submit(executor: ProcessExecutor = executor, futures: list[CallFuture[int]] = futures) -> None:
            with pytest.raises(BrokenProcessPool):
                futures.extend(executor.submit(functions.give, n) for n in range(100_000))

        def kill(executor: ProcessExecutor = executor, pid: int | None = pids[0]) -> None:
            assert pid is not None
            executor.submit(os.kill, pid, signal.SIGKILL)

        together(submit, submit, kill)
        assert wait(futures, STUCK).not_done == set()
        errors = {type(future.exception()) for future in futures if not future.cancelled()}
        assert all(error is type(None) or issubclass(error, BrokenProcessPool) for error in errors)
        executor.shutdown()


# -- no thread, forks, nesting ----------------------------------------------------------------------------------------


def test_callbacks_are_called_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """N8: as while the interpreter ends; by whoever has settled the task."""
    with ThreadExecutor(1) as executor:
        go, called = threading.Event(), threading.Event()
        future = executor.submit(go.wait, STUCK)
        future.add_done_callback(lambda _: called.set())

        def refuse(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)
        go.set()
        assert future.result(STUCK) is True
        assert called.wait(STUCK)
        monkeypatch.undo()


def test_an_engine_that_cannot_start_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """N8: ``submit`` raises, and so it may be tried again."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    executor = ThreadExecutor(1)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        executor.submit(int)
    monkeypatch.undo()
    assert executor.submit(int, "7").result(STUCK) == 7
    executor.shutdown()


def test_a_forked_child_is_told_so() -> None:
    with ThreadExecutor(1) as executor:
        waiting = executor.submit(time.sleep, 0.3)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                for call in (lambda: executor.submit(int), lambda: waiting.result()):
                    try:
                        call()
                    except EngineForked:
                        code = 0
                    else:
                        code = 1
                        break
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert waiting.result(STUCK) is None


def test_waiting_too_deep_is_an_error_and_no_deadlock() -> None:
    with ThreadExecutor(1) as executor:

        def nest(depth: int) -> int:
            return depth if depth == 0 else executor.submit(nest, depth - 1).result() + 1

        assert executor.submit(nest, 5).result(STUCK) == 5
        with pytest.raises(NestedDeadlock):
            executor.submit(nest, 100).result(STUCK)
