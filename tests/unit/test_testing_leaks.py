"""``assert_no_leaks``: what is left is named, what was there or goes in time is not. More in test_leaks_fixture.py."""

import asyncio
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine import Engine
from engine.testing import assert_no_leaks, eventually
from engine.testing.leaks import Leftovers

SHORT = 0.05
SHARED = Path("/dev/shm")


@pytest.fixture
def undo() -> Iterator[list[Callable[[], object]]]:
    """Give a list of what is to be called after the test, so that nothing is left of what it leaks."""
    steps: list[Callable[[], object]] = []
    yield steps
    for step in reversed(steps):
        step()


def leak_a_thread(undo: list[Callable[[], object]]) -> None:
    go = threading.Event()
    thread = threading.Thread(target=go.wait, name="forgotten")
    undo += [thread.join, go.set]
    thread.start()


def leak_a_process(undo: list[Callable[[], object]]) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    undo.append(process.communicate)


def leak_a_zombie(undo: list[Callable[[], object]]) -> None:
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 0"], {})
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    undo.append(lambda: os.waitpid(pid, 0))


def leak_a_descriptor(undo: list[Callable[[], object]]) -> None:
    descriptor = os.open("/dev/null", os.O_RDONLY)
    undo.append(lambda: os.close(descriptor))


def leak_a_segment(undo: list[Callable[[], object]]) -> None:
    path = SHARED / f"engine-test-{uuid.uuid4().hex}"
    path.touch()
    undo.append(path.unlink)


@pytest.mark.parametrize(
    ("leak", "named"),
    [
        (leak_a_thread, r"thread <Thread\(forgotten"),
        (leak_a_process, r"process \d+ .* -c input\(\)"),
        (leak_a_zombie, r"process \d+ \(zombie"),
        (leak_a_descriptor, r"file descriptor \d+ -> /dev/null"),
        (leak_a_segment, r"shared memory /dev/shm/engine-test-"),
    ],
)
def test_what_is_left_is_named(
    undo: list[Callable[[], object]], leak: Callable[[list[Callable[[], object]]], None], named: str
) -> None:
    with (
        pytest.raises(AssertionError, match=f"(?s)expected nothing to be left behind, got:\n.*{named}"),
        assert_no_leaks(SHORT),
    ):
        leak(undo)


def test_what_was_there_and_what_goes_in_time_is_none(undo: list[Callable[[], object]]) -> None:
    leak_a_thread(undo)
    leak_a_segment(undo)
    with assert_no_leaks():
        threading.Timer(0.05, int).start()
        with Engine(processes=1) as engine:
            assert engine.run(abs, -1) == 1


def test_an_error_of_the_block_says_more(undo: list[Callable[[], object]]) -> None:

    def block() -> None:
        with assert_no_leaks(SHORT):
            leak_a_thread(undo)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        block()


def test_a_segment_that_a_strange_process_has_mapped_is_its_own(undo: list[Callable[[], object]]) -> None:
    """It is no child of ours: a process in between has ended."""
    leftovers = Leftovers()
    path = SHARED / f"engine-test-{uuid.uuid4().hex}"
    code = (
        "import mmap, os, sys\n"
        "file = open(sys.argv[1], 'w+b'); file.truncate(4096); memory = mmap.mmap(file.fileno(), 4096)\n"
        "if os.fork(): os._exit(0)\n"
        "while os.path.exists(sys.argv[1]): __import__('time').sleep(0.01)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=60)
    undo.append(path.unlink)
    assert path.exists()
    assert leftovers.names(SHORT) == []


async def test_asyncio_tasks_are_seen_and_may_end_in_time() -> None:
    async with assert_no_leaks():
        asyncio.create_task(asyncio.sleep(0.02))  # noqa: RUF006  # it is forgotten on purpose
    kept: list[asyncio.Task[None]] = []
    with pytest.raises(AssertionError, match="asyncio task <Task pending name='forgotten'"):
        async with assert_no_leaks(SHORT):
            kept.append(asyncio.create_task(asyncio.sleep(60), name="forgotten"))
    with pytest.raises(AssertionError, match="name='another'"), assert_no_leaks(SHORT):
        kept.append(asyncio.create_task(asyncio.sleep(60), name="another"))
    for task in kept:
        task.cancel()
    await asyncio.gather(*kept, return_exceptions=True)


def test_eventually_is_public() -> None:
    answers = iter([0, 0, 7])
    assert eventually(lambda: next(answers)) == 7


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="no folder of shared memory here")
def test_a_semaphore_that_loky_has_named_after_a_stranger_is_not_ours() -> None:
    """It is left by a program that was killed while ours ran; one that has our pid in its name is ours."""
    stranger, ours = (Path(f"/dev/shm/sem.loky-{pid}-{uuid.uuid4().hex}") for pid in (1, os.getpid()))
    try:
        with assert_no_leaks(patience=0.0):
            stranger.touch()
        with pytest.raises(AssertionError, match=ours.name), assert_no_leaks(patience=0.0):
            ours.touch()
    finally:
        stranger.unlink(missing_ok=True)
        ours.unlink(missing_ok=True)
