"""Tasks that were sent to a worker which does not begin them: each interleaving of design/0009 is forced."""

import asyncio
import logging
import os
import select
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, TaskTimeout
from engine._lanes._process import begin
from engine._lanes._process.begin import BeginWatch
from engine._lanes._process.native import NativeWorker
from engine._lanes._process.usage import Usage
from engine._wire.page import StartPage
from tests.contracts import functions
from tests.contracts.process_front import native_workers
from tests.integration import time_functions as does
from tests.sent_ahead import send_ahead
from tests.support import eventually, eventually_async

STUCK = 30.0  #: seconds; a bound for what never happens, not a measurement


async def within(awaitable: Any) -> Any:
    return await asyncio.wait_for(awaitable, STUCK)


class Holder:
    """A worker whose GIL a thread of an earlier task holds, until ``release``."""

    def __init__(self, folder: Path) -> None:
        self.said, self.go, self.gate = (folder / name for name in ("said", "go", "gate"))
        self.pid = 0
        self.given_back = (
            0  #: tasks by then: on a machine without CPU to spare a worker's first task may begin too late
        )
        os.mkfifo(self.gate)
        self._fd = os.open(self.gate, os.O_RDWR)

    async def take(self, engine: Engine) -> None:
        paths = str(self.said), str(self.go), str(self.gate)
        self.pid = await within(engine.run(does.leave_a_thread_with_the_gil, *paths))
        self.go.touch()
        await eventually_async(lambda: self.said.exists() and self.said.read_text() == "held", STUCK)
        self.given_back = engine.snapshot().given_back

    def worker(self, engine: Engine) -> NativeWorker:
        """Give the worker; one that was replaced may stand beside it."""
        return next(worker for worker in native_workers(engine) if worker.pid == self.pid)

    def release(self) -> None:
        os.write(self._fd, b"x")

    def close(self) -> None:
        os.close(self._fd)


@pytest.fixture
def holder(tmp_path: Path) -> Any:
    holder = Holder(tmp_path)
    yield holder
    holder.close()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look more often than twice a second, so that a standstill is seen after less than one."""
    monkeypatch.setattr(begin, "LOOK_SECONDS", 0.15)


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


async def test_a_task_behind_a_thread_that_holds_the_gil_runs_elsewhere(
    holder: Holder, caplog: pytest.LogCaptureFixture
) -> None:
    """E23: it had been sent and never began, so no timeout of its own could strike: its caller hung with the worker."""
    async with Engine(processes=1, grace=0.2) as engine:
        await holder.take(engine)
        task = engine.options(timeout=STUCK).submit(os.getpid)
        assert await within(task) != holder.pid
        assert task.attempt == 1
        await eventually_async(lambda: is_gone(holder.pid), STUCK)
        snapshot = engine.snapshot()
        assert (snapshot.recycled, snapshot.crashes, snapshot.malformed) == (1, 0, 0)
        warnings = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
        assert len(warnings) == 1
        assert f"(pid {holder.pid})" in warnings[0]


@pytest.mark.usefixtures("soon")
async def test_a_timeout_counts_where_the_task_begins_at_last(holder: Holder) -> None:
    """E23: what the timeout could not reach in the first worker it ends in the second one."""
    async with Engine(processes=1, grace=0.2) as engine:
        await holder.take(engine)
        with pytest.raises(TaskTimeout):
            await within(engine.options(timeout=0.2).submit(does.nap, STUCK))


@pytest.mark.usefixtures("soon")
async def test_a_cancelled_task_that_never_began_gives_its_slot_back(holder: Holder) -> None:
    """E23: it is cancelled at once; its attempt would have held the only slot as long as the thread held the GIL."""
    async with Engine(processes=1, grace=0.2) as engine:
        await holder.take(engine)
        task = engine.submit(os.getpid)
        await eventually_async(lambda: holder.worker(engine).count() == 1, STUCK)
        assert task.cancel()
        assert await within(engine.submit(os.getpid)) != holder.pid


@pytest.mark.usefixtures("soon")
async def test_what_was_sent_behind_it_comes_back_too(holder: Holder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one was received and waits for the GIL, the rest is in the socket: all run elsewhere, in order."""
    send_ahead(monkeypatch, 3)
    async with Engine(processes=1, grace=0.2) as engine:
        await holder.take(engine)
        order = holder.said.parent / "order"
        tasks = [engine.submit(functions.mark, str(order), str(n)) for n in range(5)]
        await within(asyncio.gather(*tasks))
        assert order.read_text().split() == [str(n) for n in range(5)]
        assert [task.attempt for task in tasks] == [1] * 5
        assert engine._core.processes.counters.given_back == holder.given_back + 3


@pytest.mark.usefixtures("soon")
async def test_a_result_that_is_slow_to_free_holds_up_nobody_else() -> None:
    """No thread and no C: the worker's main thread is busy with what the last task left."""
    async with Engine(processes=1, grace=0.2) as engine:
        pid = await within(engine.run(os.getpid))
        assert await within(engine.run(does.leave_what_is_slow_to_free, 60.0)) == 0.0
        assert await within(engine.submit(os.getpid)) != pid


def around_forbid(
    monkeypatch: pytest.MonkeyPatch,
    *,
    before: Callable[[], None] = lambda: None,
    after: Callable[[StartPage, int], None] = lambda page, number: None,
) -> None:
    """Have something done right before, or right after, the parent says what may not begin any more."""
    forbid = StartPage.forbid

    def done(page: StartPage, number: int) -> None:
        before()
        forbid(page, number)
        after(page, number)

    monkeypatch.setattr(StartPage, "forbid", done)


def wait_for_an_answer(holder: Holder, engine: Engine) -> None:
    assert select.select([holder.worker(engine).child.stream], [], [], STUCK)[0]


@pytest.mark.usefixtures("soon")
async def test_a_task_that_begins_as_it_is_to_be_taken_back_simply_runs(
    holder: Holder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """1. It has not begun for a second. 2. It begins. 3. It is forbidden, which is too late: it runs where it is."""
    async with Engine(processes=1, grace=0.2) as engine:
        await holder.take(engine)

        begun = tmp_path / "begun"

        def begin_now() -> None:
            holder.release()
            eventually(begun.exists, STUCK)  # before that the worker would find it forbidden, see below

        around_forbid(monkeypatch, before=begin_now)
        task = engine.submit(does.mark_and_wait, str(begun), str(begun))
        assert await within(task) == holder.pid
        assert task.attempt == 1
        assert await within(engine.submit(os.getpid)) != holder.pid  # the worker is replaced all the same
        assert engine.snapshot().given_back == holder.given_back


@pytest.mark.usefixtures("soon")
async def test_a_task_that_the_worker_finds_forbidden_runs_once_elsewhere(
    holder: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1. It is forbidden. 2. The worker gets to it, finds that, and says so. 3. We look: it has not begun."""
    async with Engine(processes=1, grace=0.2) as engine:
        await holder.take(engine)

        def let_it_find_out(page: StartPage, number: int) -> None:
            holder.release()
            wait_for_an_answer(holder, engine)

        around_forbid(monkeypatch, after=let_it_find_out)
        runs = holder.said.parent / "runs"
        await within(engine.submit(functions.mark, str(runs), "ran"))
        assert runs.read_text().split() == ["ran"]
        assert (engine.snapshot().crashes, engine.snapshot().malformed) == (0, 0)


@pytest.mark.usefixtures("soon")
async def test_a_task_that_is_taken_for_begun_and_takes_it_back_is_given_back(
    holder: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1. It is forbidden. 2. The worker says that it begins. 3. We look: begun. 4. The worker finds it forbidden."""
    async with Engine(processes=1, grace=0.2) as engine:
        await holder.take(engine)
        last = StartPage.last

        def say_that_it_begins(page: StartPage, number: int) -> None:
            def said(page: StartPage) -> int:
                monkeypatch.setattr(StartPage, "last", last)
                holder.release()
                wait_for_an_answer(holder, engine)
                return number

            monkeypatch.setattr(StartPage, "last", said)

        around_forbid(monkeypatch, after=say_that_it_begins)
        task = engine.submit(os.getpid)
        assert await within(task) != holder.pid
        assert task.attempt == 1
        assert (engine.snapshot().crashes, engine.snapshot().malformed) == (0, 0)
        assert engine.snapshot().given_back == holder.given_back + 1


async def test_a_worker_that_is_stopped_keeps_its_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """E23: whoever stopped it, a debugger say, wants it; nothing is taken back, however long it is (design/0009)."""
    monkeypatch.setattr(begin, "LOOK_SECONDS", 0.01)
    looks = []
    judge = BeginWatch._judge

    def counted(watch: BeginWatch, worker: Any, number: int, before: Any) -> None:
        judge(watch, worker, number, before)
        looks.append(watch._seen[worker].looks)

    monkeypatch.setattr(BeginWatch, "_judge", counted)
    async with Engine(processes=1) as engine:
        pid = await within(engine.run(os.getpid))
        os.kill(pid, signal.SIGSTOP)
        task = engine.submit(os.getpid)
        await eventually_async(lambda: len(looks) > 20, STUCK)
        assert set(looks) == {0}
        monkeypatch.setattr(begin, "LOOK_SECONDS", STUCK)  # it may need a while to go on
        os.kill(pid, signal.SIGCONT)
        assert await within(task) == pid


class Busy:
    """As much of a worker as the watch looks at: it was sent task 7."""

    pid = 1
    state = "busy"

    def unbegun(self) -> int:
        return 7

    def has_ended(self) -> bool:
        return False


@pytest.mark.parametrize(
    ("looks", "is_found"),
    [
        ([Usage(0, 1.0, False)] * 3, True),
        ([Usage(0, 1.0, False)] * 2, False),
        ([Usage(0, 1.0, False, is_waiting=False)] * 9, False),  # it wants to run, and gets no CPU
        ([Usage(0, seconds, False, is_waiting=False) for seconds in (1.0, 1.1, 1.2)], True),  # it runs something else
        ([Usage(0, 1.0, True)] * 9, False),
        ([Usage(0, 1.0, is_stopped) for is_stopped in (False, False, True, False)], False),
        ([Usage(0, 1.0, is_stopped) for is_stopped in (True, False, False)], True),
    ],
)
def test_who_is_judged(looks: list[Usage], is_found: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Any] = []
    worker: Any = Busy()
    left = list(looks)
    monkeypatch.setattr(begin, "usage_of", lambda pid: left.pop(0))
    watch = BeginWatch(lambda *args: None, lambda: (worker,), found.append)
    for _ in looks:
        assert not found
        watch._look()
    assert found == [worker] * is_found
