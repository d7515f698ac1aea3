"""What the jobs of tests do, where worker processes find it too."""

import asyncio
import os
import signal
import threading
import time

from engine import checkpoint, current_task
from engine.jobs._current_job import CurrentJob, current_job, snooze

GATE = threading.Event()  #: that ``wait_in_thread`` waits for


def add(a: int, b: int) -> int:
    return a + b


async def add_async(a: int, b: int) -> int:
    return a + b


def who_am_i() -> list[object]:
    return _told(current_job())


async def who_am_i_async() -> list[object]:
    await asyncio.sleep(0)
    return _told(current_job())


def _told(job: CurrentJob | None) -> list[object]:
    assert job is not None
    return [job.id, job.token, job.attempt, job.name, job.queue, dict(job.args)]


def snooze_once(seconds: float) -> list[int]:
    job = current_job()
    assert job is not None
    if job.token == 1:
        snooze(seconds)
    return [job.attempt, job.token]


async def snooze_once_async(seconds: float) -> list[int]:
    return snooze_once(seconds)


def fail(text: str) -> None:
    raise ValueError(text)


async def fail_async(text: str) -> None:
    raise ValueError(text)


def not_json() -> object:
    return {1, 2}


async def not_json_async() -> object:
    return {1, 2}


async def cancel_itself() -> None:
    raise asyncio.CancelledError


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def wait_for_ever() -> None:
    await asyncio.Event().wait()


def spin_for_ever() -> None:
    while True:
        time.sleep(0.005)
        checkpoint()


def wait_in_thread() -> None:
    GATE.wait(30)


def report_and_wait(done: int) -> None:
    current_task().progress(done, 10, "on its way")
    spin_for_ever()


class Liar(Exception):
    """Raises where anybody asks what it is, or what it says."""

    @property  # type: ignore[misc]  # that is its lie
    def __class__(self) -> type:
        raise RuntimeError("no class")

    def __str__(self) -> str:
        raise RuntimeError("no text")


def raise_a_liar() -> None:
    raise Liar


async def raise_a_liar_async() -> None:
    raise Liar
