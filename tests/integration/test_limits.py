"""Too few descriptors, processes, threads or too little memory: typed errors, nothing half open, and recovery.

SCENARIOS W23, W25, N8; design/0007. What would hurt the test run itself happens in processes of its own
(``limit_scripts.py``).
"""

import asyncio
import errno
import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from engine import Engine
from engine._lanes import threads
from engine._lanes._process import breaker, child, decoder_threads
from engine.errors import WorkerCrashed, WorkerStartupError
from tests.contracts import functions
from tests.integration.stress_runs import run_module
from tests.support import children, eventually_async

STUCK = 30.0  #: seconds; a bound for what never happens, not a measurement
STRANGER = "54321"  #: a uid that owns nothing: RLIMIT_NPROC counts by user and does not bind root


def run(name: str, *prefix: str) -> None:
    """Run one of the scripts, which says that its promise was kept."""
    done = run_module("tests.integration.limit_scripts", name, prefix=prefix)
    assert done.returncode == 0, done.stderr[-8000:]
    assert done.stdout.endswith("kept\n")


@pytest.mark.parametrize("name", ["no_descriptors", "few_descriptors", "truncated_hello", "slim_image"])
def test_in_a_process_of_its_own(name: str) -> None:
    """W23, W25: see the scripts."""
    run(name)


@pytest.mark.parametrize("name", ["no_processes", "few_processes"])
def test_as_a_user_of_its_own(name: str) -> None:
    """W23: under a true RLIMIT_NPROC."""
    prefix: list[str] = []
    if os.getuid() == 0:
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            pytest.skip("root is not bound by RLIMIT_NPROC, and without setpriv the test cannot be another user")
        kept = "-all,+dac_read_search,+dac_override"  # it reads what only root may read: its interpreter, perhaps
        prefix = [setpriv, "--reuid", STRANGER, "--clear-groups", f"--inh-caps={kept}", f"--ambient-caps={kept}"]
    run(name, *prefix)


# -- a start that fails half-way ------------------------------------------------------------------------------------


class FailsOnce:
    """Raises at one call, and does as the original at all others."""

    def __init__(self, original: Callable[..., Any], error: OSError, at: int) -> None:
        self._original = original
        self._error = error
        self._at = at

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._at -= 1
        if self._at == 0:
            raise self._error
        return self._original(*args, **kwargs)


@pytest.mark.parametrize(
    ("owner", "name", "number", "at"),
    [
        (socket, "socketpair", errno.EMFILE, 1),
        (socket, "socketpair", errno.ENFILE, 2),
        (socket, "socketpair", errno.EMFILE, 3),
        (os, "pipe", errno.EMFILE, 1),
        (os, "pipe", errno.EMFILE, 2),
        (os, "memfd_create", errno.EMFILE, 1),
        (os, "ftruncate", errno.ENOMEM, 1),
        (child, "StartPage", errno.ENOMEM, 1),
        (os, "pidfd_open", errno.EMFILE, 1),
        (os, "set_inheritable", errno.EBADF, 1),
    ],
    ids=lambda value: str(getattr(value, "__name__", value)),
)
async def test_a_start_that_fails_half_way_leaves_nothing_and_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, number: int, at: int
) -> None:
    """W23: at each system call; no descriptor, process or zombie stays (the leak fixture looks)."""
    async with Engine(processes=1) as engine:
        before = set(os.listdir("/proc/self/fd"))
        error = OSError(number, os.strerror(number))
        monkeypatch.setattr(owner, name, FailsOnce(getattr(owner, name), error, at))
        task = engine.submit(functions.give, 1)
        await eventually_async(lambda: engine.snapshot().start_failures == 1, STUCK)
        assert set(os.listdir("/proc/self/fd")) <= before
        assert not children()
        assert await asyncio.wait_for(task, STUCK) == 1


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EAGAIN, "raise the limit on processes (ulimit -u"),
        (errno.ENOMEM, "free memory, or lower processes"),
        (errno.EMFILE, "raise the limit on open files (ulimit -n), or lower processes"),
        (errno.ENFILE, "fs.file-max"),
        (errno.EFBIG, "raise the limit on the size of files (ulimit -f)"),
    ],
    ids=lambda value: errno.errorcode.get(value, ""),
)
async def test_a_fork_that_the_system_refuses_is_a_typed_error_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    """W23, E38: three refusals fail what waits; nothing is forked; the next task finds the system well."""
    refused: list[float] = []

    def refuse(*args: Any, **kwargs: Any) -> int:
        refused.append(asyncio.get_running_loop().time())
        raise OSError(number, os.strerror(number))

    async with Engine(processes=4) as engine:
        with monkeypatch.context() as patch:
            patch.setattr(child, "load_starter", lambda: refuse)
            tasks = [engine.submit(functions.give, number) for number in range(50)]
            for result in await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), STUCK):
                assert isinstance(result, WorkerStartupError)
                assert remedy in str(result)
                assert isinstance(result.__cause__, OSError)
            assert len(refused) == breaker.MAX_FAILURES
            assert refused[2] - refused[0] >= 0.3
        assert await asyncio.wait_for(engine.run(functions.give, 1), STUCK) == 1


async def test_a_child_that_cannot_be_watched_is_reaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """W23: the loop takes no more readers (fs.epoll.max_user_watches), at each of the four; nobody is left running."""
    async with Engine(processes=1) as engine:
        for at in range(1, 5):
            with monkeypatch.context() as patch:
                error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                loop = asyncio.get_running_loop()
                patch.setattr(loop, "add_reader", FailsOnce(loop.add_reader, error, at))
                task = engine.submit(functions.give, at)
                await eventually_async(partial(_has_failed, engine, at), STUCK)
                assert not engine.snapshot().workers
                assert not children()
                assert await asyncio.wait_for(task, STUCK) == at
            await engine.restart_workers()
            await eventually_async(lambda: not engine.snapshot().workers, STUCK)


def _has_failed(engine: Engine, times: int) -> bool:
    return engine.snapshot().start_failures == times


async def test_a_child_that_other_code_has_reaped_is_not_killed_by_its_pid(monkeypatch: pytest.MonkeyPatch) -> None:
    """W20, W23: when the start fails after the fork and the child is gone, its number may be another's by then."""
    pids: list[int] = []

    def open_and_fail(pid: int) -> int:
        if pid not in pids:  # else it is asked once more, to end the process by
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            pids.append(pid)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    killed: list[int] = []
    kill = os.kill

    def note(pid: int, number: int) -> None:
        killed.append(pid)
        kill(pid, number)

    async with Engine(processes=1) as engine:
        with monkeypatch.context() as patch:
            patch.setattr(os, "pidfd_open", open_and_fail)
            patch.setattr(os, "kill", note)
            error = (await asyncio.gather(engine.submit(functions.give, 1), return_exceptions=True))[0]
        assert isinstance(error, WorkerStartupError)
        assert len(pids) == 3
        assert killed == pids  # by the test itself, once each
        assert await asyncio.wait_for(engine.run(functions.give, 1), STUCK) == 1


# -- threads --------------------------------------------------------------------------------------------------------


class Shortage:
    """Lets ``most`` threads start; the system has no more, until it is over."""

    def __init__(self, most: int) -> None:
        self.most: float = most
        self.refused = 0

    def thread(self, *args: Any, **kwargs: Any) -> threading.Thread:
        shortage = self

        class Refused(threading.Thread):
            def start(self) -> None:
                if shortage.most <= 0:
                    shortage.refused += 1
                    raise RuntimeError("can't start new thread")
                shortage.most -= 1
                super().start()

        return Refused(*args, **kwargs)


@pytest.fixture
def shortage(monkeypatch: pytest.MonkeyPatch) -> Shortage:
    """Let the thread lane start no thread; raise ``most`` to let it."""
    made = Shortage(0)

    class Module:
        Thread = staticmethod(made.thread)

        def __getattr__(self, name: str) -> Any:
            return getattr(threading, name)

    monkeypatch.setattr(threads, "threading", Module())
    return made


async def test_a_lane_without_any_thread_fails_what_waits_and_works_when_there_are_some(shortage: Shortage) -> None:
    """N8, W23: no task hangs, and no slot is lost for ever."""
    async with Engine(threads=2, default_lane="thread") as engine:
        for _ in range(5):  # more often than there are slots
            task = engine.submit(functions.give, 1)
            await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), STUCK)
            error = task.exception()
            assert isinstance(error, WorkerStartupError)
            assert "lower threads, or raise the limit on processes" in str(error)
            assert isinstance(error.__cause__, RuntimeError)
        assert engine.snapshot().start_failures == shortage.refused
        shortage.most = float("inf")
        meeting = threading.Barrier(2)
        tasks = [engine.submit(meeting.wait, STUCK) for _ in range(2)]
        await asyncio.wait_for(asyncio.gather(*tasks), STUCK)


async def test_a_lane_that_got_fewer_threads_grows_when_there_are_more(
    shortage: Shortage, caplog: pytest.LogCaptureFixture
) -> None:
    """W23: the work that waits is what the next tries are for; nobody has to submit anything."""
    async with Engine(threads=3, default_lane="thread") as engine:
        shortage.most = 1
        go, meeting = threading.Event(), threading.Barrier(3)
        tasks = [engine.submit(go.wait, STUCK), *[engine.submit(meeting.wait, STUCK) for _ in range(3)]]
        await eventually_async(lambda: shortage.refused >= 6, STUCK)  # two threads, tried again and again
        assert len(engine.snapshot().workers) == 1
        assert not any(task.done() for task in tasks)
        shortage.most = float("inf")
        await eventually_async(lambda: len(engine.snapshot().workers) == 3, STUCK)
        go.set()
        await asyncio.wait_for(asyncio.gather(*tasks), STUCK)
    said = [record for record in caplog.records if "start a thread" in record.getMessage()]
    assert len(said) == 1, "one line for one time of shortage"


async def test_what_is_decoded_on_a_thread_fails_alone_when_there_is_none(
    monkeypatch: pytest.MonkeyPatch, shortage: Shortage
) -> None:
    """W23: the helper that decodes results is a thread too; its task is told, the next one works."""
    monkeypatch.setattr(decoder_threads, "threading", vars(threads)["threading"])
    async with Engine(processes=1) as engine:
        task = engine.submit(functions.make_blob, 3)
        await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), STUCK)
        assert "RuntimeError" in str(task.exception())
        shortage.most = float("inf")
        assert len(await asyncio.wait_for(engine.run(functions.make_blob, 3), STUCK)) == 3


class Patched:
    """Has the lane's threads begin, end and tell of their start as a test wants it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, told: Callable[[threading.Thread], None]) -> None:
        self.threads: list[threading.Thread] = []
        self.go_on, self.may_end = threading.Event(), threading.Event()
        self.go_on.set()
        self.may_end.set()
        patched = self

        class Thread(threading.Thread):
            def start(self) -> None:
                patched.threads.append(self)
                told(self) if len(patched.threads) == 1 else super().start()

            def run(self) -> None:
                assert patched.go_on.wait(STUCK)
                super().run()
                assert patched.may_end.wait(STUCK)

        class Module:
            def __getattr__(self, name: str) -> Any:
                return Thread if name == "Thread" else getattr(threading, name)

        monkeypatch.setattr(threads, "threading", Module())

    def are_over(self) -> bool:
        return not any(thread.is_alive() for thread in self.threads)


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
async def test_a_thread_that_has_begun_is_kept_whatever_is_thrown_into_its_start(
    monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """E36: it was taken for not started, lived on unknown, and took another's sign to stop."""
    ran = threading.Event()

    def told(thread: threading.Thread) -> None:
        threading.Thread.start(thread)
        assert ran.wait(STUCK)
        raise error("thrown into Thread.start, which waits for the thread")

    patched = Patched(monkeypatch, told)
    async with Engine(threads=1, default_lane="thread") as engine:
        try:
            await asyncio.wait_for(engine.submit(ran.set), STUCK)
        except KeyboardInterrupt:
            assert error is KeyboardInterrupt
        assert await asyncio.wait_for(engine.submit(abs, -1), STUCK) == 1
        assert engine.snapshot().start_failures == 0
    assert patched.are_over()


async def test_a_thread_that_begins_after_it_was_given_up_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """E36: what waited was told, and another one takes its place."""

    def told(thread: threading.Thread) -> None:
        threading.Thread.start(thread)
        raise MemoryError

    patched = Patched(monkeypatch, told)
    patched.go_on.clear()
    async with Engine(threads=1, default_lane="thread") as engine:
        (error,) = await asyncio.wait_for(asyncio.gather(engine.submit(abs, -1), return_exceptions=True), STUCK)
        assert isinstance(error, WorkerStartupError)
        patched.go_on.set()
        await eventually_async(patched.are_over, STUCK)
        assert await asyncio.wait_for(engine.submit(abs, -1), STUCK) == 1
        assert len(engine.snapshot().workers) == 1
    assert patched.are_over()


async def test_a_thread_that_has_not_begun_is_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    """E195: it was said to be idle, though nobody could join it yet."""
    patched = Patched(monkeypatch, threading.Thread.start)
    patched.go_on.clear()
    async with Engine(threads=1, default_lane="thread") as engine:
        task = engine.submit(abs, -1)
        assert [worker.state for worker in engine.snapshot().workers] == ["starting"]
        patched.go_on.set()
        assert await asyncio.wait_for(task, STUCK) == 1
        await eventually_async(lambda: [each.state for each in engine.snapshot().workers] == ["idle"], STUCK)
    assert patched.are_over()


async def test_a_thread_that_was_not_started_for_another_reason_is_started_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """E36: somebody's exception goes on to whom it was thrown at; the slot is not lost."""

    class Other(BaseException):
        pass

    def told(thread: threading.Thread) -> None:
        raise Other

    patched = Patched(monkeypatch, told)
    async with Engine(threads=1, default_lane="thread") as engine:
        with pytest.raises(Other):
            engine.submit(abs, -1)
        assert await asyncio.wait_for(engine.submit(abs, -2), STUCK) == 2
    assert patched.are_over()


async def test_threads_that_are_slow_to_end_do_not_hold_up_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """E36: a stop waited for each of them, one after the other, where the loop runs."""
    patched = Patched(monkeypatch, threading.Thread.start)
    engine = await Engine(threads=3, default_lane="thread", grace=10.0).__aenter__()
    meeting = threading.Barrier(3)
    await asyncio.wait_for(asyncio.gather(*[engine.submit(meeting.wait, STUCK) for _ in range(3)]), STUCK)
    patched.may_end.clear()
    stop = asyncio.ensure_future(engine.stop())
    await eventually_async(lambda: engine.snapshot().phase != "running", STUCK)
    asyncio.get_running_loop().call_later(0.3, patched.may_end.set)
    await asyncio.wait_for(stop, STUCK)
    assert patched.are_over()


# -- what is not a limit --------------------------------------------------------------------------------------------


async def test_a_worker_that_cannot_make_its_own_pidfd_is_watched_all_the_same(tmp_path: Path) -> None:
    """W23: hello comes without a descriptor; the one that was opened at the start tells of the death."""
    async with Engine(processes=1, initializer=functions.throw_away_pidfd_open) as engine:
        task = engine.submit(functions.hold, str(tmp_path), "held")
        begun = tmp_path / "held.begun"
        await eventually_async(lambda: begun.exists() and begun.read_text() != "", STUCK)
        os.kill(int(begun.read_text()), signal.SIGKILL)
        await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), STUCK)
        assert isinstance(task.exception(), WorkerCrashed)
