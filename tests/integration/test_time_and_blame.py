"""SCENARIOS about time and blame: what will not end, stopped processes, clocks, pids, foreign reapers (design/0009)."""

import asyncio
import contextlib
import errno
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, Retry, Task, TaskState
from engine._lanes._process import child as child_module
from engine.errors import TaskTimeout, WorkerCrashed
from tests.contracts.process_front import native_workers
from tests.integration import time_functions as does
from tests.support import REPOSITORY, children, eventually, eventually_async

STUCK = 30.0  #: seconds; a bound for what never happens, not a measurement


def process_state(pid: int) -> str:
    """Give the state letter of ``pid``; Z for one that is gone, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "Z"


def are_gone(pids: list[int]) -> bool:
    return all(process_state(pid) in "ZX" for pid in pids)


def pids_in(path: Path) -> list[int]:
    """Give the numbers of the first line, once it is there."""
    return [int(word) for word in path.read_text().split("\n")[0].split()] if path.exists() else []


async def settled(task: Task[Any]) -> None:
    """Wait for ``task``, however it ends."""
    await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), STUCK)


async def failure(task: Task[Any]) -> BaseException:
    """Wait for ``task``, which must fail, and return its error."""
    await settled(task)
    error = task.exception()
    assert error is not None
    return error


@pytest.fixture
def doomed() -> Iterator[list[int]]:
    """Give a list of pids that are killed after the test: what escapes on purpose."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
            os.kill(pid, signal.SIGKILL)


def run_script(script: str, *args: str, prefix: tuple[str, ...] = ()) -> Any:
    """Run ``script`` in a process of its own and return what it printed last, as JSON."""
    done = subprocess.run(
        [*prefix, sys.executable, "-c", textwrap.dedent(script), *args],
        capture_output=True, cwd=REPOSITORY, timeout=2 * STUCK, check=False, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# -- W14, W15: what will not end --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", range(len(does.STUBBORN)), ids=[fn.__name__ for fn in does.STUBBORN])
async def test_a_timeout_ends_whatever_resists(how: int, tmp_path: Path) -> None:
    """W14: SIGKILL after the grace; the next task runs in another process; the figure is printed, not asserted."""
    path, limit, grace = tmp_path / "pid", 0.3, 0.1
    async with Engine(processes=1, grace=grace) as engine:
        await engine.warm_up()
        task = engine.options(timeout=limit).submit(does.be_stubborn, how, str(path))
        await eventually_async(lambda: task.started_at, STUCK)
        began = time.monotonic()
        error = await failure(task)
        told = time.monotonic() - began
        assert isinstance(error, TaskTimeout)
        assert (error.timeout, error.attempt, error.lane) == (limit, 1, "process")
        await eventually_async(path.exists, STUCK)
        pids = pids_in(path)
        assert await asyncio.wait_for(engine.run(os.getpid), STUCK) not in pids
        await eventually_async(lambda: are_gone(pids), STUCK)
        gone = time.monotonic() - began
        print(f"{does.STUBBORN[how].__name__}: TaskTimeout after {told:.3f} s of {limit}, gone after {gone:.3f} s")
        assert engine.snapshot().timeouts == 1


async def test_an_exit_handler_that_never_ends_holds_no_worker() -> None:
    """W14: a worker that leaves by itself is killed after the grace too."""
    async with Engine(processes=1, grace=0.1, max_tasks_per_worker=1) as engine:
        first = await engine.run(does.leave_an_exit_handler_that_never_ends)
        assert await asyncio.wait_for(engine.run(os.getpid), STUCK) != first
        await eventually_async(lambda: are_gone([first]), STUCK)


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
async def test_the_whole_family_of_a_timed_out_task_goes(method: str, tmp_path: Path) -> None:
    """W15: its child, a grandchild through sh, a multiprocessing.Pool, and the child of one of its threads."""
    path = tmp_path / "family"
    async with Engine(processes=1, grace=0.05) as engine:
        task = engine.submit(does.start_a_family, str(path), method)
        family = await eventually_async(lambda: pids_in(path), STUCK)
        assert len(family) == 7
        assert not any(process_state(pid) == "Z" for pid in family)
        task.cancel()
        await eventually_async(lambda: are_gone(family), STUCK)
        assert await asyncio.wait_for(engine.run(abs, -1), STUCK) == 1
    for name in Path(f"{tmp_path}.semaphores").read_text().split():
        Path(f"/dev/shm/sem.{name}").unlink(
            missing_ok=True
        )  # their tracker is killed too, before it does this or after


async def test_a_grandchild_that_holds_every_descriptor_delays_no_news(tmp_path: Path) -> None:
    """W15: it holds stderr, the result socket and the lifeline; the death of the worker is noticed all the same."""
    path = tmp_path / "pids"
    async with Engine(processes=1) as engine:
        task = engine.submit(does.fork_one_that_stays, str(path))
        worker, grandchild = await eventually_async(lambda: pids_in(path), STUCK)
        os.kill(worker, signal.SIGKILL)
        error = await failure(task)
        assert isinstance(error, WorkerCrashed)
        assert (error.pid, error.signal_name) == (worker, "SIGKILL")
        await eventually_async(lambda: are_gone([grandchild]), STUCK)


@pytest.mark.parametrize("how", ["setsid", "setpgid"])
async def test_what_leaves_the_session_or_the_group_escapes_and_holds_nothing_up(
    how: str, tmp_path: Path, doomed: list[int]
) -> None:
    """W15: as the README says. It still holds every descriptor of the worker, and nobody waits for it."""
    path = tmp_path / "pid"
    async with Engine(processes=1, grace=0.05) as engine:
        task = engine.options(timeout=0.2).submit(does.fork_one_that_escapes, str(path), how)
        doomed += await eventually_async(lambda: pids_in(path), STUCK)
        assert isinstance(await failure(task), TaskTimeout)
        worker = int((task.worker or "").partition("pid ")[2].rstrip(")"))
        await eventually_async(lambda: are_gone([worker]), STUCK)
        assert await asyncio.wait_for(engine.run(abs, -1), STUCK) == 1
    assert not are_gone(doomed)


# -- W17: the parent is killed ----------------------------------------------------------------------------------------

KILLED_PARENT = """
    import asyncio, sys, time
    from pathlib import Path
    from engine import Engine
    from tests.integration import time_functions as does

    async def main():
        here = Path(sys.argv[1])
        async with Engine(processes=4, name="busy") as busy, Engine(
            processes=1, initializer=does.mark_and_wait, initargs=(str(here / "starting"), str(here / "never"))
        ) as starting:
            busy.submit(does.loop_for_ever)
            busy.submit(does.hold_the_gil, str(here / "holds"))
            busy.submit(does.stop_ourselves, str(here / "stopped"))
            busy.submit(does.start_a_family, str(here / "family"), "fork")
            starting.submit(abs, -1)
            while len(list(here.iterdir())) < 4 or not does_all_speak(here):
                await asyncio.sleep(0.005)
            print(*[worker.pid for engine in (busy, starting) for worker in engine.snapshot().workers], flush=True)
            await asyncio.sleep(600)

    def does_all_speak(here):
        return all(path.read_text().endswith("\\n") for path in here.iterdir())

    asyncio.run(main())
"""


def test_everything_goes_with_a_killed_parent(tmp_path: Path) -> None:
    """W17: busy workers, one with the GIL held in C, one stopped, one starting, and grandchildren; no shared memory."""
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(KILLED_PARENT), str(tmp_path)], stdout=subprocess.PIPE, cwd=REPOSITORY
    ) as parent:
        assert parent.stdout is not None
        workers = [int(word) for word in parent.stdout.readline().split()]
        everybody = {*workers, *(pid for path in tmp_path.iterdir() for pid in pids_in(path))}
        assert len(workers) == 5
        assert len(everybody) == 5 + 6
        assert not are_gone(workers)
        assert "T" in {process_state(pid) for pid in workers}
        named = {name for pid in (parent.pid, *everybody) for name in shared_memory_of(pid)}
        parent.kill()
        began = time.monotonic()
    eventually(lambda: are_gone(list(everybody)), STUCK)
    print(f"gone after {time.monotonic() - began:.3f} s")
    assert not named, "nothing has a name in /dev/shm, so nothing can be left there"


def shared_memory_of(pid: int) -> set[str]:
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {line.split()[-1] for line in lines if "/dev/shm/" in line and "(deleted)" not in line}


# -- W20: pids --------------------------------------------------------------------------------------------------------


async def test_nothing_is_ever_signalled_by_pid(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """W20: kill, interrupt, retirement, reaping and stop go by lifeline and pidfd alone."""
    by_pid: list[Any] = []
    by_pidfd: list[Any] = []
    send = signal.pidfd_send_signal

    def record(*args: Any) -> None:
        by_pidfd.append(args)
        send(*args)

    monkeypatch.setattr(os, "kill", lambda *args: by_pid.append(args))
    monkeypatch.setattr(os, "killpg", lambda *args: by_pid.append(args))
    monkeypatch.setattr(signal, "pidfd_send_signal", record)
    async with Engine(processes=2, grace=0.05, max_tasks_per_worker=3) as engine:
        for fn in (does.swallow_everything, does.loop_for_ever):
            assert isinstance(await failure(engine.options(timeout=0.05).submit(fn)), TaskTimeout)
        for _ in range(8):
            await engine.run(abs, -1)
        task = engine.submit(does.mark_and_wait, str(tmp_path / "pid"), str(tmp_path / "gate"))
        await eventually_async(lambda: task.started_at, STUCK)
        task.cancel()
        await engine.restart_workers()
        stubborn = engine.submit(does.swallow_everything)
        await eventually_async(lambda: stubborn.started_at, STUCK)
        report = await engine.stop(timeout=0.1)
    assert report.killed >= 1
    assert by_pid == []
    assert by_pidfd


STRANGER = """
    import asyncio, json, os, signal, subprocess, sys, time
    from pathlib import Path
    from engine import Engine
    from tests.integration import time_functions as does

    async def main():
        async with Engine(processes=1, grace=0.05) as engine:
            await engine.warm_up()
            worker = engine.snapshot().workers[0].pid
            task = engine.submit(does.nap, 600.0)
            while task.started_at is None:
                await asyncio.sleep(0.001)
            # From here on our loop does not turn, so the engine cannot have noticed anything.
            os.kill(worker, signal.SIGKILL)
            os.waitpid(worker, 0)
            Path("/proc/sys/kernel/ns_last_pid").write_text(str(worker - 1))
            stranger = subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True)
            reused = stranger.pid == worker
            time.sleep(0.1)
            seen = engine.snapshot().workers[0]
            memory = engine._core.processes._pool.workers[0].memory()
            task.cancel()
            worker_of_ours = engine._core.processes._pool.workers[0]
            worker_of_ours.kill()
            await asyncio.sleep(0.2)
            worker_of_ours.kill()
            again = await engine.run(abs, -1)
            unharmed = stranger.poll() is None
            await engine.stop()
            unharmed = unharmed and stranger.poll() is None
            stranger.kill()
            stranger.wait()
            figures = [seen.rss_bytes, seen.cpu_seconds, memory]
            print(json.dumps([reused, unharmed, again, figures, task.state]))

    asyncio.run(main())
"""

#: A namespace of its own has pids of its own, so that one can be given out again on purpose.
NAMESPACE = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc")


def can_unshare() -> bool:
    if shutil.which("unshare") is None:
        return False
    check = [*NAMESPACE, "sh", "-c", "echo 300 > /proc/sys/kernel/ns_last_pid"]
    return subprocess.run(check, capture_output=True, check=False).returncode == 0


def test_a_stranger_that_got_the_pid_of_a_dead_worker_is_unharmed() -> None:
    """W20: reaped by other code, its pid reused before we noticed: no signal reaches the stranger, no figure is its.

    1. The worker dies. 2. Other code reaps it. 3. A stranger gets its pid and makes it its group's. 4. We kill,
    interrupt and describe the worker.
    """
    if not can_unshare():
        pytest.skip("no pid namespace to be had here")
    reused, unharmed, again, figures, state = run_script(STRANGER, prefix=NAMESPACE)
    assert reused, "the test could not have the pid reused"
    assert unharmed
    assert (again, figures) == (1, [None, None, None])
    assert state == "cancelled"


async def test_a_start_whose_child_is_reaped_at_once_takes_no_stranger_for_it(
    monkeypatch: pytest.MonkeyPatch, doomed: list[int]
) -> None:
    """W20: 1. The child ends. 2. Other code reaps it. 3. A stranger gets its pid. 4. We open a pidfd by that pid."""
    opened: list[int] = []
    pidfd_open = os.pidfd_open
    orphan = ["sh", "-c", "sleep 600 >/dev/null 2>&1 & echo $!"]  # a child of nobody here
    stranger = int(subprocess.run(orphan, capture_output=True, check=True, start_new_session=True).stdout)
    doomed.append(stranger)

    def open_strangers(pid: int, flags: int = 0) -> int:
        opened.append(pid)
        if len(opened) > 1:
            return pidfd_open(pid, flags)
        os.waitid(os.P_PID, pid, os.WEXITED)
        return pidfd_open(stranger, flags)

    async with Engine(processes=1) as engine:
        monkeypatch.setattr(os, "pidfd_open", open_strangers)
        monkeypatch.setattr(sys, "executable", shutil.which("true"))
        task = engine.submit(abs, -1)
        await eventually_async(lambda: opened, STUCK)
        monkeypatch.undo()
        assert await asyncio.wait_for(task, STUCK) == 1
    assert not are_gone([stranger])


@pytest.mark.parametrize("what", ["pidfd_open", "add_reader"])
async def test_a_start_that_fails_half_way_ends_its_child_by_pidfd(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """E26: it was killed by pid, after a look whether that is ours; other code may reap it in between.

    Without a descriptor for the pidfd the start has failed; its own sockets make room for one.
    """
    by_pid: list[Any] = []
    failed: list[Any] = []
    async with Engine(processes=1) as engine:
        loop = asyncio.get_running_loop()
        owner: Any = os if what == "pidfd_open" else loop
        work = getattr(owner, what)

        def fail_once(*args: Any) -> Any:
            if not failed:
                failed.append(args)
                raise OSError(errno.EMFILE, "Too many open files")
            return work(*args)

        monkeypatch.setattr(os, "kill", lambda *args: by_pid.append(args))
        monkeypatch.setattr(owner, what, fail_once)
        task = engine.submit(os.getpid)
        await eventually_async(lambda: failed, STUCK)
        assert await asyncio.wait_for(task, STUCK) == children()[0]
        assert len(children()) == 1
        assert by_pid == []
        assert engine.snapshot().start_failures == 1
        monkeypatch.undo()


async def test_a_pidfd_is_exchanged_under_the_lock_that_kills_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """W20: 1. A thread kills: it has read the number of the old pidfd. 2. At hello that one is closed. 3. Another
    worker's pidfd gets its number. 4. The signal goes to that worker. The lock keeps 2 out of 1 to 4."""
    locked: list[bool] = []
    adopt = child_module.Child.adopt_pidfd
    async with Engine(processes=1) as engine:

        def watch(child: child_module.Child, fd: int) -> None:
            (worker,) = [each for each in native_workers(engine) if each.child is child]
            is_owned: Any = worker._lock
            locked.append(is_owned._is_owned())
            adopt(child, fd)

        monkeypatch.setattr(child_module.Child, "adopt_pidfd", watch)
        await engine.warm_up()
    assert locked == [True]


# -- foreign reapers --------------------------------------------------------------------------------------------------

REAPED = """
    import asyncio, json, os, signal, sys, threading, time
    from engine import Engine
    from engine.errors import WorkerCrashed
    from tests.integration import time_functions as does

    def reap():
        while True:
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                time.sleep(0.001)

    if sys.argv[1] == "ignored":
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    else:
        threading.Thread(target=reap, daemon=True).start()

    async def main():
        found = []
        async with Engine(processes=2, max_tasks_per_worker=50) as engine:
            for how in (lambda: os._exit(0), lambda: os._exit(7), lambda: os.kill(os.getpid(), signal.SIGKILL)):
                for _ in range(3):
                    task = engine.submit(how)
                    await asyncio.wait([task], timeout=30)
                    error = task.exception()
                    assert isinstance(error, WorkerCrashed), task
                    found.append([error.exit_code, error.signal_name])
            values = await asyncio.gather(*(engine.submit(abs, -n) for n in range(300)))
            assert values == list(range(300))
            crashes = engine.snapshot().crashes
        print(json.dumps([crashes, found]))

    asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["ignored", "waitpid"])
def test_a_death_that_other_code_reaps_is_noticed_and_never_a_success(how: str) -> None:
    """W3, W20: SIGCHLD ignored, or a thread in ``waitpid(-1)``; the exit is named where the kernel remembers it."""
    crashes, found = run_script(REAPED, how)
    assert crashes == 9
    named = [[0, None]] * 3 + [[7, None]] * 3 + [[None, "SIGKILL"]] * 3
    unknown = [None, None]
    if remembers_exits():
        assert found == named
    else:
        assert all(got in (want, unknown) for got, want in zip(found, named, strict=True))


def remembers_exits() -> bool:
    """Say whether this kernel knows the exit of a process that was reaped (Linux 6.15)."""
    with subprocess.Popen(["true"]) as gone:
        pidfd = os.pidfd_open(gone.pid)
    try:
        return child_module._remembered_status(pidfd) == 0
    finally:
        os.close(pidfd)


def test_a_remembered_status_is_told_apart() -> None:
    """An exit code, a signal, a realtime signal; and nothing at all is nothing."""
    statuses = [0, 7 << 8, signal.SIGSEGV, signal.SIGSEGV | 0x80, signal.SIGRTMIN + 1, None]
    assert [child_module._exit_status(status) for status in statuses] == [
        (0, None), (7, None), (None, "SIGSEGV"), (None, "SIGSEGV"), (None, f"signal {signal.SIGRTMIN + 1}"),
        (None, None),
    ]  # fmt: skip


# -- W22: stopped processes -------------------------------------------------------------------------------------------


@pytest.fixture
def stopped(doomed: list[int]) -> Callable[[int], None]:
    """Give a function that stops a process, and lets it go on after the test if it is still there."""

    def stop(pid: int) -> None:
        doomed.append(pid)
        os.kill(pid, signal.SIGSTOP)
        eventually(lambda: process_state(pid) in "TZ", STUCK)

    return stop


async def test_a_stopped_worker_that_goes_on_too_late_changes_nothing(
    stopped: Callable[[int], None], tmp_path: Path
) -> None:
    """W22: stopped past its timeout, on again within its grace: one terminal state, the late result is counted."""
    path, gate = tmp_path / "pid", tmp_path / "gate"
    rounds: list[Task[Any]] = []
    async with Engine(processes=1, grace=STUCK) as engine:
        task = engine.options(timeout=0.3).submit(does.shrug_off_and_wait, str(path), str(gate))
        task.add_done_callback(rounds.append)
        (pid,) = await eventually_async(lambda: pids_in(path), STUCK)
        stopped(pid)
        assert isinstance(await failure(task), TaskTimeout)
        gate.touch()
        os.kill(pid, signal.SIGCONT)
        await eventually_async(lambda: engine.snapshot().late == 1, STUCK)
        assert await asyncio.wait_for(engine.run(abs, -1), STUCK) == 1
        assert (task.state, rounds) == (TaskState.FAILED, [task])


@pytest.mark.parametrize("how", ["timeout", "cancel", "total"])
async def test_a_stopped_worker_is_killed_after_the_grace(
    how: str, stopped: Callable[[int], None], tmp_path: Path
) -> None:
    """W22: asking it is in vain, SIGKILL is not."""
    path = tmp_path / "pid"
    given: dict[str, dict[str, Any]] = {"timeout": {"timeout": 0.3}, "total": {"total_timeout": 1.0}, "cancel": {}}
    async with Engine(processes=1, grace=0.1) as engine:
        await engine.warm_up()
        task = engine.options(**given[how]).submit(does.mark_and_wait, str(path), str(tmp_path / "never"))
        (pid,) = await eventually_async(lambda: pids_in(path), STUCK)
        stopped(pid)
        if how == "cancel":
            assert task.cancel()
        await settled(task)
        assert task.state is (TaskState.CANCELLED if how == "cancel" else TaskState.FAILED)
        await eventually_async(lambda: are_gone([pid]), STUCK)
        assert await asyncio.wait_for(engine.run(abs, -1), STUCK) == 1


async def test_a_stopped_worker_without_a_timeout_loses_nothing_and_says_so(
    stopped: Callable[[int], None], tmp_path: Path
) -> None:
    """W22: busy or idle, its task waits; ``snapshot`` and ``stacks`` name the state and the remedy."""
    path, gate = tmp_path / "pid", tmp_path / "gate"
    async with Engine(processes=1) as engine:
        task = engine.submit(does.mark_and_wait, str(path), str(gate))
        (pid,) = await eventually_async(lambda: pids_in(path), STUCK)
        stopped(pid)
        (worker,) = engine.snapshot().workers
        assert (worker.state, worker.task_id) == ("stopped", task.id)
        assert f"kill -CONT {pid}" in engine.stacks()[worker.name]
        gate.touch()
        os.kill(pid, signal.SIGCONT)
        assert await asyncio.wait_for(task, STUCK) == pid
        stopped(pid)
        late = engine.submit(os.getpid)
        recalled = engine.submit(os.getpid)
        assert engine.snapshot().workers[0].state == "stopped"
        assert (late.state, recalled.cancel()) == (TaskState.PENDING, True)
        os.kill(pid, signal.SIGCONT)
        assert await asyncio.wait_for(late, STUCK) == pid


async def test_a_stop_of_the_engine_ends_a_stopped_worker(stopped: Callable[[int], None]) -> None:
    """W22: idle and stopped: it is asked to leave, does not, and is killed."""
    async with Engine(processes=1, grace=0.1) as engine:
        pid = await engine.run(os.getpid)
        stopped(pid)
    assert are_gone([pid])


async def test_an_idle_worker_that_is_stopped_leaves_in_its_time(stopped: Callable[[int], None]) -> None:
    """W22: stopped for longer than the idle timeout: asked to leave, then killed; another takes what comes."""
    async with Engine(processes=1, worker_idle_timeout=0.2, grace=0.1) as engine:
        pid = await engine.run(os.getpid)
        stopped(pid)
        await eventually_async(lambda: are_gone([pid]), STUCK)
        assert await asyncio.wait_for(engine.run(abs, -1), STUCK) == 1


async def test_a_worker_that_is_stopped_in_the_middle_of_an_answer(stopped: Callable[[int], None]) -> None:
    """W22: half of it has arrived; nobody else waits for the rest, and it is whole in the end."""
    size = 64 << 20
    async with Engine(processes=2) as engine:
        await engine.warm_up()
        task = engine.submit(bytes, size)
        workers = native_workers(engine)
        async with asyncio.timeout(STUCK):
            while not any(worker.reader.is_in_a_frame for worker in workers):
                await asyncio.sleep(0)  # a look at every turn of the loop: each reads at most 4 MiB
        (worker,) = [worker for worker in workers if worker.reader.is_in_a_frame]
        stopped(worker.child.pid)
        assert await asyncio.wait_for(engine.run(abs, -1), STUCK) == 1
        assert not task.done()
        os.kill(worker.child.pid, signal.SIGCONT)
        assert len(await asyncio.wait_for(task, STUCK)) == size


STOPPED_TREE = """
    import asyncio, json, sys
    from pathlib import Path
    from engine import Engine
    from tests.integration import time_functions as does

    async def main():
        async with Engine(processes=2) as engine:
            await engine.warm_up()
            here = Path(sys.argv[1])
            view = engine.options(timeout=2.0)
            tasks = [view.submit(does.mark_and_wait, str(here / f"pid{n}"), str(here / "gate")) for n in range(2)]
            while not all(task.started_at for task in tasks):
                await asyncio.sleep(0.001)
            print("started", flush=True)
            await asyncio.wait(tasks)
            print(json.dumps([[task.state for task in tasks], engine.snapshot().timeouts]))

    if sys.argv[2] == "uvloop":
        import uvloop
        uvloop.run(main())
    else:
        asyncio.run(main())
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_results_that_wait_for_a_stopped_parent_win_over_the_deadline(
    loop: str, tmp_path: Path, doomed: list[int]
) -> None:
    """W22: parent stopped, the workers answer, all stopped past the deadline, all on again: nothing has timed out."""
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(STOPPED_TREE), str(tmp_path), loop],
        stdout=subprocess.PIPE, cwd=REPOSITORY, text=True,
    ) as parent:  # fmt: skip
        assert parent.stdout is not None
        assert parent.stdout.readline() == "started\n"
        deadline = time.monotonic() + 2.0
        workers = [eventually(lambda n=n: pids_in(tmp_path / f"pid{n}"), STUCK)[0] for n in range(2)]  # type: ignore[misc]  # a lambda's default
        tree = [parent.pid, *workers]
        doomed += tree
        os.kill(parent.pid, signal.SIGSTOP)
        eventually(lambda: process_state(parent.pid) == "T", STUCK)
        (tmp_path / "gate").touch()
        eventually(lambda: all(is_asleep_in_receive(pid) for pid in workers), STUCK)  # they have answered
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        if time.monotonic() > deadline:
            pytest.skip("the machine is too slow for this: the deadline came before the answer")
        time.sleep(deadline + 0.1 - time.monotonic())  # what is tested is that this instant passes
        for pid in tree:
            os.kill(pid, signal.SIGCONT)
        states, timeouts = json.loads(parent.stdout.readline())
    assert (states, timeouts) == (["completed", "completed"], 0)


def is_asleep_in_receive(pid: int) -> bool:
    """Say whether the main thread of a worker waits for its next task: system call 45 (recvfrom) on a socket."""
    text = Path(f"/proc/{pid}/wchan").read_text()
    return "recv" in text or "unix" in text or "skb" in text or Path(f"/proc/{pid}/syscall").read_text()[:3] == "45 "


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("kind", ["timeout", "total_timeout"])
def test_a_timer_that_is_called_before_the_reader_lets_the_result_win(loop: str, kind: str, tmp_path: Path) -> None:
    """W22, design/0003 interleaving 4, forced.

    1. The loop is blocked; two timers become due, one of ours and the deadline's. 2. It polls: nothing has arrived.
    3. Our timer runs; while it does, the worker answers. 4. The deadline's timer runs before the reader.
    """
    gate, path = tmp_path / "gate", tmp_path / "pid"

    async def main() -> tuple[TaskState, int]:
        async with Engine(processes=1) as engine:
            await engine.warm_up()
            limit: dict[str, Any] = {kind: 0.5}
            task = engine.options(**limit).submit(does.mark_and_wait, str(path), str(gate))
            began = asyncio.get_running_loop().time()
            await eventually_async(lambda: task.started_at, STUCK)
            (worker,) = native_workers(engine)
            stream = worker.child.stream

            def answer() -> None:
                gate.touch()
                eventually(lambda: _has_data(stream), STUCK)

            asyncio.get_running_loop().call_at(began + 0.4, answer)
            time.sleep(max(0.0, began + 1.0 - asyncio.get_running_loop().time()))  # both are due by now
            await settled(task)
            return task.state, engine.snapshot().timeouts

    if loop == "uvloop":
        assert pytest.importorskip("uvloop").run(main()) == (TaskState.COMPLETED, 0)
    else:
        assert asyncio.run(main()) == (TaskState.COMPLETED, 0)


def _has_data(sock: Any) -> bool:
    return bool(select.select([sock], [], [], 0)[0])


@pytest.mark.parametrize("kind", ["timeout", "total_timeout"])
async def test_a_result_that_has_arrived_and_is_being_rebuilt_wins_over_the_deadline(kind: str) -> None:
    """W22: rebuilding takes its time on the helper thread; the deadline passes meanwhile."""
    async with Engine(processes=1) as engine:
        await engine.warm_up()
        limit: dict[str, Any] = {kind: 0.5}
        assert await engine.options(**limit).run(does.make_slow_to_load) == 1.0
        assert engine.snapshot().timeouts == 0


# -- T1: the wall clock -----------------------------------------------------------------------------------------------


class Wall:
    """A wall clock that is set again and again; the monotonic one goes on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.offset = 0.0
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + self.offset)


HOUR, YEAR = 3600.0, 365.25 * 86400


@pytest.mark.parametrize("jump", [HOUR, -HOUR, 10 * YEAR, -10 * YEAR, -100 * YEAR])
@pytest.mark.parametrize("lane", ["loop", "thread", "process"])
async def test_a_jump_of_the_wall_clock_moves_no_deadline(
    lane: str, jump: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T1: no mass expiry, none immortal; created < started < completed; backoff and idle time as ever."""
    wall, release = Wall(monkeypatch), threading.Event()
    nap: Any = asyncio.sleep if lane == "loop" else does.nap
    hold: Any = release.wait if lane == "thread" else nap
    async with Engine(processes=1, threads=3, grace=0.05) as engine:
        view = engine.options(lane=lane)
        patient = [view.options(timeout=HOUR / 2, total_timeout=HOUR).submit(nap, 0.05) for _ in range(10)]
        await eventually_async(lambda: any(task.started_at for task in patient), STUCK)
        wall.offset = jump
        doomed = view.options(timeout=0.1).submit(hold, STUCK)
        retried = engine.options(lane="thread", retry=Retry(max_attempts=3, base_delay=0.02)).submit(int, "one")
        wall.offset = -jump
        await asyncio.wait_for(asyncio.gather(*patient), STUCK)
        assert isinstance(await failure(doomed), TaskTimeout)
        assert isinstance(await failure(retried), ValueError)
        wall.offset = 0.0
        after = view.submit(nap, 0.0)
        await settled(after)
        for task in (*patient, doomed, retried, after):
            stamps = task.created_at, task.started_at, task.completed_at
            assert None not in stamps
            assert stamps[0] < stamps[1] < stamps[2], stamps  # type: ignore[operator]  # none is None
            record = engine.get(task.id)
            assert record is not None
            assert (record.created_at, record.started_at, record.completed_at) == stamps
        assert retried.attempt == 3
        assert engine.snapshot().timeouts == 1
        release.set()


async def test_a_jump_of_the_wall_clock_sends_no_idle_worker_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """T1: an idle worker stays while the wall clock jumps, and leaves in its time however it stands."""
    wall = Wall(monkeypatch)
    async with Engine(processes=1, worker_idle_timeout=HOUR) as engine:
        pid = await engine.run(os.getpid)
        for wall.offset in (10 * YEAR, -10 * YEAR):
            assert await engine.run(os.getpid) == pid
    async with Engine(processes=1, worker_idle_timeout=0.1) as engine:
        pid = await engine.run(os.getpid)
        wall.offset = -20 * YEAR
        await eventually_async(lambda: are_gone([pid]), STUCK)
