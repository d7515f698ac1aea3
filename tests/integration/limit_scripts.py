"""What ``test_limits.py`` runs in processes of their own, under limits that a test run could not bear.

    python -m tests.integration.limit_scripts NAME

Each script asserts what it is about and prints "kept" at its end.
"""

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from engine import Engine, Task, TaskTimeout
from engine.errors import WorkerCrashed, WorkerStartupError
from tests.contracts import functions
from tests.contracts.process_front import native_workers
from tests.support import Leftovers, eventually_async

STUCK = 30.0  #: seconds; a bound for what never happens, not a measurement


@contextlib.contextmanager
def limited(kind: int, soft: int) -> Iterator[None]:
    """Lower a soft limit of this process, and of what it starts, for the time of the block."""
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


def descriptors() -> int:
    """Count the open descriptors, the one that lists them not included."""
    return len(os.listdir("/proc/self/fd")) - 1


def next_free() -> int:
    """Return the number that the next descriptor will have: RLIMIT_NOFILE is compared with it."""
    fd = os.open(os.devnull, os.O_RDONLY)
    os.close(fd)
    return fd


async def failure(engine: Any) -> BaseException:
    """Return the error of a task that cannot run."""
    (result,) = await asyncio.wait_for(asyncio.gather(engine.submit(functions.give, 1), return_exceptions=True), STUCK)
    assert isinstance(result, BaseException), result
    return result


async def no_descriptors() -> None:
    """W23: not one worker fits: a typed error that says what to do; then the limit is lifted."""
    async with Engine(processes=2) as engine:
        await engine.run(functions.give, 1)  # everything is imported
        await engine.restart_workers()
        await eventually_async(lambda: not engine.snapshot().workers, STUCK)
        before = descriptors()
        for spare in range(8):
            with limited(resource.RLIMIT_NOFILE, next_free() + spare):
                error = await failure(engine)
            assert isinstance(error, WorkerStartupError), error
            assert "Too many open files" in str(error), error
            assert "ulimit -n" in str(error), error
            assert isinstance(error.__cause__, OSError)
            assert descriptors() == before
            assert "ulimit -n" in (engine.snapshot().last_start_error or "")
            await engine.restart_workers()  # ends the pause
        assert await asyncio.wait_for(engine.run(functions.give, 1), STUCK) == 1
        assert engine.snapshot().start_failures == 3 + 7  # the breaker stays open until a worker is ready


async def few_descriptors() -> None:
    """W23: RLIMIT_NOFILE=64 and 16 processes: those that fit run everything; the others follow when it is lifted."""
    async with Engine(processes=16) as engine:
        with limited(resource.RLIMIT_NOFILE, 64):
            tasks = [engine.submit(time.sleep, 0.005) for _ in range(300)]
            await asyncio.wait_for(asyncio.gather(*tasks), STUCK)
            snapshot = engine.snapshot()
            ready = [worker for worker in snapshot.workers if worker.state in ("idle", "busy")]
            assert 1 <= len(ready) < 8, snapshot
            assert snapshot.start_failures >= 1
            assert "ulimit -n" in (snapshot.last_start_error or "")
            assert "one more worker process could not be started (" in (snapshot.last_start_error or "")
        await asyncio.wait_for(engine.warm_up(), STUCK)
        assert len(engine.snapshot().workers) == 16


async def truncated_hello() -> None:
    """W23: no descriptor is free for the worker's pidfd when hello comes; its death is seen all the same."""
    with TemporaryDirectory() as folder:
        go = os.path.join(folder, "start")
        async with Engine(processes=1, initializer=wait_for_file, initargs=(go,)) as engine:
            task = engine.submit(functions.hold, folder, "held")
            await eventually_async(lambda: os.path.exists(go + ".waits"), STUCK)
            (worker,) = native_workers(engine)
            own = worker.child.pidfd
            with limited(resource.RLIMIT_NOFILE, next_free()):
                os.mkdir(go)  # which needs no descriptor
                await eventually_async(lambda: worker.state == "busy", STUCK)
                assert worker.child.pidfd == own, "the descriptor arrived: this tested nothing"
            begun = Path(folder, "held.begun")
            await eventually_async(lambda: begun.exists() and begun.read_text() != "", STUCK)
            os.kill(int(begun.read_text()), signal.SIGKILL)
            (error,) = await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), STUCK)
            assert isinstance(error, WorkerCrashed), error
            assert error.signal_name == "SIGKILL"


def wait_for_file(path: str) -> None:
    """Say that it waits, wait until ``path`` exists."""
    functions.mark(path + ".waits")
    while not os.path.exists(path):
        time.sleep(0.001)


async def no_processes() -> None:
    """W23: RLIMIT_NPROC: neither a process nor a thread; typed errors that say what to do, then all is well."""
    async with Engine(processes=2, threads=2) as engine:
        threads = engine.options(lane="thread")
        with limited(resource.RLIMIT_NPROC, 1):
            for view, what in ((engine, "no worker process"), (threads, "start a thread")):
                error = await failure(view)
                assert isinstance(error, WorkerStartupError), error
                assert what in str(error), error
                assert "ulimit -u" in str(error), error
                assert what in (engine.snapshot().last_start_error or "")
        assert engine.snapshot().start_failures >= 4
        assert await asyncio.wait_for(threads.run(functions.give, 1), STUCK) == 1
        assert await asyncio.wait_for(engine.run(functions.give, 1), STUCK) == 1


async def few_processes() -> None:
    """W23: one thread fits, four are wanted: it works alone; when the limit is lifted the others come by themselves."""
    async with Engine(threads=4, default_lane="thread") as engine:
        meeting = threading.Barrier(4)
        go = threading.Event()
        with limited(resource.RLIMIT_NPROC, count_threads() + 1):
            tasks: list[Task[Any]] = [engine.submit(go.wait, STUCK)]
            tasks += [engine.submit(meeting.wait, STUCK) for _ in range(4)]
            await eventually_async(lambda: engine.snapshot().start_failures >= 3, STUCK)
            assert len(engine.snapshot().workers) == 1
        await eventually_async(lambda: len(engine.snapshot().workers) == 4, STUCK)
        go.set()
        await asyncio.wait_for(asyncio.gather(*tasks), STUCK)


def count_threads() -> int:
    """Count the threads of this user, which RLIMIT_NPROC is compared with."""
    user, count = os.getuid(), 0
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            if int(name) and os.stat(f"/proc/{name}").st_uid == user:
                count += len(os.listdir(f"/proc/{name}/task"))
    return count


async def slim_image() -> None:
    """W25: no psutil, no pgrep, no PATH: a timeout still ends the whole tree of the task."""
    sys.modules["psutil"] = None  # type: ignore[assignment]  # what makes an import of it fail
    os.environ["PATH"] = ""
    with TemporaryDirectory() as folder:
        async with Engine(processes=1, grace=0.05) as engine:
            task = engine.options(timeout=3).submit(grow_tree, folder)
            await eventually_async(lambda: len(os.listdir(folder)) == 3, STUCK)
            (error,) = await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), STUCK)
            assert isinstance(error, TaskTimeout), error
            pids = [int(name) for name in os.listdir(folder)]
            await eventually_async(lambda: not any(is_alive(pid) for pid in pids), STUCK)
            assert await asyncio.wait_for(engine.run(functions.give, 1), STUCK) == 1


def grow_tree(folder: str, depth: int = 2) -> None:
    """Start a child that starts a child; each leaves a file that is named after it, and ignores SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(folder, str(os.getpid())).touch()
    if depth:
        code = f"from tests.integration.limit_scripts import grow_tree; grow_tree({folder!r}, {depth - 1})"
        subprocess.Popen([sys.executable, "-c", code])
    while True:
        time.sleep(1)


def is_alive(pid: int) -> bool:
    """Say whether ``pid`` runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


SCRIPTS: dict[str, Callable[[], Any]] = {
    script.__name__: script
    for script in (
        no_descriptors, few_descriptors, truncated_hello, no_processes, few_processes, slim_image,
    )
}  # fmt: skip


def main(name: str) -> None:
    """Run one script; nothing may be left of it."""
    leftovers = Leftovers()
    asyncio.run(SCRIPTS[name]())
    left = leftovers.names(5.0)
    assert not left, left
    print("kept")


if __name__ == "__main__":
    main(sys.argv[1])
