"""One Ctrl-C: the parent unwinds once, the workers ignore it, and nothing stays behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine import BlockingEngine, Engine, TaskState
from tests.support import eventually

STUCK = 30.0  #: seconds

ASYNC = """
import asyncio, os, sys, time
from pathlib import Path
from engine import Engine

def busy(path):
    Path(path).write_text(str(os.getpid()))
    while True:
        pass

async def main():
    async with Engine(processes=1, threads=1) as engine:
        engine.submit(busy, sys.argv[1])
        engine.options(lane="thread").submit(time.sleep, 0.01)
        await engine.submit(asyncio.sleep, 60)

asyncio.run(main())
"""

BLOCKING = """
import os, sys
from pathlib import Path
from engine import Engine

def busy(path):
    Path(path).write_text(str(os.getpid()))
    while True:
        pass

with Engine(processes=1) as engine:
    engine.run(busy, sys.argv[1])
"""


@pytest.mark.parametrize("program", [ASYNC, BLOCKING], ids=["async", "blocking"])
def test_one_ctrl_c_ends_the_program_with_one_traceback_and_no_process_left(program: str, tmp_path: Path) -> None:
    """Section 8: workers ignore SIGINT, the parent unwinds once. The whole group gets it, as from a terminal."""
    began = tmp_path / "began"
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(began)], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        eventually(lambda: began.exists() and began.read_text() != "", 30.0)
        worker = psutil.Process(int(began.read_text()))
        os.killpg(process.pid, signal.SIGINT)
        at = time.monotonic()
        _, stderr = process.communicate(timeout=30)
        assert time.monotonic() - at < 10  # the promise is 3 s on a quiet machine
        assert stderr.count("Traceback (most recent call last)") <= 2, stderr  # asyncio's KeyboardInterrupt has a cause
        assert stderr.rstrip().endswith("KeyboardInterrupt"), stderr
        assert "engine" not in stderr.rpartition("KeyboardInterrupt")[2]
        assert process.returncode in (-signal.SIGINT, 130, 1), process.returncode
        eventually(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, 10.0)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)


class Interrupting:
    """Is picked up by a Ctrl-C while it is pickled, as often as it is told."""

    times = 1

    def __reduce__(self) -> Any:
        if Interrupting.times:
            Interrupting.times -= 1
            signal.raise_signal(signal.SIGINT)
        return str, ("calm",)


def test_a_ctrl_c_while_submit_pickles_a_function_is_the_users() -> None:
    """N10: it is not taken for an error of the function, which is pickled again the next time."""
    treasure: Any = Interrupting()

    def closure() -> Any:
        return treasure

    with Engine(processes=1) as engine:
        with pytest.raises(KeyboardInterrupt):
            engine.submit(closure)
        assert engine.snapshot().count(TaskState.PENDING) == 0
        assert engine.run(closure) == "calm"


WAITS: dict[str, Callable[[BlockingEngine], object]] = {
    "map": lambda engine: list(engine.map(time.sleep, [STUCK] * 20)),
    "map in any order": lambda engine: list(engine.options(timeout=2 * STUCK).map(time.sleep, [STUCK], ordered=False)),
    "stop": lambda engine: (engine.submit(time.sleep, STUCK), engine.stop()),
}


@pytest.mark.parametrize("name", WAITS)
def test_a_ctrl_c_that_wakes_nobody_is_heard_all_the_same(name: str) -> None:
    """N10: it comes as the main thread goes to sleep, or to another thread: Python raises it when the main one runs."""
    with BlockingEngine(processes=1) as engine:

        def press() -> None:  # the signal is given to this thread, so that the main one sleeps on
            eventually(lambda: engine.snapshot().count(TaskState.RUNNING))
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)

        presser = threading.Thread(target=press)
        presser.start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            WAITS[name](engine)
        assert time.monotonic() - began < STUCK / 2
        engine.stop(timeout=0)
        presser.join(STUCK)
