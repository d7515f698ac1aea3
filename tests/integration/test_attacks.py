"""What attackers of the engine found, each held by a test that names its row in ``tests/SCENARIOS.md``."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, TaskState, TaskTimeout
from engine._lanes import threads
from engine._lanes.base import Attempt, Front, Outcome
from tests.integration import attackers
from tests.support import REPOSITORY, eventually_async

STUCK = 30.0


@pytest.mark.parametrize("name", attackers.FIGHTERS)
@pytest.mark.parametrize("lane", ["loop", "thread", "process"])
async def test_an_exception_that_fights_fails_its_own_task_and_nobody_notices(lane: str, name: str) -> None:
    """E4: they ended the engine, a pool thread or a decoder thread, and hung tasks that had nothing to do with it."""
    async with Engine(processes=1, threads=1) as engine:
        laned = engine if lane == "loop" else engine.options(lane=lane)
        fn = attackers.araise_fighter if lane == "loop" else attackers.raise_fighter
        task = laned.submit(fn, name)
        await eventually_async(task.done, STUCK)
        assert task.state is TaskState.FAILED
        with pytest.raises(BaseException) as caught:  # noqa: PT011  # whichever it is, it is no SystemExit
            await task
        assert issubclass(type(caught.value), Exception)
        innocent = [engine.options(lane=each).submit(abs, -7) for each in ("thread", "process")]
        innocent.append(engine.submit(asyncio.sleep, 0, 7))
        assert await asyncio.wait_for(asyncio.gather(*innocent), STUCK) == [7, 7, 7]


async def test_an_exception_that_is_thrown_into_a_pool_thread_costs_its_task_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """E5: as stopit and func_timeout throw them; one that came a moment late took thread, task and slot with it.

    1. The function returns. 2. The exception strikes. 3. The outcome would have been reported.
    """
    late = [KeyError("late"), KeyError("late")]

    call = threads._call

    def strike(front: Front, attempt: Attempt) -> tuple[Any, Outcome | None]:
        outcome = call(front, attempt)
        if late:
            raise late.pop()
        return outcome

    async with Engine(threads=2, default_lane="thread") as engine:
        monkeypatch.setattr(threads, "_call", strike)
        for _ in range(2):
            with pytest.raises(KeyError, match="late"):
                await asyncio.wait_for(engine.submit(abs, -1), STUCK)
        both = threading.Barrier(2)
        await asyncio.wait_for(asyncio.gather(*[engine.submit(both.wait, STUCK) for _ in range(2)]), STUCK)
        assert len(engine.snapshot().workers) == 2


SIGPIPE = """
    import asyncio, os, signal
    from engine import Engine
    from engine.errors import WorkerCrashed
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)

    async def main():
        async with Engine(processes=1) as engine:
            pid = await engine.run(os.getpid)
            os.kill(pid, signal.SIGSTOP)
            task = engine.submit(len, bytes(64 << 20))
            await asyncio.sleep(0.2)  # what its socket takes has been written
            os.kill(pid, signal.SIGKILL)
            try:
                print(await task)
            except WorkerCrashed:
                print("crashed")
            print(await engine.run(abs, -1))

    asyncio.run(main())
"""


def test_a_worker_that_dies_ends_no_program_that_wants_to_die_of_sigpipe() -> None:
    """E6: SIGPIPE at its default is a habit of command lines; the death of a worker ended such a program in silence."""
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SIGPIPE)], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    assert (run.returncode, run.stdout.split()[-1], run.stderr) == (0, "1", "")


SHADOWED = """
    import sys
    sys.path[:] = [each for each in sys.path if each]
    sys.path.append({repository!r})
    from engine import Engine

    if __name__ == "__main__":
        with Engine(processes=1) as engine:
            print(engine.run(abs, -1))
"""


def test_files_of_the_current_directory_are_no_modules_of_a_worker(tmp_path: Path) -> None:
    """E7: the parent does not look there, so a worker must not: it ran whatever was called typing.py or struct.py."""
    (tmp_path / "program.py").write_text(textwrap.dedent(SHADOWED).format(repository=str(REPOSITORY)))
    where = tmp_path / "elsewhere"
    where.mkdir()
    for name in ("typing", "select", "logging", "struct", "array", "pickle"):
        (where / f"{name}.py").write_text("raise SystemExit('a file of the current directory was run')\n")
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    run = subprocess.run(
        [sys.executable, str(tmp_path / "program.py")], cwd=where, env=env, capture_output=True, text=True, timeout=60
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "1\n", "")


async def test_a_signal_mask_of_the_parent_does_not_keep_tasks_from_being_asked_to_stop(tmp_path: Path) -> None:
    """E8: with SIGURG blocked, as by a program that waits for signals, no ``finally`` ran: workers were just killed."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGURG, signal.SIGTERM})
    try:
        async with Engine(processes=1) as engine:
            with pytest.raises(TaskTimeout):
                await engine.options(timeout=0.3, grace=10).run(attackers.is_finally_run, str(tmp_path / "left"))
            await eventually_async((tmp_path / "left").exists, STUCK)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
