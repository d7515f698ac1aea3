"""A home loop that user code blocks: the watchdog says so, with the stack of the culprit (SCENARIOS A13)."""

import asyncio
import gc
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from engine import BlockingEngine, Engine, _watchdog
from tests.support import REPOSITORY, eventually_async

LOGGER = "engine.watchdog"


def blocks_the_loop(told: threading.Event) -> None:
    """Hold the loop until the watchdog has spoken (with a bound, should it never)."""
    told.wait(30)
    time.sleep(0.01)


def watchdogs() -> int:
    return sum(thread.name == "engine-watchdog" for thread in threading.enumerate())


class Ear(logging.Handler):
    """Sets an event at the first record."""

    def __init__(self) -> None:
        super().__init__()
        self.told = threading.Event()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())
        self.told.set()


@pytest.fixture
def ear() -> Iterator[Ear]:
    handler = Ear()
    logging.getLogger(LOGGER).addHandler(handler)
    yield handler
    logging.getLogger(LOGGER).removeHandler(handler)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take less for a loop that is blocked: this one is until the watchdog has spoken."""
    monkeypatch.setattr(_watchdog, "BLOCKED_AFTER", 0.25)
    monkeypatch.setattr(_watchdog, "LOOK_EVERY", 0.05)


async def test_a_blocked_loop_is_named_with_the_stack_of_the_culprit(ear: Ear) -> None:
    """A13: the log names the function, while threads go on; afterwards it says that the loop turns again."""
    ran = threading.Event()
    async with Engine(threads=2, processes=1, default_lane="thread", name="mine") as engine:
        engine.submit(ear.told.wait, 30)  # live work, so that a blocked loop matters
        engine.submit(ran.set)
        blocks_the_loop(ear.told)
        assert ran.is_set()  # a thread task ran meanwhile
        await eventually_async(lambda: len(ear.texts) >= 2)
        snapshot = engine.snapshot()
    first, *_, last = ear.texts
    assert "'mine'" in first
    assert "blocks_the_loop" in first
    assert "by asyncio task" in first
    assert "lane='thread'" in first
    assert "turns again" in last
    assert snapshot.stalls == 1
    assert snapshot.longest_stall >= _watchdog.BLOCKED_AFTER


@pytest.mark.usefixtures("soon")
def test_a_loop_that_c_code_held_with_the_gil_is_named_afterwards(ear: Ear) -> None:
    """A13: while it lasts nobody can speak, and afterwards the stack is gone; the length is not."""

    def is_named() -> bool:
        return any("held the GIL" in text for text in ear.texts)

    async def burn() -> None:
        """Compute in one call of C, twice as long each time up to a second, until the watchdog has come to see it."""
        size = 20
        for _ in range(60):
            began = time.monotonic()
            re.match(r"(x+x+)+y", "x" * size)
            size += time.monotonic() - began < 4 * _watchdog.BLOCKED_AFTER
            await asyncio.sleep(2 * _watchdog.LOOK_EVERY)  # on a busy machine the watchdog may need longer
            if is_named():
                break

    with BlockingEngine(threads=1, default_lane="thread") as engine:
        engine.submit(burn).result(120)
        assert engine.snapshot().longest_stall > _watchdog.BLOCKED_AFTER
    assert is_named(), ear.texts


async def test_an_idle_engine_and_a_loop_that_turns_are_left_alone(ear: Ear) -> None:
    async with Engine(threads=1, default_lane="thread") as engine:
        time.sleep(_watchdog.BLOCKED_AFTER + 3 * _watchdog.LOOK_EVERY)  # nothing is live: nobody is kept waiting
        task = engine.submit(time.sleep, _watchdog.BLOCKED_AFTER + 3 * _watchdog.LOOK_EVERY)
        await task
        assert engine.snapshot().stalls == 0
    assert not ear.texts


STOPPED = """
import asyncio, logging, sys, time
from engine import Engine

logging.basicConfig(stream=sys.stdout)

async def main():
    async with Engine(threads=1, default_lane="thread") as engine:
        task = engine.submit(sys.stdin.readline)
        print("ready", flush=True)
        await task
        print("stalls", engine.snapshot().stalls, flush=True)

asyncio.run(main())
"""


def test_a_process_that_was_stopped_is_not_blamed() -> None:
    """A13: SIGSTOP, or a lid that was shut, is no blocked loop."""
    program = subprocess.Popen(
        [sys.executable, "-c", STOPPED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    )
    try:
        assert program.stdin is not None
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        time.sleep(3 * _watchdog.LOOK_EVERY)  # some answers are given, the next is owed
        os.kill(program.pid, signal.SIGSTOP)
        time.sleep(2 * _watchdog.BLOCKED_AFTER)
        os.kill(program.pid, signal.SIGCONT)
        time.sleep(3 * _watchdog.LOOK_EVERY)
        out, _ = program.communicate("go\n", timeout=30)
        assert out == "stalls 0\n"
    finally:
        program.kill()
        program.wait()


async def test_one_thread_watches_all_engines_and_ends_with_the_last() -> None:
    async with Engine(name="a") as first:
        async with Engine(name="b"):
            assert watchdogs() == 1
        assert watchdogs() == 1
        assert first.snapshot().phase == "running"
    await eventually_async(lambda: watchdogs() == 0)
    async with Engine(name="c"):
        assert watchdogs() == 1


async def test_a_watch_that_is_dropped_ends_the_thread_too() -> None:
    watch = _watchdog.watch(asyncio.get_running_loop(), "dropped", lambda: True)
    assert watchdogs() == 1
    del watch
    gc.collect()
    await eventually_async(lambda: watchdogs() == 0)


@pytest.mark.usefixtures("soon")
async def test_a_log_handler_that_raises_does_not_end_the_watch(ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def broken(self: Ear, record: logging.LogRecord) -> None:
        calls.append(record.getMessage())
        if len(calls) == 1:
            raise RuntimeError("on purpose")
        self.told.set()

    monkeypatch.setattr(Ear, "emit", broken)
    async with Engine(threads=1, default_lane="thread") as engine:
        engine.submit(ear.told.wait, 30)
        blocks_the_loop(ear.told)
    assert len(calls) >= 2
