"""Programs that are run in a process of their own, and what is left of them."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.support import REPOSITORY, eventually

__all__ = ["PREAMBLE", "Ended", "environment", "orphans", "run_program", "run_programs"]

AT_ONCE = 6  #: programs that run at the same time: most of their time they wait
STUCK = 30.0  #: seconds; a program that takes longer hangs

PREAMBLE = """
import asyncio, atexit, gc, logging, os, signal, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from engine import BlockingEngine, Engine, EngineClosed, EngineForked, TaskState

logging.getLogger("asyncio").setLevel(logging.ERROR)  # -X dev: "Executing ... took 0.1 seconds", on a busy machine

def spin():
    while True:
        pass

def never(*args):
    threading.Event().wait()

async def wait_for_ever():
    await asyncio.sleep(1000)

def wait_until_running(*tasks):
    while not all(task.state is TaskState.RUNNING for task in tasks):
        time.sleep(0.001)

def threads_gone():
    end = time.monotonic() + 20
    while threading.active_count() > 1 and time.monotonic() < end:
        time.sleep(0.005)
    return threading.active_count() == 1
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended."""

    code: int
    stdout: str
    stderr: str
    seconds: float


def environment(mark: str) -> dict[str, str]:
    """Give the environment for a program whose processes are to be found again by ``mark``."""
    paths = [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "ENGINE_TEST_MARK": mark}


def orphans(mark: str) -> list[int]:
    """Return the live processes that carry ``mark``: the workers do, and whatever they started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if f"ENGINE_TEST_MARK={mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:  # it ended meanwhile, or is another user's
                pass
    return found


def run_program(text: str, *, flags: tuple[str, ...] = ("-X", "dev", "-W", "error")) -> Ended:
    """Run ``text`` after the preamble; assert that it ends, and that no process of it is left."""
    mark = f"{os.getpid()}-{time.monotonic_ns()}"
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, *flags, "-c", PREAMBLE + text], env=environment(mark), capture_output=True, text=True,
        timeout=3 * STUCK, check=False, start_new_session=True,
    )  # fmt: skip
    seconds = time.monotonic() - began
    eventually(lambda: not orphans(mark), 10.0, "every process of the program is gone")
    return Ended(done.returncode, done.stdout, done.stderr, seconds)


def run_programs(texts: dict[str, str], *, flags: tuple[str, ...] = ("-X", "dev", "-W", "error")) -> dict[str, Ended]:
    """Do as ``run_program`` for several of them at once, by name."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        running = {name: pool.submit(run_program, text, flags=flags) for name, text in texts.items()}
        return {name: future.result() for name, future in running.items()}
