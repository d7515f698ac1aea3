"""What ``jobs_crash`` enqueues: calm jobs, and poison of every kind. All its processes import this.

Each execution writes its lines into the ledger with the fence's token and the pid of the engine that runs it, as
``token:pid``: an engine that is killed takes its worker processes with it.
"""

import asyncio
import os
import signal
import time
from typing import Any

from engine import Retry
from engine.jobs import Jobs, current_job
from stress._ledger import BEGUN, DOOMED, ENDED, append

__all__ = ["CALM", "KINDS", "LEASE", "POISON", "jobs", "options_of"]

LEASE = 5.0  #: seconds; well above what a busy machine keeps a process waiting
TWICE = Retry(max_attempts=2, base_delay=0.01)

jobs = Jobs(os.environ.get("STRESS_JOBS_FILE", "jobs.db"), lease=LEASE)
_ledger = os.environ.get("STRESS_JOBS_LEDGER", "")


def _token(engine_pid: int) -> str:
    job = current_job()
    assert job is not None
    return f"{job.token}:{engine_pid}"


def _begin(number: int, engine_pid: int) -> str:
    token = _token(engine_pid)
    append(_ledger, number, token, BEGUN)
    return token


def _end(number: int, token: str) -> list[Any]:
    append(_ledger, number, token, ENDED)
    return [number, token]


@jobs.task(name="on the loop", retry=TWICE)
async def on_the_loop(number: int, seconds: float) -> list[Any]:
    token = _begin(number, os.getpid())
    await asyncio.sleep(seconds)
    return _end(number, token)


@jobs.task(name="in a thread", lane="thread", retry=TWICE)
def in_a_thread(number: int, seconds: float) -> list[Any]:
    token = _begin(number, os.getpid())
    time.sleep(seconds)
    return _end(number, token)


@jobs.task(name="in a process", lane="process", retry=TWICE)
def in_a_process(number: int, seconds: float) -> list[Any]:
    token = _begin(number, os.getppid())
    time.sleep(seconds)
    return _end(number, token)


@jobs.task(name="raises", retry=TWICE)
async def raises(number: int, seconds: float) -> None:
    _begin(number, os.getpid())
    raise ValueError("poison")


@jobs.task(name="raises once", retry=TWICE)
async def raises_once(number: int, seconds: float) -> list[Any]:
    token = _begin(number, os.getpid())
    job = current_job()
    assert job is not None
    if job.attempt == 1:
        raise ValueError("once")
    return _end(number, token)


@jobs.task(name="kills its worker", lane="process", max_crashes=2)
def kills_its_worker(number: int, seconds: float) -> None:
    append(_ledger, number, _begin(number, os.getppid()), DOOMED)
    os.kill(os.getpid(), signal.SIGKILL)


@jobs.task(name="kills its engine", lane="thread", max_crashes=2)
def kills_its_engine(number: int, seconds: float) -> None:
    append(_ledger, number, _begin(number, os.getpid()), DOOMED)
    os.kill(os.getpid(), signal.SIGKILL)


@jobs.task(name="returns no JSON", retry=TWICE)
async def returns_no_json(number: int, seconds: float) -> object:
    _end(number, _begin(number, os.getpid()))
    return object()


#: Name -> (the task, how often it is drawn, the states in which it may end).
CALM: dict[str, tuple[Any, int, frozenset[str]]] = {
    "on the loop": (on_the_loop, 80, frozenset({"completed"})),
    "in a thread": (in_a_thread, 12, frozenset({"completed"})),
    "in a process": (in_a_process, 6, frozenset({"completed"})),
    "raises once": (raises_once, 2, frozenset({"completed"})),
}
POISON: dict[str, tuple[Any, int, frozenset[str]]] = {
    "raises": (raises, 60, frozenset({"failed"})),
    "returns no JSON": (returns_no_json, 30, frozenset({"failed"})),
    "kills its worker": (kills_its_worker, 9, frozenset({"failed"})),
    "kills its engine": (kills_its_engine, 1, frozenset({"failed"})),
}
KINDS = CALM | POISON


def options_of(number: int, kind: str) -> dict[str, Any]:
    """Return the options of job ``number``: every hundredth calm one has a lock, every fiftieth another follows."""
    given: dict[str, Any] = {"priority": (number * 7919) % 3 - 1}
    if kind in CALM and number % 100 == 0:
        given["lock"] = f"lock {number // 100 % 5}"
    if kind in CALM and number % 50 == 1:
        given["then"] = on_the_loop.call(number=-number, seconds=0.0)
    return given
