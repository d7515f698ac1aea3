"""Futures and executors in hands that do what one should not: at the wrong instant, in the engine's place.

What is started here is slow on purpose, held by an event, so that the wrong instant is the one that is met.
"""

import threading
import time
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest

from engine import BlockingEngine
from engine.futures import CallFuture, ProcessExecutor, ThreadExecutor, _call_future
from tests.contracts import functions
from tests.race.together import STUCK
from tests.support import eventually

# -- what only an executor should call --------------------------------------------------------------------------------


def test_a_future_that_is_told_that_it_runs_is_not_done() -> None:
    """E90: it was "done" with the result None, and its executor waited for it for ever."""
    with ThreadExecutor(1) as executor:
        go = threading.Event()
        future = executor.submit(go.wait, STUCK)
        assert future.set_running_or_notify_cancel()
        assert not future.done()
        go.set()
        assert future.result(STUCK) is True


def test_a_future_that_is_told_that_it_runs_can_be_cancelled() -> None:
    """E90: as one that nobody has told so."""
    with ThreadExecutor(1) as executor:
        go = threading.Event()
        executor.submit(go.wait, STUCK)
        future = executor.submit(int)
        future.set_running_or_notify_cancel()
        assert future.cancel()
        assert future.cancelled()
        go.set()


def test_a_future_that_is_given_a_result_has_it_and_leaves_its_executor() -> None:
    """E90: who waits goes on at once; ``shutdown`` waits for the call, and not for ever."""
    with BlockingEngine(processes=1, threads=1) as engine:
        executor = engine.executor("thread")
        go, got = threading.Event(), []
        future = executor.submit(go.wait, STUCK)
        waiter = threading.Thread(target=lambda: got.append(future.result(STUCK)))
        waiter.start()
        eventually(lambda: "_over" in future.__dict__)
        future.set_result(False)
        waiter.join(STUCK)
        assert got == [False]
        go.set()
        ender = threading.Thread(target=executor.shutdown, daemon=True)
        ender.start()
        ender.join(STUCK)
        assert not ender.is_alive()
        assert future.result() is False


def test_a_future_that_is_cancelled_in_the_middle_of_a_wait_on_that_thread_is_not_missed() -> None:
    """E97: by a signal handler, while ``wait`` has the lock, looks for what is done, and then asks to be told."""
    with ThreadExecutor(1) as executor:
        go = threading.Event()
        executor.submit(go.wait, STUCK)
        future = executor.submit(int)

        class Looked(list[Any]):
            """The futures to be told of, as ``wait`` enters itself: what comes before is too early for it to see."""

            def append(self, waiter: Any) -> None:
                assert future.cancel()
                super().append(waiter)

        future._waiters = Looked()
        assert wait([future], STUCK / 3).not_done == set()
        assert future.cancelled()
        go.set()


def test_locks_that_a_ctrl_c_left_held_are_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """E98: ``wait`` may leave all that it had; each cost five seconds, one after the other."""
    monkeypatch.setattr(_call_future, "_HELD_SECONDS", 1.0)
    with ThreadExecutor(1) as executor:
        go = threading.Event()
        executor.submit(go.wait, STUCK)
        futures = [executor.submit(int) for _ in range(100)]
        held, over = threading.Event(), threading.Event()

        def hold() -> None:  # and live: another thread may be given the number of one that has ended
            for future in futures:
                future._condition.acquire()
            held.set()
            over.wait(2 * STUCK)

        holder = threading.Thread(target=hold)
        holder.start()
        assert held.wait(STUCK)
        go.set()
        try:
            end = time.monotonic() + STUCK  # for all of them
            assert [future.result(end - time.monotonic()) for future in futures] == [0] * 100
        finally:
            over.set()
            holder.join()


# -- callbacks that block ---------------------------------------------------------------------------------------------


def test_a_callback_that_blocks_holds_up_no_future() -> None:
    """E91: one whose lock was held as its task settled, as ``wait`` holds it, ended only after the callbacks before."""
    with ThreadExecutor(2) as executor:
        first, second, called, go_on = (threading.Event() for _ in range(4))

        def block(_: Future[Any]) -> None:
            called.set()
            go_on.wait(STUCK)

        executor.submit(first.wait, STUCK).add_done_callback(block)
        first.set()
        assert called.wait(STUCK)
        future = executor.submit(second.wait, STUCK)
        with future._condition:
            second.set()
            assert future.task.result(STUCK) is True
        try:
            assert future.result(STUCK / 3) is True
        finally:
            go_on.set()


# -- the instant in which the engine starts ---------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["kill_workers", "terminate_workers", "shutdown"])
def test_an_executor_that_is_ended_while_it_starts_ends(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """E92: it found nothing to end, and the call ran; here by the thread that starts it, as a signal handler would."""
    executor = ProcessExecutor(1)
    start = executor.engine.start

    def interrupted() -> BlockingEngine:
        executor.shutdown(wait=False) if how == "shutdown" else getattr(executor, how)()
        return start()

    monkeypatch.setattr(executor.engine, "start", interrupted)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(functions.give, 1)
    eventually(lambda: executor.engine._inner._core.scheduler.phase == "closed")
    executor.shutdown()


def test_workers_are_killed_from_another_thread_while_they_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """E92: ``kill_workers`` waits for the start; the call does not run."""
    executor = ProcessExecutor(1)
    start, begun = executor.engine.start, threading.Event()

    def slow() -> BlockingEngine:
        begun.set()
        eventually(lambda: executor._ledger._refusal is not None)
        return start()

    monkeypatch.setattr(executor.engine, "start", slow)
    futures: list[CallFuture[int] | RuntimeError] = []

    def submit() -> None:
        try:
            futures.append(executor.submit(functions.give, 1))
        except RuntimeError as error:
            futures.append(error)

    thread = threading.Thread(target=submit)
    thread.start()
    assert begun.wait(STUCK)
    executor.kill_workers()
    thread.join(STUCK)
    assert [type(each) for each in futures] == [RuntimeError]
    executor.shutdown()
    assert executor.engine._inner._core.scheduler.phase == "closed"


def test_ctrl_c_while_the_thread_of_an_engine_is_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """E99: the thread came all the same, and ran an engine that nobody had, or that was started again by then."""
    run, begin, go = threading.Thread.run, threading.Thread.start, threading.Event()
    late: list[threading.Thread] = []

    def start(thread: threading.Thread) -> None:
        monkeypatch.undo()
        late.append(threading.Thread(target=lambda: (go.wait(STUCK), run(thread)), daemon=True))
        begin(late[0])
        raise KeyboardInterrupt

    executor = ThreadExecutor(1)
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(KeyboardInterrupt):
        executor.submit(int)
    go.set()
    late[0].join(STUCK / 3)
    assert not late[0].is_alive()
    assert executor.submit(int, "7").result(STUCK) == 7
    ender = threading.Thread(target=executor.shutdown, daemon=True)
    ender.start()
    ender.join(STUCK)
    assert not ender.is_alive()


# -- errors that look like ours ---------------------------------------------------------------------------------------


def test_a_call_that_raises_broken_process_pool_breaks_nothing() -> None:
    """E93: of a pool of its own. It cost every call, and its own error was lost."""
    with ProcessExecutor(1, broken_on_crash=True) as executor:
        failed = executor.submit(functions.throw, BrokenProcessPool("of a pool of its own"))
        with pytest.raises(BrokenProcessPool, match=r"^of a pool of its own$"):
            failed.result(STUCK)
        assert executor.submit(functions.give, 1).result(STUCK) == 1
