"""The process lane over loky: what is its alone. What it shares with the native backend runs on both elsewhere."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
from multiprocessing import connection
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, TaskTimeout
from engine.errors import WorkerCrashed
from tests.contracts import functions
from tests.integration import portable_functions as does
from tests.support import REPOSITORY, eventually, eventually_async

STUCK = 30.0  #: seconds; a bound for what never happens, not a measurement


def over_loky(**options: Any) -> Engine:
    given: dict[str, Any] = {"processes": 1, "process_backend": "loky", **options}
    return Engine(**given)


# -- other systems ----------------------------------------------------------------------------------------------------

#: Takes away what only Linux has, in every interpreter that starts with it on its path: parent, workers, trackers.
ELSEWHERE = """
import os, signal, socket, sys
sys.modules["fcntl"] = None
for module, names in (
    (os, "pidfd_open memfd_create P_PIDFD sched_getaffinity sched_setaffinity fork register_at_fork eventfd"),
    (signal, "pidfd_send_signal"),
    (socket, "SOCK_SEQPACKET SOCK_CLOEXEC MSG_CMSG_CLOEXEC"),
):
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
"""

SCRIPT = """
import asyncio, os, sys, time
from engine import Engine, WorkerCrashed
assert sys.modules["fcntl"] is None and not hasattr(os, "pidfd_open")

async def main():
    async with Engine(processes=2, grace=0.2) as engine:
        assert engine.process_backend == "loky", engine.process_backend
        pid = await engine.run(os.getpid)
        assert pid != os.getpid()
        assert await engine.run(len, bytes(300_000)) == 300_000
        held = engine.submit(time.sleep, 60)
        while held.started_at is None:
            engine.snapshot()
            await asyncio.sleep(0.01)
        assert held.cancel()
        dead = engine.submit(os._exit, 7)
        try:
            await dead
        except WorkerCrashed as error:
            assert error.exit_code == 7
        assert await engine.run(abs, -1) == 1
        assert any("process-" in name for name in engine.stacks())
    print("done")

asyncio.run(main())
"""


def test_it_runs_where_the_parts_that_only_linux_has_are_missing(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(ELSEWHERE)
    path = os.pathsep.join([str(tmp_path), str(REPOSITORY)])
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert (run.returncode, run.stdout, run.stderr) == (0, "done\n", "")


# -- deaths in the middle of a transfer -------------------------------------------------------------------------------


async def test_a_worker_killed_in_the_middle_of_its_answer_is_a_crash_and_blocks_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """W5: loky's thread would wait for the rest for ever if the parent kept the worker's end of the pipe open."""
    receive = connection.Connection._recv  # type: ignore[attr-defined]  # between a message's size and its body
    async with over_loky(grace=0.1) as engine:
        pid = await engine.run(os.getpid)

        def kill_first(self: Any, size: int, *args: Any) -> Any:
            if size >= 64 << 20:  # the worker has written what the pipe holds, and waits to write the rest
                os.kill(pid, signal.SIGKILL)
            return receive(self, size, *args)

        monkeypatch.setattr(connection.Connection, "_recv", kill_first)
        task = engine.submit(bytes, 64 << 20)
        (error,) = await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), STUCK)
        assert isinstance(error, WorkerCrashed)
        assert await asyncio.wait_for(engine.run(functions.give, 1), STUCK) == 1


async def test_a_worker_killed_before_it_has_read_its_task_gives_it_back(tmp_path: Path) -> None:
    """W7: a big task half written to a stopped worker that then dies has not begun: it runs on another, once."""
    async with over_loky() as engine:
        first = await engine.run(os.getpid)
        os.kill(first, signal.SIGSTOP)
        task = engine.submit(len, bytes(64 << 20))
        await eventually_async(lambda: engine.snapshot().workers[0].state in ("busy", "stopped"), STUCK)
        os.kill(first, signal.SIGKILL)
        assert await asyncio.wait_for(task, STUCK) == 64 << 20
        assert task.attempt == 1
        assert engine.snapshot().crashes == 0


async def test_a_timeout_strikes_in_a_worker_that_never_says_that_it_began() -> None:
    """W22: it counts from the handing over."""
    async with over_loky(grace=0.1) as engine:
        first = await engine.run(os.getpid)
        os.kill(first, signal.SIGSTOP)
        with pytest.raises(TaskTimeout):
            await asyncio.wait_for(engine.options(timeout=0.3).run(functions.give, 1), STUCK)
        assert await asyncio.wait_for(engine.run(os.getpid), STUCK) != first


# -- loky's own ways --------------------------------------------------------------------------------------------------


async def test_loky_does_not_replace_a_worker_that_has_grown() -> None:
    async with over_loky() as engine:
        assert await engine.run(does.leak_limit)


def semaphores() -> set[str]:
    folder = Path("/dev/shm")
    return {path.name for path in folder.glob(f"sem.loky-{os.getpid()}-*")} if folder.exists() else set()


async def test_no_semaphore_is_left_once_the_workers_are_gone() -> None:
    async with over_loky(processes=2, max_tasks_per_worker=1) as engine:
        await asyncio.gather(*[engine.submit(os.getpid) for _ in range(4)])
        assert semaphores()
    await eventually_async(lambda: gc.collect() is not None and not semaphores(), STUCK)


EXITS = """
import asyncio, os, sys, time
from engine import Engine

async def main():
    async with Engine(processes=2, process_backend="loky") as engine:
        await engine.warm_up()
        tasks = [engine.submit(time.sleep, 60) for _ in range(4)]
        await asyncio.sleep(0.1)
        sys.exit(3)

def blocking():
    engine = Engine(processes=2, process_backend="loky").__enter__()
    engine.warm_up()
    return engine, [engine.submit(time.sleep, 60) for _ in range(4)]

def cold():
    engine = Engine(processes=2, process_backend="loky").__enter__()
    return engine, [engine.submit(time.sleep, 60) for _ in range(4)]

def stopped_loop():
    loop = asyncio.new_event_loop()
    engine = loop.run_until_complete(Engine(processes=1, process_backend="loky").start())
    loop.run_until_complete(engine.warm_up())
    task = engine.submit(time.sleep, 60)
    loop.run_until_complete(asyncio.sleep(0.2))
    return loop, engine, task

kept = asyncio.run(main()) if sys.argv[1] == "main" else globals()[sys.argv[1]]()
"""


@pytest.mark.parametrize(("how", "code"), [("main", 3), ("blocking", 0), ("cold", 0), ("stopped_loop", 0)])
def test_an_interpreter_that_ends_with_work_pending_neither_hangs_nor_prints(how: str, code: int) -> None:
    """N7: also where nobody has stopped the engine, or no worker is up yet; loky alone would wait for running tasks."""
    run = subprocess.run(
        [sys.executable, "-c", EXITS, how], cwd=REPOSITORY, capture_output=True, text=True, timeout=30, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (code, "", "")


FORKS = """
import os, sys, warnings
from engine import Engine, EngineForked
warnings.simplefilter("ignore", DeprecationWarning)

with Engine(processes=2, process_backend="loky") as engine:
    engine.warm_up()
    pid = os.fork()
    if not pid:
        try:
            engine.submit(abs, 1)
        except EngineForked:
            sys.exit(5)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    assert engine.run(abs, -1) == 1
    print("parent done", flush=True)
"""


def test_a_forked_child_that_exits_disturbs_neither_its_parent_nor_itself() -> None:
    """N12: the exit handlers of loky and multiprocessing run in the child, too."""
    run = subprocess.run(
        [sys.executable, "-c", FORKS], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "parent done\n", "")


def test_workers_end_with_a_killed_parent() -> None:
    """W17: also a busy one; what loky's trackers then print about semaphores is theirs."""
    script = EXITS.replace(
        "sys.exit(3)", "print(*[w.pid for w in engine.snapshot().workers], flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, "main"], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2
        parent.kill()

    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), STUCK)
