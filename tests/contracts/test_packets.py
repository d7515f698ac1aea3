"""Several tasks in one packet: what the worker has received and not begun can still be taken back, exactly.

Each test fills a packet by having a first task answered while others wait; ``is_received`` proves that nothing of it
is left in the socket, so it is the start page that decides and not the kernel.
"""

import asyncio
import functools
import itertools
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from engine._lanes._process import native
from engine._lanes._process.native import NativeWorker
from engine._lanes.base import Attempt
from engine._lanes.processes import ProcessLane
from engine._wire.frames import INLINE_BYTES, RESULT
from engine.errors import WorkerCrashed
from tests.contracts.process_front import FakeFront, lane_of, started
from tests.contracts.process_tasks import append_line, identity, pass_gate, touch_and_wait
from tests.sent_ahead import send_ahead
from tests.support import eventually

AHEAD = 6


def is_received(worker: NativeWorker) -> bool:
    """Say whether the worker has taken all packets out of the socket."""
    try:
        worker.child.kept.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK)
    except BlockingIOError:
        return True
    return False


@pytest.fixture
def packets(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Give how long each packet was."""
    sizes: list[int] = []
    put = NativeWorker._put

    def noted(worker: NativeWorker, packet: bytes) -> bool:
        sizes.append(len(packet))
        return put(worker, packet)

    monkeypatch.setattr(NativeWorker, "_put", noted)
    return sizes


async def opened(front: FakeFront, lane: ProcessLane, folder: Path) -> Attempt:
    """Return a task that runs, and behind which nothing is sent yet."""
    opener = front.submit(touch_and_wait, str(folder / "opener"), 0.2)
    await started(lane, opener)
    return opener


async def fill(lane: ProcessLane, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the worker sent ``AHEAD`` of what waits now, once its task is over."""
    woken = asyncio.Event()
    lane._home.post(woken.set)  # behind what the submits have posted
    await woken.wait()
    send_ahead(monkeypatch, AHEAD)


async def a_packet(
    front: FakeFront, lane: ProcessLane, folder: Path, monkeypatch: pytest.MonkeyPatch, *, size: int = 0
) -> tuple[Attempt, list[Attempt], NativeWorker]:
    """Return a task that runs, those that its worker has received with it, and the worker."""
    opener = await opened(front, lane, folder)
    first = front.submit(touch_and_wait, str(folder / "first"), 60.0)
    if size:
        rest = [front.submit(identity, bytes([n]) * size) for n in range(AHEAD - 1)]
    else:
        rest = [front.submit(append_line, str(folder / "runs"), n) for n in range(AHEAD - 1)]
    await fill(lane, monkeypatch)
    await front.outcome(opener)
    await started(lane, first)
    worker = lane._pool.workers[0]
    assert isinstance(worker, NativeWorker)
    assert worker.count() == AHEAD
    assert is_received(worker)
    return first, rest, worker


def ran(folder: Path) -> list[int]:
    path = folder / "runs"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


async def test_what_a_worker_has_received_is_recalled_and_never_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with lane_of() as (front, lane):
        await lane.warm_up()
        first, rest, _ = await a_packet(front, lane, tmp_path, monkeypatch)
        assert not lane.recall(first)
        assert await asyncio.to_thread(lane.recall, rest[2])
        assert not lane.recall(rest[2])
        lane.interrupt(first)
        for attempt in [*rest[:2], *rest[3:]]:
            assert (await front.outcome(attempt)).error is None
        assert ran(tmp_path) == [0, 1, 3, 4]
        assert rest[2].task_id not in front.outcomes


async def test_a_task_with_others_behind_it_is_interrupted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """They were taken back, and it was not asked to stop: it ran on, though its handle said that it was cancelled."""
    async with lane_of() as (front, lane):
        await lane.warm_up()
        first, rest, _ = await a_packet(front, lane, tmp_path, monkeypatch)
        lane.interrupt(first)
        assert (await front.outcome(first)).cancelled
        for attempt in rest:
            assert (await front.outcome(attempt)).error is None
        assert ran(tmp_path) == [0, 1, 2, 3, 4]


async def test_what_is_taken_back_from_a_stopped_worker_runs_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A worker that is stopped cannot be asked, and need not be."""
    async with lane_of() as (front, lane):
        await lane.warm_up()
        first, rest, worker = await a_packet(front, lane, tmp_path, monkeypatch)
        os.kill(worker.child.pid, signal.SIGSTOP)
        assert lane.recall(rest[4])
        os.kill(worker.child.pid, signal.SIGCONT)
        lane.interrupt(first)
        for attempt in rest[:4]:
            assert (await front.outcome(attempt)).error is None
        assert ran(tmp_path) == [0, 1, 2, 3]


async def test_a_death_in_the_middle_of_a_packet_is_charged_to_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with lane_of() as (front, lane):
        await lane.warm_up()
        first, rest, worker = await a_packet(front, lane, tmp_path, monkeypatch)
        os.kill(worker.child.pid, signal.SIGKILL)
        assert isinstance((await front.outcome(first)).error, WorkerCrashed)
        for attempt in rest:
            assert (await front.outcome(attempt)).error is None
        assert ran(tmp_path) == [0, 1, 2, 3, 4]


async def test_the_worker_goes_on_behind_what_was_taken_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It skips them, says so, and runs what it is sent later under higher numbers: the process is the same."""
    async with lane_of() as (front, lane):
        await lane.warm_up()
        opener = await opened(front, lane, tmp_path)
        first = front.submit(touch_and_wait, str(tmp_path / "first"), 0.2)
        rest = [front.submit(append_line, str(tmp_path / "runs"), n) for n in range(AHEAD - 1)]
        await fill(lane, monkeypatch)
        await front.outcome(opener)
        await started(lane, first)
        pid = lane.workers()[0].pid
        assert lane.recall(rest[1])
        assert lane.recall(rest[2]) or rest[2].lane_data is None
        for attempt in [first, rest[0], *rest[3:]]:
            assert (await front.outcome(attempt)).error is None
        assert ran(tmp_path) == [0, 3, 4]
        assert lane.workers()[0].pid == pid
        assert lane.counters.malformed == 0


async def test_big_arguments_in_a_packet_find_their_tasks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with lane_of() as (front, lane):
        await lane.warm_up()
        first, rest, _ = await a_packet(front, lane, tmp_path, monkeypatch, size=300_000)
        assert lane.recall(rest[1])
        lane.interrupt(first)
        for n in (0, 2, 3, 4):
            assert (await front.outcome(rest[n])).value == bytes([n]) * 300_000


async def test_a_packet_ends_where_the_socket_might_not_take_it(
    monkeypatch: pytest.MonkeyPatch, packets: list[int], tmp_path: Path
) -> None:
    async with lane_of() as (front, lane):
        await lane.warm_up()
        opener = await opened(front, lane, tmp_path)
        rest = [front.submit(identity, bytes([n]) * 25_000) for n in range(12)]
        await fill(lane, monkeypatch)
        for n, attempt in enumerate(rest):
            assert (await front.outcome(attempt)).value == bytes([n]) * 25_000
        assert (await front.outcome(opener)).error is None
        assert 50_000 < max(packets) <= INLINE_BYTES + 1000


class Drained:
    """Our end of a worker's task socket, with something done right after the first packet was taken out of it."""

    def __init__(self, sock: Any, then: Callable[[], None]) -> None:
        self._sock = sock
        self._then = then
        self._count = 0

    def recv_into(self, *args: Any) -> Any:
        size = self._sock.recv_into(*args)
        self._count += 1
        if self._count == 1:
            self._then()
        return size

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


async def test_a_packet_that_the_worker_gets_behind_one_that_was_taken_out_hides_none_of_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """E45: 1. We take out a packet. 2. The worker receives the next one, and begins its tasks. 3. We ask what has.

    What was taken out had lower numbers, so it counted as begun: it was never run, and charged with a crash.
    """
    monkeypatch.setattr(native, "TASKS_IN_A_PACKET", 2)
    gate = tmp_path / "gate"
    async with lane_of() as (front, lane):
        await lane.warm_up()
        opener = await opened(front, lane, tmp_path)
        first = front.submit(pass_gate, str(gate))
        rest = [front.submit(append_line, str(tmp_path / "runs"), n) for n in range(AHEAD - 1)]
        await fill(lane, monkeypatch)
        await front.outcome(opener)
        await started(lane, first)
        worker = lane._pool.workers[0]
        assert isinstance(worker, NativeWorker)

        def let_it_go_on() -> None:
            gate.touch()
            four = 4 * RESULT.size  # for what shared the first packet, and for the third one
            eventually(lambda: len(worker.child.stream.recv(1 << 12, socket.MSG_PEEK)) >= four, 20)

        worker.child.kept = Drained(worker.child.kept, let_it_go_on)  # type: ignore[assignment]  # as much as is used
        lane._give_back_rest(worker)
        for attempt in [first, *rest]:
            assert (await front.outcome(attempt)).error is None
        assert sorted(ran(tmp_path)) == [0, 1, 2, 3, 4]
        assert (lane.counters.crashes, lane.counters.malformed) == (0, 0)


async def test_what_two_take_back_at_once_is_recalled_by_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """E47: 1. A thread looks where the task is. 2. The loop takes back what has not begun. 3. The thread recalls it.

    It was told that the task had begun, so a task that was cancelled and never ran had a start and an attempt.
    """
    async with lane_of() as (front, lane):
        await lane.warm_up()
        first, rest, worker = await a_packet(front, lane, tmp_path, monkeypatch)
        recall, taken = worker.recall, list[Attempt]()

        def recall_late(number: int) -> tuple[bool, list[Attempt]]:
            taken.extend(worker.recall_all())
            return recall(number)

        monkeypatch.setattr(worker, "recall", recall_late)
        assert lane.recall(rest[2])
        monkeypatch.undo()
        lane._give_back(worker, taken)
        lane.interrupt(first)
        for attempt in [*rest[:2], *rest[3:]]:
            assert (await front.outcome(attempt)).error is None
        assert ran(tmp_path) == [0, 1, 3, 4]
        assert rest[2].task_id not in [*front.outcomes, *front.given_back]


def at_line(number: int, functions: list[Callable[..., Any]], call: Callable[[], None]) -> Callable[[], bool]:
    """Have ``call`` called before the ``number``-th line that runs in ``functions``, as a signal handler may be.

    Return what ends that, and says whether there was such a line.
    """
    codes = {each.__code__ for each in functions}
    left = number
    before = sys.gettrace()

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal left
        if frame.f_code not in codes:
            return None
        if event == "line":
            left -= 1
            if not left:
                call()
        return trace

    def end() -> bool:
        sys.settrace(before)
        return left <= 0

    sys.settrace(trace)
    return end


async def test_what_a_signal_handler_takes_back_while_it_is_sent_runs_once(tmp_path: Path) -> None:
    """E49: a Ctrl-C cancels the program's main task, and with it all that is sent, between two lines of the sending."""
    async with lane_of() as (front, lane):
        await lane.warm_up()
        (worker,) = [each for each in lane._pool.workers if isinstance(each, NativeWorker)]
        struck, submitted = True, 0
        for line in itertools.count(1):
            worker.hold()
            attempts = []
            for _ in range(3):
                attempts.append(front.submit(append_line, str(tmp_path / "runs"), submitted))
                submitted += 1
                assert lane._feeder.send_next(worker)
            taken: list[Attempt] = []
            sending = [NativeWorker._send_backlog, NativeWorker._take_a_packet]
            end = at_line(line, sending, functools.partial(lambda into: into.extend(worker.recall_all()), taken))
            try:
                worker.flush()
            finally:
                struck = end()
            lane._give_back(worker, taken)
            for attempt in attempts:
                assert (await front.outcome(attempt)).error is None
            if not struck:
                break
        assert line > 15
        assert front.given_back
        assert sorted(ran(tmp_path)) == list(range(submitted))
        assert (lane.counters.crashes, lane.counters.malformed) == (0, 0)
