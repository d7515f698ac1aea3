"""Ctrl-C in a program that waits for a job: what it says on its way out."""

import subprocess
import sys
from pathlib import Path

import pytest

#: A thread sends the signal once the main thread waits.
PROGRAM = r"""
import asyncio, os, signal, sys, threading
from engine.jobs import Jobs

def interrupt(place, name, poke=int):
    while (code := sys._current_frames()[threading.main_thread().ident].f_code).co_name != name \
            or not code.co_filename.endswith(place):
        pass
    os.kill(os.getpid(), signal.SIGINT)
    poke()

async def wait(job):
    loop = asyncio.get_running_loop()
    wake = lambda: loop.call_soon_threadsafe(int)  # a signal right before the loop goes to sleep does not wake it
    threading.Thread(target=interrupt, args=("selectors.py", "select", wake)).start()
    await job.wait()

with Jobs(sys.argv[1]) as jobs:
    job = jobs.task(name="send")(lambda: None).enqueue().result()
    if sys.argv[2] == "thread":
        threading.Thread(target=interrupt, args=("_latch.py", "wait")).start()
        job.wait().result()
    else:
        asyncio.run(wait(job))
"""


@pytest.mark.parametrize("where", ["thread", "loop"])
def test_a_ctrl_c_in_a_wait_for_a_job_says_nothing_but_that(tmp_path: Path, where: str) -> None:
    """E202: the wait has failed by the end of the store, and nobody is to hear of it."""
    program = [sys.executable, "-c", PROGRAM, str(tmp_path / "jobs.db"), where]
    done = subprocess.run(program, capture_output=True, text=True, timeout=30, check=False)
    assert done.stderr.rstrip().endswith("KeyboardInterrupt"), done.stderr
    assert "nobody asked" not in done.stderr
